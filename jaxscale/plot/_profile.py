"""Profile likelihoods of one quantity and of two."""

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from jaxscale._errors import DataError
from jaxscale.plot._style import BLUE, GRAY, ORANGE, arrow, axes, few_ticks, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INSIDE = (0.68, 0.95)


def profile(profile: Any, *, ax: "Axes | None" = None) -> "Axes":
    """Deviance over the values of a quantity, and the values that the threshold leaves in.

    A side on which no value is excluded has an arrow with the word open.

    Args:
        profile: a profile: label, values, deviance, estimate, low, high (None: open), level,
            threshold.

    Example:
        >>> profile(js.profile(fit, "alpha"))
    """
    ax = axes(ax)
    x, y = np.asarray(profile.values, float), np.asarray(profile.deviance, float)
    order = np.argsort(x)
    x, y = x[order], y[order]
    top = 2.6 * profile.threshold
    ax.plot(x, y, color=BLUE, lw=1.8, zorder=3)
    ax.plot(x, y, "o", color=BLUE, ms=3, zorder=3)
    ax.plot([profile.estimate], [0], "D", color="black", ms=5, zorder=4, clip_on=False)
    ax.axhline(profile.threshold, color=ORANGE, ls="--", lw=1.2)
    shown = y <= top
    left, right = (x[shown].min(), x[shown].max()) if shown.any() else (x[0], x[-1])
    pad = 0.05 * (right - left)
    ends = [left if profile.low is None else profile.low]
    ends += [right if profile.high is None else profile.high]
    ax.axvspan(*ends, color=BLUE, alpha=0.12, lw=0)
    ax.set(xlim=(left - pad, right + pad), ylim=(0, top))
    for side, end in ((-1, profile.low), (1, profile.high)):
        if end is None:
            arrow(ax, left - pad if side < 0 else right + pad, 0.5 * profile.threshold, side, BLUE)
        else:
            ax.plot([end, end], [0, profile.threshold], color=BLUE, lw=1, ls=":")
            shift = (-4, 4) if side < 0 else (4, 4)
            write(ax, f"{end:.4g}", end, 0, shift, ha="right" if side < 0 else "left")
    note = f"{profile.level:.0%} threshold {profile.threshold:.3g}"
    write(ax, note, 0.5 * (left + right), profile.threshold, (0, 4), ha="center", color=ORANGE)
    few_ticks(ax, "x", 6)
    ax.set(xlabel=profile.label, ylabel="deviance, 2 x drop of log likelihood")
    ax.set_title(f"Profile of {profile.label}, estimate {profile.estimate:.4g}", size="medium")
    return ax


def profile2d(surface: Any, *, ax: "Axes | None" = None) -> "Axes":
    """Regions of two quantities whose deviance stays below the 68% and 95% points of chi-square(2).

    Args:
        surface: label_x, label_y, the values x and y, and the deviance: on a grid of shape
            (len(y), len(x)), or at scattered points if all three have one common shape (points,).
            An ``estimate`` (x, y), if there is one, is marked.

    Raises:
        DataError: if the shapes do not fit together.

    Example:
        >>> profile2d(surface)
    """
    x, y, z = (np.asarray(v, float) for v in (surface.x, surface.y, surface.deviance))
    ax = axes(ax)
    levels = [0.0, *scipy.stats.chi2.ppf(_INSIDE, 2)]
    shades = ["#5aa5d6", "#c6dff0"]  # the darker the likelier, in greyscale too
    if z.shape == (len(y), len(x)) and z.ndim == 2:
        ax.contourf(x, y, np.maximum(z, 0), levels, colors=shades)
        lines = ax.contour(x, y, z, levels[1:], colors=BLUE, linewidths=(1.6, 1.1))
    elif z.shape == x.shape == y.shape and z.ndim == 1:
        ax.tricontourf(x, y, np.maximum(z, 0), levels, colors=shades)
        lines = ax.tricontour(x, y, z, levels[1:], colors=BLUE, linewidths=(1.6, 1.1))
    else:
        raise DataError(
            f"the deviance must have shape ({len(y)}, {len(x)}) or one value per point, "
            f"got {z.shape}"
        )
    names = {value: f"{share:.0%}" for value, share in zip(levels[1:], _INSIDE, strict=True)}
    ax.clabel(lines, fmt=names, fontsize="small", colors="black")
    if getattr(surface, "estimate", None) is not None:
        ax.plot(*[[float(v)] for v in surface.estimate], "D", color="black", ms=5)
    few_ticks(ax, "x", 6)
    ax.set(xlabel=surface.label_x, ylabel=surface.label_y)
    ax.set_title(f"{surface.label_x} and {surface.label_y} together", size="medium", color="black")
    ax.grid(color=GRAY, alpha=0.15, lw=0.6)
    return ax
