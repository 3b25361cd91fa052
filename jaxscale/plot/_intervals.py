"""Intervals side by side, and how often they hold."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxscale._errors import DataError
from jaxscale.plot._style import (
    BLUE,
    COLORS,
    GRAY,
    MARKERS,
    arrow,
    axes,
    few_ticks,
    frame_of,
    panels,
    write,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MOST_PANELS = 6


def intervals(table: Any, *, quantity: str | None = None, ax: "Axes | None" = None) -> "Axes":
    """One row per method: its interval and the estimate, for every quantity in its own panel.

    An end that is not finite is drawn as an arrow with the word open; a method that failed says so.

    Args:
        table: what `jaxscale.intervals` returns, or a table with the columns quantity, method,
            estimate, low, high.
        quantity: draw only this one; default all of them, up to six side by side.

    Raises:
        DataError: for a missing column or an unknown quantity.

    Example:
        >>> intervals(js.intervals(fit, key=key), quantity="alpha")
    """
    frame = frame_of(table, ("quantity", "method", "estimate", "low", "high"), "intervals")
    names = list(dict.fromkeys(frame["quantity"]))
    if quantity is not None and quantity not in names:
        raise DataError(f"quantity must be one of {', '.join(names)}, not {quantity!r}")
    names = [quantity] if quantity is not None else names[:_MOST_PANELS]
    ax = axes(ax)
    if len(names) == 1:
        return _forest(ax, frame[frame["quantity"] == names[0]], True)
    share = 1 / len(names)
    boxes = [(i * share, 0.0, 0.86 * share, 1.0) for i in range(len(names))]
    for i, (panel, name) in enumerate(zip(panels(ax, boxes), names, strict=True)):
        _forest(panel, frame[frame["quantity"] == name], i == 0)
    return ax


def _forest(ax: "Axes", rows: "pd.DataFrame", labelled: bool) -> "Axes":
    low, middle, high = (rows[name].to_numpy(float) for name in ("low", "estimate", "high"))
    place = np.arange(len(rows))[::-1]
    numbers = np.concatenate([low, middle, high])
    numbers = numbers[np.isfinite(numbers)]
    pad = 0.08 * (np.ptp(numbers) if len(numbers) else 1.0) or 0.1
    left, right = (numbers.min() - pad, numbers.max() + pad) if len(numbers) else (0.0, 1.0)
    ax.axvline(float(middle[0]), color=GRAY, lw=0.9, ls=":")
    for y, a, m, b in zip(place, low, middle, high, strict=True):
        if np.isnan(a) and np.isnan(b):
            write(ax, "failed", m if np.isfinite(m) else left, y, (0, -3), ha="center", color=GRAY)
            continue
        ends = [left if not np.isfinite(a) else a, right if not np.isfinite(b) else b]
        ax.plot(ends, [y, y], color=BLUE, lw=2.4, solid_capstyle="butt")
        ax.plot(ends, [y, y], "|", color=BLUE, ms=8, mew=1.6) if np.isfinite([a, b]).all() else None
        ax.plot([m], [y], "o", color="black", ms=4.5, zorder=4)
        for side, end in ((-1, a), (1, b)):
            if not np.isfinite(end):
                arrow(ax, left if side < 0 else right, y, side, BLUE)
    ax.set(xlim=(left - pad, right + pad), ylim=(-0.7, len(rows) - 0.3))
    ax.set_yticks(place, rows["method"] if labelled else [""] * len(rows))
    ax.set_xlabel(str(rows["quantity"].iloc[0]))
    few_ticks(ax, "x", 3 + int(ax.bbox.width / ax.figure.dpi))
    return ax


def coverage(table: Any, *, quantity: str | None = None, ax: "Axes | None" = None) -> "Axes":
    """Real coverage over nominal coverage by method, with two Monte Carlo standard errors.

    Methods below the dashed line of their level are over-confident. Points of one level stand side
    by side.

    Args:
        table: what `jaxscale.calibrate` returns, or a table with the columns method, quantity,
            level, coverage, error.
        quantity: draw only this one; default the mean over all of them.

    Raises:
        DataError: for a missing column or an unknown quantity.

    Example:
        >>> coverage(study, quantity="alpha")
    """
    needed = ("method", "quantity", "level", "coverage", "error")
    frame = frame_of(table, needed, "coverage")
    names = list(dict.fromkeys(frame["quantity"]))
    if quantity is not None and quantity not in names:
        raise DataError(f"quantity must be one of {', '.join(names)}, not {quantity!r}")
    if quantity is not None:
        frame = frame[frame["quantity"] == quantity]
    ax = axes(ax)
    methods = list(dict.fromkeys(frame["method"]))
    levels = np.sort(frame["level"].unique())
    gap = float(np.diff(levels).min()) if len(levels) > 1 else 0.1
    for i, method in enumerate(methods):
        # The quantities of one study share their tables, so that the mean keeps the largest error.
        rows = frame[frame["method"] == method].groupby("level")
        real, error = rows["coverage"].mean(), rows["error"].max().to_numpy(float)
        shift = 100 * 0.5 * gap * ((i + 0.5) / len(methods) - 0.5)
        how: dict[str, Any] = {
            "color": COLORS[i % len(COLORS)],
            "marker": MARKERS[i % len(MARKERS)],
        }
        ax.errorbar(
            100 * real.index.to_numpy(float) + shift,
            100 * real.to_numpy(float),
            200 * error,
            ls="none",
            ms=5,
            capsize=2.5,
            label=method,
            **how,
        )
    # Points stand beside their level, so that a diagonal would promise each something else.
    edges = 100 * (levels - 0.4 * gap), 100 * (levels + 0.4 * gap)
    ax.hlines(100 * levels, *edges, color="black", lw=1.1, ls="--", zorder=1, label="as promised")
    ax.set_ylim(top=min(ax.get_ylim()[1], 103))
    ax.set(xlabel="nominal coverage (%)", ylabel="real coverage (%)", xticks=100 * levels)
    ax.legend(frameon=False, fontsize="small", loc="lower right")
    which = quantity or (names[0] if len(names) == 1 else f"mean of {len(names)} quantities")
    ax.set_title(f"Coverage: {which}", size="medium")
    return ax
