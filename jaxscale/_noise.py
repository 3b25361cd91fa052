"""Noise models in closed form: distribution functions, quantiles and the best Huber scale.

Everything is about a residual r in units of its scale, x = r / scale, and works elementwise.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy
from jax.scipy.special import betainc, ndtr, ndtri
from jax.scipy.stats import t

# In place of a mean loss or scale of zero, so that its logarithm is very low, not infinite.
TINY = 1e-280
_ROOT = math.sqrt(2 * math.pi)


def laplace_cdf(x: Any, q: Any = 0.5) -> Any:
    """P(X <= x) of density q (1 - q) exp(-q |x|) below 0 and exp(-(1 - q) x) above.

    The asymmetric Laplace distribution, of which a share 1 - q lies below zero.
    """
    below = (1 - q) * jnp.exp(q * jnp.minimum(x, 0))
    return jnp.where(x < 0, below, 1 - q * jnp.exp(-(1 - q) * jnp.maximum(x, 0)))


def laplace_ppf(u: Any, q: Any = 0.5) -> Any:
    """Inverse of `laplace_cdf`."""
    below = jnp.log(jnp.minimum(u / (1 - q), 1.0)) / q
    above = -jnp.log(jnp.minimum((1 - u) / q, 1.0)) / (1 - q)
    return below + above  # one of the two is zero


def student_cdf(x: Any, df: Any) -> Any:
    """P(X <= x) = 1 - I(df / (df + x^2); df/2, 1/2) / 2 for x > 0, Student's t.

    The incomplete beta function is slow, so that the log of the tail is interpolated, by cubics in
    asinh(x) that agree in value and slope: nine digits.
    """
    step, count = 0.02, 1400
    grid = jnp.sinh(step * jnp.arange(count))
    tail = 0.5 * betainc(0.5 * df, 0.5, df / (df + grid**2))
    tail = jnp.maximum(tail, jnp.finfo(tail.dtype).tiny)
    slope = -step * t.pdf(grid, df) * jnp.sqrt(1 + grid**2) / tail
    place = jnp.minimum(jnp.arcsinh(jnp.abs(x)) / step, count - 1.001)
    i = place.astype(int)
    w = place - i
    value = jnp.log(tail)
    cubic = (1 + 2 * w) * (1 - w) ** 2 * value[i] + w**2 * (3 - 2 * w) * value[i + 1]
    cubic += w * (1 - w) ** 2 * slope[i] - w**2 * (1 - w) * slope[i + 1]
    return jnp.where(x < 0, jnp.exp(cubic), 1 - jnp.exp(cubic))


def student_ppf(u: Any, df: Any) -> Any:
    """Inverse of `student_cdf`, for numbers (not under `jit`)."""
    return jnp.asarray(scipy.special.stdtrit(df, np.asarray(u)))


def huber_log_normalizer(bend: Any) -> Any:
    """log Z, Z = sqrt(2 pi) (1 - 2 Phi(-b)) + 2 exp(-b^2/2) / b.

    The integral of exp(-x^2/2) inside |x| <= b = delta / scale and exp(b^2/2 - b |x|) outside.
    """
    return jnp.log(_huber_z(bend, jnp.exp, ndtr))


def _huber_z(bend: Any, exp: Any, ndtr: Any) -> Any:
    return _ROOT * (1 - 2 * ndtr(-bend)) + 2 * exp(-0.5 * bend**2) / bend


def huber_cdf(x: Any, bend: Any) -> Any:
    """P(X <= x) of the density whose negative log is Huber's loss: normal with Laplace tails."""
    log_z = huber_log_normalizer(bend)
    size = jnp.abs(x)
    tail = jnp.exp(bend * (0.5 * bend - jnp.maximum(size, bend)) - log_z) / bend
    tail += _ROOT * (ndtr(-jnp.minimum(size, bend)) - ndtr(-bend)) / jnp.exp(log_z)
    return jnp.where(x < 0, tail, 1 - tail)


def huber_ppf(u: Any, bend: Any) -> Any:
    """Inverse of `huber_cdf`."""
    log_z = huber_log_normalizer(bend)
    tail = jnp.minimum(u, 1 - u)
    in_tail = jnp.exp(-0.5 * bend**2 - log_z) / bend
    outer = 0.5 * bend - (jnp.log(jnp.minimum(tail, in_tail) * bend) + log_z) / bend
    inside = jnp.maximum(tail - in_tail, 0) * jnp.exp(log_z) / _ROOT
    size = jnp.where(tail < in_tail, outer, -ndtri(ndtr(-bend) + inside))
    return jnp.where(u < 0.5, -size, size)


def huber_profile(mean_rho: Any, delta: Any) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-likelihood scale s of the Huber density by the mean of rho, and log(s Z) there.

    Solves 2 mean_rho / s^2 = 1 + 2 exp(-b^2/2) / (b Z(b)), b = delta / s. The right side lies
    between 1 (a Gaussian) and 2 (a Laplace density), which brackets s^2 within a factor of two.
    """
    mean = np.maximum(np.asarray(mean_rho, float), TINY)
    low, high = np.sqrt(mean), np.sqrt(2 * mean)
    for _ in range(55):
        scale = 0.5 * (low + high)
        bend = delta / scale
        tails = 2 * np.exp(-0.5 * bend**2) / (bend * _huber_z(bend, np.exp, scipy.special.ndtr))
        too_small = 2 * mean / scale**2 > 1 + tails
        low, high = np.where(too_small, scale, low), np.where(too_small, high, scale)
    scale = 0.5 * (low + high)
    return scale, np.log(scale * _huber_z(delta / scale, np.exp, scipy.special.ndtr))
