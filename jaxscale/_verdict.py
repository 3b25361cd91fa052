"""Can the answer be trusted? A verdict in sentences, with a code for programs."""

import dataclasses
from typing import Any

import numpy as np

from jaxscale._evaluate import Rows
from jaxscale._identify import dead_terms, elasticities, loose_parameters
from jaxscale._law import Law
from jaxscale._restarts import Restarts

_CONVERGED = {"float64": 1e-9, "float32": 1e-4}

CODES = {
    "converged": "the optimum satisfies the optimality conditions",
    "not_converged": "no restart met the optimality conditions",
    "at_bound": "a parameter sits at the end of its support",
    "term_dead": "a term of the law contributes nothing",
    "not_identified": "the runs leave some parameters open",
    "restarts_disagree": "few restarts agree on the optimum",
    "nonfinite": "the objective is not finite anywhere",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing to know about a fit: a code from `CODES` and an English sentence."""

    code: str
    sentence: str


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
    theta: Any,
    rows: Rows,
    decrease: float,
    restarts: Restarts,
    log_residuals: np.ndarray,
) -> Verdict:
    """Verdict on one optimum.

    Args:
        law: the fitted law.
        theta: the optimum as an unconstrained vector.
        rows: the data in reference units.
        decrease: decrease of the objective that is still predicted, relative to it.
        restarts: the restart certificate.
        log_residuals: log(predicted) - log(loss) of every run.
    """
    if not np.isfinite(restarts.best):
        sentence = f"The objective is not finite at any of {len(restarts):,} starts."
        return Verdict((Finding("nonfinite", sentence),))
    found = []
    shares = elasticities(law, theta, rows)
    dead = dead_terms(law, shares)
    weight = np.asarray(rows.weight)
    perfect = restarts.best <= 1e-20 * float(weight.sum())
    if not (decrease < _CONVERGED[str(theta.dtype)] or perfect or dead):
        found.append(
            Finding(
                "not_converged",
                f"The optimality conditions are not met: a further decrease of {decrease:.1e} of "
                "the objective is predicted. Allow more steps (max_steps=).",
            )
        )
    hits = round(restarts.hit_share * len(restarts))
    if len(restarts) > 1 and (restarts.hit_share < 0.1 or hits < 2):
        found.append(
            Finding(
                "restarts_disagree",
                f"Only {hits:,} of {len(restarts):,} restarts reach this optimum, so a better one "
                "may exist: use more restarts.",
            )
        )
    found += [
        Finding(
            "term_dead",
            f"{name} contributes less than 0.01% of the loss in every run: these runs are "
            f"explained best without that term ({name} is at its bound, 0).",
        )
        for name in dead
    ]
    found += _bounds(law, theta)
    loose = loose_parameters(law, shares, log_residuals, weight)
    loose = {name: error for name, error in loose.items() if name not in dead}
    if loose:
        names = ", ".join(loose)
        found.append(
            Finding(
                "not_identified",
                f"The runs do not determine {names}: very different values fit as well. Predict "
                "only inside the range of the runs, or add runs that separate the terms.",
            )
        )
    if not found:
        found.append(
            Finding(
                "converged",
                f"Converged: {restarts.hit_share:.1%} of {len(restarts):,} restarts reach the same "
                "optimum.",
            )
        )
    return Verdict(tuple(found))


def _bounds(law: Law, theta: Any) -> list[Finding]:
    return [
        Finding(
            "at_bound", f"{name} is at the end of its support ({param.lower:g}, {param.upper:g})."
        )
        for i, (name, param) in enumerate(law.params)
        if param.support == "interval" and abs(float(theta[i])) > 12
    ]
