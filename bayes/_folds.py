"""Exact predictions of runs that a posterior has not seen: refits with weight zero, batched."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from arviz_stats.base import array_stats

import jaxscale as js
from bayes._many import Many, sample_many
from bayes._model import Model, Table, constrained, terms
from bayes._target import lanes_of

# Sizes this close, relatively, count as equal: they are read off figures, or rounded.
_SAME_SIZE = 0.01
_MOST_RHAT = 1.05  # of the few draws of a refit
_LEAST_DRAWS = 20


@dataclasses.dataclass(frozen=True)
class Folds:
    """Which runs are left out, and which ones the posterior is conditioned on instead.

    Attributes:
        names: what is left out, in words, one for every fold.
        held: the runs that are predicted, (folds, runs).
        seen: the runs that are conditioned on, (folds, runs).
    """

    names: tuple[str, ...]
    held: np.ndarray
    seen: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


class Scores(NamedTuple):
    """Log predictive densities, (points,), and what is wrong with the draws behind them.

    Attributes:
        value: log density of each point: the runs of a fold together, or run by run.
        error: Monte Carlo standard error of each.
        notes: sentences, empty if all is well.
    """

    value: np.ndarray
    error: np.ndarray
    notes: tuple[str, ...]


class Sampling(NamedTuple):
    """How every refit is sampled."""

    chains: int
    warmup: int
    draws: int

    def warmup_of(self, model: Model) -> int:
        """Twice as long for models with latent values, whose scales have to be learned."""
        return 2 * self.warmup if model.table.centering else self.warmup

    def work(self, model: Model, refits: int) -> int:
        """Iterations of all chains of all refits."""
        return refits * self.chains * (self.warmup_of(model) + self.draws)


def single_runs(runs: js.Runs, which: np.ndarray) -> Folds:
    """A fold for each of some runs, by position."""
    held = np.arange(len(runs)) == np.asarray(which, int)[:, None]
    rows = np.asarray(runs.row)[which]
    return _checked(runs, tuple(f"row {row}" for row in rows), held, ~held)


def clusters(runs: js.Runs, by: Any) -> Folds:
    """A fold for each cluster, as `jaxscale.cluster_codes` makes them."""
    codes = js.cluster_codes(runs, by)
    held = np.unique(codes)[:, None] == codes
    held = held[(held & _counted(runs)).any(axis=1)]
    names = tuple(_cluster_label(runs, by, np.flatnonzero(each)) for each in held)
    return _checked(runs, names, held, ~held)


def _cluster_label(runs: js.Runs, by: Any, members: np.ndarray) -> str:
    if isinstance(by, str) and (by in runs.inputs or by != "cluster"):
        return f"{by} = {np.median(sizes(runs, by)[members]):.4g}"
    labels = runs.cluster if by is None or isinstance(by, str) else by
    return f"cluster {np.asarray(labels)[members[0]]}"


def sizes(runs: js.Runs, by: Any = None) -> np.ndarray:
    """What orders the runs from small to large: 6 N D, an input, or numbers, shape (runs,).

    Raises:
        DataError: if there is no such input, or if None could mean several.
    """
    inputs = {name: np.asarray(x, float) for name, x in runs.inputs.items()}
    if by is None:
        by = "C" if {"N", "D"} <= set(inputs) else next(iter(inputs))
        if by != "C" and len(inputs) > 1:
            raise js.DataError(f"say what orders the runs with by=, such as by={by!r}")
    if isinstance(by, str) and by in inputs:
        return inputs[by]
    if isinstance(by, str) and by in ("C", "flop") and {"N", "D"} <= set(inputs):
        return np.asarray(6.0 * inputs["N"] * inputs["D"])
    if isinstance(by, str):
        raise js.DataError(f"there is no input {by!r} to order the runs by")
    numbers = np.asarray(by, float)
    if numbers.shape != (len(runs),) or not (np.isfinite(numbers) & (numbers > 0)).all():
        raise js.DataError(f"by must have {len(runs)} positive numbers, one for each run")
    return numbers


def future(runs: js.Runs, by: Any = None, *, share: float = 0.4, blocks: int = 4) -> Folds:
    """Blocks of the largest runs, each predicted from the runs that are smaller than all of it.

    The largest `share` of the runs is cut into `blocks` of about equal numbers; runs of equal size
    stay together. What lies within 1% of the smallest run of a block counts as of its size, so
    that it is not conditioned on.

    Raises:
        DataError: if all runs are of one size, or for a share or a number that cannot be.
    """
    if not 0 < share < 1 or blocks < 1:
        said = f"got share={share} and blocks={blocks}"
        raise js.DataError(f"share must lie between 0 and 1, and blocks be 1 or more; {said}")
    size, counted = sizes(runs, by), _counted(runs)
    ranked = np.sort(size[counted])
    first = np.linspace((1 - share) * len(ranked), len(ranked), blocks + 1)[:-1]
    cuts = np.unique(ranked[np.minimum(np.round(first).astype(int), len(ranked) - 1)])
    cuts = cuts[cuts > ranked[0] * (1 + _SAME_SIZE)]
    if not len(cuts):
        raise js.DataError(f"{runs.source}: the runs are too much of one size to leave some out")
    upper = np.append(cuts[1:], np.inf)
    held = (size >= cuts[:, None]) & (size < upper[:, None])
    seen = size < (1 - _SAME_SIZE) * cuts[:, None]
    shown = by if isinstance(by, str) else "size"
    names = tuple(f"{shown} {size[e].min():.3g} to {size[e].max():.3g}" for e in held & counted)
    return _checked(runs, names, held, seen)


def _counted(runs: js.Runs) -> np.ndarray:
    return np.asarray(np.asarray(runs.weight) > 0)


def _checked(runs: js.Runs, names: tuple[str, ...], held: np.ndarray, seen: np.ndarray) -> Folds:
    return Folds(names, held & _counted(runs), seen & _counted(runs))


def refuse_starved(model: Model, folds: Folds) -> None:
    """Refuse folds that leave fewer runs than the law has parameters.

    Raises:
        DataError: naming the fold.
    """
    left = folds.seen.sum(axis=1)
    needed = len(model.law.params)
    if left.min() < needed:
        raise js.DataError(
            f"without the runs of {folds.names[int(left.argmin())]}, only {left.min()} are left, "
            f"fewer than the {needed} parameters of {model.law.name!r}: leave out less"
        )


def predict_left_out(
    model: Model,
    folds: Folds,
    sampling: Sampling,
    key: jax.Array,
    *,
    jointly: bool,
    tick: Callable[[int], None] = lambda n: None,
) -> Scores:
    """log mean_s prod_i p(y_i | draw s of the posterior without the fold), one refit per fold.

    The draws hold an effect for a cluster of which nothing was seen, from its prior: the mean
    integrates over it.

    Args:
        model: the model; its priors stay what they are.
        folds: what to leave out, of which there are any number.
        sampling: of each refit.
        key: JAX random key.
        jointly: whether the runs of a fold make one point, to the power of their weights, or each
            run is a point of its own, in the order of the folds and then of the runs.
        tick: see `sample_many`.
    """
    table = model.table
    tables = _without(table, folds.seen)
    found = sample_many(
        model.law,
        tables,
        jnp.broadcast_to(jnp.asarray(model.fit.free, float), (len(folds), len(model.law.params))),
        key,
        chains=sampling.chains,
        warmup=sampling.warmup_of(model),
        draws=sampling.draws,
        tick=tick,
    )
    held = jnp.asarray(folds.held * np.asarray(table.weight))
    u = {name: jnp.asarray(x) for name, x in found.u.items()}
    value, effective = map(np.asarray, _left_out(model.law, tables, held, u, jointly))
    chosen = np.asarray(folds.held.any(axis=1, keepdims=True) if jointly else folds.held)
    value, effective = value[chosen], effective[chosen]
    total = sampling.chains * sampling.draws
    error = np.sqrt(np.maximum(1 / effective - 1 / total, 0))
    return Scores(value, error, tuple(_notes(folds, found, chosen, effective)))


def _without(table: Table, seen: np.ndarray) -> Table:
    """A table per fold in which the other runs have weight zero."""
    tables = lanes_of(table, len(seen))
    kept = jnp.asarray(seen * np.asarray(table.weight))
    # An effect of which nothing was seen is drawn from its prior, best in the scale of that.
    centering = {
        name: jnp.stack(
            [jnp.where(np.bincount(codes, each, len(weights)) > 0, weights, 0.0) for each in seen]
        )
        for (name, weights), codes in zip(
            table.centering.items(), map(np.asarray, table.codes.values()), strict=True
        )
    }
    return dataclasses.replace(tables, weight=kept, centering=centering)


@jax.jit(static_argnames=("law", "jointly"))
def _left_out(law: js.Law, tables: Table, held: Any, u: dict[str, Any], jointly: bool) -> Any:
    """Log mean density and effective number of draws, each (folds, 1) or (folds, runs)."""

    def fold(one: tuple[Table, Any, dict[str, Any]]) -> Any:
        table, weight, draws = one
        flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in draws.items()}
        density = jax.vmap(lambda at: terms(law, table, constrained(table, at)).log_prob)(flat)
        density = jnp.where(jnp.isnan(density), -jnp.inf, density)
        if jointly:
            density = jnp.where(weight > 0, weight * density, 0.0).sum(axis=1, keepdims=True)
        total = jax.nn.logsumexp(density, axis=0)
        effective = jnp.exp(2 * total - jax.nn.logsumexp(2 * density, axis=0))
        return total - jnp.log(len(density)), jnp.where(jnp.isfinite(total), effective, 1.0)

    return jax.lax.map(fold, (tables, held, u))


def _notes(folds: Folds, found: Many, chosen: np.ndarray, effective: np.ndarray) -> list[str]:
    rhat = np.asarray(array_stats.rhat(np.moveaxis(found.u["main"], -1, 1)))
    worst = np.nanmax(np.where(np.isfinite(rhat), rhat, np.inf), axis=1)
    divergent = np.asarray(found.stats["diverging"]).sum(axis=(1, 2))
    notes = []
    bad = np.flatnonzero(worst > _MOST_RHAT)
    if len(bad):
        names = ", ".join(folds.names[i] for i in bad[:3]) + (", ..." if len(bad) > 3 else "")
        notes.append(
            f"{len(bad)} of {len(folds)} refits have not mixed (R-hat up to {worst.max():.2f}, "
            f"without {names}): raise warmup= and draws=."
        )
    if divergent.any():
        notes.append(f"{int((divergent > 0).sum())} of {len(folds)} refits had divergences.")
    few = effective < _LEAST_DRAWS
    if few.any():
        fold = np.nonzero(chosen)[0][effective.argmin()]
        notes.append(
            f"{int(few.sum())} of {len(effective)} densities rest on fewer than {_LEAST_DRAWS} "
            f"draws (worst: {folds.names[fold]}): raise draws=."
        )
    return notes
