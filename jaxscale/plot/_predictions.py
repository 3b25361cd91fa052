"""Predicted loss with its two bands, over one input."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxscale._draws import as_draws
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._predict import predict
from jaxscale.plot._style import (
    BLUE,
    DOTS,
    GRAY,
    ORANGE,
    axes,
    loss_axis,
    name_axis,
    single,
    table,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 120
_NEAR = 0.5


def predictions(
    source: Any,
    *,
    over: str | None = None,
    ratio: float | None = None,
    fixed: dict[str, float] | None = None,
    level: float = 0.9,
    reach: float = 100.0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Predicted loss over one input: the band of the law inside the band of a new run.

    A law in N and D is drawn along the ray D = ratio N, in N, in D or in the compute C = 6 N D.
    The runs shown are those within 50% of the ray; a dashed line marks where they all end.

    Args:
        source: `Draws`, a posterior, or a fit (which has no bands).
        over: ``"N"``, ``"D"``, ``"C"`` or another input of the law; default C, or the first input.
        ratio: tokens per parameter of the ray; default the median of the runs.
        fixed: other inputs held at these values, instead of on the ray; default the middle of
            their range.
        level: probability content of the bands.
        reach: how far beyond the largest run, as a factor.

    Raises:
        DataError: for an unknown input, or a fit of several data sets.

    Example:
        >>> predictions(boot, over="C", ratio=20)
    """
    draws = as_draws(source)
    fit = single(source if draws is None else draws.fit)
    on_ray = set(fit.law.inputs) == {"N", "D"} and not fixed
    over = over or ("C" if on_ray else next(n for n in fit.law.inputs if n not in (fixed or {})))
    choices = (*fit.law.inputs, "C") if on_ray else fit.law.inputs
    if over not in choices or over in (fixed or {}):
        raise DataError(f"over must be one of {', '.join(choices)} and not fixed, got {over!r}")
    if on_ray:
        ratio = ratio or _typical_ratio(fit)
        low, high = _extent(fit, over)
        x = np.geomspace(low, reach * high, _POINTS)
        inputs, said = _on_ray(over, x, ratio), f"D/N = {ratio:.3g}"
    else:
        low, high = _extent(fit, over)
        x = np.geomspace(low, reach * high, _POINTS)
        others: dict[str, Any] = {n: _middle(fit, n) for n in fit.law.inputs if n != over} | (
            fixed or {}
        )
        inputs = others | {over: x}
        said = ", ".join(f"{name} = {value:.4g}" for name, value in others.items())
    found = predict(source, level=level, **inputs)
    ax = axes(ax)
    if found.run_low is not None:
        ax.fill_between(x, found.run_low, found.run_high, color=GRAY, alpha=0.25, lw=0)
        ax.fill_between(x, found.law_low, found.law_high, color=BLUE, alpha=0.35, lw=0)
        for edge in (found.run_low, found.run_high):
            ax.plot(x, edge, color=GRAY, lw=0.9, ls=":")
        ax.fill_between([], [], color=BLUE, alpha=0.35, label=f"law, {level:.0%}")
        ax.fill_between([], [], color=GRAY, alpha=0.25, label=f"new run, {level:.0%}")
    ax.plot(x, found.mean, color=BLUE, lw=1.8, label="prediction")
    _runs_near(ax, fit, over, {k: v for k, v in inputs.items() if k != over}, ratio)
    ax.axvline(high, color="black", lw=0.9, ls="--")
    name_axis(ax, over)
    loss_axis(ax, np.asarray(found.mean))
    write(ax, "largest run", high, ax.get_ylim()[1], (-3, -11), ha="right", color="black")
    ax.legend(frameon=False, fontsize="small")
    ax.set_title(f"Predicted loss{f' ({said})' if said else ''}", size="medium")
    return ax


def _typical_ratio(fit: Fit) -> float:
    if fit.runs is None:
        return _middle(fit, "D") / _middle(fit, "N")
    inputs = table(fit)[0]
    return float(np.median(inputs["D"] / inputs["N"]))


def _middle(fit: Fit, name: str) -> float:
    return float(np.sqrt(np.prod([float(end) for end in fit.ranges[name]])))


def _extent(fit: Fit, over: str) -> tuple[float, float]:
    if over != "C":
        low, high = fit.ranges[over]
        return float(low), float(high)
    ends = fit.ranges if fit.runs is None else table(fit)[0]
    C = 6 * np.asarray(ends["N"], float) * np.asarray(ends["D"], float)
    return float(C.min()), float(C.max())


def _on_ray(over: str, x: np.ndarray, ratio: float) -> dict[str, Any]:
    N = {"N": x, "D": x / ratio, "C": np.sqrt(x / (6 * ratio))}[over]
    return {"N": N, "D": ratio * N}


def _runs_near(
    ax: "Axes", fit: Fit, over: str, others: dict[str, Any], ratio: float | None
) -> None:
    """The runs near the ray, or near the values at which other inputs are held."""
    if fit.runs is None:
        return
    inputs, loss, _ = table(fit)
    off = np.zeros(len(loss))
    if ratio is not None:
        off = np.abs(np.log(inputs["D"] / inputs["N"] / ratio))
    else:
        for name, value in others.items():
            off = np.maximum(off, np.abs(np.log(inputs[name] / float(value))))
    near = off <= np.log1p(_NEAR)
    x = 6 * inputs["N"] * inputs["D"] if over == "C" else inputs[over]
    if near.any():
        label = "runs" if near.all() else f"runs within {_NEAR:.0%}"
        ax.plot(x[near], loss[near], **{**DOTS, "color": ORANGE, "ms": 4, "label": label})
