"""Pictures of a fit: data against fit, residuals, restarts, and all of them on one page."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxscale._allocate import allocate
from jaxscale._budgets import tight_groups
from jaxscale._draws import as_draws
from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit
from jaxscale._predict import predict
from jaxscale.flops import six_nd
from jaxscale.plot._frontier import frontier
from jaxscale.plot._style import (
    BLUE,
    DOTS,
    GRAY,
    LABELS,
    ORANGE,
    axes,
    color_scale,
    fit_of,
    log_axis,
    loss_axis,
    name_axis,
    name_points,
    power_of_ten,
    single,
    table,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

_MAD = 1.4826  # standard deviations per median absolute deviation, for a normal distribution
_OUTSIDE = 4.0
_MOST_BUDGETS = 8
_BAND_POINTS = 30
_LEAST_EXCESS = 1e-12


def isoflop(source: Any, *, ax: "Axes | None" = None, budgets: Any = None) -> "Axes":
    """Loss over N at constant C = 6 N D: the runs, and the fitted curve of each budget.

    The runs are colored by their compute; a diamond marks the minimum of a curve where the runs
    reach it; draws add the 90% band of the law. For a law in one input: the loss over that input,
    and the floor E if there is one.

    Args:
        source: a fit of one data set, with its runs, or draws around one; a law in N and D, or in
            one input.
        budgets: budgets of the curves, in FLOPs; default: the common budgets of the runs, or else
            up to 8 typical ones.

    Raises:
        DataError: for a stack, a fit without its runs, or a law in other inputs.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, figure 3.

    Example:
        >>> isoflop(fit, budgets=[1e19, 1e20, 1e21])
    """
    fit, draws = fit_of(source), as_draws(source)
    inputs, loss, _ = table(fit)
    if len(inputs) == 1:
        return _learning_curve(fit, inputs[fit.law.inputs[0]], loss, axes(ax))
    if set(inputs) != {"N", "D"}:
        raise DataError(
            f"isoflop draws laws in N and D or in one input, but {fit.law.name!r} is in "
            f"{', '.join(inputs)}; draw residuals(fit, against=...) instead"
        )
    ax, N, C = axes(ax), inputs["N"], six_nd(inputs["N"], inputs["D"])
    centers, group = _budgets(C, budgets)
    norm, shades = color_scale(np.concatenate([C, centers]))
    for i, (budget, lowest) in enumerate(zip(centers, _minima(fit, centers), strict=True)):
        grid, color = around(N[group == i] if (group == i).any() else N), shades(norm(budget))
        ax.plot(grid, _at_budget(fit, grid, budget), color=color, lw=1.6, zorder=2)
        if draws is not None:
            some = grid[:: len(grid) // _BAND_POINTS]
            band = predict(draws, N=some, D=budget / (6 * some))
            ax.fill_between(some, band.law_low, band.law_high, color=color, alpha=0.25, lw=0)
        if grid[0] < lowest < grid[-1]:
            mark: dict[str, Any] = {
                "marker": "D",
                "ms": 5.5,
                "mec": "black",
                "mew": 0.9,
                "zorder": 4,
            }
            ax.plot([lowest], [_at_budget(fit, lowest, budget)], color=color, ls="none", **mark)
    ax.scatter(N, loss, c=C, norm=norm, cmap=shades, s=13, lw=0, alpha=0.85, zorder=3)
    name_axis(ax, "N")
    loss_axis(ax, loss)
    color_bar(ax, norm, shades, centers)
    ax.set_title("Loss at constant compute", size="medium")
    return ax


def residuals(source: Any, *, ax: "Axes | None" = None, against: str | None = None) -> "Axes":
    """100 (log predicted - log observed) of every run, that is percent of the loss.

    The band is the median plus or minus one robust spread (1.4826 times the median absolute
    deviation). Runs more than four spreads away are ringed, the worst with their row number.

    Args:
        source: a fit of one data set, with its runs, or draws around one.
        against: ``"predicted"``, ``"C"`` (for 6 N D) or an input of the law; default C for a law
            with N and D, else the predicted loss.

    Raises:
        DataError: for a stack, a fit without its runs, or an unknown `against`.

    Example:
        >>> residuals(fit, against="N")
    """
    fit = fit_of(source)
    inputs, loss, rows = table(fit)
    predicted = np.asarray(predict(fit, **inputs).mean)
    choices = {"predicted": predicted, **inputs}
    if {"N", "D"} <= set(inputs):
        choices["C"] = six_nd(inputs["N"], inputs["D"])
    chosen = ("C" if "C" in choices else "predicted") if against is None else against
    if chosen not in choices:
        raise DataError(f"against must be one of {', '.join(choices)}, not {against!r}")
    ax = axes(ax)
    x, percent = choices[chosen], 100 * (np.log(predicted) - np.log(loss))
    center = float(np.median(percent))
    distance = np.abs(percent - center)
    spread = _MAD * float(np.median(distance))
    outside = np.flatnonzero(distance > max(_OUTSIDE * spread, 1e-9))
    ax.axhspan(center - spread, center + spread, color=BLUE, alpha=0.15, lw=0)
    ax.axhline(0, color="black", lw=0.9)
    ax.plot(x, percent, ms=3.5, **DOTS)
    ax.plot(x[outside], percent[outside], "o", ms=7, mfc="none", mec=ORANGE, mew=1.1)
    ax.margins(y=0.12)
    name_axis(ax, chosen)
    outside = outside[np.argsort(-distance[outside], kind="stable")]
    name_points(ax, x[outside], percent[outside], [f"row {row}" for row in rows[outside]])
    ax.set_ylabel("log predicted - log observed loss (%)")
    count = f", {len(outside)} beyond {_OUTSIDE:g} spreads" if len(outside) else ""
    ax.set_title(f"Residuals: spread {spread:.2g}%{count}", size="medium")
    return ax


def restarts(source: Any, *, ax: "Axes | None" = None) -> "Axes":
    """Share of the restarts whose objective ends within a relative excess over the best.

    The dashed line is the tolerance to which a restart counts as having reached the optimum. The
    other optima are named by the terms of the law that vanish there.

    Args:
        source: a fit of one data set, or draws around one; the runs are not needed.

    Raises:
        DataError: for a stack.

    Example:
        >>> restarts(fit)
    """
    found, ax = single(fit_of(source)).restarts, axes(ax)
    scale = abs(found.best) or 1.0
    finite = np.asarray(found.value)[np.isfinite(found.value)]
    excess = np.maximum((finite - found.best) / scale, _LEAST_EXCESS)
    # A thousand steps per decade draw as well as a million restarts.
    ends, counts = np.unique(np.ceil(1e3 * np.log10(excess)) / 1e3, return_counts=True)
    share = 100 * np.concatenate([[0], np.cumsum(counts), [len(finite)]]) / len(found)
    right = 10 * max(10.0 ** ends.max(initial=-1.0), 0.1)
    ax.step([_LEAST_EXCESS, *10.0**ends, right], share, where="post", color=BLUE, lw=1.8)
    ax.axvline(found.tolerance, color=GRAY, ls="--", lw=1)
    note = f"{found.hit_share:.1%} of {len(found):,} reach\nthe optimum (to {{}})"
    side = {"ha": "left"} if found.hit_share > 0.5 else {}
    spot = (found.tolerance, 5 if side else 60)
    write(ax, note.format(power_of_ten(found.tolerance)), *spot, (6 if side else -6, 0), **side)
    _name_basins(ax, found, scale)
    ax.set(xlim=(_LEAST_EXCESS / 2, right), ylim=(-3, 108), yticks=range(0, 101, 20))
    log_axis(ax, "x", "excess over the best objective (relative)", power_of_ten)
    ax.set_ylabel("restarts at or below (%)")
    ax.set_title("Where the restarts ended", size="medium")
    return ax


def summary(source: Any, *, title: str | None = None) -> "Figure":
    """Four panels: data against fit, residuals, restarts, frontier (with bands, from draws).

    Residuals over an input stand in for a panel that the law cannot have. The figure is
    1600 x 1200 pixels when saved, and `pyplot` knows nothing of it.

    Args:
        source: a fit of one data set, with its runs, or draws around one.
        title: heading; default the law, its formula and the number of runs.

    Raises:
        DataError: for a stack or a fit without its runs.

    Example:
        >>> summary(fit).savefig("fit.png")
    """
    from matplotlib.figure import Figure

    fit = fit_of(source)
    inputs = table(fit)[0]
    figure = Figure(figsize=(32 / 3, 8), dpi=150)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    panels = [cell.subplots() for cell in figure.subfigures(2, 2).flat]
    if len(inputs) == 1 or set(inputs) == {"N", "D"}:
        isoflop(fit, ax=panels[0])
    else:
        residuals(fit, ax=panels[0], against=fit.law.inputs[0])
    residuals(fit, ax=panels[1])
    restarts(fit, ax=panels[2])
    try:
        frontier(source, force=True, ax=panels[3])
    except LawError:  # other inputs, or a fit whose loss has no minimum along a budget
        residuals(fit, ax=panels[3], against=fit.law.inputs[-1])
    heading = f"{fit.law.name}: {fit.law.formula} ({fit.n_runs} runs)"
    figure.suptitle(heading if title is None else title)
    return figure


def _learning_curve(fit: Fit, x: np.ndarray, loss: np.ndarray, ax: "Axes") -> "Axes":
    name, grid = fit.law.inputs[0], around(x)
    ax.plot(x, loss, ms=4, label="runs", **DOTS)
    ax.plot(grid, _over(fit, name, grid), color=ORANGE, lw=1.8, label="fit")
    floor = float(fit.params.get("E", 0.0))
    if floor > 1e-2 * loss.min():  # below that it is no visible part of any loss
        ax.axhline(floor, color=GRAY, ls="--", lw=1.1, label=f"floor E = {floor:.4g}")
    name_axis(ax, name)
    loss_axis(ax, loss)
    ax.legend(frameon=False)
    ax.set_title("Loss over scale", size="medium")
    return ax


def _over(fit: Fit, name: str, grid: np.ndarray) -> Any:
    inputs: dict[str, Any] = {name: grid}
    return predict(fit, **inputs).mean


def _budgets(C: np.ndarray, budgets: Any) -> tuple[np.ndarray, np.ndarray]:
    """Budgets, and the index of the nearest one for every run."""
    ranked, codes = np.sort(np.log(C)), tight_groups(C)
    groups = [np.log(C[codes == code]) for code in np.unique(codes)]
    if budgets is not None:
        centers = np.log(np.unique(np.asarray(budgets, float)))
    elif codes.min() >= 0 and len(groups) <= len(C) // 3:
        centers = np.array([np.median(group) for group in groups])
    else:
        edges = np.linspace(ranked[0], ranked[-1], int(np.clip(len(C) // 4, 1, _MOST_BUDGETS)) + 1)
        bins = np.split(ranked, np.searchsorted(ranked, edges[1:-1]))
        centers = np.array([np.median(group) for group in bins if len(group)])
    return np.exp(centers), np.abs(np.log(C)[:, None] - centers).argmin(axis=1)


def _minima(fit: Fit, budgets: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(allocate(fit, flop=budgets, force=True).N, float)
    except LawError:  # no minimum along the budgets: there is nothing to mark
        return np.full(len(budgets), np.nan)


def _at_budget(fit: Fit, N: Any, budget: float) -> Any:
    return predict(fit, N=N, D=budget / (6 * N)).mean


def around(x: np.ndarray) -> np.ndarray:
    """A grid over the runs of one curve, and over at least half a decade."""
    low, high = np.log10(x.min()), np.log10(x.max())
    pad = max(0.04, 0.25 - (high - low) / 2)
    return np.logspace(low - pad, high + pad, 120)


def color_bar(ax: "Axes", norm: "Normalize", shades: "Colormap", budgets: np.ndarray) -> None:
    """A color bar in FLOPs, with a stroke at the budget of each curve."""
    from matplotlib.cm import ScalarMappable

    bar = ax.figure.colorbar(ScalarMappable(norm, shades), ax=ax, pad=0.02, aspect=30)
    bar.ax.hlines(budgets, 0, 1, color="white", lw=1)
    log_axis(bar.ax, "y", LABELS["C"], power_of_ten)


def _name_basins(ax: "Axes", found: Any, scale: float) -> None:
    """Say at each other optimum how many restarts it holds, and which terms vanish there."""
    reached = 100 * np.cumsum(found.basins["share"].to_numpy(float))
    for row, share in zip(found.basins.itertuples(), reached, strict=True):
        excess = (row.objective - found.best) / scale
        if found.tolerance < excess < np.inf and row.share >= 0.02 and row.kind == "basin":
            dead = f"{row.dead} dead, " if row.dead else ""
            write(ax, f"{dead}{row.share:.0%}", excess, share, (-5, 3))
