"""The runs of a plan among those there are and those there could be."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxscale._belief import members_of
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._plan import Plan
from jaxscale.plot._style import (
    DOTS,
    GRAY,
    LABELS,
    ORANGE,
    axes,
    color_scale,
    count,
    log_axis,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST = 1e-4  # of the highest gain per FLOP; what lies below looks alike
_SIZE = 46.0


def plan(
    plan: Plan, *, x: str | None = None, y: str | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Runs to train (rings, with a number where a run has several seeds) over two inputs.

    Candidates are squares, darker where one run improves the criterion more per FLOP; runs so far
    are gray points. A plan in one input is drawn over the gain per FLOP itself.

    Args:
        plan: the plan.
        x, y: inputs to draw over; default the first two of the law.
        ax: where to draw.

    Raises:
        DataError: for an input that the plan does not have.

    Example:
        >>> plan(js.plan(fit, candidates=grid, budget=1e21, target="a"))
    """
    law = _law(plan)
    names = [x or law.inputs[0], y or (law.inputs[1] if len(law.inputs) > 1 else "gain")]
    missing = [name for name in names if name not in (*law.inputs, "gain")]
    if missing:
        raise DataError(f"the plan has no input {missing[0]!r}; it has {', '.join(law.inputs)}")
    ax = axes(ax)
    seen = _runs(plan, names)
    table = plan.prospects.assign(gain=plan.prospects["gain"] / plan.prospects["flop"])
    table = table[table["gain"] > 0]
    chosen = table[table["times"] > 0]
    if names[1] == "gain":
        ax.plot(table[names[0]], table["gain"], ms=3, **{**DOTS, "color": GRAY})
    else:
        _shade(ax, table, names)
        if seen is not None:
            ax.plot(*seen, ls="none", marker="o", ms=3, mfc="white", mec=GRAY, mew=0.8, zorder=3)
    ax.scatter(
        chosen[names[0]], chosen[names[1]], s=_SIZE, facecolors="none", edgecolors=ORANGE,
        linewidths=1.8, zorder=4,
    )  # fmt: skip
    for row in chosen[chosen["times"] > 1].to_dict("records"):
        write(
            ax, rf"$\times${row['times']}", row[names[0]], row[names[1]], (6, 4), ha="left",
            color=ORANGE, weight="bold",
        )  # fmt: skip
    ax.margins(0.06)
    log_axis(ax, "x", LABELS.get(names[0], names[0]), count)
    log_axis(ax, "y", _label(plan, names[1]), count)
    first = plan.uncertainty.iloc[0]
    shrunk = f"standard error {first.se_before:.3g} → {first.se_after:.3g}"
    ax.set_title(f"{len(plan)} runs for {first.target}: {shrunk}", size="medium")
    return ax


def _law(plan: Plan) -> Any:
    members = members_of(plan.source)
    return plan.source.law if members is None else members.law


def _label(plan: Plan, name: str) -> str:
    if name == "gain":
        return f"gain of one run per FLOP (criterion {plan.criterion})"
    return LABELS.get(name, name)


def _runs(plan: Plan, names: list[str]) -> Any:
    """Two inputs of the runs so far, if they are at hand."""
    members = members_of(plan.source)
    fit = plan.source if members is None else members.fit
    if not isinstance(fit, Fit) or fit.runs is None or "gain" in names:
        return None
    real = np.asarray(fit.runs.weight) > 0
    return [np.asarray(fit.runs.inputs[name], float)[real] for name in names]


def _shade(ax: "Axes", table: Any, names: list[str]) -> None:
    """Candidates colored by gain per FLOP, relative to the best."""
    gain = table["gain"].to_numpy(float)
    share = np.maximum(gain / gain.max(), _LEAST)
    norm, shades = color_scale(np.array([share.min(), 1.0]))
    points = ax.scatter(
        table[names[0]], table[names[1]], c=share, norm=norm, cmap=shades.reversed(),
        marker="s", s=22, linewidths=0, alpha=0.8, zorder=2,
    )  # fmt: skip
    bar = ax.figure.colorbar(points, ax=ax, fraction=0.05, pad=0.02)
    bar.set_label("gain of one run per FLOP, share of the best", size="small")
