"""Every combination of the choices an analyst could have made, fitted in a few batches."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from jaxscale import _driver
from jaxscale._checkpoint import Arrays, Checkpoint, digest_of, exactly
from jaxscale._choices import Selection, Subset, laws_of, objectives_of, subsets_of
from jaxscale._draws import tails
from jaxscale._errors import DataError, LawError
from jaxscale._evaluate import Rows
from jaxscale._finish import HIT
from jaxscale._identify import refuse_unidentified
from jaxscale._lanes import Outcomes
from jaxscale._law import Law, check_units, physical_params
from jaxscale._levenberg_marquardt import levenberg_marquardt
from jaxscale._mesh import use_mesh
from jaxscale._objective import Objective
from jaxscale._problem import Problem
from jaxscale._progress import progress
from jaxscale._quantity import Derived, Parameter, Quantity, evaluate, resolve, resolve_all
from jaxscale._reference import log_references, reference_rows
from jaxscale._refit import STOPPING, WARM
from jaxscale._runs import Runs
from jaxscale._spread import CHOICES, Multiverse
from jaxscale._starts import sobol
from jaxscale.laws import chinchilla

_COLD_WIDTH = 1.0  # to which a sharp loss is smoothed first, far from an optimum
# Weights of so many resamples and runs are held at once: it bounds the memory.
_MOST_CELLS = 20_000_000
# So many fits make a chunk, which is what a checkpoint keeps or loses: seconds to minutes of work.
_MOST_FITS = 65_536
_RESULTS = ("runs", "value", "hit_share", "converged", "failed_share")


def multiverse(
    runs: Runs,
    *,
    key: jax.Array,
    law: Law | Sequence[Law] = chinchilla,
    objective: Objective | Sequence[Objective] | None = None,
    delta: float | Sequence[float] | None = None,
    drop: int | Sequence[int] = (0,),
    selection: Selection | None = None,
    quantities: str | Quantity | Iterable[str | Quantity] | None = None,
    restarts: int = 256,
    bootstrap: int = 0,
    level: float = 0.95,
    checkpoint: str | Path | None = None,
    mesh: Mesh | None = None,
    show_progress: bool | None = None,
) -> Multiverse:
    """Minimize ``sum_i w_i rho(r_i)`` for all laws x objectives x cleanings; w_i = 0 leaves out.

    Every specification is fitted from cold starts of its own, so that none inherits the basin of
    another. All that share a law and a class of objective run in one compiled batch, or in several
    chunks of specifications if they are many: memory stays bounded.

    Args:
        runs: one table of runs.
        key: JAX random key, for the starts and the resamples.
        law: one law or several.
        objective: one objective or several.
        delta: thresholds of further `LogHuber` objectives; 1e-3 if `objective` is None, too.
        drop: how many of the highest losses are left out, among the runs selected.
        selection: which runs are used, by name: boolean masks of shape (runs,), or functions from
            runs to such a mask. Default all runs.
        quantities: what to report, names or `Quantity` objects; default all parameters and
            derived quantities. NaN where a law does not have one.
        restarts: cold starts per specification.
        bootstrap: pairs-bootstrap resamples per specification for approximate standard errors and
            intervals, each fitted from the optimum of its specification; 0 for none. Resamples
            without a finite optimum are left out of both and counted.
        level: probability content of these intervals.
        checkpoint: file that keeps finished specifications, rewritten every few seconds. A later
            call with the same arguments goes on from there, to the table of a call that was never
            cut off.
        mesh: devices to share the work, see `use_mesh`.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Returns:
        A `Multiverse`: `frame()`, `spread(quantity)`.

    Raises:
        DataError: for an unusable choice, naming it, or a checkpoint of another multiverse.
        LawError: for laws of one name, no quantity, one that none of them has, or one that is
            called like a column of the table.
        IdentificationError: if the runs of a specification cannot determine its law.

    Source: Steegen et al. 2016, doi 10.1177/1745691616658637.

    Example:
        >>> multiverse(runs, delta=(1e-2, 1e-3), drop=(0, 5), key=jax.random.key(0)).spread("a")
    """
    laws, kinds = laws_of(law), objectives_of(objective, delta)
    subsets = subsets_of(runs, drop, selection)
    if restarts < 1 or bootstrap < 0 or bootstrap == 1:
        raise DataError("restarts must be 1 or more, and bootstrap 0 or at least 2")
    tails(level)
    batches = [
        _batch(one, runs, alike, subsets, asked)
        for one, asked in zip(laws, _asked(laws, runs, quantities), strict=True)
        for alike in kinds
    ]
    work = _Work(restarts, bootstrap, level, key)
    with use_mesh(mesh):
        tables = _all_chunks(batches, runs, work, checkpoint, show_progress)
    labels = tuple(dict.fromkeys(label for batch in batches for label in batch.asked))
    intervals = [f"{label}_{x}" for label in labels for x in ("se", "low", "high") if bootstrap]
    lost = ["failed_share"] if bootstrap else []
    columns = [*CHOICES, "runs", *labels, "value", "hit_share", "converged", *lost, *intervals]
    return Multiverse(pd.concat(tables, ignore_index=True)[columns], labels)


class _Batch(NamedTuple):
    """Specifications that share a law and a class of objective: one stack of problems."""

    law: Law
    log_refs: dict[str, Any]
    rows: Rows
    specs: list[tuple[Objective, Subset]]
    asked: dict[str, Quantity]

    def weighted(self, weight: Any) -> Rows:
        """The rows with other weights, shape (runs,) or (sets, runs)."""
        rows = self.rows
        weight = jnp.asarray(weight, rows.loss.dtype)
        return Rows(rows.inputs, rows.loss, weight, rows.log_loss_ref)

    def values(self, theta: np.ndarray) -> np.ndarray:
        """Quantities at unconstrained vectors, stacked on the last axis."""
        if not self.asked:
            return np.empty((len(theta), 0))
        params = physical_params(self.law, theta, self.log_refs)
        return np.asarray(evaluate(self.law, tuple(self.asked.values()), params))

    def solve(
        self, weight: np.ndarray, starts: np.ndarray, near: float, tick: Callable[[int], None]
    ) -> Outcomes:
        """Fit to weights (sets, runs) from starts (sets, restarts, p); sets in spec order."""
        dtype, times = self.rows.loss.dtype, len(weight) // len(self.specs)
        objectives = [objective for objective, _ in self.specs]
        stacked = jax.tree.map(
            lambda *x: jnp.asarray(np.repeat(np.asarray(x, dtype), times)), *objectives
        )
        problem = Problem(self.law, stacked, self.weighted(weight))
        starts = starts.astype(dtype)
        return _driver.run(problem, starts, levenberg_marquardt(), STOPPING, tick, near)


def _batch(
    law: Law,
    runs: Runs,
    alike: list[Objective],
    subsets: list[Subset],
    asked: dict[str, Quantity],
) -> _Batch:
    check_units(law)
    log_refs = log_references(law, runs) if set(law.inputs) <= set(runs.inputs) else {}
    rows = reference_rows(law, runs, log_refs)
    for subset in subsets:
        refuse_unidentified(law, runs.take(subset.weight > 0))
    return _Batch(law, log_refs, rows, list(itertools.product(alike, subsets)), asked)


class _Work(NamedTuple):
    """What is done for every specification."""

    restarts: int
    resamples: int
    level: float
    key: jax.Array

    @property
    def fits(self) -> int:
        return self.restarts + self.resamples


def _all_chunks(
    batches: list[_Batch],
    runs: Runs,
    work: _Work,
    checkpoint: str | Path | None,
    show_progress: bool | None,
) -> list[pd.DataFrame]:
    """The tables of all chunks of specifications, in order."""
    chunks = {
        f"{i}/{first}-{first + len(chunk.specs)}": (first, chunk)
        for i, batch in enumerate(batches)
        for first, chunk in _chunks(batch, work)
    }
    count = work.fits * sum(len(batch.specs) for batch in batches)
    digest = "" if checkpoint is None else _digest(batches, runs, work)
    with Checkpoint(checkpoint, digest, "a multiverse") as kept:
        done = work.fits * sum(len(c.specs) for name, (_, c) in chunks.items() if name in kept)
        with progress("fitting the multiverse", count, show_progress, done) as tick:
            return [
                _table(chunk, kept.chunk(name, partial(_fitted, chunk, work, first, tick)))
                for name, (first, chunk) in chunks.items()
            ]


def _chunks(batch: _Batch, work: _Work) -> Iterator[tuple[int, _Batch]]:
    """Some of the specifications at a time, with the number of the first."""
    cells = max(work.resamples, 1) * len(batch.rows.loss)
    most = max(1, min(_MOST_FITS // work.fits, _MOST_CELLS // cells))
    for first in range(0, len(batch.specs), most):
        yield first, batch._replace(specs=batch.specs[first : first + most])


def _digest(batches: list[_Batch], runs: Runs, work: _Work) -> str:
    """What a checkpoint must agree with. A law is known by what it gives, in five digits."""
    parts: list[Any] = [runs.digest(), *work[:2], float(work.level), work.key]
    for law, log_refs, _, specs, asked in batches:
        theta = np.linspace(0.1, 0.9, len(law.names))[None]
        params = physical_params(law, theta, log_refs)
        predicted = law(*(jnp.asarray(runs.inputs[name]) for name in law.inputs), **params)
        parts += [law.name, law.params, law.inputs, list(asked), f"{float(predicted.mean()):.5g}"]
        for objective, subset in specs:
            parts += [exactly(objective), subset.selection, subset.drop, subset.weight]
    return digest_of(*parts)


def _fitted(batch: _Batch, work: _Work, first: int, tick: Callable[[int], None]) -> Arrays:
    """Of every specification the quantities, and how the fit went."""
    start_key, draw_key = jax.random.split(work.key)
    weight = np.stack([subset.weight for _, subset in batch.specs])
    starts = [sobol(batch.law, batch.weighted(w), work.restarts, start_key) for w in weight]
    out = batch.solve(weight, np.stack(starts), _COLD_WIDTH, tick)
    value = np.where(np.isfinite(out.value), out.value, np.inf)
    best = (np.arange(len(value)), value.argmin(axis=1))
    lowest, theta = value[best], out.theta[best]
    found = {
        "value": lowest,
        "hit_share": _hit_share(batch, value),
        "converged": out.converged[best],
        "quantities": np.where(np.isfinite(lowest)[:, None], batch.values(theta), np.nan),
    }
    if work.resamples:
        key = jax.random.fold_in(draw_key, first) if first else draw_key
        found |= _intervals(batch, theta, work.resamples, work.level, key, tick)
    return found


def _table(batch: _Batch, found: Arrays) -> pd.DataFrame:
    """One row per specification: its choices, and what `_fitted` found."""
    columns = {
        "law": batch.law.name,
        "objective": [repr(objective) for objective, _ in batch.specs],
        "drop": [subset.drop for _, subset in batch.specs],
        "selection": [subset.selection for _, subset in batch.specs],
        "runs": [int((subset.weight > 0).sum()) for _, subset in batch.specs],
        **{name: x for name, x in found.items() if x.ndim == 1},
        **dict(zip(batch.asked, found["quantities"].T, strict=True)),
    }
    for i, label in enumerate(batch.asked if "intervals" in found else ()):
        for j, name in enumerate(("se", "low", "high")):
            columns[f"{label}_{name}"] = found["intervals"][:, j, i]
    return pd.DataFrame(columns)


def _hit_share(batch: _Batch, value: np.ndarray) -> np.ndarray:
    """Share of the restarts (sets, restarts) that reach the lowest objective of their set."""
    dtype = batch.rows.loss.dtype
    round_off = jnp.asarray(64 * float(jnp.finfo(dtype).eps))
    floor = np.array([float(o.rho(round_off)) * s.weight.sum() for o, s in batch.specs])
    lowest = value.min(axis=1)
    return np.mean(value <= (lowest * (1 + HIT[str(dtype)]) + floor)[:, None], axis=1)


def _intervals(
    batch: _Batch,
    theta: np.ndarray,
    resamples: int,
    level: float,
    key: jax.Array,
    tick: Callable[[int], None],
) -> Arrays:
    """Bootstrap standard error and ends of every quantity, shape (specs, 3, quantities), and the
    share of the resamples lost.
    """
    rng = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), "uint32")))
    specs = len(batch.specs)
    most = max(1, _MOST_CELLS // (specs * len(batch.rows.loss)))
    parts = []
    for first in range(0, resamples, most):  # one pass, unless a specification is a chunk
        n = min(most, resamples - first)
        weight = np.concatenate([_resampled(s.weight, n, rng) for _, s in batch.specs])
        out = batch.solve(weight, np.repeat(theta, n, axis=0)[:, None], WARM, tick)
        values = batch.values(out.theta[:, 0]).reshape(specs, n, len(batch.asked))
        parts.append((values, np.isfinite(out.value[:, 0]).reshape(specs, n)))
    values, kept = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
    numbers = np.stack([_summary(v[k], level) for v, k in zip(values, kept, strict=True)])
    return {"failed_share": 1 - kept.mean(axis=1), "intervals": numbers}


def _summary(values: np.ndarray, level: float) -> np.ndarray:
    """Standard deviation and quantiles of values (resamples, quantities); NaN for fewer than 2."""
    if len(values) < 2:
        return np.full((3, values.shape[1]), np.nan)
    return np.stack([values.std(axis=0, ddof=1), *np.quantile(values, tails(level), axis=0)])


def _resampled(weight: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Weights of n draws with replacement from the runs that are in, shape (n, runs)."""
    inside = weight > 0
    return rng.multinomial(inside.sum(), inside / inside.sum(), size=n) * weight


class _Seen(NamedTuple):
    """What `resolve` asks of a fit."""

    law: Law
    ranges: dict[str, tuple[Any, Any]]


def _asked(laws: list[Law], runs: Runs, quantities: Any) -> list[dict[str, Quantity]]:
    """For every law, what is asked for and what it has, by label."""
    real = np.asarray(runs.weight) > 0
    ranges = {name: (np.min(x[real]), np.max(x[real])) for name, x in runs.inputs.items()}
    seen = [cast(Any, _Seen(law, ranges)) for law in laws]
    if quantities is None:
        found = [resolve_all(one, None) for one in seen]
    else:
        wanted = [quantities] if isinstance(quantities, str | Quantity) else list(quantities)
        for what in wanted:
            if not any(_has(one, what) for one in seen):
                resolve(seen[0], what)  # raises, and says what there is
        each = [[what for what in wanted if _has(one, what)] for one in seen]
        # A law may have none of what is asked for, but something must be asked for.
        found = [
            resolve_all(one, has) if has or not wanted else ()
            for one, has in zip(seen, each, strict=True)
        ]
    labels = [{q.label: q for q in own} for own in found]
    taken = sorted({label for each in labels for label in each} & {*CHOICES, *_RESULTS})
    if taken:
        raise LawError(f"the table of a multiverse has a column {taken[0]!r} already; rename it")
    return labels


def _has(seen: Any, what: str | Quantity) -> bool:
    try:
        resolve(seen, what.name if isinstance(what, Parameter | Derived) else what)
    except LawError:
        return False
    return True
