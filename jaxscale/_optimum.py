"""The compute-optimal size of one law at one budget: closed form, or a numeric search."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from jaxscale._law import Law
from jaxscale.flops import FlopFunction, six_nd

_GRID = 512
_DECADES = 9.0
_LOG_D = (-20.0, 80.0)  # from far below one token to 1e34


def optimum(
    law: Law, middle: tuple[Any, Any], params: Any, flop: Any, cost: FlopFunction = six_nd
) -> tuple[Any, Any]:
    """Optimal N and D at budgets, for one set of parameters; NaN where there is no minimum.

    Args:
        middle: log of typical N and D, where a numeric search centers.
    """
    if cost is six_nd and law.optimum is not None:
        N = law.optimum(flop, **params)
        return N, flop / (6 * N)
    return _numeric_optima(law, cost, middle, params, flop)


def _log_tokens(cost: FlopFunction, log_n: Any, log_c: Any) -> Any:
    """log D with cost(N, D) = C by bisection, NaN if N costs more than C even without data.

    Two Newton steps from the bisected value, which is constant to the differentiator, give first
    and second derivatives by N and C.
    """

    def excess(log_d: Any) -> Any:
        return jnp.log(cost(jnp.exp(log_n), jnp.exp(log_d))) - log_c

    def halve(_: Any, ends: tuple[Any, Any]) -> tuple[Any, Any]:
        middle = 0.5 * (ends[0] + ends[1])
        above = excess(middle) > 0
        return jnp.where(above, ends[0], middle), jnp.where(above, middle, ends[1])

    ends = (jnp.full_like(log_c, _LOG_D[0]), jnp.full_like(log_c, _LOG_D[1]))
    feasible = (excess(ends[0]) < 0) & ~(excess(ends[1]) < 0)  # an overflow is above, too
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, 60, halve, ends))
    log_d = 0.5 * (low + high)
    for _ in range(2):
        value, slope = jax.jvp(excess, (log_d,), (jnp.ones_like(log_d),))
        log_d = log_d - value / slope
    return jnp.where(feasible, log_d, jnp.nan)


@jax.jit(static_argnames=("law", "cost"))
def _numeric_optima(
    law: Law, cost: FlopFunction, middle: tuple[Any, Any], params: Any, flop: Any
) -> tuple[Any, Any]:
    solve = functools.partial(_numeric_optimum, law, cost, middle, params)
    N, D = jax.vmap(solve)(jnp.ravel(flop))
    return N.reshape(flop.shape), D.reshape(flop.shape)


def _numeric_optimum(
    law: Law, cost: FlopFunction, middle: tuple[Any, Any], params: Any, flop: Any
) -> tuple[Any, Any]:
    log_c = jnp.log(flop)

    def loss(log_n: Any, args: Any) -> Any:
        params, log_c = args
        sizes = {"N": jnp.exp(log_n), "D": jnp.exp(_log_tokens(cost, log_n, log_c))}
        return law(*(sizes[name] for name in law.inputs), **params)

    span = _DECADES * np.log(10.0)
    # Center between the sizes seen and those that the budget would buy at the ratio seen.
    center = middle[0] + 0.5 * (log_c - jnp.log(cost(jnp.exp(middle[0]), jnp.exp(middle[1]))))
    grid = jax.lax.stop_gradient(center) + jnp.linspace(-span, span, _GRID)
    at_grid = jax.lax.stop_gradient(jax.vmap(loss, in_axes=(0, None))(grid, (params, log_c)))
    best = jnp.clip(jnp.nanargmin(at_grid), 1, _GRID - 2)
    slope = jax.grad(loss)
    lower, upper = grid[best - 1], grid[best + 1]
    inside = (slope(lower, (params, log_c)) < 0) & (slope(upper, (params, log_c)) > 0)

    def bracketed(log_n: Any, args: Any) -> Any:
        # Bisection insists on a sign change; without a minimum inside, the answer is NaN below.
        return jnp.where(inside, slope(log_n, args), log_n - grid[best])

    root = optx.root_find(
        bracketed,
        optx.Bisection(rtol=1e-12, atol=1e-12),
        grid[best],
        (params, log_c),
        options={"lower": lower, "upper": upper},
        max_steps=200,
        throw=False,
    ).value
    log_d = _log_tokens(cost, root, log_c)
    return jnp.where(inside, jnp.exp(root), jnp.nan), jnp.where(inside, jnp.exp(log_d), jnp.nan)
