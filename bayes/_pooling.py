"""The hierarchical model: parameters of many data sets that are alike, as a NumPyro program."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import AffineTransform, ComposeTransform, SoftplusTransform

import jaxscale as js
from bayes._likelihood import Likelihood, extras
from bayes._prior import prior

# Width of the prior of the log of the typical noise scale, and of how much it differs by set.
_SCALE_WIDTH = 2.0
_SCALE_SPREAD = 0.5
_POSITIVE, _NONNEGATIVE = constraints.positive, constraints.nonnegative


class Pool(eqx.Module):
    """What a hierarchical model is conditioned on, as a PyTree: lanes may differ in any leaf.

    Attributes:
        inputs: inputs of the law in the user's units, each (sets, runs).
        loss: observed losses, (sets, runs).
        weight: weights of the runs, with mean one in every set, (sets, runs); zero is padding.
        common: log of the reference values over all sets, in which pooled parameters are compared.
        own: log of the reference values of every set, (sets,), by name.
        priors: distribution of every population parameter, by site.
        each: prior of the unconstrained coordinate of every parameter that is not pooled.
        likelihood: how a run scatters.
    """

    inputs: dict[str, Any]
    loss: Any
    weight: Any
    common: dict[str, Any]
    own: dict[str, Any]
    priors: dict[str, dist.Distribution]
    each: dict[str, dist.Distribution]
    likelihood: Likelihood

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the population parameters, sorted."""
        return tuple(sorted(self.priors))


class Level(NamedTuple):
    """Center and width of the parameters' unconstrained coordinates in the population, (p,)."""

    center: Any
    width: Any


def default_priors(
    law: js.Law, pooled: tuple[str, ...], likelihood: Likelihood, typical: float
) -> dict[str, dist.Distribution]:
    """mu_j ~ prior(param), tau_j ~ HalfNormal(c_j), by site.

    c_j is the standard deviation of numbers spread evenly over the start range: data sets differ by
    no more than what is plausible for any of them. The log of the noise scale is pooled as well.

    Args:
        law: the law.
        pooled: names of the pooled parameters.
        likelihood: how a run scatters.
        typical: noise scale around which its prior lies.
    """
    by_name = dict(law.params)
    chosen = {f"mu_{name}": prior(by_name[name]) for name in pooled}
    chosen |= {f"tau_{name}": dist.HalfNormal(_even_sd(by_name[name])) for name in pooled}
    if likelihood.has_scale:
        chosen["mu_scale"] = dist.Normal(np.log(typical), _SCALE_WIDTH)
        chosen["tau_scale"] = dist.HalfNormal(_SCALE_SPREAD)
    return chosen | likelihood.priors()


def _even_sd(param: js.Param) -> float:
    return float(param.start(1.0) - param.start(0.0)) / 12**0.5


def level(law: js.Law, pool: Pool, values: Mapping[str, Any]) -> Level:
    """Population centers and widths at values of the population parameters."""
    centers = [
        values[f"mu_{name}"] if name not in pool.each else pool.each[name].mean
        for name in law.names
    ]
    widths = [
        values[f"tau_{name}"] if name not in pool.each else pool.each[name].variance ** 0.5
        for name in law.names
    ]
    return Level(jnp.stack(centers), jnp.stack(widths))


def program(law: js.Law, pool: Pool) -> None:
    """The NumPyro program: population parameters, then every set's (sets,), then the runs."""
    values = {site: numpyro.sample(site, chosen) for site, chosen in pool.priors.items()}
    found = level(law, pool, values)
    shape = pool.loss.shape[:1]
    for i, name in enumerate(law.names):
        member = dist.Normal(found.center[i], found.width[i]).expand(shape).to_event(1)
        values[f"free_{name}"] = numpyro.sample(f"free_{name}", member)
    if pool.likelihood.has_scale:
        noise = dist.Normal(values["mu_scale"], values["tau_scale"]).expand(shape).to_event(1)
        values["log_scale"] = numpyro.sample("log_scale", noise)
    numpyro.factor("runs", jnp.sum(pool.weight * log_prob(law, pool, values)))


def parameters(law: js.Law, pool: Pool, values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of every set in the user's units, each (sets,).

    Pooled coordinates are at the common reference point, the others at each set's own, where their
    default prior is meant.
    """
    reference = {name: param.from_free(values[f"free_{name}"]) for name, param in law.params}
    common = law.to_physical(reference, pool.common)
    own = law.to_physical(reference, pool.own)
    return {name: (own if name in pool.each else common)[name] for name in law.names}


def coordinates(law: js.Law, pool: Pool, params: Mapping[str, Any]) -> Any:
    """Unconstrained coordinates of every set, (sets, p), from parameters in the user's units."""
    common, own = law.to_reference(params, pool.common), law.to_reference(params, pool.own)
    each = [
        param.to_free((own if name in pool.each else common)[name]) for name, param in law.params
    ]
    shape = pool.loss.shape[:1]
    return jnp.stack([jnp.broadcast_to(x, shape) for x in each], axis=-1)


def predicted(law: js.Law, pool: Pool, params: Mapping[str, Any]) -> Any:
    """The law at every run, (sets, runs)."""
    return law(
        *(pool.inputs[name] for name in law.inputs),
        **{name: value[:, None] for name, value in params.items()},
    )


def scales(pool: Pool, values: Mapping[str, Any]) -> Any:
    """Noise scale of every set, (sets, 1); ones if the noise has none."""
    log = values.get("log_scale", jnp.zeros(pool.loss.shape[:1], pool.loss.dtype))
    return jnp.exp(log)[:, None]


def log_prob(law: js.Law, pool: Pool, values: Mapping[str, Any]) -> Any:
    """Log density of every run, (sets, runs)."""
    at = predicted(law, pool, parameters(law, pool, values))
    extra = extras(pool.likelihood, values)
    found = pool.likelihood.log_prob(at, pool.loss, scales(pool, values), extra)
    return jnp.where(pool.weight > 0, found, 0.0)


def coordinate(site: str, chosen: dist.Distribution) -> Any:
    """From an unconstrained coordinate to the value: tau = c log(1 + exp u) for widths.

    Like a log where the runs bound a width from below; linear where only its prior bounds it, whose
    tail would be a wall in the log.
    """
    if site.startswith("tau_") and chosen.support in (_POSITIVE, _NONNEGATIVE):
        size = finite(chosen.variance + chosen.mean**2, 1.0) ** 0.5
        return ComposeTransform([SoftplusTransform(), AffineTransform(0.0, size, _POSITIVE)])
    return biject_to(chosen.support)


def finite(value: Any, otherwise: float) -> Any:
    """The value, or another where a distribution has no such moment."""
    return jnp.where(jnp.isfinite(value), value, otherwise)


def population(pool: Pool, u: Any) -> tuple[dict[str, Any], Any]:
    """Values of the population parameters at coordinates u of shape (sites,), and log |dv/du|."""
    values, total = {}, jnp.zeros((), pool.loss.dtype)
    for i, site in enumerate(pool.sites):
        transform = coordinate(site, pool.priors[site])
        values[site] = transform(u[i])
        total += transform.log_abs_det_jacobian(u[i], values[site])
    return values, total
