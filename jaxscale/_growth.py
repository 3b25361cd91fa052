"""How intervals fall short as predictions reach further, and a factor that makes up for it."""

import dataclasses
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats

_LEAST = 1e-6  # of an error, relative to the half-width of its interval: its log must exist


@dataclasses.dataclass(frozen=True)
class Growth:
    """Widening factor T(d) = max(1, t exp(a + b d)) of an interval by log10 distance d.

    Attributes:
        a, b: `level` quantile of log(error / half-width) in the backtest, as a line in distance; b
            is not negative.
        t: factor for having measured on few cuts, see `measure_growth`.
        cuts: number of cuts that it was measured on.
        reach: largest distance among them.
        level: of the intervals.
    """

    a: float
    b: float
    t: float
    cuts: int
    reach: float
    level: float

    def __call__(self, distance: Any) -> np.ndarray:
        """The factor at distances, at least 1."""
        d = np.maximum(np.asarray(distance, float), 0.0)
        return np.maximum(self.t * np.exp(self.a + self.b * d), 1.0)


def measure_growth(
    error: np.ndarray, half: np.ndarray, distance: np.ndarray, cut: np.ndarray, level: float
) -> Growth:
    """The line under which a share `level` of log(error / half-width) lies, by quantile regression.

    An interval of half-width h is to be T h, so that it covers an error e if e / h <= T. The errors
    of one cut share that of one fit, and so count as one observation: as for a standard deviation
    from m values, the factor is multiplied by the ratio of the quantiles of t with m - 1 degrees
    of freedom and of the normal distribution.

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
    d, groups = distance[known], len(np.unique(cut[known]))
    a, b = _quantile_line(ratio, d, level)
    tail = (1 + level) / 2
    t = scipy.stats.t.ppf(tail, max(groups - 1, 1)) / scipy.stats.norm.ppf(tail)
    return Growth(a, b, float(t), groups, float(d.max()), level)


def _quantile_line(y: np.ndarray, x: np.ndarray, level: float) -> tuple[float, float]:
    """a, b >= 0 that minimize sum_i pinball(y_i - a - b x_i), as a linear program."""
    n = len(y)
    # Variables: a, b, and what lies above and below the line at each point.
    cost = np.concatenate([[0.0, 0.0], np.full(n, level), np.full(n, 1 - level)])
    equal = np.hstack([np.ones((n, 1)), x[:, None], np.eye(n), -np.eye(n)])
    bounds = [(None, None), (0, None)] + [(0, None)] * (2 * n)
    found = scipy.optimize.linprog(cost, A_eq=equal, b_eq=y, bounds=bounds, method="highs")
    return float(found.x[0]), float(found.x[1])
