"""Further laws of dense models in two sizes: what Chinchilla's sum leaves out."""

from typing import Any

import jax.numpy as jnp

from jaxscale._law import Input, law
from jaxscale._param import positive, real
from jaxscale.laws._power import power
from jaxscale.laws.chinchilla import chinchilla

_PEARCE = "Pearce and Song 2024, arXiv 2406.12907"


def total_parameters(N: Any, omega: Any) -> Any:
    """N_T = N + omega N^(1/3)

    Parameters with embeddings, from those without: at a fixed aspect ratio the width, and with it
    the embedding, grows as the cube root of N. Any shape; `omega` counts parameters^(2/3).

    Source: Pearce and Song 2024, arXiv 2406.12907; their omega is 47491.
    """
    return N + omega * power(N, 1 / 3)


@law(
    family="chinchilla",
    source=_PEARCE,
    evidence="formula and omega read in the authors' code; slopes re-derived",
    inputs={"N": "parameters without embeddings", "D": "training tokens"},
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.3, 1.0, unit="loss * N**alpha"),
    B=positive(0.3, 1.0, unit="loss * D**beta"),
    alpha=real(0.1, 1.0),
    beta=real(0.1, 1.0),
    omega=positive(0.1, 3.0, unit="N**(2/3)"),
)
def chinchilla_nonembedding(
    N: Any, D: Any, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, omega: Any
) -> Any:
    """L(N, D) = E + A / (N + omega N^(1/3))^alpha + B / D^beta

    `chinchilla` in total parameters, written in N without embeddings: it explains why Kaplan's
    exponent of N*(C) is above Hoffmann's. Its optimum under C = 6 N D is `optimal_compute`.
    omega = 0 is `chinchilla`. Test vector: Epoch coefficients and omega = 47491 have the local
    exponents 0.9628, 0.8532, 0.61279, 0.53538 at N = 1e6, 1e7, 1e8, 1e9 (`local_exponent`).
    """
    return chinchilla.fn(total_parameters(N, omega), D, E=E, A=A, B=B, alpha=alpha, beta=beta)


def optimal_compute(
    N: Any, *, A: Any, B: Any, alpha: Any, beta: Any, omega: Any, E: Any = 0.0
) -> Any:
    """C(N) = 6 N (B beta N_T^(1+alpha) / (A alpha (N + (omega/3) N^(1/3))))^(1/beta)

    The compute at which N is optimal for `chinchilla_nonembedding` under C = 6 N D; the inverse
    of N*(C), which has no closed form. Shapes broadcast; C in FLOPs. `E` plays no part.

    Source: Pearce and Song 2024, arXiv 2406.12907.
    """
    del E
    log_slope = jnp.log(N + omega / 3 * power(N, 1 / 3))  # N d N_T / d N
    log_total = jnp.log(total_parameters(N, omega))
    ratio = jnp.log(beta * B) - jnp.log(alpha * A) + (1 + alpha) * log_total - log_slope
    return 6 * N * jnp.exp(ratio / beta)


def local_exponent(N: Any, *, alpha: Any, beta: Any, omega: Any, **_: Any) -> Any:
    """g = d log N* / d log C, where 1/g = 1 - (1/beta) (u + w/9)/(u + w/3)
    + ((1 + alpha)/beta) (u + w/3)/(u + w), u = N^(2/3) and w = omega

    Slope of the optimum of `chinchilla_nonembedding`: beta/(alpha/3 + beta) for tiny models and
    beta/(alpha + beta) for large ones, with the change around omega^(3/2), about 1e7. On the way
    it overshoots. Shapes broadcast; parameters that play no part are accepted and ignored.
    Test vector: see `chinchilla_nonembedding`.

    Source: Pearce and Song 2024, arXiv 2406.12907.
    """
    u = power(N, 2 / 3)
    embedding = (u + omega / 9) / (u + omega / 3)
    total = (u + omega / 3) / (u + omega)
    return 1 / (1 - embedding / beta + (1 + alpha) / beta * total)


@law(
    family="chinchilla",
    source="Rosenfeld et al. 2020, arXiv 1909.12673",
    evidence="formula second-hand; no coefficients published here",
    inputs={"N": "parameters", "D": "examples or tokens of the training set"},
    E=positive(0.02, 0.5, unit="loss"),
    A=positive(0.1, 1.0, unit="loss * N**alpha"),
    B=positive(0.1, 1.0, unit="loss * D**beta"),
    alpha=real(0.1, 1.2),
    beta=real(0.1, 1.2),
    guess=positive(1.5, 6.0, unit="loss"),
)
def rosenfeld(N: Any, D: Any, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, guess: Any) -> Any:
    """L(N, D) = e / sqrt(1 + (e / guess)^2), e = E + A / N^alpha + B / D^beta

    The error rises to that of guessing, `guess`, as models or data shrink, and follows
    `chinchilla` once it is well below. The paper writes |e' / (e' - i eta)| guess with
    e' = b N^-alpha + a D^-beta + c; a common factor of a, b, c and eta cancels there, so that
    only e = e' guess / eta is identified: see `rosenfeld_params`.
    """
    e = chinchilla.fn(N, D, E=E, A=A, B=B, alpha=alpha, beta=beta)
    return e / jnp.sqrt(1 + (e / guess) ** 2)


def rosenfeld_params(*, a: Any, b: Any, c: Any, eta: Any, guess: Any) -> dict[str, Any]:
    """E = c guess / eta, A = b guess / eta, B = a guess / eta

    Parameters of `rosenfeld` from the paper's: `a` belongs to data, `b` to parameters, `c` is the
    floor, `eta` the transition and `guess` the error of random guessing. Exponents stay as they
    are. Any shape.

    Source: Rosenfeld et al. 2020, arXiv 1909.12673.
    """
    scale = guess / eta
    return {"E": c * scale, "A": b * scale, "B": a * scale, "guess": guess}


@law(
    family="chinchilla",
    source="Li et al. 2025 (Farseer), arXiv 2506.10972",
    evidence="formula second-hand; coefficients not verified, so none are given",
    inputs={
        "N": "parameters",
        "D": Input("training tokens, counted one by one: the law fixes their unit", lower=0.0),
    },
    E=positive(0.3, 1.0, unit="loss"),
    a=real(-0.5, 0.5, unit="N**(-gamma)"),
    gamma=positive(0.05, 0.5),
    B=positive(10.0, 1e4, unit="loss"),
    b=real(-3.0, 3.0, unit="N**(-beta)"),
    beta=real(-0.5, 0.5),
    h=positive(0.2, 0.6),
    c=real(-1.0, 1.0, unit="N**(-alpha)"),
    alpha=positive(0.05, 0.5),
)
def farseer(
    N: Any,
    D: Any,
    *,
    E: Any,
    a: Any,
    gamma: Any,
    B: Any,
    b: Any,
    beta: Any,
    h: Any,
    c: Any,
    alpha: Any,
) -> Any:
    """L(N, D) = E exp(a N^gamma) + B exp(b N^beta) D^(-h exp(c N^alpha))

    The data term, scale and exponent both, depends on N. With E, B and h written as exponentials
    it is the paper's form. D is not rescaled: its exponent differs from model to model, so a
    change of its unit is no change of parameters. There is no closed optimum.
    Test vector: E = exp(-0.091), a = -0.021, gamma = 0.169, B = exp(-6.287), b = 88.01,
    beta = -0.1, h = exp(0.424), c = -0.124, alpha = 0.123 at (1e9, 2e10) gives 0.5272 (the loss
    is not in nats per token).
    """
    floor = E * jnp.exp(a * power(N, gamma))
    exponent = h * jnp.exp(c * power(N, alpha))
    return floor + B * jnp.exp(b * power(N, beta) - exponent * jnp.log(D))


def _encoder_share(p_e: Any, p_d: Any, **_: Any) -> Any:
    return p_e / (p_e + p_d)


@law(
    family="chinchilla",
    source="Ghorbani et al. 2021, arXiv 2109.07740",
    evidence="that it joins encoder and decoder size is in the abstract; formula not read there",
    inputs={"N_e": "parameters of the encoder", "N_d": "parameters of the decoder"},
    derived={"encoder_share": _encoder_share},
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.3, 1.0, unit="loss * N_e**p_e * N_d**p_d"),
    p_e=real(0.05, 0.8),
    p_d=real(0.05, 0.8),
)
def encoder_decoder(N_e: Any, N_d: Any, *, E: Any, A: Any, p_e: Any, p_d: Any) -> Any:
    """L(N_e, N_d) = E + A / (N_e^p_e N_d^p_d)

    Translation models: the total size alone does not determine the loss. Written with reference
    sizes as alpha (R_e / N_e)^p_e (R_d / N_d)^p_d, A = alpha R_e^p_e R_d^p_d. Of a fixed total
    the encoder best takes p_e / (p_e + p_d) (`optimal_split`), and L - E falls as
    N^-(p_e + p_d).
    """
    return E + A * jnp.exp(-p_e * jnp.log(N_e) - p_d * jnp.log(N_d))


def optimal_split(N: Any, *, p_e: Any, p_d: Any, **_: Any) -> tuple[Any, Any]:
    """N_e = N p_e / (p_e + p_d), N_d = N - N_e

    Encoder and decoder sizes of least loss under `encoder_decoder` with N parameters in all.
    Shapes broadcast; parameters that play no part are accepted and ignored.

    Source: maximum of p_e log N_e + p_d log N_d at a fixed sum.
    """
    N_e = N * _encoder_share(p_e, p_d)
    return N_e, N - N_e
