"""bootstrap(): how the estimates would scatter over other tables of runs like this one."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxscale._checkpoint import Arrays, Checkpoint, digest_of, fit_digest
from jaxscale._clusters import cluster_codes, demanded_clusters
from jaxscale._draws import Draws
from jaxscale._errors import DataError, FitError
from jaxscale._fit import Fit
from jaxscale._identify import elasticities
from jaxscale._law import physical_params
from jaxscale._mesh import use_mesh
from jaxscale._objective import LogQuantile
from jaxscale._progress import progress
from jaxscale._refit import (
    Refits,
    fit_rows,
    inflation,
    refit_checked,
    refit_sets,
    residual_pool,
    single_fit,
)
from jaxscale._resamples import Resamples, drawn_residuals, resampling_key
from jaxscale._runs import Runs
from jaxscale._starts import sobol

Kind = Literal["pairs", "residual", "wild", "parametric"]
# Webb's six points: with few clusters, two-point weights give too few distinct resamples.
_WEBB = np.sqrt([0.5, 1.0, 1.5])
_GUARD_STARTS = 4
# Weights or losses of so many resamples and runs are held at once: it bounds the memory.
_MOST_CELLS = 20_000_000
# A block is what a checkpoint keeps or loses: seconds to minutes of work.
_MOST_RESAMPLES = 65_536
_RUNAWAY = 25.0


def bootstrap(
    fit: Fit,
    *,
    key: jax.Array,
    n: int = 4000,
    kind: Kind = "pairs",
    by: Any = None,
    guard: float = 0.05,
    checkpoint: str | Path | None = None,
    mesh: Mesh | None = None,
    show_progress: bool | None = None,
) -> Draws:
    """Refit the law to `n` resamples of the runs; the scatter of the estimates is their error.

    - ``"pairs"`` draws runs with replacement (as weights 0, 1, 2 ...); with `by`, whole clusters.
    - ``"wild"`` multiplies each residual, divided by sqrt(1 - leverage), by one of Webb's six
      random weights; with `by`, one weight for all runs of a cluster. Not for a quantile; for a
      median, such as a sharp Huber loss, theory makes its errors 7% too small.
    - ``"residual"`` draws residuals with replacement, as if all runs had the same noise.
    - ``"parametric"`` draws residuals from the noise model of the objective.

    Every resample is fitted from the optimum of the fit. A share `guard` of them is fitted from
    four cold starts as well; if any of those finds a better optimum, all resamples are. Large jobs
    are done in blocks of up to 65,536 resamples, one after another, in bounded memory.

    Args:
        fit: a fit of one data set, with its runs.
        key: JAX random key.
        n: number of resamples.
        kind: what is resampled.
        by: clusters to keep together: an input such as ``"N"`` (runs within 1% of each other),
            ``"cluster"`` (the column given to `Runs`), or an array of labels.
        guard: share of the resamples that is also fitted from cold starts.
        checkpoint: file that keeps finished blocks, rewritten every few seconds. A later call with
            the same arguments goes on from there, to the draws of a job that was never cut off;
            `n` may differ, and whole blocks are then used again.
        mesh: devices to share the work, see `use_mesh`.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Returns:
        `Draws`; its notes say how many resamples failed, met a better optimum or ran off, and
        whether the residuals ask for clusters.

    Raises:
        DataError: for a stack, clusters that do not exist, clusters with a kind that ignores them,
            or a checkpoint of another job.
        FitError: if more than half of the resamples fail.

    Source: Efron 1979 (pairs); Cameron, Gelbach & Miller 2008 (clusters); Wu 1986, Webb 2014
    (wild).

    Example:
        >>> bootstrap(fit, by="N", key=jax.random.key(0)).frame(level=0.8)
    """
    runs = single_fit(fit)
    if n < 2:
        raise DataError(f"a bootstrap needs at least 2 resamples, got {n}")
    if not 0 <= guard <= 1:
        raise DataError(f"guard is a share between 0 and 1, got {guard}")
    job = _Job(fit, kind, None if by is None else cluster_codes(runs, by), guard, key)
    with use_mesh(mesh):
        found, beaten = _all_blocks(job, n, checkpoint, show_progress)
    method = f"{'cluster ' if by is not None else ''}{kind} bootstrap"
    if by is not None:
        method += f" by {by}" if isinstance(by, str) else " by the labels given"
    name = resamples_name(runs, kind, job.codes, n, key)
    made = _collect(fit, method, found, beaten, by is None)
    return dataclasses.replace(
        made, resamples=Resamples(name, np.flatnonzero(finite_refits(fit, found)))
    )


def most_at_once(runs: Runs) -> int:
    """Resamples in one block."""
    return max(1, min(_MOST_RESAMPLES, _MOST_CELLS // len(runs)))


def resamples_name(runs: Runs, kind: str, codes: np.ndarray | None, n: int, key: jax.Array) -> str:
    """Names the resamples of a table, for `Resamples`."""
    return digest_of(runs.digest(), kind, codes, n, key)


class _Job(NamedTuple):
    """What determines the refits of a block, besides its first resample and their number."""

    fit: Fit
    kind: Kind
    codes: np.ndarray | None
    guard: float
    key: jax.Array

    def digest(self) -> str:
        return digest_of(fit_digest(self.fit), self.kind, self.codes, float(self.guard), self.key)

    def fits(self, n: int) -> int:
        """How many fits a block of so many resamples takes."""
        return n + _GUARD_STARTS * len(_chosen(n, self.guard))

    def block(self, first: int, n: int, tick: Callable[[int], None]) -> Arrays:
        """Refits to one block of resamples, and how many a cold start improved."""
        block_key = jax.random.fold_in(self.key, first) if first else self.key
        draw_key, start_key = resampling_key(block_key)
        data = _resample(self.fit, self.kind, self.codes, n, draw_key)
        found, beaten = _guarded(self.fit, data, n, self.guard, start_key, tick)
        return {**found._asdict(), "beaten": np.asarray(beaten)}


def _all_blocks(
    job: _Job, n: int, checkpoint: str | Path | None, show_progress: bool | None
) -> tuple[Refits, int]:
    """All refits, and how many a cold start improved."""
    most = most_at_once(single_fit(job.fit))
    # The last block may be shorter, and gives other draws than a whole one: both ends name it.
    blocks = {
        f"{first}-{min(first + most, n)}": (first, min(most, n - first))
        for first in range(0, n, most)
    }
    label = f"bootstrapping {job.fit.law.name}"
    with Checkpoint(checkpoint, job.digest(), "a bootstrap") as kept:
        fits = {name: job.fits(size) for name, (_, size) in blocks.items()}
        done = sum(count for name, count in fits.items() if name in kept)
        with progress(label, sum(fits.values()), show_progress, done) as tick:
            parts = [
                kept.chunk(name, partial(job.block, first, size, tick))
                for name, (first, size) in blocks.items()
            ]
    found = [np.concatenate([part[field] for part in parts]) for field in Refits._fields]
    return Refits(*found), sum(int(part["beaten"]) for part in parts)


class _Resamples(NamedTuple):
    """Weights or losses of every resample, shape (resamples, runs); None for those of the fit."""

    weight: Any = None
    loss: Any = None

    def take(self, chosen: np.ndarray) -> "_Resamples":
        return _Resamples(*(None if x is None else x[chosen] for x in self))


def _resample(fit: Fit, kind: Kind, codes: np.ndarray | None, n: int, key: jax.Array) -> _Resamples:
    runs = single_fit(fit)
    if kind == "pairs":
        return _Resamples(weight=pairs_weights(np.asarray(runs.weight), codes, n, key))
    if kind == "wild" and isinstance(fit.objective, LogQuantile):
        raise DataError("random signs would make the law a median; use kind='pairs' for a quantile")
    if kind == "wild":
        return _Resamples(loss=wild_losses(fit, webb_weights(len(runs), codes, n, key)))
    if kind not in ("residual", "parametric"):
        raise DataError(f"kind must be 'pairs', 'residual', 'wild' or 'parametric', not {kind!r}")
    if codes is not None:
        raise DataError(f"a {kind} bootstrap ignores clusters; use kind='pairs' or 'wild' with by=")
    if kind == "residual":
        r = residual_pool(fit)
        return _Resamples(loss=_losses(fit, drawn_residuals(r, n, len(runs), key)))
    least = 0.5 * float(np.finfo(jax.dtypes.canonicalize_dtype(float)).eps)
    u = np.asarray(jax.random.uniform(key, (n, len(runs)), minval=least))
    scale = fit.noise_scale() * inflation(fit)
    return _Resamples(loss=_losses(fit, np.asarray(fit.objective.ppf(u, scale))))


def pairs_weights(weight: Any, codes: np.ndarray | None, n: int, key: jax.Array) -> np.ndarray:
    """Weights of runs drawn with replacement, shape (n, runs); whole clusters if codes are given.

    Runs of weight zero are padding: they are never drawn.
    """
    real = weight > 0
    units = np.flatnonzero(real) if codes is None else np.unique(codes[real])
    drawn = jax.random.randint(key, (n, len(units)), 0, len(units))
    offset = len(units) * np.arange(n)[:, None]
    flat = np.bincount((np.asarray(drawn) + offset).ravel(), minlength=n * len(units))
    counts = flat.reshape(n, len(units)).astype(float)
    if codes is None:
        times = np.zeros((n, len(weight)))
        times[:, units] = counts
    else:
        times = counts[:, np.searchsorted(units, np.where(real, codes, units[0]))]
    return times * weight


def webb_weights(runs: int, codes: np.ndarray | None, n: int, key: jax.Array) -> np.ndarray:
    """Webb's random weights of mean 0 and variance 1, shape (n, runs), common within clusters."""
    units = runs if codes is None else int(codes.max()) + 1
    points = np.concatenate([-_WEBB, _WEBB])
    drawn = points[np.asarray(jax.random.randint(key, (n, units), 0, len(points)))]
    return drawn if codes is None else drawn[:, codes]


def wild_losses(fit: Fit, factors: np.ndarray) -> np.ndarray:
    """Losses whose residuals are those of the fit times factors, shape (n, runs).

    Each is divided by sqrt(1 - leverage) first, for what the fit took of it.
    """
    return _losses(fit, np.asarray(fit.residuals()) / np.sqrt(1 - _leverage(fit)) * factors)


def _losses(fit: Fit, residuals: np.ndarray) -> np.ndarray:
    """Losses that have given residuals at the fitted law."""
    predicted = np.asarray(fit.predicted())
    return predicted * np.exp(-residuals) if fit.objective.log else predicted - residuals


def _leverage(fit: Fit) -> np.ndarray:
    """Share of each run in its own prediction, by linearizing the law; at most 0.99."""
    weight = np.asarray(single_fit(fit).weight)
    jacobian = elasticities(fit.law, fit.free, fit_rows(fit)) * np.sqrt(weight)[:, None]
    if not fit.objective.log:
        jacobian = jacobian * np.asarray(fit.predicted())[:, None]
    norms = np.linalg.norm(jacobian, axis=0)
    basis = np.linalg.qr(jacobian / np.where(norms > 0, norms, 1.0))[0]
    return np.minimum((basis**2).sum(axis=1), 0.99)


def _guarded(
    fit: Fit,
    data: _Resamples,
    n: int,
    guard: float,
    key: jax.Array,
    tick: Callable[[int], None],
) -> tuple[Refits, int]:
    """Refits; some from cold starts too, all of them if that ever pays; how often it did."""
    chosen = _chosen(n, guard)
    points = sobol(fit.law, fit_rows(fit), _GUARD_STARTS, key)
    found, other = refit_checked(fit, chosen, points, weight=data.weight, loss=data.loss, tick=tick)
    found, beaten = _better(fit, found, other, chosen)
    rest = np.setdiff1d(np.arange(n), chosen)
    if not beaten or rest.size == 0:
        return found, beaten
    some, starts = data.take(rest), np.broadcast_to(points, (len(rest), *points.shape))
    other = refit_sets(fit, weight=some.weight, loss=some.loss, starts=starts, cold=True)
    found, more = _better(fit, found, other, rest)
    return found, beaten + more


def _chosen(n: int, guard: float) -> np.ndarray:
    """The resamples that are fitted from cold starts, too."""
    return np.unique(np.linspace(0, n - 1, math.ceil(guard * n)).astype(int))


def _better(fit: Fit, found: Refits, other: Refits, chosen: np.ndarray) -> tuple[Refits, int]:
    """The better of two refits to some resamples; how often the second one clearly is."""
    won = other.value < found.value[chosen]
    same = fit.restarts.tolerance * found.value[chosen] + fit.restarts.floor
    clearly = other.value < found.value[chosen] - same
    merged = [np.array(x) for x in found]
    for mine, theirs in zip(merged, other, strict=True):
        mine[chosen[won]] = theirs[won]
    return Refits(*merged), int(clearly.sum())


def _collect(fit: Fit, method: str, found: Refits, beaten: int, iid: bool) -> Draws:
    good = finite_refits(fit, found)
    failed = int((~good).sum())
    if failed > len(good) / 2:
        raise FitError(
            f"{failed:,} of {len(good):,} resamples have no finite optimum: these runs cannot "
            "carry a bootstrap; profile the parameters or use fewer of them"
        )
    made = draws_of(fit, method, found, good)
    notes = list(made.notes)
    if beaten:
        notes.insert(
            0,
            f"In {beaten:,} of {len(found.value):,} resamples a cold start found a better optimum "
            "than the one next to the fit; the better one is used.",
        )
    if iid and (demand := demanded_clusters(fit)):
        notes.append(demand.sentence)
    return dataclasses.replace(made, notes=tuple(notes))


def finite_refits(fit: Fit, found: Refits) -> np.ndarray:
    """Which refits have a finite optimum at finite parameters, shape (sets,)."""
    params = physical_params(fit.law, found.theta, fit.log_refs)
    finite = [np.isfinite(np.asarray(values)) for values in params.values()]
    return np.asarray(np.isfinite(found.value) & np.all(finite, axis=0))


def draws_of(fit: Fit, method: str, found: Refits, good: np.ndarray) -> Draws:
    """The good ones among refits to resamples, as draws; the notes say what is wrong with some."""
    params = physical_params(fit.law, found.theta, fit.log_refs)
    failed, notes = int((~good).sum()), []
    if failed:
        notes.append(f"{failed:,} of {len(good):,} resamples have no finite optimum.")
    stopped = int((good & ~found.converged).sum())
    if stopped:
        notes.append(f"{stopped:,} of {len(good):,} resamples did not converge; they are kept.")
    return Draws(
        fit=fit,
        method=method,
        params={name: np.asarray(values)[good] for name, values in params.items()},
        scale=np.full(int(good.sum()), fit.noise_scale() * inflation(fit)),
        value=found.value[good],
        failed=failed,
        notes=(*notes, *_runaways(fit, found.theta[good])),
    )


def _runaways(fit: Fit, theta: np.ndarray) -> list[str]:
    """Resamples in which a parameter left for the end of its support."""
    share = np.mean(np.abs(theta - np.asarray(fit.free)) > _RUNAWAY, axis=0)
    return [
        f"In {part:.1%} of the resamples {name} runs off to the end of its support: they do not "
        "determine it."
        for name, part in zip(fit.law.names, share, strict=True)
        if part > 0
    ]
