"""Closed forms of the frontier of `chinchilla` under C = 6 N D: losses, budgets, cost of mistakes.

They hold for `coupled_power` as well, where a docstring names gamma. At the optimum the two terms
stand in a fixed proportion, alpha A / N^alpha = beta B / D^beta, whatever the budget.
"""

from typing import Any

import jax.numpy as jnp

from jaxscale.laws._power import power
from jaxscale.laws.chinchilla import optimal_ratio


def least_loss(C: Any, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, gamma: Any = 1.0) -> Any:
    """L*(C) = E + ((A G^-alpha + B G^beta) (C / 6)^(-alpha beta / (alpha + beta)))^gamma

    The lowest loss that C FLOPs can buy. Everything broadcasts.

    Source: derived from Hoffmann et al. 2022, arXiv 2203.15556, equation 4.
    """
    G = optimal_ratio(A, B, alpha, beta)
    scale = A * power(G, -alpha) + B * power(G, beta)
    return E + power(scale * power(C / 6, -alpha * beta / (alpha + beta)), gamma)


def budget(loss: Any, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, gamma: Any = 1.0) -> Any:
    """C = 6 ((A G^-alpha + B G^beta) / (loss - E)^(1 / gamma))^((alpha + beta) / (alpha beta))

    The inverse of `least_loss`; infinite for a loss of E or below. Everything broadcasts.

    Source: derived from Hoffmann et al. 2022, arXiv 2203.15556, equation 4.
    """
    G = optimal_ratio(A, B, alpha, beta)
    scale = A * power(G, -alpha) + B * power(G, beta)
    left = jnp.asarray(loss - E)
    rest = power(jnp.where(left > 0, left, 1.0), 1 / jnp.asarray(gamma))
    found = 6 * power(scale / rest, (alpha + beta) / (alpha * beta))
    return jnp.where(left > 0, found, jnp.inf)


def excess(factor: Any, *, alpha: Any, beta: Any, gamma: Any = 1.0) -> Any:
    """(L - E) / (L* - E) = ((beta k^-alpha + alpha k^beta) / (alpha + beta))^gamma

    What the reducible loss is multiplied by if a budget is spent on k times the best size and 1 / k
    times the best number of tokens. The regret is (L* - E) (excess - 1).

    Args:
        factor: k, above zero.
        alpha, beta, gamma: exponents; gamma = 1 for `chinchilla`.

    Source: derived from Hoffmann et al. 2022, arXiv 2203.15556, equation 4.
    """
    mixed = beta * power(factor, -alpha) + alpha * power(factor, beta)
    return power(mixed / (alpha + beta), gamma)


def wasted(factor: Any, *, alpha: Any, beta: Any) -> Any:
    """1 - C' / C = 1 - ((beta k^-alpha + alpha k^beta) / (alpha + beta))^(-(1/alpha + 1/beta))

    Share of a budget that is wasted on k times the best size: C' of the C FLOPs would have reached
    the same loss. It does not depend on gamma, nor on the budget.

    Source: derived from Hoffmann et al. 2022, arXiv 2203.15556, equation 4.
    """
    return 1 - power(excess(factor, alpha=alpha, beta=beta), -(1 / alpha + 1 / beta))


def overhead(factor: Any, *, alpha: Any, beta: Any) -> Any:
    """C' / C = k (1 + (beta / alpha) (1 - k^-alpha))^(-1 / beta)

    FLOPs that k times the best size needs for the same loss, relative to the best; infinite at and
    below `smallest_factor`, where it cannot reach it. Kaplan's law has `kaplan.size_overhead`.

    Source: derived from Hoffmann et al. 2022, arXiv 2203.15556, equation 4, as Kaplan et al. 2020,
    arXiv 2001.08361, appendix B.
    """
    inside = 1 + beta / alpha * (1 - power(factor, -alpha))
    reached = inside > 0
    return jnp.where(reached, factor * power(jnp.where(reached, inside, 1.0), -1 / beta), jnp.inf)


def smallest_factor(*, alpha: Any, beta: Any) -> Any:
    """k = (1 + alpha / beta)^(-1 / alpha)

    A model this much smaller than the best cannot reach the same loss, on any number of tokens.

    Source: derived from Hoffmann et al. 2022, arXiv 2203.15556, equation 4.
    """
    return power(1 + alpha / beta, -1 / alpha)
