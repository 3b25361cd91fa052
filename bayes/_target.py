"""The density that samplers and approximations see, and the way back from it to all sites."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from numpyro.infer.util import log_density

import jaxscale as js
from bayes._likelihood import extras
from bayes._model import Table, constrained, latent_shapes, log_jacobian, program, terms
from bayes._precondition import Frame, frame


@dataclasses.dataclass(frozen=True)
class Target:
    """Negative log posterior of a `Table` in the coordinates of a `Frame`."""

    law: js.Law

    def __call__(self, data: tuple[Table, Frame], z: dict[str, Any]) -> Any:
        table, axes = data
        u = axes.u(z)
        log_joint, _ = log_density(program, (self.law, table), {}, constrained(table, u))
        return -(log_joint + log_jacobian(table, u))


@jax.jit(static_argnames="law")
def frames(law: js.Law, tables: Table, theta: Any) -> Frame:
    """Frames of lanes: tables with a leading axis, and optima of shape (lanes, p)."""
    return jax.vmap(lambda table, at: frame(law, table, at))(tables, theta)


def lanes_of(tree: Any, lanes: int) -> Any:
    """A PyTree repeated along a new leading axis."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (lanes, *jnp.shape(x))), tree)


def starts(table: Table, lanes: int, key: jax.Array) -> dict[str, Any]:
    """Overdispersed starts in the coordinates of a frame: twice as wide as the posterior."""
    keys = jax.random.split(key, 1 + len(latent_shapes(table)))
    width = table.loss.dtype
    main = 2 * jax.random.normal(keys[0], (lanes, len(table.priors)), width)
    latent = {
        name: jax.random.normal(k, (lanes, n), width)
        for k, (name, n) in zip(keys[1:], latent_shapes(table).items(), strict=True)
    }
    return {"main": main} | latent


@jax.jit
def moved(axes: Frame, z: Mapping[str, Any]) -> dict[str, Any]:
    """Unconstrained coordinates of draws (lanes, draws, ...) in a frame for every lane."""
    return jax.vmap(lambda frame, draws: frame.u(draws))(axes, dict(z))


class Described(NamedTuple):
    """Draws in terms that people use; every array has leading axes (lanes, draws).

    Attributes:
        values: scalar sites and raw latent values, by name.
        params: parameters of the law in the user's units.
        effects: random effects on log loss, by name, (..., clusters).
        log_likelihood: log density of every run times its weight, (..., runs).
        predicted: law and effects at every run, (..., runs).
        replicated: one new loss for every run, (..., runs).
    """

    values: dict[str, Any]
    params: dict[str, Any]
    effects: dict[str, Any]
    log_likelihood: Any
    predicted: Any
    replicated: Any


@jax.jit(static_argnames="law")
def describe(law: js.Law, table: Table, u: Mapping[str, Any], key: jax.Array) -> Described:
    """What follows from draws ``u`` of unconstrained coordinates, each (lanes, draws, ...)."""
    shape = u["main"].shape[:2]
    keys = jax.random.split(key, shape)
    values = jax.vmap(jax.vmap(lambda at: constrained(table, at)))(dict(u))
    return jax.vmap(jax.vmap(lambda v, k: describe_one(law, table, v, k)))(values, keys)


def describe_one(law: js.Law, table: Table, values: Mapping[str, Any], key: jax.Array) -> Described:
    """As `describe`, for values of all sites."""
    found = terms(law, table, values)
    return Described(
        values=dict(values),
        params=found.params,
        effects=found.effects,
        log_likelihood=jnp.where(table.weight > 0, table.weight * found.log_prob, 0.0),
        predicted=found.predicted,
        replicated=replicate(table, values, found.predicted, found.scale, key),
    )


def replicate(
    table: Table, values: Mapping[str, Any], predicted: Any, scale: Any, key: jax.Array
) -> Any:
    """One new loss for every prediction."""
    first, second, third = jax.random.split(key, 3)
    extra = extras(table.likelihood, values)
    core = table.likelihood.draw(first, predicted, scale, extra)
    if "outlier_share" not in values:
        return core
    wide = scale * (1 + values["outlier_factor"])
    outside = table.likelihood.draw(second, predicted, wide, extra)
    far = jax.random.bernoulli(third, values["outlier_share"], jnp.shape(predicted))
    return jnp.where(far, outside, core)
