"""Coordinates in which a hierarchical posterior is nearly standard normal.

Given the population, a set's parameters have about the normal posterior that a quadratic
approximation of its likelihood implies. NUTS moves in the standardized deviations z from it:

    theta_g = C_g (f H_g theta0_g + f s_g + T^-1 mu) + C_g^(1/2) z_g,   C_g = (f H_g + T^-1)^-1.

Where the runs of a set say much (H_g large), that is the centered parameterization; where they say
little, theta_g = mu + T^(1/2) z_g, the non-centered one; and every direction between them gets its
own share. No funnel is left, whatever the number of runs. The map is exact for a Gaussian
likelihood, and a change of variables for any other: the posterior does not depend on it.

Source: Kleppe 2019, Bayesian Analysis 14(3), 737-756; Papaspiliopoulos, Roberts & Skold 2007,
Statistical Science 22(1), 59-73 (partial non-centering, of which it is the matrix form).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.infer.util import log_density

import jaxscale as js
from bayes._likelihood import extras
from bayes._pooling import (
    Level,
    Pool,
    coordinate,
    finite,
    level,
    log_prob,
    parameters,
    population,
    predicted,
    program,
    scales,
)

_STEPS = 80  # of the search for the population and for every set's optimum
_LEARNING = 50  # of which the population still moves in
_FARTHEST = 4.0  # prior standard deviations from the middle at which a set may start
_EXTRAS = {"df": 5.0, "concentration": 100.0}
_EXTRA_WIDTH = 0.5


class Chart(eqx.Module):
    """The quadratic approximation of every set's likelihood, and typical population values.

    Attributes:
        precision: information about the coordinates of every set, (sets, p, p).
        score: slope of the log likelihood plus precision times optimum, (sets, p).
        log_scale: log noise scale at which they hold, (sets,).
        scale_precision, scale_score: the same for the log noise scale, (sets,).
        decay: the information falls as ``scale**-decay``.
        center, width: of the unconstrained population parameters, (sites,).
    """

    precision: Any
    score: Any
    log_scale: Any
    scale_precision: Any
    scale_score: Any
    decay: Any
    center: Any
    width: Any


@dataclasses.dataclass(frozen=True)
class PoolTarget:
    """Negative log posterior of a `Pool` in the coordinates of a `Chart`."""

    law: js.Law

    def __call__(self, data: tuple[Pool, Chart], z: dict[str, Any]) -> Any:
        pool, chart = data
        values, log_jacobian = values_at(self.law, pool, chart, z)
        log_joint, _ = log_density(program, (self.law, pool), {}, values)
        return -(log_joint + log_jacobian)


def values_at(
    law: js.Law, pool: Pool, chart: Chart, z: Mapping[str, Any]
) -> tuple[dict[str, Any], Any]:
    """Values of all sites of `program` at ``z["main"]`` and ``z["sets"]``, and log |dv/dz|."""
    values, total = population(pool, chart.center + chart.width * z["main"])
    share = jnp.ones_like(chart.log_scale)
    if pool.likelihood.has_scale:
        weight = values["tau_scale"] ** -2
        precision = chart.scale_precision + weight
        middle = (chart.scale_score + weight * values["mu_scale"]) / precision
        values["log_scale"] = middle + z["sets"][:, -1] / jnp.sqrt(precision)
        total -= 0.5 * jnp.log(precision).sum()
        share = jnp.exp(-chart.decay * (values["log_scale"] - chart.log_scale))
    found = level(law, pool, values)
    weights = found.width**-2
    matrix = share[:, None, None] * chart.precision + jnp.diag(weights)
    lower = _cholesky(matrix)
    right = share[:, None] * chart.score + weights * found.center
    p = len(law.names)
    free = _solve_upper(lower, _solve_lower(lower, right) + z["sets"][:, :p])
    values |= {f"free_{name}": free[:, i] for i, name in enumerate(law.names)}
    total -= sum(jnp.log(lower[i][i]).sum() for i in range(p))
    return values, total


def _cholesky(matrix: Any) -> list[list[Any]]:
    """Lower factors of (..., p, p), entry by entry: fast for many small matrices."""
    p = matrix.shape[-1]
    tiny = 8 * jnp.finfo(matrix.dtype).eps
    lower: list[list[Any]] = []
    for i in range(p):
        row: list[Any] = []
        for j in range(i):
            inner = sum((row[k] * lower[j][k] for k in range(j)), start=0.0)
            row.append((matrix[..., i, j] - inner) / lower[j][j])
        rest = matrix[..., i, i] - sum((x**2 for x in row), start=0.0)
        row.append(jnp.sqrt(jnp.maximum(rest, tiny * matrix[..., i, i])))
        lower.append(row)
    return lower


def _solve_lower(lower: list[list[Any]], right: Any) -> Any:
    found: list[Any] = []
    for i, row in enumerate(lower):
        inner = sum((row[k] * found[k] for k in range(i)), start=0.0)
        found.append((right[..., i] - inner) / row[i])
    return jnp.stack(found, axis=-1)


def _solve_upper(lower: list[list[Any]], right: Any) -> Any:
    p = len(lower)
    found: list[Any] = [None] * p
    for i in reversed(range(p)):
        inner = sum((lower[k][i] * found[k] for k in range(i + 1, p)), start=0.0)
        found[i] = (right[..., i] - inner) / lower[i][i]
    return jnp.stack(found, axis=-1)


class _Search(NamedTuple):
    """Where the search is: sets (sets, p) and (sets,), damping (sets,), population (p,), ()."""

    free: Any
    log_scale: Any
    damping: Any
    level: Level
    scale_level: Level


def chart(law: js.Law, pool: Pool, free: Any) -> Chart:
    """Chart at the joint optimum of sets and population: Laplace approximations inside of EM.

    Every step moves each set by a damped Newton step and its noise scale by another, and then the
    population to the most probable one given normal approximations of the sets.

    Args:
        law: the law.
        pool: data and priors.
        free: where to start, (sets, p). Pure, so that it can be mapped over stacks.
    """
    first = _first(law, pool, free)

    def step(at: _Search, i: Any) -> tuple[_Search, None]:
        moved, precision, effective = _move_sets(law, pool, at)
        moved, scale_curvature = _move_scales(law, pool, moved, effective)
        learned = _learn(law, pool, moved, precision, scale_curvature)
        return jax.tree.map(lambda a, b: jnp.where(i < _LEARNING, a, b), learned, moved), None

    at, _ = jax.lax.scan(step, first, jnp.arange(_STEPS))
    return _chart(law, pool, at)


def _first(law: js.Law, pool: Pool, free: Any) -> _Search:
    sites = pool.priors
    middle = {site: finite(sites[site].mean, 0.0) for site in sites}
    found = level(law, pool, middle)
    reach = jnp.stack(
        [
            _FARTHEST * jnp.sqrt((pool.each[n] if n in pool.each else sites[f"mu_{n}"]).variance)
            for n in law.names
        ]
    )
    free = jnp.clip(free, found.center - reach, found.center + reach)
    sets = pool.loss.shape[0]
    noise = jnp.zeros(()) if "mu_scale" not in sites else middle["mu_scale"]
    spread = jnp.ones(()) if "mu_scale" not in sites else middle["tau_scale"]
    return _Search(
        free=free,
        log_scale=jnp.full((sets,), 1.0, pool.loss.dtype) * noise,
        damping=jnp.full((sets,), 0.1, pool.loss.dtype),
        level=found,
        scale_level=Level(jnp.asarray(noise), jnp.asarray(spread)),
    )


def _values(law: js.Law, pool: Pool, free: Any, log_scale: Any) -> dict[str, Any]:
    """Values that likelihood and law need, with the further noise parameters at typical ones."""
    values = {f"free_{name}": free[:, i] for i, name in enumerate(law.names)}
    if pool.likelihood.has_scale:
        values["log_scale"] = log_scale
    return values | {name: jnp.asarray(_EXTRAS[name]) for name in pool.likelihood.priors()}


def _log_likelihood(law: js.Law, pool: Pool, free: Any, log_scale: Any) -> Any:
    each = log_prob(law, pool, _values(law, pool, free, log_scale))
    return (pool.weight * each).sum(-1)


def _information(law: js.Law, pool: Pool, free: Any, log_scale: Any) -> Any:
    """``J' W J`` of every set, (sets, p, p); one tangent serves all sets, which are independent."""

    def log_predicted(at: Any) -> Any:
        params = parameters(law, pool, _values(law, pool, at, log_scale))
        return jnp.log(predicted(law, pool, params))

    base = log_predicted(free)
    basis = [jnp.zeros_like(free).at[:, i].set(1.0) for i in range(free.shape[-1])]
    slopes = jnp.stack([jax.jvp(log_predicted, (free,), (e,))[1] for e in basis], axis=-1)
    slopes = jnp.where((pool.weight > 0)[..., None], slopes, 0.0)
    values = _values(law, pool, free, log_scale)
    extra = extras(pool.likelihood, values)
    weight = pool.likelihood.information(jnp.exp(base), scales(pool, values), extra)
    weight = jnp.where(pool.weight > 0, pool.weight * weight, 0.0)
    return jnp.einsum("gni,gn,gnj->gij", slopes, weight, slopes)


def _move_sets(law: js.Law, pool: Pool, at: _Search) -> tuple[_Search, Any, Any]:
    """One damped step of Fisher scoring, the information, and how many parameters it fits."""
    weights = at.level.width**-2

    def energy(free: Any) -> Any:
        prior = 0.5 * (weights * (free - at.level.center) ** 2).sum(-1)
        return prior - _log_likelihood(law, pool, free, at.log_scale)

    slope = jax.grad(lambda x: energy(x).sum())(at.free)
    precision = _information(law, pool, at.free, at.log_scale)
    total = precision + jnp.diag(weights)
    diagonal = jnp.diagonal(total, axis1=-2, axis2=-1)
    damped = total + at.damping[:, None, None] * jax.vmap(jnp.diag)(diagonal)
    there = at.free - jnp.linalg.solve(damped, slope[..., None])[..., 0]
    better = energy(there) < energy(at.free)
    effective = jnp.trace(jnp.linalg.solve(total, precision), axis1=-2, axis2=-1)
    moved = at._replace(
        free=jnp.where(better[:, None], there, at.free),
        damping=jnp.clip(jnp.where(better, at.damping / 4, at.damping * 4), 1e-6, 1e6),
    )
    return moved, precision, effective


def _move_scales(law: js.Law, pool: Pool, at: _Search, effective: Any) -> tuple[_Search, Any]:
    """One Newton step of the log scales, with degrees of freedom for the fitted parameters."""
    if not pool.likelihood.has_scale:
        return at, jnp.ones_like(at.log_scale)
    center, width = at.scale_level
    decay = _decay(pool)

    def gain(log_scale: Any) -> Any:
        return _log_likelihood(law, pool, at.free, log_scale) + 0.5 * decay * effective * log_scale

    def slope(log_scale: Any) -> Any:
        return jax.grad(lambda x: gain(x).sum())(log_scale)

    found, change = jax.jvp(slope, (at.log_scale,), (jnp.ones_like(at.log_scale),))
    curvature = jnp.maximum(-change, 0.0)
    step = (found - (at.log_scale - center) / width**2) / (curvature + width**-2)
    return at._replace(log_scale=at.log_scale + jnp.clip(step, -1.0, 1.0)), curvature


def _decay(pool: Pool) -> Any:
    """-d log information / d log scale: 2 for Gaussian noise."""
    extra = {name: jnp.asarray(_EXTRAS[name]) for name in pool.likelihood.priors()}
    typical = jnp.exp(pool.priors["mu_scale"].mean)
    up, down = (
        pool.likelihood.information(jnp.ones(()), typical * x, extra) for x in (1.1, 1 / 1.1)
    )
    return jnp.log(down / up) / (2 * jnp.log(1.1))


def _learn(law: js.Law, pool: Pool, at: _Search, precision: Any, scale_curvature: Any) -> _Search:
    total = precision + jnp.diag(at.level.width**-2)
    variance = jnp.diagonal(jnp.linalg.inv(total), axis1=-2, axis2=-1)
    center, width = at.level
    for i, name in enumerate(law.names):
        if name not in pool.each:
            found = _population_mode(pool, name, at.free[:, i], variance[:, i], center[i], width[i])
            center, width = center.at[i].set(found.center), width.at[i].set(found.width)
    scale_level = at.scale_level
    if pool.likelihood.has_scale:
        spread = 1 / (scale_curvature + scale_level.width**-2)
        scale_level = _population_mode(pool, "scale", at.log_scale, spread, *scale_level)
    return at._replace(level=Level(center, width), scale_level=scale_level)


def _population_mode(
    pool: Pool, name: str, free: Any, variance: Any, center: Any, width: Any
) -> Level:
    """The mode of mu, and of log tau under a half-normal prior, given the sets' means, variances.

    x = tau^2 solves ``x^2 / c^2 + (G - 1) x = S``, S the sum of squared deviations.
    """
    before, spread = pool.priors[f"mu_{name}"], pool.priors[f"tau_{name}"]
    prior_precision = 1 / finite(before.variance, jnp.inf)
    weight = len(free) / width**2
    pulled = free.sum() / width**2 + prior_precision * finite(before.mean, 0.0)
    center = pulled / (weight + prior_precision)
    total = ((free - center) ** 2 + variance).sum()
    c2 = finite(spread.variance + spread.mean**2, 1e6)
    half = 0.5 * (len(free) - 1)
    # The larger root, written so that nothing cancels.
    x = total / (half + jnp.sqrt(half**2 + total / c2))
    return Level(center, jnp.sqrt(x))


def _chart(law: js.Law, pool: Pool, at: _Search) -> Chart:
    _, precision, effective = _move_sets(law, pool, at)
    _, curvature = _move_scales(law, pool, at, effective)
    weights = at.level.width**-2
    score = jnp.einsum("gij,gj->gi", precision, at.free) + weights * (at.free - at.level.center)
    scale_center, scale_width = at.scale_level
    scale_score = curvature * at.log_scale + (at.log_scale - scale_center) / scale_width**2
    variance = jnp.diagonal(jnp.linalg.inv(precision + jnp.diag(weights)), axis1=-2, axis2=-1)
    known = {n: 1 - weights[i] * variance[:, i] for i, n in enumerate(law.names)}
    known["scale"] = curvature / (curvature + scale_width**-2)
    levels = {n: Level(at.level.center[i], at.level.width[i]) for i, n in enumerate(law.names)}
    levels["scale"] = at.scale_level
    places = [_place(site, pool.priors[site], levels, known) for site in pool.sites]
    return Chart(
        precision=precision,
        score=score,
        log_scale=at.log_scale,
        scale_precision=curvature,
        scale_score=scale_score,
        decay=_decay(pool) if pool.likelihood.has_scale else jnp.zeros(()),
        center=jnp.stack([place.center for place in places]),
        width=jnp.stack([place.width for place in places]),
    )


def _place(
    site: str, chosen: dist.Distribution, levels: Mapping[str, Level], known: Mapping[str, Any]
) -> Level:
    """Where the unconstrained coordinate of a population parameter lies, and about how widely."""
    kind, _, name = site.partition("_")
    transform = coordinate(site, chosen)
    if kind == "mu":
        center, tau = levels[name]
        precision = jnp.clip(known[name], 0.0, 1.0).sum() / tau**2
        value, width = center, 1 / jnp.sqrt(precision + 1 / finite(chosen.variance, jnp.inf))
    elif kind == "tau":
        value = levels[name].width
        width = 1 / jnp.sqrt(2 * (jnp.clip(known[name], 0.0, 1.0) ** 2).sum() + 1)
    else:
        value, width = jnp.asarray(_EXTRAS[site]), jnp.asarray(_EXTRA_WIDTH)
    usable = chosen.support(value) & jnp.isfinite(chosen.log_prob(value))
    return Level(transform.inv(jnp.where(usable, value, chosen.mean)), width)
