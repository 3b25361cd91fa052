"""How far a law can be trusted beyond its runs, and where two curves cross."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxscale._errors import DataError
from jaxscale.plot._style import (
    BLUE,
    COLORS,
    GRAY,
    MARKERS,
    ORANGE,
    arrow,
    axes,
    count,
    log_axis,
    panels,
    power_of_ten,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxscale._backtest_result import Backtest
    from jaxscale._crossing import Crossing

_FEW = 5  # points below which a mean or a share is no more than a rumor


def backtest(test: "Backtest", *, law: str | None = None, ax: "Axes | None" = None) -> "Axes":
    """Error of each law by how far it extrapolated, beside the coverage of one law's bands.

    Left: every prediction as a dot, and the root mean square of log errors by distance. Right: the
    share of runs in the bands of each method, with the level that they promise; a law without
    bands has no such panel.

    Args:
        test: what `jaxscale.backtest` returns.
        law: whose bands; default the first.

    Returns:
        The Axes, with the panels in ``ax.child_axes``.

    Raises:
        DataError: for an unknown law.

    Example:
        >>> backtest(js.backtest(laws, runs, key=key), law="chinchilla")
    """
    name = next(iter(test.fits)) if law is None else law
    if name not in test.fits:
        raise DataError(f"there is no law {name!r}; there are {', '.join(test.fits)}")
    covered = test.coverage() if len(test.bands) else test.bands
    covered = covered[covered["law"] == name] if len(covered) else covered
    ax = axes(ax)
    boxes = [(0, 0, 0.45, 1), (0.6, 0, 0.4, 1)] if len(covered) else [(0, 0, 1, 1)]
    left, *right = panels(ax, boxes)
    _errors(left, test)
    if right:
        _coverage(right[0], test, covered, name)
    return ax


def _errors(ax: "Axes", test: "Backtest") -> None:
    table = test.errors()
    least = float(np.abs(test.predictions["residual"]).quantile(0.02))
    for i, law in enumerate(test.fits):
        color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
        dots = test.predictions[test.predictions["law"] == law]
        size = np.maximum(np.abs(dots["residual"].to_numpy(float)), least)
        ax.plot(10 ** dots["distance"], 100 * size, ".", color=color, alpha=0.15, mew=0, ms=5)
        rows = table[(table["law"] == law) & (table["count"] >= _FEW)]
        middle = 10 ** (0.5 * (rows["from"] + rows["to"]))
        ax.plot(middle, 100 * rows["rms"], color=color, marker=marker, ms=5, lw=1.6, label=law)
    log_axis(ax, "y", "error of log loss (%)", _percent)
    log_axis(ax, "x", f"{test.by} over the largest fitted", _times)
    ax.set_title(f"Errors above {len(test.cuts)} cuts", size="medium")
    ax.legend(frameon=False, fontsize="small")


def _coverage(ax: "Axes", test: "Backtest", table: Any, law: str) -> None:
    ax.axhline(100 * test.level, color="black", lw=1.1, ls="--", zorder=1)
    for i, (method, rows) in enumerate(table.groupby("method", sort=False)):
        some = rows[rows["count"] >= _FEW]
        middle = 10 ** (0.5 * (some["from"] + some["to"]))
        style: dict[str, Any] = {
            "color": COLORS[i % len(COLORS)],
            "marker": MARKERS[i % len(MARKERS)],
        }
        ax.plot(middle, 100 * some["coverage"], ms=5, lw=1.6, label=method, **style)
    ax.set(ylim=(0, 103), ylabel="runs in the band (%)")
    log_axis(ax, "x", f"{test.by} over the largest fitted", _times)
    ax.set_title(f"{test.level:.0%} bands of {law}", size="medium")
    ax.legend(frameon=False, fontsize="small", loc="lower left")


def _percent(value: float) -> str:
    return f"{value:g}"


def _times(value: float) -> str:
    return f"{count(value)}x"


def crossing(found: "Crossing", *, ax: "Axes | None" = None) -> "Axes":
    """Loss of the first minus loss of the second along the scale, and where it crosses zero.

    With draws a band of the difference, and a bar for the interval of the crossing; an end beyond
    the range is an arrow with the word open.

    Args:
        found: what `jaxscale.crossing` returns.

    Example:
        >>> crossing(js.crossing(one, other))
    """
    ax = axes(ax)
    table, (left, right) = found.table, found.within
    scale = table[found.path.scale].to_numpy(float)
    ax.axhline(0, color=GRAY, lw=0.9)
    if "low" in table:
        band = f"{found.level:.0%} of the draws"
        ax.fill_between(scale, table["low"], table["high"], color=BLUE, alpha=0.2, lw=0, label=band)
    ax.plot(scale, table["difference"], color=BLUE, lw=1.8, label="difference")
    if found.low is not None and found.high is not None:
        ends = np.clip([found.low, found.high], left, right)
        how: dict[str, Any] = {"color": ORANGE, "lw": 3.0, "solid_capstyle": "butt"}
        ax.plot(ends, [0, 0], label=f"{found.level:.0%} interval of the crossing", **how)
    compute = found.path.scale == "flop"
    label = "training compute (FLOPs)" if compute else found.path.scale
    ax.set(xlim=(left, right), ylabel=f"loss of {found.names[0]} - loss of {found.names[1]}")
    log_axis(ax, "x", label, power_of_ten if compute else count)
    if found.low is not None and found.high is not None:
        for side, end in ((-1, found.low), (1, found.high)):
            if not left <= end <= right:
                arrow(ax, left if side < 0 else right, 0, side, ORANGE)
    if np.isfinite(found.at):
        ax.plot([found.at], [0], "o", color="black", ms=5, zorder=4)
        write(ax, f"{found.at:.3g}", found.at, 0, (0, 6), ha="center")
    ax.set_title(found.sentences[0].removesuffix("."), size="medium", wrap=True)
    ax.legend(frameon=False, fontsize="small")
    return ax
