"""Pictures of what a posterior predicts: the runs it was fitted to, and compute-optimal sizes."""

import dataclasses
from typing import Any

import jax
import numpy as np
import xarray as xr

import jaxscale as js
from bayes._plot_style import (
    BLUE,
    DEEP,
    DOTS,
    GRAY,
    LABELS,
    MEDIUM,
    PALE,
    SKY,
    band,
    bars,
    collection,
    count,
    draws_of,
    input_axis,
    line,
    log_axis,
    panel,
    power_of_ten,
    seen,
    title,
)

_LEVELS = (0.9, 0.5)
_MEMBERS = 250
_POINTS = 120
_BUDGETS = 81
_REACH = 100.0
_WIDE = 3.0  # ratio of losses from which their axis is logarithmic
# Shade and width in points of what is drawn, from the back to the front.
_LOOKS = {
    "run_90": (PALE, 4.6, "new run, 90%"),
    "run_50": (MEDIUM, 4.6, "new run, 50%"),
    "law_90": (SKY, 2.2, "law, 90%"),
    "law_50": (DEEP, 2.2, "law, 50%"),
}
_FRONTIER = {
    "N": ("compute-optimal parameters N*", "Optimal parameters", count),
    "D": ("compute-optimal training tokens D*", "Optimal training tokens", count),
    "tokens_per_parameter": (
        "compute-optimal tokens per parameter D*/N*",
        "Optimal tokens per parameter",
        lambda value: f"{value:.3g}",
    ),
}


def plot_predictive(post: Any, x: str | None = None, **pc_kwargs: Any) -> Any:
    """Observed losses over what the posterior predicts for them, and how far they miss it.

    Above, the losses; below, their distance from the posterior median in percent, where a law that
    describes the runs leaves no trend and bands that are right hold their share of the points. The
    bands of a new run are grey, those of the law blue. For a law in several inputs every run has
    its own bands, as bars, because runs of one x differ in the other inputs.

    Args:
        post: a posterior of a fit with its runs, one set of a hierarchy, or draws.
        x: ``"C"`` for 6 N D, or an input of the law; default C for a law with N and D, else the
            first input.
        **pc_kwargs: passed to `PlotCollection.wrap`, such as ``figure_kwargs={"figsize": (5, 4)}``.

    Returns:
        An arviz-plots `PlotCollection` with panels ``loss`` and ``miss``, and visuals ``run_90``,
        ``run_50``, ``law_90``, ``law_50``, ``median`` and ``runs``.

    Raises:
        DataError: for anything but draws with runs, or an unknown `x`.

    Source: Gabry et al. 2019, JRSS A 182(2) (posterior predictive checks as pictures).

    Example:
        >>> plot_predictive(sample(fit, key=key), x="N")
    """
    draws = draws_of(post)
    inputs, loss = seen(draws)
    x = x or ("C" if "C" in inputs else draws.law.inputs[0])
    if x not in inputs:
        raise js.DataError(f"x must be one of {', '.join(inputs)}, got {x!r}")
    smooth = len(draws.law.inputs) == 1
    grid = {x: _around(inputs[x])} if smooth else inputs
    curves = _bands(draws, grid)
    at_runs = _bands(draws, inputs) if smooth else curves
    order = np.argsort(-np.abs(np.log(loss / at_runs["median"])))  # the worst first, below others
    points = xr.Dataset({"loss": ("run", loss)})
    points["miss"] = 100 * (points["loss"] / xr.DataArray(at_runs["median"], dims="run") - 1)
    pc = collection(
        points,
        (6.0, 5.6),
        pc_kwargs,
        cols=["__variable__"],
        col_wrap=1,
        figure_kwargs={"sharex": "col", "height_ratios": (1.25, 1)},
    )
    for name, (shade, width, label) in _LOOKS.items():
        data = _panels(curves[name], curves["median"])
        look = {"color": shade, "label": label, "zorder": 2}
        if smooth:
            pc.map(band, name, data=data, x=grid[x], **look)
        else:
            pc.map(bars, name, data=data, x=grid[x], lw=width, **look)
    middle = _panels(curves["median"], curves["median"])
    mark: dict[str, Any] = {"color": "black", "lw": 1.0, "zorder": 2.5}
    if not smooth:
        mark |= {"ls": "none", "marker": "_", "ms": 5, "mew": 0.8}
    pc.map(line, "median", data=middle, x=grid[x], label="median", **mark)
    pc.map(
        line,
        "runs",
        data=points.isel(run=order),
        x=inputs[x][order],
        label="runs",
        zorder=3,
        **{**DOTS, "ms": 3.2},
    )
    _finish_predictive(pc, x, loss)
    inside = (loss >= at_runs["run_90"][0]) & (loss <= at_runs["run_90"][1])
    return title(
        pc,
        f"{draws.law.name}: {np.mean(inside):.0%} of {len(loss)} runs lie in the 90% band of a "
        "new run",
    )


def _around(x: np.ndarray) -> np.ndarray:
    return np.geomspace(x.min() / 1.1, x.max() * 1.1, _POINTS)


def _bands(draws: js.Draws, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """Median, and lower and upper ends (2, points) of the law and of a new run."""
    given = {name: inputs[name] for name in draws.law.inputs}
    losses = jax.vmap(lambda p: draws.law(*given.values(), **p))(draws.params)
    some = _thinned(draws)
    ends: dict[str, np.ndarray] = {"median": np.nanmedian(losses, axis=0)}
    for level in _LEVELS:
        tails = [(1 - level) / 2, (1 + level) / 2]
        found = js.predict(some, level=level, **given)
        ends[f"law_{100 * level:.0f}"] = np.nanquantile(losses, tails, axis=0)
        ends[f"run_{100 * level:.0f}"] = np.stack([found.run_low, found.run_high])
    return ends


def _thinned(draws: js.Draws) -> js.Draws:
    """Some of the draws: the mixture that a new run has is as smooth with a few of them."""
    step = max(1, len(draws) // _MEMBERS)
    return dataclasses.replace(
        draws,
        params={name: values[::step] for name, values in draws.params.items()},
        scale=draws.scale[::step],
        value=None if draws.value is None else draws.value[::step],
        noise=jax.tree.map(lambda x: x[::step] if np.ndim(x) else x, draws.noise),
    )


def _panels(values: np.ndarray, median: np.ndarray) -> xr.Dataset:
    """Losses as they are, and as percent above the median."""
    dims = ["end", "point"][-values.ndim :]
    return xr.Dataset({"loss": (dims, values), "miss": (dims, 100 * (values / median - 1))})


def _finish_predictive(pc: Any, x: str, loss: np.ndarray) -> None:
    upper, lower = panel(pc, "loss"), panel(pc, "miss")
    upper.set_ylabel("loss")
    if loss.max() > _WIDE * loss.min():
        log_axis(upper, "y", "loss", count)
    lower.axhline(0, color=GRAY, lw=0.7, zorder=1)
    lower.set_ylabel("loss above the median (%)")
    input_axis(lower, x)
    handles, labels = upper.get_legend_handles_labels()
    upper.legend(handles[::-1], labels[::-1], frameon=False, fontsize="small", loc="upper right")


def plot_frontier(
    post: Any,
    flop: Any = None,
    quantity: str = "N",
    *,
    level: float = 0.9,
    force: bool = False,
    **pc_kwargs: Any,
) -> Any:
    """Compute-optimal size over the budget with its posterior band, and the runs.

    The line is dashed where the budget, N* or D* lies outside the runs. The title gives the band at
    the largest budget.

    Args:
        post: a posterior of a law in N and D, one set of a hierarchy, or draws.
        flop: budgets, in FLOPs; default from the smallest run to 100 times the largest.
        quantity: ``"N"``, ``"D"`` or ``"tokens_per_parameter"``.
        level: probability content of the band.
        force: go on with draws that are in doubt, and say so in the title.
        **pc_kwargs: passed to `PlotCollection.wrap`.

    Returns:
        An arviz-plots `PlotCollection` with one panel, named by the quantity, and visuals ``band``,
        ``median``, ``known`` (where the line lies inside the runs) and ``runs``.

    Raises:
        DataError: for another quantity, fewer than two budgets, or anything but draws with runs.
        FitError: for draws that are in doubt, without `force`.
        LawError: if the law is not one in N and D, or has no compute-optimal size.

    Example:
        >>> plot_frontier(post, flop=np.geomspace(1e18, 1e26, 60), quantity="tokens_per_parameter")
    """
    draws = draws_of(post)
    if quantity not in _FRONTIER:
        raise js.DataError(f"quantity must be one of {', '.join(_FRONTIER)}, got {quantity!r}")
    inputs, _ = seen(draws)
    if flop is None and "C" in inputs:
        flop = np.geomspace(inputs["C"].min(), _REACH * inputs["C"].max(), _BUDGETS)
    budget = np.sort(np.ravel(np.asarray([] if flop is None else flop, float)))
    if flop is not None and len(budget) < 2:
        raise js.DataError("a frontier is a line: give at least two budgets in flop")
    # Sizes do not depend on how a run scatters, which takes most of the time.
    sizes = dataclasses.replace(draws, noise=None)
    found = js.allocate(sizes, flop=budget, level=level, force=force)
    middle = np.asarray(getattr(found, quantity))
    data = xr.Dataset({quantity: ("flop", middle)}, coords={"flop": budget})
    ends = xr.Dataset({quantity: (("end", "flop"), np.stack(found.bands[quantity]))})
    shown = {**inputs, "tokens_per_parameter": inputs["D"] / inputs["N"]}[quantity]
    runs = xr.Dataset({quantity: ("run", shown)})
    known = _known(inputs, {"C": budget, "N": np.asarray(found.N), "D": np.asarray(found.D)})
    pc = collection(data, (6.0, 4.2), pc_kwargs)
    dots = {**DOTS, "ms": 3, "color": GRAY, "alpha": 0.7}
    pc.map(line, "runs", data=runs, x=inputs["C"], label="runs", zorder=1.5, **dots)
    pc.map(band, "band", data=ends, x=budget, color=SKY, alpha=0.75, label=f"{level:.0%} band")
    dashes = {"color": BLUE, "lw": 1.4, "ls": (0, (4, 3)), "zorder": 3}
    pc.map(line, "median", x=budget, label="beyond the runs", **dashes)
    inside = data.where(xr.DataArray(known, dims="flop"))
    pc.map(line, "known", data=inside, x=budget, color=BLUE, lw=2.2, zorder=3.1, label="median")
    label, words, text = _FRONTIER[quantity]
    ax = panel(pc, quantity)
    log_axis(ax, "x", LABELS["C"], power_of_ten)
    log_axis(ax, "y", label, text)
    ax.legend(fontsize="small", framealpha=0.9, edgecolor="none")
    low, high = (text(float(end[-1])) for end in found.bands[quantity])
    said = f"{words} at {power_of_ten(_rounded(budget[-1]))} FLOPs: {low} to {high} ({level:.0%})"
    return title(pc, f"{said}; in doubt" if draws.doubt else said)


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _known(inputs: dict[str, np.ndarray], curve: dict[str, np.ndarray]) -> np.ndarray:
    """Where the curve lies inside the runs."""
    inside = np.ones(len(curve["C"]), bool)
    for name, values in curve.items():
        low, high = inputs[name].min(), inputs[name].max()
        inside &= (values >= low * (1 - 1e-9)) & (values <= high * (1 + 1e-9))
    return inside
