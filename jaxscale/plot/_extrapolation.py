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
    axes,
    count,
    log_axis,
    panels,
    power_of_ten,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxscale._backtest import Backtest
    from jaxscale._crossing import Crossing

_FEW = 5  # points below which a share is no more than a rumor


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
        rows = table[(table["law"] == law) & (table["count"] > 0)]
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
        style = {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]}
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
    """The two loss curves, where they cross, and the interval of that scale as a band.

    Args:
        found: what `jaxscale.crossing` returns.

    Example:
        >>> crossing(js.crossing(one, other))
    """
    ax = axes(ax)
    scale = found.table[found.path.scale].to_numpy(float)
    low, high = found.within
    if found.low is not None and found.high is not None:
        ends = np.clip([found.low, found.high], low, high)
        label = f"{found.level:.0%} interval"
        ax.axvspan(float(ends[0]), float(ends[1]), color=GRAY, alpha=0.18, lw=0, label=label)
    for name, color, style in zip(found.names, (BLUE, ORANGE), ("-", "--"), strict=True):
        ax.plot(scale, found.table[name], color=color, ls=style, lw=1.8, label=name)
    if np.isfinite(found.at):
        ax.plot([found.at], [found.loss], "o", color="black", ms=5, zorder=4)
        write(ax, f"{found.at:.3g}", found.at, found.loss, (6, 5), ha="left")
    ax.set(xlim=(low, high), ylabel="loss")
    compute = found.path.scale == "flop"
    label = "training compute (FLOPs)" if compute else found.path.scale
    log_axis(ax, "x", label, power_of_ten if compute else count)
    ax.set_title(found.sentences[0], size="medium", wrap=True)
    ax.legend(frameon=False, fontsize="small")
    return ax
