"""Loss over model size at one budget: the curve through the runs, and where it is lowest."""

import dataclasses
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np

from jaxscale._errors import DataError

Method = Literal["parabola", "cubic", "akima"]
DEGREES = {"parabola": 2, "cubic": 3}
CURVES = {"parabola": "a parabola", "cubic": "a cubic", "akima": "Akima's interpolant"}
LEAST_SIZES = {"parabola": 3, "cubic": 4, "akima": 3}
# What can be wrong with a minimum.
FINE, CONCAVE, BELOW, ABOVE, TOO_FEW = 0, 1, 2, 3, 4
_PER_GAP = 25  # points of an interpolated curve per size
_SINGULAR = 1e-10


class Minima(NamedTuple):
    """Minima of many curves: log size and height, NaN where there is none, and what is wrong."""

    at: np.ndarray
    value: np.ndarray
    fault: np.ndarray


@dataclasses.dataclass(frozen=True)
class Valley:
    """The runs of one budget, and the curve through them.

    Attributes:
        flop: the budget, in FLOPs.
        log_N: log sizes, ascending, shape (points,).
        y: what the curve is drawn through: log loss, or the loss.
        weight: relative weight of each point.
        rows: position of each point in the table of runs, or of the first that it averages.
        repeats: how many runs each point averages, shape (points,).
        log: whether y is log loss.
        method: the kind of curve.
        tokens: intercept and slope of log(N D / C) over log N.
    """

    flop: float
    log_N: np.ndarray  # noqa: N815
    y: np.ndarray
    weight: np.ndarray
    rows: np.ndarray
    repeats: np.ndarray
    log: bool
    method: Method
    tokens: tuple[float, float]

    @property
    def sizes(self) -> int:
        """Number of different sizes."""
        return len(np.unique(self.log_N))

    @property
    def loss(self) -> np.ndarray:
        """Observed losses."""
        return self.to_loss(self.y)

    def to_loss(self, y: Any) -> np.ndarray:
        return np.exp(y) if self.log else np.asarray(y)

    def log_tokens(self, log_size: Any) -> Any:
        """Log of the tokens that the budget leaves for a size."""
        intercept, slope = self.tokens
        return np.log(self.flop) + intercept + slope * log_size - log_size

    def minimum(self, y: Any = None, weight: Any = None) -> Minima:
        """Minimum of the curve, or of those through other values and weights; see `minima`."""
        values = self.y[:, None] if y is None else y
        if self.sizes < LEAST_SIZES[self.method]:
            nothing = np.full(values.shape[1] if weight is None else len(weight), np.nan)
            return Minima(nothing, nothing, np.full(len(nothing), TOO_FEW))
        return minima(self.log_N, values, self.method, self.weight if weight is None else weight)

    def curve(self, N: Any) -> np.ndarray:
        """Loss on the curve at sizes."""
        x = np.log(np.asarray(N, float))
        if self.method == "akima":
            return self.to_loss(_akima(self.log_N, self.y[:, None], x)[:, 0])
        z, scale = scaled(self.log_N)
        found = polynomial(z, self.y[:, None], DEGREES[self.method], self.weight)[:, 0]
        return self.to_loss(np.polynomial.polynomial.polyval((x - scale[0]) / scale[1], found))


def check_method(method: str) -> Method:
    """Raises: DataError, for a method that does not exist."""
    if method not in get_args(Method):
        raise DataError(f"method must be {', '.join(get_args(Method))}, not {method!r}")
    return cast(Method, method)


def minima(x: np.ndarray, y: np.ndarray, method: Method, weight: np.ndarray) -> Minima:
    """Lowest points of curves through values y over x, inside the range of x.

    A polynomial is fitted by weighted least squares; Akima's interpolant passes through every
    point, and its lowest of 25 points per size is taken.

    Args:
        x: log sizes, shape (points,), distinct for Akima.
        y: shape (points, sets).
        method: the kind of curve.
        weight: of every point, shape (points,), or for every set, shape (sets, points).

    Source: Akima 1970, doi 10.1145/321607.321609; Porian et al. 2024, arXiv 2406.19146, for its
    use on isoFLOP curves.
    """
    if method == "akima":
        return _akima_minima(x, y)
    z, (middle, half) = scaled(x)
    found = polynomial(z, y, DEGREES[method], weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        at, concave = _vertex(found)
        value = _evaluate(found, at)
        ends = np.stack([_evaluate(found, end) for end in (-1.0, 1.0)])
        # A cubic may turn down again and be lower at an end than in its valley.
        below = ~concave & ((at < -1) | ((at <= 1) & (ends[0] < value)))
        above = ~concave & ~below & ((at > 1) | (ends[1] < value))
    fault = np.select([concave, below, above], [CONCAVE, BELOW, ABOVE], FINE)
    fine = fault == FINE
    return Minima(np.where(fine, middle + half * at, np.nan), np.where(fine, value, np.nan), fault)


def polynomial(z: np.ndarray, y: np.ndarray, degree: int, weight: np.ndarray) -> np.ndarray:
    """Coefficients, lowest power first, shape (degree + 1, sets); NaN where they are not unique."""
    powers = np.vander(z, degree + 1, increasing=True)
    if weight.ndim == 1:
        root = np.sqrt(weight)[:, None]
        return np.asarray(np.linalg.pinv(powers * root) @ (y * root))
    gram = np.einsum("sp,pi,pj->sij", weight, powers, powers)
    moment = np.einsum("sp,pi,ps->si", weight, powers, np.broadcast_to(y, (len(z), len(weight))))
    eigenvalues = np.linalg.eigvalsh(gram)
    unique = eigenvalues[:, 0] > _SINGULAR * eigenvalues[:, -1]
    gram[~unique] = np.eye(degree + 1)
    found = np.linalg.solve(gram, moment[..., None])[..., 0]
    return np.where(unique[:, None], found, np.nan).T


def _vertex(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the slope vanishes and rises, and whether there is no such point."""
    slope, curvature = found[1], found[2]
    if len(found) == 3:
        at = -slope / (2 * curvature)
        return at, ~(curvature > 0)
    root = curvature**2 - 3 * slope * found[3]
    # The root of the quadratic with a positive second derivative, in the form without cancellation.
    at = -slope / (curvature + np.sqrt(np.maximum(root, 0)))
    return at, ~(root > 0) | ~np.isfinite(at)


def _evaluate(found: np.ndarray, at: Any) -> np.ndarray:
    return np.asarray(sum(c * at**i for i, c in enumerate(found)))


def scaled(x: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """x on the scale from -1 to 1, and the middle and half width that lead there."""
    middle, half = 0.5 * (x[0] + x[-1]), 0.5 * (x[-1] - x[0]) or 1.0
    return (x - middle) / half, (float(middle), float(half))


def _akima(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    from scipy.interpolate import Akima1DInterpolator

    return np.asarray(Akima1DInterpolator(x, y)(at))


def _akima_minima(x: np.ndarray, y: np.ndarray) -> Minima:
    grid = np.linspace(x[0], x[-1], _PER_GAP * (len(x) - 1))
    values = _akima(x, y, grid)
    best = values.argmin(axis=0)
    fault = np.select([best == 0, best == len(grid) - 1], [BELOW, ABOVE], FINE)
    fine = fault == FINE
    lowest = values[best, np.arange(y.shape[1])]
    return Minima(np.where(fine, grid[best], np.nan), np.where(fine, lowest, np.nan), fault)
