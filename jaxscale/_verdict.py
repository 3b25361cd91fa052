"""Can the answer be trusted? A verdict in sentences, with a code for programs."""

import dataclasses
from typing import Any

import numpy as np

from jaxscale._identify import Sensitivity, dead_terms, loose_parameters
from jaxscale._law import Law
from jaxscale._objective import Objective
from jaxscale._restarts import Restarts

_CONVERGED = {"float64": 1e-9, "float32": 1e-4}

CODES = {
    "converged": "nothing speaks against the fit",
    "nonfinite": "the objective is not finite anywhere",
    "not_converged": "the optimality conditions are not met",
    "restarts_disagree": "few restarts agree on the optimum, or there was only one",
    "too_few_runs": "too few runs per parameter to judge the fit",
    "term_dead": "a term of the law contributes nothing",
    "at_bound": "a parameter sits at the end of its support",
    "wrong_sign": "the law rises with scale, or is negative",
    "not_identified": "the runs leave some parameters open",
    "sampler_failed": "the chains cannot be trusted",
    "prior_dominated": "the runs say little about some parameters beyond their priors",
    "borrowed": "estimated with the help of other data sets",
}
# An optimum at which this many restarts agree needs no derivative test, which is blind at a kink.
_AGREEMENT = 10
# Below this many runs per parameter, a robust fit mostly interpolates.
_RUNS_PER_PARAMETER = 3
_SCALES = ("N", "D", "C", "x")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing to know about a fit or a posterior.

    Attributes:
        code: for programs, such as ``"at_bound"``; ``"converged"`` if nothing speaks against it.
        sentence: for people.
        names: the parameters that it is about; empty if it is about all of them.
    """

    code: str
    sentence: str
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a fit is worth: `ok` if nothing speaks against it, and the findings."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against using the fit."""
        return all(finding.code == "converged" for finding in self.findings)

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the findings, in order of importance."""
        return tuple(finding.code for finding in self.findings)

    def __contains__(self, code: object) -> bool:
        return code in self.codes

    def __str__(self) -> str:
        return " ".join(finding.sentence for finding in self.findings)


def judge(
    law: Law,
    objective: Objective,
    theta: np.ndarray,
    weight: np.ndarray,
    decrease: float,
    restarts: Restarts,
    near: Sensitivity,
) -> Verdict:
    """Verdict on one optimum.

    Args:
        law, objective: what was fitted and what was minimized.
        theta: the optimum as an unconstrained vector.
        weight: weights of the runs, without those of weight zero; so for all that follows.
        decrease: decrease of the objective that is still predicted, relative to it.
        restarts: the restart certificate.
        near: the law and its derivatives at every run.
    """
    if not np.isfinite(restarts.best):
        sentence = f"The objective is not finite at any of {len(restarts):,} starts."
        return Verdict((Finding("nonfinite", sentence),))
    shares = near.shares.T
    dead = dead_terms(law, shares)
    at_bound = _bounds(law, theta)
    ignored = {*dead, *at_bound}
    found = [
        *_convergence(restarts, decrease, str(theta.dtype)),
        *_few_runs(law, len(weight)),
        *(
            Finding(
                "term_dead",
                f"{name} contributes less than 0.01% of the loss in every run: these runs are "
                f"explained best without that term ({name} is at its bound, 0).",
                (name,),
            )
            for name in dead
        ),
        *(Finding("at_bound", sentence, (name,)) for name, sentence in at_bound.items()),
        *_signs(law, objective, near),
    ]
    jacobian = shares * near.gain[:, None]
    loose = loose_parameters(law, jacobian, near.residual, weight, outcomes=objective.outcomes)
    names = tuple(name for name in loose if name not in ignored)
    if names:
        found.append(
            Finding(
                "not_identified",
                f"The runs do not determine {', '.join(names)}: very different values fit as well. "
                "Predict only inside the range of the runs, or add runs that separate the terms.",
                names,
            )
        )
    if not found:
        sentence = (
            f"Converged: {restarts.hit_share:.1%} of {len(restarts):,} restarts reach the same "
            "optimum."
        )
        found.append(Finding("converged", sentence))
    return Verdict(tuple(found))


def _convergence(restarts: Restarts, decrease: float, dtype: str) -> list[Finding]:
    found = []
    hits = round(restarts.hit_share * len(restarts))
    exact = restarts.best <= restarts.floor
    if not (decrease < _CONVERGED[dtype] or exact or hits >= _AGREEMENT):
        sentence = (
            f"The optimality conditions are not met: a further decrease of {decrease:.1e} of the "
            "objective is predicted. Allow more steps (max_steps=) or use more restarts."
        )
        found.append(Finding("not_converged", sentence))
    if len(restarts) == 1:
        sentence = "With one start only, a better optimum may exist: use more restarts."
        found.append(Finding("restarts_disagree", sentence))
    elif restarts.hit_share < 0.1 or hits < 2:
        sentence = (
            f"Only {hits:,} of {len(restarts):,} restarts reach this optimum, so a better one may "
            "exist: use more restarts."
        )
        found.append(Finding("restarts_disagree", sentence))
    return found


def _few_runs(law: Law, n: int) -> list[Finding]:
    p = len(law.params)
    if n >= _RUNS_PER_PARAMETER * p:
        return []
    sentence = (
        f"{n} runs for {p} parameters leave almost nothing to judge the fit by: other runs of the "
        "same models could give very different estimates. Use more runs or a law with fewer "
        "parameters."
    )
    return [Finding("too_few_runs", sentence)]


def _bounds(law: Law, theta: Any) -> dict[str, str]:
    return {
        name: f"{name} is at the end of its support ({param.lower:g}, {param.upper:g})."
        for i, (name, param) in enumerate(law.params)
        if param.support == "interval" and abs(float(theta[i])) > 12
    }


def _signs(law: Law, objective: Objective, near: Sensitivity) -> list[Finding]:
    found = []
    if objective.log and np.any(near.predicted <= 0):
        sentence = "The fitted law is not positive at every run."
        found.append(Finding("wrong_sign", sentence))
    for name, slope in zip(law.inputs, near.slopes, strict=True):
        if law.predicts == "loss" and name in _SCALES and np.all(slope > 0):
            sentence = f"The fitted loss rises with {name} throughout: do not extrapolate it."
            found.append(Finding("wrong_sign", sentence))
    return found
