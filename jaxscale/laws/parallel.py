"""Parallel scaling: the same model run on several learned views of its input."""

from typing import Any

import jax.numpy as jnp

from jaxscale._law import Input, law
from jaxscale._param import positive, real
from jaxscale.laws.power import power_law_offset


def parallel_parameters(N: Any, P: Any, *, k: Any) -> Any:
    """N_eff = N (k ln P + 1): what N parameters in P parallel streams are worth.

    Source: Chen et al. 2025, arXiv 2505.10475.
    """
    return N * (k * jnp.log(P) + 1)


@law(
    family="parallel",
    source="Chen et al. 2025, arXiv 2505.10475",
    evidence="formula and coefficients read in the authors' code, re-fitted",
    inputs={
        "N": "parameters without embeddings",
        "P": Input("parallel streams", lower=1, closed=True),
    },
    derived={"N_c": lambda A, alpha, **_: A ** (1 / alpha)},
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.1, 1.0, unit="loss * N**alpha"),
    alpha=real(0.1, 1.0),
    k=positive(0.1, 1.0),
)
def parscale(N: Any, P: Any, *, E: Any, A: Any, alpha: Any, k: Any) -> Any:
    """L(N, P) = E + A / (N (k ln P + 1))^alpha

    The authors write (A' / N_eff)^alpha with A' in billions: A = (1e9 A')^alpha.
    Test vectors: their fits at (1e9, 8) give 1.073346719 (Stack) and 1.944330318 (Pile).
    """
    return power_law_offset.fn(parallel_parameters(N, P, k=k), E=E, A=A, alpha=alpha)
