"""Kaplan's joint law in parameters and tokens."""

from typing import Any

from jaxscale._law import law
from jaxscale._param import positive
from jaxscale.laws._power import power
from jaxscale.laws.chinchilla import optimal_ratio


def _optimum(C: Any, *, N_c: Any, D_c: Any, alpha_N: Any, alpha_D: Any) -> Any:
    inner = alpha_N / alpha_D
    return optimal_ratio(power(N_c, inner), D_c, inner, 1.0) * power(C / 6, 1 / (inner + 1))


@law(
    family="kaplan",
    source="Kaplan et al. 2020, arXiv 2001.08361, equation 1.5 and Table 2",
    evidence="formula and coefficients read in the paper",
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
