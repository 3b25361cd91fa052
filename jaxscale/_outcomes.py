"""Objectives that are likelihoods in full: counts of successes, and outcomes with a probability.

Their noise is known, so that nothing about it is estimated, and a weight is a number of
observations: trials, or runs that had the same outcome.
"""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy

from jaxscale._objective import OBJECTIVES, Objective

_NEAR = 0.1  # relative distance of two shares below which the series is more exact
_TERMS = 14


class Outcome(Objective):
    """An objective whose ``sum_i weight_i rho(residual_i)`` is a negative log likelihood."""

    log: ClassVar[bool] = False
    known: ClassVar[bool] = True
    outcomes: ClassVar[bool] = True

    def scale_at(self, mean_rho: Any) -> Any:
        """Zero: where a new outcome falls depends on its number of trials, not on a scale."""
        return np.zeros(np.shape(mean_rho))

    def observations(self, weight: Any) -> Any:
        return jnp.sum(weight)

    def cdf(self, r: Any, scale: Any) -> Any:
        return jnp.where(r < 0, 0.0, 1.0)

    def ppf(self, u: Any, scale: Any) -> Any:
        return jnp.zeros(jnp.broadcast_shapes(jnp.shape(u), jnp.shape(scale)))

    def log_prob(self, r: Any, scale: Any) -> Any:
        return -self.rho(r)

    def profile_nll(self, mean_rho: Any) -> Any:
        return np.asarray(mean_rho)


class Binomial(Outcome):
    """Binomial likelihood of counts: the law predicts the probability p of a success.

    The loss of a run is its share y of successes, from 0 to 1, and its weight the number of
    trials. rho(r) = r^2 / 2 with the deviance residual r = sign(p - y) sqrt(2 KL(y, p)), so that
    the sum is the negative log likelihood up to a constant. McCullagh & Nelder 1989, chapter 4.
    """

    def residual(self, predicted: Any, loss: Any) -> Any:
        """sign(p - y) sqrt(2 KL(y, p))."""
        edge = jnp.finfo(jnp.result_type(predicted, float)).eps
        p, y = jnp.clip(predicted, edge, 1 - edge), loss
        t = p - y
        near = (jnp.abs(t) < _NEAR * y) & (jnp.abs(t) < _NEAR * (1 - y))
        return jnp.where(near, _close(t, jnp.where(near, y, 0.5)), _away(p, y, near))

    def rho(self, r: Any, width: Any = 0.0) -> Any:
        return 0.5 * r * r

    def weights(self, r: Any, width: Any = 0.0) -> tuple[Any, Any, Any]:
        one = jnp.ones_like(r)
        return r, one, one

    def check(self, loss: np.ndarray) -> np.ndarray:
        return (loss >= 0) & (loss <= 1)

    must: ClassVar[str] = "be a share of successes, from 0 to 1"


def _close(t: Any, y: Any) -> Any:
    """The residual for p = y + t close to y, where KL is a difference of equals: its series in t.

    KL = sum_k (t^k / k) ((-1)^k y^(1-k) + (1-y)^(1-k)), k = 2, 3, ...
    """
    failed, succeeded = t / (1 - y), -t / y
    total = jnp.zeros_like(t)
    for k in range(_TERMS, 1, -1):
        total = total + (succeeded ** (k - 2) / y + failed ** (k - 2) / (1 - y)) / k
    return t * jnp.sqrt(2 * total)


def _away(p: Any, y: Any, near: Any) -> Any:
    """The residual elsewhere, as it is defined."""
    entropy = xlogy(y, y) + xlogy(1 - y, 1 - y)
    divergence = entropy - xlogy(y, p) - (1 - y) * jnp.log1p(-p)
    positive = (divergence > 0) & ~near
    return jnp.sign(p - y) * jnp.where(
        positive, jnp.sqrt(2 * jnp.where(positive, divergence, 1)), 0
    )


class LogScore(Outcome):
    """Negative log likelihood of a law that predicts the probability of what was observed.

    rho(r) = r with r = -log(predicted); the loss of a run is not looked at. The way to
    the optimum uses the outer product of scores (Berndt, Hall, Hall & Hausman 1974), what is said
    about the optimum the exact Hessian.
    """

    def residual(self, predicted: Any, loss: Any) -> Any:
        """-log(predicted)."""
        return -jnp.log(predicted)

    def rho(self, r: Any, width: Any = 0.0) -> Any:
        return r

    def weights(self, r: Any, width: Any = 0.0) -> tuple[Any, Any, Any]:
        one = jnp.ones_like(r)
        return one, jnp.zeros_like(r), one

    def check(self, loss: np.ndarray) -> np.ndarray:
        return np.isfinite(loss)


OBJECTIVES |= {kind.__name__: kind for kind in (Binomial, LogScore)}
