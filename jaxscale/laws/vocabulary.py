"""Loss by vocabulary size (Tao et al. 2024)."""

from typing import Any

import jax.numpy as jnp

from jaxscale._law import law
from jaxscale._param import positive
from jaxscale.laws._power import power
from jaxscale.laws._root import root

_SOURCE = "Tao et al. 2024, arXiv 2407.13623"
_LARGEST = 200_000.0


def tokens_per_character(V: Any) -> Any:
    """f(V) = 0.00639222 ln^2 V - 0.15811069 ln V + 1.20470122

    Tokens that a vocabulary of V needs per character of text, held fixed above V = 2e5. Any shape.
    Test vector: f(32768) = 0.2518028422. The authors' fit of the law passes V / 1000 to it by
    mistake, which their coefficients inherit; see `tao_2024_vocabulary` in the published numbers.

    Source: Tao et al. 2024, arXiv 2407.13623, authors' code.
    """
    log_V = jnp.log(jnp.minimum(jnp.asarray(V, float), _LARGEST))
    return 0.00639222 * log_V**2 - 0.15811069 * log_V + 1.20470122


@law(
    family="vocabulary",
    source=f"{_SOURCE}, approach 3",
    evidence="formula and coefficients read in the authors' code, re-fitted",
    inputs={
        "N": "parameters without vocabulary",
        "N_v": "vocabulary parameters, vocabulary size times width",
        "D": "training tokens",
    },
    E=positive(1.0, 10.0),
    A_1=positive(0.1, 3.0, unit="N**alpha"),
    A_2=positive(0.02, 1.0, unit="N_v**alpha_2"),
    B=positive(0.1, 3.0, unit="D**alpha"),
    alpha=positive(0.1, 1.0),
    alpha_2=positive(0.1, 1.5),
)
def tao_vocabulary(
    N: Any, N_v: Any, D: Any, *, E: Any, A_1: Any, A_2: Any, B: Any, alpha: Any, alpha_2: Any
) -> Any:
    """L_u(N, N_v, D) = -E + A_1 / N^alpha + A_2 / N_v^alpha_2 + B / D^alpha

    L_u is the loss less that of a unigram model, in nats per token, so that vocabularies compare.
    It is negative: fit it with `Huber`, which takes raw residuals. N and D share their exponent.
    Text of H characters has D = H `tokens_per_character(V)` tokens. Test vector: the published
    numbers at N = 1e9, N_v = 32768 * 2048, D = 2e10 give -4.880029597.
    """
    return -E + A_1 * power(N, -alpha) + A_2 * power(N_v, -alpha_2) + B * power(D, -alpha)


def best_vocabulary_parameters(
    N: Any, C: Any, *, A_2: Any, B: Any, alpha: Any, alpha_2: Any, **_: Any
) -> Any:
    """N_v with alpha_2 A_2 / N_v^(1+alpha_2) = alpha B (6/C)^alpha (N + N_v)^(alpha-1)

    Vocabulary parameters of least loss for a model of N other parameters and C FLOPs, where
    D = C / (6 (N + N_v)); divided by the width they are the best vocabulary size. The root is the
    only one. N and C broadcast; other parameters are accepted and ignored.

    Source: Tao et al. 2024, arXiv 2407.13623, approach 3.
    """

    def excess(log_v: Any, log_N: Any, log_C: Any, p: tuple[Any, ...]) -> Any:
        A_2, B, alpha, alpha_2 = p
        gain = jnp.log(alpha_2 * A_2) - (1 + alpha_2) * log_v
        price = jnp.log(alpha * B) + alpha * (jnp.log(6.0) - log_C)
        return gain - price - (alpha - 1) * jnp.logaddexp(log_N, log_v)

    p = tuple(jnp.asarray(x, float) for x in (A_2, B, alpha, alpha_2))

    def one(log_N: Any, log_C: Any) -> Any:
        return root(excess, log_N - 20.0, log_N + 20.0, log_N, log_C, p)

    logs = jnp.log(jnp.asarray(N, float)), jnp.log(jnp.asarray(C, float))
    return jnp.exp(jnp.vectorize(one)(*logs))
