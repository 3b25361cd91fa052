"""Runs of equal compute: the budgets of an isoFLOP design."""

from typing import Any

import numpy as np

from jaxscale._clusters import cluster_codes
from jaxscale._errors import DataError
from jaxscale._runs import Runs
from jaxscale.flops import six_nd

# Budgets are met to a few percent, as steps and batches are whole numbers; neighbors differ by
# half an octave or more.
_GAP, _TIGHT = 0.1, 0.2
_LEAST_SIZES = 3
_LEAST_SHARE = 0.5  # of the runs: neighbors in a continuum form groups by chance, too
NO_BUDGET = -1


def compute_of(runs: Runs) -> np.ndarray:
    """Training FLOPs of every run: the input C or flop if the runs have it, else 6 N D.

    Raises:
        DataError: if the runs have no N or no D.
    """
    if runs.sets is not None:
        raise DataError("choose one data set of the stack first: runs[name]")
    missing = {"N", "D"} - set(runs.inputs)
    if missing:
        raise DataError(
            f"{runs.source}: compute-optimal sizes need the inputs N and D; "
            f"{' and '.join(sorted(missing))} is missing"
        )
    for name in ("C", "flop"):
        if name in runs.inputs:
            return np.asarray(runs.inputs[name], float)
    return np.asarray(six_nd(np.asarray(runs.inputs["N"]), np.asarray(runs.inputs["D"])), float)


def budget_groups(
    runs: Runs, C: np.ndarray, budgets: Any, flop: Any, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Budgets in ascending order, and the budget of each run, -1 for none.

    Args:
        budgets: None to find them, or labels as `cluster_codes` takes them.
        flop: budgets in FLOPs, to each of which the runs within `tolerance` belong; or None.

    Raises:
        DataError: if both are given, or if the runs do not form budgets.
    """
    real = np.asarray(runs.weight) > 0
    if flop is not None and budgets is not None:
        raise DataError("give either the labels of the budgets or the budgets in FLOPs, not both")
    if flop is not None:
        return _nearest(C, np.unique(np.asarray(flop, float)), tolerance, real)
    if budgets is not None:
        codes = np.where(real, cluster_codes(runs, budgets), NO_BUDGET)
        return _ordered(C, codes)
    codes = np.where(real, tight_groups(C, real), NO_BUDGET)
    N = np.asarray(runs.inputs["N"], float)
    for code in np.unique(codes[codes >= 0]):
        if len(np.unique(N[codes == code])) < _LEAST_SIZES:
            codes[codes == code] = NO_BUDGET
    if len(np.unique(codes[codes >= 0])) < 2 or (codes >= 0).sum() < _LEAST_SHARE * real.sum():
        raise DataError(
            f"{runs.source}: the runs do not form isoFLOP budgets (most of them in groups within "
            "20% of each other's compute, with three sizes or more); name the budgets with "
            "flop=[...] or give their labels with budgets="
        )
    return _ordered(C, codes)


def tight_groups(C: np.ndarray, real: np.ndarray | None = None) -> np.ndarray:
    """Groups of nearly equal compute, as codes in ascending order; -1 where there is a continuum.

    A group ends where log C steps up by more than 0.1, and must not extend over more than 0.2.
    """
    logs = np.log(C)
    codes = np.full(len(logs), NO_BUDGET)
    order = np.argsort(logs, kind="stable")
    order = order if real is None else order[real[order]]
    found = np.cumsum(np.diff(logs[order], prepend=logs[order[:1]]) > _GAP)
    for code in np.unique(found):
        members = order[found == code]
        codes[members] = code if np.ptp(logs[members]) <= _TIGHT else NO_BUDGET
    return codes


def geometric_mean(x: np.ndarray) -> float:
    """exp(mean(log x)), and x itself without round-off where all are the same."""
    return float(x[0] if (x == x[0]).all() else np.exp(np.log(x).mean()))


def _nearest(
    C: np.ndarray, centers: np.ndarray, tolerance: float, real: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if not (np.isfinite(centers) & (centers > 0)).all():
        raise DataError(f"budgets must be positive FLOPs, got {centers}")
    away = np.abs(np.log(C)[:, None] - np.log(centers))
    inside = (away.min(axis=1) <= np.log1p(tolerance)) & real
    codes = np.where(inside, away.argmin(axis=1), NO_BUDGET)
    kept = np.unique(codes[codes >= 0])
    if len(kept) < 2:
        raise DataError(
            f"fewer than two of the {len(centers)} budgets have runs within {tolerance:.0%} of them"
        )
    again = np.full(len(centers) + 1, NO_BUDGET)
    again[kept] = np.arange(len(kept))
    return centers[kept], again[codes]


def _ordered(C: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Geometric means of the groups, and codes in their order."""
    present = np.unique(codes[codes >= 0])
    means = np.array([geometric_mean(C[codes == code]) for code in present])
    order = np.argsort(means)
    again = np.full(int(codes.max()) + 2, NO_BUDGET)
    again[present[order]] = np.arange(len(present))
    return means[order], again[codes]
