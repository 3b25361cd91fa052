"""sample(): draws from the posterior of a fitted law, with a verdict on the sampler."""

from typing import Any

import jax
import jax.numpy as jnp

import jaxscale as js
from bayes._diagnose import sampler_verdict
from bayes._many import sample_many
from bayes._model import Model, model, site_values
from bayes._posterior import Posterior
from bayes._target import lanes_of

_RESTARTS = 256


def sample(
    source: js.Fit | js.Law | Model,
    runs: js.Runs | None = None,
    *,
    key: jax.Array,
    draws: int = 1000,
    warmup: int = 500,
    chains: int = 4,
    target_accept: float = 0.95,
    show_progress: bool | None = None,
    **options: Any,
) -> Posterior:
    """Sample the posterior of a law with NUTS, all chains at once.

    The chains start around the fit and move in the coordinates of its Laplace covariance, which the
    warmup refines by a dense mass matrix; chains are spread over the devices if there are several.

    Args:
        source: a fit of one data set, with its runs; a law, together with `runs`, which is fitted
            first; or a `model`.
        runs: the runs, for a law.
        key: JAX random key.
        draws, warmup: per chain.
        chains: number of chains, at least 2.
        target_accept: acceptance probability that the step size is tuned to.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.
        **options: what `model` takes: likelihood, priors, scale_by, effects, outliers,
            input_error.

    Raises:
        DataError: for a stack, a fit without runs, or an option that does not apply.

    Source: Hoffman & Gelman 2014 (NUTS); Vehtari et al. 2021 (R-hat, ESS); Betancourt 2016
    (E-BFMI).

    Example:
        >>> sample(fit, likelihood=StudentT(), effects={"model": "N"}, key=jax.random.key(0))
    """
    if chains < 2 or draws < 4 or warmup < 1:
        raise js.DataError(
            "sampling needs at least 2 chains, which have to agree, 4 draws and 1 step of warmup"
        )
    first, second, third = jax.random.split(key, 3)
    made = as_model(source, runs, third, options)
    with js.progress(f"sampling {made.law.name}", chains * (draws + warmup), show_progress) as tick:
        found = sample_many(
            made.law,
            lanes_of(made.table, 1),
            jnp.asarray(made.fit.free, float)[None],
            first,
            chains=chains,
            warmup=warmup,
            draws=draws,
            accept=target_accept,
            tick=tick,
        )
    u, stats = jax.tree.map(lambda x: x[0], tuple(found))
    values = site_values(made, u)
    return Posterior(made, u, stats, "NUTS", sampler_verdict(made, values, stats), second)


def as_model(source: Any, runs: js.Runs | None, key: jax.Array, options: dict[str, Any]) -> Model:
    """The model of whatever `sample` was given."""
    if isinstance(source, Model):
        if options or runs is not None:
            raise js.DataError("this is a model already: give its options to bayes.model(...)")
        return source
    if isinstance(source, js.Law):
        if runs is None:
            raise js.DataError("a law needs its runs: bayes.sample(law, runs, key=key)")
        source = js.fit(source, runs, restarts=_RESTARTS, key=key, show_progress=False)
    elif runs is not None:
        raise js.DataError("runs= goes with a law; a fit has its own runs")
    return model(source, **options)
