"""What all pictures share: colors, axes, ticks and names beside points."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxscale._draws import as_draws
from jaxscale._errors import DataError
from jaxscale._fit import Fit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import Colormap, Normalize

# Okabe and Ito's colors, told apart by color-blind readers.
BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#6b6b6b"
GREEN, PURPLE, SKY = "#009E73", "#CC79A7", "#56B4E9"
# For methods or laws side by side: color, marker and line tell them apart, in greyscale too.
COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, "#E69F00", "black")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
LABELS = {
    "N": "parameters N",
    "D": "training tokens D",
    "C": "training compute 6ND (FLOPs)",
    "predicted": "predicted loss",
}
DOTS: dict[str, Any] = {"ls": "none", "marker": "o", "mew": 0, "color": BLUE, "alpha": 0.75}
_MULTIPLES = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(np.arange(10, 100) / 10))
_MOST_NAMED = 8


def fit_of(source: Any) -> Fit:
    """The fit itself, or the one that draws were made around."""
    draws = as_draws(source)
    return source if draws is None else draws.fit


def single(fit: Fit) -> Fit:
    if fit.sets is not None:
        raise DataError(f"choose one data set first, such as fit[{fit.sets[0]!r}]")
    return fit


def table(fit: Fit) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Inputs, loss and number in the table of the runs that count."""
    runs = single(fit).runs
    if runs is None:
        raise DataError("this fit was loaded without its runs; use load(path, runs=runs)")
    rows = np.flatnonzero(np.asarray(runs.weight) > 0)
    inputs = {name: np.asarray(runs.inputs[name], float)[rows] for name in fit.law.inputs}
    return inputs, np.asarray(runs.loss, float)[rows], np.asarray(runs.row)[rows]


def axes(ax: "Axes | None") -> "Axes":
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(layout="constrained")[1]
    return ax


def color_scale(values: np.ndarray) -> "tuple[Normalize, Colormap]":
    """Viridis without its pale end, over the logarithm."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    shades = colormaps["viridis"](np.linspace(0, 0.9, 64))
    norm = LogNorm(float(values.min()) / 1.05, float(values.max()) * 1.05)
    return norm, LinearSegmentedColormap.from_list("budget", shades)


def name_axis(ax: "Axes", name: str) -> None:
    log_axis(ax, "x", LABELS.get(name, name), power_of_ten if name == "C" else count)


def loss_axis(ax: "Axes", loss: np.ndarray) -> None:
    ax.set_ylabel("loss")
    if loss.max() > 3 * loss.min():
        log_axis(ax, "y", "loss", count)


def log_axis(ax: "Axes", which: str, label: str, write: Callable[[float], str]) -> None:
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
        if len(ticks) >= (2 if write is power_of_ten else 4):
            break
    ticks = ticks[:: 1 + len(ticks) // 9]
    axis.set_ticks(ticks, labels=[write(float(tick)) for tick in ticks])
    axis.set_minor_locator(LogLocator(subs=range(2, 10)))
    axis.set_minor_formatter(NullFormatter())


def count(value: float) -> str:
    """70M, 1.5B, 2T: how the field writes parameters and tokens."""
    for scale, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if max(scale, 1e4) <= value * (1 + 1e-9) < 1e15:
            return f"{value / scale:.6g}{suffix}"
    return f"{value:g}" if 1e-3 <= value < 1e6 else power_of_ten(value)


def power_of_ten(value: float) -> str:
    exponent = int(np.floor(np.log10(value) + 1e-9))
    factor = f"{value / 10.0**exponent:.3g}"
    lead = "" if factor == "1" else rf"{factor} \times "
    return rf"${lead}10^{{{exponent}}}$"


def write(ax: "Axes", text: str, x: Any, y: Any, shift: tuple[float, float], **how: Any) -> None:
    """Text whose right end lies near a point."""
    how = {"ha": "right", "fontsize": "small", **how}
    ax.annotate(text, (float(x), float(y)), shift, textcoords="offset points", **how)


def name_points(ax: "Axes", x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> None:
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
                write(ax, name, x[i], y[i], shift, ha="left")
                taken.append((a, b, a + width, b + 9))
                break


def frame_of(data: Any, needed: Sequence[str], what: str) -> "pd.DataFrame":
    """The table itself or the ``frame()`` of a result, with the columns that a picture needs.

    Raises:
        DataError: if a column is missing or there are no rows.
    """
    frame = data.frame() if callable(getattr(data, "frame", None)) else data
    missing = [name for name in needed if name not in getattr(frame, "columns", ())]
    if missing:
        raise DataError(f"{what} needs the columns {', '.join(needed)}; {missing[0]!r} is missing")
    if not len(frame):
        raise DataError(f"{what} needs at least one row")
    return frame


def panels(ax: "Axes", boxes: Sequence[tuple[float, float, float, float]]) -> "list[Axes]":
    """Axes inside an Axes, at (left, bottom, width, height) in shares of it."""
    ax.set_axis_off()
    return [ax.inset_axes(box) for box in boxes]


def arrow(ax: "Axes", x: float, y: float, side: int, color: str) -> None:
    """An arrow from (x, y) to the left (-1) or right (+1), with the word open."""
    how = {"arrowstyle": "->", "color": color, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (x, y), (-side * 14, 0), textcoords="offset points", arrowprops=how)
    write(ax, "open", x, y, (side * -2, 5), ha="right" if side > 0 else "left", color=color)


def few_ticks(ax: "Axes", which: str, most: int = 4) -> None:
    """A linear axis with few round ticks."""
    from matplotlib.ticker import MaxNLocator

    (ax.xaxis if which == "x" else ax.yaxis).set_major_locator(MaxNLocator(most))
