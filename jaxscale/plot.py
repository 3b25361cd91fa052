"""Pictures of a fit: data against fit, residuals, restarts, the compute-optimal frontier.

Every function draws on the Axes ``ax`` (None: of a new figure), returns it and shows nothing.
Matplotlib is imported when the first picture is drawn, not before.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxscale._allocate import Frontier, allocate
from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit
from jaxscale._predict import predict
from jaxscale.flops import FlopFunction, six_nd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

# Okabe and Ito's colors, told apart by color-blind readers.
_BLUE, _ORANGE, _GRAY = "#0072B2", "#D55E00", "#6b6b6b"
_LABELS = {
    "N": "parameters N",
    "D": "training tokens D",
    "C": "training compute 6ND (FLOPs)",
    "predicted": "predicted loss",
}
_DOTS: dict[str, Any] = {"ls": "none", "marker": "o", "mew": 0, "color": _BLUE, "alpha": 0.75}
_MULTIPLES = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(np.arange(10, 100) / 10))
_MAD = 1.4826  # standard deviations per median absolute deviation, for a normal distribution
_OUTSIDE = 4.0
_MOST_BUDGETS = 8
_MOST_NAMED = 8
_LEAST_EXCESS = 1e-12


def isoflop(fit: Fit, *, ax: "Axes | None" = None, budgets: Any = None) -> "Axes":
    """Loss over N at constant C = 6 N D: the runs, and the fitted curve of each budget.

    The runs are colored by their compute; a diamond marks the minimum of a curve where the runs
    reach it. For a law in one input: the loss over that input, and the floor E if there is one.

    Args:
        fit: a fit of one data set, with its runs; a law in N and D, or in one input.
        budgets: budgets of the curves, in FLOPs; default: the common budgets of the runs, or else
            up to 8 typical ones.

    Raises:
        DataError: for a stack, a fit without its runs, or a law in other inputs.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, figure 3.

    Example:
        >>> isoflop(fit, budgets=[1e19, 1e20, 1e21])
    """
    inputs, loss, _ = _table(fit)
    if len(inputs) == 1:
        return _learning_curve(fit, inputs[fit.law.inputs[0]], loss, _axes(ax))
    if set(inputs) != {"N", "D"}:
        raise DataError(
            f"isoflop draws laws in N and D or in one input, but {fit.law.name!r} is in "
            f"{', '.join(inputs)}; draw residuals(fit, against=...) instead"
        )
    ax, N, C = _axes(ax), inputs["N"], six_nd(inputs["N"], inputs["D"])
    centers, group = _budgets(C, budgets)
    norm, shades = _color_scale(np.concatenate([C, centers]))
    for i, (budget, lowest) in enumerate(zip(centers, _minima(fit, centers), strict=True)):
        grid, color = _around(N[group == i] if (group == i).any() else N), shades(norm(budget))
        ax.plot(grid, _at_budget(fit, grid, budget), color=color, lw=1.6, zorder=2)
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
    _name_axis(ax, "N")
    _loss_axis(ax, loss)
    _color_bar(ax, norm, shades, centers)
    ax.set_title("Loss at constant compute", size="medium")
    return ax


def residuals(fit: Fit, *, ax: "Axes | None" = None, against: str | None = None) -> "Axes":
    """100 (log predicted - log observed) of every run, that is percent of the loss.

    The band is the median plus or minus one robust spread (1.4826 times the median absolute
    deviation). Runs more than four spreads away are ringed, the worst with their row number.

    Args:
        fit: a fit of one data set, with its runs.
        against: ``"predicted"``, ``"C"`` (for 6 N D) or an input of the law; default C for a law
            with N and D, else the predicted loss.

    Raises:
        DataError: for a stack, a fit without its runs, or an unknown `against`.

    Example:
        >>> residuals(fit, against="N")
    """
    inputs, loss, rows = _table(fit)
    predicted = np.asarray(predict(fit, **inputs).mean)
    choices = {"predicted": predicted, **inputs}
    if {"N", "D"} <= set(inputs):
        choices["C"] = six_nd(inputs["N"], inputs["D"])
    chosen = ("C" if "C" in choices else "predicted") if against is None else against
    if chosen not in choices:
        raise DataError(f"against must be one of {', '.join(choices)}, not {against!r}")
    ax = _axes(ax)
    x, percent = choices[chosen], 100 * (np.log(predicted) - np.log(loss))
    center = float(np.median(percent))
    distance = np.abs(percent - center)
    spread = _MAD * float(np.median(distance))
    outside = np.flatnonzero(distance > max(_OUTSIDE * spread, 1e-9))
    ax.axhspan(center - spread, center + spread, color=_BLUE, alpha=0.15, lw=0)
    ax.axhline(0, color="black", lw=0.9)
    ax.plot(x, percent, ms=3.5, **_DOTS)
    ax.plot(x[outside], percent[outside], "o", ms=7, mfc="none", mec=_ORANGE, mew=1.1)
    ax.margins(y=0.12)
    _name_axis(ax, chosen)
    outside = outside[np.argsort(-distance[outside], kind="stable")]
    _name_points(ax, x[outside], percent[outside], [f"row {row}" for row in rows[outside]])
    ax.set_ylabel("log predicted - log observed loss (%)")
    count = f", {len(outside)} beyond {_OUTSIDE:g} spreads" if len(outside) else ""
    ax.set_title(f"Residuals: spread {spread:.2g}%{count}", size="medium")
    return ax


def restarts(fit: Fit, *, ax: "Axes | None" = None) -> "Axes":
    """Share of the restarts whose objective ends within a relative excess over the best.

    The dashed line is the tolerance to which a restart counts as having reached the optimum. The
    other optima are named by the terms of the law that vanish there.

    Args:
        fit: a fit of one data set; the runs are not needed.

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
    ends, counts = np.unique(np.ceil(1e3 * np.log10(excess)) / 1e3, return_counts=True)
    share = 100 * np.concatenate([[0], np.cumsum(counts), [len(finite)]]) / len(found)
    right = 10 * max(10.0 ** ends.max(initial=-1.0), 0.1)
    ax.step([_LEAST_EXCESS, *10.0**ends, right], share, where="post", color=_BLUE, lw=1.8)
    ax.axvline(found.tolerance, color=_GRAY, ls="--", lw=1)
    note = f"{found.hit_share:.1%} of {len(found):,} reach\nthe optimum (to {{}})"
    side = {"ha": "left"} if found.hit_share > 0.5 else {}
    spot = (found.tolerance, 5 if side else 60)
    _write(ax, note.format(_power_of_ten(found.tolerance)), *spot, (6 if side else -6, 0), **side)
    _name_basins(ax, found, scale)
    ax.set(xlim=(_LEAST_EXCESS / 2, right), ylim=(-3, 108), yticks=range(0, 101, 20))
    _log_axis(ax, "x", "excess over the best objective (relative)", _power_of_ten)
    ax.set_ylabel("restarts at or below (%)")
    ax.set_title("Where the restarts ended", size="medium")
    return ax


def frontier(
    source: Fit | Frontier,
    *,
    flop: Any = None,
    cost: FlopFunction | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Compute-optimal parameters N* and training tokens D* over the budget C.

    The lines are dashed where the budget, N* or D* lies outside the runs, whose N and D are the
    faint points. Bands are drawn if the source has them.

    Args:
        source: a fit of one data set of a law in N and D, or a `Frontier`.
        flop: budgets, in FLOPs; default: from the smallest run to 100 times the largest.
        cost: ``cost(N, D)`` in FLOPs; default 6 N D.

    Raises:
        DataError: for a stack, or `flop` or `cost` given with a `Frontier`.
        LawError: if the law is not one in N and D, or has no compute-optimal size.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, equation 4.

    Example:
        >>> frontier(fit, flop=np.geomspace(1e18, 1e26, 60))
    """
    if isinstance(source, Frontier):
        if flop is not None or cost is not None:
            raise DataError("a Frontier has its budgets and cost; give flop and cost with a fit")
        line = source
        seen = {name: np.asarray(ends, float) for name, ends in source.ranges.items()}
    else:
        seen = _seen(source, cost or six_nd)
        if flop is None:
            flop = np.geomspace(seen["C"].min(), 100 * seen["C"].max(), 121)
        line = allocate(source, flop=np.asarray(flop, float), cost=cost or six_nd)
    order = np.argsort(np.ravel(line.flop))
    C, N, D = (np.ravel(np.asarray(v, float))[order] for v in (line.flop, line.N, line.D))
    known = np.ones(len(C), bool)
    for values, name in ((C, "C"), (N, "N"), (D, "D")):
        if name in seen:
            low, high = seen[name].min() * (1 - 1e-9), seen[name].max() * (1 + 1e-9)
            known &= (values >= low) & (values <= high)
    ax = _axes(ax)
    for name, values, color in (("N", N, _BLUE), ("D", D, _ORANGE)):
        if isinstance(source, Fit) and source.runs is not None:
            ax.plot(seen["C"], seen[name], ms=2.5, **{**_DOTS, "color": color, "alpha": 0.25})
        if name in line.bands:
            low, high = (np.ravel(np.asarray(v, float))[order] for v in line.bands[name])
            ax.fill_between(C, low, high, color=color, alpha=0.18, lw=0)
        ax.plot(C, values, color=color, lw=1.4, ls=(0, (4, 3)), zorder=3)
        ax.plot(C, np.where(known, values, np.nan), color=color, lw=2.2, zorder=3)
        _write(ax, f"{name}*", C[-1], values[-1], (-4, 6), color=color, weight="bold")
    for i in np.unique([len(C) // 4, len(C) // 2, (4 * len(C)) // 5]):
        ax.plot([C[i], C[i]], [N[i], D[i]], color=_GRAY, lw=0.8, ls=":")
        _write(ax, f"D*/N* = {D[i] / N[i]:.3g}", C[i], max(N[i], D[i]), (2, 5))
    ax.margins(y=0.1)
    _log_axis(ax, "x", "training compute C (FLOPs)", _power_of_ten)
    _log_axis(ax, "y", "parameters N*, training tokens D*", _count)
    beyond = "" if known.all() else " (dashed: beyond the runs)"
    ax.set_title(f"Compute-optimal sizes{beyond}", size="medium")
    return ax


def summary(fit: Fit, *, title: str | None = None) -> "Figure":
    """Four panels: data against fit, residuals, restarts, frontier.

    Residuals over an input stand in for a panel that the law cannot have. The figure is
    1600 x 1200 pixels when saved, and `pyplot` knows nothing of it.

    Args:
        fit: a fit of one data set, with its runs.
        title: heading; default the law, its formula and the number of runs.

    Raises:
        DataError: for a stack or a fit without its runs.

    Example:
        >>> summary(fit).savefig("fit.png")
    """
    from matplotlib.figure import Figure

    inputs = _table(fit)[0]
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
        frontier(fit, ax=panels[3])
    except LawError:  # other inputs, or a fit whose loss has no minimum along a budget
        residuals(fit, ax=panels[3], against=fit.law.inputs[-1])
    heading = f"{fit.law.name}: {fit.law.formula} ({fit.n_runs} runs)"
    figure.suptitle(heading if title is None else title)
    return figure


def _learning_curve(fit: Fit, x: np.ndarray, loss: np.ndarray, ax: "Axes") -> "Axes":
    name, grid = fit.law.inputs[0], _around(x)
    ax.plot(x, loss, ms=4, label="runs", **_DOTS)
    ax.plot(grid, predict(fit, **{name: grid}).mean, color=_ORANGE, lw=1.8, label="fit")
    floor = float(fit.params.get("E", 0.0))
    if floor > 1e-2 * loss.min():  # below that it is no visible part of any loss
        ax.axhline(floor, color=_GRAY, ls="--", lw=1.1, label=f"floor E = {floor:.4g}")
    _name_axis(ax, name)
    _loss_axis(ax, loss)
    ax.legend(frameon=False)
    ax.set_title("Loss over scale", size="medium")
    return ax


def _single(fit: Fit) -> Fit:
    if fit.sets is not None:
        raise DataError(f"choose one data set first, such as fit[{fit.sets[0]!r}]")
    return fit


def _table(fit: Fit) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Inputs, loss and number in the table of the runs that count."""
    runs = _single(fit).runs
    if runs is None:
        raise DataError("this fit was loaded without its runs; use load(path, runs=runs)")
    rows = np.flatnonzero(np.asarray(runs.weight) > 0)
    inputs = {name: np.asarray(runs.inputs[name], float)[rows] for name in fit.law.inputs}
    return inputs, np.asarray(runs.loss, float)[rows], np.asarray(runs.row)[rows]


def _seen(fit: Fit, cost: FlopFunction) -> dict[str, np.ndarray]:
    """Inputs and compute of the runs, or the corners of their range if they are not at hand."""
    ranges = {name: np.asarray(ends, float) for name, ends in _single(fit).ranges.items()}
    if set(ranges) != {"N", "D"}:
        raise LawError(f"law {fit.law.name!r} is not one in N and D, so it has no frontier")
    seen = ranges if fit.runs is None else _table(fit)[0]
    return {**seen, "C": np.asarray(cost(seen["N"], seen["D"]), float)}


def _axes(ax: "Axes | None") -> "Axes":
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(layout="constrained")[1]
    return ax


def _budgets(C: np.ndarray, budgets: Any) -> tuple[np.ndarray, np.ndarray]:
    """Budgets, and the index of the nearest one for every run."""
    ranked = np.sort(np.log(C))
    groups = np.split(ranked, 1 + np.flatnonzero(np.diff(ranked) > 0.1))
    tight = max(float(np.ptp(group)) for group in groups) < 0.2
    if budgets is not None:
        centers = np.log(np.unique(np.asarray(budgets, float)))
    elif tight and len(groups) <= len(C) // 3:
        centers = np.array([np.median(group) for group in groups])
    else:
        edges = np.linspace(ranked[0], ranked[-1], int(np.clip(len(C) // 4, 1, _MOST_BUDGETS)) + 1)
        bins = np.split(ranked, np.searchsorted(ranked, edges[1:-1]))
        centers = np.array([np.median(group) for group in bins if len(group)])
    return np.exp(centers), np.abs(np.log(C)[:, None] - centers).argmin(axis=1)


def _minima(fit: Fit, budgets: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(allocate(fit, flop=budgets).N, float)
    except LawError:  # no minimum along the budgets: there is nothing to mark
        return np.full(len(budgets), np.nan)


def _at_budget(fit: Fit, N: Any, budget: float) -> Any:
    return predict(fit, N=N, D=budget / (6 * N)).mean


def _around(x: np.ndarray) -> np.ndarray:
    """A grid over the runs of one curve, and over at least half a decade."""
    low, high = np.log10(x.min()), np.log10(x.max())
    pad = max(0.04, 0.25 - (high - low) / 2)
    return np.logspace(low - pad, high + pad, 120)


def _color_scale(values: np.ndarray) -> "tuple[Normalize, Colormap]":
    """Viridis without its pale end, over the logarithm."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    shades = colormaps["viridis"](np.linspace(0, 0.9, 64))
    norm = LogNorm(float(values.min()) / 1.05, float(values.max()) * 1.05)
    return norm, LinearSegmentedColormap.from_list("budget", shades)


def _color_bar(ax: "Axes", norm: "Normalize", shades: "Colormap", budgets: np.ndarray) -> None:
    """A color bar in FLOPs, with a stroke at the budget of each curve."""
    from matplotlib.cm import ScalarMappable

    bar = ax.figure.colorbar(ScalarMappable(norm, shades), ax=ax, pad=0.02, aspect=30)
    bar.ax.hlines(budgets, 0, 1, color="white", lw=1)
    _log_axis(bar.ax, "y", _LABELS["C"], _power_of_ten)


def _name_axis(ax: "Axes", name: str) -> None:
    _log_axis(ax, "x", _LABELS.get(name, name), _power_of_ten if name == "C" else _count)


def _loss_axis(ax: "Axes", loss: np.ndarray) -> None:
    ax.set_ylabel("loss")
    if loss.max() > 3 * loss.min():
        _log_axis(ax, "y", "loss", _count)


def _log_axis(ax: "Axes", which: str, label: str, write: Callable[[float], str]) -> None:
    """Logarithmic scale with few, round, readable ticks."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set(**{f"{which}scale": "log", f"{which}label": label})
    axis: Axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = sorted(axis.get_view_interval())
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.array([])
    for multiples in _MULTIPLES:
        ticks = np.outer(decades, multiples).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) >= (2 if write is _power_of_ten else 4):
            break
    ticks = ticks[:: 1 + len(ticks) // 9]
    axis.set_ticks(ticks, labels=[write(float(tick)) for tick in ticks])
    axis.set_minor_locator(LogLocator(subs=range(2, 10)))
    axis.set_minor_formatter(NullFormatter())


def _count(value: float) -> str:
    """70M, 1.5B, 2T: how the field writes parameters and tokens."""
    for scale, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if max(scale, 1e4) <= value * (1 + 1e-9) < 1e15:
            return f"{value / scale:.6g}{suffix}"
    return f"{value:g}" if 1e-3 <= value < 1e6 else _power_of_ten(value)


def _power_of_ten(value: float) -> str:
    exponent = int(np.floor(np.log10(value) + 1e-9))
    factor = f"{value / 10.0**exponent:.3g}"
    lead = "" if factor == "1" else rf"{factor} \times "
    return rf"${lead}10^{{{exponent}}}$"


def _write(ax: "Axes", text: str, x: Any, y: Any, shift: tuple[float, float], **how: Any) -> None:
    """Text whose right end lies near a point."""
    how = {"ha": "right", "fontsize": "small", **how}
    ax.annotate(text, (float(x), float(y)), shift, textcoords="offset points", **how)


def _name_points(ax: "Axes", x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> None:
    """Names beside the first few points, without those that would cover a point or a name."""
    ax.get_ylim()  # settles the limits, which the transform below does not do
    points = ax.transData.transform(np.column_stack([x, y])) * 72 / ax.figure.dpi
    right = ax.bbox.x1 * 72 / ax.figure.dpi
    taken = [(*(point - 4), *(point + 4)) for point in points]
    for i, name in list(enumerate(names))[:_MOST_NAMED]:
        width = 4.6 * len(name)
        for shift in ((6, 3), (6, -10), (-6 - width, 3), (-6 - width, -10)):
            a, b = points[i] + shift
            free = all(a > t[2] or a + width < t[0] or b > t[3] or b + 9 < t[1] for t in taken)
            if free and a + width < right:
                _write(ax, name, x[i], y[i], shift, ha="left")
                taken.append((a, b, a + width, b + 9))
                break


def _name_basins(ax: "Axes", found: Any, scale: float) -> None:
    """Say at each other optimum how many restarts it holds, and which terms vanish there."""
    reached = 100 * np.cumsum(found.basins["share"].to_numpy(float))
    for row, share in zip(found.basins.itertuples(), reached, strict=True):
        excess = (row.objective - found.best) / scale
        if found.tolerance < excess < np.inf and row.share >= 0.02 and row.kind == "basin":
            dead = f"{row.dead} dead, " if row.dead else ""
            _write(ax, f"{dead}{row.share:.0%}", excess, share, (-5, 3))
