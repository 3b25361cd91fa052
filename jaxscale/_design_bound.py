"""How good can a plan be at best? A bound by convexity, without looking at every choice."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._design_search import ROOM, Prospect, criterion, mean_over_draws

_ROUNDS = 4
_DESCENTS = 300
_HALVINGS = 30
_ACTIVE = 192
_SLOW_START = 12.0


def lower_bound(prospect: Prospect, times: np.ndarray, most: int) -> float:
    """A value of the criterion that no choice within budget and limits can be below.

    The criterion is convex in the times, taken as real numbers. So a tangent at any times bounds it
    from below, and the least value of a tangent is that of a fractional knapsack. The tangents are
    taken along a conditional-gradient descent from `times`, among the candidates that matter.

    Args:
        prospect: the candidates.
        times: how often each is run by a good choice, shape (candidates,).
        most: number of runs in all.

    Source: Kiefer & Wolfowitz 1960, Canadian Journal of Mathematics 12, 363-366, for the tangents
    of design criteria; Frank & Wolfe 1956, Naval Research Logistics Quarterly 3, 95-110.
    """
    at, best = np.asarray(times, float), -np.inf
    active = min(len(at), _ACTIVE)
    for _ in range(_ROUNDS):
        slope, bound = (np.asarray(x) for x in _tangent(prospect, jnp.asarray(at), most))
        best = max(best, float(bound)) if np.isfinite(bound) else best
        worth = slope / (np.asarray(prospect.cost) + 1 / most)
        some = np.argsort(-np.where(at > 0, np.inf, worth), kind="stable")[:active]
        some = np.sort(some)
        moved = np.asarray(_descended(prospect.of(some), jnp.asarray(at[some]), most))
        if not np.isfinite(moved).all():
            break
        at = np.zeros_like(at)
        at[some] = moved
    return best


def _covariance_at(prospect: Prospect, times: Any) -> Any:
    """Covariance after real numbers of runs, shape (draws, p, p)."""
    told = prospect.information(times) - prospect.information(jnp.zeros_like(times))

    def one(_: None, J: Any) -> tuple[None, Any]:
        total = jnp.matmul(told * J, J.T, precision="highest") + jnp.linalg.inv(prospect.prior)
        return None, jnp.linalg.inv(total)

    return jax.lax.scan(one, None, prospect.jacobian)[1]


def _slopes(prospect: Prospect, covariance: Any, times: Any) -> Any:
    """Derivative of the criterion by the times that each candidate is run, with a minus sign."""
    total = prospect.before + times
    by_times = prospect.run / (prospect.run + total * prospect.cell) ** 2
    factor = 0.5 if prospect.logs else 1.0
    return factor * by_times * mean_over_draws(prospect, covariance, lambda _, toward: toward)


@jax.jit
def _tangent(prospect: Prospect, times: Any, most: Any) -> tuple[Any, Any]:
    """Slopes at some times, and the least value of the tangent there."""
    covariance = _covariance_at(prospect, times)
    slope = _slopes(prospect, covariance, times)
    highest = _knapsack(prospect, slope, most)[1]
    return slope, criterion(prospect, covariance) + jnp.sum(slope * times) - highest


@jax.jit
def _descended(prospect: Prospect, times: Any, most: Any) -> Any:
    """Real times with a lower criterion: steps of size 2 / (k + k0) toward knapsack corners."""

    def step(k: Any, times: Any) -> Any:
        slope = _slopes(prospect, _covariance_at(prospect, times), times)
        corner = _knapsack(prospect, slope, most)[0]
        return times + 2 / (k + _SLOW_START) * (corner - times)

    return jax.lax.fori_loop(0, _DESCENTS, step, times)


def _knapsack(prospect: Prospect, slope: Any, most: Any) -> tuple[Any, Any]:
    """Real times within budget and limits of about the greatest total slope, and a bound on it.

    The number of runs has a price: whatever the price, the most that times can be worth at it, plus
    the price of all runs allowed, is a bound. Bisection finds the price at which they use them up.
    """
    priced = functools.partial(_priced, prospect, slope, most)

    def halve(_: Any, ends: tuple[Any, Any]) -> tuple[Any, Any]:
        middle = 0.5 * (ends[0] + ends[1])
        many = jnp.sum(priced(middle)[0]) > most
        return jnp.where(many, middle, ends[0]), jnp.where(many, ends[1], middle)

    none = jnp.zeros((), slope.dtype)
    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (none, slope.max()))
    free, cheap, dear = priced(none), priced(low), priced(high)
    # Between too many runs at the lower price and too few at the higher, just as many as allowed.
    many, few = jnp.sum(cheap[0]), jnp.sum(dear[0])
    share = jnp.clip((most - few) / jnp.maximum(many - few, 1e-12), 0.0, 1.0)
    corner = jnp.where(jnp.sum(free[0]) > most, share * cheap[0] + (1 - share) * dear[0], free[0])
    return corner, jnp.minimum(free[1], jnp.minimum(cheap[1], dear[1]))


def _priced(prospect: Prospect, slope: Any, most: Any, price: Any) -> tuple[Any, Any]:
    """The fractional knapsack if every run has a price, and the bound that follows."""
    worth = jnp.maximum(slope - price, 0.0)
    order = jnp.argsort(-worth / prospect.cost)
    whole = jnp.where(worth > 0, prospect.limit * prospect.cost, 0.0)[order]
    left = jnp.clip(1 + ROOM - (jnp.cumsum(whole) - whole), 0.0, whole)
    times = jnp.zeros_like(slope).at[order].set(left / prospect.cost[order])
    return times, price * most + jnp.sum(worth * times)
