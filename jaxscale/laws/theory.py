"""Exponents that theories of scaling predict, and one family that they constrain.

A dictionary of exponents is keyed by what is scaled: loss ~ x^-exponent for N (parameters), D
(data), t (steps); in compute-optimal entries N, t and loss are powers of C.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxscale._errors import LawError
from jaxscale._law import law
from jaxscale._param import positive
from jaxscale.laws._power import power
from jaxscale.laws._root import root

# Geometry and spectra of data.


def manifold_exponent(dimension: float, order: float = 4.0) -> float:
    """alpha = order / dimension, the resolution-limited exponent of N and of D

    Not every error is of this kind: where a network averages many small solutions, as for y = x^2,
    the average alone gives alpha = 1 in N (Liu & Tegmark 2023, lottery tickets, from its abstract).

    Args:
        dimension: d, intrinsic dimension of the data manifold.
        order: 4 for piecewise linear networks under a loss that is quadratic near its minimum
            (Sharma & Kaplan 2020); 1 is the lower bound for any Lipschitz loss and model.

    Source: Bahri et al. 2021, arXiv 2102.06701, which has both; Sharma & Kaplan 2020,
    arXiv 2004.10802.
    """
    return order / dimension


def bahri_exponents(dimension: float, order: float = 4.0) -> dict[str, dict[str, float]]:
    """{1, order / dimension} x {data, size}: the four regimes of Bahri et al.

    In the variance-limited regimes L - L(inf) ~ 1/D with a large model, and ~ 1/width with much
    data; in the resolution-limited ones L falls with the power of `manifold_exponent`. For kernels
    with spectrum i^-(1 + a) the latter is a, for data and for size.

    Source: Bahri et al. 2021, arXiv 2102.06701.
    """
    limited = manifold_exponent(dimension, order)
    return {
        "variance_limited": {"D": 1.0, "width": 1.0},
        "resolution_limited": {"D": limited, "N": limited},
    }


def maloney_exponents(alpha: float) -> dict[str, float]:
    """L ~ min(N, D)^-alpha for random features on data with spectrum i^-(1 + alpha)

    N ~ D is optimal. The loss stops falling when N and D reach the number of latent features.

    Source: Maloney, Roberts & Sully 2022, arXiv 2210.16859.
    """
    return {"N": float(alpha), "D": float(alpha)}


def superposition_exponent(width: float = 1.0, growth: float = 2.52) -> float:
    """alpha_N = width / growth, from L - L(inf) ~ m^-width and N ~ m^growth

    Args:
        width: exponent of the width m: 1 in strong superposition; 0.91 +- 0.04 was measured on OPT,
            GPT-2, Qwen and Pythia.
        growth: how N grows with m in real families, 2.52 +- 0.03.

    Source: Liu, Liu & Gore 2025, Superposition Yields Robust Neural Scaling.
    """
    return width / growth


# Quanta.


def quanta_exponents(alpha: float) -> dict[str, float]:
    """N: alpha, D and t: alpha / (alpha + 1), for quanta used with frequency k^-(alpha + 1)

    A model of N parameters learns the N most frequent quanta; D samples show those of frequency
    above 1 / D, of which there are D^(1 / (alpha + 1)).

    Source: Michaud et al. 2023, arXiv 2303.13506.
    """
    data = alpha / (alpha + 1)
    return {"N": float(alpha), "D": data, "t": data}


@law(
    family="theory",
    source="Michaud et al. 2023, arXiv 2303.13506",
    evidence="exponents as in the paper; the sum of the two limits is this package's",
    inputs={"N": "parameters", "D": "training tokens"},
    derived={
        "beta": lambda alpha, **_: alpha / (alpha + 1),
        "a": lambda alpha, **_: 1 / (alpha + 2),
        "b": lambda alpha, **_: (alpha + 1) / (alpha + 2),
    },
    optimum=lambda C, *, A, B, alpha, **_: power(
        (alpha + 1) * A / B * power(C / 6, alpha / (alpha + 1)),
        (alpha + 1) / (alpha * (alpha + 2)),
    ),
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.3, 1.0, unit="loss * N**alpha"),
    B=positive(0.3, 1.0, unit="loss * D**(alpha / (alpha + 1))"),
    alpha=positive(0.1, 1.0),
)
def quanta(N: Any, D: Any, *, E: Any, A: Any, B: Any, alpha: Any) -> Any:
    """L(N, D) = E + A / N^alpha + B / D^(alpha / (alpha + 1))

    `chinchilla` with the data exponent that the quanta hypothesis ties to that of N: one parameter
    less, and a test of the hypothesis when compared with `chinchilla`.
    """
    return E + A * power(N, -alpha) + B * power(D, -alpha / (alpha + 1))


# Random features under gradient flow.


def random_feature_exponents(a: float, b: float) -> dict[str, Any]:
    """t: (a - 1) / b, N: min(a - 1, b), D: min(a - 1, 2 b), and the optimum along C = N t

    Spectrum k^-b, target of power k^-a per mode, N random projections of the modes. With
    m = min(a - 1, b): N ~ C^((a-1) / (a-1+mb)), t ~ C^(mb / (a-1+mb)), L ~ C^(-m(a-1) / (a-1+mb)).

    The paper states min(a - 1, 2 b) for N as well. That holds for the data, where kernel regression
    squares its bias; the part of the target that N projections miss is not squared, which gives b.
    It is Paquette's F_0, and what `simulators.projection_floor` shows; for a - 1 < b both agree.

    Source: Bordelon, Atanasov & Pehlevan 2024, arXiv 2402.01092; exponent of N derived here.

    Raises:
        LawError: unless a > 1 and b > 0.
    """
    if not (a > 1 and b > 0):
        raise LawError(f"the loss is finite only for a > 1 and b > 0, got a = {a}, b = {b}")
    m = min(a - 1, b)
    whole = a - 1 + m * b
    optimal = {"N": (a - 1) / whole, "t": m * b / whole, "loss": m * (a - 1) / whole}
    return {"t": (a - 1) / b, "N": m, "D": min(a - 1, 2 * b), "optimal": optimal}


def feature_learning_exponent(beta: float) -> float:
    """t^-beta becomes t^(-2 beta / (1 + beta)) for hard tasks, beta < 1

    beta is the exponent of the kernel limit; for beta >= 1 (the target has finite kernel norm)
    features change nothing. Nearly doubled as beta goes to 0.

    Source: Bordelon, Atanasov & Pehlevan 2024, arXiv 2409.17858.
    """
    return 2 * beta / (1 + beta) if beta < 1 else float(beta)


# Power-law random features under one-pass SGD.

_SPLIT = 1 - 1 / math.sqrt(2)


def paquette_phase(alpha: float, beta: float) -> str:
    """Ia, Ib, Ic, II, III, IVa or IVb: which terms of the risk meet at the compute optimum

    Args:
        alpha: data scale as j^-alpha, so the spectrum is j^-(2 alpha).
        beta: target coefficients j^-beta.

    Raises:
        LawError: if alpha + beta <= 1/2, where the target has no finite power, or on the line
            alpha = 1/2, where the phases of both sides have logarithms.

    Source: Paquette et al. 2024, arXiv 2405.15074.
    """
    if alpha <= 0 or alpha + beta <= 0.5:
        raise LawError(f"needs alpha > 0 and alpha + beta > 1/2, got {alpha}, {beta}")
    if alpha == 0.5:
        raise LawError("alpha = 1/2 is the border of phases: logarithms replace powers there")
    if alpha > 0.5:
        if beta < 0.5:
            return "Ia"
        return "II" if beta < alpha else "III"
    if beta < 0.5:
        return "Ib"
    if alpha < 0.25:
        return "Ic"
    return "IVb" if alpha < _SPLIT else "IVa"


def paquette_exponents(alpha: float, beta: float) -> dict[str, float]:
    """N: xi in d* ~ C^xi, loss: eta in P* ~ C^-eta, by phase; C = d r, parameters times steps

    Ia: 1/(2a+1), (2a+2b-1)/(2a+1).  Ib: 1/2, a+b-1/2.  II: b/(a+b), (2a+2b-1)/(2(a+b)).
    III: 1/2, (4a-1)/(4a).  IVa: 1/2, a.  With q = a(2b-3)-2b+1 and s = 2ab+a-2b,
    Ic: (1-2(a+b))/(2q), -a(2a+2b-1)/q.  IVb: (a-b)/s, (2a-1)(2a+2b-1)/(2s).

    Arguments, errors: as in `paquette_phase`. Continuous across the borders, except at a = 1/2, and
    that d* jumps from IVb to IVa: between the two optima the risk is flat, so eta does not.

    Source: Paquette et al. 2024, arXiv 2405.15074; each row found again from the risk curve.
    """
    a, b = alpha, beta
    power_ = 2 * a + 2 * b - 1
    match paquette_phase(a, b):
        case "Ia":
            pair = 1 / (2 * a + 1), power_ / (2 * a + 1)
        case "Ib":
            pair = 0.5, power_ / 2
        case "Ic":
            q = a * (2 * b - 3) - 2 * b + 1
            pair = -power_ / (2 * q), -a * power_ / q
        case "II":
            pair = b / (a + b), power_ / (2 * (a + b))
        case "III":
            pair = 0.5, (4 * a - 1) / (4 * a)
        case "IVa":
            pair = 0.5, a
        case _:
            s = 2 * a * b + a - 2 * b
            pair = (a - b) / s, (2 * a - 1) * power_ / (2 * s)
    return {"N": pair[0], "loss": pair[1]}


def paquette_log_risk(
    log_d: Any, log_r: Any, *, alpha: float, beta: float, batch: float = 1
) -> Any:
    """log P, P(r, d) = F_pp + F_ac + F_0 + K, the risk of d features after r steps, up to constants

    F_pp = (gBr)^-(2a+2b-1)/(2a), F_ac = (gBr)^(-1+1/(2a)) / d (only a > 1/2, b > 1/2),
    F_0 = d^(-2a + max(0, 1-2b)), K = g (gBr)^(-2+1/(2a)); step size g = d^min(0, 2a-1).

    In logs, so that C = e^4000 is no trouble: exponents emerge slowly.

    Args:
        log_d, log_r: logs of the number of features and of the steps.
        alpha, beta: exponents, see `paquette_phase`.
        batch: B.

    Source: Paquette et al. 2024, arXiv 2405.15074.
    """
    paquette_phase(alpha, beta)
    log_step = min(0.0, 2 * alpha - 1) * log_d
    log_time = log_step + math.log(batch) + log_r
    terms = [
        -(2 * alpha + 2 * beta - 1) / (2 * alpha) * log_time,
        (-2 * alpha + max(0.0, 1 - 2 * beta)) * log_d,
        log_step + (-2 + 1 / (2 * alpha)) * log_time,
    ]
    if alpha > 0.5 and beta > 0.5:
        terms.append(-log_d + (-1 + 1 / (2 * alpha)) * log_time)
    return jax.nn.logsumexp(jnp.stack(jnp.broadcast_arrays(*terms)), axis=0)


def paquette_optimum(log_C: Any, *, alpha: float, beta: float) -> tuple[Any, Any]:
    """log d* and log P* along C = d r, from `paquette_log_risk`, which is convex in log d

    Args:
        log_C: log of compute, any shape.
        alpha, beta: exponents, see `paquette_phase`.

    Source: Paquette et al. 2024, arXiv 2405.15074.
    """

    def risk(log_d: Any, log_C: Any) -> Any:
        return paquette_log_risk(log_d, log_C - log_d, alpha=alpha, beta=beta)

    def one(log_C: Any) -> tuple[Any, Any]:
        log_d = root(jax.grad(risk), 0.0, log_C, log_C)
        return log_d, risk(log_d, log_C)

    return jnp.vectorize(one)(jnp.asarray(log_C, float))
