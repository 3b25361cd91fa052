"""Value-based reinforcement learning: data and compute to reach a return, by updates per sample."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxscale._law import law
from jaxscale._param import positive
from jaxscale.laws._power import power
from jaxscale.laws._root import root

_RYBKIN = "Rybkin et al. 2025, arXiv 2502.04327"


@law(
    family="reinforcement",
    source=_RYBKIN,
    evidence="formula and coefficients read in the authors' code",
    inputs={"sigma": "gradient updates per environment step (UTD ratio)"},
    predicts="environment steps",
    D_min=positive(0.1, 1.0, unit="loss"),
    b=positive(0.1, 3.0, unit="sigma * loss**(1/a)"),
    a=positive(0.3, 1.5),
)
def data_to_return(sigma: Any, *, D_min: Any, b: Any, a: Any) -> Any:
    """D(sigma) = D_min + (b / sigma)^a

    D: environment steps until the return reaches a threshold; one law per threshold. The authors
    minimize squares of D itself: `js.Gaussian()`. A label in their code, D_min (1 + (sigma/b)^-a),
    is another parametrization, with b D_min^(-1/a) for b.
    """
    return D_min + power(b / sigma, a)


def compute_to_return(sigma: Any, *, data: Any, batch: Any, params: Any) -> Any:
    """C = 10 params sigma D B, in FLOPs

    Args:
        sigma: updates per environment step.
        data: D, environment steps, such as `data_to_return`.
        batch: B, samples per update.
        params: parameters of the network.

    Source: Rybkin et al. 2025, arXiv 2502.04327, authors' code.
    """
    return 10 * params * sigma * data * batch


def cheapest_ratio(
    step_price: Any,
    *,
    D_min: Any,
    b: Any,
    a: Any,
    batch_at_one: Any,
    batch_slope: Any,
    params: Any = 1.0,
) -> Any:
    """sigma* = argmin C(sigma) + step_price D(sigma), B(sigma) = batch_at_one sigma^batch_slope

    The sum is convex in log sigma, so there is one optimum. It exists if batch_slope > -1 and the
    price is positive. At no price the least compute is at the lowest sigma, unless
    a > 1 + batch_slope. Differentiable; everything broadcasts.

    Args:
        step_price: delta, price of an environment step in FLOPs.
        D_min, b, a: parameters of `data_to_return`.
        batch_at_one, batch_slope: best batch B at sigma = 1 and its exponent, which is negative.
        params: parameters of the network.

    Source: Rybkin et al. 2025, arXiv 2502.04327, budget F = C + delta D.
    """
    wide = 60.0  # in log sigma, far beyond anything that can be run

    def one(*args: Any) -> Any:
        return jnp.exp(root(_slope, -wide, wide, *args))

    return jnp.vectorize(one)(step_price, D_min, b, a, batch_at_one, batch_slope, params)


def _slope(log_sigma: Any, price: Any, D_min: Any, b: Any, a: Any, *batch: Any) -> Any:
    """d log cost / d log sigma"""
    batch_at_one, batch_slope, params = batch

    def log_cost(x: Any) -> Any:
        # In logs throughout: sigma^a spans exp(60 a).
        log_D = jnp.logaddexp(jnp.log(D_min), a * (jnp.log(b) - x))
        update = jnp.log(10 * params * batch_at_one) + (1 + batch_slope) * x
        return log_D + jnp.logaddexp(update, jnp.log(price))

    return jax.grad(log_cost)(log_sigma)
