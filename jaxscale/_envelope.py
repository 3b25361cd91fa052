"""envelope(): approach 1, the lowest loss that any run reaches at a given compute."""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxscale._approach import Approach, PowerLaws, points_table, run_ranges
from jaxscale._bootstrap import most_at_once, pairs_weights, resamples_name
from jaxscale._budgets import compute_of, geometric_mean, tight_groups
from jaxscale._clusters import cluster_codes, cluster_name
from jaxscale._draws import tails
from jaxscale._errors import DataError, FitError
from jaxscale._line import Line, weighted_line
from jaxscale._resamples import Resamples, resampling_key
from jaxscale._runs import Runs

_SAME_SIZE = 0.01  # relative difference of sizes that are one
_MOST_CELLS = 4_000_000  # losses of runs at budgets of resamples, held at once
_BINS = (4, 30)  # runs per bin, and bins at most, where single runs form no budgets
_LEAST_RUNS = 3


def envelope(
    runs: Runs,
    *,
    key: jax.Array,
    run: Any = None,
    grid: int = 200,
    n: int = 4000,
    level: float = 0.9,
) -> Approach:
    """log N*(C) = log N0 + a log C through the runs that reach the lowest loss at each C.

    With checkpoints, the training curve of every run is interpolated in log loss over log C, and
    at each of `grid` values of C the lowest curve gives N* and D*. Without, runs are grouped by
    their compute, and the best run of each group counts. Values of C at which the best run is the
    smallest or the largest one there, or at which the envelope rises again, are refused.

    The draws leave out whole runs: they are drawn with replacement, with all of their checkpoints.
    As that thins out the sizes, too, the intervals are wider than need be: those of 90% held the
    exponent of a simulated law in all of 100 tables. The envelope picks the luckiest run of the
    sizes that were trained; a single N* is known to their spacing at best.

    Args:
        runs: one table with inputs N and D; training FLOPs are its input C or flop, else 6 N D.
        key: JAX random key.
        run: which rows are checkpoints of one run, as `cluster_codes` takes it, such as
            ``"cluster"``; default: every row is the end of a run of its own.
        grid: number of values of C at which the envelope of training curves is taken.
        n: number of draws.
        level: probability content of N_low to N_high in the points.

    Raises:
        DataError: if a run has checkpoints of different sizes, or there are too few runs.
        FitError: if fewer than two values of C are usable.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, section 3.1.

    Example:
        >>> envelope(checkpoints, run="cluster", key=key).exponents()
    """
    if n < 2 or grid < 2:
        raise DataError(f"give at least 2 draws and a grid of 2 budgets, got {n} and {grid}")
    C = compute_of(runs)
    codes = None if run is None else cluster_codes(runs, run)
    curves = _single_runs(runs, C) if codes is None else _training_curves(runs, C, codes, grid)
    found = _front(curves, np.ones((1, len(curves.log_N)), bool))
    reasons = [_reason(curves, found, j) for j in range(len(curves.log_C))]
    used = np.array([not reason for reason in reasons])
    if used.sum() < 2:
        listed = "; ".join(dict.fromkeys(filter(None, reasons)))
        raise FitError(
            f"the envelope has {used.sum()} usable budgets, and an exponent needs two ({listed})"
        )
    draw_key, _ = resampling_key(key)
    present = pairs_weights(np.asarray(runs.weight), codes, n, draw_key)[:, curves.row] > 0
    drawn = _all_fronts(curves, present)
    lines = _lines(curves, found, drawn)
    size = np.where(found.usable, found.size, np.nan)
    ends = np.full((2, len(used)), np.nan)
    known = np.isfinite(drawn.size).any(axis=0)
    ends[:, known] = np.nanquantile(drawn.size[:, known], tails(level), axis=0)
    N, D = (np.asarray(runs.inputs[x], float) for x in ("N", "D"))
    real = np.asarray(runs.weight) > 0
    what = "runs" if codes is None else f"training curves ({cluster_name(run)})"
    named = Resamples(resamples_name(runs, "pairs", codes, n, key), np.arange(n))
    return Approach(
        name="envelope",
        how=f"lowest of {len(curves.log_N)} {what} at {int(used.sum())} budgets, {n:,} resamples "
        "of the runs",
        points=points_table(
            np.exp(curves.log_C), size[0], curves.log_C + found.ratio[0] - size[0],
            np.where(found.usable, found.loss, np.nan)[0], ends,
            np.isfinite(curves.log_loss).sum(axis=0), reasons,
        ),
        a=float(lines.N.slope),
        b=float(lines.D.slope),
        curve=lines,
        draws={"a": np.asarray(lines.N_draws.slope), "b": np.asarray(lines.D_draws.slope)},
        level=level,
        ranges=run_ranges(C, N, D, real),
        notes=_notes(reasons, curves, used, lines),
        resamples=named if n <= most_at_once(runs) else None,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Curves:
    """Log loss of every run at every budget, infinite where it was not trained for that.

    Runs are in the order of their sizes.

    Attributes:
        log_C: budgets, shape (budgets,).
        log_N: log sizes, shape (runs,).
        log_loss, ratio: log loss and log(N D / C), shape (runs, budgets).
        row: a row of each run in the table, shape (runs,).
    """

    log_C: np.ndarray  # noqa: N815
    log_N: np.ndarray  # noqa: N815
    log_loss: np.ndarray
    ratio: np.ndarray
    row: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Front:
    """Envelope of resamples: each array has shape (draws, budgets), NaN or False without a run."""

    size: np.ndarray
    ratio: np.ndarray
    loss: np.ndarray
    usable: np.ndarray
    edge: np.ndarray
    count: np.ndarray


def _single_runs(runs: Runs, C: np.ndarray) -> _Curves:
    """Every row is one run at the middle of its group: of nearly equal compute, or a bin of it."""
    real = np.asarray(runs.weight) > 0
    groups = np.where(real, tight_groups(C, real), -1)
    if (groups[real] < 0).any() or len(np.unique(groups[real])) > real.sum() // _LEAST_RUNS:
        logs = np.log(C)
        bins = int(np.clip(real.sum() // _BINS[0], 2, _BINS[1]))
        edges = np.linspace(logs[real].min(), logs[real].max(), bins + 1)
        groups = np.where(real, np.searchsorted(edges[1:-1], logs, side="right"), -1)
    names = np.unique(groups[real])
    rows = np.flatnonzero(real)
    rows = rows[np.argsort(np.asarray(runs.inputs["N"], float)[rows], kind="stable")]
    N, D = (np.asarray(runs.inputs[x], float)[rows] for x in ("N", "D"))
    centers = np.array([np.log(geometric_mean(C[groups == g])) for g in names])
    here = groups[rows][:, None] == names
    return _Curves(
        log_C=centers,
        log_N=np.log(N),
        log_loss=np.where(here, _log_loss(runs)[rows][:, None], np.inf),
        ratio=np.where(here, np.log(N * D / C[rows])[:, None], 0.0),
        row=rows,
    )


def _training_curves(runs: Runs, C: np.ndarray, codes: np.ndarray, budgets: int) -> _Curves:
    """Interpolates every run's checkpoints, piecewise straight in log loss over log C."""
    real = np.asarray(runs.weight) > 0
    N, D = (np.asarray(runs.inputs[x], float) for x in ("N", "D"))
    members = [np.flatnonzero((codes == c) & real) for c in np.unique(codes[real])]
    for rows in members:
        if np.ptp(np.log(N[rows])) > _SAME_SIZE:
            raise DataError(
                f"{runs.source}: rows {runs.row[rows[0]]} and {runs.row[rows[-1]]} belong to one "
                f"run but have sizes from {N[rows].min():.4g} to {N[rows].max():.4g}; say which "
                "rows are checkpoints of one run with run="
            )
    members.sort(key=lambda rows: float(N[rows[0]]))
    logs, log_loss = np.log(C), _log_loss(runs)
    grid = np.linspace(logs[real].min(), logs[real].max(), budgets)
    losses, ratios = [], []
    for rows in members:
        rows = rows[np.argsort(logs[rows], kind="stable")]
        x = logs[rows]
        inside = (grid >= x[0]) & (grid <= x[-1])
        losses.append(np.where(inside, np.interp(grid, x, log_loss[rows]), np.inf))
        ratios.append(np.interp(grid, x, np.log(N[rows] * D[rows] / C[rows])))
    first = np.array([rows[0] for rows in members])
    return _Curves(grid, np.log(N[first]), np.stack(losses), np.stack(ratios), first)


def _log_loss(runs: Runs) -> np.ndarray:
    loss = np.asarray(runs.loss, float)
    if (loss <= 0).any():
        raise DataError(f"{runs.source}: the envelope is taken of log loss, but a loss is not > 0")
    return np.log(loss)


def _front(curves: _Curves, present: np.ndarray) -> _Front:
    """The envelope of the runs that are present, shape (draws, runs)."""
    there = present[:, :, None] & np.isfinite(curves.log_loss)
    losses = np.where(there, curves.log_loss, np.inf)
    best = losses.argmin(axis=1)
    lowest = losses.min(axis=1)
    covered = np.isfinite(lowest)
    smallest = curves.log_N[there.argmax(axis=1)]
    largest = curves.log_N[len(curves.log_N) - 1 - there[:, ::-1].argmax(axis=1)]
    size = curves.log_N[best]
    edge = np.where(size <= smallest + _SAME_SIZE, -1, 0)
    edge = np.where(size >= largest - _SAME_SIZE, 1, edge)
    before = np.minimum.accumulate(lowest, axis=1)
    falls = np.concatenate([np.ones((len(best), 1), bool), lowest[:, 1:] < before[:, :-1]], axis=1)
    return _Front(
        size=size,
        ratio=np.take_along_axis(curves.ratio[None], best[:, None], axis=1)[:, 0],
        loss=np.exp(np.where(covered, lowest, np.nan)),
        usable=covered & falls & (edge == 0),
        edge=edge,
        count=there.sum(axis=1),
    )


def _all_fronts(curves: _Curves, present: np.ndarray) -> _Front:
    each = max(1, _MOST_CELLS // curves.log_loss.size)
    parts = [_front(curves, present[i : i + each]) for i in range(0, len(present), each)]
    joined = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in dataclasses.fields(_Front)
    }
    found = _Front(**joined)
    return dataclasses.replace(found, size=np.where(found.usable, found.size, np.nan))


def _lines(curves: _Curves, found: _Front, drawn: _Front) -> PowerLaws:
    size = np.where(found.usable, found.size, np.nan)[0]
    middle = float(curves.log_C[found.usable[0]].mean())

    def line(log_n: np.ndarray, ratio: np.ndarray) -> tuple[Line, Line]:
        tokens = curves.log_C + ratio - log_n
        return (
            weighted_line(curves.log_C, log_n, 1.0, middle),
            weighted_line(curves.log_C, tokens, 1.0, middle),
        )

    N, D = line(size, found.ratio[0])
    N_draws, D_draws = line(drawn.size, drawn.ratio)
    return PowerLaws(N, D, N_draws, D_draws)


def _reason(curves: _Curves, found: _Front, j: int) -> str:
    """Why a budget is not used, or nothing."""
    if found.count[0, j] < _LEAST_RUNS:
        return "fewer than three runs were trained for it"
    if found.edge[0, j]:
        return f"the best run is the {'smallest' if found.edge[0, j] < 0 else 'largest'} there"
    return "" if found.usable[0, j] else "a run with less compute has a lower loss"


def _notes(
    reasons: list[str], curves: _Curves, used: np.ndarray, lines: PowerLaws
) -> tuple[str, ...]:
    notes = []
    refused = [reason for reason in reasons if reason]
    if refused:
        kinds = "; ".join(dict.fromkeys(refused))
        notes.append(f"{len(refused)} of {len(reasons)} budgets are not used: {kinds}.")
    lost = int((~np.isfinite(np.asarray(lines.N_draws.slope))).sum())
    if lost:
        notes.append(f"{lost:,} resamples have fewer than two usable budgets and give no line.")
    return tuple(notes)
