"""The best size at a budget, or for a loss to be reached: closed form, or a search along a curve.

A budget leaves a model of N parameters so many tokens; a loss to be reached asks for so many.
Either way tokens are a function of the size, the curve, and the best size is its lowest point. A
limit may cut the curve short. The search works in logs and does not rely on smoothness: it narrows
a bracket down to a stationary point, or to the corner where one condition takes over from another.
Two Newton steps on the two equations that hold there make the answer exact, and differentiable by
all numbers that go in.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._by_name import by_name
from jaxscale._curve import (
    LOG_D,
    MOST_STEPS,
    Numbers,
    Search,
    find_tokens,
    halved,
    same,
    slope_along,
    slope_and_active,
    spread_over,
)
from jaxscale._law import Law
from jaxscale._setting import Setting
from jaxscale.flops import FlopFunction, six_nd

_GRID, _GRID_TO_REACH = 96, 64
_DECADES = 9.0
_CHUNK = 2**22  # numbers held at once


class Optimum(NamedTuple):
    """Where the search ended; NaN if there is no optimum.

    Attributes:
        N, D: size and tokens.
        value: the loss there, or the FLOPs if a loss was to be reached.
        holds: two conditions that hold with equality, by index: 0 for the budget (or the loss to be
            reached), k for the k-th limit; twice the same at a stationary point.
    """

    N: Any
    D: Any
    value: Any
    holds: Any


def under(law: Law, cost: FlopFunction = six_nd) -> Search:
    """The search of a law in N and D at budgets, with nothing else to hold or to heed."""
    return Search(Setting(law, by_name(cost, ("N", "D"))))


def optimum(
    law: Law, middle: tuple[Any, Any], params: Any, flop: Any, cost: FlopFunction = six_nd
) -> tuple[Any, Any]:
    """Optimal N and D at budgets, for one set of parameters; NaN where there is no minimum.

    Args:
        middle: log of typical N and D, where a numeric search centers.
    """
    many = {name: jnp.asarray(value, float)[None] for name, value in params.items()}
    found = optima(under(law, cost), middle, many, flop)
    return found.N[0], found.D[0]


def optima(
    search: Search,
    middle: tuple[Any, Any],
    params: Mapping[str, Any],
    goals: Any,
    held: Mapping[str, Any] | None = None,
    bounds: tuple[Any, ...] = (),
    *,
    each_its_own: bool = False,
) -> Optimum:
    """Optima of many sets of parameters, shape (draws,), at goals of any shape.

    Args:
        search: what is searched.
        middle: log of typical N and D.
        params: parameters by name, each of shape (draws,).
        goals: budgets, or losses to be reached.
        held: other inputs by name, which broadcast to the goals.
        bounds: bounds of the limits.
        each_its_own: goals have a leading axis of draws (losses only).

    Returns:
        Arrays of shape (draws, *goals), NaN where there is no minimum; `Optimum.holds` has a last
        axis of two.
    """
    goals = jnp.asarray(goals, float)
    if search.setting.closed and not (search.reach or search.average):
        law, ones = search.setting.law, (1,) * goals.ndim
        spread = {name: jnp.reshape(value, (-1, *ones)) for name, value in params.items()}
        return _closed(law, spread, goals)
    shape = goals.shape[1:] if each_its_own else goals.shape
    flat = goals.reshape(len(goals), -1) if each_its_own else goals.ravel()
    numbers = Numbers(params, spread_over(held or {}, shape), tuple(bounds), flat)
    found = _searched(search, middle, numbers)
    return Optimum(*(x.reshape(x.shape[0], *shape, *x.shape[2:]) for x in found))


@jax.jit(static_argnames="law")
def _closed(law: Law, params: Any, flop: Any) -> Optimum:
    N = law.optimum(flop, **params)  # type: ignore[misc]  # the caller has looked
    D = flop / (6 * N)
    known = {"N": N, "D": D}
    value = law(*(known[name] for name in law.inputs), **params)
    return Optimum(N, D, value, jnp.zeros((*N.shape, 2), int))


@jax.jit(static_argnames="search")
def _searched(search: Search, middle: tuple[Any, Any], numbers: Numbers) -> Optimum:
    """For parameters of shape (draws,) and goals of shape (goals,), or (draws, goals)."""
    goals, held, own = numbers.goal, numbers.held, numbers.goal.ndim == 2
    along = functools.partial(_along, search, middle)
    if search.average:
        draws = len(jax.tree.leaves(numbers.params)[0])

        def at_goal(each: Any) -> Optimum:
            return along(numbers._replace(goal=each[0], held=each[1]), None)

        found = _in_chunks(at_goal, (goals, held), _GRID * draws)
        return jax.tree.map(lambda x: x[None], found)
    # The curve of a budget is the same for all draws.
    grids = None if search.reach else _grids(search, middle, numbers._replace(params={}))

    def solve(each: Any) -> Optimum:
        params, mine = each if own else (each, goals)

        def one(goal: Any, held: Any, grid: Any) -> Optimum:
            return along(Numbers(params, held, numbers.bounds, goal), grid)

        return jax.vmap(one)(mine, held, grids)

    each = (numbers.params, goals) if own else numbers.params
    return _in_chunks(solve, each, _GRID * goals.shape[-1])


def _grids(search: Search, middle: Any, numbers: Numbers) -> Any:
    def one(goal: Any, held: Any) -> Any:
        return _grid(search, middle, numbers._replace(goal=goal, held=held))

    return jax.vmap(one)(numbers.goal, numbers.held)


def _in_chunks(solve: Callable[[Any], Any], each: Any, cost: int) -> Any:
    """``vmap(solve)(each)``, so many at a time that `cost` numbers for each are not too many."""
    count = len(jax.tree.leaves(each)[0])
    size = max(1, _CHUNK // cost)
    if count <= size:
        return jax.vmap(solve)(each)
    chunks = -(-count // size)
    size = -(-count // chunks)
    # Whole chunks only, because a remainder would be compiled once more.
    rows = np.minimum(np.arange(chunks * size), count - 1).reshape(chunks, size)
    found = jax.lax.map(jax.vmap(solve), jax.tree.map(lambda x: x[rows], each))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], found)


def _along(search: Search, middle: Any, numbers: Numbers, grid: Any) -> Optimum:
    frozen = jax.lax.stop_gradient(numbers)
    n, d = _grid(search, middle, frozen) if grid is None else grid
    n, d, inside, holds = _narrowed(search, n, d, frozen)
    n, d = _polished(search, n, d, holds, numbers)
    value = search.value(n, d, numbers)
    N, D, value = (
        jnp.where(inside, x, jnp.nan)
        for x in (jnp.exp(n), jnp.exp(d), jnp.exp(value) if search.reach else value)
    )
    return Optimum(N, D, value, holds)


# The lowest point along the curve.


def _grid(search: Search, middle: Any, numbers: Numbers) -> tuple[Any, Any]:
    """Sizes to start from, and their tokens: even in logs, and where limits begin to bind."""
    numbers = jax.lax.stop_gradient(numbers)
    steps = jnp.linspace(-1, 1, _GRID_TO_REACH if search.reach else _GRID)
    n = _center(search, middle, numbers) + steps * _DECADES * np.log(10.0)
    n = jnp.concatenate([n, *_corners(search, n, numbers)])
    return n, jax.vmap(lambda x: find_tokens(search, x, numbers))(n)


def _center(search: Search, middle: Any, numbers: Numbers) -> Any:
    if search.reach:
        return middle[0]
    # Between the sizes seen and those that the budget would buy at the ratio seen.
    size, tokens = middle
    there = search.log_flop(size, tokens, numbers, jnp.log(numbers.goal))
    return middle[0] - 0.5 * jnp.where(jnp.isfinite(there), there, 0.0)


def _corners(search: Search, n: Any, numbers: Numbers) -> list[Any]:
    """Where each limit meets the curve of the goal alone, twice at most; NaN elsewhere.

    A grid may be too coarse to see what two limits leave between them, and corners are sharp.
    """
    found = []
    for k in range(1, len(search.setting.limits) + 1):

        def over(x: Any, k: int = k) -> Any:
            return search.gaps(x, find_tokens(search, x, numbers, alone=True), numbers)[k]

        at = jax.vmap(over)(n)
        turns = (at[:-1] > 0) != (at[1:] > 0)
        turns &= jnp.isfinite(at[:-1]) & jnp.isfinite(at[1:])
        for i in (turns.argmax(), len(n) - 2 - turns[::-1].argmax()):
            root = halved(over, n[i], n[i + 1], at[i] > 0)
            found.append(jnp.where(turns.any(), root, jnp.nan)[None])
    return found


class _Look(NamedTuple):
    """What a size looks like.

    Attributes:
        n, d: log N, and log D on the curve.
        side: below zero to the left of the lowest point, above zero to the right of it.
        allowed: whether all conditions hold.
        decides: the condition that sets the tokens, or else the one that cannot hold.
    """

    n: Any
    d: Any
    side: Any
    allowed: Any
    decides: Any


def _look(search: Search, n: Any, start: Any, numbers: Numbers) -> _Look:
    """What log N looks like from `start`, a size that is allowed."""
    d = find_tokens(search, n, numbers)
    goes = jnp.isfinite(d)
    d = jnp.where(goes, d, LOG_D[1] if search.reach else LOG_D[0])
    gaps = search.gaps(n, d, numbers)
    slope, active = slope_and_active(search, n, d, numbers)
    allowed = goes & _checked(search, gaps) & jnp.isfinite(slope)
    against = jnp.where(goes & search.on_curve, -jnp.inf, gaps).argmax()
    side = jnp.where(allowed, slope, jnp.where(n < start, -jnp.inf, jnp.inf))
    return _Look(n, d, side, allowed, jnp.where(allowed, active, against))


def _checked(search: Search, gaps: Any) -> Any:
    """Whether the conditions hold that do not set the tokens."""
    others = np.flatnonzero(~search.on_curve)
    # Without any, nothing is left that XLA would fold, slowly, into a large constant.
    return (gaps[others] <= same(gaps)).all() if len(others) else jnp.isfinite(gaps[0])


def _narrowed(search: Search, n: Any, d: Any, numbers: Numbers) -> tuple[Any, Any, Any, Any]:
    """Close to the lowest point: N, D, whether there is one, and the two conditions at it."""
    near = 1e-5 if n.dtype == jnp.float64 else 1e-3

    def at_grid(n: Any, d: Any) -> Any:
        value = search.value(n, d, numbers)
        fine = _checked(search, search.gaps(n, d, numbers)) & jnp.isfinite(value)
        return jnp.where(fine, value, jnp.inf)

    values = jax.vmap(at_grid)(n, d)
    best = values.argmin()
    start = n[best]
    low = jnp.where(n < start - 2 * near, n, -jnp.inf).max()
    high = jnp.where(n > start + 2 * near, n, jnp.inf).min()
    between = jnp.isfinite(low) & jnp.isfinite(high) & jnp.isfinite(values[best])
    # Both are higher than the point between them, so that the lowest point is there, too.
    ends = tuple(
        _Look(jnp.where(between, x, start), start, side, jnp.array(False), jnp.array(0))
        for x, side in (
            (low, jnp.full_like(start, -jnp.inf)),
            (high, jnp.full_like(start, jnp.inf)),
        )
    )

    def unfinished(state: Any) -> Any:
        (low, high), _, count = state
        return between & (high.n - low.n > 2.1 * near) & (count < MOST_STEPS)

    def step(state: Any) -> Any:
        (low, high), last, count = state
        secant = low.n - low.side * (high.n - low.n) / (high.side - low.side)
        # Beside the end that it would be, so that the bracket shrinks from both ends.
        secant = jnp.clip(secant, low.n + near, high.n - near)
        usable = jnp.isfinite(secant) & ((count < 10) | (count % 3 > 0))
        at = jnp.where(usable, secant, 0.5 * (low.n + high.n))
        # A corner is a point of the grid: looking to both sides of it is enough.
        at = jnp.where(count == 0, start - near, at)
        at = jnp.where((count == 1) & (high.n > start + near), start + near, at)
        new = _look(search, at, start, numbers)
        left = new.side < 0
        # An end that stays put twice counts half (the Illinois rule).
        weight = jnp.where(jnp.where(left, last < 0, last > 0), 0.5, 1.0)
        low, high = (end._replace(side=end.side * weight) for end in (low, high))
        low = jax.tree.map(lambda x, old: jnp.where(left, x, old), new, low)
        high = jax.tree.map(lambda x, old: jnp.where(left, old, x), new, high)
        return (low, high), jnp.where(left, -1, 1), count + 1

    found: Any = jax.lax.while_loop(unfinished, step, (ends, 0, 0))
    low, high = found[0]
    # Where the curve of the goal ends, there is no minimum, only an end.
    sound = [end.allowed | (end.decides > 0) for end in (low, high)]
    inside = between & (low.allowed | high.allowed) & sound[0] & sound[1]
    d = jnp.where(low.allowed, low.d, high.d)
    return 0.5 * (low.n + high.n), d, inside, jnp.stack([low.decides, high.decides])


def _polished(search: Search, n: Any, d: Any, holds: Any, numbers: Numbers) -> tuple[Any, Any]:
    """Two Newton steps for log N and log D on the two equations that hold, from constants.

    They make the first and second derivatives right, as the implicit function theorem gives them.
    """
    corner = holds[0] != holds[1]

    def equations(at: Any) -> Any:
        gaps = search.gaps(at[0], at[1], numbers)
        slope = slope_along(search, at[0], at[1], numbers, holds[0])
        return jnp.stack([gaps[holds[0]], jnp.where(corner, gaps[holds[1]], slope)])

    def newton(_: Any, at: Any) -> Any:
        f = equations(at)
        (a, b), (c, d) = jax.jacfwd(equations)(at)
        return at - jnp.stack([d * f[0] - b * f[1], a * f[1] - c * f[0]]) / (a * d - b * c)

    at = jax.lax.fori_loop(0, 2, newton, jax.lax.stop_gradient(jnp.stack([n, d])))
    return at[0], at[1]
