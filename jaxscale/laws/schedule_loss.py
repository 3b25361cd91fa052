"""Loss as a function of the learning-rate schedule: annealing areas, and the multi-power law."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._errors import LawError
from jaxscale._law import Input, Law, law
from jaxscale._param import positive
from jaxscale.laws._power import power

_LUO = "Luo et al. 2025, arXiv 2503.12811"
_AT_ONCE = 128  # changes of the learning rate that are in memory together


@law(
    family="schedule",
    source="Tissue, Wang & Wang 2024, arXiv 2408.11029",
    evidence="formula second-hand, from a reproduction; no coefficients",
    inputs={
        "S1": "sum of the learning rates of all updates",
        "S2": Input("annealing area, see schedule.annealing_areas", lower=-math.inf),
    },
    L0=positive(0.5, 1.0, unit="loss"),
    A=positive(0.05, 0.5, unit="loss * S1**alpha"),
    alpha=positive(0.2, 1.0),
    C=positive(0.003, 0.1, unit="loss"),
)
def annealing(S1: Any, S2: Any, *, L0: Any, A: Any, alpha: Any, C: Any) -> Any:
    """L(S1, S2) = L0 + A / S1^alpha - C S2

    S1, S2: areas of the schedule up to the step, from `schedule.annealing_areas`; S2 may be zero
    or negative. It is linear in S2, so a schedule optimized under it runs away: multiplying all
    rates always helps.
    """
    return L0 + A * power(S1, -alpha) - C * S2


class _Tables(NamedTuple):
    """Schedules side by side, in rows of equal length.

    rates, logs: learning rate of update i + 1 and its log, (schedules, updates).
    areas: sum of the first i rates, (schedules, updates + 1).
    first, end: groups of changes, first to end - 1 each, (schedules, groups). Change i is that from
        rates[i - 1] to rates[i].
    updates: length of each schedule.
    """

    rates: np.ndarray
    logs: np.ndarray
    areas: np.ndarray
    first: np.ndarray
    end: np.ndarray
    updates: np.ndarray


def multi_power(schedules: Mapping[str, Any] | Sequence[Any], *, nodes: int | None = None) -> Law:
    """L(t) = L0 + A S1(t)^-alpha - B sum_{k<=t} (eta_{k-1} - eta_k) G(eta_k^-gamma S_k(t))

    with G(x) = 1 - (1 + C x)^-beta, the forward area S1(t) = sum_{i<=t} eta_i and that since a
    change, S_k(t) = sum_{k<=i<=t} eta_i. Every change of the rate counts, the rises of a warm-up
    too (as in the authors' code); before the first update there is no change.

    Args:
        schedules: learning rates of each update, one array per schedule (see `schedule.cosine` and
            its neighbors); positive from the second update on. A mapping is taken in its order.
        nodes: take neighboring small changes together, at most so many groups per schedule. A
            group acts from the middle of its updates, which makes an error below
            ``B sum_groups |change| (largest G - smallest G in the group)``; sudden changes stay
            alone. On cosine and warm-up-stable-decay schedules of 6,000 updates the largest error
            was 4.0e-4, 2.4e-4, 1.2e-4 and 4.7e-5 nats with 32, 64, 128 and 256 nodes. Fit with
            128 to 256, then evaluate with None: exact, in time proportional to the number of
            changes.

    Returns:
        A law of ``schedule``, the index of the schedule counted from 0, and ``step``, the number of
        updates made, counted from 1 (authors who number updates from 0: add one). It is NaN
        beyond the end of a schedule. Parameters: L0, A, alpha, B, C, beta, gamma, all positive,
        where rates are counted as given: A in loss * rate^alpha, B in loss / rate.
        Equal schedules and nodes give the same law, so that nothing is compiled twice.

    Test vector: 25M coefficients of `published`, 16,000 updates at 3e-4 and 8,000 at 3e-5, without
    warm-up: 3.175995895 after the last.

    Raises:
        LawError: if there is no schedule, a rate is not positive, or the rate goes up and down
            more often than there are nodes.

    Source: Luo et al. 2025, arXiv 2503.12811, and the authors' code.

    Example:
        >>> multi_power({"cosine": cosine(24_000, 3e-4, end=3e-5)}, nodes=128)
    """
    arrays = list(schedules.values()) if isinstance(schedules, Mapping) else list(schedules)
    rates = [np.asarray(array, float) for array in arrays]
    if not rates:
        raise LawError("the multi-power law needs at least one schedule")
    for i, array in enumerate(rates):
        if array.ndim != 1 or not array.size or not np.isfinite(array).all():
            raise LawError(f"schedule {i} is no list of finite learning rates")
        if array[0] < 0 or (array[1:] <= 0).any() or not array.any():
            raise LawError(
                f"schedule {i} has a learning rate at or below zero, for which the law is not "
                "defined; end at a small positive rate"
            )
    if nodes is not None and nodes < 1:
        raise LawError(f"nodes must be at least 1, got {nodes}")
    return _multi_power(tuple(array.tobytes() for array in rates), nodes)


@functools.lru_cache(maxsize=32)
def _multi_power(contents: tuple[bytes, ...], nodes: int | None) -> Law:
    rates = [np.frombuffer(content) for content in contents]
    tables = functools.cache(lambda: _tables(rates, nodes))  # only when the law is first used
    if nodes is not None:
        tables()  # complain at once
    longest = max(map(len, rates))
    peak = max(float(array.max()) for array in rates)
    count = len(rates)

    @law(
        name=f"multi_power_of_{count}",
        family="schedule",
        source=_LUO,
        evidence="formula and coefficients read in a copy of the authors' code",
        inputs={
            "schedule": Input("index of the schedule", upper=max(count - 1, 1), closed=True),
            "step": Input("updates made", lower=1, upper=max(longest, 2), closed=True),
        },
        L0=positive(0.5, 1.0, unit="loss"),
        A=positive(0.05, 0.5, unit="loss"),
        alpha=positive(0.3, 0.8),
        B=positive(0.01 / peak, 0.1 / peak, unit="loss"),
        C=positive(0.01, 3.0),
        beta=positive(0.2, 0.8),
        gamma=positive(0.4, 1.2),
    )
    def multi_power(
        schedule: Any,
        step: Any,
        *,
        L0: Any,
        A: Any,
        alpha: Any,
        B: Any,
        C: Any,
        beta: Any,
        gamma: Any,
    ) -> Any:
        """L = L0 + A S1^-alpha - B sum_k (eta_k-1 - eta_k) (1 - (1 + C S_k eta_k^-gamma)^-beta)"""
        own, t = jnp.asarray(schedule).astype("int32"), jnp.asarray(step).astype("int32")
        known = tables()
        defined = (own >= 0) & (own < count)
        own = jnp.clip(own, 0, count - 1)
        length = jnp.take(jnp.asarray(known.updates, "int32"), own)
        defined &= (t >= 1) & (t <= length)
        t = jnp.clip(t, 1, length)
        area = _at(known.areas, own, t)
        log_C = jnp.log(C)

        def add(total: Any, group: tuple[Any, Any]) -> tuple[Any, None]:
            change, log_rate, log_since = _changes(known, own, t, *group)
            # (1 + C x)^-beta with C x = exp(z), from logs: nothing overflows.
            z = log_C - gamma * log_rate + log_since
            acted = -jnp.expm1(-beta * jax.nn.softplus(z))
            return total + jnp.sum(change * acted), None

        first, end = (jnp.take(jnp.asarray(x), own, axis=0) for x in (known.first, known.end))
        start = jnp.zeros_like(area)
        if first.size <= _AT_ONCE:
            total, _ = add(start, (first, end))
        else:
            blocks = (first.reshape(-1, _AT_ONCE), end.reshape(-1, _AT_ONCE))
            total, _ = jax.lax.scan(add, start, blocks)
        return jnp.where(defined, L0 + A * power(area, -alpha) + B * total, jnp.nan)

    return multi_power


def _at(table: np.ndarray, row: Any, column: Any) -> Any:
    """Entry of a constant table in JAX's precision; of any number of columns."""
    return jnp.take(jnp.asarray(table.ravel(), float), row * table.shape[1] + column, mode="clip")


def _changes(known: _Tables, own: Any, t: Any, first: Any, end: Any) -> tuple[Any, Any, Any]:
    """Change of the rate, log rate and log area since, of each group after ``t`` updates.

    A group that is not over yet is taken up to ``t``; one that has not begun does not count.
    """
    begun = first < t
    end = jnp.minimum(end, t)
    change = _at(known.rates, own, end - 1) - _at(known.rates, own, first - 1)
    # The middle of the updates; between two of them, their mean.
    low, high = (first + end - 1) // 2, (first + end) // 2
    log_rate = 0.5 * (_at(known.logs, own, low) + _at(known.logs, own, high))
    before = 0.5 * (_at(known.areas, own, low) + _at(known.areas, own, high))
    since = jnp.where(begun, _at(known.areas, own, t) - before, 1.0)
    # In single precision, an area of one small rate may vanish in the difference.
    since = jnp.maximum(since, jnp.exp(log_rate))
    return jnp.where(begun, change, 0.0), log_rate, jnp.log(since)


def _tables(rates: Sequence[np.ndarray], nodes: int | None) -> _Tables:
    updates = np.array([len(array) for array in rates])
    longest = updates.max()
    same = np.stack([np.pad(array, (0, longest - len(array)), mode="edge") for array in rates])
    areas = np.concatenate([np.zeros((len(rates), 1)), np.cumsum(same, axis=1)], axis=1)
    with np.errstate(divide="ignore"):
        logs = np.where(same > 0, np.log(same), 0.0)  # a rate of zero precedes every change
    groups = [_groups(array, nodes) for array in rates]
    most = max(1, *(len(first) for first, _ in groups))
    most += -most % _AT_ONCE if most > _AT_ONCE else 0

    def filled(values: Sequence[np.ndarray], shift: int) -> np.ndarray:
        # A group that begins after the end never counts.
        return np.stack(
            [np.pad(x, (0, most - len(x)), constant_values=longest + shift) for x in values]
        ).astype("int32")

    first, end = zip(*groups, strict=True)
    return _Tables(same, logs, areas, filled(first, 0), filled(end, 1), updates)


def _groups(rates: np.ndarray, nodes: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Groups of neighboring changes of one sign: index of the first, and one past the last.

    Change ``i`` is that from ``rates[i - 1]`` to ``rates[i]``. Groups are equal in a mix of the
    change and the area that they cover, so that neither long plateaus nor large changes are cut
    coarsely; changes larger than a group's share stay alone.
    """
    steps = np.diff(rates)
    at = np.flatnonzero(steps)
    if nodes is None or at.size <= nodes:
        return at + 1, at + 2
    size = np.abs(steps)
    size, area = size / size.sum(), rates[1:] / rates[1:].sum()
    position = 0.5 * (np.cumsum(size) - 0.5 * size + np.cumsum(area))[at]
    turns = np.diff(np.sign(steps[at])) != 0
    parts = nodes
    while parts > 0:
        alone = size[at] > 1 / parts
        label = np.floor(position * parts)
        breaks = (np.diff(label) != 0) | turns | alone[1:] | alone[:-1]
        excess = 1 + int(breaks.sum()) - nodes
        if excess <= 0:
            begins = np.concatenate([[True], breaks])
            ends = np.concatenate([breaks, [True]])
            return at[begins] + 1, at[ends] + 2
        parts -= excess
    raise LawError(f"the learning rate goes up and down too often for {nodes} nodes")


@jax.jit
def final_loss(
    rates: Any, *, L0: Any, A: Any, alpha: Any, B: Any, C: Any, beta: Any, gamma: Any
) -> Any:
    """L(T) = L0 + A S1(T)^-alpha - B sum_k (eta_{k-1} - eta_k) G(eta_k^-gamma S_k(T))

    The multi-power law at the end of one schedule, differentiable by its learning rates.

    Args:
        rates: learning rate of each update, shape (steps,), positive from the second on.
        L0, A, alpha, B, C, beta, gamma: parameters of `multi_power`, scalars.

    Returns:
        The loss after the last update, in the unit of L0.

    Source: Luo et al. 2025, arXiv 2503.12811.

    Example:
        >>> final_loss(cosine(24_000, 3e-4, end=3e-5), **fit.params)
    """
    rates = jnp.asarray(rates, float)
    since = jnp.cumsum(rates[::-1])[::-1]
    z = jnp.log(C) - gamma * jnp.log(rates[1:]) + jnp.log(since[1:])
    acted = -jnp.expm1(-beta * jax.nn.softplus(z))
    return L0 + A * power(since[0], -alpha) + B * jnp.sum(jnp.diff(rates) * acted)
