"""hierarchical(): one law for many data sets whose parameters are alike."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import jaxscale as js
from bayes import _nuts
from bayes._hierarchy import Hierarchy
from bayes._likelihood import Counts, Likelihood, ObjectiveNoise, as_likelihood
from bayes._model import refuse_names
from bayes._pooling import Pool, coordinates, default_priors, parameters, scales
from bayes._prior import check_priors, prior
from bayes._target import lanes_of
from bayes._transport import Chart, PoolTarget, chart, values_at

_RESTARTS = 128
_TYPICAL = 0.02  # relative noise where no set can be fitted on its own
_NO_NOISE = 1e-12


def hierarchical(
    source: js.Law | js.Fit,
    runs: js.Runs | None = None,
    *,
    pool: Sequence[str] | None = None,
    key: jax.Array,
    draws: int = 1000,
    warmup: int = 500,
    chains: int = 4,
    target_accept: float = 0.95,
    likelihood: js.Objective | Likelihood | None = None,
    priors: Mapping[str, dist.Distribution] | None = None,
    show_progress: bool | None = None,
) -> Hierarchy:
    """theta_gj ~ Normal(mu_j, tau_j) for every set g and pooled parameter j: partial pooling.

    theta is the unconstrained coordinate (the log of a positive parameter, a real one itself) at
    one reference point, the geometric mean of all sets, so that even ``A`` and ``E`` can be pooled.
    A set with many runs keeps its own estimate; one with a run or two borrows from the others. The
    log of the noise scale is always pooled. Parameters that are not pooled have their default
    prior in every set.

    Args:
        source: the law, or a fit of a stack.
        runs: the data sets, ``Runs.stack({"name": runs, ...})``; for a law.
        pool: names of the pooled parameters; default those without a unit, such as the exponents.
        key: JAX random key.
        draws, warmup: per chain.
        chains: number of chains.
        target_accept: acceptance probability that the step size is tuned to.
        likelihood: as `model` takes it; default the objective of the fits. Degrees of freedom and
            concentration are common to all sets. `Binomial` needs trials of shape (sets, runs).
        priors: NumPyro distributions of population parameters by name: ``"mu_alpha"`` (of the
            unconstrained coordinate), ``"tau_alpha"``, ``"mu_scale"`` (log noise scale),
            ``"tau_scale"``, ``"df"``, ``"concentration"``.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Raises:
        DataError: if the runs are no stack of at least two sets, or the sampler has nothing to do.
        LawError: for an unknown parameter in `pool` or `priors`, or a missing input.

    Source: Gelman et al. 2013, Bayesian Data Analysis, chapter 5; Gelman 2006, Bayesian Analysis
    1(3), 515-534 (priors of tau).

    Example:
        >>> hierarchical(js.laws.chinchilla, js.Runs.stack(families), key=jax.random.key(0))
    """
    if chains < 1 or draws < 4 or warmup < 1:
        raise js.DataError("sampling needs at least 1 chain, 4 draws and 1 step of warmup")
    law, stack = _stack(source, runs)
    pooled = _pooled(law, pool)
    first, second, third = jax.random.split(key, 3)
    objective = likelihood if isinstance(likelihood, js.Objective) else None
    fits = (
        {name: source[name] for name in source.sets or ()}
        if isinstance(source, js.Fit)
        else own_fits(law, stack, objective, first)
    )
    given = source.objective if isinstance(source, js.Fit) else js.LogHuber(1e-3)
    noise = as_likelihood(likelihood, given, stack.weight)
    table = make_pool(law, stack, pooled, noise, _typical(noise, fits), priors)
    begin = _begin(law, table, stack, fits)
    with js.progress(f"sampling {law.name}", chains * (draws + warmup), show_progress) as tick:
        found = sample_pools(
            law,
            lanes_of(table, 1),
            begin[None],
            second,
            chains=chains,
            warmup=warmup,
            draws=draws,
            accept=target_accept,
            tick=tick,
        )
    values, stats = jax.tree.map(lambda x: x[0], tuple(found))
    return Hierarchy(
        law=law,
        objective=noise.objective if isinstance(noise, ObjectiveNoise) else given,
        runs=stack,
        pooled=pooled,
        table=table,
        values=values,
        stats=stats,
        fits=fits,
        replaced=frozenset(priors or ()),
        key=third,
    )


def _stack(source: Any, runs: Any) -> tuple[js.Law, js.Runs]:
    if isinstance(source, js.Fit):
        if runs is not None:
            raise js.DataError("runs= goes with a law; a fit has its own runs")
        source, runs = source.law, source.runs
    if not isinstance(source, js.Law):
        raise js.DataError(f"give a law and a stack of runs, not {type(source).__name__!r}")
    if not isinstance(runs, js.Runs) or runs.sets is None:
        raise js.DataError(
            "partial pooling needs several data sets: js.Runs.stack({'name': runs, ...})"
        )
    if len(runs.sets) < 2:
        raise js.DataError(
            f"there is one data set, {runs.sets[0]!r}, and nothing to pool it with: use "
            "bayes.sample, or stack several"
        )
    missing = [name for name in source.inputs if name not in runs.inputs]
    if missing:
        raise js.LawError(
            f"law {source.name!r} needs the inputs {', '.join(source.inputs)}; the runs lack "
            f"{', '.join(missing)}"
        )
    return source, runs


def _pooled(law: js.Law, given: Sequence[str] | None) -> tuple[str, ...]:
    if given is None:
        given = tuple(name for name, param in law.params if not param.unit)
    names = (given,) if isinstance(given, str) else tuple(given)
    unknown = sorted(set(names) - set(law.names))
    if unknown:
        raise js.LawError(
            f"law {law.name!r} has no parameter {', '.join(unknown)} to pool; it has "
            f"{', '.join(law.names)}"
        )
    if not names:
        raise js.DataError(
            "pool names no parameter, so that the sets have nothing in common: use bayes.sample "
            "on each of them"
        )
    return tuple(name for name in law.names if name in names)


def own_fits(
    law: js.Law, runs: js.Runs, objective: js.Objective | None, key: jax.Array
) -> dict[str, js.Fit]:
    """Fits of the sets that determine the law on their own, all at once."""
    names = [name for name in runs.sets or () if _enough(law, runs[name])]
    if not names:
        return {}
    options: dict[str, Any] = {"objective": objective, "restarts": _RESTARTS, "key": key}
    try:
        together = js.fit(law, _part(runs, names), show_progress=False, **options)
        return {name: together[name] for name in names}
    except js.IdentificationError:  # one of them lies on a line, say: find out which
        found = {}
        for name in names:
            try:
                found[name] = js.fit(law, runs[name], show_progress=False, **options)
            except js.IdentificationError:
                continue
        return found


def _enough(law: js.Law, runs: js.Runs) -> bool:
    inputs = np.stack([np.asarray(runs.inputs[name], float) for name in law.inputs])
    return bool(
        len(np.unique(inputs, axis=1).T) >= len(law.names)
        and all(np.ptp(np.log(x)) > 1e-9 for x in inputs)
    )


def _part(runs: js.Runs, names: list[str]) -> js.Runs:
    """Some sets of a stack, padded as before."""
    which = [(runs.sets or ()).index(name) for name in names]
    arrays = jax.tree.map(lambda x: np.asarray(x)[which], runs)
    return js.Runs(
        inputs=arrays.inputs,
        loss=arrays.loss,
        weight=arrays.weight,
        row=arrays.row,
        cluster=arrays.cluster,
        sets=tuple(names),
        source=", ".join(names),
    )


def _typical(noise: Likelihood, fits: Mapping[str, js.Fit]) -> float:
    """Noise scale that the residuals of all fits suggest, with their degrees of freedom."""
    if not noise.has_scale:
        return 1.0
    spare = [fit for fit in fits.values() if fit.n_runs > len(fit.law.names)]
    objective = noise.objective if isinstance(noise, ObjectiveNoise) else js.LogGaussian()
    if not spare:
        return max(objective.noise_scale(np.array([_TYPICAL, -_TYPICAL]), np.ones(2)), _NO_NOISE)
    runs = [fit.runs for fit in spare if fit.runs is not None]
    r = [
        np.asarray(objective.residual(fit.predicted(), jnp.asarray(one.loss)))
        for fit, one in zip(spare, runs, strict=True)
    ]
    count, lost = sum(map(len, r)), sum(len(fit.law.names) for fit in spare)
    residuals = np.concatenate(r) * np.sqrt(count / (count - lost))
    weight = np.concatenate([one.weight for one in runs])
    return max(objective.noise_scale(residuals, weight), _NO_NOISE)


def make_pool(
    law: js.Law,
    runs: js.Runs,
    pooled: tuple[str, ...],
    noise: Likelihood,
    typical: float,
    priors: Mapping[str, dist.Distribution] | None = None,
) -> Pool:
    """The hierarchical model of a stack, see `hierarchical`; `typical` is a noise scale."""
    if isinstance(noise, Counts):
        _check_counts(noise, runs)
    given = dict(priors or {})
    defaults = default_priors(law, pooled, noise, typical)
    check_priors(given, tuple(defaults), law)
    refuse_names(law)
    weight = np.asarray(runs.weight, float)
    columns = {**runs.inputs, "loss": runs.loss}
    own = {
        name: np.average(np.log(columns[name]), weights=weight, axis=-1)
        for name in sorted(law.scaled)
    }
    mean = weight.sum(-1, keepdims=True) / (weight > 0).sum(-1, keepdims=True)
    table = Pool(
        inputs={name: runs.inputs[name] for name in law.inputs},
        loss=runs.loss,
        weight=weight / mean,
        common={name: refs.mean() for name, refs in own.items()},
        own=own,
        priors=defaults | given,
        each={name: prior(param) for name, param in law.params if name not in pooled},
        likelihood=noise,
    )
    return jax.tree.map(lambda x: jnp.asarray(x, float), table)


def _check_counts(noise: Counts, runs: js.Runs) -> None:
    shape = np.shape(noise.trials)
    if shape not in ((), np.shape(runs.loss)):
        raise js.DataError(
            f"trials must be a number or have the shape of the stack, {np.shape(runs.loss)}, got "
            f"{shape}"
        )
    if (np.asarray(runs.loss) > 1).any():
        raise js.DataError("a share of successes lies between 0 and 1; a loss is above 1")


def _begin(law: js.Law, table: Pool, runs: js.Runs, fits: Mapping[str, js.Fit]) -> Any:
    """Coordinates to start at, (sets, p): of the fits, or their middle for the other sets."""
    middle = np.array([float(param.start(0.5)) for _, param in law.params])
    begin = np.broadcast_to(middle, (len(runs.sets or ()), len(middle))).copy()
    if not fits:
        return jnp.asarray(begin)
    which = [(runs.sets or ()).index(name) for name in fits]
    # The coordinates of all sets at the estimates of each: only its own are wanted.
    for i, fit in zip(which, fits.values(), strict=True):
        begin[i] = np.asarray(coordinates(law, table, fit.params))[i]
    others = np.setdiff1d(np.arange(len(begin)), which)
    begin[others] = np.median(begin[which], axis=0)
    return jnp.asarray(np.where(np.isfinite(begin), begin, middle))


class Pooled(NamedTuple):
    """Draws of many hierarchical models, each array (stacks, chains, draws, ...).

    `values` has population parameters by name, parameters of the law in the user's units and the
    noise scale of every set, (..., sets). `stats` has statistics of the sampler.
    """

    values: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]


def sample_pools(
    law: js.Law,
    pools: Pool,
    begin: Any,
    key: jax.Array,
    *,
    chains: int,
    warmup: int,
    draws: int,
    accept: float = 0.9,
    tick: Callable[[int], None] = lambda n: None,
) -> Pooled:
    """Sample many stacks of data sets at once, with a lane for every chain of every stack.

    Args:
        law: the law.
        pools: models with a leading axis of stacks on every leaf, see `lanes_of`.
        begin: coordinates to start the search of each set's optimum at, (stacks, sets, p).
        key: JAX random key.
        chains, warmup, draws: of every stack.
        accept: acceptance probability that the step size is tuned to.
        tick: called with the number of finished iterations, summed over all chains.
    """
    stacks = len(begin)
    each = np.repeat(np.arange(stacks), chains)
    charts = _charts(law, pools, begin)
    data = jax.tree.map(lambda x: jnp.asarray(x)[each], (pools, charts))
    first, second, third = jax.random.split(key, 3)
    shape = (len(each), begin.shape[1], begin.shape[2] + int(pools.likelihood.has_scale))
    starts = {
        # Twice as wide as the posterior of the population, so that R-hat means something.
        "main": 2 * jax.random.normal(first, (len(each), len(pools.priors)), pools.loss.dtype),
        "sets": jax.random.normal(second, shape, pools.loss.dtype),
    }
    found = _nuts.run(
        PoolTarget(law), data, starts, third, warmup=warmup, draws=draws, accept=accept, tick=tick
    )
    values = jax.device_get(_named(law, *data, jax.tree.map(jnp.asarray, found.z)))
    return Pooled(
        *jax.tree.map(lambda x: x.reshape(stacks, chains, *x.shape[1:]), (values, found.stats))
    )


@jax.jit(static_argnames="law")
def _charts(law: js.Law, pools: Pool, begin: Any) -> Chart:
    return jax.vmap(lambda pool, at: chart(law, pool, at))(pools, begin)


@jax.jit(static_argnames="law")
def _named(law: js.Law, pools: Pool, charts: Chart, z: Mapping[str, Any]) -> dict[str, Any]:
    """Draws in the terms of `Pooled`, each (lanes, draws, ...)."""

    def one(pool: Pool, at: Chart, coordinates: Mapping[str, Any]) -> dict[str, Any]:
        values, _ = values_at(law, pool, at, coordinates)
        named = {site: values[site] for site in pool.sites} | parameters(law, pool, values)
        if pool.likelihood.has_scale:
            named["scale"] = scales(pool, values)[:, 0]
        return named

    inner = jax.vmap(one, in_axes=(None, None, 0))
    return jax.vmap(inner)(pools, charts, dict(z))
