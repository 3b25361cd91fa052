"""surface(): approach 3, the optimum of one law fitted to all runs."""

from typing import Any

import numpy as np

from jaxscale._allocate import allocate
from jaxscale._approach import Approach, LawOptimum, Sizes, points_table
from jaxscale._budgets import geometric_mean, tight_groups
from jaxscale._draws import as_draws
from jaxscale._fit import Fit
from jaxscale._line import weighted_line
from jaxscale.flops import six_nd

_POINTS = 7
_STEP = np.array([-0.05, 0.05])  # around a single budget, for the slope there


def surface(source: Any, *, flop: Any = None, level: float = 0.9, force: bool = False) -> Approach:
    """d log N* / d log C of a law fitted to all runs, minimized along C = 6 N D.

    For `chinchilla` and its kin N* is a power of C with a = beta / (alpha + beta). For other laws
    the exponents are the slopes of a line through log N* and log D* at the budgets `flop`.

    Args:
        source: a fit of one data set of a law in N and D, its `Draws`, or a posterior. A `Fit`
            alone carries no uncertainty.
        flop: budgets in FLOPs; default: those of an isoFLOP design, or seven over the runs.
        level: probability content of N_low to N_high in the points.
        force: go on with draws that are in doubt, see `allocate`.

    Raises:
        FitError: for draws that are in doubt, without `force`.
        LawError: if the law is not one in N and D, or has no minimum along a budget.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, section 3.3.

    Example:
        >>> surface(bootstrap(fit, key=key)).exponents(level=0.8)
    """
    draws = as_draws(source)
    fit: Fit = source if draws is None else draws.fit
    budgets = _budgets(fit) if flop is None else np.unique(np.asarray(flop, float))
    line = allocate(source, flop=budgets, level=level, force=force)
    curve = LawOptimum(fit if draws is None else draws)
    N, D = (np.asarray(x, float) for x in (line.N, line.D))
    nothing = np.full(len(budgets), np.nan)
    ends = [np.log(np.asarray(x, float)) for x in line.bands.get("N", (nothing, nothing))]
    around = np.log(budgets) if len(budgets) > 1 else np.log(budgets) + _STEP
    a, b, exponents = _slopes(around, curve.sizes(around))
    runs = 0 if fit.runs is None else int((np.asarray(fit.runs.weight) > 0).sum())
    ranges = {name: (float(fit.ranges[name][0]), float(fit.ranges[name][1])) for name in ("N", "D")}
    said = "no uncertainty" if draws is None else f"{len(draws):,} draws: {draws.method}"
    return Approach(
        name="surface",
        how=f"{fit.law.name} fitted to {runs or fit.n_runs} runs, {said}",
        points=points_table(
            budgets, np.log(N), np.log(D), line.loss, ends, [runs] * len(budgets),
            [""] * len(budgets),
        ),
        a=a,
        b=b,
        curve=curve,
        draws=exponents,
        level=level,
        ranges={"flop": _extent(fit), **ranges},
        notes=() if draws is None else draws.remarks,
        resamples=None if draws is None else draws.resamples,
    )  # fmt: skip


def _slopes(log_c: np.ndarray, at: Sizes) -> tuple[float, float, dict[str, np.ndarray]]:
    """Exponents of N* and D*, and their draws."""
    a, b = (float(weighted_line(log_c, x, 1.0).slope) for x in (at.N, at.D))
    if at.N_draws is None or at.D_draws is None:
        return a, b, {}
    each = {"a": at.N_draws, "b": at.D_draws}
    return a, b, {k: np.asarray(weighted_line(log_c, x, 1.0).slope) for k, x in each.items()}


def _budgets(fit: Fit) -> np.ndarray:
    """The budgets of the runs if they have a few, or else some over their range."""
    if fit.runs is not None:
        C = _compute(fit)
        groups = tight_groups(C)
        names = np.unique(groups)
        if names[0] >= 0 and 2 <= len(names) <= len(C) // 3:
            return np.array([geometric_mean(C[groups == g]) for g in names])
    low, high = _extent(fit)
    return np.geomspace(low, high, _POINTS)


def _compute(fit: Fit) -> np.ndarray:
    assert fit.runs is not None
    rows = np.asarray(fit.runs.weight) > 0
    return np.asarray(six_nd(fit.runs.inputs["N"], fit.runs.inputs["D"]), float)[rows]


def _extent(fit: Fit) -> tuple[float, float]:
    """Lowest and highest compute of the runs, or of the corners of their range."""
    if fit.runs is not None:
        C = _compute(fit)
        return float(C.min()), float(C.max())
    ends = [float(six_nd(fit.ranges["N"][i], fit.ranges["D"][i])) for i in (0, 1)]
    return ends[0], ends[1]
