"""The tokens of a size: so many as a budget leaves it, or as a loss to be reached asks for.

Tokens are a function of the size, the curve along which `_optimum` searches. Limits bound it too.
Everything is in logs.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._setting import Setting

LOG_D = (-20.0, 80.0)  # from far below one token to 1e34
MOST_STEPS = 100


class Numbers(NamedTuple):
    """What a search depends on, all of it differentiable.

    Attributes:
        params: parameters of the law by name, scalars; shape (draws,) for a mean over draws.
        held: other inputs by name, scalars.
        bounds: bounds of the limits, scalars.
        goal: the budget in FLOPs, or the loss to be reached.
    """

    params: Mapping[str, Any]
    held: Mapping[str, Any]
    bounds: tuple[Any, ...]
    goal: Any


@dataclasses.dataclass(frozen=True)
class Search:
    """What is minimized, and along which curve.

    Attributes:
        setting: law, cost, inputs that follow, limits.
        reach: minimize FLOPs for a loss to be reached, instead of the loss for a budget.
        average: minimize the mean loss over draws.
    """

    setting: Setting
    reach: bool = False
    average: bool = False

    def known(self, n: Any, d: Any, numbers: Numbers) -> dict[str, Any]:
        """All inputs by name, at log N and log D."""
        return self.setting.known(jnp.exp(n), jnp.exp(d), numbers.held)

    def loss(self, n: Any, d: Any, numbers: Numbers) -> Any:
        """The law's loss, or its mean over draws."""
        known = self.known(n, d, numbers)
        if not self.average:
            return self.setting.loss(known, numbers.params)
        return jax.vmap(functools.partial(self.setting.loss, known))(numbers.params).mean()

    def log_flop(self, n: Any, d: Any, numbers: Numbers, unit: Any = 0.0) -> Any:
        """Log FLOPs, in a unit given by its log: squares of FLOPs overflow single precision."""
        return jnp.log(self.setting.cost(self.known(n, d, numbers)) * jnp.exp(-unit))

    def value(self, n: Any, d: Any, numbers: Numbers) -> Any:
        """What is minimized."""
        return (self.log_flop if self.reach else self.loss)(n, d, numbers)

    def gaps(self, n: Any, d: Any, numbers: Numbers) -> Any:
        """How far every condition is overstepped, in logs: the goal, and the limits."""
        if self.reach:
            first = jnp.log(self.loss(n, d, numbers)) - jnp.log(numbers.goal)
        else:
            first = self.log_flop(n, d, numbers, jnp.log(numbers.goal))
        return jnp.stack([first, *self.overstepped(n, d, numbers)])

    def overstepped(self, n: Any, d: Any, numbers: Numbers) -> list[Any]:
        """How far every limit is overstepped, in logs."""
        known, found = self.known(n, d, numbers), []
        for (call, upper), bound in zip(self.setting.limits, numbers.bounds, strict=True):
            over = jnp.log(call(known)) - jnp.log(bound)
            found.append(jnp.broadcast_to(over if upper else -over, jnp.shape(n)))
        return found

    @property
    def on_curve(self) -> np.ndarray:
        """Which conditions set the tokens of a size; the others must hold where these put them.

        A budget is spent unless a limit from above comes first; a loss is reached with as few
        tokens as limits from below allow.
        """
        return np.array([True, *(upper != self.reach for _, upper in self.setting.limits)])


def tokens(
    search: Search, log_n: Any, params: Any, goals: Any, held: Mapping[str, Any], bounds: Any = ()
) -> Any:
    """log D on the curve, NaN where it does not go; sizes, goals and what is held broadcast."""
    shape = jnp.broadcast_shapes(jnp.shape(log_n), jnp.shape(goals))
    flat = (jnp.ravel(jnp.broadcast_to(jnp.asarray(x, float), shape)) for x in (log_n, goals))
    numbers = Numbers(params, spread_over(held, shape), tuple(bounds), None)
    return _at_sizes(search, _tokens_exactly, *flat, numbers).reshape(shape)


def optimal_tokens(search: Search, log_n: Any, params: Any, held: Mapping[str, Any]) -> Any:
    """log D for which a size is the best at its own cost, NaN if there is none; no limits."""
    shape = jnp.shape(log_n)
    flat = jnp.ravel(jnp.asarray(log_n, float))
    numbers = Numbers(params, spread_over(held, shape), (), None)
    return _at_sizes(search, _balanced, flat, jnp.ones_like(flat), numbers).reshape(shape)


@jax.jit(static_argnames=("search", "rule"))
def _at_sizes(search: Search, rule: Any, log_n: Any, goals: Any, numbers: Numbers) -> Any:
    def one(n: Any, goal: Any, held: Any) -> Any:
        return rule(search, n, numbers._replace(goal=goal, held=held))

    return jax.vmap(one)(log_n, goals, numbers.held)


def _tokens_exactly(search: Search, n: Any, numbers: Numbers) -> Any:
    d = find_tokens(search, n, numbers)
    goes = jnp.isfinite(d)
    d = jnp.where(goes, d, 0.0)
    active = _active(search, *jax.lax.stop_gradient((n, d, numbers)))[0]
    gap = functools.partial(_gap, search, n, numbers=numbers, which=active)
    return jnp.where(goes, _two_steps(gap, d), jnp.nan)


def _gap(search: Search, n: Any, d: Any, *, numbers: Numbers, which: Any) -> Any:
    return search.gaps(n, d, numbers)[which]


def _balanced(search: Search, n: Any, numbers: Numbers) -> Any:
    """Too few tokens leave the size too large for its own cost, too many too small."""

    def slope(d: Any, n: Any, numbers: Numbers) -> Any:
        return slope_along(search, n, d, numbers, 0)

    frozen = jax.lax.stop_gradient((n, numbers))
    low, high = (jnp.asarray(end, n.dtype) for end in LOG_D)
    goes = (slope(low, *frozen) > 0) & (slope(high, *frozen) < 0)
    root = halved(lambda d: slope(d, *frozen), low, high, True)
    return jnp.where(goes, _two_steps(lambda d: slope(d, n, numbers), root), jnp.nan)


def _two_steps(f: Callable[[Any], Any], x: Any) -> Any:
    """Newton steps from a constant, for the first and second derivatives of a root."""
    for _ in range(2):
        value, slope = jax.jvp(f, (x,), (jnp.ones_like(x),))
        x = x - value / slope
    return x


def find_tokens(search: Search, n: Any, numbers: Numbers, alone: bool = False) -> Any:
    """log D where the first of the conditions on the curve holds with equality; NaN if none does.

    Newton steps inside a bracket, which is halved where they leave it. Not differentiable.

    Args:
        alone: leave the limits out.
    """
    n, numbers = jax.lax.stop_gradient((jnp.asarray(n), numbers))
    low, high = (jnp.asarray(end, n.dtype) for end in LOG_D)
    # Above what endless data reach, a power law is straight in logs, and Newton steps are few.
    floor = search.loss(n, high, numbers) if search.reach else 0.0

    def height(d: Any) -> Any:
        """Rises with d, and is zero where D is what is asked for."""
        if search.reach:
            first = jnp.log(numbers.goal - floor) - jnp.log(search.loss(n, d, numbers) - floor)
        else:
            first = search.log_flop(n, d, numbers, jnp.log(numbers.goal))
        if alone:
            return first
        sign = -1 if search.reach else 1  # more tokens overstep one kind of limits, less the other
        on = zip(search.on_curve[1:], search.overstepped(n, d, numbers), strict=True)
        # A size at a limit, but for round-off, is not beyond it.
        others = [sign * (gap - same(n)) for sets, gap in on if sets]
        return functools.reduce(jnp.minimum if search.reach else jnp.maximum, others, first)

    ends = jax.vmap(height)(jnp.stack([low, high]))
    goes = (ends[0] < 0) & ~(ends[1] < 0)  # an overflow is above, too
    close = 1e-11 if n.dtype == jnp.float64 else 3e-6

    def unfinished(state: Any) -> Any:
        low, high, _, value, count = state
        return goes & (jnp.abs(value) > close) & (high - low > close) & (count < MOST_STEPS)

    def step(state: Any) -> Any:
        low, high, d, _, count = state
        value, slope = jax.jvp(height, (d,), (jnp.ones_like(d),))
        low, high = jnp.where(value > 0, low, d), jnp.where(value > 0, d, high)
        newton = d - value / slope
        inside = (newton > low) & (newton < high) & (count % 6 < 5)
        moved = jnp.where(inside, newton, 0.5 * (low + high))
        moved = jnp.where(jnp.abs(value) > close, moved, d)
        return low, high, moved, value, count + 1

    begin = (low, high, 0.5 * (low + high), jnp.full_like(low, jnp.inf), 0)
    return jnp.where(goes, jax.lax.while_loop(unfinished, step, begin)[2], jnp.nan)


def _active(search: Search, n: Any, d: Any, numbers: Numbers) -> tuple[Any, Any, Any]:
    """The condition that sets the tokens, and derivatives of all by log N and log D.

    Of conditions that hold alike, it is the one that tokens change fastest.
    """
    by_n, by_d = jax.jacfwd(search.gaps, argnums=(0, 1))(n, d, numbers)
    gaps = search.gaps(n, d, numbers)
    on = search.on_curve & (gaps >= jnp.where(search.on_curve, gaps, -jnp.inf).max() - same(n))
    return jnp.where(on, jnp.abs(by_d), -jnp.inf).argmax(), by_n, by_d


def slope_and_active(search: Search, n: Any, d: Any, numbers: Numbers) -> tuple[Any, Any]:
    """Derivative of what is minimized by log N along the curve, and the condition that sets D."""
    active, by_n, by_d = _active(search, n, d, numbers)
    value_n, value_d = jax.grad(search.value, argnums=(0, 1))(n, d, numbers)
    return value_n - value_d * by_n[active] / by_d[active], active


def same(n: Any) -> float:
    """Conditions closer than this hold with equality."""
    return 1e-9 if jnp.asarray(n).dtype == jnp.float64 else 1e-4


def slope_along(search: Search, n: Any, d: Any, numbers: Numbers, active: Any) -> Any:
    def gap(n: Any, d: Any) -> Any:
        return search.gaps(n, d, numbers)[active]

    by_n, by_d = jax.grad(gap, argnums=(0, 1))(n, d)
    value_n, value_d = jax.grad(search.value, argnums=(0, 1))(n, d, numbers)
    return value_n - value_d * by_n / by_d


def halved(f: Any, low: Any, high: Any, falls: Any) -> Any:
    def halve(_: Any, ends: Any) -> Any:
        middle = 0.5 * (ends[0] + ends[1])
        left = (f(middle) > 0) == falls
        return jnp.where(left, middle, ends[0]), jnp.where(left, ends[1], middle)

    low, high = jax.lax.fori_loop(0, 50, halve, (low, high))
    return 0.5 * (low + high)


def spread_over(held: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    return {k: jnp.ravel(jnp.broadcast_to(jnp.asarray(v, float), shape)) for k, v in held.items()}
