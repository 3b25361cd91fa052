"""isoflop(): approach 2, the minima of loss over size at fixed compute."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jaxscale._approach import Approach, PowerLaws, points_table, run_ranges
from jaxscale._bootstrap import most_at_once, pairs_weights, resamples_name
from jaxscale._budgets import budget_groups, compute_of
from jaxscale._clusters import cluster_codes
from jaxscale._draws import tails
from jaxscale._errors import DataError, FitError
from jaxscale._fit import Fit
from jaxscale._isoflop_bias import bias_sentence
from jaxscale._isoflop_noise import given_noise, measured_noise, noise_of_fit
from jaxscale._line import Line, weighted_line
from jaxscale._resamples import Resamples, resampling_key
from jaxscale._runs import Runs
from jaxscale._valley import (
    ABOVE,
    BELOW,
    CONCAVE,
    CURVES,
    DEGREES,
    LEAST_SIZES,
    Method,
    Minima,
    Valley,
    check_method,
)

_LEAST_INSIDE = 0.5  # share of the resamples that must have a minimum inside the sizes
_SCATTER = 0.05  # significance from which on the scatter of the minima widens the draws
_MUCH_WORSE = 2.0  # than other budgets, in standard errors of their minima
_SPACING = 1 / 3  # of the spacing of sizes: how well an interpolated minimum can be known at best


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
    valleys = [_valley(runs, C, codes == i, c, method, log, best) for i, c in enumerate(centers)]
    reasons = [_too_few(valley) for valley in valleys]
    whole = [valley for valley, reason in zip(valleys, reasons, strict=True) if not reason]
    if not whole:
        raise FitError(f"no budget has enough sizes: {reasons[0]}")
    draw_key, _ = resampling_key(key)
    drawn, noise_words, resamples = _drawn(whole, runs, kind, by, noise, n, draw_key, key)
    found = _optima(whole, drawn)
    position = iter(range(len(whole)))
    places = [next(position) if not reason else None for reason in reasons]
    reasons = [
        reason if place is None else _fault(whole[place], found, place)
        for reason, place in zip(reasons, places, strict=True)
    ]
    used = [place for place, reason in zip(places, reasons, strict=True) if not reason]
    if len(used) < 2:
        listed = "; ".join(
            f"{c:.3g} FLOPs: {r}" for c, r in zip(centers, reasons, strict=True) if r
        )
        raise FitError(
            f"{len(used)} of {len(centers)} budgets have a minimum inside their sizes, and an "
            f"exponent needs two ({listed})"
        )
    lines, widened, excess = _lines([whole[i] for i in used], found.take(used))
    ends = _ends(found, places, level)
    table = points_table(
        centers,
        _at(found.size, places),
        [np.nan if p is None else whole[p].log_tokens(found.size[p]) for p in places],
        [np.nan if p is None else float(whole[p].to_loss(found.height[p])) for p in places],
        ends,
        [int(v.repeats.sum()) for v in valleys],
        reasons,
    )
    members = np.concatenate([whole[i].rows for i in used])
    N, D = (np.asarray(runs.inputs[x], float) for x in ("N", "D"))
    approach = Approach(
        name="isoflop",
        how=f"{CURVES[method]} of {'log loss' if log else 'loss'} over log N at {len(used)} "
        f"budgets, {n:,} {'resamples of the runs' if kind == 'pairs' else 'draws of the noise'}",
        points=table,
        a=float(lines.N.slope),
        b=float(lines.D.slope),
        curve=lines,
        draws={"a": np.asarray(lines.N_draws.slope), "b": np.asarray(lines.D_draws.slope)},
        level=level,
        ranges=run_ranges(C, N, D, members),
        notes=_notes(reasons, noise_words, used, widened, excess),
        resamples=resamples,
        valleys=tuple(valleys),
        widened=widened,
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


def _valley(
    runs: Runs,
    C: np.ndarray,
    member: np.ndarray,
    flop: float,
    method: Method,
    log: bool,
    best: bool,
) -> Valley:
    """The runs of one budget, in the order of their sizes."""
    rows = np.flatnonzero(member)
    log_n = np.log(np.asarray(runs.inputs["N"], float))
    loss, weight = np.asarray(runs.loss, float), np.asarray(runs.weight, float)
    if log and (loss[rows] <= 0).any():
        raise DataError(f"{runs.source}: a loss is not positive; use log=False")
    ratio = log_n[rows] + np.log(np.asarray(runs.inputs["D"], float)[rows]) - np.log(C[rows])
    rows = rows[np.lexsort((loss[rows], log_n[rows]))]
    first = np.flatnonzero(np.diff(log_n[rows], prepend=-np.inf) > 0)
    y = np.log(loss) if log else loss
    repeats = np.ones(len(rows), int)
    values, weights = y[rows], weight[rows]
    if best:  # the lowest loss of a size comes first
        rows, values, weights, repeats = (x[first] for x in (rows, values, weights, repeats))
    elif method not in DEGREES and len(first) < len(rows):
        weights = np.add.reduceat(weight[rows], first)
        values = np.add.reduceat(weight[rows] * y[rows], first) / weights
        rows, repeats = rows[first], np.diff(np.append(first, len(rows)))
    return Valley(
        flop=float(flop),
        log_N=log_n[rows],
        y=values,
        weight=weights,
        rows=rows,
        repeats=repeats,
        log=log,
        method=method,
        tokens=_token_line(log_n[member], ratio),
    )


def _token_line(log_n: np.ndarray, ratio: np.ndarray) -> tuple[float, float]:
    """Intercept and slope of log(N D / C) over log N: constant if C is 6 N D."""
    line = weighted_line(log_n, ratio, 1.0, middle=0.0)
    flat = np.ptp(ratio) < 1e-9 or not np.isfinite(line.slope)
    return (float(ratio.mean()), 0.0) if flat else (float(line.height), float(line.slope))


def _too_few(valley: Valley) -> str:
    least = LEAST_SIZES[valley.method]
    few = "one size" if valley.sizes == 1 else f"{valley.sizes} sizes"
    return "" if valley.sizes >= least else f"{few}, and {CURVES[valley.method]} needs {least}"


class _Optima(NamedTuple):
    """Log size and height of the minima, estimates (budgets,) and draws (budgets, draws)."""

    size: np.ndarray
    height: np.ndarray
    draws: np.ndarray
    fault: np.ndarray

    def take(self, chosen: Sequence[Any]) -> "_Optima":
        return _Optima(*(x[list(chosen)] for x in self))

    @property
    def inside(self) -> np.ndarray:
        """Share of the draws that have a minimum, shape (budgets,)."""
        return np.isfinite(self.draws).mean(axis=1)


def _drawn(
    valleys: Sequence[Valley],
    runs: Runs,
    kind: str,
    by: Any,
    noise: Any,
    n: int,
    draw_key: jax.Array,
    key: jax.Array,
) -> tuple[list[Minima], str, Resamples | None]:
    """Minima of every resample, budget by budget; words about the noise; the resamples' name."""
    common = n <= most_at_once(runs)
    codes = None if by is None else cluster_codes(runs, by)
    named = Resamples(resamples_name(runs, kind, codes, n, key), np.arange(n))
    if kind == "pairs":
        weight = pairs_weights(np.asarray(runs.weight), codes, n, draw_key)
        found = [v.minimum(weight=weight[:, v.rows]) for v in valleys]
        return found, "", named if common else None
    real = int((np.asarray(runs.weight) > 0).sum())
    if isinstance(noise, Fit):
        known = noise_of_fit(valleys, noise, runs)
    elif noise is not None:
        known = given_noise(valleys, noise, len(runs))
    else:
        known = measured_noise(valleys, len(runs), real)
    values = known.draw(valleys, n, len(runs), draw_key)
    found = [v.minimum(y) for v, y in zip(valleys, values, strict=True)]
    if known.center is not None:
        found = [_moved(v, m, y) for v, m, y in zip(valleys, found, known.center, strict=True)]
    return found, known.sentence, named if common and known.complete else None


def _moved(valley: Valley, drawn: Minima, center: np.ndarray) -> Minima:
    """Minima around that of the runs, from those around that of other values."""
    own, other = valley.minimum(), valley.minimum(center[:, None])
    if own.fault[0] or other.fault[0]:
        return drawn
    return Minima(drawn.at + own.at - other.at, drawn.value + own.value - other.value, drawn.fault)


def _optima(valleys: Sequence[Valley], drawn: Sequence[Minima]) -> _Optima:
    draws = np.stack([minima.at for minima in drawn])
    own = [valley.minimum() for valley in valleys]
    size = np.array([minima.at[0] for minima in own])
    height = np.array([minima.value[0] for minima in own])
    fault = np.array([minima.fault[0] for minima in own])
    for i, valley in enumerate(valleys):
        if valley.method not in DEGREES and np.isfinite(draws[i]).any() and np.isfinite(size[i]):
            # The interpolant bends with the noise of single runs; its typical minimum does less.
            size[i] = np.nanmedian(draws[i])
            height[i] = np.nanmedian(drawn[i].value)
    return _Optima(size, height, draws, fault)


def _fault(valley: Valley, found: _Optima, i: int) -> str:
    """Why a budget is not used, or nothing."""
    low, high = (f"{np.exp(x):.3g}" for x in (valley.log_N[0], valley.log_N[-1]))
    if found.fault[i] == CONCAVE:
        return "the curve is not convex: it has no minimum"
    if found.fault[i] == BELOW:
        return f"the minimum lies at or below the smallest size, {low}"
    if found.fault[i] == ABOVE:
        return f"the minimum lies at or above the largest size, {high}"
    if found.inside[i] < _LEAST_INSIDE:
        return f"only {found.inside[i]:.0%} of the draws have a minimum between {low} and {high}"
    return ""


def _lines(valleys: Sequence[Valley], found: _Optima) -> tuple[PowerLaws, float, float]:
    """Lines through the minima and through every draw of them; how much the draws were widened.

    Also the probability that noise alone scatters the minima so far from a line.
    """
    log_c = np.log([valley.flop for valley in valleys])
    weight = 1 / _errors(valleys, found) ** 2
    middle = float((weight * log_c).sum() / weight.sum())
    tokens = np.array([v.log_tokens(x) for v, x in zip(valleys, found.size, strict=True)])
    token_draws = np.stack([v.log_tokens(x) for v, x in zip(valleys, found.draws, strict=True)])
    lines, drawn = [], []
    for estimate, draws in ((found.size, found.draws), (tokens, token_draws)):
        lines.append(weighted_line(log_c, estimate, weight, middle))
        drawn.append(weighted_line(log_c, draws.T, weight, middle))
    factor, excess = _overdispersion(log_c, weight, found, lines[0])
    drawn = [_stretched(line, draws, factor) for line, draws in zip(lines, drawn, strict=True)]
    return PowerLaws(lines[0], lines[1], drawn[0], drawn[1]), factor, excess


def _errors(valleys: Sequence[Valley], found: _Optima) -> np.ndarray:
    """Standard errors of log N* for the weights, shape (budgets,).

    Resamples without a minimum count against a budget. The minimum of an interpolant is not known
    to better than a third of the spacing of sizes, however little noise there is. The errors of
    least-squares minima depend on the same noise as the minima themselves: weights that followed
    them would prefer the lucky budgets, and make intervals of cubics too narrow (84% for 90%).
    They are therefore those of a power of C, except where a budget is much worse.
    """
    spacing = np.array([np.ptp(v.log_N) / (v.sizes - 1) for v in valleys])
    error = np.maximum(np.nanstd(found.draws, axis=1), 1e-9 * spacing) / found.inside
    if valleys[0].method not in DEGREES:
        return np.maximum(error, _SPACING * spacing / found.inside)
    if len(valleys) < 3:
        return error
    log_c = np.log([valley.flop for valley in valleys])
    smooth = np.exp(weighted_line(log_c, np.log(error), 1.0)(log_c))
    return np.where(error > _MUCH_WORSE * smooth, error, smooth)


def _overdispersion(
    log_c: np.ndarray, weight: np.ndarray, found: _Optima, line: Line
) -> tuple[float, float]:
    """Ratio of the minima's scatter around their line to that of the draws, if it is significant.

    The draws show which scatter noise makes: sum_i w_i r_i^2 of their deviations from the minima.
    """
    if len(log_c) < 3:
        return 1.0, np.nan
    moved = (found.draws - found.size[:, None]).T
    moved = moved[np.isfinite(moved).all(axis=1)]
    if len(moved) < 2:
        return 1.0, np.nan
    again = weighted_line(log_c, moved, weight, line.middle)
    expected = (weight * (moved - again(log_c)) ** 2).sum(axis=1)
    observed = float((weight * (found.size - line(log_c)) ** 2).sum())
    excess = float((1 + (expected >= observed).sum()) / (1 + len(expected)))
    if excess >= _SCATTER or expected.mean() <= 0:
        return 1.0, excess
    return float(np.sqrt(observed / expected.mean())), excess


def _stretched(line: Line, draws: Line, factor: float) -> Line:
    height, slope = np.asarray(draws.height), np.asarray(draws.slope)
    return Line(
        draws.middle,
        line.height + factor * (height - line.height),
        line.slope + factor * (slope - line.slope),
    )


def _at(values: np.ndarray, places: Sequence[int | None]) -> list[float]:
    return [np.nan if place is None else float(values[place]) for place in places]


def _ends(found: _Optima, places: Sequence[int | None], level: float) -> np.ndarray:
    ends = np.full((2, len(places)), np.nan)
    for i, place in enumerate(places):
        if place is not None and np.isfinite(found.draws[place]).any():
            ends[:, i] = np.nanquantile(found.draws[place], tails(level))
    return ends


def _notes(
    reasons: Sequence[str], noise: str, used: Sequence[Any], widened: float, excess: float
) -> tuple[str, ...]:
    notes = [f"Noise of a run: {noise}."] if noise else []
    refused = [reason for reason in reasons if reason]
    if refused:
        kinds = "; ".join(dict.fromkeys(refused))
        notes.append(f"{len(refused)} of {len(reasons)} budgets are not used: {kinds}.")
    if len(used) == 2:
        notes.append("Two minima always lie on a line: nothing checks that N* is a power of C.")
    if widened > 1:
        notes.append(
            f"The minima scatter {widened:.2g} times as far from the line as the noise explains "
            f"(p = {excess:.2g}); the draws are widened by that factor."
        )
    return tuple(notes)


def _with_bias(approach: Approach, law_fit: Any) -> Approach:
    import dataclasses

    kept = [v for v, used in zip(approach.valleys, approach.points["used"], strict=True) if used]
    factor, sentence = bias_sentence(law_fit, kept)
    points = approach.points.copy()
    points.loc[points["used"], "bias"] = factor
    return dataclasses.replace(approach, points=points, notes=(*approach.notes, sentence))
