"""Can the draws be trusted? R-hat, effective draws, divergences, energy and k-hat, in words."""

from typing import Any

import arviz_base
import arviz_stats
import numpy as np

import jaxscale as js
from bayes._model import Model

_MOST_RHAT = 1.01
_LEAST_ESS_PER_CHAIN = 100
_LEAST_BFMI = 0.3
MOST_KHAT = 0.7
# A posterior this wide, relative to its prior, has learned next to nothing from the runs.
_PRIOR_SHARE = 0.75
_FAILED = "sampler_failed"
# What a fit found about its runs holds for a posterior, too; how it was optimized does not.
_INHERITED = ("too_few_runs", "term_dead", "at_bound", "wrong_sign", "not_identified")


def sampler_verdict(
    model: Model, values: dict[str, np.ndarray], stats: dict[str, np.ndarray]
) -> js.Verdict:
    """Verdict on chains of scalar sites, each (chains, draws), with their statistics."""
    return js.Verdict((chains_finding(values, stats), *model_findings(model, values)))


def chains_finding(values: dict[str, np.ndarray], stats: dict[str, np.ndarray]) -> js.Finding:
    """Whether chains of numbers, each (chains, draws), passed the checks of the sampler."""
    data = arviz_base.from_dict({"posterior": values})
    with np.errstate(divide="ignore", invalid="ignore"):  # chains that never moved
        rhat = _worst(max, arviz_stats.rhat(data))
        bulk = _worst(min, arviz_stats.ess(data, method="bulk"))
        tail = _worst(min, arviz_stats.ess(data, method="tail"))
    energy = np.asarray(stats["energy"], float)
    moves = np.diff(energy, axis=1) ** 2
    bfmi = float((moves.sum(1) / ((energy - energy.mean(1, keepdims=True)) ** 2).sum(1)).min())
    divergent = int(np.sum(stats["diverging"]))
    chains, draws = energy.shape
    numbers = (
        f"R-hat at most {rhat[0]:.3f}, effective draws at least {bulk[0]:,.0f} (bulk) and "
        f"{tail[0]:,.0f} (tail) of {chains * draws:,}, {divergent} divergent, E-BFMI at least "
        f"{bfmi:.2f}"
    )
    problems = []
    if not rhat[0] <= _MOST_RHAT:
        problems.append(f"the chains have not mixed in {rhat[1]}")
    if not min(bulk[0], tail[0]) >= _LEAST_ESS_PER_CHAIN * chains:
        problems.append(f"there are too few effective draws of {min(bulk, tail)[1]}")
    if divergent:
        problems.append("the sampler diverged, so that some region is left out")
    if not bfmi >= _LEAST_BFMI:
        problems.append("it could not follow the energy of the tails")
    if problems:
        sentence = (
            f"Do not use these draws: {', and '.join(problems)} ({numbers}). Sample longer, raise "
            "target_accept, or use stronger priors."
        )
        return js.Finding(_FAILED, sentence)
    return js.Finding("converged", f"The sampler passed its checks: {numbers}.")


def approximation_verdict(
    model: Model, values: dict[str, np.ndarray], khat: float, method: str
) -> js.Verdict:
    """Verdict on independent draws of an approximation, by the k-hat of their weights."""
    if khat <= MOST_KHAT:
        sentence = (
            f"The {method} approximation is near the posterior (Pareto k-hat {khat:.2f}, at most "
            f"{MOST_KHAT}), and its draws were weighted to match it."
        )
        found = [js.Finding("converged", sentence)]
    else:
        sentence = (
            f"Do not use this approximation: its tails miss the posterior (Pareto k-hat "
            f"{khat:.2f}, above {MOST_KHAT}). Use bayes.sample."
        )
        found = [js.Finding(_FAILED, sentence)]
    return js.Verdict((*found, *model_findings(model, values)))


def doubt(verdict: js.Verdict) -> str:
    """Why draws must not drive a decision, or an empty text."""
    return next((each.sentence for each in verdict.findings if each.code == _FAILED), "")


def model_findings(model: Model, values: dict[str, np.ndarray]) -> list[js.Finding]:
    """What holds whatever the sampler: parameters that only the prior knows, and the runs."""
    inherited = [each for each in model.fit.verdict.findings if each.code in _INHERITED]
    names = []
    for site, chosen in model.table.priors.items():
        if not site.startswith("free_"):
            continue  # the user's own prior may well be stronger than the runs
        share = float(np.std(values[site])) / float(chosen.variance) ** 0.5
        if share > _PRIOR_SHARE:
            names.append(site.removeprefix("free_"))
    if not names:
        return inherited
    sentence = (
        f"The runs say next to nothing about {', '.join(names)}: the posterior is about as wide as "
        "the prior, so what it says there is what was put in."
    )
    return [*inherited, js.Finding("prior_dominated", sentence)]


def _worst(pick: Any, found: Any) -> tuple[float, str]:
    each = [(float(x), str(name).removeprefix("free_")) for name, x in found.data_vars.items()]
    bad = [one for one in each if not np.isfinite(one[0])]
    return bad[0] if bad else pick(each)
