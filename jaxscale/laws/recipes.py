"""Which recipe is best at a scale: where two power laws cross, and how much data to keep."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxscale.laws._root import root
from jaxscale.laws.power import power_law_offset


def _gap(log_x: Any, first: Mapping[str, Any], second: Mapping[str, Any]) -> Any:
    x = jnp.exp(log_x)
    return power_law_offset.fn(x, **first) - power_law_offset.fn(x, **second)


def crossover(
    first: Mapping[str, Any], second: Mapping[str, Any], *, low: float, high: float
) -> Any:
    """x with E1 + A1 / x^alpha1 = E2 + A2 / x^alpha2, for low < x < high

    The scale from which on the recipe that loses at small scale wins. NaN where the two do not
    change places between `low` and `high`. With arrays of draws, the share of NaN is the
    probability that there is no crossing in that range. Differentiable by all parameters.

    Args:
        first, second: parameters of `power_law_offset` by name, numbers or arrays that broadcast;
            without ``E``, of `power_law`.
        low, high: range that is searched; there should be one crossing in it.

    Source: the crossover of Xiao 2024, Rethinking Conventional Wisdom in Machine Learning, whose
    abstract describes it; solved here.

    Example:
        >>> crossover({"A": 12.0, "alpha": 0.07}, {"A": 20.0, "alpha": 0.1}, low=1e6, high=1e12)
    """
    names = power_law_offset.names
    both = [jnp.asarray({"E": 0.0, **p}[name], float) for p in (first, second) for name in names]

    def one(*values: Any) -> Any:
        pair = (dict(zip(names, half, strict=True)) for half in (values[:3], values[3:]))
        laws = tuple(pair)
        ends = jnp.log(jnp.asarray([low, high], float))
        changes = jnp.sign(_gap(ends[0], *laws)) * jnp.sign(_gap(ends[1], *laws)) < 0
        return jnp.where(changes, jnp.exp(root(_gap, ends[0], ends[1], *laws)), jnp.nan)

    return jnp.vectorize(one)(*both)


def best_share(D: Any, *, share: Any, E: Any, A: Any, alpha: Any) -> tuple[Any, Any]:
    """min over i of E_i + A_i / (f_i D)^alpha_i, and the f_i that reaches it

    Error of the best pruning of D examples, from one power law of the examples that are left for
    each share f_i kept. With a good pruning metric less is kept the more there is, and the
    envelope falls faster than any of the laws.

    Args:
        D: examples before pruning, any shape.
        share: shares f_i, shape (shares,).
        E, A, alpha: parameters of `power_law_offset` at each share, same shape or numbers.

    Returns:
        Lowest error and the share kept, each of the shape of D.

    Source: Sorscher et al. 2022, arXiv 2206.14486, which has no coefficients.
    """
    share = jnp.asarray(share, float)
    kept = share * jnp.asarray(D, float)[..., None]
    errors = power_law_offset(kept, E=E, A=A, alpha=alpha)
    best = jnp.argmin(errors, axis=-1)
    return jnp.min(errors, axis=-1), share[best]
