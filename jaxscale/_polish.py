"""Newton steps at the best restart, down to round-off.

Accepting steps by their objective stops where its round-off begins, which leaves parameters in a
flat valley only half their digits. Near the optimum the gradient is the sharper judge.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxscale._evaluate import Rows, Smoothing, normal_equations, value_function
from jaxscale._law import Law
from jaxscale._objective import Objective

_STEPS = 20


@functools.partial(jax.jit, static_argnames="law")
def polish(law: Law, objective: Objective, theta: Any, rows: Rows) -> tuple[Any, Any, Any]:
    """Refine one optimum.

    Args:
        theta: unconstrained vector, shape (p,).

    Returns:
        The refined vector, its objective, and the decrease still predicted, relative to it.
    """
    width = objective.width * (1.0 if objective.log else jnp.exp(rows.log_loss_ref))

    def look(at: Any) -> tuple[Any, Any, Any]:
        seen = normal_equations(law, objective, at, Smoothing(width, width, 0.0), rows)
        step, decrease = _newton(seen.gradient, seen.hessian)
        return seen.value, step, decrease

    def improve(_: Any, carry: Any) -> Any:
        at, value, step, decrease = carry
        trial = at + step
        new_value, new_step, new_decrease = look(trial)
        slack = 4 * jnp.finfo(at.dtype).eps * jnp.abs(value)
        clearly = new_value < value - slack
        level = (new_value <= value + slack) & (new_decrease < decrease)
        better = jnp.isfinite(new_decrease) & (clearly | level)
        moved = (trial, new_value, new_step, new_decrease)
        return jax.tree.map(functools.partial(jnp.where, better), moved, carry)

    value, step, decrease = look(theta)
    at, _, _, decrease = jax.lax.fori_loop(0, _STEPS, improve, (theta, value, step, decrease))
    value = value_function(law, objective, rows)(at)
    return at, value, decrease / jnp.maximum(value, jnp.finfo(theta.dtype).tiny)


def _newton(gradient: tuple[Any, ...], lower: tuple[Any, ...]) -> tuple[Any, Any]:
    p = len(gradient)
    g = jnp.stack(gradient)
    h = jnp.stack(
        [
            jnp.stack([lower[max(i, j) * (max(i, j) + 1) // 2 + min(i, j)] for j in range(p)])
            for i in range(p)
        ]
    )
    ridge = jnp.finfo(g.dtype).eps * jnp.trace(h) / p + jnp.finfo(g.dtype).tiny
    step = -jnp.linalg.solve(h + ridge * jnp.eye(p, dtype=g.dtype), g)
    return step, -0.5 * g @ step
