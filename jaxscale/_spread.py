"""What a multiverse found: a table of specifications, and how much each choice matters."""

import dataclasses
from html import escape

import numpy as np
import pandas as pd

from jaxscale._errors import DataError
from jaxscale._quantity import Quantity

_FEW = 0.5  # share of the restarts that agree on the optimum
CHOICES = ("law", "objective", "drop", "selection")
_WORDS = {
    "law": "the law",
    "objective": "the objective",
    "drop": "dropping high losses",
    "selection": "the selection of runs",
}


@dataclasses.dataclass(frozen=True)
class Spread:
    """How far one quantity moves over the specifications.

    Attributes:
        quantity: its label.
        low, median, high: over the specifications.
        specifications: how many have a finite value.
        moved_by: by choice, the range of the means over its levels; choices of one level are left
            out. The largest first.
        levels: one row per choice and level: number of specifications, mean, low, high.
        se: median bootstrap standard error of one specification, or None.
        share_inside: share of the specifications inside a claimed interval, or None.
    """

    quantity: str
    low: float
    median: float
    high: float
    specifications: int
    moved_by: dict[str, float]
    levels: pd.DataFrame
    se: float | None = None
    share_inside: float | None = None

    @property
    def sentence(self) -> str:
        """The finding in plain English."""
        text = (
            f"{self.quantity} ranges from {self.low:.4g} to {self.high:.4g} over "
            f"{self.specifications:,} specifications"
        )
        moves = [f"{_WORDS[name]} moves it by {x:.2g}" for name, x in self.moved_by.items()]
        parts = [text, ", ".join(moves)] if moves else [text]
        if self.se is not None:
            parts.append(f"the standard error of one specification is {self.se:.2g}")
        if self.share_inside is not None:
            parts.append(f"{100 * self.share_inside:.2g}% lie in the claimed interval")
        return "; ".join(parts) + "."

    def __repr__(self) -> str:
        table = self.levels.to_string(index=False, float_format=lambda x: f"{x:.6g}")
        return f"{self.sentence}\n{table}" if len(self.levels) else self.sentence


@dataclasses.dataclass(frozen=True)
class Multiverse:
    """All specifications of a multiverse, fitted.

    Attributes:
        table: one row per specification, see `frame`.
        quantities: labels of the quantities.
    """

    table: pd.DataFrame
    quantities: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.table)

    def frame(self) -> pd.DataFrame:
        """One row per specification.

        Columns: law, objective, drop, selection, runs (their number); one per quantity; value (of
        the objective), hit_share (of the cold starts), converged; and with a bootstrap,
        failed_share (of the resamples, which have no finite optimum and are left out) and for every
        quantity ``<name>_se``, ``<name>_low`` and ``<name>_high``.
        """
        return self.table.copy()

    def spread(
        self, quantity: str | Quantity, claimed: tuple[float, float] | None = None
    ) -> Spread:
        """Range of a quantity over the specifications, and which choice moves it most.

        Args:
            quantity: its label, or itself.
            claimed: an interval to count the specifications in.

        Raises:
            DataError: if the multiverse does not report it, or the interval is none.
        """
        label = quantity.label if isinstance(quantity, Quantity) else quantity
        if label not in self.quantities:
            raise DataError(
                f"this multiverse has no quantity {label!r}; it has {', '.join(self.quantities)}"
            )
        table = self.table[np.isfinite(self.table[label])]
        values = table[label].to_numpy(float)
        if not values.size:
            raise DataError(f"no specification gives a finite {label}")
        levels = _levels(table, label)
        means = levels.groupby("choice")["mean"]
        moved = (means.max() - means.min()).sort_values(ascending=False)
        return Spread(
            quantity=label,
            low=float(values.min()),
            median=float(np.median(values)),
            high=float(values.max()),
            specifications=len(values),
            moved_by={str(name): float(x) for name, x in moved.items()},
            levels=levels,
            se=float(table[f"{label}_se"].median()) if f"{label}_se" in table else None,
            share_inside=None if claimed is None else _share_inside(values, claimed),
        )

    def spreads(self) -> pd.DataFrame:
        """One row per quantity: low, median, high, and by how much each choice moves it."""
        rows = []
        for label in self.quantities:
            s = self.spread(label)
            moved = {f"by_{name}": s.moved_by[name] for name in CHOICES if name in s.moved_by}
            rows.append({"quantity": label, "low": s.low, "median": s.median, "high": s.high})
            rows[-1].update(moved)
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        table = self.spreads().to_string(index=False, float_format=lambda x: f"{x:.6g}")
        return "\n".join([*self._sentences(), table])

    def _repr_html_(self) -> str:
        table = self.spreads().to_html(index=False, float_format=lambda x: f"{x:.6g}")
        return f"<p>{'<br>'.join(map(escape, self._sentences()))}</p>{table}"

    def _sentences(self) -> list[str]:
        # What a law derives comes last; it is what people quote.
        headline = "a" if "a" in self.quantities else self.quantities[-1]
        return [self.spread(headline).sentence, *self._warnings()]

    def _warnings(self) -> list[str]:
        hits, found = self.table["hit_share"], []
        lost, few = int((~self.table["converged"]).sum()), int((hits < _FEW).sum())
        of = f"of {len(self):,} specifications"
        if lost:
            found.append(f"{lost} {of} did not converge.")
        if few:
            worst = f"{100 * hits.min():.2g}% at worst"
            found.append(f"{few} {of} are reached by few of their restarts ({worst}).")
        failed = self.table.get("failed_share", pd.Series(dtype=float))
        if (failed > 0).any():
            worst = f"{100 * failed.max():.2g}% at worst"
            found.append(
                f"{int((failed > 0).sum())} {of} have resamples without a finite optimum, which "
                f"are left out ({worst})."
            )
        return found


def _levels(table: pd.DataFrame, label: str) -> pd.DataFrame:
    """One row per choice and level, for choices with several levels."""
    rows = []
    for choice in CHOICES:
        groups = table.groupby(choice, sort=False)[label]
        if groups.ngroups < 2:
            continue
        found = groups.agg(["size", "mean", "min", "max"])
        found.columns = pd.Index(["specifications", "mean", "low", "high"])
        found.insert(0, "level", found.index)
        found.insert(0, "choice", choice)
        rows.append(found)
    columns = ["choice", "level", "specifications", "mean", "low", "high"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def _share_inside(values: np.ndarray, claimed: tuple[float, float]) -> float:
    low, high = claimed
    if not low < high:
        raise DataError(f"a claimed interval is two numbers, the lower first, got {claimed}")
    return float(np.mean((low <= values) & (values <= high)))
