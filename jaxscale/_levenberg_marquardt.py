"""Levenberg-Marquardt for robust losses, as an Optax transformation.

Written for thousands of lanes under `vmap`: no inner loops, no branches, one pass over the data
per step, and a Cholesky factorization unrolled over the parameters so that it is elementwise
across lanes.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxscale._evaluate import Evaluation, Smoothing

_UNROLL_BELOW = 12
# Factor on the damping at a rejection; it doubles with every further one (Nielsen 1999).
_GROWTH = 2.0


class LevenbergMarquardtState(NamedTuple):
    """State of one lane. `value` is the objective at the parameters, smoothed to `width`."""

    value: jax.Array
    gradient: tuple[jax.Array, ...]
    hessian: tuple[jax.Array, ...]
    damping: jax.Array
    growth: jax.Array
    mix: jax.Array
    width: jax.Array
    converged: jax.Array


@functools.cache
def levenberg_marquardt(
    *,
    rtol: float = 1e-13,
    damping: float = 1e-4,
    anneal: float = 0.6,
    first_width: float = 1.0,
    max_step: float = 4.0,
) -> optax.GradientTransformationExtraArgs:
    """Damped Gauss-Newton for sums of losses of residuals, as an Optax transformation.

    Each step solves ``(H + damping * trace(H)/p * I) step = -g``. `H` weighs a residual by
    something between the loss's own curvature, which is right at the optimum but zero for most
    runs under a sharp Huber loss, and iterative reweighting, which is safe but slow; success moves
    towards the first, failure towards the second. The loss itself starts out smooth (Huber's delta
    at `first_width`) and is sharpened by `anneal` at every success. Damping by the trace rather
    than by diag(H) (Marquardt's choice) lets a term that has nearly vanished come back.

    ``update`` needs one of the extra arguments

    - ``normal_equations(params, smoothing)``, returning an `Evaluation`; or
    - ``residual_fn(params)``, for plain least squares, ``sum(residuals**2) / 2``.

    and takes ``width``, the sharpness to anneal to (default 0, for none), ``width_unit``, and at
    the first step of a start near the optimum ``width_factor``, by which `first_width` shrinks.

    Args:
        rtol: converged when the predicted decrease is below this share of the objective.
        damping: first damping, relative to the mean of the Hessian's diagonal.
        anneal: factor on the smoothing width after each accepted step.
        first_width: smoothing width to begin with.
        max_step: longest step in any unconstrained coordinate.

    Source: Levenberg 1944; Marquardt 1963; the mixed weights and the annealing are our own.

    Example:
        >>> fit(laws.chinchilla, runs, optimizer=levenberg_marquardt(rtol=1e-10), key=key)
    """

    def init(params: Any) -> LevenbergMarquardtState:
        p, dtype = params.size, params.dtype
        zero = jnp.zeros((), dtype)
        return LevenbergMarquardtState(
            value=jnp.full((), jnp.inf, dtype),
            gradient=(zero,) * p,
            hessian=tuple(jnp.ones_like(zero) * (i == j) for i in range(p) for j in range(i + 1)),
            damping=jnp.asarray(damping, dtype),
            growth=jnp.full((), _GROWTH, dtype),
            mix=jnp.ones((), dtype),
            width=jnp.full((), first_width, dtype),
            converged=jnp.zeros((), bool),
        )

    def update(
        updates: Any,
        state: LevenbergMarquardtState,
        params: Any = None,
        *,
        normal_equations: Callable[[Any, Smoothing], Evaluation] | None = None,
        residual_fn: Callable[[Any], Any] | None = None,
        width: Any = 0.0,
        width_unit: Any = 1.0,
        width_factor: Any = 1.0,
        **_: Any,
    ) -> tuple[Any, LevenbergMarquardtState]:
        del updates  # a by-product of the normal equations
        if normal_equations is None:
            if residual_fn is None:
                raise TypeError("levenberg_marquardt needs normal_equations= or residual_fn=")
            normal_equations = functools.partial(_least_squares, residual_fn)

        eps = jnp.finfo(params.dtype).eps
        first = jnp.isinf(state.value)
        step, predicted = _damped_step(state.gradient, state.hessian, state.damping)
        clip = jnp.minimum(1.0, max_step / jnp.maximum(jnp.max(jnp.abs(step)), 1e-30))
        trial = params + clip * step

        sharp = width / width_unit
        now = jnp.where(first, width_factor * state.width, state.width)
        next_width = jnp.where(sharp > 0, jnp.maximum(now * anneal, sharp), 0.0)
        seen = normal_equations(
            trial, Smoothing(now * width_unit, next_width * width_unit, state.mix)
        )
        annealed = now <= sharp
        # On the way, round-off must not keep a lane at a width that it is done with.
        limit = jnp.where(annealed, state.value, (1 + 32 * eps) * state.value)
        better = jnp.isfinite(seen.next_value) & (seen.value < limit)
        ratio = (state.value - seen.value) / jnp.maximum(predicted, jnp.finfo(params.dtype).tiny)
        good = better & (ratio > 0.25)

        # A short step promises little however steep the slope; damping must not look like arrival.
        promise = predicted * jnp.maximum(state.damping, 1.0)
        negligible = promise <= jnp.maximum(rtol, 2 * eps) * state.value
        exact = state.value <= jnp.finfo(params.dtype).tiny
        stuck = state.damping > 1e3 / eps
        hopeless = first & ~better
        converged = (~first & annealed & (negligible | exact | stuck)) | hopeless

        def accept(new: Any, old: Any) -> Any:
            return jax.tree.map(functools.partial(jnp.where, better), new, old)

        # Straight after a rejection, more than halving the damping would only provoke the next.
        boldest = jnp.where(state.growth > _GROWTH, 0.5, 0.1)
        shrink = jnp.where(ratio > 0.75, boldest, jnp.where(good, 0.5, 2.0))
        state = LevenbergMarquardtState(
            value=accept(seen.next_value, state.value),
            gradient=accept(tuple(seen.gradient), state.gradient),
            hessian=accept(tuple(seen.hessian), state.hessian),
            damping=jnp.where(
                first,
                state.damping,
                jnp.maximum(state.damping * jnp.where(better, shrink, state.growth), eps),
            ),
            growth=jnp.where(better, _GROWTH, 2 * state.growth),
            mix=jnp.where(good, 0.7 * state.mix, jnp.minimum(1.0, 4.0 * state.mix + 1e-3)),
            width=jnp.where(better, next_width, state.width),
            converged=converged,
        )
        return jnp.where(better, trial - params, 0.0), state

    return optax.GradientTransformationExtraArgs(init, update)


def _least_squares(residual_fn: Callable[[Any], Any], params: Any, _: Smoothing) -> Evaluation:
    r, jacobian = residual_fn(params), jax.jacfwd(residual_fn)(params)
    # Accelerators multiply matrices in less than single precision unless told otherwise.
    exactly = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    value, gradient = 0.5 * exactly(r, r), exactly(jacobian.T, r)
    hessian = exactly(jacobian.T, jacobian)
    p = params.size
    lower = tuple(hessian[i, j] for i in range(p) for j in range(i + 1))
    return Evaluation(value, value, tuple(gradient), lower)


def _damped_step(
    gradient: tuple[Any, ...], lower: tuple[Any, ...], damping: Any
) -> tuple[Any, Any]:
    """Step of the damped system and the decrease that its quadratic model predicts."""
    p = len(gradient)
    h = {(i, j): lower[i * (i + 1) // 2 + j] for i in range(p) for j in range(i + 1)}
    trace = sum((h[i, i] for i in range(p)), start=jnp.zeros_like(gradient[0])) / p
    ridge = damping * trace + jnp.finfo(gradient[0].dtype).tiny
    solve = _solve_unrolled if p < _UNROLL_BELOW else _solve_dense
    step = solve({**h, **{(i, i): h[i, i] + ridge for i in range(p)}}, [-g for g in gradient])
    slope = sum(g * s for g, s in zip(gradient, step, strict=True))
    bend = sum((h[i, i] * step[i] ** 2 for i in range(p)), start=jnp.zeros_like(slope))
    bend += 2 * sum((h[i, j] * step[i] * step[j] for i in range(p) for j in range(i)), start=0.0)
    return jnp.stack(step), -slope - 0.5 * bend


def _solve_unrolled(h: dict[tuple[int, int], Any], right: list[Any]) -> list[Any]:
    p = len(right)
    factor: dict[tuple[int, int], Any] = {}
    tiny = jnp.finfo(right[0].dtype).tiny
    for i in range(p):
        for j in range(i + 1):
            rest = h[i, j] - sum(factor[i, k] * factor[j, k] for k in range(j))
            # Round-off can make a pivot negative; the step is then rejected and damping grows.
            factor[i, j] = jnp.sqrt(jnp.maximum(rest, tiny)) if i == j else rest / factor[j, j]
    y: list[Any] = []
    for i in range(p):
        y.append((right[i] - sum(factor[i, k] * y[k] for k in range(i))) / factor[i, i])
    x: list[Any] = [None] * p
    for i in reversed(range(p)):
        x[i] = (y[i] - sum(factor[k, i] * x[k] for k in range(i + 1, p))) / factor[i, i]
    return x


def _solve_dense(h: dict[tuple[int, int], Any], right: list[Any]) -> list[Any]:
    p = len(right)
    full = jnp.stack([jnp.stack([h[max(i, j), min(i, j)] for j in range(p)]) for i in range(p)])
    solved = jax.scipy.linalg.solve(full, jnp.stack(right), assume_a="pos")
    return [solved[i] for i in range(p)]
