"""Repeated sampling: pass@k from counts, laws of coverage, and what they say about the tail.

Coverage (pass@k, attack success rate at k) is the share of problems that at least one of k
attempts solves. For one problem of success rate p it is 1 - (1 - p)^k; averaged over problems it
falls short of 1 as a power of k whose exponent is that of the density of p near zero.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from jaxscale._errors import DataError, LawError
from jaxscale._law import Input, law
from jaxscale._param import positive, unit
from jaxscale.laws._power import power

_ATTEMPTS = "attempts per problem"


# Counts.


def pass_at_k(n: Any, c: Any, k: Any) -> np.ndarray:
    """pass@k = 1 - C(n - c, k) / C(n, k), without bias, for each problem

    The mean over problems is the coverage. Replacing it by 1 - (1 - c/n)^k, the plug-in, is biased
    downward for every k > 1. Computed as 1 - prod (1 - k/i) over i = n-c+1 ... n, in logs.

    Args:
        n: samples per problem.
        c: correct ones among them.
        k: attempts; the three broadcast against each other.

    Returns:
        One estimate per problem (and k), in double precision.

    Raises:
        DataError: if the counts are no whole numbers with 0 <= c <= n and 1 <= k <= n. Beyond the
            samples at hand (k > n) a law is needed: `beta_coverage`.

    Source: Chen et al. 2021, arXiv 2107.03374, equation 1. n = 10, c = 3, k = 5 gives 11/12.
    """
    n, c, k = np.broadcast_arrays(*(np.asarray(x, float) for x in (n, c, k)))
    _check_counts(n, c, k)
    result = np.empty(n.shape)
    for samples, attempts in np.unique(np.stack([n.ravel(), k.ravel()], 1), axis=0):
        # Entry c: log of the chance that k of the n samples miss all c correct ones.
        factors = np.log1p(-attempts / np.arange(samples, attempts, -1))
        missed = np.concatenate([[0.0], np.cumsum(factors), np.full(int(attempts), -np.inf)])
        here = (n == samples) & (k == attempts)
        result[here] = -np.expm1(missed[c[here].astype(int)])
    return result + 0.0  # no negative zeros


def _check_counts(n: np.ndarray, c: np.ndarray, k: np.ndarray) -> None:
    for name, x in (("n", n), ("c", c), ("k", k)):
        if not (np.isfinite(x) & (x == np.round(x)) & (x >= 0)).all():
            raise DataError(f"{name} must hold whole numbers that are not negative")
    if (c > n).any():
        raise DataError("more correct samples than samples: c must not exceed n")
    if (k < 1).any() or (k > n).any():
        raise DataError(
            f"pass@k needs 1 <= k <= n; k goes from {k.min():g} to {k.max():g} with {n.min():g} "
            "samples. More attempts than samples need a law, such as laws.beta_coverage"
        )


# Laws of the whole curve.


@law(
    family="coverage",
    source="Brown et al. 2024 (Large Language Monkeys), arXiv 2407.21787, section 3",
    evidence="formula read in the paper; coefficients stand in figures only",
    inputs={"k": _ATTEMPTS},
    predicts="coverage",
    a=positive(0.1, 3.0, unit="k**b"),
    b=positive(0.1, 1.0),
)
def coverage_power(k: Any, *, a: Any, b: Any) -> Any:
    """c(k) = exp(-a k^-b)

    k: attempts per problem; c: share of problems solved. The paper prints exp(a k^b) with a, b < 0:
    `coverage_from_printed` flips the signs. -log c is a straight line in log-log. The authors
    minimize squares of c itself: `js.Gaussian()`; with counts, use `js.Binomial()`.
    """
    return jnp.exp(-a * power(k, -b))


def coverage_from_printed(a: float, b: float) -> dict[str, float]:
    """Parameters of `coverage_power` from exp(a k^b) as printed, with a < 0 and b < 0.

    Raises:
        LawError: if a sign is positive: such a curve is above 1 or falls with k.
    """
    if not (a < 0 and b < 0):
        raise LawError(f"rising coverage below 1 is printed with a < 0 and b < 0, got ({a}, {b})")
    return {"a": -a, "b": -b}


@law(
    family="coverage",
    source="Wang et al. 2025 (Scaling over Scaling), arXiv 2505.20522",
    evidence="formula read in the paper",
    inputs={"k": Input("attempts per problem, or rounds of rethinking", lower=0, closed=True)},
    predicts="coverage",
    ceiling=positive(0.3, 1.5, unit="loss"),
    p=unit(0.02, 0.8),
)
def coverage_saturating(k: Any, *, ceiling: Any, p: Any) -> Any:
    """F(k) = ceiling (1 - (1 - p)^k)

    k: parallel attempts or sequential rounds, 0 allowed; F: accuracy, as a share or in percent.
    p is the same for every problem, so it saturates faster than real benchmarks do: where
    `beta_coverage` fits better, that assumption has failed. `attempts_to_saturation` says when
    more attempts stop paying.
    """
    return -ceiling * jnp.expm1(k * jnp.log1p(-p))


def attempts_to_saturation(gain: Any, *, ceiling: Any, p: Any) -> Any:
    """k* = ceil(log(gain / (ceiling p)) / log(1 - p)), at least 0

    From k* on, one more attempt adds `gain` or less to `coverage_saturating`. `gain` is in the unit
    of `ceiling`: the accuracy that is worth the price of one attempt.

    Source: Wang et al. 2025, arXiv 2505.20522; the last step is algebra.
    """
    return jnp.maximum(jnp.ceil(jnp.log(gain / (ceiling * p)) / jnp.log1p(-p)), 0)


# What the density of success rates says about large k.


def coverage_exponent(density: str, alpha: float = 1.0) -> float:
    """b of 1 - pass@k ~ k^-b, from the density of success rates near zero, f(p) ~ p^(b - 1)

    Args:
        density: ``"uniform"`` (0 to any end), ``"beta"``, ``"kumaraswamy"`` or
            ``"continuous_bernoulli"`` (with its parameter below 1/2).
        alpha: first shape of ``"beta"`` or ``"kumaraswamy"``; the second does not matter.

    Raises:
        LawError: for another density. Where no rates are near zero (``"reciprocal"`` on an
            interval), misses fall exponentially and there is no exponent.

    Source: Schaeffer et al. 2025, arXiv 2502.17578, theorem and table of densities.
    """
    exponents = {
        "uniform": 1.0,
        "continuous_bernoulli": 1.0,
        "beta": float(alpha),
        "kumaraswamy": float(alpha),
    }
    if density == "reciprocal":
        raise LawError("misses fall as (1 - low)^k / k, no power of k: there are no rates near 0")
    if density not in exponents:
        raise LawError(f"no exponent is known for {density!r}; known are {', '.join(exponents)}")
    return exponents[density]


def coverage_tail(k: Any, *, scale: Any, b: Any) -> Any:
    """-log pass@k ~ scale Gamma(b) k^-b, when the density of rates is f(p) ~ scale p^(b-1)

    For a Beta(alpha, beta) density scale = 1 / B(alpha, beta) and b = alpha, and the right side is
    Gamma(alpha + beta) / Gamma(beta) k^-alpha.

    Source: Schaeffer et al. 2025, arXiv 2502.17578, main theorem.
    """
    return scale * jnp.exp(gammaln(b)) * power(k, -b)


# Accuracy against tokens.


def arise(accuracy: Any, tokens: Any) -> Any:
    """ARISE = sum_j da_j (T_(j-1) / T_j)^sign(da_j), da_j = a_j - a_(j-1)

    How well a model turns tokens into accuracy, over a sequence of efforts: a gain is discounted
    by the tokens that it took, a loss is amplified by them.

    Args:
        accuracy: a_0, a_1, ... on the last axis, per sample or averaged.
        tokens: tokens spent, same shape; steps with tokens of zero or less are left out.

    Returns:
        The score of each sample; the score of a data set is their mean.

    Source: Yin et al. 2025, arXiv 2510.06014, authors' code. (0, 1, 0) at (1, 2, 4) gives -1.5.
    """
    accuracy, tokens = jnp.asarray(accuracy, float), jnp.asarray(tokens, float)
    gain = jnp.diff(accuracy)
    before, after = tokens[..., :-1], tokens[..., 1:]
    usable = (before > 0) & (after > 0) & (gain != 0)
    ratio = jnp.where(usable, before, 1.0) / jnp.where(usable, after, 1.0)
    return jnp.where(usable, gain * ratio ** jnp.sign(gain), 0.0).sum(-1)


def tokens_slope(accuracy: Any, tokens: Any) -> float:
    """(mean a_2 - mean a_1) / (mean T_2 - mean T_1), the baseline that ARISE is compared to

    Args:
        accuracy, tokens: shape (samples, 2): low effort, high effort.

    Raises:
        DataError: if the tokens do not differ.
    """
    (a1, a2), (t1, t2) = (np.mean(np.asarray(x, float), axis=0) for x in (accuracy, tokens))
    if math.isclose(t1, t2):
        raise DataError("both efforts spend the same number of tokens")
    return float((a2 - a1) / (t2 - t1))
