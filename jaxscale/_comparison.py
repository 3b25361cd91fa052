"""Comparison: laws ranked, with the reasons."""

import dataclasses
import functools
import html
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxscale._average import average
from jaxscale._draws import Draws
from jaxscale._fit import Fit
from jaxscale._nested import LikelihoodRatio

_RANKED = {
    "AICc": "by AICc",
    "elpd": "by the density of left-out runs (elpd)",
    "holdout": "by the error on held-out runs",
}
# A difference of AICc up to this leaves a law considerable support (Burnham & Anderson 2002).
SUPPORTED = 4.0


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Laws ranked, best first; see `compare`.

    `predict` and `allocate` take it, and average the laws by `weights`.

    Attributes:
        sources: what was compared, by name: fits, their draws or posteriors.
        table: one row per law, best first. From the fits, if they compare: parameters (with the
            scale of the noise), log_likelihood, AICc, delta_AICc, BIC, delta_BIC, akaike_weight.
            From refits to folds: elpd, its standard error, the difference to the best and its
            standard error, stacking_weight. From held-out runs: holdout_rms and holdout_bias of
            log loss, and holdout_score, the mean log density of a loss. Last the verdict.
        ranked_by: ``"AICc"``, ``"elpd"`` or ``"holdout"``.
        weights: of the average, by name.
        weighting: what they are: Akaike weights or stacking weights.
        tests: likelihood-ratio tests of the laws that contain others.
        pointwise: log density of every left-out run by law, or None without folds.
        held: predicted and observed loss of every held-out run by law, or None.
        level: confidence at which the tests are read.
        notes: what to know before using the numbers.
    """

    sources: Mapping[str, Any]
    table: pd.DataFrame
    ranked_by: str
    weights: Mapping[str, float]
    weighting: str
    tests: tuple[LikelihoodRatio, ...] = ()
    pointwise: pd.DataFrame | None = None
    held: pd.DataFrame | None = None
    level: float = 0.95
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> str:
        """Name of the law that ranks first."""
        return str(self.table["law"].iloc[0])

    @property
    def fits(self) -> dict[str, Fit]:
        """The fits behind what was compared, by name."""
        return {name: getattr(source, "fit", source) for name, source in self.sources.items()}

    @functools.cached_property
    def average(self) -> Draws:
        """The laws averaged by `weights`, as `predict` and `allocate` take them.

        Raises:
            LawError: for laws of different inputs.
        """
        return average(self.sources, self.weights)

    @property
    def draws(self) -> Draws:
        """The average, by the name under which `predict` and `allocate` look for it."""
        return self.average

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the table and the tests say, and the notes."""
        said = [self._sentence(row) for row in self.table.iloc[1:].to_dict("records")]
        said += [test.sentence(self.level) for test in self.tests]
        return (*said, *self.notes)

    def _sentence(self, row: dict[Any, Any]) -> str:
        if self.ranked_by == "AICc":
            numbers = f"AICc higher by {row['delta_AICc']:.3g}, weight {row['akaike_weight']:.2g}"
        elif self.ranked_by == "elpd":
            numbers = (
                f"elpd lower by {-row['difference']:.3g} with a standard error of "
                f"{row['difference_se']:.2g}"
            )
        else:
            least = f"by {self.table['holdout_rms'].iloc[0]:.2%} for {self.best}"
            numbers = f"held-out log losses are off by {row['holdout_rms']:.2%} (rms), {least}"
        if row["verdict"] == "tied":
            return f"{row['law']} cannot be told from {self.best}: {numbers}."
        return f"{row['law']} is worse than {self.best}: {numbers}."

    def frame(self) -> pd.DataFrame:
        """One row per law, best first."""
        return self.table

    @property
    def head(self) -> str:
        """The title of the table."""
        return f"{len(self.table)} laws ranked {_RANKED[self.ranked_by]}"

    def __repr__(self) -> str:
        table = self.table.to_string(index=False, float_format=lambda x: f"{x:.4g}")
        return "\n".join([self.head, table, *self.sentences])

    def _repr_html_(self) -> str:
        table = self.table.to_html(index=False, float_format=lambda x: f"{x:.4g}")
        said = "<br>".join(html.escape(text) for text in self.sentences)
        return f"<b>{html.escape(self.head)}</b>{table}<p>{said}</p>"


def judged(values: np.ndarray, tied: np.ndarray) -> list[str]:
    """``"best"`` for the lowest value, and ``"tied"`` or ``"worse"`` for the others."""
    best = int(np.argmin(values))
    return ["best" if i == best else "tied" if same else "worse" for i, same in enumerate(tied)]


class Part(NamedTuple):
    """What one way of comparing finds.

    `columns` of the table by name, each (models,); `rank` (models,), lowest first, and who is
    `tied` with the first; `weights` (models,) and what they are called; `points`, one row each.
    """

    kind: str
    columns: dict[str, np.ndarray]
    rank: np.ndarray
    tied: np.ndarray
    weights: np.ndarray
    weighting: str
    points: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
