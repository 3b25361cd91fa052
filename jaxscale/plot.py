"""Pictures of a fit: data against fit, residuals, restarts, the compute-optimal frontier.

Every function draws on ``ax`` (a new figure if it is None), returns the Axes and shows nothing.
Matplotlib is imported when the first picture is drawn, not before.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxscale._allocate import Frontier, allocate
from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit
from jaxscale._predict import predict
from jaxscale._restarts import HIT_TOLERANCE
from jaxscale._runs import Runs
from jaxscale.flops import FlopFunction, six_nd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

# Okabe and Ito's colors, told apart by color-blind readers.
_BLUE, _ORANGE, _GREEN, _GRAY = "#0072B2", "#D55E00", "#009E73", "#6b6b6b"
_LABELS = {
    "N": "parameters N",
    "D": "training tokens D",
    "C": "training compute 6ND (FLOPs)",
}
_MAD = 1.4826  # standard deviations per median absolute deviation, for a normal distribution
_OUTSIDE = 4.0
_MOST_BUDGETS = 8
_MOST_NAMED = 8
_LEAST_EXCESS = 1e-12
_Points = list[tuple[float, float]]


def isoflop(fit: Fit, *, ax: "Axes | None" = None, budgets: Any = None) -> "Axes":
    """Loss over N at constant C = 6 N D: the runs, and the fitted curve of each budget.

    The runs are colored by their compute; a diamond marks the minimum of a curve where the runs
    reach it. For a law in one input: the loss over that input, and the floor E if there is one.

    Args:
        fit: a fit of one data set, with its runs; a law in N and D, or in one input.
        ax: where to draw.
        budgets: budgets of the curves, in FLOPs; default: the common budgets of the runs, or else
            up to 8 typical ones.

    Raises:
        DataError: for a stack, a fit without its runs, or a law in other inputs.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, figure 3.

    Example:
        >>> isoflop(fit, budgets=[1e19, 1e20, 1e21])
    """
    inputs, loss, _ = _table(fit)
    if len(fit.law.inputs) == 1:
        return _learning_curve(fit, inputs[fit.law.inputs[0]], loss, _axes(ax))
    if set(fit.law.inputs) != {"N", "D"}:
        raise DataError(
            f"law {fit.law.name!r} is one in {', '.join(fit.law.inputs)}; isoflop draws laws in N "
            "and D or in one input, use residuals(fit, against=...) instead"
        )
    ax = _axes(ax)
    N, C = inputs["N"], six_nd(inputs["N"], inputs["D"])
    centers, group = _budgets(C, budgets)
    colors = _color_scale(np.concatenate([C, centers]))
    minima = _minima(fit, centers)
    for i, budget in enumerate(centers):
        grid = _curve_range(N[group == i] if (group == i).any() else N)
        curve = predict(fit, N=grid, D=budget / (6 * grid)).mean
        ax.plot(grid, curve, color=colors(budget), lw=1.6, zorder=2)
        if grid[0] < minima[i] < grid[-1]:
            lowest = predict(fit, N=minima[i], D=budget / (6 * minima[i])).mean
            mark = {"marker": "D", "ms": 5.5, "mec": "black", "mew": 0.9, "zorder": 4}
            ax.plot([minima[i]], [lowest], color=colors(budget), ls="none", **mark)
    ax.scatter(N, loss, c=[colors(c) for c in C], s=13, lw=0, alpha=0.85, zorder=3)
    _log_axis(ax, "x", N, _LABELS["N"])
    _loss_axis(ax, loss)
    _color_bar(ax, colors, centers)
    ax.set_title("Loss at constant compute: runs and fit")
    return ax


def residuals(fit: Fit, *, ax: "Axes | None" = None, against: str | None = None) -> "Axes":
    """100 (log predicted - log observed) of every run, that is percent of the loss.

    The band is the median plus or minus one robust spread (1.4826 times the median absolute
    deviation). Runs more than four spreads away are ringed, the worst with their row number.

    Args:
        fit: a fit of one data set, with its runs.
        ax: where to draw.
        against: ``"predicted"``, ``"C"`` (for 6 N D) or an input of the law; default C for a law
            in N and D, else the predicted loss.

    Raises:
        DataError: for a stack, a fit without its runs, or an unknown `against`.

    Example:
        >>> residuals(fit, against="N")
    """
    inputs, loss, rows = _table(fit)
    predicted = np.broadcast_to(np.asarray(fit.predicted()), np.shape(_runs(fit).loss))[rows - 1]
    choices = {"predicted": predicted, **inputs}
    if {"N", "D"} <= set(inputs):
        choices["C"] = six_nd(inputs["N"], inputs["D"])
    chosen = ("C" if "C" in choices else "predicted") if against is None else against
    if chosen not in choices:
        raise DataError(f"against must be one of {', '.join(choices)}, not {against!r}")
    ax = _axes(ax)
    x, percent = choices[chosen], 100 * (np.log(predicted) - np.log(loss))
    center = float(np.median(percent))
    spread = _MAD * float(np.median(np.abs(percent - center)))
    outside = np.abs(percent - center) > max(_OUTSIDE * spread, 1e-9)
    ax.axhspan(center - spread, center + spread, color=_BLUE, alpha=0.15, lw=0)
    ax.axhline(0, color="black", lw=0.9)
    ax.plot(x, percent, "o", ms=3.5, mew=0, color=_BLUE, alpha=0.75)
    ax.plot(x[outside], percent[outside], "o", ms=7, mfc="none", mec=_ORANGE, mew=1.1)
    _log_axis(ax, "x", x, _LABELS.get(chosen, "predicted loss" if against is None else chosen))
    ax.margins(y=0.12)
    worst = np.argsort(-np.abs(percent - center))[: min(int(outside.sum()), _MOST_NAMED)]
    _name_points(ax, x, percent, worst, [f"row {row}" for row in rows])
    ax.set_ylabel("log predicted − log observed loss (%)")
    count = f"; {outside.sum()} beyond {_OUTSIDE:g} spreads" if outside.any() else ""
    ax.set_title(f"Residuals: robust spread {spread:.2g}%{count}")
    return ax


def restarts(fit: Fit, *, ax: "Axes | None" = None) -> "Axes":
    """Share of the restarts whose objective ends within a relative excess over the best.

    The dashed line is the tolerance to which a restart counts as having reached the optimum. The
    other optima are named by the terms of the law that vanish there.

    Args:
        fit: a fit of one data set; the runs are not needed.
        ax: where to draw.

    Raises:
        DataError: for a stack.

    Example:
        >>> restarts(fit)
    """
    found, ax = _single(fit).restarts, _axes(ax)
    scale = abs(found.best) or 1.0
    finite = np.asarray(found.value)[np.isfinite(found.value)]
    excess = np.maximum((finite - found.best) / scale, _LEAST_EXCESS)
    # A thousand steps per decade draw as well as a million restarts.
    at, counts = np.unique(np.ceil(1e3 * np.log10(excess)) / 1e3, return_counts=True)
    share = np.cumsum(counts) / len(found)
    x = np.concatenate([[_LEAST_EXCESS], 10.0**at, [10 * max(10.0 ** at.max(initial=-1), 0.1)]])
    share = np.concatenate([[0.0], share, share[-1:] if share.size else [0.0]])
    ax.step(x, 100 * share, where="post", color=_BLUE, lw=1.8)
    ax.axvline(HIT_TOLERANCE, color=_GRAY, ls="--", lw=1)
    note = f" {found.hit_share:.1%} of {len(found):,}\n reach the optimum\n (to 10$^{{-6}}$)"
    low = found.hit_share > 0.5
    spot, how = (0.06, "bottom") if low else (0.97, "top")
    ax.text(HIT_TOLERANCE, spot, note, transform=ax.get_xaxis_transform(), va=how)
    _name_basins(ax, found.basins, scale, found.best)
    ax.set(xscale="log", xlim=(x[0] / 2, x[-1]), ylim=(-3, 108), yticks=range(0, 101, 20))
    ax.set_xlabel("excess of the objective over the best (relative)")
    ax.set_ylabel("restarts at or below (%)")
    ax.set_title("Where the restarts ended")
    return ax


def frontier(
    source: Fit | Frontier,
    *,
    flop: Any = None,
    cost: FlopFunction | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Compute-optimal parameters N* and tokens D* over the budget C.

    The lines are dashed where the budget, N* or D* lies outside the runs. Numbers along the lines
    are tokens per parameter. Faint points are the runs. Bands are drawn if the source has them.

    Args:
        source: a fit of one data set of a law in N and D, or a `Frontier`. A `Frontier` does not
            know the runs: its lines are solid throughout.
        flop: budgets, in FLOPs; default: from the smallest run to 100 times the largest.
        cost: ``cost(N, D)`` in FLOPs; default 6 N D.
        ax: where to draw.

    Raises:
        DataError: for a stack, or `flop` or `cost` given with a `Frontier`.
        LawError: if the law is not one in N and D, or has no compute-optimal size.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, equation 4.

    Example:
        >>> frontier(fit, flop=np.geomspace(1e18, 1e26, 60))
    """
    cost_of = six_nd if cost is None else cost
    if isinstance(source, Frontier):
        if flop is not None or cost is not None:
            raise DataError("a Frontier has its budgets and cost; give flop and cost with a fit")
        line, seen = source, None
    else:
        if set(_single(source).law.inputs) != {"N", "D"}:
            raise LawError(f"law {source.law.name!r} is not a law in N and D: it has no frontier")
        seen = _seen(source, cost_of)
        flop = _default_budgets(source, seen, cost_of) if flop is None else flop
        line = allocate(source, flop=np.atleast_1d(np.asarray(flop, float)), cost=cost_of)
    order = np.argsort(np.ravel(np.asarray(line.flop)))
    C, N, D = (np.ravel(np.asarray(v, float))[order] for v in (line.flop, line.N, line.D))
    known = _within(source, seen, C, N, D)
    ax = _axes(ax)
    for name, values, color in (("N", N, _BLUE), ("D", D, _ORANGE)):
        if seen is not None:
            ax.plot(seen["C"], seen[name], "o", ms=2.5, mew=0, color=color, alpha=0.25)
        if name in line.bands:
            low, high = (np.ravel(np.asarray(v, float))[order] for v in line.bands[name])
            ax.fill_between(C, low, high, color=color, alpha=0.18, lw=0)
        ax.plot(C, values, color=color, lw=1.4, ls=(0, (4, 3)), zorder=3)
        ax.plot(C, np.where(known, values, np.nan), color=color, lw=2.2, zorder=3)
    xs = C if seen is None else np.concatenate([C, seen["C"]])
    _log_axis(ax, "x", xs, "training compute C (FLOPs)", flops=True)
    ys = np.concatenate([N, D] if seen is None else [N, D, seen["N"], seen["D"]])
    _log_axis(ax, "y", ys, "parameters N*, tokens D*")
    _name_lines(ax, C, N, D)
    partly = " (dashed: beyond the runs)" if not known.all() else ""
    ax.set_title(f"Compute-optimal sizes{partly}")
    return ax


def summary(fit: Fit, *, title: str | None = None) -> "Figure":
    """Four panels: data against fit, residuals, restarts, frontier.

    For a law that is not one in N and D, predicted against observed loss stands in for the panels
    it cannot have. The figure is 1600 x 1200 pixels when saved and unknown to `pyplot`.

    Args:
        fit: a fit of one data set, with its runs.
        title: heading; default the law and its formula.

    Raises:
        DataError: for a stack or a fit without its runs.

    Example:
        >>> summary(fit).savefig("fit.png")
    """
    from matplotlib.figure import Figure

    _table(fit)
    figure = Figure(figsize=(32 / 3, 8), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr]
    axes = figure.subplots(2, 2)
    inputs = fit.law.inputs
    if len(inputs) == 1 or set(inputs) == {"N", "D"}:
        isoflop(fit, ax=axes[0, 0])
    else:
        _agreement(fit, axes[0, 0])
    residuals(fit, ax=axes[0, 1])
    restarts(fit, ax=axes[1, 0])
    _last_panel(fit, axes[1, 1])
    figure.suptitle(title if title is not None else f"{fit.law.name}: {fit.law.formula}")
    return figure
