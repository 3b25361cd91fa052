"""Newton steps at the best restart, down to round-off.

Accepting steps by their objective stops where its round-off begins, which leaves parameters in a
flat valley only half their digits. Near the optimum the gradient is the sharper judge. The Hessian
is exact here: under a sharp Huber loss most runs enter only through the curvature of the law, which
Gauss-Newton leaves out.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxscale._curvature import full, law_curvature, times
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
    width = objective.width

    def look(at: Any) -> tuple[Any, Any, Any]:
        seen = normal_equations(law, objective, at, Smoothing(width, width, 0.0), rows)
        gradient, gauss_newton = jnp.stack(seen.gradient), full(seen.hessian, at.size)
        exact = gauss_newton + law_curvature(law, objective, at, rows, width)
        step, decrease = _newton(gradient, exact)
        safe_step, safe_decrease = _newton(gradient, gauss_newton)
        downhill = decrease > 0
        return (
            seen.value,
            jnp.where(downhill, step, safe_step),
            jnp.where(downhill, decrease, safe_decrease),
        )

    def improve(_: Any, carry: Any) -> Any:
        at, value, step, decrease = carry
        trial = at + step
        new_value, new_step, new_decrease = look(trial)
        # Round-off of the residuals, not of their sum: many times eps of the objective.
        slack = 256 * jnp.finfo(at.dtype).eps * jnp.abs(new_value)
        clearly = new_value + slack < value
        level = (new_value - slack <= value) & (new_decrease < decrease)
        better = jnp.isfinite(new_decrease) & (clearly | level)
        moved = (trial, new_value, new_step, new_decrease)
        return jax.tree.map(functools.partial(jnp.where, better), moved, carry)

    # The first step is none at all, so that the program looks in one place only.
    nowhere = (
        jnp.asarray(jnp.inf, theta.dtype),
        jnp.zeros_like(theta),
        jnp.asarray(jnp.nan, theta.dtype),
    )
    at, _, _, decrease = jax.lax.fori_loop(0, 1 + _STEPS, improve, (theta, *nowhere))
    value = value_function(law, objective, rows)(at)
    return at, value, decrease / jnp.maximum(value, jnp.finfo(theta.dtype).tiny)


def _newton(gradient: Any, hessian: Any) -> tuple[Any, Any]:
    p, info = gradient.size, jnp.finfo(gradient.dtype)
    ridge = info.eps * jnp.trace(hessian) / p + info.tiny
    step = -jnp.linalg.solve(hessian + ridge * jnp.eye(p, dtype=gradient.dtype), gradient)
    return step, -0.5 * times(gradient, step)
