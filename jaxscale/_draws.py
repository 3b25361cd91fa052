"""Draws: the single currency of uncertainty."""

import dataclasses
from html import escape
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd

from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._law import Law
from jaxscale._objective import Objective
from jaxscale._quantity import Quantity, evaluate, resolve_all
from jaxscale._resamples import Resamples
from jaxscale._run_noise import ObjectiveNoise, RunNoise
from jaxscale._runs import Runs
from jaxscale._verdict import Verdict


@dataclasses.dataclass(frozen=True)
class Draws:
    """Parameter draws around a fit, with a name of how they were made.

    Attributes:
        fit: the fit that they belong to.
        method: how they were made, such as ``"pairs bootstrap"``.
        params: draws in the user's units by parameter, each of shape (draws,).
        scale: noise scale of the objective's noise model, shape (draws,).
        center: what a prediction reports as its middle: the fit's own value, the median of the
            draws (for a posterior), or their mean (for an average of laws).
        value: objective that each draw minimizes (of a bootstrap), shape (draws,), or None.
        failed: how many draws were lost, for example because a resample had no finite optimum.
        notes: what to know before using them.
        noise: distribution of a new run around the law, with a member for every draw; None stands
            for the noise model of the objective with `scale`, see `run_noise`.
        doubt: why they must not drive a decision, in one sentence, such as a sampler that failed
            its checks; empty if nothing is known against them.
        resamples: which resamples of the runs they come from, if any, so that other results of the
            same resamples can be compared draw by draw.
    """

    fit: Fit
    method: str
    params: dict[str, np.ndarray]
    scale: np.ndarray
    center: Literal["fit", "median", "mean"] = "fit"
    value: np.ndarray | None = None
    failed: int = 0
    notes: tuple[str, ...] = ()
    noise: RunNoise | None = None
    doubt: str = ""
    resamples: Resamples | None = None

    def __post_init__(self) -> None:
        if self.fit.sets is not None:
            raise DataError(f"choose one data set first, such as fit[{self.fit.sets[0]!r}]")
        for leaf in jax.tree.leaves(self.noise):
            if np.ndim(leaf) and len(leaf) != len(self):
                raise DataError(
                    f"the noise of a new run has {len(leaf):,} members for {len(self):,} draws; it "
                    "needs one for each"
                )

    def __len__(self) -> int:
        return len(next(iter(self.params.values())))

    @property
    def law(self) -> Law:
        """The fitted law."""
        return self.fit.law

    @property
    def objective(self) -> Objective:
        """The objective of the fit, whose noise model `scale` belongs to."""
        return self.fit.objective

    @property
    def runs(self) -> Runs | None:
        """The runs of the fit."""
        return self.fit.runs

    @property
    def ranges(self) -> dict[str, tuple[Any, Any]]:
        """Lowest and highest value of every input seen in the data."""
        return self.fit.ranges

    @property
    def verdict(self) -> Verdict:
        """The verdict on the fit."""
        return self.fit.verdict

    @property
    def run_noise(self) -> RunNoise:
        """Distribution of a new run around the law: `noise`, or the objective's noise model."""
        if self.noise is not None:
            return self.noise
        return ObjectiveNoise(self.objective, np.asarray(self.scale))

    @property
    def remarks(self) -> tuple[str, ...]:
        """The doubt, if there is one, and the notes."""
        return tuple(filter(None, (self.doubt, *self.notes)))

    def __getitem__(self, what: str | Quantity) -> np.ndarray:
        """Draws of a parameter, of a derived quantity or of any `Quantity`, shape (draws,)."""
        if not isinstance(what, str | Quantity):
            raise DataError(f"ask for one quantity at a time, such as draws['a'], not {what!r}")
        quantities = resolve_all(self.fit, what)
        return np.asarray(evaluate(self.law, quantities, self.params))[:, 0]

    @property
    def derived(self) -> dict[str, np.ndarray]:
        """Draws of what the law derives from its parameters."""
        return {name: self[name] for name, _ in self.law.derived}

    def interval(self, what: str | Quantity, level: float = 0.95) -> tuple[float, float]:
        """Equal-tailed interval from the quantiles of the draws."""
        low, high = np.quantile(self[what], tails(level))
        return float(low), float(high)

    def covariance(self) -> pd.DataFrame:
        """Covariance of the parameters, in the user's units."""
        return pd.DataFrame(self.params).cov()

    def correlation(self) -> pd.DataFrame:
        """Correlation of the parameters."""
        return pd.DataFrame(self.params).corr()

    def frame(self, level: float = 0.95, quantities: Any = None) -> pd.DataFrame:
        """Estimate, standard error and equal-tailed interval, one row per quantity.

        Args:
            level: probability content of the intervals.
            quantities: names or `Quantity` objects; default every parameter and derived quantity.
        """
        chosen = resolve_all(self.fit, quantities)
        draws = np.asarray(evaluate(self.law, chosen, self.params))
        point = np.asarray(evaluate(self.law, chosen, self.fit.params))
        low, high = np.quantile(draws, tails(level), axis=0)
        middle = point
        if self.center != "fit":
            middle = draws.mean(axis=0) if self.center == "mean" else np.median(draws, axis=0)
        return pd.DataFrame(
            {
                "quantity": [q.label for q in chosen],
                "estimate": middle,
                "se": draws.std(axis=0, ddof=1),
                "low": low,
                "high": high,
            }
        )

    def __repr__(self) -> str:
        table = self.frame().to_string(index=False, float_format=lambda x: f"{x:.6g}")
        head = f"{self.law.name}, {len(self):,} draws: {self.method} (95% intervals)"
        return "\n".join([head, table, *self.remarks])

    def _repr_html_(self) -> str:
        table = self.frame().to_html(index=False, float_format=lambda x: f"{x:.6g}")
        notes = "<br>".join(map(escape, self.remarks))
        return (
            f"<b>{escape(self.law.name)}</b>, {len(self):,} draws: {escape(self.method)} "
            f"(95% intervals){table}<p>{notes}</p>"
        )


def tails(level: float) -> tuple[float, float]:
    """Lower and upper probability of an equal-tailed interval.

    Raises:
        DataError: unless ``0 < level < 1``.
    """
    if not isinstance(level, int | float | np.floating) or not 0 < level < 1:
        raise DataError(f"level must lie between 0 and 1, such as 0.9, got {level!r}")
    return (1 - level) / 2, (1 + level) / 2


def as_draws(source: Any) -> Draws | None:
    """The draws that a result carries, or None for a fit, which carries none.

    Args:
        source: a `Fit`, `Draws`, or a result with ``draws``, such as a posterior.

    Raises:
        DataError: for anything else.
    """
    if isinstance(source, Fit):
        return None
    draws = source if isinstance(source, Draws) else getattr(source, "draws", None)
    if not isinstance(draws, Draws):
        raise DataError(f"give a fit, its draws or a posterior, not {type(source).__name__!r}")
    return draws
