"""A picture of exponents across data sets, alone or partially pooled."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

import jaxscale as js
from bayes._hierarchy import Hierarchy
from bayes._plot_style import (
    BLUE,
    DOTS,
    GRAY,
    ORANGE,
    SKY,
    collection,
    draws_of,
    few_ticks,
    panel,
    title,
)

_POPULATION, _NEW = "population", "a new set"


def plot_forest(
    posteriors: Mapping[str, Any] | Hierarchy, names: Any = ("alpha", "beta"), **pc_kwargs: Any
) -> Any:
    """Median, 50% and 90% interval of every quantity in every data set, one panel per quantity.

    A `Hierarchy` adds the population value, whose 90% band runs through the panel, what is expected
    of a new set, and as open diamonds what each set says on its own.

    Args:
        posteriors: posteriors, or draws, by name of the data set; or a `Hierarchy`.
        names: parameters of the law, or what it derives from them. A set whose law lacks one has
            no interval there.
        **pc_kwargs: passed to `PlotCollection.wrap`.

    Returns:
        An arviz-plots `PlotCollection` with one panel per quantity, and visuals ``wide``,
        ``narrow`` and ``median``; for a `Hierarchy` also ``population`` and ``alone``.

    Raises:
        DataError: for an empty mapping, something that has no draws, or a quantity that no set has.

    Example:
        >>> plot_forest({"a": sample(fit_a, key=key), "b": sample(fit_b, key=key)}, ["alpha"])
    """
    names = [names] if isinstance(names, str) else list(names)
    table = _forest_rows(posteriors, names)
    rows = list(table)
    found = xr.Dataset(
        {name: (("row", "point"), np.stack([_points(x.get(name)) for x in table.values()]))
         for name in names},
        coords={"row": rows, "point": ["low", "q25", "median", "q75", "high"]},
    )  # fmt: skip
    height = np.arange(len(rows))[::-1].astype(float)
    pc = collection(
        found,
        (1.4 + 2.6 * len(names), 1.2 + 0.3 * len(rows)),
        pc_kwargs,
        cols=["__variable__"],
        col_wrap=len(names),
        figure_kwargs={"sharey": True},
    )
    if isinstance(posteriors, Hierarchy) and _POPULATION in rows:
        _population(pc, posteriors, found, names, rows, height)
    of_set = np.array([row not in (_POPULATION, _NEW) for row in rows])
    colors = np.where(of_set | (not isinstance(posteriors, Hierarchy)), BLUE, ORANGE)
    for label, ends, width in (("wide", ["low", "high"], 1.4), ("narrow", ["q25", "q75"], 4.0)):
        pc.map(_across, label, data=found.sel(point=ends), y=height, colors=colors, lw=width)
    dots = {**DOTS, "mfc": "white", "mew": 1.1, "ms": 4.5, "zorder": 4}
    pc.map(_beside, "median", data=found.sel(point="median", drop=True), y=height, **dots)
    for name in names:
        ax = panel(pc, name)
        few_ticks(ax)
        ax.set(xlabel=name, yticks=height, ylim=(-0.6, len(rows) - 0.4))
        ax.set_yticks(height, labels=rows)
        ax.grid(axis="x", color=GRAY, alpha=0.2, lw=0.6)
    return title(pc, _forest_title(found, names, posteriors))


def _forest_rows(posteriors: Any, names: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """Draws of the quantities that there are, by row."""
    if isinstance(posteriors, Hierarchy):
        table = {s: _quantities(posteriors[s].draws, names) for s in posteriors.sets}
        table |= _of_population(posteriors, names)
    elif isinstance(posteriors, Mapping) and posteriors:
        table = {str(k): _quantities(draws_of(v), names) for k, v in posteriors.items()}
    else:
        raise js.DataError("plot_forest needs posteriors by name, {'a': post, ...}, or a hierarchy")
    missing = [name for name in names if not any(name in row for row in table.values())]
    if missing or not names:
        raise js.DataError(
            f"no data set has {missing[0]!r}: name parameters of the laws"
            if missing
            else "names is empty: name parameters of the laws"
        )
    return table


def _quantities(draws: js.Draws, names: list[str]) -> dict[str, np.ndarray]:
    known = {*draws.law.names, *(name for name, _ in draws.law.derived)}
    return {name: np.asarray(draws[name]) for name in names if name in known}


def _of_population(hierarchy: Hierarchy, names: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """The population value, and a new set, of what does not depend on the units of a set."""
    law = hierarchy.law
    new = hierarchy.new(key=hierarchy.key, from_prior=True).params
    center, drawn = {}, {}
    for name, param in law.params:
        pooled = name in hierarchy.pooled and not param.unit
        mu = hierarchy.population[f"mu_{name}"] if pooled else np.full(len(new[name]), np.nan)
        center[name] = np.asarray(param.from_free(mu)) if pooled else mu
        drawn[name] = new[name] if pooled else mu
    rows: dict[str, dict[str, np.ndarray]] = {_POPULATION: {}, _NEW: {}}
    for row, values in ((_POPULATION, center), (_NEW, drawn)):
        derived = {name: np.asarray(fn(**values)) for name, fn in law.derived}
        for name in names:
            draws = {**values, **derived}.get(name)
            if draws is not None and np.isfinite(draws).all():
                rows[row][name] = draws
    return {row: each for row, each in rows.items() if each}


def _points(draws: np.ndarray | None) -> np.ndarray:
    """Ends of the 90% and 50% intervals, and the median between them."""
    if draws is None:
        return np.full(5, np.nan)
    return np.asarray(np.nanquantile(draws, [0.05, 0.25, 0.5, 0.75, 0.95]))


def _population(
    pc: Any,
    hierarchy: Hierarchy,
    found: xr.Dataset,
    names: list[str],
    rows: list[str],
    height: np.ndarray,
) -> None:
    """The band of the population value, and the sets' own estimates."""
    center = found.sel(row=_POPULATION, point=["low", "high"], drop=True)
    pc.map(_span, "population", data=center, color=SKY, alpha=0.3, lw=0, zorder=1)
    own = {}
    for name in names:
        fits = [hierarchy.fits.get(row) for row in rows]
        own[name] = ("row", np.array([_estimate(fit, name) for fit in fits]))
    look = {"ls": "none", "marker": "D", "mfc": "none", "mec": GRAY, "ms": 4.5, "mew": 1.0}
    pc.map(_beside, "alone", data=xr.Dataset(own), y=height - 0.28, zorder=3, **look)


def _estimate(fit: js.Fit | None, name: str) -> float:
    if fit is None or not fit.verdict.ok:
        return np.nan
    values = {**fit.params, **{key: fn(**fit.params) for key, fn in fit.law.derived}}
    return float(values[name])


def _forest_title(found: xr.Dataset, names: list[str], posteriors: Any) -> str:
    said = []
    for name in names:
        median = found[name].sel(point="median")
        sets = median.where(~median.row.isin([_POPULATION, _NEW]), drop=True).dropna("row")
        text = f"{name} {float(sets.min()):.3g} to {float(sets.max()):.3g}"
        if isinstance(posteriors, Hierarchy) and _POPULATION in median.row.values:
            text += f" around {float(median.sel(row=_POPULATION)):.3g}"
        said.append(text)
    count = len(posteriors.sets) if isinstance(posteriors, Hierarchy) else len(posteriors)
    return f"{'; '.join(said)} in {count} data set{'s' if count > 1 else ''} (50%, 90%)"


def _across(da: Any, target: Any, *, y: np.ndarray, colors: np.ndarray, **look: Any) -> Any:
    low, high = np.asarray(da).T
    return target.hlines(y, low, high, colors=list(colors), zorder=3, **look)


def _beside(da: Any, target: Any, *, y: np.ndarray, **look: Any) -> Any:
    return target.plot(np.asarray(da), y, **look)[0]


def _span(da: Any, target: Any, **look: Any) -> Any:
    return target.axvspan(*np.asarray(da), **look)
