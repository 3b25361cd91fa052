"""Vectors and designs of the whole catalogue, collected from the modules of its topics."""

import importlib

import cases
import numpy as np

import jaxscale as js

TOPICS = ("dense", "kaplan_kin", "sparse", "data", "curves", "tasks", "inference")
_MODULES = [importlib.import_module(f"catalogue_{topic}") for topic in TOPICS]
VECTORS = (*cases.VECTORS, *(vector for module in _MODULES for vector in module.VECTORS))
DESIGNS = {name: design for module in _MODULES for name, design in module.DESIGNS.items()}


def simulate(law, seed, noise=None):
    """The runs of a design with noise, by default its own, and the objective to fit them with."""
    design = DESIGNS[law.name]
    inputs = {name: np.asarray(x, float) for name, x in design.inputs.items()}
    objective = js.LogHuber(1e-3) if design.objective is None else design.objective
    truth = np.asarray(law(*(inputs[name] for name in law.inputs), **design.params))
    rng = np.random.default_rng([20261124, seed])  # no design draws its inputs so
    weight = None
    if isinstance(objective, js.Binomial):
        trials = 200.0
        loss, weight = rng.binomial(int(trials), truth) / trials, np.full(len(truth), trials)
    elif isinstance(objective, js.LogScore):
        loss = np.ones(len(truth))
    else:
        error = (design.noise if noise is None else noise) * rng.normal(size=len(truth))
        loss = truth * np.exp(error) if objective.log else truth + error
    runs = js.Runs.from_arrays(loss=loss, weight=weight, duplicates="keep", **inputs)
    return runs, objective
