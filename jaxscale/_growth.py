"""How intervals fall short as predictions reach further, and a factor that makes up for it."""

import dataclasses
from typing import Any

import numpy as np
import scipy

_LEAST = 1e-6  # of an error, relative to the half-width of its interval: its log must exist


@dataclasses.dataclass(frozen=True)
class Growth:
    """Widening factor T(d) = max(1, t(d) exp(a + b d)) of an interval by log10 distance d.

    exp(a + b d) is what a share `level` of the errors in the backtest would have needed. t(d) makes
    up for the few independent errors that this rests on: the ratio of the quantiles of t with
    m(d) - 1 degrees of freedom, one at least, and of the normal distribution, as for a standard
    deviation from m(d) values; m(d) = 1 + span / d windows of length d fit into the range of the
    backtest, and no more than there are cuts.

    Attributes:
        a, b: `level` quantile of log(error / half-width) in the backtest, as a line in distance; b
            is not negative.
        cuts: number of cuts that it was measured on.
        span: log10 of the largest run over the smallest cut.
        level: of the intervals.
    """

    a: float
    b: float
    cuts: int
    span: float
    level: float

    def __call__(self, distance: Any) -> np.ndarray:
        """The factor at distances, at least 1."""
        d = np.maximum(np.asarray(distance, float), 0.0)
        return np.maximum(self.small_sample(d) * np.exp(self.a + self.b * d), 1.0)

    def small_sample(self, distance: Any) -> np.ndarray:
        """t(d), the part of the factor that makes up for few independent errors."""
        d = np.maximum(np.asarray(distance, float), 1e-9)
        windows = np.minimum(1 + self.span / d, self.cuts)
        tail = (1 + self.level) / 2
        t = scipy.stats.t.ppf(tail, np.maximum(windows - 1, 1.0))
        return np.asarray(t / scipy.stats.norm.ppf(tail))


def measure_growth(
    error: np.ndarray, half: np.ndarray, distance: np.ndarray, cut: np.ndarray, level: float
) -> Growth:
    """The line under which a share `level` of log(error / half-width) lies, by quantile regression.

    An interval of half-width h is to be T h, so that it covers an error e if e / h <= T.

    Args:
        error: absolute distances of log loss from the middle of its interval, shape (points,).
        half: half-width of the interval in log loss, (points,).
        distance: log10 of the extrapolation factor, (points,).
        cut: the cut that each belongs to, (points,).
        level: nominal probability content of the intervals.

    Source: Koenker & Bassett 1978, doi 10.2307/1913643, for the regression.
    """
    known = np.isfinite(error) & np.isfinite(half) & (half > 0)
    ratio = np.log(np.maximum(error[known] / half[known], _LEAST))
    a, b = _quantile_line(ratio, distance[known], level)
    return Growth(a, b, len(np.unique(cut[known])), float(distance[known].max()), level)


def _quantile_line(y: np.ndarray, x: np.ndarray, level: float) -> tuple[float, float]:
    """a, b >= 0 that minimize sum_i pinball(y_i - a - b x_i), as a linear program."""
    n = len(y)
    # Variables: a, b, and what lies above and below the line at each point.
    cost = np.concatenate([[0.0, 0.0], np.full(n, level), np.full(n, 1 - level)])
    line = np.stack([np.ones(n), x], axis=1)
    one = scipy.sparse.identity(n)
    equal = scipy.sparse.hstack([line, one, -one], format="csr")
    bounds = [(None, None), (0, None)] + [(0, None)] * (2 * n)
    found = scipy.optimize.linprog(cost, A_eq=equal, b_eq=y, bounds=bounds, method="highs")
    return float(found.x[0]), float(found.x[1])
