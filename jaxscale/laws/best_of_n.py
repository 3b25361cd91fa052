"""Success rates that differ from problem to problem as a Beta density: the exact curve for any k.

Fit `beta_binomial` to the counts of a few attempts per problem, and `beta_coverage` with the same
parameters is the coverage of any number of attempts. A share of problems that no attempt ever
solves is the spike of the `spike_` laws.
"""

from typing import Any

import jax.numpy as jnp

from jaxscale._law import Input, law
from jaxscale._param import positive, unit
from jaxscale.laws._gamma import log_gamma_ratio
from jaxscale.laws._root import root

_SABER = "Microsoft 2026 (SABER), arXiv 2601.22636"
_SEEN = "formula read in the paper; golden values computed independently"
_COUNTS = {
    "successes": Input("attempts on a problem that solved it", lower=0, closed=True),
    "failures": Input("attempts on it that did not", lower=0, closed=True),
}
_ATTEMPTS = {"k": Input("attempts per problem", lower=0, closed=True)}
_ALPHA, _BETA = positive(0.1, 3.0), positive(0.3, 10.0)


def _log_missed(k: Any, alpha: Any, beta: Any) -> Any:
    """log E[(1 - p)^k]"""
    return log_gamma_ratio(beta, alpha) - log_gamma_ratio(beta + k, alpha)


@law(
    family="coverage",
    source=_SABER,
    evidence=_SEEN,
    inputs=_ATTEMPTS,
    predicts="coverage",
    derived={"mean_rate": lambda alpha, beta, **_: alpha / (alpha + beta)},
    alpha=_ALPHA,
    beta=_BETA,
)
def beta_coverage(k: Any, *, alpha: Any, beta: Any) -> Any:
    """c(k) = 1 - Gamma(alpha + beta) Gamma(beta + k) / (Gamma(beta) Gamma(alpha + beta + k))

    The coverage of k attempts if success rates are Beta(alpha, beta): 1 - c ~ k^-alpha. Exact; the
    asymptotic form is negative at small k. Test vector: alpha = 0.3, beta = 2 at k = 1000,
    0.8531923.
    """
    return -jnp.expm1(_log_missed(k, alpha, beta))


@law(
    family="coverage",
    source=_SABER,
    evidence=_SEEN,
    inputs=_ATTEMPTS,
    predicts="coverage",
    derived={"ceiling": lambda share, **_: 1 - share},
    alpha=_ALPHA,
    beta=_BETA,
    share=unit(0.02, 0.6),
)
def spike_beta_coverage(k: Any, *, alpha: Any, beta: Any, share: Any) -> Any:
    """c(k) = (1 - share) (1 - Gamma(alpha + beta) Gamma(beta + k) / (Gamma(beta) Gamma(...)))

    `beta_coverage` where a `share` of the problems is never solved: spike and slab.
    """
    return -(1 - share) * jnp.expm1(_log_missed(k, alpha, beta))


def _probability(successes: Any, failures: Any, alpha: Any, beta: Any) -> Any:
    # Gamma(x + d) / Gamma(x) for the three counts, over the same for no counts at all.
    d = jnp.stack([alpha - 1, beta - 1, alpha + beta - 1])
    counts = jnp.stack([successes, failures, successes + failures])
    log_ratio = log_gamma_ratio(counts + 1, d) - log_gamma_ratio(1.0, d)
    return jnp.exp(log_ratio[0] + log_ratio[1] - log_ratio[2])


@law(
    family="coverage",
    source=_SABER,
    evidence=_SEEN,
    inputs=_COUNTS,
    predicts="probability",
    derived={"mean_rate": lambda alpha, beta, **_: alpha / (alpha + beta)},
    alpha=_ALPHA,
    beta=_BETA,
)
def beta_binomial(successes: Any, failures: Any, *, alpha: Any, beta: Any) -> Any:
    """P(k of n) = C(n, k) B(k + alpha, n - k + beta) / B(alpha, beta), k successes, n - k failures

    The probability of the outcome itself, so it is fitted with `js.LogScore()`: one run per
    problem, the loss column is ignored. Problems may differ in their number of attempts. If there
    are no successes at all, alpha is not identified.
    """
    return _probability(successes, failures, alpha, beta)


@law(
    family="coverage",
    source=_SABER,
    evidence=_SEEN,
    inputs=_COUNTS,
    predicts="probability",
    alpha=_ALPHA,
    beta=_BETA,
    share=unit(0.02, 0.6),
)
def spike_beta_binomial(successes: Any, failures: Any, *, alpha: Any, beta: Any, share: Any) -> Any:
    """P(k of n) = share [k = 0] + (1 - share) C(n, k) B(k + alpha, n - k + beta) / B(alpha, beta)

    `beta_binomial` where a `share` of the problems is never solved. Share and a small alpha explain
    the same zeros: it takes many attempts to tell them apart. Fitted with `js.LogScore()`.
    """
    never = jnp.where(successes < 0.5, share, 0.0)
    return never + (1 - share) * _probability(successes, failures, alpha, beta)


# Beyond the attempts at hand.


def asymptotic_coverage(k: Any, *, alpha: Any, beta: Any, shifted: bool = False) -> Any:
    """c(k) ~ 1 - Gamma(alpha + beta) / Gamma(beta) k^-alpha, the limit of `beta_coverage`

    Args:
        k: attempts.
        alpha, beta: shapes of the Beta density.
        shifted: replace k by k + beta + (alpha - 1) / 2, which is good from small k on.

    Source: SABER, arXiv 2601.22636. alpha = 0.3, beta = 2, k = 1: -0.167, where 0.130 is exact.
    """
    k = k + beta + (alpha - 1) / 2 if shifted else k
    return -jnp.expm1(log_gamma_ratio(beta, alpha) - alpha * jnp.log(k))


def anchored_coverage(k: Any, *, anchor_k: Any, anchor: Any, alpha: Any, beta: Any = None) -> Any:
    """c(k) = 1 - (1 - c(n)) m(k) / m(n), with the missed share m of `beta_coverage`

    Only the ratio of misses is extrapolated, from the observed coverage c(n) of n attempts. Without
    `beta` the ratio is its limit (n / k)^alpha. The authors' code has beta = 1 in place of the
    fitted beta.

    Args:
        k: attempts to extrapolate to.
        anchor_k, anchor: n and the coverage c(n) observed there.
        alpha, beta: shapes fitted to the counts.

    Source: SABER, arXiv 2601.22636.
    """
    if beta is None:
        log_ratio = alpha * (jnp.log(anchor_k) - jnp.log(k))
    else:
        log_ratio = _log_missed(k, alpha, beta) - _log_missed(anchor_k, alpha, beta)
    return 1 - (1 - anchor) * jnp.exp(log_ratio)


def anchored_budget(target: Any, *, anchor_k: Any, anchor: Any, alpha: Any) -> Any:
    """N_tau = n ((1 - c(n)) / (1 - tau))^(1 / alpha): attempts to reach coverage tau

    Source: SABER, arXiv 2601.22636; inverse of `anchored_coverage` in its limit.
    """
    return anchor_k * jnp.exp((jnp.log1p(-anchor) - jnp.log1p(-target)) / alpha)


def attempts_for(target: Any, *, alpha: Any, beta: Any, share: Any = 0.0) -> Any:
    """The k at which `beta_coverage` (or `spike_beta_coverage`) is `target`

    Solved exactly; the plug-in (Gamma(alpha + beta) / ((1 - tau) Gamma(beta)))^(1 / alpha) is the
    limit for large k. Infinite where the target is not below the ceiling 1 - share. Differentiable.

    Args:
        target: coverage, between 0 and 1.
        alpha, beta, share: parameters of the law. All broadcast.

    Source: SABER, arXiv 2601.22636, with the exact law in place of its limit.
    """

    def one(target: Any, alpha: Any, beta: Any, share: Any) -> Any:
        reachable = target < 1 - share
        goal = jnp.where(reachable, target / (1 - share), 0.5)
        # Gamma(x + a) / Gamma(x) >= (x - 1/2)^a bounds the answer by the plug-in plus 1/2.
        plug_in = (log_gamma_ratio(beta, alpha) - jnp.log1p(-goal)) / alpha
        high = jnp.logaddexp(plug_in, 0.0)
        log_k = root(_shortfall, -40.0, high, goal, alpha, beta)
        return jnp.where(reachable, jnp.exp(log_k), jnp.inf)

    return jnp.vectorize(one)(target, alpha, beta, share)


def _shortfall(log_k: Any, goal: Any, alpha: Any, beta: Any) -> Any:
    return jnp.log1p(-goal) - _log_missed(jnp.exp(log_k), alpha, beta)
