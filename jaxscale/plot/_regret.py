"""What it costs to be wrong about the size."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxscale._errors import DataError
from jaxscale._regret import Regret, regret as regret_of
from jaxscale.flops import FlopFunction, six_nd
from jaxscale.plot._style import COLORS, GRAY, axes, log_axis, power_of_ten, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BUDGETS = len(COLORS)


def regret(
    source: Any,
    *,
    flop: Any = None,
    factor: Any = None,
    cost: FlopFunction | None = None,
    level: float | None = None,
    force: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """Loss lost over the size, for one budget or a few: solid at the estimate, with bands.

    With draws, the dashed line is the expected regret, and the dot is the size at which it is the
    least. Percentages say which share of the budget is wasted at the estimate.

    Args:
        source: a `Regret` over several factors, or what `jaxscale.regret` takes.
        flop: budgets, in FLOPs, at most seven.
        factor: sizes over the best one; default 41 of them from 1/8 to 8.
        cost: ``cost(N, D)`` in FLOPs; default 6 N D.
        level: probability content of the bands; default 0.9.
        force: draw it from a fit or draws in doubt, too.

    Raises:
        DataError: without budgets or with too many, or if options are given with a `Regret`.
        FitError, LawError: as for `jaxscale.regret`.

    Example:
        >>> regret(boot, flop=[1e21, 1e24])
    """
    if isinstance(source, Regret):
        if not (flop is None and factor is None and cost is None and level is None):
            raise DataError("a Regret has its budgets, sizes, cost and level already")
        found = source
    else:
        if flop is None:
            raise DataError("give the budgets: regret(source, flop=1e24)")
        sizes = np.geomspace(1 / 8, 8, 41) if factor is None else factor
        found = regret_of(
            source, flop=flop, factor=sizes, cost=cost or six_nd, level=level or 0.9, force=force
        )
    budgets = np.ravel(np.asarray(found.flop, float))
    if len(budgets) > _MOST_BUDGETS:
        raise DataError(f"a picture of regret shows {_MOST_BUDGETS} budgets, not {len(budgets)}")
    ax = axes(ax)
    for j, (budget, color) in enumerate(zip(budgets, COLORS, strict=False)):
        _one(ax, found, j, color, f"C = {power_of_ten(budget)} FLOPs")
    ax.set_ylim(bottom=0)
    log_axis(ax, "x", "size over the best size at the estimate, N / N*", "{:g}".format)
    ax.set_ylabel("loss lost")
    ax.legend(frameon=False, fontsize="small")
    said = f" ({found.level:.0%} bands; dashed: expected)" if found.level else ""
    ax.set_title(f"Regret of another size at equal compute{said}", size="medium")
    return ax


def _one(ax: "Axes", found: Regret, j: int, color: str, label: str) -> None:
    def column(values: Any) -> np.ndarray:
        return np.asarray(values, float).reshape(len(found.N), -1)[:, j]

    order = np.argsort(column(found.factor))
    k, lost, idle = (column(x)[order] for x in (found.factor, found.regret, found.wasted))
    if "regret" in found.bands:
        low, high = (column(x)[order] for x in found.bands["regret"])
        ax.fill_between(k, low, high, color=color, alpha=0.15, lw=0)
    ax.plot(k, lost, color=color, lw=2.0, label=label, zorder=3)
    if found.expected is not None:
        ax.plot(k, column(found.expected)[order], color=color, lw=1.4, ls=(0, (4, 3)), zorder=3)
        chosen = int(np.abs(np.log(k)).argmin())
        best = float(np.ravel(np.asarray(found.best_N))[j]) / column(found.N)[order][chosen]
        least = float(np.ravel(np.asarray(found.best_expected))[j])
        ax.plot([best * k[chosen]], [least], "o", color=color, ms=5, mec="white", zorder=4)
    if j == 0:  # the share that is wasted hardly depends on the budget
        for wanted in (0.25, 0.5, 2.0, 4.0):
            i = int(np.abs(np.log(k / wanted)).argmin())
            if abs(np.log(k[i] / wanted)) < 0.1:
                ha = "right" if wanted > 1 else "left"  # inside the valley, which is empty
                shift = (-6, -3) if wanted > 1 else (6, -3)
                write(ax, f"{idle[i]:.0%} wasted", k[i], lost[i], shift, ha=ha, color=GRAY)
