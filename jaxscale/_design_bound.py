"""How good can a plan be at best? A bound by convexity, without looking at every choice."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._design_search import ROOM, Prospect, criterion, mean_over_draws

_ROUNDS = 6
_DESCENTS = 200
_HALVINGS = 30
_ACTIVE = 192
_SEEDS = 4
_SLOW_START = 12.0


class _Relaxed(NamedTuple):
    """Every further seed of a candidate as a real number of its own, all (seeds, candidates).

    `told` is the information that a seed adds, which falls from one to the next, so that the sum
    over seeds is linear in them; `most` is how many there are: one each, the last stands for all
    that are left.
    """

    told: Any
    most: Any
    cost: Any


def lower_bound(prospect: Prospect, times: np.ndarray, most: int) -> float:
    """A value of the criterion that no choice within budget and limits can be below.

    The criterion is convex in the numbers of seeds, taken as real. So a tangent anywhere bounds it
    from below, and the least value of a tangent is that of a fractional knapsack. The tangents are
    taken along a conditional-gradient descent from `times`, among the candidates that matter.

    Args:
        prospect: the candidates.
        times: how often each is run by a good choice, shape (candidates,).
        most: number of runs in all.

    Source: Kiefer & Wolfowitz 1960, Canadian Journal of Mathematics 12, 363-366, for the tangents
    of design criteria; Frank & Wolfe 1956, Naval Research Logistics Quarterly 3, 95-110.
    """
    seeds = int(min(np.max(np.asarray(prospect.limit)), _SEEDS))
    before = np.arange(seeds)[:, None]
    at = np.clip(np.asarray(times, float) - before, 0.0, None)
    at[:-1] = np.minimum(at[:-1], 1.0)
    best, active = -np.inf, min(at.shape[1], _ACTIVE)
    for _ in range(_ROUNDS):
        tangent = _tangent(prospect, jnp.asarray(at), most)
        slope, corner, bound = (np.asarray(x) for x in tangent)
        best = max(best, float(bound)) if np.isfinite(bound) else best
        worth = slope[0] / (np.asarray(prospect.cost) + 1 / most)
        some = np.sort(np.lexsort((-worth, -at.sum(axis=0), corner[0] == 0))[:active])
        moved = np.asarray(_descended(prospect.of(some), jnp.asarray(at[:, some]), most))
        if not np.isfinite(moved).all():
            break
        at = np.zeros_like(at)
        at[:, some] = moved
    return best


def _relaxed(prospect: Prospect, seeds: int) -> _Relaxed:
    count = jnp.arange(seeds)[:, None]
    told = prospect.information(count + 1) - prospect.information(count)
    left = jnp.maximum(prospect.limit - count, 0.0)
    most = jnp.where(count < seeds - 1, jnp.minimum(left, 1.0), left)
    return _Relaxed(told, most, jnp.broadcast_to(prospect.cost, told.shape))


def _covariance_at(prospect: Prospect, told: Any) -> Any:
    """Covariance when each candidate has told so much, shape (draws, p, p)."""

    def one(_: None, J: Any) -> tuple[None, Any]:
        total = jnp.matmul(told * J, J.T, precision="highest") + jnp.linalg.inv(prospect.prior)
        return None, jnp.linalg.inv(total)

    return jax.lax.scan(one, None, prospect.jacobian)[1]


def _slopes(prospect: Prospect, covariance: Any) -> Any:
    """Derivative of the criterion by the information of each candidate, with a minus sign."""
    factor = 0.5 if prospect.logs else 1.0
    return factor * mean_over_draws(prospect, covariance, lambda _, toward: toward)


@jax.jit
def _tangent(prospect: Prospect, at: Any, most: Any) -> tuple[Any, Any, Any]:
    """Slopes at some numbers of seeds, those where the tangent is least, and its value there."""
    relaxed = _relaxed(prospect, at.shape[0])
    covariance = _covariance_at(prospect, jnp.sum(relaxed.told * at, axis=0))
    slope = relaxed.told * _slopes(prospect, covariance)
    corner, highest = _knapsack(relaxed, slope, most)
    return slope, corner, criterion(prospect, covariance) + jnp.sum(slope * at) - highest


@jax.jit
def _descended(prospect: Prospect, at: Any, most: Any) -> Any:
    """Numbers of a lower criterion: steps of size 2 / (k + k0) toward knapsack corners."""
    relaxed = _relaxed(prospect, at.shape[0])

    def step(k: Any, at: Any) -> Any:
        covariance = _covariance_at(prospect, jnp.sum(relaxed.told * at, axis=0))
        corner = _knapsack(relaxed, relaxed.told * _slopes(prospect, covariance), most)[0]
        return at + 2 / (k + _SLOW_START) * (corner - at)

    return jax.lax.fori_loop(0, _DESCENTS, step, at)


def _knapsack(relaxed: _Relaxed, slope: Any, most: Any) -> tuple[Any, Any]:
    """Numbers within budget and limits of about the greatest total slope, and a bound on it.

    A run has a price: whatever the price, the most that runs can be worth at it, plus the price of
    all runs allowed, is a bound. Bisection finds the price at which they use them up.
    """
    priced = functools.partial(_priced, relaxed, slope, most)

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


def _priced(relaxed: _Relaxed, slope: Any, most: Any, price: Any) -> tuple[Any, Any]:
    """The fractional knapsack if every run has a price, and the bound that follows."""
    worth, cost = jnp.ravel(jnp.maximum(slope - price, 0.0)), jnp.ravel(relaxed.cost)
    order = jnp.argsort(-worth / cost)
    whole = jnp.where(worth > 0, jnp.ravel(relaxed.most) * cost, 0.0)[order]
    left = jnp.clip(1 + ROOM - (jnp.cumsum(whole) - whole), 0.0, whole)
    times = jnp.zeros_like(cost).at[order].set(left / cost[order])
    return times.reshape(slope.shape), price * most + jnp.sum(worth * times)
