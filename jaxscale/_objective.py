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
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm, t

from jaxscale import _noise
from jaxscale._errors import JaxscaleError


def _log(value: Any) -> Any:
    # In double precision, since TINY is zero in single.
    return np.log(np.maximum(np.asarray(value, float), _noise.TINY))


def _kink_width() -> float:
    """Residual at which a kink bends: 1e-9, or what is left of a residual in single precision."""
    return max(1e-9, 4 * float(jnp.finfo(jnp.result_type(float)).eps))


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
    known: ClassVar[bool] = False  # whether the noise is part of the objective, not estimated
    outcomes: ClassVar[bool] = False  # whether weights count observations of noise of scale one
    must: ClassVar[str] = "be greater than zero"

    def check(self, loss: np.ndarray) -> np.ndarray:
        """Which losses this objective is defined for; the others `must` something else."""
        return loss > 0 if self.log else np.isfinite(loss)

    def observations(self, weight: Any) -> Any:
        """How many independent observations runs of such weights stand for: one each."""
        return jnp.sum(weight > 0)

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
    def scale_at(self, mean_rho: Any) -> Any:
        """Maximum-likelihood scale of the noise model, which depends on the mean loss only."""

    @abc.abstractmethod
    def log_prob(self, r: Any, scale: Any) -> Any:
        """Log density of a residual under the noise model with that scale."""

    @abc.abstractmethod
    def cdf(self, r: Any, scale: Any) -> Any:
        """P(residual <= r) under the noise model with that scale."""

    @abc.abstractmethod
    def ppf(self, u: Any, scale: Any) -> Any:
        """Inverse of `cdf`: the residual below which a share `u` lies."""

    @abc.abstractmethod
    def profile_nll(self, mean_rho: Any) -> Any:
        """Negative log likelihood per run at the maximum-likelihood scale, by the mean loss.

        Twice the number of runs times a difference of it is a likelihood ratio statistic.

        Args:
            mean_rho: weighted mean of ``rho(residual)``, any shape.
        """

    def noise_scale(self, residuals: Any, weight: Any) -> float:
        """Maximum-likelihood scale of the noise model for given residuals."""
        rho = np.asarray(self.rho(jnp.asarray(residuals)))
        return float(self.scale_at(np.average(rho, weights=weight)))

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

    def scale_at(self, mean_rho: Any) -> Any:
        return np.sqrt(2 * np.asarray(mean_rho))

    def log_prob(self, r: Any, scale: Any) -> Any:
        return norm.logpdf(r, scale=scale)

    def cdf(self, r: Any, scale: Any) -> Any:
        return ndtr(r / scale)

    def ppf(self, u: Any, scale: Any) -> Any:
        return scale * ndtri(u)

    def profile_nll(self, mean_rho: Any) -> Any:
        return _log(self.scale_at(mean_rho)) + 0.5 * math.log(2 * math.pi) + 0.5


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

    def scale_at(self, mean_rho: Any) -> Any:
        return _noise.huber_profile(mean_rho, self.delta)[0]

    def log_prob(self, r: Any, scale: Any) -> Any:
        log_z = jnp.log(scale) + _noise.huber_log_normalizer(self.delta / scale)
        return -self.rho(r) / scale**2 - log_z

    def cdf(self, r: Any, scale: Any) -> Any:
        return _noise.huber_cdf(r / scale, self.delta / scale)

    def ppf(self, u: Any, scale: Any) -> Any:
        return scale * _noise.huber_ppf(u, self.delta / scale)

    def profile_nll(self, mean_rho: Any) -> Any:
        scale, log_z = _noise.huber_profile(mean_rho, self.delta)
        return np.asarray(mean_rho) / scale**2 + log_z


class Huber(LogHuber):
    """Huber loss on the loss itself; delta is in the unit of the loss."""

    log: ClassVar[bool] = False


class LogL1(Objective):
    """Least absolute deviations on log loss: rho(r) = |r|. Noise: Laplace.

    The limit of `LogHuber` as delta goes to zero, up to the factor delta.
    """

    @property
    def width(self) -> Any:
        return _kink_width()

    def rho(self, r: Any, width: Any = 0.0) -> Any:
        size = jnp.abs(r)
        safe = jnp.where(width > 0, width, 1.0)
        return jnp.where(size < width, 0.5 * (r * r / safe + width), size)

    def weights(self, r: Any, width: Any = 0.0) -> tuple[Any, Any, Any]:
        width = jnp.maximum(width, self.width)
        size = jnp.abs(r)
        reweighted = 1 / jnp.maximum(size, width)
        return reweighted * r, jnp.where(size <= width, 1 / width, 0.0), reweighted

    def scale_at(self, mean_rho: Any) -> Any:
        return np.asarray(mean_rho)

    def log_prob(self, r: Any, scale: Any) -> Any:
        return -jnp.abs(r) / scale - jnp.log(2 * scale)

    def cdf(self, r: Any, scale: Any) -> Any:
        return _noise.laplace_cdf(2 * r / scale)

    def ppf(self, u: Any, scale: Any) -> Any:
        return 0.5 * scale * _noise.laplace_ppf(u)

    def profile_nll(self, mean_rho: Any) -> Any:
        return 1 + _log(2 * self.scale_at(mean_rho))


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
        return _kink_width()

    def rho(self, r: Any, width: Any = 0.0) -> Any:
        # Half of |r|, which is smoothed, plus a tilt, which needs no smoothing.
        return 0.5 * LogL1().rho(r, width) + (0.5 - self.q) * r

    def weights(self, r: Any, width: Any = 0.0) -> tuple[Any, Any, Any]:
        psi, core, reweighted = LogL1().weights(r, width)
        return 0.5 * psi + (0.5 - self.q), 0.5 * core, 0.5 * reweighted

    def scale_at(self, mean_rho: Any) -> Any:
        return np.asarray(mean_rho)

    def log_prob(self, r: Any, scale: Any) -> Any:
        return -self.rho(r) / scale + jnp.log(self.q * (1 - self.q) / scale)

    def cdf(self, r: Any, scale: Any) -> Any:
        return _noise.laplace_cdf(r / scale, self.q)

    def ppf(self, u: Any, scale: Any) -> Any:
        return scale * _noise.laplace_ppf(u, self.q)

    def profile_nll(self, mean_rho: Any) -> Any:
        return 1 + _log(self.scale_at(mean_rho)) - np.log(self.q * (1 - self.q))


class LogStudentT(Objective):
    """Negative log likelihood of Student-t noise in log loss, with known `df` and `scale`.

    rho(r) = (df + 1)/2 log(1 + r^2 / (df scale^2)). Lange, Little & Taylor 1989.
    """

    known: ClassVar[bool] = True
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

    def scale_at(self, mean_rho: Any) -> Any:
        return np.broadcast_to(self.scale, np.shape(mean_rho))

    def log_prob(self, r: Any, scale: Any) -> Any:
        return t.logpdf(r, self.df, scale=scale)

    def cdf(self, r: Any, scale: Any) -> Any:
        return _noise.student_cdf(r / scale, self.df)

    def ppf(self, u: Any, scale: Any) -> Any:
        return scale * _noise.student_ppf(u, self.df)

    def profile_nll(self, mean_rho: Any) -> Any:
        return np.asarray(mean_rho) - np.asarray(self.log_prob(0.0, self.scale))


OBJECTIVES: dict[str, type[Objective]] = {
    kind.__name__: kind
    for kind in (LogHuber, Huber, LogGaussian, Gaussian, LogL1, LogQuantile, LogStudentT)
}
