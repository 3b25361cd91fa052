"""The objective and its derivatives, for many lanes at once.

A lane is one fit in progress: a restart, a resample or a data set. Everything an optimizer needs
comes from one pass over the rows. Called for one lane, these are ordinary functions; under `vmap`
a rule of our own takes over and keeps the lanes on the fastest axis while it scans over small
blocks of rows, so that a block of Jacobians stays in cache. That layout is several times faster
than what `vmap` derives by itself.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero

from jaxscale._law import Law, from_free_vector
from jaxscale._objective import Objective

# Rows in one step of a pass. Fewer lanes fit long tables, which leaves room for more rows at once.
_ROW_BLOCK, _LONG_ROW_BLOCK = 4, 64
MANY_ROWS = 1 << 13


class Rows(eqx.Module):
    """The runs as an evaluation needs them: inputs in reference units, loss as observed.

    Leaves have a leading axis of rows; any of them may have a lane axis before it, so that the
    resamples of a bootstrap share everything but their weights.
    """

    inputs: tuple[Any, ...]
    loss: Any
    weight: Any
    log_loss_ref: Any


class Evaluation(NamedTuple):
    """Sums over the rows: value at two widths, gradient and lower triangle of the Hessian."""

    value: Any
    next_value: Any
    gradient: tuple[Any, ...]
    hessian: tuple[Any, ...]


class Smoothing(NamedTuple):
    """How smooth a view of the objective to take.

    `width` for the value that decides acceptance, `next_width` for everything handed on, and
    `mix` in [0, 1] between the true curvature of the loss (0) and iterative reweighting (1).
    """

    width: Any = 0.0
    next_width: Any = 0.0
    mix: Any = 0.0


def predict_reference(law: Law, theta: Any, inputs: tuple[Any, ...]) -> Any:
    """Law in reference units at one unconstrained vector, for all rows."""
    params = from_free_vector(law, theta)
    return jax.vmap(lambda *x: law.fn(*x, **params))(*inputs)


def residuals(law: Law, objective: Objective, theta: Any, rows: Rows) -> Any:
    """Residual of every row at one unconstrained vector."""
    predicted = predict_reference(law, theta, rows.inputs) * jnp.exp(rows.log_loss_ref)
    return objective.residual(predicted, rows.loss)


def _row_jacobian(law: Law, objective: Objective, order: int) -> Callable[..., Any]:
    """Residual of one run, and its derivative by each parameter, as scalar code.

    One residual by many parameters is a case for reverse mode: the powers in a law are evaluated
    once, where XLA evaluates them again for every direction of forward mode.
    """

    def one(inputs: Any, loss: Any, scale: Any, params: tuple[Any, ...]) -> Any:
        def residual(*values: Any) -> Any:
            predicted = law.fn(*inputs, **dict(zip(law.names, values, strict=True)))
            return objective.residual(predicted * scale, loss)

        if order == 0:
            return residual(*params), ()
        try:
            r, pull = jax.vjp(residual, *params)
            return r, pull(jnp.ones_like(r))
        except (ValueError, NotImplementedError):  # such as a while loop, which has no way back
            return _forward(residual, params)

    return one


def _forward(residual: Callable[..., Any], params: tuple[Any, ...]) -> Any:
    def along(i: int) -> Any:
        def moved(value: Any) -> Any:
            return residual(*params[:i], value, *params[i + 1 :])

        return jax.jvp(moved, (params[i],), (jnp.ones_like(params[i]),))

    pairs = [along(i) for i in range(len(params))]
    return pairs[0][0], tuple(derivative for _, derivative in pairs)


def row_blocks(array: Any, block: int, *, repeat: bool) -> Any:
    """Rows in blocks; the last is filled with copies of the last row, or with zeros."""
    padding = [(0, -array.shape[0] % block)] + [(0, 0)] * (array.ndim - 1)
    padded = jnp.pad(array, padding, mode="edge" if repeat else "constant")
    return padded.reshape(-1, block, *array.shape[1:])


def _lanes_pass(
    law: Law, order: int, objective: Objective, theta: Any, smoothing: Smoothing, rows: Rows
) -> Evaluation:
    """One pass for lanes on the last axis: theta (p, lanes), rows (rows,) or (rows, lanes)."""
    p, lanes = theta.shape
    transforms = [
        jax.jvp(param.from_free, (theta[i],), (jnp.ones_like(theta[i]),))
        for i, (_, param) in enumerate(law.params)
    ]
    params, slopes = zip(*transforms, strict=True)
    # A column may be common to all lanes, (rows,), or each lane's own, (rows, lanes).
    inputs_axes = tuple(_lane_axis(x) for x in rows.inputs)
    scale_axis = 0 if jnp.ndim(rows.log_loss_ref) else None
    one = _row_jacobian(law, objective, order)
    over_lanes = jax.vmap(one, in_axes=(inputs_axes, _lane_axis(rows.loss), scale_axis, 0))
    over_rows = jax.vmap(over_lanes, in_axes=(0, 0, None, None))
    loss_scale = jnp.exp(rows.log_loss_ref)

    def block(total: Evaluation, part: Any) -> tuple[Evaluation, None]:
        inputs, loss, weight = part
        r, jacobian = over_rows(inputs, loss, loss_scale, params)
        weight = weight if weight.ndim == 2 else weight[:, None]
        r = jnp.where(weight > 0, r, 0.0)  # the law may have no loss at a run that does not count
        psi, core, reweighted = objective.weights(r, smoothing.next_width)
        curvature = weight * (core + smoothing.mix * jnp.maximum(reweighted - core, 0))
        value = (weight * objective.rho(r, smoothing.width)).sum(0)
        next_value = (weight * objective.rho(r, smoothing.next_width)).sum(0)
        gradient = tuple((weight * psi * column).sum(0) for column in jacobian)
        weighted = [curvature * column for column in jacobian] if order > 1 else []
        hessian = tuple(
            (weighted[i] * jacobian[j]).sum(0) for i in range(len(weighted)) for j in range(i + 1)
        )
        return jax.tree.map(jnp.add, total, Evaluation(value, next_value, gradient, hessian)), None

    zero = jnp.zeros(lanes, theta.dtype)
    pairs = [(i, j) for i in range(p) for j in range(i + 1)] if order > 1 else []
    start = Evaluation(zero, zero, (zero,) * p if order else (), (zero,) * len(pairs))
    size = _ROW_BLOCK if rows.loss.shape[0] < MANY_ROWS else _LONG_ROW_BLOCK
    parts = (
        tuple(row_blocks(x, size, repeat=True) for x in rows.inputs),
        row_blocks(rows.loss, size, repeat=True),
        row_blocks(rows.weight, size, repeat=False),
    )
    total, _ = jax.lax.scan(block, start, parts)
    return Evaluation(
        total.value,
        total.next_value,
        tuple(g * s for g, s in zip(total.gradient, slopes, strict=False)),
        tuple(h * slopes[i] * slopes[j] for h, (i, j) in zip(total.hessian, pairs, strict=True)),
    )


@functools.cache
def _evaluator(law: Law, order: int) -> Callable[..., Evaluation]:
    @custom_vmap
    def evaluate(objective: Objective, theta: Any, smoothing: Smoothing, rows: Rows) -> Evaluation:
        alone = _lanes_pass(law, order, objective, theta[:, None], smoothing, rows)
        return jax.tree.map(lambda x: x[0], alone)

    @evaluate.def_vmap
    def rule(
        lanes: int, batched: Any, objective: Objective, theta: Any, smoothing: Any, rows: Any
    ) -> Any:
        _, theta_batched, _, rows_batched = batched
        theta = theta.T if theta_batched else jnp.repeat(theta[:, None], lanes, axis=1)
        out = _lanes_pass(law, order, objective, theta, smoothing, _lanes_last(rows, rows_batched))
        return out, jax.tree.map(lambda _: True, out)

    return evaluate


def _lanes_last(rows: Rows, batched: Rows) -> Rows:
    """Columns of each lane as (rows, lanes); those common to all lanes stay (rows,)."""
    return jax.tree.map(lambda x, own: x.T if own else x, rows, batched)


def _lane_axis(column: Any) -> int | None:
    """Axis of the lanes in one row of a column."""
    return 0 if column.ndim == 2 else None


def normal_equations(
    law: Law, objective: Objective, theta: Any, smoothing: Smoothing, rows: Rows
) -> Evaluation:
    """Value, gradient and mixed Gauss-Newton Hessian of one lane (see `Smoothing`)."""
    return _evaluator(law, 2)(objective, theta, smoothing, rows)


def value_function(law: Law, objective: Objective, rows: Rows) -> Callable[[Any], Any]:
    """The objective of one lane as a function of its unconstrained vector, differentiable once.

    Its gradient comes from the pass over blocks of rows, so memory does not grow with them. It
    cannot be differentiated by the rows or the objective, and says so; `residuals` can.
    """
    exact = Smoothing()

    @jax.custom_jvp
    def value(theta: Any, objective: Objective, rows: Rows) -> Any:
        return _evaluator(law, 0)(objective, theta, exact, rows).value

    def value_jvp(primals: Any, tangents: Any) -> Any:
        theta, objective, rows = primals
        if any(type(t) is not SymbolicZero for t in jax.tree.leaves(tangents[1:])):
            raise TypeError("value_function is differentiable by theta only; use residuals")
        at = _evaluator(law, 1)(objective, theta, exact, rows)
        # No matrix product, which an accelerator would take in fewer bits.
        return at.value, jnp.sum(jnp.stack(at.gradient) * tangents[0])

    value.defjvp(value_jvp, symbolic_zeros=True)

    return lambda theta: value(theta, objective, rows)
