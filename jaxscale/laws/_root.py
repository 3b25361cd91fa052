"""Roots of scalar equations that can be differentiated, for laws that are implicit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_HALVINGS = {4: 32, 8: 64}  # by the size of a number in bytes


def root(f: Callable[..., Any], low: Any, high: Any, *args: Any) -> Any:
    """x with f(x, *args) = 0 between ``low`` and ``high``, where f changes its sign once.

    Bisection finds it, without derivatives; two Newton steps then carry the first and second
    derivatives by the arguments, as the implicit function theorem gives them. If f does not change
    its sign, the result is the end that is nearer to zero, moved by those steps.

    Args:
        f: a scalar function, smooth at the root and not flat there.
        low, high: ends of the search, which carry no derivative.
        *args: whatever f depends on, trees of numbers; the root is differentiable by them.
    """
    frozen = jax.lax.stop_gradient(args)
    dtype = jnp.result_type(0.0, low, high, *jax.tree.leaves(args))
    ends = [
        jnp.asarray(end, dtype) for end in jnp.broadcast_arrays(*jax.lax.stop_gradient((low, high)))
    ]
    below = jnp.sign(f(ends[0], *frozen))

    def halve(_: int, ends: tuple[Any, Any]) -> tuple[Any, Any]:
        middle = 0.5 * (ends[0] + ends[1])
        left = jnp.sign(f(middle, *frozen)) == below
        return jnp.where(left, middle, ends[0]), jnp.where(left, ends[1], middle)

    count = _HALVINGS[dtype.itemsize]
    first, last = jax.lax.fori_loop(0, count, halve, (ends[0], ends[1]))
    x = jax.lax.stop_gradient(0.5 * (first + last))
    for _ in range(2):
        slope = jax.grad(f)(x, *args)
        x = x - f(x, *args) / slope
    return x
