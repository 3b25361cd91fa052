"""isoflop(): approach 2, the minima of loss over size at fixed compute."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd

from jaxscale._approach import Approach, points_table, run_ranges
from jaxscale._budgets import budget_groups, compute_of
from jaxscale._draws import tails
from jaxscale._errors import DataError, FitError
from jaxscale._isoflop_bias import bias_sentence
from jaxscale._isoflop_line import lines_through
from jaxscale._isoflop_minima import Optima, drawn_minima, reasons, valley_of
from jaxscale._runs import Runs
from jaxscale._valley import CURVES, DEGREES, Method, Valley, check_method


def isoflop(
    runs: Runs,
    *,
    key: jax.Array,
    budgets: Any = None,
    flop: Any = None,
    tolerance: float = 0.1,
    method: Method = "parabola",
    log: bool = True,
    best: bool = False,
    noise: Any = None,
    kind: Literal["residual", "pairs"] = "residual",
    by: Any = None,
    n: int = 4000,
    level: float = 0.9,
    law_fit: Any = None,
) -> Approach:
    """log N*(C) = log N0 + a log C through the minima of loss over log N at each budget.

    A curve is drawn through the runs of every budget, its minimum is N*, and a line is fitted to
    log N* over log C with weights 1 / var(log N*). Budgets whose curve has no minimum inside the
    sizes that were run are refused; `Approach.points` says why.

    The draws move the losses by noise like the residuals of the curves and take new minima; if the
    minima scatter around the line more than that explains (5% level), they are widened to match.

    Args:
        runs: one table with inputs N and D; training FLOPs are its input C or flop, else 6 N D.
        key: JAX random key.
        budgets: which runs share a budget, as `cluster_codes` takes it; default: groups of runs
            within 20% of each other's compute.
        flop: instead, the budgets in FLOPs; a run belongs to the one within `tolerance`.
        tolerance: relative distance from a budget of `flop`.
        method: ``"parabola"`` or ``"cubic"``, by least squares; or ``"akima"``, an interpolant
            through every run, whose N* is the median over the draws.
        log: whether curves are drawn through log loss, or else through the loss.
        best: use the lowest loss of each size at a budget only, as after a sweep of learning rates.
        noise: standard deviation of log loss between repeated runs, a number or one per run; or a
            fit of the same runs, whose residuals are then drawn as ``bootstrap(fit,
            kind="residual", key=key, n=n)`` draws them, so that `agree` compares both under the
            same noise. Default: from the residuals of the curves, or for Akima from differences
            between neighbors.
        kind: ``"residual"`` adds noise to the losses; ``"pairs"`` draws runs with replacement.
        by: for pairs, clusters of runs drawn as wholes, see `cluster_codes`.
        n: number of draws.
        level: probability content of N_low to N_high in the points.
        law_fit: a fit of a law in N and D; the notes then say how far the curves' minima would lie
            from the true ones if it were the truth, see `isoflop_bias`.

    Raises:
        DataError: if the runs do not form budgets, or nothing is known about their noise.
        FitError: if fewer than two budgets have a usable minimum.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, section 3.2 (parabola); Porian et al. 2024,
    arXiv 2406.19146 (Akima, noise, weights).

    Example:
        >>> isoflop(runs, key=key).frontier([1e21, 1e23])
    """
    _check(method, kind, noise, by, n)
    C = compute_of(runs)
    centers, codes = budget_groups(runs, C, budgets, flop, tolerance)
    valleys = [valley_of(runs, C, codes == i, c, method, log, best) for i, c in enumerate(centers)]
    found, noise_words, resamples = drawn_minima(valleys, runs, kind, by, noise, n, key)
    why = reasons(valleys, found)
    used = np.flatnonzero([not reason for reason in why])
    _refuse_too_few(centers, why, used)
    kept = [valleys[i] for i in used]
    lines, wider = lines_through(kept, found.take(used))
    N, D = (np.asarray(runs.inputs[x], float) for x in ("N", "D"))
    approach = Approach(
        name="isoflop",
        how=f"{CURVES[method]} of {'log loss' if log else 'loss'} over log N at {len(used)} "
        f"budgets, {n:,} {'resamples of the runs' if kind == 'pairs' else 'draws of the noise'}",
        points=_points(valleys, found, why, level),
        a=float(lines.N.slope),
        b=float(lines.D.slope),
        curve=lines,
        draws={"a": np.asarray(lines.N_draws.slope), "b": np.asarray(lines.D_draws.slope)},
        level=level,
        ranges=run_ranges(C, N, D, np.concatenate([valley.rows for valley in kept])),
        notes=_notes(why, noise_words, len(used), wider.sentence),
        resamples=resamples,
        valleys=tuple(valleys),
        widened=wider.factor,
    )
    return approach if law_fit is None else _with_bias(approach, law_fit)


def _check(method: str, kind: str, noise: Any, by: Any, n: int) -> None:
    check_method(method)
    if kind not in ("residual", "pairs"):
        raise DataError(f"kind must be 'residual' or 'pairs', not {kind!r}")
    if kind == "pairs" and method not in DEGREES:
        raise DataError(
            "an interpolant passes through every run, whichever are drawn; use kind='residual' "
            "with akima"
        )
    if kind == "pairs" and noise is not None:
        raise DataError("noise= is added to the losses, kind='pairs' draws runs: give one of them")
    if by is not None and kind != "pairs":
        raise DataError("by= keeps clusters of runs together; use it with kind='pairs'")
    if n < 2:
        raise DataError(f"an interval needs at least 2 draws, got {n}")


def _refuse_too_few(centers: np.ndarray, why: Sequence[str], used: np.ndarray) -> None:
    if len(used) < 2:
        listed = [f"{c:.3g} FLOPs: {reason}" for c, reason in zip(centers, why, strict=True)]
        raise FitError(
            f"{len(used)} of {len(centers)} budgets have a usable minimum, and an exponent needs "
            f"two ({'; '.join(x for x, reason in zip(listed, why, strict=True) if reason)})"
        )


def _points(
    valleys: Sequence[Valley], found: Optima, why: Sequence[str], level: float
) -> pd.DataFrame:
    ends = np.full((2, len(valleys)), np.nan)
    known = np.isfinite(found.draws).any(axis=1)
    ends[:, known] = np.nanquantile(found.draws[known], tails(level), axis=1)
    return points_table(
        [valley.flop for valley in valleys],
        found.size,
        [valley.log_tokens(x) for valley, x in zip(valleys, found.size, strict=True)],
        [valley.to_loss(y) for valley, y in zip(valleys, found.height, strict=True)],
        ends,
        [valley.repeats.sum() for valley in valleys],
        why,
    )


def _notes(why: Sequence[str], noise: str, used: int, wider: str) -> tuple[str, ...]:
    notes = [f"Noise of a run: {noise}."] if noise else []
    refused = [reason for reason in why if reason]
    if refused:
        kinds = "; ".join(dict.fromkeys(refused))
        notes.append(f"{len(refused)} of {len(why)} budgets are not used: {kinds}.")
    if used == 2:
        notes.append("Two minima always lie on a line: nothing checks that N* is a power of C.")
    return tuple(filter(None, (*notes, wider)))


def _with_bias(approach: Approach, law_fit: Any) -> Approach:
    kept = [v for v, used in zip(approach.valleys, approach.points["used"], strict=True) if used]
    factor, sentence = bias_sentence(law_fit, kept)
    points = approach.points.copy()
    points.loc[points["used"], "bias"] = factor
    return dataclasses.replace(approach, points=points, notes=(*approach.notes, sentence))
