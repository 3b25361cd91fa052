"""Kaplan's laws: size and data, size and steps, the critical batch, and what follows from them.

Compute is 6 N B S in FLOPs without embeddings; the paper prints it in PF-days of 8.64e19 FLOPs.
"""

from typing import Any

import jax.numpy as jnp

from jaxscale._law import law
from jaxscale._param import positive
from jaxscale.laws._power import power
from jaxscale.laws._root import root
from jaxscale.laws.chinchilla import optimal_ratio, size_overhead as frontier_overhead

PF_DAY = 8.64e19
"""FLOPs in a PF-day."""

_KAPLAN = "Kaplan et al. 2020, arXiv 2001.08361"
_SIZE = "parameters without embeddings"


def _optimum(C: Any, *, N_c: Any, D_c: Any, alpha_N: Any, alpha_D: Any) -> Any:
    inner = alpha_N / alpha_D
    return optimal_ratio(power(N_c, inner), D_c, inner, 1.0) * power(C / 6, 1 / (inner + 1))


@law(
    family="kaplan",
    source=f"{_KAPLAN}, equation 1.5 and Table 2",
    evidence="formula and coefficients read in the paper",
    inputs={"N": _SIZE, "D": "training tokens"},
    optimum=_optimum,
    derived={
        "a": lambda alpha_N, alpha_D, **_: alpha_D / (alpha_N + alpha_D),
        "b": lambda alpha_N, alpha_D, **_: alpha_N / (alpha_N + alpha_D),
    },
    N_c=positive(0.05, 1.0, unit="loss**(1/alpha_N) * N"),
    D_c=positive(0.05, 1.0, unit="loss**(1/alpha_D) * D"),
    alpha_N=positive(0.03, 0.5),
    alpha_D=positive(0.03, 0.5),
)
def kaplan_nd(N: Any, D: Any, *, N_c: Any, D_c: Any, alpha_N: Any, alpha_D: Any) -> Any:
    """L(N, D) = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D

    N excludes embeddings. There is no irreducible term, so the law cannot be trusted far
    beyond its data. Test vector: Table 2 constants at (1e9, 2e10) give 2.373882448.
    """
    return power(power(N_c / N, alpha_N / alpha_D) + D_c / D, alpha_D)


@law(
    family="kaplan",
    source=f"{_KAPLAN}, equation 1.6 and Table 3",
    evidence="formula and coefficients read in the paper",
    inputs={"N": _SIZE, "S": "least steps S_min: steps at a batch far above the critical one"},
    N_c=positive(0.05, 1.0, unit="loss**(1/alpha_N) * N"),
    S_c=positive(0.01, 0.5, unit="loss**(1/alpha_S) * S"),
    alpha_N=positive(0.03, 0.5),
    alpha_S=positive(0.2, 1.2),
)
def kaplan_ns(N: Any, S: Any, *, N_c: Any, S_c: Any, alpha_N: Any, alpha_S: Any) -> Any:
    """L(N, S) = (N_c / N)^alpha_N + (S_c / S)^alpha_S

    S counts steps after the warm-up, at a batch far above the critical one; `minimum_steps`
    turns other steps into it. Test vector: Table 3 constants at (1e9, 1e5) give 2.400513661.
    """
    return power(N_c / N, alpha_N) + power(S_c / S, alpha_S)


@law(
    family="kaplan",
    source=f"{_KAPLAN}, equation 1.4",
    evidence="formula and coefficients read in the paper",
    inputs={"L": "loss at which the batch is asked for, in nats per token"},
    predicts="critical batch in tokens",
    B_star=positive(0.3, 3.0, unit="loss * L**(1/alpha_B)"),
    alpha_B=positive(0.08, 1.0),
)
def critical_batch(L: Any, *, B_star: Any, alpha_B: Any) -> Any:
    """B_crit(L) = B_star / L^(1 / alpha_B)

    Batch, in tokens, at which training to loss L takes twice the least steps and twice the least
    data. It depends on the loss alone, not on the model's size. What it predicts is a batch: give
    measured batches as the loss column. Test vector: Kaplan's constants at L = 3, 1122569.711.
    """
    return B_star * power(L, -1 / alpha_B)


def efficient_exponent(*, alpha_N: Any, alpha_S: Any, alpha_B: Any, **_: Any) -> Any:
    """alpha_C = 1 / (1/alpha_S + 1/alpha_B + 1/alpha_N)

    Exponent of the loss in compute under the best allocation. Then N grows as
    C^(alpha_C/alpha_N), the batch as C^(alpha_C/alpha_B) and steps as C^(alpha_C/alpha_S).
    Any shape; other parameters are accepted and ignored. Test vector: Kaplan, 0.05199.

    Source: Kaplan et al. 2020, arXiv 2001.08361, appendix B.
    """
    return 1 / (1 / alpha_S + 1 / alpha_B + 1 / alpha_N)


def _excess(log_L: Any, size: Any, steps: Any, batch: Any, alpha_S: Any, alpha_B: Any) -> Any:
    """Log of a loss over the loss that its own critical batch implies; it rises with the loss."""
    slowed = steps * (1 + batch * jnp.exp(-log_L / alpha_B))
    return log_L - jnp.log(size + power(slowed, alpha_S))


@law(
    family="kaplan",
    source="Su et al. 2024, arXiv 2403.06563, after Kaplan et al. 2020, arXiv 2001.08361",
    evidence="what it predicts is in Su's abstract; composed here from Kaplan's equations",
    inputs={"N": _SIZE, "B": "tokens per batch", "S": "steps"},
    derived={
        "alpha_C": efficient_exponent,
        "a": lambda alpha_N, **other: efficient_exponent(alpha_N=alpha_N, **other) / alpha_N,
    },
    N_c=positive(0.05, 1.0, unit="loss**(1/alpha_N) * N"),
    S_c=positive(0.01, 0.5, unit="loss**(1/alpha_S) * S"),
    B_star=positive(0.1, 3.0, unit="loss**(1/alpha_B) * B"),
    alpha_N=positive(0.03, 0.5),
    alpha_S=positive(0.2, 1.2),
    alpha_B=positive(0.1, 1.0),
)
def kaplan_nbs(
    N: Any,
    B: Any,
    S: Any,
    *,
    N_c: Any,
    S_c: Any,
    B_star: Any,
    alpha_N: Any,
    alpha_S: Any,
    alpha_B: Any,
) -> Any:
    """L = (N_c / N)^alpha_N + ((S_c / S) (1 + B_crit(L) / B))^alpha_S

    Loss at any size, batch and step: `kaplan_ns` with the steps that the batch leaves of S, where
    the critical batch B_star / L^(1/alpha_B) is that of the loss L itself, so that L is a root.
    B to infinity is `kaplan_ns`. All constants of Kaplan's full set are estimated at once.
    Test vector: Kaplan's constants at N = 1e9, B = 5e5, S = 1e5 give 2.5508976265.
    """
    size, steps, batch = power(N_c / N, alpha_N), S_c / S, B_star / B
    # The loss without a batch penalty is too low; put into the penalty, it gives one too high.
    low = jnp.log(size + power(steps, alpha_S))
    high = low - _excess(low, size, steps, batch, alpha_S, alpha_B)
    return jnp.exp(root(_excess, low, high, size, steps, batch, alpha_S, alpha_B))


# What a batch costs.


def minimum_steps(S: Any, B: Any, B_crit: Any) -> Any:
    """S_min = S / (1 + B_crit / B)

    Steps that a huge batch would have needed where S steps at batch B were taken. B and B_crit
    in the same unit. Shapes broadcast. It follows from (S/S_min - 1) (E/E_min - 1) = 1 with
    E = B S and B_crit = E_min / S_min.

    Source: Kaplan et al. 2020, arXiv 2001.08361, equation 5.4, after McCandlish et al. 2018.
    """
    return S / (1 + B_crit / B)


def minimum_compute(C: Any, B: Any, B_crit: Any) -> Any:
    """C_min = C / (1 + B / B_crit)

    Compute that a tiny batch would have needed where C was used at batch B. Shapes broadcast;
    C_min has the unit of C.

    Source: Kaplan et al. 2020, arXiv 2001.08361, equation 5.5.
    """
    return C / (1 + B / B_crit)


# The best use of compute. `params` are those of `kaplan_nbs`; C is the least compute, in FLOPs.


def efficient_scale(
    *, N_c: Any, S_c: Any, B_star: Any, alpha_N: Any, alpha_S: Any, alpha_B: Any
) -> Any:
    """C_c = 6 N_c B_star S_c (1 + r)^(1/alpha_S + 1/alpha_N) r^(-1/alpha_S), r = alpha_N/alpha_S

    Scale, in FLOPs, of L(C) = (C_c / C)^alpha_C under the best allocation. Shapes broadcast.
    Test vector: Table 3 and the critical batch give 1.6e8 PF-days; fitted directly, 3.1e8.

    Source: Kaplan et al. 2020, arXiv 2001.08361, appendix B.
    """
    del alpha_B
    ratio = alpha_N / alpha_S
    shape = (1 / alpha_S + 1 / alpha_N) * jnp.log1p(ratio) - jnp.log(ratio) / alpha_S
    return 6 * jnp.exp(jnp.log(N_c) + jnp.log(B_star) + jnp.log(S_c) + shape)


def efficient_loss(C: Any, **params: Any) -> Any:
    """L(C) = (C_c / C)^alpha_C

    Lowest loss at compute C (FLOPs, batch far below the critical one): training stops at
    (1 + alpha_N / alpha_S) times the converged loss. Shapes broadcast.

    Source: Kaplan et al. 2020, arXiv 2001.08361, appendix B.
    """
    return power(efficient_scale(**params) / C, efficient_exponent(**params))


def efficient_size(C: Any, **params: Any) -> Any:
    """N(C) = N_c (C / C_c)^(alpha_C / alpha_N) (1 + alpha_N / alpha_S)^(1 / alpha_N)

    Parameters of the best allocation of C (FLOPs). Shapes broadcast.

    Source: Kaplan et al. 2020, arXiv 2001.08361, appendix B.
    """
    ratio = params["alpha_N"] / params["alpha_S"]
    return params["N_c"] * power((1 + ratio) / efficient_loss(C, **params), 1 / params["alpha_N"])


def efficient_steps(C: Any, **params: Any) -> Any:
    """S(C) = (C_c / (6 N_c B_star)) (1 + alpha_N/alpha_S)^(-1/alpha_N) (C / C_c)^(alpha_C/alpha_S)

    Least steps of the best allocation of C (FLOPs); at the critical batch it takes twice as many
    steps and twice the compute. Shapes broadcast.

    Source: Kaplan et al. 2020, arXiv 2001.08361, appendix B.
    """
    ratio = params["alpha_N"] / params["alpha_S"]
    reducible = efficient_loss(C, **params) * ratio / (1 + ratio)
    return params["S_c"] * power(reducible, -1 / params["alpha_S"])


def efficient_batch(C: Any, **params: Any) -> Any:
    """B(C) = B_star / L(C)^(1 / alpha_B)

    Critical batch, in tokens, at the loss of the best allocation of C (FLOPs). C = 6 N B S with
    the size and steps of that allocation. Shapes broadcast.

    Source: Kaplan et al. 2020, arXiv 2001.08361, appendix B.
    """
    return critical_batch.fn(
        efficient_loss(C, **params), B_star=params["B_star"], alpha_B=params["alpha_B"]
    )


def compute_needed(
    N: Any, L: Any, *, N_c: Any, S_c: Any, B_star: Any, alpha_N: Any, alpha_S: Any, alpha_B: Any
) -> Any:
    """C(N, L) = 6 N (B_star / L^(1/alpha_B)) S_c (L - (N_c/N)^alpha_N)^(-1/alpha_S)

    Least compute, in FLOPs, to train N parameters to loss L; infinite if they cannot reach it.
    Shapes broadcast.

    Source: Kaplan et al. 2020, arXiv 2001.08361, appendix B.
    """
    left = L - power(N_c / N, alpha_N)
    reached = left > 0
    steps = S_c * power(jnp.where(reached, left, 1.0), -1 / alpha_S)
    batch = critical_batch.fn(L, B_star=B_star, alpha_B=alpha_B)
    return jnp.where(reached, 6 * N * batch * steps, jnp.inf)


def size_overhead(ratio: Any, *, alpha_N: Any, alpha_S: Any, **_: Any) -> Any:
    """C(N) / C(N_opt) = k (1 + (alpha_S/alpha_N) (1 - k^-alpha_N))^(-1/alpha_S), k = N / N_opt

    Compute that a model `ratio` times the best size needs to reach the same loss, relative to the
    best; infinite where it cannot reach it. Any shape; other parameters are accepted and ignored.
    Test vector: k = 2 with exponents 0.076 and 0.76 gives 1.159686471.

    Source: Kaplan et al. 2020, arXiv 2001.08361, appendix B.
    """
    return frontier_overhead(ratio, alpha=alpha_N, beta=alpha_S)


# Data, early stopping and learning rate.


def data_needed(
    N: Any, *, N_c: Any, D_c: Any, alpha_N: Any, alpha_D: Any, excess: Any = 0.02
) -> Any:
    """D = D_c (N / N_c)^(alpha_N / alpha_D) / ((1 + excess)^(1 / alpha_D) - 1)

    Tokens at which `kaplan_nd` is a share `excess` above its value with endless data; the default
    is the spread between seeds. Shapes broadcast. Kaplan's constants give about 5e3 N^0.74.

    Source: Kaplan et al. 2020, arXiv 2001.08361, equations 4.2 to 4.4.
    """
    return D_c * power(N / N_c, alpha_N / alpha_D) / jnp.expm1(jnp.log1p(excess) / alpha_D)


def stopping_steps(overfit: Any, *, S_c: Any, alpha_S: Any, **_: Any) -> Any:
    """S_stop >= S_c / (L(N, D) - L(N, inf))^(1 / alpha_S)

    Steps before which early stopping cannot be due. `overfit` is the loss that finite data cost,
    positive, any shape; other parameters are accepted and ignored.

    Source: Kaplan et al. 2020, arXiv 2001.08361, equation 5.7.
    """
    return S_c * power(overfit, -1 / alpha_S)


def learning_rate(N: Any) -> Any:
    """LR(N) = 0.003239 - 0.0001395 log N

    Kaplan's rule for Adam, N without embeddings, any shape; for their range of sizes up to 1e9
    only, since it turns negative above 1.2e10.

    Source: Kaplan et al. 2020, arXiv 2001.08361, appendix D.
    """
    return 0.003239 - 0.0001395 * jnp.log(N)
