"""The DataTree of a posterior: what ArviZ calls groups."""

from collections.abc import Mapping
from typing import Any

import arviz_base
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import jaxscale as js
from bayes._model import Model, Table, prior_log_prob, scalar_sites
from bayes._target import Described, describe_one

PRIOR_DRAWS = 1000


def data_tree(
    model: Model,
    u: Mapping[str, np.ndarray],
    described: Described,
    stats: Mapping[str, np.ndarray],
    key: jax.Array,
) -> Any:
    """See `Posterior.data`."""
    table = model.table
    prior = prior_draws(model, key)
    groups: dict[str, Any] = {
        "posterior": named(model, described),
        "sample_stats": _stats(stats),
        "log_likelihood": {"loss": described.log_likelihood},
        "log_prior": {"prior": _log_prior(table, described.values)},
        "posterior_predictive": {"loss": described.replicated},
        "prior": named(model, prior),
        "prior_predictive": {"loss": prior.replicated},
        "observed_data": {"loss": np.asarray(table.loss)},
        "constant_data": {
            **{name: np.asarray(x) for name, x in table.inputs.items()},
            "weight": np.asarray(table.weight),
        },
    }
    groups = {name: group for name, group in groups.items() if group}
    dims = {name: ["run"] for name in ("loss", "weight", *table.inputs)}
    dims |= {f"effect_{name}": [name] for name in table.centering}
    runs = model.fit.runs
    coords: dict[str, Any] = {"run": np.arange(len(table.loss)) if runs is None else runs.row}
    coords |= {name: np.arange(x.shape[-1]) for name, x in table.centering.items()}
    return arviz_base.from_dict(
        {name: jax.tree.map(np.asarray, group) for name, group in groups.items()},
        dims=dims,
        coords=coords,
    )


def named(model: Model, described: Described) -> dict[str, Any]:
    """Parameters, what the law derives, parameters of the noise and effects."""
    params = {name: described.params[name] for name in model.law.names}
    derived = {name: jnp.asarray(fn(**params)) for name, fn in model.law.derived}
    noise = {name: described.values[name] for name in model.noise_sites}
    effects = {f"effect_{name}": value for name, value in described.effects.items()}
    return {**params, **derived, **noise, **effects}


def _stats(stats: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Statistics under the names that ArviZ knows."""
    known = {"num_steps": "n_steps", "accept_prob": "acceptance_rate"}
    return {known.get(name, name): value for name, value in stats.items()}


@jax.jit
def _log_prior(table: Table, values: Mapping[str, Any]) -> Any:
    each = jax.vmap(jax.vmap(lambda v: prior_log_prob(table, v)))
    return each({name: jnp.asarray(x) for name, x in values.items()})


def prior_draws(model: Model, key: jax.Array, draws: int = PRIOR_DRAWS) -> Described:
    """Draws from the prior and runs simulated from them, with leading axes (1, draws)."""
    return _simulate(model.law, model.table, jax.random.split(key, (1, draws)))


@jax.jit(static_argnames="law")
def _simulate(law: js.Law, table: Table, keys: Any) -> Described:
    def one(key: jax.Array) -> Described:
        first, second = jax.random.split(key)
        return describe_one(law, table, sampled_prior(table, first), second)

    return jax.vmap(jax.vmap(one))(keys)


def sampled_prior(table: Table, key: jax.Array) -> dict[str, Any]:
    """One draw of all sites from the prior."""
    sites = scalar_sites(table)
    keys = jax.random.split(key, len(sites) + len(table.centering))
    values = {s: table.priors[s].sample(k) for s, k in zip(sites, keys, strict=False)}
    rest = list(keys[len(sites) :])
    for name, weights in table.centering.items():
        width = jnp.broadcast_to(values[f"sd_{name}"], weights.shape) ** weights
        values[f"raw_{name}"] = dist.Normal(0.0, width).sample(rest.pop())
    return values
