"""Designs of the laws of dense models in one size, or in parameters and tokens."""

import numpy as np
from cases import Design

from jaxscale import published


def _grid(sizes, ratios):
    """Parameters and tokens: every size at every number of tokens per parameter."""
    N, ratio = (x.ravel() for x in np.meshgrid(sizes, ratios))
    return {"N": N, "D": N * ratio}


RUNS = _grid(np.geomspace(5e7, 1e10, 10), np.geomspace(5, 300, 8))
X = {"x": np.geomspace(1e6, 1e10, 40)}


def _design(inputs, entry, **more):
    return Design(inputs=inputs, params=published.get(entry).params, **more)


VECTORS = ()
DESIGNS = {
    "power_law": _design(X, "hestness_2017_word_lm"),
    "power_law_offset": Design(X, {"E": 1.7, "A": 63.0**0.3, "alpha": 0.3}),
    "chinchilla": _design(RUNS, "besiroglu_2024"),
    "coupled_power": _design(RUNS, "busbridge_2025", noise=0.002),
    "brandfonbrener": _design(RUNS, "brandfonbrener_2024_smollm_corpus"),
    "kaplan_nd": _design(RUNS, "kaplan_2020_nd"),
}
