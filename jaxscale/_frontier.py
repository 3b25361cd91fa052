"""Frontier: the best sizes over the budget."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from jaxscale._tables import html, text


@dataclasses.dataclass(frozen=True)
class Frontier:
    """The compute-optimal frontier.

    Attributes:
        flop: budgets, in FLOPs.
        N, D: optimal parameters and training tokens.
        loss: predicted loss there.
        bands: lower and upper ends by quantity, or empty if the source carries no uncertainty:
            ``N``, ``D`` and ``tokens_per_parameter`` of the optimum; ``loss`` of the law and
            ``run`` of a new run, both at the size in the table.
        level: probability content of the bands, or None.
        ranges: lowest and highest N and D of the runs behind it.
        notes: what to know before using the numbers.
        inputs: other numbers at the optimum by name: fixed, chosen, or following from others.
        binding: for every budget, in the order of ``frame()``, the limits that bind; empty without
            limits.
        options: one row per budget and combination of what was to be chosen, with the loss that it
            gives and, for draws, the share of them for which it is the best; None if nothing was.
    """

    flop: Any
    N: Any
    D: Any
    loss: Any
    bands: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    level: float | None = None
    ranges: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    inputs: dict[str, Any] = dataclasses.field(default_factory=dict)
    binding: tuple[str, ...] = ()
    options: pd.DataFrame | None = None

    @property
    def tokens_per_parameter(self) -> Any:
        """D / N."""
        return self.D / self.N

    def frame(self) -> pd.DataFrame:
        """One row per budget: sizes, other inputs, loss, limits that bind, and bands if any."""
        columns = {
            "flop": self.flop,
            "N": self.N,
            "D": self.D,
            "tokens_per_parameter": self.tokens_per_parameter,
            **self.inputs,
            "loss": self.loss,
        }
        for name, (low, high) in self.bands.items():
            columns |= {f"{name}_low": low, f"{name}_high": high}
        table = pd.DataFrame({name: np.ravel(np.asarray(x)) for name, x in columns.items()})
        if self.binding:
            table.insert(table.columns.get_loc("loss") + 1, "limit", list(self.binding))
        return table

    def __repr__(self) -> str:
        return "\n".join([text(self.frame()), *self.notes])

    def _repr_html_(self) -> str:
        return html("Compute-optimal sizes", self.frame(), self.notes)
