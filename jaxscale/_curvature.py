"""What the objective looks like around an optimum: Hessian, scores and leverage, by derivatives.

All of it in the unconstrained coordinates of the fit. Every function is pure JAX in its law,
objective, vector and rows, so that a study can `vmap` it over thousands of data sets.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from jaxscale._evaluate import Rows, residuals, row_blocks
from jaxscale._law import Law
from jaxscale._objective import LogHuber, LogL1, LogQuantile, Objective

_ROW_BLOCK = 4096


def times(a: Any, b: Any) -> Any:
    """``a @ b`` to the last bit: an accelerator left alone multiplies float32 in 8 to 11 bits."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


class Local(NamedTuple):
    """The objective near one unconstrained vector; rows first.

    Attributes:
        residual, slope: r_i and rho'(r_i), shape (runs,).
        bend: rho''(r_i), or its kernel estimate, shape (runs,).
        jacobian: d r_i / d theta, shape (runs, p).
        weight: weight of the runs, shape (runs,).
        hessian: ``sum_i weight_i (bend_i J_i J_i' + slope_i d2 r_i)``, shape (p, p).
    """

    residual: Any
    slope: Any
    bend: Any
    jacobian: Any
    weight: Any
    hessian: Any

    @property
    def scores(self) -> Any:
        """``weight_i rho'(r_i) J_i``, shape (runs, p); they sum to zero at an optimum."""
        return (self.weight * self.slope)[:, None] * self.jacobian

    @property
    def leverage(self) -> Any:
        """``weight_i bend_i J_i' H^-1 J_i``, shape (runs,): the hat values of least squares."""
        solved = jnp.linalg.solve(self.hessian, self.jacobian.T).T
        return self.weight * self.bend * jnp.sum(self.jacobian * solved, axis=1)


def local(law: Law, objective: Objective, theta: Any, rows: Rows, bandwidth: Any = None) -> Local:
    """Exact local picture of ``sum_i weight_i rho(r_i)`` at one unconstrained vector.

    Args:
        law, objective: what was fitted.
        theta: unconstrained vector, shape (p,).
        rows: the runs in reference units.
        bandwidth: half width of the window over which rho'' is averaged, in the unit of the
            residuals. ``"exact"`` means rho'' itself, except for losses with a kink, whose rho'' is
            zero wherever it exists. None means the window of `hall_sheather` for those and for a
            Huber loss that bends within it, and rho'' itself for any other loss: few residuals lie
            inside a sharp Huber delta, so that rho'' is exact, unbiased, and noisy.
    """
    r = residuals(law, objective, theta, rows)
    jacobian = jax.jacfwd(lambda at: residuals(law, objective, at, rows))(theta)
    slope = objective.weights(r)[0]
    bend = _chosen_bend(objective, r, rows.weight, bandwidth)
    hessian = times(rows.weight * bend * jacobian.T, jacobian)
    hessian += law_curvature(law, objective, theta, rows, 0.0)
    return Local(r, slope, bend, jacobian, rows.weight, hessian)


def _chosen_bend(objective: Objective, r: Any, weight: Any, bandwidth: Any) -> Any:
    named = bandwidth is None or isinstance(bandwidth, str)
    if not named:
        return _bend(objective, r, bandwidth)
    if isinstance(objective, LogL1 | LogQuantile):
        return _bend(objective, r, hall_sheather(objective, r, weight))
    exact = _bend(objective, r, None)
    if bandwidth == "exact" or not isinstance(objective, LogHuber):
        return exact
    window = hall_sheather(objective, r, weight)
    return jnp.where(objective.delta < window, _bend(objective, r, window), exact)


def _bend(objective: Objective, r: Any, bandwidth: Any) -> Any:
    """rho'', or its mean over r +- bandwidth, which for a kink is a uniform-kernel density."""

    def slope(at: Any) -> Any:
        return objective.weights(at)[0]

    if bandwidth is None:
        bend = jax.jvp(slope, (r,), (jnp.ones_like(r),))[1]
        # Outside a Huber loss's delta two equal terms cancel, but for round-off.
        round_off = 8 * jnp.finfo(r.dtype).eps * objective.weights(r)[2]
        return jnp.where(jnp.abs(bend) > round_off, bend, 0.0)
    return (slope(r + bandwidth) - slope(r - bandwidth)) / (2 * bandwidth)


def hall_sheather(objective: Objective, r: Any, weight: Any) -> Any:
    """Half width ``kappa (z(tau + h) - z(tau - h)) / 2`` of a window of residuals, in their unit.

    Wide enough to estimate the density of the residuals at the kink of a loss. Here ``h = n^(-1/3)
    z(.975)^(2/3) (1.5 phi(z)^2 / (2 z^2 + 1))^(1/3)``, z is the normal quantile at tau, and kappa
    the smaller of the standard deviation and IQR/1.34. The window is that of a difference quotient
    from tau - h to tau + h; twice as wide, as in some programs, makes intervals too wide for the
    peaked residuals that a robust loss is chosen for.

    Source: Hall & Sheather 1988, J. R. Stat. Soc. B 50, 381-391; scaled as in Koenker 2005,
    Quantile Regression, section 3.4.2, up to the factor 1/2.
    """
    # The quantile that a loss fits, from its two slopes: 1/2 for |r|, q for the pinball loss.
    far = jnp.asarray(1e3, r.dtype)
    left, right = objective.weights(-far)[0], objective.weights(far)[0]
    tau = -left / (right - left)
    n = jnp.sum(weight > 0)
    z = norm.ppf(tau)
    h = (1.5 * norm.pdf(z) ** 2 / (2 * z**2 + 1) / n) ** (1 / 3) * norm.ppf(0.975) ** (2 / 3)
    low, high = jnp.maximum(tau - h, 0.5 * tau), jnp.minimum(tau + h, 0.5 * (1 + tau))
    return 0.5 * _spread(r, weight) * (norm.ppf(high) - norm.ppf(low))


def _spread(r: Any, weight: Any) -> Any:
    """Smaller of the standard deviation and IQR/1.34 of weighted residuals."""
    share = weight / jnp.sum(weight)
    order = jnp.argsort(r)
    reached = jnp.cumsum(share[order])
    quartiles = r[order][jnp.searchsorted(reached, jnp.asarray([0.25, 0.75], r.dtype))]
    deviation = jnp.sqrt(jnp.sum(share * (r - jnp.sum(share * r)) ** 2))
    return jnp.minimum(deviation, (quartiles[1] - quartiles[0]) / 1.34)


def dispersion(objective: Objective, scale: Any) -> Any:
    """Factor d for which the noise model is exp(-rho(r) / d) up to a constant.

    It turns the Hessian of the objective into an information matrix, H / d: scale^2 for least
    squares and Huber, scale for absolute deviations, 1 where rho is a log likelihood already.

    Args:
        scale: noise scale, any shape.
    """
    scale = jnp.asarray(scale, float)
    if objective.known:
        return jnp.ones_like(scale)
    slope = jax.jvp(lambda r: objective.log_prob(r, scale), (scale,), (jnp.ones_like(scale),))[1]
    return -objective.weights(scale)[0] / slope


def covariance(
    near: Local,
    kind: str,
    *,
    dispersion: Any = 1.0,
    observations: Any = None,
    codes: Any = None,
    groups: int = 0,
    correction: bool = True,
) -> Any:
    """Covariance of the unconstrained coordinates, shape (p, p); see `laplace`.

    Args:
        near: the objective around its optimum.
        kind: "hessian", "HC0", "HC1", "HC2", "HC3", "CR1" or "CR3".
        dispersion: see `dispersion`; for "hessian".
        observations: what the weights stand for, see `Objective.observations`; default one each.
        codes, groups: cluster of every run, shape (runs,), and their number; for "CR1" and "CR3".
        correction: whether "hessian" and "CR1" carry their small-sample factors.
    """
    n, p = jnp.sum(near.weight > 0), near.hessian.shape[0]
    inverse = jnp.linalg.inv(near.hessian)
    if kind == "hessian":
        # Weights are relative, unless they count observations.
        mean_weight = jnp.sum(near.weight) / (n if observations is None else observations)
        return dispersion * mean_weight * inverse * (n / (n - p) if correction else 1.0)
    scores, factor = near.scores, n / (n - p) if kind == "HC1" else 1.0
    if kind in ("HC2", "HC3"):
        kept = 1 - near.leverage
        scores = scores / (jnp.sqrt(kept) if kind == "HC2" else kept)[:, None]
    if kind in ("CR1", "CR3"):
        scores = jax.ops.segment_sum(scores, codes, groups)
        factor = groups / (groups - 1) * (n - 1) / (n - p) if correction else 1.0
    if kind == "CR3":
        scores, factor = _without_cluster(near, scores, codes, groups), (groups - 1) / groups
    return factor * times(times(inverse, times(scores.T, scores)), inverse.T)


def _without_cluster(near: Local, scores: Any, codes: Any, groups: int) -> Any:
    """Scores for which ``-H^-1 score`` is one Newton step of the fit without the cluster."""
    outer = (near.weight * near.bend)[:, None, None] * (
        near.jacobian[:, :, None] * near.jacobian[:, None, :]
    )
    held = jax.ops.segment_sum(outer, codes, groups)
    moves = jnp.linalg.solve(near.hessian - held, scores[..., None])[..., 0]
    return times(moves, near.hessian)


def gradient(law: Law, objective: Objective, theta: Any, rows: Rows) -> Any:
    """``sum_i weight_i rho'(r_i) d r_i / d theta``, shape (p,); differentiable by everything."""

    def at_rows(at: Any) -> Any:
        return residuals(law, objective, at, rows)

    r, jacobian = at_rows(theta), jax.jacfwd(at_rows)(theta)
    return times(rows.weight * objective.weights(r)[0], jacobian)


def law_curvature(law: Law, objective: Objective, theta: Any, rows: Rows, width: Any) -> Any:
    """sum_i weight_i rho'(r_i) d2 r_i / d theta^2, in blocks of rows."""

    def slanted(at: Any) -> Any:
        """A sum whose second derivative is the one wanted: the slopes are held fixed."""

        def block(total: Any, part: Any) -> Any:
            inputs, loss, weight = part
            here = Rows(inputs, loss, weight, rows.log_loss_ref)
            r = residuals(law, objective, at, here)
            slope = objective.weights(jax.lax.stop_gradient(r), width)[0]
            return total + jnp.sum(weight * slope * r), None

        size = min(_ROW_BLOCK, rows.loss.shape[0])
        parts = (
            tuple(row_blocks(x, size, repeat=True) for x in rows.inputs),
            row_blocks(rows.loss, size, repeat=True),
            row_blocks(rows.weight, size, repeat=False),
        )
        return jax.lax.scan(block, jnp.zeros((), theta.dtype), parts)[0]

    return jax.jacfwd(jax.jacfwd(slanted))(theta)


def full(lower: tuple[Any, ...], p: int) -> Any:
    """Symmetric matrix from its lower triangle, row by row."""

    def entry(i: int, j: int) -> Any:
        high, low = max(i, j), min(i, j)
        return lower[high * (high + 1) // 2 + low]

    return jnp.stack([jnp.stack([entry(i, j) for j in range(p)]) for i in range(p)])
