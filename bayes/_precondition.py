"""Where the sampler starts and in which coordinates: the fit and its Laplace covariance.

NUTS moves in z with ``u = center + root z``, where u are the unconstrained coordinates of the
scalar sites and ``root root'`` is about their posterior covariance, so that trajectories are short.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import biject_to

import jaxscale as js
from bayes._likelihood import extras
from bayes._model import Table, constrained, latent_shapes, scalar_sites, terms

_LEAST_PRECISION = 1e-6
_NO_NOISE = 1e-12


class Frame(eqx.Module):
    """Origin (sites,) of the scalar sites, and axes (dim, dim) of all coordinates.

    dim counts the scalar sites and after them the latent values, in the order of their names.
    """

    center: Any
    root: Any

    def u(self, z: Mapping[str, Any]) -> dict[str, Any]:
        """Unconstrained coordinates of one lane, or of draws (draws, ...) of it."""
        latent = sorted(set(z) - {"main"})
        parts = [z["main"], *(z[name] for name in latent)]
        ends = list(itertools.accumulate(part.shape[-1] for part in parts))[:-1]
        turned = jnp.split(jnp.concatenate(parts, axis=-1) @ self.root.T, ends, axis=-1)
        return {"main": self.center + turned[0], **dict(zip(latent, turned[1:], strict=True))}


def frame(law: js.Law, table: Table, theta: Any) -> Frame:
    """Frame at an optimum ``theta`` (unconstrained coordinates of the law in reference units).

    The block of the law and of the random effects is the root of ``(J' W J + P)^-1``: J the slopes
    of log predictions, W the information of the noise and P the curvature of the prior; it exists
    for any runs. The noise parameters get typical widths. Pure, so that it can be mapped over data
    sets.
    """
    center = start(law, table, theta)
    sites, shapes = scalar_sites(table), latent_shapes(table)
    own = {f"free_{name}" for name in law.names} | set(law.names)
    which = jnp.array([i for i, site in enumerate(sites) if site in own])
    names = sorted(shapes)
    ends = [len(which), *(shapes[name] for name in names)]
    ends = list(itertools.accumulate(ends))

    def log_predicted(block: Any) -> Any:
        first, *rest = jnp.split(block, ends[:-1])
        u = {"main": center.at[which].set(first), **dict(zip(names, rest, strict=True))}
        return jnp.log(terms(law, table, constrained(table, u)).predicted)

    at = jnp.concatenate([center[which], jnp.zeros(ends[-1] - len(which), center.dtype)])
    values = constrained(table, {"main": center} | {k: jnp.zeros(n) for k, n in shapes.items()})
    found = terms(law, table, values, everywhere=False)
    slopes = jnp.where(table.weight[:, None] > 0, jax.jacfwd(log_predicted)(at), 0.0)
    extra = extras(table.likelihood, values)
    weight = table.weight * table.likelihood.information(found.predicted, found.scale, extra)
    curvature = [_prior_precision(table.priors[site], center[i]) for i, site in enumerate(sites)]
    prior = jnp.stack(curvature)
    latent = [values[f"sd_{n}"] ** (-2 * table.centering[n]) for n in sorted(table.centering)]
    precision = slopes.T @ (weight[:, None] * slopes)
    precision += jnp.diag(jnp.concatenate([prior[which], *latent]))
    widths = jnp.stack([_width(site, table) for site in sites])
    rest = jnp.ones(ends[-1] - len(which), center.dtype)
    root = jnp.diag(jnp.concatenate([1 / jnp.sqrt(1 / widths**2 + prior), rest]))
    block = jnp.concatenate([which, len(sites) + jnp.arange(len(rest))])
    return Frame(center, root.at[block[:, None], block].set(_root_of_inverse(precision)))


def _root_of_inverse(precision: Any) -> Any:
    """A root of the inverse of a positive definite matrix, scaled to a unit diagonal first."""
    unit = 1 / jnp.sqrt(jnp.diag(precision))
    lower = jnp.linalg.cholesky(precision * unit[:, None] * unit)
    eye = jnp.eye(len(unit), dtype=precision.dtype)
    return unit[:, None] * jax.scipy.linalg.solve_triangular(lower, eye, lower=True).T


def _prior_precision(chosen: dist.Distribution, at: Any) -> Any:
    """Curvature of the negative log prior in the unconstrained coordinate."""
    transform = biject_to(chosen.support)

    def density(x: Any) -> Any:
        y = transform(x)
        return chosen.log_prob(y) + transform.log_abs_det_jacobian(x, y)

    return jnp.maximum(-jax.grad(jax.grad(density))(at), _LEAST_PRECISION)


def _width(site: str, table: Table) -> Any:
    """Typical posterior standard deviation of a noise parameter's unconstrained coordinate."""
    if site == "scale":
        return 1 / jnp.sqrt(jnp.maximum(jnp.sum(table.weight > 0), 1))
    if site == "scale_slope":
        spread = jnp.sum(jnp.where(table.weight > 0, table.size**2, 0.0))
        return 1 / jnp.sqrt(spread + 1)
    return jnp.asarray(0.5)


def start(law: js.Law, table: Table, theta: Any) -> Any:
    """Unconstrained coordinates of all scalar sites at an optimum of the law, shape (sites,)."""
    free = {name: theta[i] for i, name in enumerate(law.names)}
    reference = {name: param.from_free(free[name]) for name, param in law.params}
    physical = law.to_physical(reference, table.log_refs)
    middle = {"df": 5.0, "concentration": 100.0, "scale_slope": 0.0, "outlier_share": 0.05}
    middle |= {"outlier_factor": 5.0}
    scale, widths = _spread(law, table, physical)
    points = []
    for site in scalar_sites(table):
        chosen = table.priors[site]
        if site.startswith("free_"):
            points.append(free[site.removeprefix("free_")])
            continue
        if site in law.names:
            value = physical[site]
        elif site == "scale":
            value = scale
        elif site.startswith("sd_"):
            value = widths[site.removeprefix("sd_")]
        else:
            value = jnp.asarray(middle[site])
        points.append(biject_to(chosen.support).inv(_inside(chosen, value)))
    return jnp.stack([jnp.asarray(x, float) for x in points])


def _spread(law: js.Law, table: Table, physical: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Noise scale and widths of the effects that the residuals suggest.

    The scale is 1.25 times the mean size of the residuals within clusters; an effect's variance is
    that of the clusters' means, less what the noise puts there.
    """
    predicted = law(*(table.inputs[name] for name in law.inputs), **physical)
    weight = jnp.where(table.weight > 0, 1.0, 0.0)
    log_r = jnp.where(weight > 0, jnp.log(table.loss) - jnp.log(predicted), 0.0)
    total = jnp.sqrt(jnp.sum(weight * log_r**2) / jnp.sum(weight)) + _NO_NOISE
    within, widths = log_r, {}
    for name, codes in table.codes.items():
        groups = table.centering[name].shape[-1]
        sizes = jax.ops.segment_sum(weight, codes, groups)
        means = jax.ops.segment_sum(weight * log_r, codes, groups) / jnp.maximum(sizes, 1)
        left = weight * (log_r - means[codes])
        freedom = jnp.maximum(jnp.sum(weight) - jnp.sum(sizes > 0), 1)
        noise = jnp.sum(left**2) / freedom
        seen = jnp.where(sizes > 0, 1.0, 0.0)
        between = jnp.sum(seen * (means**2 - noise / jnp.maximum(sizes, 1))) / jnp.sum(seen)
        widths[name] = jnp.sqrt(jnp.maximum(between, (0.2 * total) ** 2))
        within = within - weight * (log_r - left) * jnp.where(between > noise, 1.0, 0.0)
    size = jnp.sum(weight * jnp.abs(within)) / jnp.sum(weight)
    scale = 1.25 * jnp.maximum(size, 0.05 * total)
    return scale if table.likelihood.log else scale * jnp.exp(jnp.mean(jnp.log(predicted))), widths


def _inside(chosen: dist.Distribution, value: Any) -> Any:
    """The value, or the middle of a prior that excludes it."""
    try:
        middle = chosen.mean
    except NotImplementedError:
        middle = jnp.median(chosen.sample(jax.random.key(0), (501,)))
    return jnp.where(chosen.support(value) & jnp.isfinite(chosen.log_prob(value)), value, middle)
