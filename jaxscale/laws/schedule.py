"""Learning-rate schedules as arrays, and the areas under them that laws of schedules use.

A schedule is an array: entry ``i`` is the learning rate of update ``i + 1``, so after ``t``
updates the first ``t`` entries have been used. Schedules are made in NumPy, in double precision.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._errors import LawError

Cooldown = Literal["exponential", "linear", "1-sqrt"]

# Rates at a share p of the cooldown, for peak and final rate.
_COOLDOWNS: dict[str, Callable[[Any, float, float], Any]] = {
    "exponential": lambda p, peak, end: peak ** (1 - p) * end**p,
    "linear": lambda p, peak, end: peak * (1 - p) + end * p,
    "1-sqrt": lambda p, peak, end: end + (peak - end) * (1 - np.sqrt(p)),
}


def constant(steps: int, peak: float, *, warmup: int = 0) -> np.ndarray:
    """eta(t) = peak, after a linear warm-up.

    Args:
        steps: number of updates, with the warm-up.
        peak: learning rate.
        warmup: updates over which the rate rises linearly from zero; the last has the peak.

    Returns:
        Learning rates, shape (steps,).

    Raises:
        LawError: if the parts are not longer than zero or a rate is not positive.

    Example:
        >>> constant(24_000, 3e-4, warmup=2_160)
    """
    return stepped(steps, (peak,), warmup=warmup)


def stepped(
    steps: int, rates: Sequence[float], *, at: Sequence[int] = (), warmup: int = 0
) -> np.ndarray:
    """eta(t) = rates[j] for at[j - 1] < t <= at[j]: constant between sudden changes.

    Args:
        steps: number of updates, with the warm-up.
        rates: the learning rates in turn.
        at: updates after which the next rate begins, increasing; one fewer than the rates.
        warmup: updates over which the rate rises linearly from zero to the first.

    Returns:
        Learning rates, shape (steps,).

    Raises:
        LawError: if the parts are not longer than zero or a rate is not positive.

    Example:
        >>> stepped(16_000, (3e-4, 9e-5), at=(8_000,), warmup=2_160)
    """
    ends = [warmup, *at, steps]
    if len(rates) != len(ends) - 1:
        raise LawError(f"{len(rates)} learning rates need {len(rates) - 1} changes, got {len(at)}")
    _check(ends, rates)
    parts = [np.full(b - a, rate) for a, b, rate in zip(ends, ends[1:], rates, strict=False)]
    return np.concatenate([np.linspace(0.0, rates[0], warmup), *parts])


def cosine(steps: int, peak: float, *, end: float, warmup: int = 0) -> np.ndarray:
    """eta(p) = end + (peak - end) (1 + cos(pi p)) / 2, p from 0 to 1 after the warm-up.

    Args:
        steps: number of updates, with the warm-up. p would be 1 at the update after the last.
        peak, end: highest and final learning rate; often end = peak / 10.
        warmup: updates over which the rate rises linearly from zero to the peak.

    Returns:
        Learning rates, shape (steps,).

    Raises:
        LawError: if the parts are not longer than zero, or not 0 <= end <= peak.

    Source: Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts.

    Example:
        >>> cosine(24_000, 3e-4, end=3e-5, warmup=2_160)
    """
    _check([warmup, steps], [peak], end)
    p = np.arange(steps - warmup) / (steps - warmup)
    falling = end + 0.5 * (peak - end) * (1 + np.cos(np.pi * p))
    return np.concatenate([np.linspace(0.0, peak, warmup), falling])


def wsd(
    steps: int,
    peak: float,
    *,
    end: float,
    cooldown: int,
    shape: Cooldown = "exponential",
    warmup: int = 0,
) -> np.ndarray:
    """eta(p) = peak, then peak^(1-p) end^p or another shape: warm-up, stable, decay.

    Args:
        steps: number of updates, with warm-up and cooldown.
        peak, end: learning rate before the cooldown, and the one it falls to.
        cooldown: number of updates in it; its share p would be 1 at the update after the last.
        shape: ``"exponential"``; ``"linear"``, peak (1 - p) + end p; or ``"1-sqrt"``,
            end + (peak - end) (1 - sqrt(p)).
        warmup: updates over which the rate rises linearly from zero to the peak.

    Returns:
        Learning rates, shape (steps,).

    Raises:
        LawError: if the parts are not longer than zero, not 0 <= end <= peak, or the shape is
            unknown or exponential towards zero.

    Source: Hu et al. 2024, arXiv 2404.06395; "1-sqrt" from Haegele et al. 2024, arXiv 2405.18392.

    Example:
        >>> wsd(24_000, 3e-4, end=3e-5, cooldown=4_000, warmup=2_160)
    """
    if shape not in _COOLDOWNS:
        raise LawError(f"a cooldown is one of {', '.join(_COOLDOWNS)}, not {shape!r}")
    if shape == "exponential" and end <= 0:
        raise LawError("an exponential cooldown never reaches zero: give end > 0")
    _check([warmup, steps - cooldown, steps], [peak], end)
    falling = _COOLDOWNS[shape](np.arange(cooldown) / cooldown, peak, end)
    return np.concatenate([constant(steps - cooldown, peak, warmup=warmup), falling])


def _check(ends: Sequence[int], rates: Sequence[float], last: float = 0.0) -> None:
    if ends[0] < 0 or any(b <= a for a, b in itertools.pairwise(ends)):
        raise LawError(
            f"the parts of a schedule must end one after the other, these end at {list(ends)}"
        )
    if not min(rates) > 0 or not 0 <= last <= rates[0]:
        raise LawError(f"learning rates must be positive and end at or below {max(rates):g}")


def annealing_areas(rates: Any, *, decay: float = 0.999, warmup: int = 0) -> tuple[Any, Any]:
    """S1(t) = sum_{i<=t} eta_i, S2(t) = sum_{i<=t} m_i with m_i = decay m_{i-1} + eta_{i-1} - eta_i

    The inputs of the law `annealing`, after every update: the forward area S1, which drives the
    loss down, and the annealing area S2, by which falling rates bring it down further.

    Args:
        rates: learning rate of each update, shape (steps,). No change precedes the first.
        decay: forgetting factor lambda in [0, 1); the paper takes 0.99 to 0.999. It can be chosen
            by the fit, but one curve hardly determines it.
        warmup: the first updates, whose rising rates do not count in S2 (they would enter with
            the wrong sign). S1 counts them.

    Returns:
        S1 and S2, each of shape (steps,); entry ``t - 1`` is after ``t`` updates. Differentiable
        by the rates and by the decay.

    S2(t) also equals sum_{k<=t} (eta_{k-1} - eta_k) (1 - decay^(t-k+1)) / (1 - decay), so that
    updates at a zero rate go on lowering the predicted loss until S2 saturates.
    Test vector: 16,000 updates at 3e-4, then 8,000 at 3e-5, decay 0.999: S1 = 5.04,
    S2 = 0.26990978690722.

    Source: Tissue, Wang & Wang 2024, arXiv 2408.11029; the areas as in a reproduction of it.
    """
    rates = jnp.asarray(rates, float)
    kept = jnp.asarray(decay, rates.dtype)
    drops = jnp.concatenate([jnp.zeros_like(rates[:1]), rates[:-1] - rates[1:]])
    drops = jnp.where(jnp.arange(rates.shape[0]) < warmup, 0.0, drops)

    def joined(before: tuple[Any, Any], after: tuple[Any, Any]) -> tuple[Any, Any]:
        # Of maps m -> factor m + shift, so that the updates are scanned in parallel.
        return before[0] * after[0], before[1] * after[0] + after[1]

    _, momenta = jax.lax.associative_scan(joined, (jnp.full_like(drops, kept), drops))
    return jnp.cumsum(rates), jnp.cumsum(momenta)
