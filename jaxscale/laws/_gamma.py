"""Ratios of gamma functions, which keep their digits where each of the two is huge."""

from typing import Any

import jax.numpy as jnp

_SHIFT = 10  # from here on five terms of Stirling's series give 14 digits
# Coefficients of 1/x, 1/x^3, ... in log Gamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2).
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)


def _remainder(x: Any) -> Any:
    inverse = 1 / x
    total = jnp.zeros_like(inverse)
    for coefficient in reversed(_STIRLING):
        total = total * inverse * inverse + coefficient
    return total * inverse


def log_gamma_ratio(x: Any, d: Any) -> Any:
    """log(Gamma(x + d) / Gamma(x)) for x > 0 and x + d > 0.

    Ten steps of Gamma(x + 1) = x Gamma(x), and then Stirling's series for the ratio itself. The
    difference of two log gammas of 1e5 would lose five digits, in single precision nearly all; and
    the derivatives of this are elementary.
    """
    x, d = jnp.broadcast_arrays(*(jnp.asarray(z) for z in (x, d)))
    y = x + _SHIFT
    series = (y - 0.5) * jnp.log1p(d / y) + d * jnp.log(y + d) - d
    series = series + _remainder(y + d) - _remainder(y)
    steps = jnp.arange(_SHIFT)
    return series - jnp.log1p(d[..., None] / (x[..., None] + steps)).sum(-1)
