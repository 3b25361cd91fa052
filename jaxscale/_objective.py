"""Objectives: a residual, a loss on residuals, and the noise model that the loss implies.

All three live in one object so that the fit, its Hessian, AIC and the Bayesian likelihood agree.
A fit minimizes the sum over runs of ``weight * rho(residual)``.
"""

import abc
import math
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.scipy.stats import norm, t

from jaxscale._errors import JaxscaleError


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise JaxscaleError(f"{name} must be a positive number, got {value}")
    return float(value)


class Objective(eqx.Module):
    """What a fit minimizes. Subclasses say how a residual counts.

    `width` is the residual at which the loss changes character (Huber's delta). Optimizers may
    ask for a larger one to smooth the way to the optimum; the reported value never does.
    """

    log: ClassVar[bool] = True

    @property
    def width(self) -> Any:
        """Residual at which the loss bends; 0 for a smooth loss."""
        return 0.0

    def residual(self, predicted: Any, loss: Any) -> Any:
        """log(predicted) - log(loss), or predicted - loss for the objectives without `Log`."""
        return jnp.log(predicted) - jnp.log(loss) if self.log else predicted - loss

    @abc.abstractmethod
    def rho(self, r: Any, width: Any = 0.0) -> Any:
        """Loss of a residual, smoothed to at least `width`."""

    @abc.abstractmethod
    def weights(self, r: Any, width: Any = 0.0) -> tuple[Any, Any, Any]:
        """Slope, curvature and majorizing curvature of the loss, smoothed to at least `width`.

        rho'(r); max(rho''(r), 0); and the curvature of the parabola that touches rho at r and lies
        above it (iterative reweighting), which is rho'(r)/r for a symmetric loss.
        """

    @abc.abstractmethod
    def noise_scale(self, residuals: Any, weight: Any) -> float:
        """Maximum-likelihood scale of the noise model for given residuals."""

    @abc.abstractmethod
    def log_prob(self, r: Any, scale: Any) -> Any:
        """Log density of a residual under the noise model with that scale."""

    def __repr__(self) -> str:
        values = ", ".join(f"{k}={float(v):g}" for k, v in vars(self).items())
        return f"{type(self).__name__}({values})"


class LogGaussian(Objective):
    """Least squares on log loss: rho(r) = r^2 / 2. Noise: Gaussian in log loss."""

    def rho(self, r: Any, width: Any = 0.0) -> Any:
        return 0.5 * r * r

    def weights(self, r: Any, width: Any = 0.0) -> tuple[Any, Any, Any]:
        one = jnp.ones_like(r)
        return r, one, one

    def noise_scale(self, residuals: Any, weight: Any) -> float:
        return float(np.sqrt(np.average(np.square(residuals), weights=weight)))

    def log_prob(self, r: Any, scale: Any) -> Any:
        return norm.logpdf(r, scale=scale)


class Gaussian(LogGaussian):
    """Least squares on the loss itself: rho(r) = r^2 / 2."""

    log: ClassVar[bool] = False


class LogHuber(Objective):
    """Huber loss on log loss: rho(r) = r^2/2 inside delta, delta (|r| - delta/2) outside.

    The field's default, with delta = 1e-3 (Hoffmann et al. 2022, equation 3). At that delta
    nearly all runs lie outside, so it is least absolute deviations in effect.
    Noise: density proportional to exp(-rho(r) / scale^2).
    """

    delta: Any

    def __init__(self, delta: float = 1e-3):
        self.delta = _positive("delta", delta)

    @property
    def width(self) -> Any:
        return self.delta

    def rho(self, r: Any, width: Any = 0.0) -> Any:
        delta = jnp.maximum(self.delta, width)
        size = jnp.abs(r)
        return jnp.where(size <= delta, 0.5 * r * r, delta * (size - 0.5 * delta))

    def weights(self, r: Any, width: Any = 0.0) -> tuple[Any, Any, Any]:
        delta = jnp.maximum(self.delta, width)
        size = jnp.abs(r)
        inside = size <= delta
        reweighted = jnp.where(inside, 1.0, delta / jnp.maximum(size, delta))
        return reweighted * r, jnp.where(inside, 1.0, 0.0), reweighted

    def noise_scale(self, residuals: Any, weight: Any) -> float:
        mean = float(np.average(np.asarray(self.rho(jnp.asarray(residuals))), weights=weight))
        middle = np.log(np.sqrt(mean) + 1e-150)
        low, high = middle - 12, middle + 12

        def negative_log_likelihood(log_scale: float) -> float:
            scale = np.exp(log_scale)
            return mean / scale**2 + float(self._log_normalizer(scale))

        found = scipy.optimize.minimize_scalar(
            negative_log_likelihood, bounds=(low, high), options={"xatol": 1e-10}
        )
        return float(np.exp(found.x))

    def _log_normalizer(self, scale: Any) -> Any:
        bend = self.delta / scale
        tails = 2 * jnp.exp(-0.5 * bend**2) / bend
        return jnp.log(scale) + jnp.log(math.sqrt(2 * math.pi) * (1 - 2 * norm.sf(bend)) + tails)

    def log_prob(self, r: Any, scale: Any) -> Any:
        return -self.rho(r) / scale**2 - self._log_normalizer(scale)


class Huber(LogHuber):
    """Huber loss on the loss itself; delta is in the unit of the loss."""

    log: ClassVar[bool] = False


class LogL1(Objective):
    """Least absolute deviations on log loss: rho(r) = |r|. Noise: Laplace.

    The limit of `LogHuber` as delta goes to zero, up to the factor delta.
    """

    @property
    def width(self) -> Any:
        return 1e-9

    def rho(self, r: Any, width: Any = 0.0) -> Any:
        size = jnp.abs(r)
        safe = jnp.where(width > 0, width, 1.0)
        return jnp.where(size < width, 0.5 * (r * r / safe + width), size)

    def weights(self, r: Any, width: Any = 0.0) -> tuple[Any, Any, Any]:
        width = jnp.maximum(width, self.width)
        size = jnp.abs(r)
        reweighted = 1 / jnp.maximum(size, width)
        return reweighted * r, jnp.where(size <= width, 1 / width, 0.0), reweighted

    def noise_scale(self, residuals: Any, weight: Any) -> float:
        return float(np.average(np.abs(residuals), weights=weight))

    def log_prob(self, r: Any, scale: Any) -> Any:
        return -jnp.abs(r) / scale - jnp.log(2 * scale)


class LogQuantile(Objective):
    """Pinball loss: the law of the `q`-quantile of log loss; small `q` is a lower envelope.

    rho(r) = (1 - q) r if the law lies above the run (r > 0), else q |r|. Koenker & Bassett 1978.
    Noise: asymmetric Laplace.
    """

    q: Any

    def __init__(self, q: float = 0.1):
        if not 0 < q < 1:
            raise JaxscaleError(f"a quantile must lie between 0 and 1, got {q}")
        self.q = float(q)

    @property
    def width(self) -> Any:
        return 1e-9

    def rho(self, r: Any, width: Any = 0.0) -> Any:
        # Half of |r|, which is smoothed, plus a tilt, which needs no smoothing.
        return 0.5 * LogL1().rho(r, width) + (0.5 - self.q) * r

    def weights(self, r: Any, width: Any = 0.0) -> tuple[Any, Any, Any]:
        psi, core, reweighted = LogL1().weights(r, width)
        return 0.5 * psi + (0.5 - self.q), 0.5 * core, 0.5 * reweighted

    def noise_scale(self, residuals: Any, weight: Any) -> float:
        return float(np.average(np.asarray(self.rho(jnp.asarray(residuals))), weights=weight))

    def log_prob(self, r: Any, scale: Any) -> Any:
        return -self.rho(r) / scale + jnp.log(self.q * (1 - self.q) / scale)


class LogStudentT(Objective):
    """Negative log likelihood of Student-t noise in log loss, with known `df` and `scale`.

    rho(r) = (df + 1)/2 log(1 + r^2 / (df scale^2)). Lange, Little & Taylor 1989.
    """

    df: Any
    scale: Any

    def __init__(self, df: float, scale: float):
        self.df, self.scale = _positive("df", df), _positive("scale", scale)

    @property
    def width(self) -> Any:
        return self.scale

    def rho(self, r: Any, width: Any = 0.0) -> Any:
        scale = jnp.maximum(self.scale, width)
        return 0.5 * (self.df + 1) * jnp.log1p(r * r / (self.df * scale**2))

    def weights(self, r: Any, width: Any = 0.0) -> tuple[Any, Any, Any]:
        spread = self.df * jnp.maximum(self.scale, width) ** 2
        reweighted = (self.df + 1) / (spread + r * r)
        curvature = reweighted * (spread - r * r) / (spread + r * r)
        return reweighted * r, jnp.maximum(curvature, 0.0), reweighted

    def noise_scale(self, residuals: Any, weight: Any) -> float:
        return float(self.scale)

    def log_prob(self, r: Any, scale: Any) -> Any:
        return t.logpdf(r, self.df, scale=scale)


OBJECTIVES: dict[str, type[Objective]] = {
    kind.__name__: kind
    for kind in (LogHuber, Huber, LogGaussian, Gaussian, LogL1, LogQuantile, LogStudentT)
}
