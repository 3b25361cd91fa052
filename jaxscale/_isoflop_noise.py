"""How much the loss of a run scatters around the curve of its budget."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy

from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._line import weighted_line
from jaxscale._refit import residual_pool, single_fit
from jaxscale._resamples import drawn_residuals
from jaxscale._runs import Runs
from jaxscale._valley import DEGREES, Valley, scaled

_CLEAR = 2.0  # standard errors from which on the noise counts as changing with compute
_MOST_LEVERAGE = 0.99
# Coefficients of the third difference: whatever is quadratic in the size drops out.
_LOCAL = 4


class SeedNoise(NamedTuple):
    """Noise of what the curves are drawn through.

    Attributes:
        scale: standard deviation at each budget, shape (budgets,), or at each point of each budget.
        dof: degrees of freedom that it was estimated from; infinite if it is known.
        pool: standardized residuals in the order of the runs, or None for normal noise.
        complete: whether the pool has one residual for every run, in their order.
        sentence: where the numbers come from.
        center: values that noise is added to, one array per budget; None stands for the observed.
    """

    scale: Sequence[Any]
    dof: float
    pool: np.ndarray | None
    complete: bool
    sentence: str
    center: Sequence[np.ndarray] | None = None

    def draw(self, valleys: Sequence[Valley], n: int, runs: int, key: jax.Array) -> list[Any]:
        """Values with noise added to every point, one array (points, n) per budget.

        Every draw has a scale of its own, as uncertain as the degrees of freedom leave it: that
        makes Student intervals of normal ones.
        """
        # NumPy's stream needs no compilation for every number of runs and draws.
        rng = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), "uint32")))
        known = np.isinf(self.dof)
        unsure = 1.0 if known else np.sqrt(self.dof / rng.chisquare(self.dof, n))
        if self.pool is not None:
            noise = drawn_residuals(self.pool, n, runs, key)
            each = [noise[:, valley.rows].T for valley in valleys]
        else:
            points = [len(valley.y) for valley in valleys]
            each = np.split(rng.normal(size=(sum(points), n)), np.cumsum(points)[:-1])
        base = [valley.y for valley in valleys] if self.center is None else self.center
        return [
            y[:, None] + np.reshape(scale, (-1, 1)) * z * unsure
            for y, scale, z in zip(base, self.scale, each, strict=True)
        ]


def given_noise(valleys: Sequence[Valley], noise: Any, runs: int) -> SeedNoise:
    """Normal noise whose relative standard deviation the user knows.

    Raises:
        DataError: unless it is one positive number or one per run.
    """
    relative = np.asarray(noise, float)
    if relative.shape not in ((), (runs,)) or not (np.isfinite(relative) & (relative > 0)).all():
        raise DataError(
            "noise is the standard deviation of log loss: one positive number, or one per run"
        )
    each = np.broadcast_to(relative, (runs,))
    low, high = (f"{end:.2%}" for end in (each.min(), each.max()))
    words = f"{low} of the loss" if low == high else f"{low} to {high} of the loss"
    scales = [each[v.rows] / np.sqrt(v.repeats) * (1.0 if v.log else v.loss) for v in valleys]
    return SeedNoise(scales, np.inf, None, False, f"{words}, as given")


def noise_of_fit(valleys: Sequence[Valley], fit: Fit, runs: Runs) -> SeedNoise:
    """Residuals of a law fitted to the same runs, drawn as `bootstrap` draws them.

    Raises:
        DataError: if the fit is one of other runs, or averages or leaves out some of them.
    """
    if single_fit(fit).digest() != runs.digest():
        raise DataError("noise= is a fit of other runs; fit the very table that isoflop is given")
    if any((valley.repeats > 1).any() for valley in valleys):
        raise DataError("noise=fit is that of single runs, but Akima averages repeats here")
    moves = -residual_pool(fit)  # residuals are predicted minus observed
    if fit.objective.log != valleys[0].log:
        raise DataError("log= and the objective of the fit must both be of log loss, or neither")
    scale = float(np.sqrt(np.mean(moves**2)))
    words = f"residuals of the fitted {fit.law.name} law ({scale:.2%}), the same as its bootstrap's"
    predicted = np.asarray(fit.predicted(), float)
    law = np.log(predicted) if fit.objective.log else predicted
    center = [law[valley.rows] for valley in valleys]
    return SeedNoise([1.0] * len(valleys), np.inf, moves, True, words, center)


def measured_noise(valleys: Sequence[Valley], runs: int, real: int) -> SeedNoise:
    """Noise from the residuals of the curves; for curves through every point, from differences.

    Raises:
        DataError: if no budget has more sizes than its curve has coefficients.
    """
    found = [_residuals(valley) for valley in valleys]
    dof = np.array([freedom for _, _, freedom in found], float)
    if dof.sum() < 1:
        raise DataError(
            "every curve passes through all of its runs, so that nothing can be said about their "
            "noise; give its standard deviation, such as noise=0.003"
        )
    squares = np.array([total for _, total, _ in found])
    scale, trend = _smooth(np.array([v.flop for v in valleys]), squares, dof)
    words = f"{scale[0]:.2%} of the loss"
    if trend:
        words = f"{scale[0]:.2%} at the lowest to {scale[-1]:.2%} at the highest budget"
    if not valleys[0].log:
        words = words.replace("% of the loss", "%").replace("%", "% of a nat")
    sentence = f"{words}, from {dof.sum():.0f} degrees of freedom around the curves"
    if valleys[0].method not in DEGREES:
        return SeedNoise(list(scale), dof.sum(), None, False, sentence)
    pool = np.full(runs, np.nan)
    for valley, (residuals, _, _), each in zip(valleys, found, scale, strict=True):
        pool[valley.rows] = residuals / max(each, np.finfo(float).tiny)
    kept = np.isfinite(pool)
    standard = pool[kept] - pool[kept].mean()
    size = np.sqrt(np.mean(standard**2)) or 1.0
    complete = int(kept.sum()) == real
    return SeedNoise(list(scale), dof.sum(), standard / size, complete, sentence)


def _residuals(valley: Valley) -> tuple[np.ndarray, float, int]:
    """Residuals with the variance of the noise, their sum of squares, and degrees of freedom."""
    if valley.method not in DEGREES:
        r = _pseudo_residuals(valley.log_N, valley.y)
        return r, float((r**2).sum()), len(r)
    nothing = np.full(len(valley.y), np.nan)
    degree = DEGREES[valley.method]
    freedom = len(valley.y) - degree - 1
    if freedom < 1 or valley.sizes <= degree:
        return nothing, 0.0, 0
    root = np.sqrt(valley.weight / valley.weight.mean())
    powers = np.vander(scaled(valley.log_N)[0], degree + 1) * root[:, None]
    basis = np.linalg.qr(powers)[0]
    y = valley.y * root
    r = y - basis @ (basis.T @ y)
    leverage = np.minimum((basis**2).sum(axis=1), _MOST_LEVERAGE)
    return r / np.sqrt(1 - leverage) / root, float((r**2).sum()), freedom


def _pseudo_residuals(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Third differences of four neighbors each, scaled to the variance of the noise.

    Source: the idea of Gasser, Sroka & Jennen-Steinmetz 1986, doi 10.1093/biomet/73.3.625, one
    order higher, because the valley is curved.
    """
    found = []
    for first in range(len(x) - _LOCAL + 1):
        here = x[first : first + _LOCAL]
        gaps = here[:, None] - here + np.eye(_LOCAL)
        c = 1 / gaps.prod(axis=1)
        found.append(c @ y[first : first + _LOCAL] / np.sqrt(c @ c))
    return np.array(found)


def _smooth(flop: np.ndarray, squares: np.ndarray, dof: np.ndarray) -> tuple[np.ndarray, bool]:
    """Scale at each budget: common to all, or a power of compute where it clearly changes.

    Single budgets have few runs, and their own variances would be noise themselves.
    """
    pooled = np.full(len(flop), np.sqrt(squares.sum() / dof.sum()))
    known = dof > 0
    if known.sum() < 4 or (squares[known] <= 0).any():
        return pooled, False
    d = dof[known]
    # Mean and variance of the log of a chi-square divided by its degrees of freedom.
    logs = np.log(squares[known] / d) - scipy.special.digamma(d / 2) + np.log(d / 2)
    weight = 1 / scipy.special.polygamma(1, d / 2)
    x = np.log(flop[known])
    line = weighted_line(x, logs, weight)
    spread = float((weight * (x - (weight * x).sum() / weight.sum()) ** 2).sum())
    if abs(float(line.slope)) * np.sqrt(spread) < _CLEAR:
        return pooled, False
    return np.exp(0.5 * line(np.log(flop))), True
