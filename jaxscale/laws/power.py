"""Power laws in one input: the learning curve with and without a floor."""

from typing import Any

import jax.numpy as jnp

from jaxscale._law import law
from jaxscale._param import positive, real
from jaxscale.laws._power import power

_HESTNESS = "Hestness et al. 2017, arXiv 1712.00409, section 2"
_SCALE = {"x": "any measure of scale: parameters, tokens, FLOPs, images"}


@law(
    family="power",
    source=_HESTNESS,
    evidence="formula read in the paper",
    inputs=_SCALE,
    A=positive(0.3, 1.0, unit="loss * x**alpha"),
    alpha=real(0.02, 1.0),
)
def power_law(x: Any, *, A: Any, alpha: Any) -> Any:
    """L(x) = A / x^alpha

    A straight line in log-log; `scale_for_loss` inverts it.
    Test vector: Hestness word LM, 11.9 m^-0.066 at m = 1e8 gives 3.528149354.
    """
    return A * power(x, -alpha)


@law(
    family="power",
    source=_HESTNESS,
    evidence="formula read in the paper",
    inputs=_SCALE,
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.3, 1.0, unit="loss * x**alpha"),
    alpha=real(0.1, 1.2),
)
def power_law_offset(x: Any, *, E: Any, A: Any, alpha: Any) -> Any:
    """L(x) = E + A / x^alpha

    `E` is the irreducible loss, reached as `x` grows without bound.
    Henighan et al. 2020 (arXiv 2010.14701) write it L_inf + (x0 / x)^alpha: A = x0^alpha.
    """
    return E + A * power(x, -alpha)


def scale_for_loss(loss: Any, *, A: Any, alpha: Any, E: Any = 0.0) -> Any:
    """x = (A / (L - E))^(1 / alpha)

    Data, parameters or compute at which `power_law` or `power_law_offset` reaches a loss; infinite
    at or below the floor. Shapes broadcast.

    Source: Hestness et al. 2017, arXiv 1712.00409; Henighan et al. 2020, arXiv 2010.14701.
    """
    left = jnp.asarray(loss) - E
    reached = left > 0
    x = jnp.exp((jnp.log(A) - jnp.log(jnp.where(reached, left, 1.0))) / alpha)
    return jnp.where(reached, x, jnp.inf)
