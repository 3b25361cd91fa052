"""The distribution of one new run around the law, a member for every draw of the parameters."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import gammaln, ndtri

from jaxscale._objective import LogStudentT, Objective

_NO_NOISE = 1e-30  # a scale for fits without residuals


class RunNoise(eqx.Module):
    """Distribution of the residual of one new run, one member for every draw.

    The residual is log(predicted) - log(loss) if `log`, else predicted - loss, so that a run lies
    at predicted * exp(-residual) or at predicted - residual. Every array in it has a leading axis
    (draws,); a plain number is shared by all members. Methods are called under `jit` and `vmap`,
    at many points at once, so that a long axis of their own is better looped over.

    Attributes:
        log: whether the residual is one of log loss; a property, a class variable or a static
            field of the subclass.
    """

    log: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def cdf(self, r: Any, predicted: Any, inputs: dict[str, Any]) -> Any:
        """P(residual <= r) by every member, continuous in r.

        Args:
            r: residuals, which broadcast with shape (..., draws).
            predicted: loss of the law by every draw, shape (draws,); NaN where it has none.
            inputs: inputs of the law by name, each a number.

        Returns:
            Probabilities of shape (..., draws).
        """

    @abc.abstractmethod
    def bracket(self, u: Any, predicted: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """Residuals between which the u-quantile of every member certainly lies.

        They may be equal where the quantile has a closed form, and must be finite.

        Args:
            u: probabilities, which broadcast with shape (..., draws).
            predicted: loss of the law by every draw, shape (draws,); NaN where it has none.
            inputs: inputs of the law by name, each a number.

        Returns:
            Lower and upper residuals, each of shape (..., draws).
        """


class ObjectiveNoise(RunNoise):
    """The noise model that the objective implies, with a scale for every draw."""

    objective: Objective
    scale: Any

    @property
    def log(self) -> bool:
        """Whether the residual is one of log loss."""
        return self.objective.log

    def cdf(self, r: Any, predicted: Any, inputs: dict[str, Any]) -> Any:
        return self.objective.cdf(r, jnp.maximum(self.scale, _NO_NOISE))

    def bracket(self, u: Any, predicted: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
        scale = jnp.maximum(self.scale, _NO_NOISE)
        if isinstance(self.objective, LogStudentT):  # its quantile is SciPy's, not for `jit`
            low, high = student_bracket(u, self.objective.df)
            return scale * low, scale * high
        quantile = self.objective.ppf(u, scale)
        return quantile, quantile


def student_bracket(u: Any, df: Any) -> tuple[Any, Any]:
    """Numbers between which the u-quantile of Student's t lies, in closed form.

    The tails get lighter with df, so that the quantile lies between those of the normal
    distribution and of t with 2 degrees of freedom, or with 1, or beyond even that, where a
    quantile of the tail ``c df^((df - 1)/2) x^-df``, which is too heavy, bounds it.
    """
    tail = jnp.minimum(u, 1 - u)
    log_c = gammaln(0.5 * (df + 1)) - gammaln(0.5 * df) - 0.5 * jnp.log(df * jnp.pi)
    heaviest = jnp.exp((log_c + 0.5 * (df - 1) * jnp.log(df) - jnp.log(tail)) / df)
    two = (0.5 - tail) / jnp.sqrt(0.5 * tail * (1 - tail))
    one = 1 / jnp.tan(jnp.pi * tail)
    far = jnp.where(df >= 2, two, jnp.where(df >= 1, one, heaviest))
    near = jnp.broadcast_to(-ndtri(tail), jnp.shape(far))
    return jnp.where(u < 0.5, -far, near), jnp.where(u < 0.5, -near, far)
