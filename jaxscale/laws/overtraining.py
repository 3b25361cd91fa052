"""Loss in compute and tokens per parameter, and average error from loss (Gadre et al. 2024)."""

from typing import Any

import jax.numpy as jnp

from jaxscale._law import law
from jaxscale._param import positive
from jaxscale.laws._power import power

_SOURCE = "Gadre et al. 2024, arXiv 2403.08540"


def optimal_multiplier(*, a: Any, b: Any, eta: Any, **_: Any) -> Any:
    """M* = (b / a)^(1 / (2 eta))

    Tokens per parameter of least loss under `gadre_overtrain`, the same at any compute. The
    published fits have no run below M = 20 and put it at 3 to 7: not a recommendation.
    Any shape; other parameters are accepted and ignored. Test vector: C4, 3.36.

    Source: derived from the law of Gadre et al. 2024, arXiv 2403.08540.
    """
    return power(b / a, 1 / (2 * eta))


@law(
    family="chinchilla",
    source=f"{_SOURCE}, equation of the paper's form",
    evidence="formula and coefficients read in the authors' code, re-fitted",
    inputs={"C": "FLOPs, 6 N D", "M": "tokens per parameter, D / N"},
    derived={"M_opt": optimal_multiplier},
    E=positive(0.3, 1.0, unit="loss"),
    a=positive(0.1, 1.0, unit="loss * C**eta / M**eta"),
    b=positive(0.1, 1.0, unit="loss * C**eta * M**eta"),
    eta=positive(0.03, 0.5),
)
def gadre_overtrain(C: Any, M: Any, *, E: Any, a: Any, b: Any, eta: Any) -> Any:
    """L(C, M) = E + (a M^eta + b M^-eta) C^-eta

    `chinchilla` with one exponent alpha = beta = 2 eta, in compute and token multiplier: training
    longer shifts the line in log-log, but does not tilt it. `overtrain_params` and
    `chinchilla_params` convert. Test vector: C4 at C = 1e20, M = 20 gives 2.76979755.
    """
    return E + (a * power(M, eta) + b * power(M, -eta)) * power(C, -eta)


def overtrain_params(*, alpha: Any, beta: Any, p: Any, E: Any) -> dict[str, Any]:
    """eta = -p / 2, a = alpha 6^eta, b = beta

    Parameters of `gadre_overtrain` from the form in the authors' code,
    alpha N^p + beta 6^(p/2) (M N)^p + E with p < 0: 6 enters one term only. Any shape.

    Source: Gadre et al. 2024, arXiv 2403.08540, authors' code.
    """
    eta = -p / 2
    return {"E": E, "a": alpha * power(6.0, eta), "b": beta, "eta": eta}


def code_params(*, E: Any, a: Any, b: Any, eta: Any) -> dict[str, Any]:
    """p = -2 eta, alpha = a 6^-eta, beta = b

    The inverse of `overtrain_params`: what the authors' code calls its coefficients. Any shape.

    Source: Gadre et al. 2024, arXiv 2403.08540, authors' code.
    """
    return {"alpha": a * power(6.0, -eta), "beta": b, "p": -2 * eta, "E": E}


def chinchilla_params(*, E: Any, a: Any, b: Any, eta: Any) -> dict[str, Any]:
    """alpha = beta = 2 eta, A = a 6^-eta, B = b 6^-eta

    Parameters of `chinchilla` that predict the same loss with C = 6 N D and M = D / N. Any shape.

    Source: Gadre et al. 2024, arXiv 2403.08540, section 2.
    """
    six = power(6.0, -eta)
    return {"E": E, "A": a * six, "B": b * six, "alpha": 2 * eta, "beta": 2 * eta}


@law(
    family="downstream",
    source=f"{_SOURCE}, equation for the average error",
    evidence="formula and coefficients read in the authors' code, re-fitted",
    inputs={"L": "validation loss in nats per token (C4)"},
    predicts="error, mean of tasks",
    guess=positive(1.0, 1.6, unit="loss"),
    k=positive(0.5, 6.0, unit="loss"),
    gamma=positive(0.8, 3.5, unit="1 / L"),
)
def gadre_error(L: Any, *, guess: Any, k: Any, gamma: Any) -> Any:
    """Err(L) = guess - k exp(-gamma L)

    Error averaged over tasks, from validation loss; `guess` (the paper's epsilon) is the error
    of a model that knows nothing. Single tasks do not follow it. For small L it turns negative:
    fit it with `Gaussian()`. Test vector: C4, 17 tasks, at L = 3 gives 0.634549.
    """
    return guess - k * jnp.exp(-gamma * L)
