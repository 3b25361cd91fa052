"""The result of estimating the compute-optimal frontier, whichever way it was done."""

import dataclasses
import html
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._allocate import allocate
from jaxscale._draws import Draws, as_draws, tails
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._frontier import Frontier
from jaxscale._line import Line
from jaxscale._optimum import optima, optimum, under
from jaxscale._resamples import Resamples
from jaxscale._valley import Valley

Name = Literal["envelope", "isoflop", "surface"]


class Sizes(NamedTuple):
    """Log N* and log D* at budgets: the estimate (budgets,), and draws (draws, budgets) or None."""

    N: np.ndarray
    D: np.ndarray
    N_draws: np.ndarray | None
    D_draws: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class PowerLaws:
    """N* and D* as straight lines over log C.

    Attributes:
        N, D: the lines.
        N_draws, D_draws: lines of every resample.
    """

    N: Line
    D: Line
    N_draws: Line
    D_draws: Line

    def sizes(self, log_c: np.ndarray) -> Sizes:
        return Sizes(self.N(log_c), self.D(log_c), self.N_draws(log_c), self.D_draws(log_c))


@dataclasses.dataclass(frozen=True)
class LawOptimum:
    """N* and D* where a fitted law has its minimum along C = 6 N D."""

    source: Fit | Draws

    def sizes(self, log_c: np.ndarray) -> Sizes:
        draws = as_draws(self.source)
        fit = draws.fit if draws is not None else self.source
        assert isinstance(fit, Fit)
        seen = [float(np.mean(np.log(np.asarray(fit.ranges[name])))) for name in ("N", "D")]
        middle = (seen[0], seen[1])
        flop = jnp.exp(jnp.asarray(log_c))
        N, D = (np.log(np.asarray(x)) for x in optimum(fit.law, middle, fit.params, flop))
        if draws is None:
            return Sizes(N, D, None, None)
        found = optima(under(fit.law), middle, draws.params, flop)
        each = [np.log(np.asarray(x)) for x in (found.N, found.D)]
        if draws.center != "fit":
            N, D = (np.nanmedian(x, axis=0) for x in each)
        return Sizes(N, D, *each)


@dataclasses.dataclass(frozen=True)
class Approach:
    """N* ~ C^a and D* ~ C^b, with draws of both.

    Attributes:
        name: ``"envelope"``, ``"isoflop"`` or ``"surface"``: approach 1, 2 or 3.
        how: what was done, in words.
        points: one row per budget: flop, N, D, tokens_per_parameter, loss, the ends N_low and
            N_high of the interval of N, runs, whether it was used, and the reason if it was not.
        a, b: exponents of N* and D*.
        curve: N* and D* over C, see `sizes`.
        draws: draws of ``a`` and ``b``, each of shape (draws,); empty if there is no uncertainty.
        level: probability content of N_low to N_high.
        ranges: lowest and highest flop, N and D of the runs behind it.
        notes: what to know before using the numbers.
        resamples: which resamples the draws belong to.
        valleys: the runs of every budget and the curve through them (isoFLOP only).
        widened: factor by which the scatter of the minima around the line widened the draws.
    """

    name: Name
    how: str
    points: pd.DataFrame
    a: float
    b: float
    curve: PowerLaws | LawOptimum
    draws: dict[str, np.ndarray]
    level: float
    ranges: dict[str, tuple[float, float]]
    notes: tuple[str, ...] = ()
    resamples: Resamples | None = None
    valleys: tuple[Valley, ...] = ()
    widened: float = 1.0

    def sizes(self, flop: Any) -> Sizes:
        """Log N* and log D* at budgets in FLOPs, with draws."""
        return self.curve.sizes(np.log(_budgets(flop)))

    @property
    def coefficient(self) -> float:
        """N0 in N* = N0 C^a, with C in FLOPs: a number at C = 1, far from any run."""
        middle = float(np.mean(np.log(self.ranges["flop"])))
        return float(np.exp(self.curve.sizes(np.array([middle])).N[0] - self.a * middle))

    def exponents(self, level: float = 0.95) -> pd.DataFrame:
        """Exponents a of N* and b of D*: estimate, standard error, equal-tailed interval."""
        rows = []
        for name, estimate in (("a", self.a), ("b", self.b)):
            row: dict[str, Any] = {"approach": self.name, "exponent": name, "estimate": estimate}
            if self.draws:
                values = self.draws[name][np.isfinite(self.draws[name])]
                low, high = np.quantile(values, tails(level))
                row |= {"se": values.std(ddof=1), "low": low, "high": high}
            rows.append(row)
        return pd.DataFrame(rows)

    def frontier(self, flop: Any, level: float = 0.9, *, force: bool = False) -> Frontier:
        """N*, D* and D*/N* at budgets, with bands; the loss where the approach predicts one.

        Args:
            flop: budget or budgets, in FLOPs.
            level: probability content of the bands, equal-tailed quantiles over the draws.
            force: go on with draws that are in doubt, see `allocate`.
        """
        budgets = _budgets(flop)
        notes = (*self._beyond(budgets), *self.notes)
        if isinstance(self.curve, LawOptimum):
            found = allocate(self.curve.source, flop=flop, level=level, force=force)
            return dataclasses.replace(found, notes=(*found.notes, *self.notes))
        at = self.sizes(budgets)
        assert at.N_draws is not None and at.D_draws is not None  # noqa: PT018
        draws = {
            "N": at.N_draws,
            "D": at.D_draws,
            "tokens_per_parameter": at.D_draws - at.N_draws,
        }
        shape = np.shape(flop)

        def shaped(values: Any) -> Any:
            return jnp.reshape(jnp.exp(values), shape)

        ends = {name: np.nanquantile(x, tails(level), axis=0) for name, x in draws.items()}
        return Frontier(
            flop=jnp.reshape(budgets, shape),
            N=shaped(at.N),
            D=shaped(at.D),
            loss=jnp.full(shape, jnp.nan),  # a straight line of sizes says nothing about it
            bands={name: (shaped(low), shaped(high)) for name, (low, high) in ends.items()},
            level=level,
            ranges={name: self.ranges[name] for name in ("N", "D")},
            notes=notes,
        )

    def frame(self) -> pd.DataFrame:
        """One row per budget, see `points`."""
        return self.points

    def _beyond(self, budgets: np.ndarray) -> tuple[str, ...]:
        top, most = self.ranges["flop"][1], float(budgets.max())
        if most <= top * (1 + 1e-6):
            return ()
        return (f"C = {most:.3g} is {most / top:.3g} times the largest budget used ({top:.3g}).",)

    def __repr__(self) -> str:
        table = self.exponents().to_string(index=False, float_format=lambda x: f"{x:.4g}")
        return "\n".join([f"{self.name}: {self.how} (95% intervals)", table, *self.notes])

    def _repr_html_(self) -> str:
        table = self.exponents().to_html(index=False, float_format=lambda x: f"{x:.4g}")
        notes = "<br>".join(html.escape(note) for note in self.notes)
        head = f"<b>{html.escape(self.name)}</b>: {html.escape(self.how)} (95% intervals)"
        return f"{head}{table}<p>{notes}</p>"


def _budgets(flop: Any) -> np.ndarray:
    budgets = np.ravel(np.asarray(flop, float))
    if not (len(budgets) and (np.isfinite(budgets) & (budgets > 0)).all()):
        raise DataError(f"budgets must be positive FLOPs, got {flop}")
    return budgets


def points_table(
    flop: Any, log_n: Any, log_d: Any, loss: Any, ends: Any, runs: Any, reasons: Any
) -> pd.DataFrame:
    """The table `Approach.points`; an empty reason marks a budget that is used."""
    N, D = np.exp(np.asarray(log_n, float)), np.exp(np.asarray(log_d, float))
    return pd.DataFrame(
        {
            "flop": np.asarray(flop, float),
            "N": N,
            "D": D,
            "tokens_per_parameter": D / N,
            "loss": np.asarray(loss, float),
            "N_low": np.exp(np.asarray(ends[0], float)),
            "N_high": np.exp(np.asarray(ends[1], float)),
            "runs": np.asarray(runs, int),
            "used": [not reason for reason in reasons],
            "reason": list(reasons),
        }
    )


def run_ranges(
    C: np.ndarray, N: np.ndarray, D: np.ndarray, used: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Lowest and highest compute, size and tokens of the runs that were used."""
    each = {"flop": C, "N": N, "D": D}
    return {name: (float(x[used].min()), float(x[used].max())) for name, x in each.items()}
