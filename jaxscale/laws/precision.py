"""Training and serving at low precision: parameters that count for less, and added loss."""

from typing import Any

import jax.numpy as jnp

from jaxscale._errors import LawError
from jaxscale._law import Input, law
from jaxscale._param import positive, real
from jaxscale.laws._power import power
from jaxscale.laws._root import root
from jaxscale.laws.chinchilla import chinchilla, optimal_ratio

_KUMAR = "Kumar et al. 2024, arXiv 2411.04330"
_READ = "formula and coefficients read in the paper"
_BITS = {
    "N": "parameters without embeddings",
    "D": "training tokens",
    "P_w": "bits of the weights",
    "P_a": "bits of the activations",
    "P_kv": "bits of the key-value cache",
}


def _share(P: Any, gamma: Any) -> Any:
    """1 - exp(-P / gamma): the part of a parameter that P bits leave."""
    return -jnp.expm1(-P / gamma)


@law(
    family="precision",
    source=f"{_KUMAR}, equation 4",
    evidence=_READ,
    inputs=_BITS,
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.1, 1.0, unit="loss * N**alpha"),
    B=positive(0.1, 1.0, unit="loss * D**beta"),
    alpha=real(0.1, 1.0),
    beta=real(0.1, 1.0),
    gamma_w=positive(0.8, 4.0),
    gamma_a=positive(0.8, 4.0),
    gamma_kv=positive(0.8, 4.0),
)
def kumar_precision(
    N: Any,
    D: Any,
    P_w: Any,
    P_a: Any,
    P_kv: Any,
    *,
    E: Any,
    A: Any,
    B: Any,
    alpha: Any,
    beta: Any,
    gamma_w: Any,
    gamma_a: Any,
    gamma_kv: Any,
) -> Any:
    """L = E + A / N_eff^alpha + B / D^beta, N_eff = N prod_x (1 - exp(-P_x / gamma_x))

    Bits of weights, activations and cache in training. The paper's own constants were fitted with
    biases, so they do not belong in this form. Test vector: its Table 2 without biases at
    (1e9, 2e10) gives 3.055572391 for 8 bits and 3.114236281 for 3.
    """
    shares = _share(P_w, gamma_w) * _share(P_a, gamma_a) * _share(P_kv, gamma_kv)
    return chinchilla.fn(N * shares, D, E=E, A=A, B=B, alpha=alpha, beta=beta)


@law(
    family="precision",
    source=f"{_KUMAR}, section 3",
    evidence=_READ,
    inputs={
        "N": "parameters without embeddings",
        "D": "training tokens",
        "P": "bits of the weights after training",
    },
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.1, 1.0, unit="loss * N**alpha"),
    B=positive(0.1, 1.0, unit="loss * D**beta"),
    alpha=real(0.1, 1.0),
    beta=real(0.1, 1.0),
    C_T=positive(0.3, 30.0, unit="loss * N**gamma_N / D**gamma_D"),
    gamma_D=real(0.1, 1.0),
    gamma_N=real(0.1, 1.0),
    gamma=positive(0.3, 1.5),
)
def kumar_ptq(
    N: Any,
    D: Any,
    P: Any,
    *,
    E: Any,
    A: Any,
    B: Any,
    alpha: Any,
    beta: Any,
    C_T: Any,
    gamma_D: Any,
    gamma_N: Any,
    gamma: Any,
) -> Any:
    """L = E + A / N^alpha + B / D^beta + C_T D^gamma_D / N^gamma_N exp(-P / gamma)

    Weights are quantized to P bits after training at full precision; see `critical_tokens`.
    """
    added = C_T * power(D, gamma_D) * power(N, -gamma_N) * jnp.exp(-P / gamma)
    return chinchilla.fn(N, D, E=E, A=A, B=B, alpha=alpha, beta=beta) + added


def critical_tokens(
    N: Any, P: Any, *, B: Any, beta: Any, C_T: Any, gamma_D: Any, gamma_N: Any, gamma: Any, **_: Any
) -> Any:
    """D_crit = (beta B N^gamma_N exp(P / gamma) / (gamma_D C_T))^(1 / (gamma_D + beta))

    More tokens than this raise the loss of `kumar_ptq`.

    Source: Kumar et al. 2024, arXiv 2411.04330, appendix E.
    """
    ratio = beta * B * power(N, gamma_N) * jnp.exp(P / gamma) / (gamma_D * C_T)
    return power(ratio, 1 / (gamma_D + beta))


def optimal_bits(*gammas: Any) -> Any:
    """P with sum_x u_x / (exp(u_x) - 1) = 1, u_x = P / gamma_x: the cheapest bits to train in

    Under C = (6/16) N D P with all parts at P bits. Three equal gammas give P = 1.9038 gamma.
    One gamma alone has no optimum. The "7 to 8 bits" of the paper do not follow from its Table 2.

    Source: Kumar et al. 2024, arXiv 2411.04330, equation 7, for unequal gammas derived here.
    """
    if len(gammas) < 2:
        raise LawError("optimal_bits needs at least two gammas: with one there is no optimum")

    def excess(P: Any, *scales: Any) -> Any:
        return sum((P / g) / jnp.expm1(P / g) for g in scales) - 1

    return root(excess, 1e-3 * min(gammas), 20.0 * max(gammas), *gammas)


def optimal_size(
    C: Any,
    P: Any,
    *,
    A: Any,
    B: Any,
    alpha: Any,
    beta: Any,
    gamma_w: Any,
    gamma_a: Any,
    gamma_kv: Any,
    **_: Any,
) -> Any:
    """N* = (alpha u A / (beta B))^(1/(alpha+beta)) (16 C / (6 P))^(beta/(alpha+beta))

    u = prod_x (1 - exp(-P / gamma_x))^-alpha; C = (6/16) N D P. The paper's equation 6 prints
    the exponent of P with alpha and beta exchanged.

    Source: derived from Kumar et al. 2024, arXiv 2411.04330.
    """
    shares = _share(P, gamma_w) * _share(P, gamma_a) * _share(P, gamma_kv)
    ratio = optimal_ratio(A * power(shares, -alpha), B, alpha, beta)
    return ratio * power(16 * C / (6 * P), beta / (alpha + beta))


@law(
    family="precision",
    source="Sun et al. 2025, arXiv 2501.02423, equation 18",
    evidence=_READ,
    inputs={
        "N": "parameters",
        "D": "training tokens",
        "E": Input("exponent bits", closed=True),
        "M": Input("mantissa bits", closed=True),
        "B": Input("elements that share a scale", lower=1, closed=True),
    },
    epsilon=positive(0.3, 1.0, unit="loss"),
    n=positive(0.1, 1.0, unit="loss * N**alpha"),
    d=positive(0.1, 1.0, unit="loss * D**beta"),
    alpha=real(0.1, 1.0),
    beta=real(0.1, 1.0),
    gamma=positive(1.0, 100.0, unit="D**beta / (N**alpha * loss)"),
    delta=real(1.0, 4.0),
    nu=real(1.0, 4.0),
)
def sun_fp(
    N: Any,
    D: Any,
    E: Any,
    M: Any,
    B: Any,
    *,
    epsilon: Any,
    n: Any,
    d: Any,
    alpha: Any,
    beta: Any,
    gamma: Any,
    delta: Any,
    nu: Any,
) -> Any:
    """L = epsilon + n/N^alpha + d/D^beta + D^beta/N^alpha log2(B) / (gamma (E+.5)^delta (M+.5)^nu)

    Training in floats of E exponent and M mantissa bits (E + M + 1 in all), B elements to a scale.
    Test vector: Table 2 at (1e9, 1e11, E4M3, B = 128) gives 2.563069911.
    """
    resolution = gamma * power(E + 0.5, delta) * power(M + 0.5, nu)
    added = power(D, beta) * power(N, -alpha) * jnp.log2(B) / resolution
    return chinchilla.fn(N, D, E=epsilon, A=n, B=d, alpha=alpha, beta=beta) + added


def optimal_layout(P: Any, *, delta: Any, nu: Any, **_: Any) -> tuple[Any, Any]:
    """E = delta P / (delta + nu) - 1/2 and M = nu P / (delta + nu) - 1/2, of P = E + M + 1 bits

    Source: Sun et al. 2025, arXiv 2501.02423, equation 19.
    """
    return delta * P / (delta + nu) - 0.5, nu * P / (delta + nu) - 0.5


def best_resolution(P: Any, *, gamma: Any, delta: Any, nu: Any, **_: Any) -> Any:
    """gamma_rho P^(delta + nu), gamma_rho = gamma delta^delta nu^nu / (delta + nu)^(delta + nu)

    What gamma (E + 1/2)^delta (M + 1/2)^nu is at the `optimal_layout` of P bits: in place of it, it
    gives the loss of the best float of P bits. Shapes broadcast.

    Source: Sun et al. 2025, arXiv 2501.02423, from equation 19.
    """
    both = delta + nu
    shares = delta * jnp.log(delta) + nu * jnp.log(nu) - both * jnp.log(both)
    return gamma * jnp.exp(shares + both * jnp.log(P))


def float_critical_tokens(
    N: Any,
    E: Any,
    M: Any,
    B: Any,
    *,
    d: Any,
    alpha: Any,
    beta: Any,
    gamma: Any,
    delta: Any,
    nu: Any,
    **_: Any,
) -> Any:
    """D_crit = (d gamma N^alpha (E+.5)^delta (M+.5)^nu / log2 B)^(1 / (2 beta))

    More tokens than this raise the loss of `sun_fp`.

    Source: Sun et al. 2025, arXiv 2501.02423, equation 21: 1e9 parameters, B = 128 give 27.33e12
    for E4M3.
    """
    ratio = d * gamma * power(N, alpha) * power(E + 0.5, delta) * power(M + 0.5, nu)
    return power(ratio / jnp.log2(B), 1 / (2 * beta))


@law(
    family="precision",
    source="Panferov et al. 2025, arXiv 2506.01863",
    evidence="outer form read in the paper; no coefficients",
    inputs={"N": "parameters", "D": "training tokens", "rho": "capacity of the representation"},
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.3, 1.0, unit="loss * N**alpha * rho**alpha"),
    B=positive(0.3, 1.0, unit="loss * D**beta"),
    alpha=real(0.1, 1.0),
    beta=real(0.1, 1.0),
)
def panferov_capacity(
    N: Any, D: Any, rho: Any, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any
) -> Any:
    """L(N, D, rho) = E + A / (N rho)^alpha + B / D^beta

    rho is 1 for full precision without sparsity; capacities of combined formats multiply.
    """
    return chinchilla.fn(N * rho, D, E=E, A=A, B=B, alpha=alpha, beta=beta)
