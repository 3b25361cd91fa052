"""Straight lines through weighted points: one, or one for every resample at once."""

from typing import Any, NamedTuple

import numpy as np


class Line(NamedTuple):
    """y = height + slope (x - middle); height and slope may have an axis of resamples."""

    middle: float
    height: Any
    slope: Any

    def __call__(self, x: Any) -> np.ndarray:
        """Values at x of shape (points,), with a leading axis of resamples if there is one."""
        shift = np.asarray(x) - self.middle
        return np.asarray(np.asarray(self.height)[..., None] + np.multiply.outer(self.slope, shift))


def weighted_line(x: Any, y: Any, weight: Any, middle: float | None = None) -> Line:
    """Minimize sum_i w_i (y_i - height - slope (x_i - middle))^2, leaving out points that are NaN.

    Args:
        x: shape (points,).
        y: shape (..., points); NaN where there is no point.
        weight: inverse variances, shape (points,) or (..., points).
        middle: where `height` is meant; default the weighted mean of x.

    Returns:
        The line or lines; NaN where fewer than two points are left.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    w = np.where(np.isfinite(y), weight, 0.0)
    filled = np.where(np.isfinite(y), y, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = w.sum(axis=-1, keepdims=True)
        center = (w * x).sum(axis=-1, keepdims=True) / total
        mean = (w * filled).sum(axis=-1) / total[..., 0]
        spread = (w * (x - center) ** 2).sum(axis=-1)
        slope = (w * (x - center) * filled).sum(axis=-1) / spread
        # Round-off leaves a speck of spread around a single point.
        slope = np.where(spread > 1e-20 * total[..., 0] * (1 + center[..., 0] ** 2), slope, np.nan)
    at = float(np.mean(center)) if middle is None else float(middle)
    return Line(at, mean + slope * (at - center[..., 0]), slope)
