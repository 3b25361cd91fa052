"""How much single runs and single choices matter."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxscale._errors import DataError
from jaxscale.plot._style import BLUE, GRAY, ORANGE, axes, few_ticks, frame_of, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_RESULTS = {"estimate", "low", "high", "se", "runs", "value", "hit_share", "converged", "rmse"}


def specification(
    table: Any,
    *,
    quantity: str | None = None,
    choices: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Estimates of all specifications in order of size, above the choices that each one made.

    Args:
        table: what `jaxscale.multiverse` returns, or a table with one row per specification.
        quantity: the column to draw, with ``<quantity>_low`` and ``<quantity>_high`` if there are
            any; default the columns estimate, low and high.
        choices: columns of the choices; default those with words or whole numbers that vary.

    Returns:
        The Axes, with one panel for the estimates and one for the choices in ``ax.child_axes``.

    Raises:
        DataError: for a missing column, or no finite estimate.

    Source: Simonsohn, Simmons & Nelson 2020, doi 10.1038/s41562-020-0912-z.

    Example:
        >>> specification(js.multiverse(runs, delta=(1e-2, 1e-3), key=key), quantity="a")
    """
    name = quantity or "estimate"
    frame = frame_of(table, [name, *(choices or ())], "specification")
    frame = frame[np.isfinite(frame[name].to_numpy(float))].sort_values(name, kind="stable")
    if not len(frame):
        raise DataError(f"no specification has a finite {name}")
    chosen = list(choices) if choices is not None else _varying(frame, name)
    options = [(c, o) for c in chosen for o in dict.fromkeys(frame[c].sort_values(key=_as_text))]
    ax = axes(ax)
    share = min(0.62, 0.08 + 0.045 * len(options)) if options else 0.0
    top, *below = panels(
        ax, [(0, share + 0.04, 1, 0.96 - share), *([(0, 0, 1, share)] if options else [])]
    )
    _estimates(top, frame, name, quantity)
    if below:
        _matrix(below[0], frame, options)
    return ax


def _as_text(column: Any) -> Any:
    return column.map(lambda v: f"{v:020.6f}" if isinstance(v, int | float) else str(v))


def _varying(frame: "pd.DataFrame", name: str) -> list[str]:
    def is_choice(column: Any) -> bool:
        kind = frame[column].dtype.kind
        return kind not in "fc" and column not in _RESULTS and frame[column].nunique() > 1

    return [column for column in frame.columns if column != name and is_choice(column)]


def _estimates(ax: "Axes", frame: "pd.DataFrame", name: str, quantity: str | None) -> None:
    place = np.arange(len(frame))
    middle = frame[name].to_numpy(float)
    ends = ("low", "high") if quantity is None else (f"{quantity}_low", f"{quantity}_high")
    if set(ends) <= set(frame.columns):
        low, high = (frame[end].to_numpy(float) for end in ends)
        ax.vlines(place, low, high, color=BLUE, alpha=0.4, lw=max(0.8, min(3, 160 / len(frame))))
    ax.axhline(float(np.median(middle)), color=GRAY, ls=":", lw=1)
    ax.plot(place, middle, "o", color="black", ms=float(np.clip(120 / len(frame), 1.5, 4)))
    ax.set(xlim=(-0.8, len(frame) - 0.2), xticks=[], ylabel=quantity or "estimate")
    span = f"{middle.min():.4g} to {middle.max():.4g}"
    ax.set_title(f"{len(frame)} specifications: {span}, median {np.median(middle):.4g}", size=10)


def _matrix(ax: "Axes", frame: "pd.DataFrame", options: list[tuple[str, Any]]) -> None:
    place = np.arange(len(frame))
    for i, (column, option) in enumerate(options):
        made = (frame[column] == option).to_numpy()
        y = len(options) - 1 - i
        ax.plot(place, np.full(len(place), y), "o", color=GRAY, alpha=0.12, ms=2, mew=0)
        ax.plot(place[made], np.full(made.sum(), y), "|", color="black", ms=6, mew=1.3)
        if i and options[i - 1][0] != column:
            ax.axhline(y + 0.5, color=GRAY, lw=0.6)
    labels = [f"{column}: {option}" for column, option in options]
    ax.set_yticks(range(len(options)), labels[::-1], fontsize="small")
    ax.set(xlim=(-0.8, len(frame) - 0.2), ylim=(-0.6, len(options) - 0.4), xticks=[])
    ax.set_xlabel("specifications, by estimate")


def influence(
    table: Any, *, quantity: str | None = None, top: int = 15, ax: "Axes | None" = None
) -> "Axes":
    """Change of a quantity when one run is left out: the runs that matter most.

    A ring marks the first-order prediction of the change, a dot what refitting gives.

    Args:
        table: what `jaxscale.influence` returns, or a table with the columns row, ``loo_<label>``
            and, if known, ``d_<label>``.
        quantity: the label; default the first one.
        top: number of runs.

    Raises:
        DataError: for a missing column.

    Example:
        >>> influence(js.influence(fit, "alpha"), top=10)
    """
    frame = frame_of(table, ["row"], "influence")
    known = [name.removeprefix("loo_") for name in frame.columns if name.startswith("loo_")]
    label = quantity if quantity is not None else (known or ["?"])[0]
    if label not in known:
        raise DataError(f"influence needs the column loo_{label}; it has {', '.join(known)}")
    change = frame[f"loo_{label}"].to_numpy(float)
    first = frame.get(f"d_{label}")
    first = np.full(len(change), np.nan) if first is None else first.to_numpy(float)
    size = np.abs(np.where(np.isfinite(change), change, first))
    order = np.argsort(-np.nan_to_num(size), kind="stable")[:top]
    place = np.arange(len(order))[::-1]
    ax = axes(ax)
    ax.axvline(0, color="black", lw=0.9)
    ax.hlines(place, 0, change[order], color=BLUE, lw=1.8)
    ax.plot(change[order], place, "o", color=BLUE, ms=5.5, label="refitted")
    if np.isfinite(first).any():
        how: dict[str, Any] = {"mfc": "none", "mec": ORANGE, "mew": 1.4, "ms": 8.5}
        ax.plot(first[order], place, "o", label="first order", **how)
        ax.legend(frameon=False, fontsize="small")
    ax.set_yticks(place, [f"row {row}" for row in frame["row"].to_numpy()[order]])
    ax.set(xlabel=f"change of {label} without the run", ylim=(-0.7, len(order) - 0.3))
    few_ticks(ax, "x", 6)
    ax.set_title(f"The {len(order)} most influential of {len(frame)} runs", size="medium")
    return ax
