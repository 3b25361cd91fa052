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


_SIZES = {"N": "parameters, counted as in the runs", "D": "training tokens"}
_EXPONENTS = {
    "a": lambda alpha, beta, **_: beta / (alpha + beta),
    "b": lambda alpha, beta, **_: alpha / (alpha + beta),
}


@law(
    family="chinchilla",
    source="Hoffmann et al. 2022, arXiv 2203.15556, equation 2",
    evidence="formula read in the paper and in code; coefficients re-fitted",
    inputs={"N": "parameters with embeddings", "D": "training tokens"},
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
    inputs=_SIZES,
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
    inputs=_SIZES,
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


# What follows under C = 6 N D. All of it holds for `coupled_power` too, whose outer power moves
# losses but not allocations: pass its gamma.


def loss_exponent(*, alpha: Any, beta: Any, gamma: Any = 1.0, **_: Any) -> Any:
    """c = gamma alpha beta / (alpha + beta), where L - E ~ C^-c along the frontier

    Any shape; parameters that play no part are accepted and ignored. Test vector: Busbridge's
    supervised law, 0.0947.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, from equation 4.
    """
    return gamma * alpha * beta / (alpha + beta)


def optimal_loss(C: Any, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, gamma: Any = 1.0) -> Any:
    """L(C) = E + ((A G^-alpha + B G^beta) (C/6)^(-alpha beta/(alpha+beta)))^gamma

    Lowest loss of C FLOPs; G is `optimal_ratio`. Shapes broadcast. Test vector: Hoffmann's
    unrounded numbers at 5.76e23 give 1.91841.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, from equations 2 and 4.
    """
    G = optimal_ratio(A, B, alpha, beta)
    terms = A * power(G, -alpha) + B * power(G, beta)
    return E + power(terms, gamma) * power(
        C / 6, -loss_exponent(alpha=alpha, beta=beta, gamma=gamma)
    )


def compute_for_loss(
    loss: Any, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, gamma: Any = 1.0
) -> Any:
    """C = 6 ((A G^-alpha + B G^beta)^gamma / (L - E))^((alpha+beta)/(gamma alpha beta))

    Least FLOPs that reach a loss, the inverse of `optimal_loss`; infinite at or below the floor.
    Shapes broadcast.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, from equations 2 and 4.
    """
    left = jnp.asarray(loss) - E
    reached = left > 0
    at_six = optimal_loss(6.0, E=0.0, A=A, B=B, alpha=alpha, beta=beta, gamma=gamma)
    decades = jnp.log(at_six) - jnp.log(jnp.where(reached, left, 1.0))
    C = 6 * jnp.exp(decades / loss_exponent(alpha=alpha, beta=beta, gamma=gamma))
    return jnp.where(reached, C, jnp.inf)


def size_overhead(ratio: Any, *, alpha: Any, beta: Any, **_: Any) -> Any:
    """C(N) / C(N*) = k (1 + (beta/alpha) (1 - k^-alpha))^(-1/beta), k = N / N*

    Compute that a model `ratio` times the best size takes to the same loss, relative to the best;
    infinite below `smallest_ratio`. Any shape; parameters that play no part are ignored.

    Source: derived from Hoffmann et al. 2022, arXiv 2203.15556, equation 2; of the same form as
    appendix B of Kaplan et al. 2020, arXiv 2001.08361.
    """
    inside = 1 + beta / alpha * (1 - power(ratio, -alpha))
    reached = inside > 0
    cost = ratio * power(jnp.where(reached, inside, 1.0), -1 / beta)
    return jnp.where(reached, cost, jnp.inf)


def smallest_ratio(*, alpha: Any, beta: Any, **_: Any) -> Any:
    """k = (1 + alpha / beta)^(-1 / alpha)

    Share of the best size below which no amount of data reaches the loss of the best. Any shape;
    parameters that play no part are ignored.

    Source: derived from Hoffmann et al. 2022, arXiv 2203.15556, equation 2.
    """
    return power(1 + alpha / beta, -1 / alpha)
