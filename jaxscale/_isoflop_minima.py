"""The minima of isoFLOP curves, and of those of every resample."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxscale._bootstrap import most_at_once, pairs_weights, resamples_name
from jaxscale._clusters import cluster_codes
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._isoflop_noise import SeedNoise, given_noise, measured_noise, noise_of_fit
from jaxscale._line import weighted_line
from jaxscale._resamples import Resamples, resampling_key
from jaxscale._runs import Runs
from jaxscale._valley import (
    ABOVE,
    BELOW,
    CONCAVE,
    CURVES,
    DEGREES,
    LEAST_SIZES,
    TOO_FEW,
    Method,
    Minima,
    Valley,
)

_LEAST_INSIDE = 0.5  # share of the resamples that must have a minimum inside the sizes


class Optima(NamedTuple):
    """Log size and height of the minima, shape (budgets,), and draws of the log size.

    Attributes:
        size, height: log size and height of the estimates; NaN where there is none.
        draws: log sizes of the resamples, shape (budgets, draws).
        fault: what is wrong with the estimates, see `_valley`.
    """

    size: np.ndarray
    height: np.ndarray
    draws: np.ndarray
    fault: np.ndarray

    def take(self, chosen: Any) -> "Optima":
        """Those of some of the budgets."""
        return Optima(*(x[chosen] for x in self))

    @property
    def inside(self) -> np.ndarray:
        """Share of the draws that have a minimum, shape (budgets,)."""
        return np.asarray(np.isfinite(self.draws).mean(axis=1))


def valley_of(
    runs: Runs,
    C: np.ndarray,
    member: np.ndarray,
    flop: float,
    method: Method,
    log: bool,
    best: bool,
) -> Valley:
    """The runs of one budget, in the order of their sizes.

    Raises:
        DataError: for a loss that is not positive, if logs are to be taken.
    """
    rows = np.flatnonzero(member)
    log_n = np.log(np.asarray(runs.inputs["N"], float))
    loss, weight = np.asarray(runs.loss, float), np.asarray(runs.weight, float)
    if log and (loss[rows] <= 0).any():
        raise DataError(f"{runs.source}: a loss is not positive; use log=False")
    ratio = log_n[rows] + np.log(np.asarray(runs.inputs["D"], float)[rows]) - np.log(C[rows])
    tokens = _token_line(log_n[rows], ratio)
    rows = rows[np.lexsort((loss[rows], log_n[rows]))]
    first = np.flatnonzero(np.diff(log_n[rows], prepend=-np.inf) > 0)
    y = np.log(loss) if log else loss
    repeats = np.ones(len(rows), int)
    values, weights = y[rows], weight[rows]
    if best:  # the lowest loss of a size comes first
        rows, values, weights, repeats = (x[first] for x in (rows, values, weights, repeats))
    elif method not in DEGREES and len(first) < len(rows):
        weights = np.add.reduceat(weight[rows], first)
        values = np.add.reduceat(weight[rows] * y[rows], first) / weights
        rows, repeats = rows[first], np.diff(np.append(first, len(rows)))
    return Valley(float(flop), log_n[rows], values, weights, rows, repeats, log, method, tokens)


def _token_line(log_n: np.ndarray, ratio: np.ndarray) -> tuple[float, float]:
    """Intercept and slope of log(N D / C) over log N: constant if C is 6 N D."""
    line = weighted_line(log_n, ratio, 1.0, middle=0.0)
    flat = np.ptp(ratio) < 1e-9 or not np.isfinite(line.slope)
    return (float(ratio.mean()), 0.0) if flat else (float(line.height), float(line.slope))


def drawn_minima(
    valleys: Sequence[Valley], runs: Runs, kind: str, by: Any, noise: Any, n: int, key: jax.Array
) -> tuple[Optima, str, Resamples | None]:
    """Minima with those of every resample; words about the noise; which resamples they are."""
    draw_key, _ = resampling_key(key)
    codes = None if by is None else cluster_codes(runs, by)
    common = n <= most_at_once(runs)
    if kind == "pairs":
        weight = pairs_weights(np.asarray(runs.weight), codes, n, draw_key)
        found = [valley.minimum(weight=weight[:, valley.rows]) for valley in valleys]
        words = ""
    else:
        known = _noise(valleys, runs, noise)
        values = known.draw(valleys, n, len(runs), draw_key)
        found = [valley.minimum(y) for valley, y in zip(valleys, values, strict=True)]
        if known.center is not None:
            found = [_moved(v, m, y) for v, m, y in zip(valleys, found, known.center, strict=True)]
        words, common = known.sentence, common and known.complete
    named = Resamples(resamples_name(runs, kind, codes, n, key), np.arange(n))
    return _optima(valleys, found), words, named if common else None


def _noise(valleys: Sequence[Valley], runs: Runs, noise: Any) -> SeedNoise:
    if isinstance(noise, Fit):
        return noise_of_fit(valleys, noise, runs)
    if noise is not None:
        return given_noise(valleys, noise, len(runs))
    return measured_noise(valleys, len(runs), int((np.asarray(runs.weight) > 0).sum()))


def _moved(valley: Valley, drawn: Minima, center: np.ndarray) -> Minima:
    """Minima around that of the runs, from those around that of other values."""
    own, other = valley.minimum(), valley.minimum(center[:, None])
    if own.fault[0] or other.fault[0]:
        return drawn
    return Minima(drawn.at + own.at - other.at, drawn.value + own.value - other.value, drawn.fault)


def _optima(valleys: Sequence[Valley], drawn: Sequence[Minima]) -> Optima:
    own = [valley.minimum() for valley in valleys]
    size, height, fault = (np.array([x[i][0] for x in own]) for i in range(3))
    draws = np.stack([minima.at for minima in drawn])
    for i, valley in enumerate(valleys):
        if valley.method not in DEGREES and np.isfinite(draws[i]).any() and np.isfinite(size[i]):
            # The interpolant bends with the noise of single runs; its typical minimum does less.
            size[i], height[i] = np.nanmedian(draws[i]), np.nanmedian(drawn[i].value)
    return Optima(size, height, draws, fault)


def reasons(valleys: Sequence[Valley], found: Optima) -> list[str]:
    """Why each budget is not used, or nothing."""
    return [_reason(v, found.fault[i], found.inside[i]) for i, v in enumerate(valleys)]


def _reason(valley: Valley, fault: int, inside: float) -> str:
    low, high = (f"{np.exp(x):.3g}" for x in (valley.log_N[0], valley.log_N[-1]))
    if fault == TOO_FEW:
        sizes = "one size" if valley.sizes == 1 else f"{valley.sizes} sizes"
        return f"{sizes}, and {CURVES[valley.method]} needs {LEAST_SIZES[valley.method]}"
    if fault == CONCAVE:
        return "the curve is not convex: it has no minimum"
    if fault == BELOW:
        return f"the minimum lies at or below the smallest size, {low}"
    if fault == ABOVE:
        return f"the minimum lies at or above the largest size, {high}"
    if inside < _LEAST_INSIDE:
        return f"only {inside:.0%} of the draws have a minimum between {low} and {high}"
    return ""
