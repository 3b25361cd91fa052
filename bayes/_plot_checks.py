"""Pictures of checks: leave-one-out PIT values and the ranks of simulation-based calibration."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

import jaxscale as js
from bayes._check import Check, loo_pit
from bayes._plot_style import (
    BLUE,
    GRAY,
    ORANGE,
    PALE,
    band,
    checked_names,
    collection,
    few_ticks,
    line,
    panel,
    title,
)
from bayes._posterior import Posterior
from bayes._sbc import SBC
from bayes._uniform import envelope, uniform_p

_LEVEL = 0.95
_COLUMNS = 4


def plot_loo_pit(source: Check | Posterior, **pc_kwargs: Any) -> Any:
    """F(z) - z of the leave-one-out PIT values z of the runs, in the band of uniform values.

    The band holds the whole curve of a sample of independent uniform values with probability 95%.
    A curve above zero on the left and below it on the right comes from predictions that are too
    narrow; the reverse, from predictions that are too wide; a curve on one side, from runs that lie
    below (above zero) or above (below zero) their predictions.

    Args:
        source: a `Check`, or a posterior whose PIT values are then computed.
        **pc_kwargs: passed to `PlotCollection.wrap`.

    Returns:
        An arviz-plots `PlotCollection` with one panel, ``pit``, and visuals ``band`` and ``ecdf``.

    Raises:
        DataError: for anything else.

    Source: Säilynoja et al. 2022, Statistics and Computing 32, 32 (the band).

    Example:
        >>> plot_loo_pit(check(post))
    """
    if isinstance(source, Check):
        pit, law = source.pit, source.law
    elif isinstance(source, Posterior):
        pit, law = loo_pit(source, source.key)[0], source.law.name
    else:
        raise js.DataError(
            f"plot_loo_pit needs a posterior or bayes.check(post), not {type(source).__name__}"
        )
    at, low, high = envelope(len(pit), level=_LEVEL)
    data = _differences({"pit": pit}, at)
    pc = collection(data, (5.0, 3.6), pc_kwargs)
    p = uniform_p(pit)
    _draw(pc, data, at, {"pit": (low, high)}, {"pit": p >= 1 - _LEVEL}, "uniform values, 95%")
    ax = panel(pc, "pit")
    ax.set(xlabel="LOO-PIT of a run", ylabel="ECDF - uniform")
    ax.margins(y=0.2)
    ax.legend(frameon=False, fontsize="small", loc="upper right")
    return title(pc, f"{law}: {_verdict(pit, p)} (LOO-PIT, p = {p:.2g})")


def _verdict(pit: np.ndarray, p: float) -> str:
    """What the PIT values say of the predictions."""
    if p >= 1 - _LEVEL:
        return f"predictions of {len(pit)} runs from the others are calibrated"
    bias, spread = np.sqrt(12) * (pit.mean() - 0.5), np.sqrt(12) * pit.std() - 1
    if abs(bias) > np.sqrt(2 / 5) ** -1 * abs(spread):
        return f"runs lie {'above' if bias > 0 else 'below'} their predictions too often"
    return f"predictions of runs from the others are too {'narrow' if spread > 0 else 'wide'}"


def plot_sbc(sbc: SBC, names: Any = None, **pc_kwargs: Any) -> Any:
    """F(z) - z of the relative ranks z of true values among draws, one panel per quantity.

    The bands hold all curves of a correct posterior with the probability 1 - alpha of the study;
    a quantity that leaves its band has a dashed orange line. A curve above zero on the left and
    below it on the right comes from posteriors that are too narrow; the reverse, from too wide.

    Args:
        sbc: a result of `sbc`.
        names: quantities; default all of them.
        **pc_kwargs: passed to `PlotCollection.wrap`, such as ``col_wrap=3``.

    Returns:
        An arviz-plots `PlotCollection` with one panel per quantity, and visuals ``band`` and
        ``ecdf``.

    Raises:
        DataError: for anything else, or a quantity that was not ranked.

    Source: Talts et al. 2018, arXiv 1804.06788; Säilynoja et al. 2022.

    Example:
        >>> plot_sbc(sbc(fit, key=jax.random.key(0)))
    """
    if not isinstance(sbc, SBC):
        raise js.DataError(f"plot_sbc needs a result of bayes.sbc, not {type(sbc).__name__}")
    names = checked_names(list(sbc.ranks) if names is None else names, sbc.ranks, "this study")
    at, low, high = sbc.band(1 - sbc.alpha / len(sbc.ranks))
    data = _differences({name: sbc.ranks[name] / (sbc.draws + 1) for name in names}, at)
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    pc = collection(
        data,
        (max(5.0, 2.2 * columns), 0.8 + 1.8 * rows),
        pc_kwargs,
        cols=["__variable__"],
        col_wrap=columns,
        figure_kwargs={"sharey": True, "sharex": True},
    )
    found = sbc.table.set_index("quantity")
    ok = {name: bool(found.loc[name, "ok"]) for name in names}
    _draw(pc, data, at, dict.fromkeys(names, (low, high)), ok, "")
    for i, name in enumerate(names):
        ax = panel(pc, name)
        ax.tick_params(labelbottom=i + columns >= len(names))
        ax.set_title(f"{name} (p = {found.loc[name, 'ecdf_p']:.2g})", fontsize="small")
    figure = pc.viz["figure"].item()
    figure.supxlabel(f"relative rank among {sbc.draws} draws", fontsize="medium")
    figure.supylabel("ECDF - uniform", fontsize="medium")
    bad = [name for name in names if not ok[name]]
    said = (
        f"true values do not rank evenly for {', '.join(bad)}"
        if bad
        else f"true values rank evenly among their draws in all {len(names)} quantities"
    )
    return title(pc, f"{sbc.law}, {sbc.sims} simulated tables: {said}")


def _differences(values: Mapping[str, np.ndarray], at: np.ndarray) -> xr.Dataset:
    """F(z) - z at the points, by variable, with zero at both ends."""
    found = {}
    for name, x in values.items():
        share = np.searchsorted(np.sort(x + 1e-9), at, side="right") / len(x)
        found[name] = ("z", np.concatenate([[0.0], share - at, [0.0]]))
    return xr.Dataset(found, coords={"z": np.concatenate([[0.0], at, [1.0]])})


def _draw(
    pc: Any,
    data: xr.Dataset,
    at: np.ndarray,
    ends: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ok: Mapping[str, bool],
    label: str,
) -> None:
    """Bands, curves and the line at zero."""
    z = np.asarray(data["z"])
    low_high = {
        name: (("end", "z"), np.pad(np.stack(both) - at, ((0, 0), (1, 1))))
        for name, both in ends.items()
    }
    pc.map(band, "band", data=xr.Dataset(low_high), x=z, color=PALE, label=label, zorder=1)
    pc.map(_curve, "ecdf", data=data, ok=ok, subset_info=True)
    for name in data.data_vars:
        ax = panel(pc, str(name))
        ax.axhline(0, color=GRAY, lw=0.7, zorder=1.5)
        ax.set_xlim(0, 1)
        few_ticks(ax)
        ax.set_xticks([0, 0.5, 1], labels=["0", "0.5", "1"])


def _curve(da: Any, target: Any, *, var_name: str, ok: Mapping[str, bool], **_: Any) -> Any:
    good = ok[var_name]
    look = {"color": BLUE if good else ORANGE, "ls": "-" if good else (0, (4, 1.5)), "lw": 1.5}
    return line(da, target, x=da["z"], zorder=3, **look)
