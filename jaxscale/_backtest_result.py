"""Backtest: past extrapolations of laws, and what they say about the next one."""

import dataclasses
import html
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxscale._conformal import scale_of
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._growth import Growth, measure_growth
from jaxscale._predict import Prediction
from jaxscale._refit import single_fit
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

    def versus(self, column: str = "rms") -> pd.DataFrame:
        """One column of `errors`, law beside law: a row per bin of distance."""
        return self.errors().pivot(index=["from", "to"], columns="law", values=column)[[*self.fits]]

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
