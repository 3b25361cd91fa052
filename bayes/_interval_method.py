"""posterior_method(): posterior intervals for a coverage study, see `jaxscale.calibrate`."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxscale as js
from bayes._many import sample_many
from bayes._model import Table, constrained, model, parameters
from bayes._target import lanes_of


@dataclasses.dataclass(frozen=True)
class PosteriorMethod:
    """Draws from the posterior of every table; see `posterior_method`.

    Attributes:
        name: what the study calls it.
        draws, warmup, chains, target_accept: of the sampler.
        options: what `model` takes.
    """

    name: str
    draws: int
    warmup: int
    chains: int
    target_accept: float
    options: dict[str, Any]

    def __call__(self, fit: js.Fit, loss: Any, *, key: jax.Array) -> dict[str, np.ndarray]:
        made, sets = model(fit, **self.options), len(loss)
        tables = eqx.tree_at(lambda t: t.loss, lanes_of(made.table, sets), jnp.asarray(loss, float))
        found = sample_many(
            made.law,
            tables,
            jnp.broadcast_to(jnp.asarray(fit.free, float), (sets, len(fit.law.params))),
            key,
            chains=self.chains,
            warmup=self.warmup,
            draws=self.draws,
            accept=self.target_accept,
        )
        drawn = jax.device_get(_params(made.law, made.table, found.u))
        flat = {name: drawn[name].reshape(sets, -1) for name in made.law.names}
        lost = ~np.all([np.isfinite(x).all(1) for x in flat.values()], axis=0)
        return {name: np.where(lost[:, None], np.nan, x) for name, x in flat.items()}


@jax.jit(static_argnames="law")
def _params(law: js.Law, table: Table, u: dict[str, Any]) -> dict[str, Any]:
    def one(at: dict[str, Any]) -> dict[str, Any]:
        return parameters(law, table, constrained(table, at))

    return jax.vmap(jax.vmap(jax.vmap(one)))(u)


def posterior_method(
    *,
    name: str = "posterior",
    draws: int = 400,
    warmup: int = 300,
    chains: int = 2,
    target_accept: float = 0.9,
    **options: Any,
) -> PosteriorMethod:
    """P(low < theta < high | runs) = level, as a method for `jaxscale.calibrate`.

    Every simulated table gets the model that the fit would get, with its priors, reference units
    and center of the scale prior; only the losses are its own. All tables of a call are sampled at
    once, from around the fit.

    Args:
        name: what the study calls it; give names to compare several.
        draws, warmup: per chain.
        chains: number of chains of every table.
        target_accept: acceptance probability that the step size is tuned to.
        **options: what `model` takes: likelihood, priors, scale_by, effects, outliers,
            input_error.

    Raises:
        DataError: for fewer than 1 chain, 4 draws or 1 step of warmup.

    Example:
        >>> jaxscale.calibrate(fit, methods=["hessian", posterior_method()], key=key)
    """
    if chains < 1 or draws < 4 or warmup < 1:
        raise js.DataError("sampling needs at least 1 chain, 4 draws and 1 step of warmup")
    return PosteriorMethod(name, draws, warmup, chains, target_accept, options)
