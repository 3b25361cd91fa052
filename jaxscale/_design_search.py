"""Choose runs under a budget: what each candidate tells, greedy search and exchange.

A run at candidate c adds ``w J_c J_c'`` to the information about the parameters, at every draw of
them. Everything here knows candidates by number. Covariances are updated by rank-one steps; sums
over the draws are scanned, so that one draw's Jacobian of all candidates stays in cache.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

_GAIN = 1e-14  # of a criterion of order one
ROOM = 1e-12  # of the budget, for round-off
_BETTER = 1e-10
_POWERS = (1.0, 0.5, 0.0)
STEPS = 20  # of a search, at most
_TRIED = 16
_MOST_EXACT = 20_000
_EXACT_CHUNK = 512


class Prospect(eqx.Module):
    """What every candidate would tell, at every draw of the parameters.

    Attributes:
        jacobian: derivative of a run's residual, shape (draws, p, candidates).
        prior: covariance of the parameters before the new runs, shape (p, p).
        aims: derivative of the targets, shape (draws, targets, p); None: all the parameters.
        unit: factor of each target's variance in the criterion "c", shape (targets,).
        cost: cost of one run as a share of the budget, shape (candidates,).
        run, cell: variance of a run of its own, and of what the runs of a cell share, each
            (candidates,).
        before: how often the cell has been run already, shape (candidates,).
        limit: how often it may be run now, shape (candidates,).
        logs: whether the criterion is the log determinant of the targets' covariance (half of it:
            nats) instead of the sum of their variances.
    """

    jacobian: Any
    prior: Any
    aims: Any
    unit: Any
    cost: Any
    run: Any
    cell: Any
    before: Any
    limit: Any
    logs: bool = eqx.field(static=True)

    def information(self, times: Any) -> Any:
        """``1 / (cell + run / n)`` for n runs in a cell, those of before among them."""
        total = self.before + times
        return total / (self.run + total * self.cell)

    def of(self, which: Any) -> "Prospect":
        """The same with some of the candidates."""
        return Prospect(
            self.jacobian[..., which], self.prior, self.aims, self.unit, self.cost[which],
            self.run[which], self.cell[which], self.before[which], self.limit[which], self.logs,
        )  # fmt: skip


class Chosen(NamedTuple):
    """Times that each candidate is run, (candidates,), and the criterion: the lower the better."""

    times: np.ndarray
    value: float


def rank_one(covariance: Any, direction: Any, information: Any) -> Any:
    """``(S^-1 + w j j')^-1 = S - w S j j' S / (1 + w j' S j)`` at every draw.

    Args:
        covariance: shape (draws, p, p).
        direction: shape (draws, p).
        information: w, shape ().
    """
    moved = jnp.einsum("sij,sj->si", covariance, direction, precision="highest")
    share = information / (1 + information * jnp.sum(moved * direction, axis=1))
    return covariance - share[:, None, None] * moved[:, :, None] * moved[:, None, :]


def _before(prospect: Prospect) -> Any:
    """Covariance before any new run, shape (draws, p, p)."""
    draws = prospect.jacobian.shape[0]
    return jnp.broadcast_to(prospect.prior, (draws, *prospect.prior.shape))


def covariances(prospect: Prospect, times: Any, slots: int) -> Any:
    """Covariance of the parameters after some runs, shape (draws, p, p).

    Args:
        prospect: the candidates.
        times: how often each is run, shape (candidates,).
        slots: at least the number of candidates that are run.
    """
    which = jnp.nonzero(times > 0, size=slots, fill_value=0)[0]
    real = jnp.arange(slots) < jnp.sum(times > 0)
    told = prospect.information(times) - prospect.information(jnp.zeros_like(times))

    def step(covariance: Any, part: Any) -> tuple[Any, None]:
        i, information = part
        return rank_one(covariance, prospect.jacobian[:, :, i], information), None

    return jax.lax.scan(step, _before(prospect), (which, jnp.where(real, told[which], 0.0)))[0]


def target_covariance(aims: Any, covariance: Any) -> Any:
    """Covariance of the targets at every draw, shape (draws, targets, targets)."""
    return jnp.einsum("ski,sij,slj->skl", aims, covariance, aims, precision="highest")


def criterion(prospect: Prospect, covariance: Any) -> Any:
    """Sum of the targets' variances in their units, or half their log determinant; mean of draws"""
    if prospect.aims is None:
        return 0.5 * jnp.mean(jnp.linalg.slogdet(covariance)[1])
    spread = target_covariance(prospect.aims, covariance)
    if prospect.logs:
        return 0.5 * jnp.mean(jnp.linalg.slogdet(spread)[1])
    return jnp.mean(jnp.einsum("k,skk->s", prospect.unit, spread))


def _toward(prospect: Prospect, covariance: Any) -> Any:
    """Rows a of which ``sum (a j)^2`` is what a run tells about the targets, (draws, rows, p).

    None where that is ``j' S j``: for all the parameters.
    """
    if prospect.aims is None:
        return None
    aims = jnp.einsum("ski,sij->skj", prospect.aims, covariance, precision="highest")
    if not prospect.logs:
        return jnp.sqrt(prospect.unit)[:, None] * aims
    root = jnp.linalg.cholesky(target_covariance(prospect.aims, covariance))
    return jnp.linalg.solve(root, aims)


def mean_over_draws(prospect: Prospect, covariance: Any, told: Callable[[Any, Any], Any]) -> Any:
    """Mean over the draws of ``told(j' S j, sum (a j)^2)``, shape (candidates,)."""
    draws, p, candidates = prospect.jacobian.shape

    def one(total: Any, part: Any) -> tuple[Any, None]:
        J, S, rows = part
        moved = [sum(S[i, j] * J[j] for j in range(p)) for i in range(p)]
        spread: Any = sum(moved[i] * J[i] for i in range(p))
        if rows is None:
            return total + told(spread, spread), None
        toward: Any = sum(sum(row[i] * J[i] for i in range(p)) ** 2 for row in rows)
        return total + told(spread, toward), None

    parts = (prospect.jacobian, covariance, _toward(prospect, covariance))
    zero = jnp.zeros(candidates, prospect.jacobian.dtype)
    return jax.lax.scan(one, zero, parts)[0] / draws


def gains(prospect: Prospect, covariance: Any, information: Any) -> Any:
    """By how much the criterion falls if each candidate adds its information, (candidates,)."""

    def told(spread: Any, toward: Any) -> Any:
        moved = information / (1 + information * spread) * toward
        return -0.5 * jnp.log1p(-jnp.minimum(moved, 1 - ROOM)) if prospect.logs else moved

    return mean_over_draws(prospect, covariance, told)


def _fill(prospect: Prospect, covariance: Any, times: Any, power: Any, most: Any) -> Any:
    """Add the run of highest gain / cost^power until none can be afforded: greedy search."""

    def going(carry: Any) -> Any:
        return carry[-1]

    def step(carry: Any) -> Any:
        covariance, times, _ = carry
        left = 1 + ROOM - jnp.sum(times * prospect.cost)
        allowed = (times < prospect.limit) & (prospect.cost <= left) & (jnp.sum(times) < most)
        told = prospect.information(times + 1) - prospect.information(times)
        gain = jnp.where(allowed, gains(prospect, covariance, told), -jnp.inf)
        best = jnp.argmax(gain / prospect.cost**power)
        good = gain[best] > _GAIN
        information = jnp.where(good, told[best], 0.0)
        covariance = rank_one(covariance, prospect.jacobian[:, :, best], information)
        return covariance, times.at[best].add(good.astype(times.dtype)), good

    return jax.lax.while_loop(going, step, (covariance, times, jnp.asarray(True)))[:2]


@functools.partial(jax.jit, static_argnames="slots")
def _refilled(
    prospect: Prospect, times: Any, powers: Any, most: Any, slots: int
) -> tuple[Any, Any]:
    """The best of several greedy completions of a choice: by gain / cost^power for each power."""
    covariance = covariances(prospect, times, slots)

    def one(power: Any) -> tuple[Any, Any]:
        after, more = _fill(prospect, covariance, times, power, most)
        return more, criterion(prospect, after)

    found, values = jax.lax.map(one, powers)
    best = jnp.argmin(values)
    return found[best], values[best]


@functools.partial(jax.jit, static_argnames="slots")
def _changes(prospect: Prospect, times: Any, step: Any, slots: int) -> Any:
    """By how much the criterion falls if each candidate is run once more, or (step -1) less."""
    changed = jnp.maximum(times + step, 0)
    told = prospect.information(changed) - prospect.information(times)
    return gains(prospect, covariances(prospect, times, slots), told)


def first_gains(prospect: Prospect, most: int) -> np.ndarray:
    """By how much the criterion falls if one candidate alone is run once, (candidates,)."""
    return np.asarray(_changes(prospect, _none(prospect), 1, slots_of(prospect, most)))


def greedy(prospect: Prospect, most: int) -> Chosen:
    """Runs of highest gain per cost, one after the other, as long as they can be afforded."""
    return _completed(prospect, _none(prospect), most, _POWERS[:1])


def _completed(
    prospect: Prospect, times: np.ndarray, most: int, powers: tuple[float, ...] = _POWERS
) -> Chosen:
    slots = slots_of(prospect, most)
    found, value = _refilled(prospect, times, jnp.asarray(powers), most, slots)
    return Chosen(np.asarray(found), float(value))


def exchange(prospect: Prospect, most: int, tick: Callable[[int], None] = lambda n: None) -> Chosen:
    """The best of three greedy choices, improved by exchanges until none helps.

    The greedy choices go by gain per cost, by gain, and half way. An exchange takes a run away and
    refills, or adds one of the most telling candidates and takes away what tells least per cost.
    """
    best = _completed(prospect, _none(prospect), most)
    tick(1)
    for _ in range(STEPS - 1):
        before = best
        for i in np.flatnonzero(before.times):
            if best.times[i]:
                fewer = best.times.copy()
                fewer[i] -= 1
                best = _better(best, _completed(prospect, fewer, most))
        gain = np.asarray(_changes(prospect, best.times, 1, slots_of(prospect, most)))
        for j in np.argsort(-gain)[:_TRIED]:
            if best.times[j] < prospect.limit[j]:
                best = _better(best, _completed(prospect, _with(prospect, best, j, most), most))
        tick(1)
        if best is before:
            break
    return best


def _better(best: Chosen, trial: Chosen) -> Chosen:
    """The trial only if it is better by more than round-off, so that exchanges come to an end."""
    lower = trial.value < best.value - _BETTER * max(abs(best.value), 1e-3)
    return trial if lower else best


def _with(prospect: Prospect, chosen: Chosen, j: int, most: int) -> np.ndarray:
    """One run of candidate j more; the runs that tell least per cost make room for it."""
    cost, times = np.asarray(prospect.cost), chosen.times.copy()
    times[j] += 1
    loss = -np.asarray(_changes(prospect, chosen.times, -1, slots_of(prospect, most))) / cost
    others = [i for i in np.argsort(loss) if chosen.times[i] and i != j]
    for i in others:
        while times[i] and (times @ cost > 1 + ROOM or times.sum() > most):
            times[i] -= 1
    return times if times @ cost <= 1 + ROOM and times.sum() <= most else chosen.times


def countable(prospect: Prospect) -> bool:
    """Whether all choices can be looked at one by one."""
    return float(np.log1p(_highest(prospect)).sum()) <= math.log(_MOST_EXACT)


def _highest(prospect: Prospect) -> np.ndarray:
    affordable = np.floor((1 + ROOM) / np.asarray(prospect.cost))
    return np.minimum(np.asarray(prospect.limit), affordable).astype(int)


def exact(prospect: Prospect, most: int) -> Chosen:
    """The best of all choices, one by one."""
    which = np.flatnonzero(_highest(prospect))
    best = _exact(prospect.of(which), most)
    times = _none(prospect)
    times[which] = best.times
    return Chosen(times, best.value)


def _exact(prospect: Prospect, most: int) -> Chosen:
    highest, cost = _highest(prospect), np.asarray(prospect.cost)
    every = np.indices(tuple(int(x) + 1 for x in highest)).reshape(len(highest), -1).T
    every = every[(every @ cost <= 1 + ROOM) & (every.sum(axis=1) <= most)]
    size = _EXACT_CHUNK
    slots = slots_of(prospect, most)
    best = Chosen(every[0], np.inf)
    for first in range(0, len(every), size):
        part = every[first : first + size]
        padded = np.pad(part, ((0, size - len(part)), (0, 0)), mode="edge")
        values = np.asarray(_values(prospect, jnp.asarray(padded), slots))
        if values.min() < best.value:
            best = Chosen(padded[values.argmin()], float(values.min()))
    return best


@functools.partial(jax.jit, static_argnames="slots")
def _values(prospect: Prospect, choices: Any, slots: int) -> Any:
    return jax.lax.map(
        lambda times: criterion(prospect, covariances(prospect, times, slots)), choices
    )


def _none(prospect: Prospect) -> np.ndarray:
    return np.zeros(len(prospect.cost), int)


def slots_of(prospect: Prospect, most: int) -> int:
    """How many candidates can be run at all: the compiled size of what is chosen."""
    return min(len(prospect.cost), most)


@jax.jit
def path(prospect: Prospect, times: Any, aims: Any) -> tuple[Any, Any]:
    """The chosen candidates in order of gain per cost, and the variance of targets after each.

    Args:
        prospect: the chosen candidates, and perhaps others.
        times: how often each is run; those of 0 come last.
        aims: derivative of the targets to report, shape (draws, targets, p).

    Returns:
        Numbers of the candidates, shape (candidates,), and variances, mean of the draws, shape
        (1 + candidates, targets); the first row is before any run.
    """
    told = prospect.information(times) - prospect.information(jnp.zeros_like(times))

    def variance(covariance: Any) -> Any:
        return jnp.mean(jnp.einsum("skk->sk", target_covariance(aims, covariance)), axis=0)

    def step(carry: Any, _: Any) -> tuple[Any, Any]:
        covariance, left = carry
        gain = gains(prospect, covariance, told) / (jnp.maximum(times, 1) * prospect.cost)
        best = jnp.argmax(jnp.where(left, gain, -jnp.inf))
        information = jnp.where(left[best], told[best], 0.0)
        covariance = rank_one(covariance, prospect.jacobian[:, :, best], information)
        return (covariance, left.at[best].set(False)), (best, variance(covariance))

    start = _before(prospect)
    _, (order, after) = jax.lax.scan(step, (start, times > 0), None, length=len(prospect.cost))
    return order, jnp.concatenate([variance(start)[None], after])
