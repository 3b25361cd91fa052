"""The one building block that all power laws share."""

from typing import Any

import jax.numpy as jnp


def power(x: Any, exponent: Any) -> Any:
    """``x**exponent`` for ``x > 0``, as ``exp(exponent * log x)``.

    ``log x`` depends on the run only, so over many parameter sets it is computed once; XLA's
    own ``pow`` costs about four times as much and its derivative at ``x = 0`` is NaN.
    """
    return jnp.exp(exponent * jnp.log(x))
