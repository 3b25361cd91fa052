"""What the pictures share: colors, the collection of panels, logarithmic axes and labels."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import jaxscale as js

# Okabe and Ito's blue and vermilion, and shades that differ in lightness: greyscale keeps them.
BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#6b6b6b"
PALE, MEDIUM = "#dcdcdc", "#b3b3b3"  # of a new run: 90%, 50%
SKY, DEEP = "#7fb8dc", BLUE  # of the law: 90%, 50%
DOTS: dict[str, Any] = {"ls": "none", "marker": "o", "color": "black", "mfc": "none", "mew": 0.7}
LABELS = {
    "N": "parameters N",
    "D": "training tokens D",
    "C": "training compute C = 6ND (FLOPs)",
}
_CHARACTERS = 13.0  # of a title, per inch
_MULTIPLES = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(np.arange(10, 100) / 10))
_LEAST_TICKS = 3


def draws_of(source: Any) -> js.Draws:
    """The draws of a posterior, of one set of a hierarchy, or draws themselves.

    Raises:
        DataError: for anything else.
    """
    if isinstance(source, js.Draws):
        return source
    draws = getattr(source, "draws", None)  # a posterior, a member, a comparison
    if isinstance(draws, js.Draws):
        return draws
    raise js.DataError(
        f"this picture needs a posterior, such as bayes.sample(fit, key=key), not "
        f"{type(source).__name__}"
    )


def seen(draws: js.Draws) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs and losses of the runs that count; with N and D, also their compute C = 6 N D.

    Raises:
        DataError: for draws without runs.
    """
    runs = draws.runs
    if runs is None:
        raise js.DataError("these draws were loaded without their runs; use load(path, runs=runs)")
    real = np.asarray(runs.weight) > 0
    inputs = {name: np.asarray(runs.inputs[name], float)[real] for name in draws.law.inputs}
    if {"N", "D"} <= set(inputs):
        inputs["C"] = js.flops.six_nd(inputs["N"], inputs["D"])
    return inputs, np.asarray(runs.loss, float)[real]


def checked_names(names: Any, known: Mapping[str, Any] | tuple[str, ...], what: str) -> list[str]:
    """Names as a list, each of them known.

    Raises:
        DataError: for an unknown name, or none at all.
    """
    found = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in found if name not in known]
    if unknown:
        raise js.DataError(f"{what} has no {unknown[0]!r}; it has {', '.join(known)}")
    if not found:
        raise js.DataError(f"names is empty; {what} has {', '.join(known)}")
    return found


def collection(
    data: Any, size: tuple[float, float], given: Mapping[str, Any], **defaults: Any
) -> Any:
    """A `PlotCollection` in Matplotlib, by `PlotCollection.wrap`.

    Args:
        data: Dataset whose variables are the panels.
        size: width and height of the figure in inches.
        given: the user's options, which win over `defaults`.

    Raises:
        DataError: for another backend.
    """
    import arviz_plots

    figure = {"figsize": size, **defaults.pop("figure_kwargs", {})}
    options = {**defaults, **matplotlib_only(given)}
    options["figure_kwargs"] = {
        "layout": "constrained", **figure, **options.get("figure_kwargs", {})
    }  # fmt: skip
    return arviz_plots.PlotCollection.wrap(data, **options)


def matplotlib_only(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the backend filled in.

    Raises:
        DataError: for another one.
    """
    if given.get("backend", "matplotlib") != "matplotlib":
        raise js.DataError(
            f"the axes of these pictures are Matplotlib's; backend={given['backend']!r} cannot "
            "draw them"
        )
    return {**given, "backend": "matplotlib"}


def title(pc: Any, text: str) -> Any:
    """The collection, with a title that is wrapped to the width of the figure."""
    figure = pc.viz["figure"].item()
    width = int(_CHARACTERS * figure.get_figwidth())
    figure.suptitle(textwrap.fill(text, width), fontsize="medium")
    return pc


def panel(pc: Any, variable: str) -> Any:
    """The Axes of a variable."""
    return pc.get_viz("plot", variable)


def band(da: Any, target: Any, *, x: Any, **look: Any) -> Any:
    """The area between two curves, (2, points)."""
    low, high = np.asarray(da)
    return target.fill_between(np.asarray(x), low, high, lw=0, **look)


def bars(da: Any, target: Any, *, x: Any, **look: Any) -> Any:
    """An upright line per point, from its lower to its upper end, (2, points)."""
    low, high = np.asarray(da)
    return target.vlines(np.asarray(x), low, high, **look)


def line(da: Any, target: Any, *, x: Any, **look: Any) -> Any:
    """A line, or points, over x."""
    return target.plot(np.asarray(x), np.asarray(da), **look)[0]


def ticks(low: float, high: float, least: int = _LEAST_TICKS, most: int = 8) -> np.ndarray:
    """From `least` to `most` round numbers between two positive ones."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    found = np.array([])
    for multiples in _MULTIPLES:
        found = np.outer(decades, multiples).ravel()
        found = found[(found >= low) & (found <= high)]
        if len(found) >= least:
            break
    return found[:: -(-len(found) // most)]


def log_axis(ax: Any, which: str, label: str, text: Callable[[float], str], most: int = 8) -> None:
    """A logarithmic axis with few, round, readable ticks."""
    from matplotlib.ticker import NullFormatter

    ax.set(**{f"{which}scale": "log", f"{which}label": label})
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = sorted(axis.get_view_interval())
    found = ticks(low, high, least=min(most, _LEAST_TICKS), most=most)
    axis.set_ticks(found, labels=[text(float(x)) for x in found])
    axis.set_minor_formatter(NullFormatter())


def input_axis(ax: Any, name: str) -> None:
    """The logarithmic x axis of an input, or of the compute C."""
    log_axis(ax, "x", LABELS.get(name, name), power_of_ten if name == "C" else count)


def count(value: float) -> str:
    """70M, 1.5B, 2T: how the field writes parameters and tokens."""
    for scale, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if max(scale, 1e4) <= value * (1 + 1e-9) < 1e15:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.4g}" if 1e-3 <= value < 1e6 else power_of_ten(value)


def power_of_ten(value: float) -> str:
    """3 x 10^19, in mathematical type."""
    exponent = int(np.floor(np.log10(value) + 1e-9))
    factor = f"{value / 10.0**exponent:.3g}"
    lead = "" if factor == "1" else rf"{factor} \times "
    return rf"${lead}10^{{{exponent}}}$"


def few_ticks(ax: Any, most: int = 4) -> None:
    """Linear axes with few round ticks."""
    from matplotlib.ticker import MaxNLocator

    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(most))
