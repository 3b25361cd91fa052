"""Pictures of isoFLOP curves with their minima, and of frontiers side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxscale._agree import Agreement
from jaxscale._approach import Approach
from jaxscale._errors import DataError
from jaxscale.plot._fit import around, color_bar
from jaxscale.plot._style import (
    COLORS,
    GRAY,
    MARKERS,
    axes,
    color_scale,
    count,
    log_axis,
    loss_axis,
    name_axis,
    power_of_ten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINES = ("-", (0, (6, 2)), (0, (1, 1.3)), (0, (6, 2, 1, 2)))
_SAID = {
    "agree": "The approaches agree",
    "disagree": "The approaches disagree",
    "undecided": "Too uncertain to tell whether they agree",
}
_BEYOND = 100.0  # times the largest budget, up to which frontiers are drawn


def isoflop_fits(approach: Approach, *, ax: "Axes | None" = None) -> "Axes":
    """Loss over N at every budget: the runs, the curve through them and its minimum.

    A diamond with a bar is the minimum N* and its interval. Budgets that are not used are gray,
    with a dashed curve and a cross at their lowest run.

    Args:
        approach: what `jaxscale.isoflop` returns.

    Raises:
        DataError: for another approach.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, figure 3.

    Example:
        >>> isoflop_fits(js.isoflop(runs, key=key))
    """
    if not (isinstance(approach, Approach) and approach.valleys):
        raise DataError("isoflop_fits draws the result of isoflop(), which has curves to draw")
    ax, points = axes(ax), approach.points
    norm, shades = color_scale(points["flop"].to_numpy(float))
    refused = 0
    for valley, row in zip(approach.valleys, points.itertuples(), strict=True):
        N, color = np.exp(valley.log_N), shades(norm(valley.flop)) if row.used else GRAY
        ax.plot(N, valley.loss, "o", color=color, ms=3.8, mew=0, alpha=0.9, zorder=3)
        grid = around(N) if valley.method != "akima" else np.geomspace(N[0], N[-1], 200)
        if valley.sizes > 3 or row.used:
            style: Any = "-" if row.used else "--"
            ax.plot(grid, valley.curve(grid), ls=style, color=color, lw=1.5 if row.used else 1.0)
        if row.used:
            ends = [[row.N - min(row.N_low, row.N)], [max(row.N_high, row.N) - row.N]]
            how: dict[str, Any] = {"fmt": "D", "ms": 5.5, "mec": "black", "mew": 0.9, "zorder": 4}
            ax.errorbar([row.N], [row.loss], xerr=ends, color=color, ecolor="black", **how)
        else:
            refused += 1
            lowest = valley.loss.argmin()
            ax.plot(N[lowest], valley.loss[lowest], "x", color="black", ms=8, mew=1.6, zorder=4)
    name_axis(ax, "N")
    loss_axis(ax, np.concatenate([valley.loss for valley in approach.valleys]))
    color_bar(ax, norm, shades, points.loc[points["used"], "flop"].to_numpy(float))
    plural = "s" if refused > 1 else ""
    note = f"; {refused} budget{plural} not used (cross{'es' if plural else ''})" if refused else ""
    ax.set_title(f"isoFLOP minima: N* ~ C^{approach.a:.3f}{note}", size="medium")
    return ax


def agreement(
    source: Agreement | Sequence[Approach],
    *,
    flop: Any = None,
    level: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Compute-optimal N* over C by every approach, with bands, in one picture.

    Markers are the points that a line was fitted to; the vertical line marks the largest budget
    of the runs.

    Args:
        source: what `jaxscale.agree` returns, or several approaches.
        flop: budgets, in FLOPs; default: from the smallest to 100 times the largest of the runs.
        level: probability content of the bands; default that of the agreement, or 0.9.

    Raises:
        DataError: for anything else.

    Example:
        >>> agreement(js.agree(iso, joint))
    """
    made = source.approaches if isinstance(source, Agreement) else tuple(source)
    if not made or not all(isinstance(one, Approach) for one in made):
        raise DataError("agreement draws the result of agree(), or a list of approaches")
    content = level or (source.level if isinstance(source, Agreement) else 0.9)
    low = min(one.ranges["flop"][0] for one in made)
    high = max(one.ranges["flop"][1] for one in made)
    C = np.geomspace(low, _BEYOND * high, 81) if flop is None else np.sort(np.ravel(flop))
    ax = axes(ax)
    for i, one in enumerate(made):
        color, line = COLORS[i % len(COLORS)], one.frontier(C, content)
        if "N" in line.bands:
            below, above = (np.asarray(end, float) for end in line.bands["N"])
            ax.fill_between(C, below, above, color=color, alpha=0.16, lw=0)
        label = f"{one.name}, a = {one.a:.3f}"
        ax.plot(C, line.N, color=color, lw=1.9, ls=_LINES[i % len(_LINES)], label=label, zorder=3)
        if one.name != "surface":
            used = one.points[one.points["used"]]
            step = 1 + len(used) // 25  # an envelope of training curves has hundreds
            ax.plot(used["flop"][::step], used["N"][::step], MARKERS[i % len(MARKERS)],
                    color=color, ms=4.5, mec="white", mew=0.5, zorder=4)  # fmt: skip
    ax.axvline(high, color="black", lw=0.9, ls="--")
    log_axis(ax, "x", "training compute C (FLOPs)", power_of_ten)
    log_axis(ax, "y", "compute-optimal parameters N*", count)
    ax.legend(frameon=False, fontsize="small")
    said = _SAID[source.verdict] if isinstance(source, Agreement) else f"{len(made)} approaches"
    ax.set_title(f"{said} ({content:.0%} bands; dashed: largest budget)", size="medium")
    return ax
