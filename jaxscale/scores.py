"""Scores of predictions: are intervals and distributions right, and are they sharp?

All functions take arrays and know nothing of fits. Interval scores are in the unit of what was
predicted; lower is better.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy

from jaxscale._draws import tails
from jaxscale._errors import DataError

# Below this difference the distribution of its error is skewed and its standard error too small.
_SMALL = 4.0
_ERRORS = 2.0
_NO_WEIGHT = 1e-3


class Pit(NamedTuple):
    """Probability integral transforms, (points,), and the Kolmogorov-Smirnov test of uniformity."""

    values: np.ndarray
    statistic: float
    p: float


class Coverage(NamedTuple):
    """Share of the intervals that hold, its Monte Carlo standard error, and their number."""

    share: float
    error: float
    n: int


def pit(predicted: Any, observed: Any = None) -> Pit:
    """u = F(y): uniform if the predicted distributions F are right.

    Args:
        predicted: values of the distribution functions at the observations, (points,); or draws
            from the predicted distributions, (draws, points), with `observed`. Draws of a new
            run, not of the law.
        observed: what happened, (points,). A draw equal to it counts half.

    Raises:
        DataError: for values outside 0 to 1, or shapes that do not fit.

    Source: Dawid 1984, doi 10.2307/2981683; Gneiting et al. 2007,
    doi 10.1111/j.1467-9868.2007.00587.x.

    Example:
        >>> pit(scipy.stats.norm.cdf(observed, mean, sd)).p
    """
    values = np.asarray(predicted, float)
    if observed is not None:
        y = np.asarray(observed, float)
        if values.ndim != 2 or values.shape[1:] != y.shape:
            raise DataError(
                f"draws must have shape (draws, {y.size}) for {y.size} observations, "
                f"got {values.shape}"
            )
        rank = (values < y).sum(axis=0) + 0.5 * (values == y).sum(axis=0)
        values = (rank + 0.5) / (len(values) + 1)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise DataError("values of a distribution function lie between 0 and 1, in one row")
    test = scipy.stats.kstest(values, "uniform")
    return Pit(values, float(test.statistic), float(test.pvalue))


def coverage(low: Any, high: Any, observed: Any) -> Coverage:
    """Share of observations with low <= y <= high; error sqrt(p (1 - p) / n).

    Args:
        low, high, observed: arrays that broadcast against each other, in one unit. Infinite ends
            are allowed.

    Raises:
        DataError: if anything is not a number.

    Example:
        >>> coverage(p.run_low, p.run_high, holdout.loss).share
    """
    low, high, y = _numbers(low=low, high=high, observed=observed)
    inside = (low <= y) & (y <= high)
    share = float(inside.mean())
    return Coverage(share, float(np.sqrt(share * (1 - share) / inside.size)), inside.size)


def winkler(low: Any, high: Any, observed: Any, *, level: float) -> np.ndarray:
    """S = (high - low) + (2 / alpha) (low - y)+ + (2 / alpha) (y - high)+, alpha = 1 - level.

    The interval score: width, plus a fine for every observation outside. Its expectation is least
    for the true quantiles.

    Args:
        low, high, observed: arrays in one unit.
        level: nominal probability content of the intervals.

    Source: Winkler 1972, doi 10.1080/01621459.1972.10481224; Gneiting & Raftery 2007,
    doi 10.1198/016214506000001437, equation 43.

    Example:
        >>> winkler(p.run_low, p.run_high, holdout.loss, level=0.9).mean()
    """
    tails(level)
    low, high, y = _numbers(low=low, high=high, observed=observed)
    outside = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    return (high - low) + 2 / (1 - level) * outside


def weighted_interval_score(
    observed: Any, median: Any, lows: Any, highs: Any, levels: Any
) -> np.ndarray:
    """WIS = (|y - median| / 2 + sum_k alpha_k S_k / 2) / (K + 1/2), S_k of `winkler`.

    Approaches the continuous ranked probability score as the levels fill 0 to 1 evenly.

    Args:
        observed, median: arrays of shape (points,).
        lows, highs: ends of the K intervals, shape (K, points).
        levels: their nominal probability contents, shape (K,).

    Raises:
        DataError: if the shapes do not fit, or for a level outside 0 to 1.

    Source: Bracher et al. 2021, doi 10.1371/journal.pcbi.1008618, equation 1.

    Example:
        >>> weighted_interval_score(y, median, lows, highs, levels=[0.5, 0.9])
    """
    levels = np.atleast_1d(np.asarray(levels, float))
    y, median = _numbers(observed=observed, median=median)
    if len(lows) != len(levels) or len(highs) != len(levels):
        raise DataError(f"{len(levels)} levels need as many lows and highs")
    total = 0.5 * np.abs(y - median)
    for low, high, level in zip(lows, highs, levels, strict=True):
        total = total + 0.5 * (1 - level) * winkler(low, high, y, level=float(level))
    return total / (len(levels) + 0.5)


def crps_gaussian(observed: Any, mean: Any, sd: Any) -> np.ndarray:
    """CRPS = sd (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)), z = (y - mean) / sd.

    The continuous ranked probability score of a Gaussian; for losses, of log loss. It is |y - mean|
    where sd is 0.

    Args:
        observed, mean, sd: arrays in one unit, such as log loss.

    Raises:
        DataError: for a negative sd.

    Source: Gneiting et al. 2005, doi 10.1175/MWR2904.1, equation 5.

    Example:
        >>> crps_gaussian(np.log(loss), np.log(predicted), 0.01).mean()
    """
    y, mean, sd = _numbers(observed=observed, mean=mean, sd=sd)
    if (sd < 0).any():
        raise DataError("a standard deviation cannot be negative")
    z = (y - mean) / np.where(sd > 0, sd, 1)
    spread = 2 * scipy.stats.norm.pdf(z) - 1 / np.sqrt(np.pi)
    score = sd * (z * (2 * scipy.stats.norm.cdf(z) - 1) + spread)
    return np.where(sd > 0, score, np.abs(y - mean))


def coverage_by_distance(
    observed: Any, low: Any, high: Any, distance: Any, edges: Any
) -> pd.DataFrame:
    """Coverage and median width of intervals, by how far they extrapolate.

    Args:
        observed, low, high: arrays of shape (points,).
        distance: how far each lies from the data, such as log10 of the extrapolation factor.
        edges: ascending ends of the bins; a point on an edge belongs to the bin above it, and the
            last bin includes its upper end.

    Returns:
        One row per bin: from, to, count, coverage, error, width. NaN in empty bins.

    Raises:
        DataError: for edges that do not ascend.

    Example:
        >>> coverage_by_distance(loss, low, high, np.log10(C / C_seen), edges=[0, 1, 2, 3])
    """
    y, low, high, far = _numbers(observed=observed, low=low, high=high, distance=distance)
    edges = np.asarray(edges, float)
    if len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise DataError(f"edges must ascend, got {edges.tolist()}")
    rows = []
    for i, (begin, end) in enumerate(itertools.pairwise(edges)):
        here = (far >= begin) & ((far <= end) if i == len(edges) - 2 else (far < end))
        empty = Coverage(np.nan, np.nan, 0)
        found = coverage(low[here], high[here], y[here]) if here.any() else empty
        width = float(np.median((high - low)[here])) if here.any() else np.nan
        rows.append((begin, end, found.n, found.share, found.error, width))
    return pd.DataFrame(rows, columns=["from", "to", "count", "coverage", "error", "width"])


def pairwise_agreement(predicted: Any, observed: Any, *, ties: str = "half") -> tuple[float, int]:
    """Share of the pairs with sign(y^_A - y^_B) = sign(y_A - y_B), and their number.

    Args:
        predicted, observed: a number for each of the items to rank, shape (items,).
        ties: what a pair counts in which either is a draw: ``"half"`` a right one, ``"wrong"``, or
            ``"drop"``. Draws that are predicted right are right.

    Raises:
        DataError: for fewer than two items, or no pair that counts.

    Source: decision accuracy, Magnusson et al. 2025, arXiv 2504.11393, where ties are left open.

    Example:
        >>> pairwise_agreement([2.9, 3.0, 3.2], [2.1, 2.0, 2.4])
    """
    predicted, observed = _numbers(predicted=predicted, observed=observed)
    if ties not in ("half", "wrong", "drop"):
        raise DataError(f"ties must be 'half', 'wrong' or 'drop', not {ties!r}")
    if predicted.ndim != 1 or len(predicted) < 2:
        raise DataError("ranking takes at least two items, in one row")
    first, second = np.triu_indices(len(predicted), 1)
    guess = np.sign(predicted[first] - predicted[second])
    truth = np.sign(observed[first] - observed[second])
    right = (guess == truth).astype(float)
    drawn = ((guess == 0) | (truth == 0)) & (guess != truth)
    if ties == "half":
        right[drawn] = 0.5
    elif ties == "drop":
        right = right[~drawn]
    if not len(right):
        raise DataError("all pairs are draws")
    return float(right.mean()), len(right)


def standard_error(values: np.ndarray, block: np.ndarray) -> np.ndarray:
    """se(sum_i x_i) = sqrt(n var x), or over the sums of blocks where that is larger.

    Args:
        values: one row per point, (points, models).
        block: of each point, (points,), whose points share their error.
    """
    codes = np.unique(block, return_inverse=True)[1]
    sums = np.stack([np.bincount(codes, column) for column in values.T], axis=1)
    each = [
        np.sqrt(len(x)) * x.std(axis=0, ddof=1) if len(x) > 1 else np.zeros(x.shape[1])
        for x in (values, sums)
    ]
    return np.maximum(*each)


def verdict(difference: float, error: float) -> str:
    """Whether a model of lower elpd is ``"tied"`` with the best, or ``"worse"``.

    Tied is a difference below two standard errors, or below 4: for so small a difference the
    normal approximation fails and the standard error is too small.

    Args:
        difference: of elpd to the best, at most 0.
        error: its standard error, paired over points.

    Source: Sivula et al. 2020, arXiv 2008.10296.
    """
    return "tied" if -difference < max(_SMALL, _ERRORS * error) else "worse"


def stacking_weights(value: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """w = argmax sum_i weight_i log sum_k w_k exp(value_ik), over w_k >= 0 with sum one.

    The weights of the mixture of predictive distributions that predicts best, in which models that
    say the same share one weight; they are not probabilities that a model is true.

    Args:
        value: log predictive densities, (points, models).
        weight: of the points, (points,); default 1.

    Source: Yao, Vehtari, Simpson & Gelman 2018, Bayesian Analysis 13(3), 917-1007.

    Example:
        >>> stacking_weights(np.log([[0.9, 0.1], [0.2, 0.8]]))
    """
    points, models = value.shape
    share = np.ones(points) if weight is None else weight / weight.mean()
    density = np.exp(value - value.max(axis=1, keepdims=True))

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(density @ w, 1e-300)
        return -float(share @ np.log(mixed)), -(density.T @ (share / mixed))

    found = scipy.optimize.minimize(
        loss,
        np.full(models, 1 / models),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * models,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-10, "maxiter": 500},
    ).x
    found = np.where(found < _NO_WEIGHT, 0.0, found)
    return np.asarray(found / found.sum())


def _numbers(**arrays: Any) -> tuple[np.ndarray, ...]:
    """Arrays of one shape; infinite is a number here, NaN is not."""
    try:
        found = np.broadcast_arrays(*(np.asarray(a, float) for a in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {np.shape(a)}" for name, a in arrays.items())
        raise DataError(f"arrays of different shapes: {shapes}") from None
    for name, array in zip(arrays, found, strict=True):
        if not array.size or np.isnan(array).any():
            raise DataError(f"{name} is empty or not a number somewhere")
    return found
