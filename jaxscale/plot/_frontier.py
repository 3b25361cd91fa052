"""The compute-optimal frontier over the budget."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxscale._allocate import allocate
from jaxscale._draws import as_draws
from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit
from jaxscale._frontier import Frontier
from jaxscale._limit import Limit
from jaxscale.flops import FlopFunction, six_nd
from jaxscale.plot._style import (
    BLUE,
    DOTS,
    GRAY,
    ORANGE,
    axes,
    count,
    log_axis,
    power_of_ten,
    single,
    table,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def frontier(
    source: Any,
    *,
    flop: Any = None,
    cost: FlopFunction | None = None,
    limits: Iterable[Limit] = (),
    level: float | None = None,
    force: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """Compute-optimal parameters N* and training tokens D* over the budget C.

    The lines are dashed where the budget, N* or D* lies outside the runs, whose N and D are the
    faint points. Bands are drawn if the source has them. Where a limit binds, the lines are thin.

    Args:
        source: a fit of one data set of a law in N and D, its `Draws`, a posterior, or a
            `Frontier`.
        flop: budgets, in FLOPs; default: from the smallest run to 100 times the largest.
        cost: ``cost(N, D)`` in FLOPs; default 6 N D.
        limits: limits, as for `jaxscale.allocate`.
        level: probability content of the bands; default 0.9.
        force: draw it from draws that are in doubt, too; the title then says so.

    Raises:
        FitError: for draws that are in doubt, without `force`.
        DataError: for a stack, or `flop`, `cost`, `limits` or `level` given with a `Frontier`.
        LawError: if the law is not one in N and D, or has no compute-optimal size.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, equation 4.

    Example:
        >>> frontier(fit, flop=np.geomspace(1e18, 1e26, 60))
    """
    doubt = ""
    if isinstance(source, Frontier):
        if not (flop is None and cost is None and level is None and not tuple(limits)):
            raise DataError(
                "a Frontier has its budgets, cost, limits and level; give flop, cost, limits and "
                "level with a fit"
            )
        line, runs = source, False
        seen = {name: np.asarray(ends, float) for name, ends in source.ranges.items()}
    else:
        draws = as_draws(source)
        fit, doubt = (source, "") if draws is None else (draws.fit, draws.doubt)
        seen, runs, cost = _seen(fit, cost or six_nd), fit.runs is not None, cost or six_nd
        if flop is None:
            flop = np.geomspace(seen["C"].min(), 100 * seen["C"].max(), 121)
        budgets = np.asarray(flop, float)
        line = allocate(
            source, flop=budgets, cost=cost, limits=tuple(limits), level=level or 0.9, force=force
        )
    order = np.argsort(np.ravel(line.flop))
    C, N, D = (np.ravel(np.asarray(v, float))[order] for v in (line.flop, line.N, line.D))
    known = _inside(seen, {"C": C, "N": N, "D": D})
    bound = np.array([bool(name) for name in line.binding], bool)[order] if line.binding else None
    ax = axes(ax)
    for name, values, color in (("N", N, BLUE), ("D", D, ORANGE)):
        if runs:
            ax.plot(seen["C"], seen[name], ms=2.5, **{**DOTS, "color": color, "alpha": 0.25})
        if name in line.bands:
            low, high = (np.ravel(np.asarray(v, float))[order] for v in line.bands[name])
            ax.fill_between(C, low, high, color=color, alpha=0.18, lw=0)
        free = values if bound is None else np.where(bound, np.nan, values)
        ax.plot(C, free, color=color, lw=1.4, ls=(0, (4, 3)), zorder=3)
        ax.plot(C, np.where(known, free, np.nan), color=color, lw=2.2, zorder=3)
        if bound is not None:
            # Up to the last free point, so that the line has no gap.
            reach = bound | np.append(bound[1:], False) | np.append(False, bound[:-1])
            ax.plot(C, np.where(reach, values, np.nan), color=color, lw=0.9, zorder=3)
        write(ax, f"{name}*", C[-1], values[-1], (-4, 6), color=color, weight="bold")
    for i in np.unique([len(C) // 4, len(C) // 2, (4 * len(C)) // 5]):
        ax.plot([C[i], C[i]], [N[i], D[i]], color=GRAY, lw=0.8, ls=":")
        write(ax, f"D*/N* = {D[i] / N[i]:.3g}", C[i], max(N[i], D[i]), (2, 5))
    ax.margins(y=0.1)
    log_axis(ax, "x", "training compute C (FLOPs)", power_of_ten)
    log_axis(ax, "y", "parameters N*, training tokens D*", count)
    said = ["in doubt"] if doubt else []
    said += [f"{line.level:.0%} bands"] if line.bands and line.level else []
    said += [] if known.all() else ["dashed: beyond the runs"]
    said += ["thin: at a limit"] if bound is not None and bound.any() else []
    note = f" ({'; '.join(said)})" if said else ""
    ax.set_title(f"Compute-optimal sizes{note}", size="medium")
    return ax


def _inside(seen: dict[str, np.ndarray], line: dict[str, np.ndarray]) -> np.ndarray:
    """Where the frontier lies inside the runs, as far as their ranges are known."""
    known = np.ones(len(line["C"]), bool)
    for name in set(seen) & set(line):
        low, high = seen[name].min() * (1 - 1e-9), seen[name].max() * (1 + 1e-9)
        known &= (line[name] >= low) & (line[name] <= high)
    return known


def _seen(fit: Fit, cost: FlopFunction) -> dict[str, np.ndarray]:
    """Inputs and compute of the runs, or the corners of their range if they are not at hand."""
    ranges = {name: np.asarray(ends, float) for name, ends in single(fit).ranges.items()}
    if set(ranges) != {"N", "D"}:
        raise LawError(f"law {fit.law.name!r} is not one in N and D, so it has no frontier")
    seen = ranges if fit.runs is None else table(fit)[0]
    return {**seen, "C": np.asarray(cost(seen["N"], seen["D"]), float)}
