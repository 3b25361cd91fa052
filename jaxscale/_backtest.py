"""backtest(): fitted to the smaller runs, how well would the law have predicted the larger ones?"""

import dataclasses
import functools
import html
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from jaxscale._conformal import scale_of
from jaxscale._draws import tails
from jaxscale._errors import DataError
from jaxscale._fit import Fit, fit as fit_law
from jaxscale._growth import Growth, measure_growth
from jaxscale._interval_method import IntervalMethod, method_key, split_methods
from jaxscale._law import Law
from jaxscale._mesh import use_mesh
from jaxscale._objective import Objective
from jaxscale._predict import Prediction
from jaxscale._progress import progress
from jaxscale._refit import single_fit
from jaxscale._rolling import CLUSTERED, METHODS, Asked, Rolled, roll
from jaxscale._runs import Runs
from jaxscale._sizes import RUNS_PER_PARAMETER, kept_below, sizes
from jaxscale.scores import coverage_by_distance

# Twice, four times, ten times, ... the largest run: what people mean by how far.
_DECADES = (0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0)


@dataclasses.dataclass(frozen=True)
class Backtest:
    """Past extrapolations of one or several laws; see `backtest`.

    Attributes:
        fits: of all runs, by name.
        predictions: one row per law, cut and run above it: law, cut, row (number in the table),
            distance (log10 of its size over the largest one kept), predicted, observed, kept
            (number of runs below the cut), residual (log predicted - log observed).
        bands: one row per law, method, cut and run above it: low and high of the band of a new run;
            NaN where the method gave none.
        methods: of the intervals.
        level: their probability content.
        by: the scale along which runs are left out.
        notes: what to know before using the numbers.
    """

    fits: Mapping[str, Fit]
    predictions: pd.DataFrame
    bands: pd.DataFrame
    methods: tuple[str, ...]
    level: float
    by: str
    notes: tuple[str, ...] = ()

    @property
    def cuts(self) -> np.ndarray:
        """The cuts, from the smallest."""
        return np.unique(self.predictions["cut"])

    def errors(self, edges: Any = None) -> pd.DataFrame:
        """Error of each law by how far it extrapolated.

        Args:
            edges: ends of bins of the log10 distance; default 0, 0.3, 0.6, 1, 1.5, 2, 3 ...

        Returns:
            One row per law and bin: law, from, to, count, rms and bias of log loss, and are, the
            mean of |predicted - observed| / observed.
        """
        edges = self._edges(edges)
        rows = []
        for law, table in self.predictions.groupby("law", sort=False):
            place = np.digitize(table["distance"], edges[1:-1])
            for i, (begin, end) in enumerate(itertools.pairwise(edges)):
                part = table[place == i]
                r = part["residual"].to_numpy(float)
                off = np.abs(part["predicted"] / part["observed"] - 1).to_numpy(float)
                some = len(r) > 0
                rows.append(
                    {
                        "law": law,
                        "from": begin,
                        "to": end,
                        "count": len(r),
                        "rms": float(np.sqrt(np.mean(r**2))) if some else np.nan,
                        "bias": float(r.mean()) if some else np.nan,
                        "are": float(off.mean()) if some else np.nan,
                    }
                )
        return pd.DataFrame(rows)

    def coverage(self, edges: Any = None) -> pd.DataFrame:
        """Share of the runs inside the bands, by law, method and distance.

        Runs of one cut share the error of one fit: the binomial error in the table is too small.

        Args:
            edges: as for `errors`.

        Returns:
            One row per law, method and bin: law, method, from, to, count, coverage, error, width
            (median, of the loss). Bands that could not be had are left out of the count.
        """
        edges = self._edges(edges)
        tables = []
        for (law, method), table in self.bands.groupby(["law", "method"], sort=False):
            known = table.dropna(subset=["low", "high"])
            if not len(known):
                continue
            found = coverage_by_distance(
                known["observed"], known["low"], known["high"], known["distance"], edges
            )
            found.insert(0, "method", method)
            found.insert(0, "law", law)
            tables.append(found)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def _edges(self, edges: Any) -> np.ndarray:
        if edges is not None:
            return np.asarray(edges, float)
        far = float(self.predictions["distance"].max())
        inside = [edge for edge in _DECADES if edge < far]
        return np.array([*inside, _DECADES[len(inside)] if len(inside) < len(_DECADES) else far])

    def growth(self, law: str | None = None, method: str | None = None) -> Growth:
        """By how much the bands of a method would have had to be wider, by distance.

        Args:
            law: name of a law; default the first.
            method: of the intervals; default the first.

        Raises:
            DataError: for a name that is not there, or bands at fewer than two cuts.
        """
        law, method = self._names(law, method)
        return self._growth(law, method)

    def _names(self, law: str | None, method: str | None) -> tuple[str, str]:
        law = next(iter(self.fits)) if law is None else law
        if not self.methods:
            raise DataError("this backtest has no intervals: give methods= to backtest()")
        method = self.methods[0] if method is None else method
        if law not in self.fits:
            raise DataError(f"there is no law {law!r}; there are {', '.join(self.fits)}")
        if method not in self.methods:
            raise DataError(f"there is no method {method!r}; there are {', '.join(self.methods)}")
        return law, method

    @functools.cache  # noqa: B019  # a frozen result lives as long as its numbers
    def _growth(self, law: str, method: str) -> Growth:
        table = self.bands[(self.bands["law"] == law) & (self.bands["method"] == method)]
        observed, low, high, distance, cut = (
            table[name].to_numpy(float) for name in ("observed", "low", "high", "distance", "cut")
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            half = 0.5 * (np.log(high) - np.log(low))
            off = np.log(observed) - np.log(low) - half
        known = np.isfinite(half) & np.isfinite(off)
        if len(np.unique(cut[known])) < 2:
            raise DataError(
                f"the {method} bands of {law} are known at fewer than two cuts: there is no growth "
                "to measure"
            )
        return measure_growth(np.abs(off), half, distance, cut, self.level)

    def widening(
        self, distance: Any, *, law: str | None = None, method: str | None = None
    ) -> np.ndarray:
        """Factor for the width of a band, in log loss, at log10 distances from the data.

        Args:
            distance: log10 of the scale over the largest one in the data.
            law, method: whose bands; default the first.

        Example:
            >>> backtest(law, runs, key=key).widening([0.5, 1.0, 2.0])
        """
        return self.growth(law, method)(distance)

    def widen(
        self, prediction: Prediction, *, law: str | None = None, method: str | None = None
    ) -> Prediction:
        """The prediction with its band of a new run as wide as past errors ask for.

        In log loss the band is stretched about its middle by `widening` at the distance of each
        point. It never gets narrower. The band of the law is left as it is: errors of runs cannot
        tell its error from their noise.

        Args:
            prediction: of draws around the fit of all runs, made by the method in question.
            law, method: whose bands; default the first.

        Raises:
            DataError: for a prediction without a band of a new run, or of another level.

        Example:
            >>> test.widen(predict(bootstrap(fit, key=key), N=70e9, D=1.4e12))
        """
        law, method = self._names(law, method)
        if prediction.run_low is None or prediction.run_high is None:
            raise DataError("this prediction has no band of a new run to widen: predict from draws")
        if prediction.level != self.level:
            raise DataError(
                f"the backtest is about {self.level:.0%} bands, and the prediction has one of "
                f"{prediction.level:.0%}: use one level for both"
            )
        fit, growth = self.fits[law], self.growth(law, method)
        runs = single_fit(fit)
        largest = scale_of(fit, self.by, runs.inputs)[np.asarray(runs.weight) > 0].max()
        distance = np.log10(scale_of(fit, self.by, prediction.inputs) / largest)
        factor = growth(distance)
        low, high = (np.log(x) for x in (prediction.run_low, prediction.run_high))
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        return dataclasses.replace(
            prediction,
            run_low=np.exp(middle - factor * half),
            run_high=np.exp(middle + factor * half),
            notes=(*prediction.notes, *_widening_notes(growth, factor, distance, method)),
        )

    def frame(self) -> pd.DataFrame:
        """One row per law and bin of distance: its errors."""
        return self.errors()

    @property
    def head(self) -> str:
        """The title of the table."""
        fits = f"{len(self.cuts)} cuts in {self.by}"
        return f"Rolling origin over {fits}: each law fitted below, errors of log loss above"

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the bands covered, law by law and method by method, and the notes."""
        said = []
        for (law, method), table in self.bands.groupby(["law", "method"], sort=False):
            known = table.dropna(subset=["low", "high"])
            if not len(known):
                continue
            inside = (known["low"] <= known["observed"]) & (known["observed"] <= known["high"])
            far = known["distance"] >= known["distance"].median()
            said.append(
                f"{self.level:.0%} {method} bands of {law} hold {inside[~far].mean():.0%} of the "
                f"nearer half of the runs and {inside[far].mean():.0%} of the farther."
            )
        return (*said, *self.notes)

    def __repr__(self) -> str:
        table = self.errors().to_string(index=False, float_format=lambda x: f"{x:.4g}")
        return "\n".join([self.head, table, *self.sentences])

    def _repr_html_(self) -> str:
        table = self.errors().to_html(index=False, float_format=lambda x: f"{x:.4g}")
        said = "<br>".join(html.escape(text) for text in self.sentences)
        return f"<b>{html.escape(self.head)}</b>{table}<p>{said}</p>"

    def __hash__(self) -> int:
        return id(self)


def _widening_notes(
    growth: Growth, factor: np.ndarray, distance: np.ndarray, method: str
) -> tuple[str, ...]:
    notes = [
        f"The band of a run is widened by up to {np.max(factor):.3g}, as the errors of "
        f"{growth.cuts} backtests of {method} bands ask for."
    ]
    if np.max(distance) > growth.span + 1e-9:
        notes.append(
            f"No backtest reached as far as 10^{np.max(distance):.2g} times the largest run; the "
            f"farthest reached 10^{growth.span:.2g}."
        )
    return tuple(notes)


def backtest(
    laws: Any,
    runs: Runs | None = None,
    *,
    key: jax.Array,
    by: str | None = None,
    cuts: Any = None,
    methods: Iterable[str | IntervalMethod] = ("pairs", "hessian"),
    level: float = 0.9,
    objective: Objective | None = None,
    clusters: Any = None,
    resamples: int = 200,
    restarts: int = 512,
    mesh: Mesh | None = None,
    show_progress: bool | None = None,
) -> Backtest:
    """r = log predicted - log observed of runs above a cut, by the fit to the runs below it.

    For each cut the largest runs are left out, the law is fitted to the others, and predicts them.
    All refits of a law run in one batch: runs above a cut get weight zero, so that one compiled
    program serves every cut. Each starts at the optimum of all runs and at 16 random points. Every
    interval method forms the band of a new run for each run above the cut, as `predict` does.

    Args:
        laws: a law or a fit, or several by name. Fits bring their objective and, unless `runs` are
            given, their runs.
        runs: one table of runs.
        key: JAX random key.
        by: the scale along which runs are left out: ``"flop"`` for 6 N D, or an input; default
            ``"flop"`` for laws in N and D, else the first input.
        cuts: largest values kept, in the unit of `by`; default up to 8 between the runs, even in
            rank. Each must leave three runs per parameter of every law.
        methods: of the bands: some of ``"pairs"``, ``"cluster pairs"`` (bootstraps),
            ``"hessian"``, ``"HC1"``, ``"HC3"``, ``"cluster"`` (Laplace), and methods of your own,
            such as ``bayes.posterior_method()``. None at all for errors alone.
        level: probability content of the bands.
        objective: of laws that come without a fit; default ``LogHuber(1e-3)``.
        clusters: what makes a cluster, for the methods that need one, see `cluster_codes`.
        resamples: of each bootstrap, and draws of every other method.
        restarts: random starts of the fits to all runs.
        mesh: devices to share the work, see `use_mesh`.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Raises:
        DataError: if no cut leaves enough runs below it and one above it, for laws without runs,
            or fits of different runs.
        IdentificationError: if the runs cannot determine a law.
        FitError: if a law has no finite optimum below some cut.

    Source: rolling-origin evaluation, Tashman 2000, doi 10.1016/S0169-2070(00)00065-0; leaving the
    largest out, Choshen, Zhang & Andreas 2024, arXiv 2410.11840.

    Example:
        >>> backtest({"chinchilla": laws.chinchilla, "kaplan": laws.kaplan_nd}, runs, key=key)
    """
    tails(level)
    chosen = list(methods)
    names, own = split_methods(chosen, METHODS) if chosen else ((), {})
    fit_key, roll_key = jax.random.split(key)
    with use_mesh(mesh):
        fits = _fits(laws, runs, objective, restarts, fit_key, show_progress)
        first = next(iter(fits.values()))
        table = single_fit(first)
        by = by or ("flop" if {"N", "D"} <= set(table.inputs) else first.law.inputs[0])
        size = sizes(table, by)
        least = RUNS_PER_PARAMETER * max(len(fit.law.params) for fit in fits.values())
        kept = kept_below(size, np.asarray(table.weight, float), least, cuts, by)
        if clusters is None and any(name in CLUSTERED for name in names) and table.cluster is None:
            raise DataError("cluster methods need clusters=, such as clusters='N'")
        asked = Asked(names, own, level, resamples, clusters, roll_key)
        with progress("backtesting", asked.work(len(kept)) * len(fits), show_progress) as tick:
            found = {
                name: roll(
                    name, fit, size, kept, asked._replace(key=method_key(roll_key, name)), tick
                )
                for name, fit in fits.items()
            }
    return Backtest(
        fits=fits,
        predictions=pd.concat([each.errors for each in found.values()], ignore_index=True),
        bands=pd.concat([each.bands for each in found.values()], ignore_index=True),
        methods=names,
        level=level,
        by=by,
        notes=_notes(fits, found, kept),
    )


def _fits(
    laws: Any,
    runs: Runs | None,
    objective: Objective | None,
    restarts: int,
    key: jax.Array,
    show_progress: bool | None,
) -> dict[str, Fit]:
    """The fits to all runs, by name."""
    if isinstance(laws, Fit):
        laws = {laws.law.name: laws}
    elif isinstance(laws, Law):
        laws = {laws.name: laws}
    if not isinstance(laws, Mapping) or not laws:
        raise DataError("give a law or a fit, or several by name: backtest({'a': ..., 'b': ...})")
    found: dict[str, Fit] = {}
    for name, each in laws.items():
        if isinstance(each, Law) and runs is None:
            raise DataError(f"{name} is a law without runs: backtest({name}, runs, key=key)")
        if isinstance(each, Fit) and runs is None:
            found[name] = each
        elif isinstance(each, Law | Fit):
            assert runs is not None
            law = each.law if isinstance(each, Fit) else each
            loss = each.objective if isinstance(each, Fit) else objective
            found[name] = fit_law(
                law, runs, objective=loss, restarts=restarts, key=key, show_progress=show_progress
            )
        else:
            raise DataError(f"{name} is neither a law nor a fit but a {type(each).__name__}")
    _refuse_other_runs(found)
    return found


def _refuse_other_runs(fits: Mapping[str, Fit]) -> None:
    (first, one), *others = fits.items()
    for name, other in others:
        mine, theirs = single_fit(one), single_fit(other)
        if not np.array_equal(np.asarray(mine.loss), np.asarray(theirs.loss)):
            raise DataError(f"{first} and {name} are fits of different runs; give runs= to both")


def _notes(
    fits: Mapping[str, Fit], found: Mapping[str, Rolled], kept: np.ndarray
) -> tuple[str, ...]:
    doubts = [f"{name}: {fit.verdict}" for name, fit in fits.items() if not fit.verdict.ok]
    own = [text for each in found.values() for text in each.notes]
    few = [
        f"The errors above one cut share those of one fit: {len(kept)} cuts count as little more "
        f"than {len(kept)} observations, and less, as their runs overlap."
    ]
    return (*doubts, *own, *few)
