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

_MOST_RHAT = 1.05  # of the few draws of a refit
_LEAST_DRAWS = 20


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


def predict_left_out(
    model: Model,
    folds: js.folds.Folds,
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


def _notes(
    folds: js.folds.Folds, found: Many, chosen: np.ndarray, effective: np.ndarray
) -> list[str]:
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
