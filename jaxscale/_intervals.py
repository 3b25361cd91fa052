"""intervals(): every kind of interval, side by side."""

import dataclasses
from collections.abc import Iterable
from html import escape
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxscale._bootstrap import bootstrap
from jaxscale._clusters import demanded_clusters
from jaxscale._draws import Draws, as_draws, tails
from jaxscale._errors import DataError, FitError
from jaxscale._fit import Fit
from jaxscale._laplace import laplace
from jaxscale._profile import profiles
from jaxscale._quantity import Quantity, evaluate, natural_ends, resolve_all
from jaxscale._refit import single_fit

METHODS = ("hessian", "HC1", "HC3", "cluster", "profile", "pairs", "cluster pairs", "wild",
           "cluster wild", "residual", "parametric")  # fmt: skip
_WALD = ("hessian", "HC1", "HC3", "cluster")
_INDEPENDENT = ("hessian", "HC1", "profile", "pairs")
_CLUSTERED = ("cluster", "cluster pairs")


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Intervals of several quantities by several methods.

    Attributes:
        fit: the fit they belong to.
        level: nominal probability content of all of them.
        table: one row per quantity and method: estimate, low, high (infinite where a profile is
            open, NaN where a method failed), width, and the ratio of the width to that of the
            recommended method.
        recommended: the method that the ratios refer to and that should be reported: the pairs
            bootstrap, by clusters if the residuals ask for it; or the first, if it is not there.
        notes: what to know before using them.
    """

    fit: Fit
    level: float
    table: pd.DataFrame
    recommended: str
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """One row per quantity and method."""
        return self.table

    def __getitem__(self, what: tuple[str, str]) -> tuple[float, float]:
        """Interval of a quantity by a method: ``intervals["alpha", "pairs"]``."""
        label, method = what
        row = self.table[(self.table["quantity"] == label) & (self.table["method"] == method)]
        if row.empty:
            raise DataError(f"there is no {method!r} interval of {label!r} in this table")
        return float(row["low"].iloc[0]), float(row["high"].iloc[0])

    def __repr__(self) -> str:
        table = self.table.to_string(index=False, float_format=lambda x: f"{x:.5g}")
        head = (
            f"{self.fit.law.name}: {self.level:.0%} intervals; ratio: width relative to "
            f"{self.recommended}"
        )
        return "\n".join([head, table, *self.notes])

    def _repr_html_(self) -> str:
        table = self.table.to_html(index=False, float_format=lambda x: f"{x:.5g}")
        notes = "<br>".join(map(escape, self.notes))
        return (
            f"<b>{escape(self.fit.law.name)}</b>: {self.level:.0%} intervals; ratio: width "
            f"relative to {escape(self.recommended)}{table}<p>{notes}</p>"
        )


def intervals(
    fit: Fit,
    quantities: str | Quantity | Iterable[str | Quantity] | None = None,
    *,
    key: jax.Array,
    level: float = 0.95,
    methods: Iterable[str] | None = None,
    by: Any = None,
    draws: Iterable[Any] = (),
    resamples: int = 4000,
    show_progress: bool | None = None,
) -> Intervals:
    """One table with every method's interval, so that a narrow one stands out.

    Args:
        fit: a fit of one data set, with its runs.
        quantities: names or `Quantity` objects (`loss_at`, `optimal_N`, `optimal_D`); default
            every parameter and derived quantity.
        key: JAX random key of the bootstraps.
        level: nominal probability content.
        methods: some of ``"hessian"``, ``"HC1"``, ``"HC3"``, ``"cluster"`` (delta-method
            intervals, see `laplace`), ``"profile"``, ``"pairs"``, ``"cluster pairs"``, ``"wild"``,
            ``"cluster wild"``, ``"residual"`` and ``"parametric"`` (bootstraps). Default: Hessian,
            HC1, profile and pairs, and the two by clusters if `by` is given or the residuals ask
            for clusters.
        by: clusters, see `cluster_codes`; default the ones that the residuals ask for, if any.
        draws: more `Draws`, or a posterior, to stand beside the others under their own names.
        resamples: of each bootstrap.
        show_progress: see `bootstrap`.

    Raises:
        DataError: for an unknown method or a cluster method without clusters.

    Example:
        >>> intervals(fit, ["alpha", "a", optimal_N(1e24)], level=0.8, key=key)
    """
    tails(level)
    single_fit(fit)
    demand = demanded_clusters(fit) if by is None else None
    by = demand.by if demand is not None else by
    if methods is None:
        methods = _INDEPENDENT + (_CLUSTERED if by is not None else ())
    methods, by = _checked(fit, tuple(dict.fromkeys(methods)), by)
    request = _Request(fit, resolve_all(fit, quantities), level, by, resamples, show_progress)
    point = np.asarray(evaluate(fit.law, request.chosen, fit.params))

    notes = [] if demand is None else [demand.sentence]
    rows: list[dict[str, Any]] = []

    def add(method: str, found: _Found, point: np.ndarray = point) -> None:
        ends, said = found
        notes.extend(f"{method}: {text}" for text in dict.fromkeys(said) if text not in notes)
        for quantity, middle, (low, high) in zip(request.chosen, point, ends, strict=True):
            row = {"quantity": quantity.label, "method": method, "estimate": float(middle)}
            rows.append(row | {"low": float(low), "high": float(high)})

    for method in methods:  # a key of its own, whichever others are asked for
        add(method, request.by_method(method, jax.random.fold_in(key, METHODS.index(method))))
    names: list[str] = []
    for source in draws:
        made = as_draws(source)
        if made is None:
            raise DataError("draws= takes Draws or a posterior, not a fit")
        if made.law != fit.law:
            raise DataError(f"the {made.method} is of law {made.law.name!r}, not {fit.law.name!r}")
        names.append(made.method)
        again = f", {names.count(made.method)}" if names.count(made.method) > 1 else ""
        middle = point if made.center == "fit" else request.medians(made)
        add(made.method + again, request.from_draws(made), middle)
    if not rows:
        raise DataError("intervals needs at least one method, or draws")
    best = (*(["cluster pairs"] if by is not None else []), "pairs")
    recommended = next((method for method in best if method in methods), rows[0]["method"])
    return Intervals(fit, level, _with_ratios(rows, recommended), recommended, tuple(notes))


def _checked(fit: Fit, methods: tuple[str, ...], by: Any) -> tuple[tuple[str, ...], Any]:
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise DataError(f"methods are {', '.join(METHODS)}; got {', '.join(unknown)}")
    if by is None and any("cluster" in method for method in methods):
        if single_fit(fit).cluster is None:
            raise DataError("a method by clusters needs by=, such as by='N'")
        by = "cluster"
    return methods, by


_Found = tuple[np.ndarray, Iterable[str]]


@dataclasses.dataclass(frozen=True)
class _Request:
    """What every method is asked for. Answers are ends, (quantities, 2), and notes."""

    fit: Fit
    chosen: tuple[Quantity, ...]
    level: float
    by: Any
    resamples: int
    show_progress: bool | None

    def by_method(self, method: str, key: jax.Array) -> _Found:
        if method == "profile":
            return self.from_profiles()
        if method in _WALD:
            return self.from_curvature(method)
        made = bootstrap(
            self.fit,
            key=key,
            n=self.resamples,
            kind=method.removeprefix("cluster "),  # type: ignore[arg-type]
            by=self.by if method.startswith("cluster") else None,
            show_progress=self.show_progress,
        )
        return self.from_draws(made)

    def medians(self, made: Draws) -> np.ndarray:
        return np.median(np.asarray(evaluate(self.fit.law, self.chosen, made.params)), axis=0)

    def from_draws(self, made: Draws) -> _Found:
        values = np.asarray(evaluate(self.fit.law, self.chosen, made.params))
        return np.asarray(np.quantile(values, tails(self.level), axis=0)).T, made.remarks

    def from_curvature(self, method: str) -> _Found:
        cluster = self.by if method == "cluster" else None
        try:
            near = laplace(self.fit, cov=method, by=cluster)  # type: ignore[arg-type]
        except FitError as error:
            return np.full((len(self.chosen), 2), np.nan), [str(error)]
        ends = near.frame(self.level, self.chosen)[["low", "high"]].to_numpy()
        return ends, near.draws.notes

    def from_profiles(self) -> _Found:
        found = profiles(self.fit, self.chosen, level=self.level)
        ends_of = [natural_ends(self.fit.law, quantity) for quantity in self.chosen]
        ends = np.array(
            [
                (
                    low if p.low is None else p.low,
                    high if p.high is None else p.high,
                )
                for p, (low, high) in zip(found, ends_of, strict=True)
            ]
        )
        return ends, [note for p in found for note in p.notes]


def _with_ratios(rows: list[dict[str, Any]], recommended: str) -> pd.DataFrame:
    """Widths, and their ratio to the recommended method's, sorted by quantity."""
    table = pd.DataFrame(rows)
    table["width"] = table["high"] - table["low"]
    reference = table[table["method"] == recommended].set_index("quantity")["width"]
    table["ratio"] = table["width"] / table["quantity"].map(reference)
    order = {label: i for i, label in enumerate(dict.fromkeys(table["quantity"]))}
    ranked = table.assign(order=table["quantity"].map(order)).sort_values("order", kind="stable")
    return ranked.drop(columns="order").reset_index(drop=True)
