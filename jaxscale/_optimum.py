"""The compute-optimal size of a law at a budget: closed form, or a numeric search."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._law import Law
from jaxscale.flops import FlopFunction, six_nd

_GRID = 512
_DECADES = 9.0
_LOG_D = (-20.0, 80.0)  # from far below one token to 1e34
_CHUNK = 2**22  # losses held at once


def optimum(
    law: Law, middle: tuple[Any, Any], params: Any, flop: Any, cost: FlopFunction = six_nd
) -> tuple[Any, Any]:
    """Optimal N and D at budgets, for one set of parameters; NaN where there is no minimum.

    Args:
        middle: log of typical N and D, where a numeric search centers.
    """
    if cost is six_nd and law.optimum is not None:
        return _closed_optimum(law, params, flop)
    many = {name: jnp.asarray(value, float)[None] for name, value in params.items()}
    N, D = _numeric_optima(law, cost, middle, many, jnp.ravel(flop), tolerance=1e-12)
    return N[0].reshape(flop.shape), D[0].reshape(flop.shape)


def optima(
    law: Law, middle: tuple[Any, Any], params: Any, flop: Any, cost: FlopFunction = six_nd
) -> tuple[Any, Any]:
    """Optimal N and D of many sets of parameters, shape (draws,), at budgets of any shape.

    Returns:
        Two arrays of shape (draws, *budgets), NaN where there is no minimum.
    """
    if cost is six_nd and law.optimum is not None:
        ones = (1,) * jnp.ndim(flop)
        spread = {name: jnp.reshape(value, (-1, *ones)) for name, value in params.items()}
        return _closed_optimum(law, spread, flop)
    N, D = _numeric_optima(law, cost, middle, params, jnp.ravel(flop), tolerance=1e-9)
    return N.reshape(-1, *flop.shape), D.reshape(-1, *flop.shape)


def log_tokens(cost: FlopFunction, log_n: Any, log_c: Any) -> Any:
    """log D with cost(N, D) = C, NaN if N costs more than C even without data."""
    return _log_tokens(cost, log_n, log_c, _LOG_D, 60)


def _closed_optimum(law: Law, params: Any, flop: Any) -> tuple[Any, Any]:
    N = law.optimum(flop, **params)  # type: ignore[misc]  # the caller has looked
    return N, flop / (6 * N)


def _log_tokens(
    cost: FlopFunction, log_n: Any, log_c: Any, ends: tuple[Any, Any], halvings: int
) -> Any:
    """Bisection between `ends`.

    Two Newton steps from the bisected value, which is constant to the differentiator, give first
    and second derivatives by N and C.
    """

    def excess(log_d: Any) -> Any:
        # A ratio, because the square of a budget overflows float32 in the second derivative.
        return jnp.log(cost(jnp.exp(log_n), jnp.exp(log_d)) * jnp.exp(-log_c))

    def halve(_: Any, ends: tuple[Any, Any]) -> tuple[Any, Any]:
        middle = 0.5 * (ends[0] + ends[1])
        above = excess(middle) > 0
        return jnp.where(above, ends[0], middle), jnp.where(above, middle, ends[1])

    low, high = (jnp.broadcast_to(end, jnp.shape(log_n)).astype(log_n.dtype) for end in ends)
    feasible = (excess(low) < 0) & ~(excess(high) < 0)  # an overflow is above, too
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, halvings, halve, (low, high)))
    log_d = 0.5 * (low + high)
    for _ in range(2):
        value, slope = jax.jvp(excess, (log_d,), (jnp.ones_like(log_d),))
        log_d = log_d - value / slope
    return jnp.where(feasible, log_d, jnp.nan)


@jax.jit(static_argnames=("law", "cost", "tolerance"))
def _numeric_optima(
    law: Law, cost: FlopFunction, middle: tuple[Any, Any], params: Any, flop: Any, tolerance: float
) -> tuple[Any, Any]:
    """For parameters of shape (draws,) and budgets of shape (budgets,)."""
    grids = jax.vmap(lambda c: _grid(cost, middle, jnp.log(c)))(flop)

    def solve(params: Any) -> tuple[Any, Any]:
        one = functools.partial(_numeric_optimum, law, cost, params, tolerance=tolerance)
        return jax.vmap(one)(flop, *grids)

    if len(params[law.names[0]]) == 1:  # a scan of one would only hide the derivatives
        return jax.vmap(solve)(params)
    size = max(1, _CHUNK // (_GRID * len(flop)))
    return jax.lax.map(solve, params, batch_size=size)


def _grid(cost: FlopFunction, middle: tuple[Any, Any], log_c: Any) -> tuple[Any, Any]:
    """Log sizes around the budget, and the log tokens that each leaves."""
    span = _DECADES * np.log(10.0)
    # Center between the sizes seen and those that the budget would buy at the ratio seen.
    center = middle[0] + 0.5 * (log_c - jnp.log(cost(jnp.exp(middle[0]), jnp.exp(middle[1]))))
    log_n = center + jnp.linspace(-span, span, _GRID)
    return jax.lax.stop_gradient((log_n, log_tokens(cost, log_n, log_c)))


def _numeric_optimum(
    law: Law, cost: FlopFunction, params: Any, flop: Any, grid: Any, tokens: Any, tolerance: float
) -> tuple[Any, Any]:
    import optimistix as optx  # slow to import, and laws with a closed form do without

    log_c = jnp.log(flop)

    def loss_at(log_n: Any, log_d: Any, params: Any) -> Any:
        sizes = {"N": jnp.exp(log_n), "D": jnp.exp(log_d)}
        return law.fn(*(sizes[name] for name in law.inputs), **params)

    at_grid = jax.vmap(loss_at, in_axes=(0, 0, None))(grid, tokens, params)
    best = jnp.clip(jnp.nanargmin(jax.lax.stop_gradient(at_grid)), 1, _GRID - 2)
    around = (tokens[best + 1] - 1, tokens[best - 1] + 1)

    def loss(log_n: Any, args: Any) -> Any:
        params, log_c = args
        return loss_at(log_n, _log_tokens(cost, log_n, log_c, around, 20), params)

    slope = jax.grad(loss)
    lower, upper = grid[best - 1], grid[best + 1]
    inside = (slope(lower, (params, log_c)) < 0) & (slope(upper, (params, log_c)) > 0)

    def bracketed(log_n: Any, args: Any) -> Any:
        # Bisection insists on a sign change; without a minimum inside, the answer is NaN below.
        return jnp.where(inside, slope(log_n, args), log_n - grid[best])

    root = optx.root_find(
        bracketed,
        optx.Bisection(rtol=tolerance, atol=tolerance),
        grid[best],
        (params, log_c),
        options={"lower": lower, "upper": upper},
        max_steps=200,
        throw=False,
    ).value
    log_d = _log_tokens(cost, root, log_c, around, 20)
    return jnp.where(inside, jnp.exp(root), jnp.nan), jnp.where(inside, jnp.exp(log_d), jnp.nan)
