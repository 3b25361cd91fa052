"""Models whose loss is known exactly: the ground truth against which laws and fits are tested."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import zeta

from jaxscale.laws._root import root

_SINGLE = 1000  # modes that are summed one by one
_LAST = 1e18


def _ranks(modes: int) -> Any:
    return jnp.arange(1, modes + 1, dtype=float)


def _all_ranks() -> tuple[Any, Any]:
    """Ranks and weights that sum a smooth f over all modes, k = 1 to 1e18.

    Beyond the first thousand the sum is an integral from k + 1/2 on, by five-point Gauss-Legendre
    rules on intervals that grow by a quarter: both errors are below 1e-7 of that part.
    """
    x, w = np.polynomial.legendre.leggauss(5)
    cells = int(np.ceil(np.log(_LAST / _SINGLE) / np.log(1.25)))
    edges = np.geomspace(_SINGLE + 0.5, _LAST, cells + 1)
    half = np.diff(edges)[:, None] / 2
    nodes = edges[:-1, None] + half * (1 + x)
    ranks = np.concatenate([np.arange(1.0, _SINGLE + 1), nodes.ravel()])
    weights = np.concatenate([np.ones(_SINGLE), (half * w).ravel()])
    return jnp.asarray(ranks, float), jnp.asarray(weights, float)


# Quanta.


def quanta_loss(N: Any, D: Any, *, alpha: float, modes: int = 20_000) -> Any:
    """L(N, D) = sum_(k <= N) p_k (1 - p_k)^D + sum_(k > N) p_k, p_k = k^-(alpha+1) / zeta(alpha+1)

    The chance that a sample needs a quantum that has not been learned: one beyond the N that fit
    into the model, or one that none of the D training samples needed.

    Args:
        N: quanta that the model can hold, up to `modes`.
        D: training samples; both broadcast. Infinity is allowed.
        alpha: exponent of N.
        modes: quanta summed one by one; beyond them all are taken as unlearned.

    Source: Michaud et al. 2023, arXiv 2303.13506.
    """
    k = _ranks(modes)
    total = zeta(alpha + 1, 1.0)
    p = k ** -(alpha + 1) / total
    beyond = zeta(alpha + 1, modes + 1.0) / total

    def one(N: Any, D: Any) -> Any:
        unseen = jnp.exp(D * jnp.log1p(-p))
        return jnp.sum(p * jnp.where(k <= N, unseen, 1.0)) + beyond

    return jnp.vectorize(one)(jnp.asarray(N, float), jnp.asarray(D, float))


# Linear models with power-law spectra.


class Spectrum(NamedTuple):
    """A linear model as its loss sees it: sum of ``power`` over directions, and a ``floor``.

    Attributes:
        eigenvalue: curvature of the loss in each direction, shape (directions,).
        power: loss in each direction at the start, shape (directions,).
        floor: loss that the model cannot reduce.
    """

    eigenvalue: Any
    power: Any
    floor: Any


def ideal_spectrum(a: float, b: float) -> Spectrum:
    """eigenvalue k^-b and power k^-a, k = 1, 2, ...: every mode is a feature

    L(t) ~ t^-((a - 1) / b) under `gradient_flow_loss`. Far modes are taken together.

    Args:
        a, b: exponents, a > 1.
    """
    k, weight = _all_ranks()
    return Spectrum(k**-b, weight * k**-a, jnp.zeros(()))


def projected_spectrum(key: Any, N: int, *, a: float, b: float, modes: int = 2000) -> Spectrum:
    """The same target seen through N random projections of the modes

    Features are N Gaussian mixtures of the `modes` directions, divided by sqrt(N).

    Args:
        key: random key of the projection.
        N: features.
        a, b: target power k^-a and spectrum k^-b of the modes.
        modes: number of modes, which should be far above N.

    Source: the model of Bordelon et al. 2024, arXiv 2402.01092, and Paquette et al. 2024,
    arXiv 2405.15074 (b = 2 alpha, a = 2 alpha + 2 beta).
    """
    k = _ranks(modes)
    mixed = jax.random.normal(key, (N, modes)) / jnp.sqrt(N) * k ** (-b / 2)
    _, singular, directions = jnp.linalg.svd(mixed, full_matrices=False)
    power = (directions @ k ** (-a / 2)) ** 2
    return Spectrum(singular**2, power, jnp.sum(k**-a) - jnp.sum(power))


def gradient_flow_loss(t: Any, spectrum: Spectrum) -> Any:
    """L(t) = floor + sum_j power_j exp(-2 eigenvalue_j t)

    Args:
        t: time, steps times step size, any shape.
        spectrum: of the model.
    """
    decay = jnp.exp(-2 * jnp.asarray(t, float)[..., None] * spectrum.eigenvalue)
    return spectrum.floor + (decay * spectrum.power).sum(-1)


def sgd_loss(steps: int, spectrum: Spectrum, *, rate: Any, batch: int = 1) -> Any:
    """Expected loss of one-pass SGD on Gaussian data, after 0, 1, ..., steps - 1 updates, exactly

    With q_j the loss in direction j, P = floor + sum q, and updates that add up the gradients of
    `batch` fresh samples:
    q_j <- q_j (1 - 2 g B s_j + g^2 B (B+1) s_j^2) + g^2 B s_j^2 P, s_j the eigenvalue.

    Args:
        steps: number of losses returned.
        spectrum: of the model.
        rate: step size g; stable if g (B + 1 + sum s / max s) max s < 2, roughly.
        batch: B.

    Source: second moments of Gaussian data; the Volterra equation of Paquette et al. 2024,
    arXiv 2405.15074, without its averaging.
    """
    s = spectrum.eigenvalue
    keep = 1 - 2 * rate * batch * s + rate**2 * batch * (batch + 1) * s**2
    noise = rate**2 * batch * s**2

    def update(q: Any, _: Any) -> tuple[Any, Any]:
        loss = spectrum.floor + q.sum()
        return keep * q + noise * loss, loss

    return jax.lax.scan(update, spectrum.power, length=steps)[1]


# Limits, averaged over projections and data.


def _threshold(count: Any, b: float, k: Any, weight: Any) -> Any:
    """x with sum_k k^-b / (k^-b + x) = count: modes above it are resolved."""

    def excess(log_x: Any, count: Any) -> Any:
        return jnp.sum(weight * jax.nn.sigmoid(-b * jnp.log(k) - log_x)) - count

    return jnp.exp(root(excess, -b * jnp.log(k[-1]), 10.0, count))


def projection_floor(N: Any, *, a: float, b: float) -> Any:
    """L(N) = sum_k k^-a x / (k^-b + x), where sum_k k^-b / (k^-b + x) = N

    What N random projections leave of the target after endless training, averaged over projections
    in the limit of many: N^-min(a - 1, b).

    Args:
        N: features, any shape.
        a, b: target power and spectrum, both above 1.

    Source: deterministic equivalent of a random projection; F_0 of Paquette et al. 2024.
    """
    k, weight = _all_ranks()

    def one(N: Any) -> Any:
        x = _threshold(N, b, k, weight)
        return jnp.sum(weight * k**-a * x / (k**-b + x))

    return jnp.vectorize(one)(jnp.asarray(N, float))


def sample_floor(D: Any, *, a: float, b: float) -> Any:
    """L(D) = sum_k k^-a (x / (k^-b + x))^2 / (1 - sum_k (k^-b / (k^-b + x))^2 / D)

    Loss of the least-norm interpolation of D noiseless samples, averaged over them, with x as in
    `projection_floor` for N = D: D^-min(a - 1, 2 b).

    Args:
        D: samples, any shape.
        a, b: target power and spectrum, both above 1.

    Source: kernel regression of Bordelon, Canatar & Pehlevan 2020, arXiv 2002.02561.
    """
    k, weight = _all_ranks()

    def one(D: Any) -> Any:
        x = _threshold(D, b, k, weight)
        missed = x / (k**-b + x)
        return jnp.sum(weight * k**-a * missed**2) / (1 - jnp.sum(weight * (1 - missed) ** 2) / D)

    return jnp.vectorize(one)(jnp.asarray(D, float))
