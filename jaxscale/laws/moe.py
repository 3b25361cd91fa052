"""Mixtures of experts and sparse models: loss by size, tokens, experts, granularity, sparsity."""

import math
from typing import Any

import jax.numpy as jnp

from jaxscale._law import Input, law
from jaxscale._param import positive, real
from jaxscale.laws._power import power
from jaxscale.laws.chinchilla import chinchilla

_EXPERTS = Input("experts per layer, 1 for a dense model", lower=1, closed=True)
_SPARSITY = Input("share of the parameters that is inactive", upper=0.9999, closed=True)


def effective_experts(E: Any, *, E_start: Any, E_max: Any) -> Any:
    """1 / E_hat = 1 / (E - 1 + (1/E_start - 1/E_max)^-1) + 1 / E_max

    E_hat grows from E_start at one expert to E_max without bound on E. If E_start is not below
    E_max, it is E_max for every E.

    Source: Clark et al. 2022, arXiv 2202.01169. Test vector: E = 64, E_start = 1.847,
    E_max = 314.478 give 53.76866726.
    """
    rate = jnp.maximum(1 / E_start - 1 / E_max, 0.0)
    return 1 / (rate / (1 + (E - 1) * rate) + 1 / E_max)


@law(
    family="moe",
    source="Clark et al. 2022, arXiv 2202.01169, equation 1",
    evidence="formula read in the authors' code; coefficients second-hand, re-fitted",
    inputs={"N": "parameters of the dense model of the same cost", "E": _EXPERTS},
    derived={
        "a": lambda alpha, **_: -alpha,
        "b": lambda c, N_cutoff, **_: -c * jnp.log10(N_cutoff),
        "d": lambda A, **_: jnp.log10(A),
    },
    A=positive(0.5, 2.0, unit="loss * N**alpha"),
    alpha=real(0.02, 0.3),
    c=real(0.003, 0.03),
    N_cutoff=positive(1e2, 1e5, unit="N"),
    E_start=positive(1.2, 5.0),
    E_max=positive(100.0, 800.0),
)
def clark_routed(
    N: Any, E: Any, *, A: Any, alpha: Any, c: Any, N_cutoff: Any, E_start: Any, E_max: Any
) -> Any:
    """L(N, E) = A N^-alpha E_hat^(c log10(N / N_cutoff))

    The paper's log10 L = a log10 N + b log10 E_hat + c log10 N log10 E_hat + d, with alpha = -a,
    A = 10^d and N_cutoff = 10^(-b / c), the size from which experts no longer help. Written so,
    N may be counted in any unit. E_hat is `effective_experts`. Tokens are fixed (130e9).
    Test vector: a = -.082, b = -.108, c = .009, d = 1.104, E_start = 1.847, E_max = 314.478 at
    (1e9, 64) give 2.085814632.
    """
    x = effective_experts(E, E_start=E_start, E_max=E_max)
    return A * power(N, -alpha) * power(x, c * jnp.log10(N / N_cutoff))


@law(
    family="moe",
    source="Clark et al. 2022, arXiv 2202.01169, equation 7",
    evidence="formula read in the authors' code",
    inputs={"N": "parameters of the dense model of the same cost", "E": _EXPERTS},
    A=positive(0.5, 2.0, unit="loss * N**alpha"),
    alpha=real(0.02, 0.3),
    c=real(0.003, 0.03),
    N_cutoff=positive(1e1, 1e4, unit="N"),
)
def clark_bilinear(N: Any, E: Any, *, A: Any, alpha: Any, c: Any, N_cutoff: Any) -> Any:
    """L(N, E) = A N^-alpha E^(c log10(N / N_cutoff))

    `clark_routed` without saturation: the plain product of log N and log E.
    """
    return A * power(N, -alpha) * power(E, c * jnp.log10(N / N_cutoff))


@law(
    family="moe",
    source="Clark et al. 2022, arXiv 2202.01169",
    evidence="formula read in the authors' code",
    inputs={"N": "parameters of the dense model of the same cost", "E": _EXPERTS},
    A=positive(0.5, 2.0, unit="loss * N**alpha"),
    alpha=real(0.02, 0.3),
    b=real(-0.2, 0.0),
)
def clark_separable(N: Any, E: Any, *, A: Any, alpha: Any, b: Any) -> Any:
    """L(N, E) = A N^-alpha E^b

    Experts help equally at every size; the baseline that `clark_bilinear` improves on.
    """
    return A * power(N, -alpha) * power(E, b)


def effective_parameters(
    N: Any, E: Any, *, alpha: Any, c: Any, N_cutoff: Any, E_start: Any, E_max: Any, **_: Any
) -> Any:
    """N_bar with L(N_bar, 1) = L(N, E) under `clark_routed`: the equivalent dense model.

    Source: Clark et al. 2022, arXiv 2202.01169, equation 11. Test vector: the parameters of
    `clark_routed`'s vector at (1e9, 64) give 3.137565896e9.
    """
    x = effective_experts(E, E_start=E_start, E_max=E_max)
    slope, dense = -alpha + c * jnp.log10(x), -alpha + c * jnp.log10(E_start)
    moved = slope * jnp.log(N) - c * jnp.log10(N_cutoff) * jnp.log(x / E_start)
    return jnp.exp(moved / dense)


@law(
    family="moe",
    source="Krajewski et al. 2024, arXiv 2402.07871, equation 9",
    evidence="formula and coefficients read in the paper",
    inputs={
        "N": "all parameters, without embeddings",
        "D": "training tokens",
        "G": "granularity: width of a feed-forward layer over that of an expert",
    },
    c=positive(0.3, 1.0, unit="loss"),
    a=positive(0.1, 1.0, unit="loss * N**alpha"),
    g=positive(0.03, 0.3, unit="loss * N**alpha * G**gamma"),
    b=positive(0.3, 1.0, unit="loss * D**beta"),
    alpha=real(0.1, 0.6),
    beta=real(0.1, 0.6),
    gamma=real(0.2, 1.2),
)
def krajewski_moe(
    N: Any, D: Any, G: Any, *, c: Any, a: Any, g: Any, b: Any, alpha: Any, beta: Any, gamma: Any
) -> Any:
    """L(N, D, G) = c + (g / G^gamma + a) / N^alpha + b / D^beta

    At fixed G it is `chinchilla`. The expansion rate was 64 throughout.
    Test vector: Table 1 at (1e9, 2e10, 4) gives 3.169094314.
    """
    return chinchilla.fn(N, D, E=c, A=a + g * power(G, -gamma), B=b, alpha=alpha, beta=beta)


def krajewski_flop(N: Any, D: Any, G: Any, *, E: Any = 64, c_f: Any = 6, c_r: Any = 14) -> Any:
    """C = (12 d^2 c_f + d E G c_r) D n, with N = d^2 (8 E + 4) n and d = 64 n

    d is the width and n the number of blocks; the second term is the router.

    Args:
        N: all parameters without embeddings. D: training tokens. G: granularity.
        E: expansion rate, all over active feed-forward parameters.
        c_f, c_r: FLOPs per active parameter in the network and in the router.

    Source: Krajewski et al. 2024, arXiv 2402.07871, equation 10.
    """
    d = power(64 * N / (8 * E + 4), 1 / 3)
    return (12 * d**2 * c_f + d * E * G * c_r) * D * d / 64


def krajewski_optimum(C: Any, G: Any, *, E: Any = 64, **params: Any) -> tuple[Any, Any, Any]:
    """N, D and loss of the lowest L(N, D, G) under `krajewski_flop(N, D, G) = C`

    Golden-section search in log N, in which the loss along equal compute has one minimum. Compare
    the losses of several G to choose it.

    Args:
        C: FLOPs. G: granularity. E: expansion rate. **params: of `krajewski_moe`.

    Source: Krajewski et al. 2024, arXiv 2402.07871, section 6.2.
    """

    def loss(log_N: Any) -> tuple[Any, Any, Any]:
        N = jnp.exp(log_N)
        D = C / krajewski_flop(N, 1.0, G, E=E)
        return N, D, krajewski_moe(N, D, G, **params)

    shrink = (math.sqrt(5) - 1) / 2
    low = jnp.zeros_like(jnp.asarray(C * 1.0)) + math.log(1e5)
    high = low + math.log(1e12)
    for _ in range(80):
        left, right = high - shrink * (high - low), low + shrink * (high - low)
        lower = loss(left)[2] < loss(right)[2]
        low, high = jnp.where(lower, low, left), jnp.where(lower, right, high)
    return loss(0.5 * (low + high))


@law(
    family="moe",
    source="Ludziejewski et al. 2025, arXiv 2502.05172, equation 6",
    evidence="formula and coefficients read in the paper",
    inputs={
        "N": "active parameters with embedding and unembedding",
        "D": "training tokens",
        "E": _EXPERTS,
    },
    derived={
        "delta": lambda gamma, N_0, **_: -gamma * jnp.log(N_0),
        "omega": lambda zeta, D_0, **_: -zeta * jnp.log(D_0),
    },
    c=positive(0.3, 1.0, unit="loss"),
    A=positive(0.3, 1.0, unit="loss * N**alpha"),
    B=positive(0.3, 1.0, unit="loss * D**beta"),
    alpha=real(0.1, 0.6),
    beta=real(0.1, 0.6),
    gamma=real(0.003, 0.03),
    zeta=real(-0.06, -0.006),
    N_0=positive(5.0, 200.0, unit="N"),
    D_0=positive(0.05, 1.0, unit="D"),
    E_start=positive(1.2, 5.0),
    E_max=positive(100.0, 800.0),
)
def ludziejewski_joint_moe(
    N: Any,
    D: Any,
    E: Any,
    *,
    c: Any,
    A: Any,
    B: Any,
    alpha: Any,
    beta: Any,
    gamma: Any,
    zeta: Any,
    N_0: Any,
    D_0: Any,
    E_start: Any,
    E_max: Any,
) -> Any:
    """L(N, D, E) = c + A N^-alpha E_hat^(gamma ln(N/N_0)) + B D^-beta E_hat^(zeta ln(D/D_0))

    The paper's a E_hat^delta N^(alpha + gamma ln E_hat) + b E_hat^omega D^(beta + zeta ln E_hat)
    + c with N_0 = exp(-delta / gamma), D_0 = exp(-omega / zeta) and the signs of alpha and beta
    turned; written so, N and D may be counted in any unit. At fixed E it is `chinchilla`, see
    `at_experts`. Test vectors: Table 3 at (1e9, 2e10) gives 2.577600043 for E = 1 and
    2.508777282 for E = 8.
    """
    x = effective_experts(E, E_start=E_start, E_max=E_max)
    by_size = A * power(N, -alpha) * power(x, gamma * jnp.log(N / N_0))
    by_data = B * power(D, -beta) * power(x, zeta * jnp.log(D / D_0))
    return c + by_size + by_data


def at_experts(
    E: Any,
    *,
    c: Any,
    A: Any,
    B: Any,
    alpha: Any,
    beta: Any,
    gamma: Any,
    zeta: Any,
    N_0: Any,
    D_0: Any,
    E_start: Any,
    E_max: Any,
) -> dict[str, Any]:
    """Parameters of `chinchilla` that equal `ludziejewski_joint_moe` at E experts.

    The paper's m, n, -mu, -nu are A, B, alpha, beta; with the closed optimum of `chinchilla` they
    give the compute-optimal N and D. The paper's equation 7 needs the absolute exponents.

    Source: Ludziejewski et al. 2025, arXiv 2502.05172, Tables 1 and 4.
    """
    x = effective_experts(E, E_start=E_start, E_max=E_max)
    return {
        "E": c,
        "A": A * power(x, -gamma * jnp.log(N_0)),
        "B": B * power(x, -zeta * jnp.log(D_0)),
        "alpha": alpha - gamma * jnp.log(x),
        "beta": beta - zeta * jnp.log(x),
    }


def active_parameters(d_model: Any, n_blocks: Any, *, vocab: Any = 50257) -> Any:
    """N = 2 d V + 13 n d^2: active parameters of the models of Ludziejewski et al.

    Source: Ludziejewski et al. 2025, arXiv 2502.05172, equation 10.
    """
    return 2 * d_model * vocab + 13 * n_blocks * d_model**2


def total_parameters(d_model: Any, n_blocks: Any, E: Any, *, vocab: Any = 50257) -> Any:
    """N_total = 2 d V + (4 + 9 E) n d^2: all parameters of the same models.

    Source: Ludziejewski et al. 2025, arXiv 2502.05172, equation 9.
    """
    return 2 * d_model * vocab + (4 + 9 * E) * n_blocks * d_model**2


@law(
    family="sparse",
    source="Abnar et al. 2025, arXiv 2501.12370, equation 6",
    evidence="formula second-hand; no coefficients",
    inputs={"N": "all parameters", "D": "training tokens", "S": _SPARSITY},
    e=positive(0.2, 0.8, unit="loss"),
    a=positive(0.1, 0.6, unit="loss * N**alpha"),
    b=positive(0.1, 0.6, unit="loss * D**beta"),
    c=positive(0.05, 0.4, unit="loss"),
    d=positive(0.1, 0.6, unit="loss * N**gamma"),
    alpha=real(0.2, 1.0),
    beta=real(0.1, 0.8),
    gamma=real(0.05, 0.4),
    delta=real(0.02, 0.4),
    lam=real(-0.4, -0.02),
)
def abnar_sparsity(
    N: Any,
    D: Any,
    S: Any,
    *,
    e: Any,
    a: Any,
    b: Any,
    c: Any,
    d: Any,
    alpha: Any,
    beta: Any,
    gamma: Any,
    delta: Any,
    lam: Any,
) -> Any:
    """L(N, D, S) = e + a / N^alpha + b / D^beta + c / (1-S)^lam + d / ((1-S)^delta N^gamma)

    With ten parameters it needs many sparsities and must not be extrapolated in S.
    """
    active = 1 - S
    dense = chinchilla.fn(N, D, E=e, A=a, B=b, alpha=alpha, beta=beta)
    return dense + c * power(active, -lam) + d * power(active, -delta) * power(N, -gamma)


@law(
    family="sparse",
    source="Frantar et al. 2023, arXiv 2309.08520",
    evidence="formula second-hand; no coefficients",
    inputs={"N": "parameters that are not zero", "D": "training tokens", "S": _SPARSITY},
    E=positive(0.3, 1.0, unit="loss"),
    a_S=positive(0.1, 1.0, unit="loss * N**alpha"),
    b_S=positive(0.2, 1.5),
    c_S=positive(0.1, 1.0, unit="loss * N**alpha"),
    B=positive(0.3, 1.0, unit="loss * D**beta"),
    alpha=real(0.1, 1.0),
    beta=real(0.1, 1.0),
)
def frantar_sparse(
    N: Any, D: Any, S: Any, *, E: Any, a_S: Any, b_S: Any, c_S: Any, B: Any, alpha: Any, beta: Any
) -> Any:
    """L(N, D, S) = E + (a_S (1-S)^b_S + c_S) / N^alpha + B / D^beta

    The paper's (a_D / D)^b_D is B / D^beta. At S = 0 it is `chinchilla` with A = a_S + c_S.
    """
    A = a_S * power(1 - S, b_S) + c_S
    return chinchilla.fn(N, D, E=E, A=A, B=B, alpha=alpha, beta=beta)


def sparse_capacity(S: Any, *, a_S: Any, b_S: Any, c_S: Any, alpha: Any, **_: Any) -> Any:
    """N_dense / N = ((a_S (1-S)^b_S + c_S) / (a_S + c_S))^(-1 / alpha) under `frantar_sparse`

    How many dense parameters one parameter that is not zero is worth.

    Source: derived from Frantar et al. 2023, arXiv 2309.08520.
    """
    return power((a_S * power(1 - S, b_S) + c_S) / (a_S + c_S), -1 / alpha)
