"""Laws in parameters and tokens that add or couple two power terms."""

from typing import Any

import jax.numpy as jnp

from jaxscale._law import law
from jaxscale._param import positive, real
from jaxscale.laws._power import power


def optimal_ratio(A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    """G = (alpha A / (beta B))^(1 / (alpha + beta)), which fixes N* = G (C/6)^(beta/(alpha+beta)).

    Source: Hoffmann et al. 2022, arXiv 2203.15556, equation 4.
    """
    return jnp.exp((jnp.log(alpha * A) - jnp.log(beta * B)) / (alpha + beta))


def _optimum(C: Any, *, A: Any, B: Any, alpha: Any, beta: Any, **_: Any) -> Any:
    return optimal_ratio(A, B, alpha, beta) * power(C / 6, beta / (alpha + beta))


def _brandfonbrener_optimum(C: Any, *, A: Any, B: Any, alpha: Any, beta: Any, **_: Any) -> Any:
    inner = alpha / beta
    return _optimum(C, A=power(A, inner), B=B, alpha=inner, beta=1.0)


_EXPONENTS = {
    "a": lambda alpha, beta, **_: beta / (alpha + beta),
    "b": lambda alpha, beta, **_: alpha / (alpha + beta),
}


@law(
    family="chinchilla",
    source="Hoffmann et al. 2022, arXiv 2203.15556, equation 2",
    evidence="formula read in the paper and in code; coefficients re-fitted",
    optimum=_optimum,
    derived=_EXPONENTS,
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.3, 1.0, unit="loss * N**alpha"),
    B=positive(0.3, 1.0, unit="loss * D**beta"),
    alpha=real(0.1, 1.0),
    beta=real(0.1, 1.0),
)
def chinchilla(N: Any, D: Any, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    """L(N, D) = E + A / N^alpha + B / D^beta

    N: parameters including embeddings; D: training tokens; L: nats per token.
    The optimum under C = 6 N D is closed: N* = G (C/6)^a with a = beta / (alpha + beta).
    Test vector: Epoch coefficients at (1e9, 2e10) give 2.530050324.
    """
    return E + A * power(N, -alpha) + B * power(D, -beta)


@law(
    family="chinchilla",
    source="Busbridge et al. 2025, arXiv 2502.08606, supervised law",
    evidence="formula and coefficients read in the paper",
    optimum=_optimum,
    derived=_EXPONENTS,
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.3, 1.0, unit="loss**(1/gamma) * N**alpha"),
    B=positive(0.3, 1.0, unit="loss**(1/gamma) * D**beta"),
    alpha=real(0.1, 1.0),
    beta=real(0.1, 1.0),
    gamma=positive(0.3, 1.5),
)
def coupled_power(
    N: Any, D: Any, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, gamma: Any
) -> Any:
    """L(N, D) = E + (A / N^alpha + B / D^beta)^gamma

    gamma = 1 is `chinchilla`; beta = 1 is `brandfonbrener`; E = 0 and beta = 1 is `kaplan_nd`.
    The outer power is monotone, so the optimal allocation does not depend on gamma.
    E and gamma trade against each other. Test vector: Busbridge at (1e9, 2e10), 2.374692248.
    """
    return E + power(A * power(N, -alpha) + B * power(D, -beta), gamma)


@law(
    family="chinchilla",
    source="Brandfonbrener et al. 2024, arXiv 2411.12925",
    evidence="formula and coefficients read in the authors' code",
    optimum=_brandfonbrener_optimum,
    derived=_EXPONENTS,
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.1, 1.0, unit="loss**(1/alpha) * N"),
    B=positive(0.1, 1.0, unit="loss**(1/beta) * D"),
    alpha=positive(0.1, 1.0),
    beta=positive(0.1, 1.0),
)
def brandfonbrener(N: Any, D: Any, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    """L(N, D) = E + ((A / N)^(alpha / beta) + B / D)^beta

    `coupled_power` with an inner D exponent of one; with E = 0 it is `kaplan_nd`.
    Here alpha and beta are the outer exponents: L(N, inf) = E + (A / N)^alpha.
    Test vector: SmolLM corpus coefficients at (1e9, 2e10), 1.954468647.
    """
    return E + power(power(A / N, alpha / beta) + B / D, beta)
