"""budget_for(): the smallest budget that reaches a loss."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._best import best, inputs_at, quantiles, seen
from jaxscale._curve import Search
from jaxscale._draws import tails
from jaxscale._limit import Limit
from jaxscale._reach import reach, refuse_bad_loss
from jaxscale._remarks import (
    binding,
    disagreement_notes,
    edge_notes,
    limit_notes,
    options_table,
    unreached_notes,
)
from jaxscale._setting import choices
from jaxscale._source import refuse_meaningless, source_of
from jaxscale._tables import html, text
from jaxscale._traced import is_traced
from jaxscale.flops import FlopFunction, six_nd


@dataclasses.dataclass(frozen=True)
class Budget:
    """The smallest budget for a loss.

    Attributes:
        loss: losses to reach.
        flop: the budgets, in FLOPs.
        N, D: parameters and tokens to spend them on.
        bands: lower and upper ends of ``flop``, ``N`` and ``D`` over the draws, or empty.
        level: probability content of the bands, or None.
        unreachable: share of the draws that never reach the loss, or None; their budget counts as
            infinite in the bands.
        ranges: lowest and highest N and D of the runs behind it.
        notes: what to know before using the numbers.
        inputs, binding, options: as for a `Frontier`.
    """

    loss: Any
    flop: Any
    N: Any
    D: Any
    bands: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    level: float | None = None
    unreachable: Any = None
    ranges: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    inputs: dict[str, Any] = dataclasses.field(default_factory=dict)
    binding: tuple[str, ...] = ()
    options: pd.DataFrame | None = None

    def frame(self) -> pd.DataFrame:
        """One row per loss: FLOPs, sizes, other inputs, limits that bind, and bands if any."""
        columns = {"loss": self.loss, "flop": self.flop, "N": self.N, "D": self.D}
        columns |= {"tokens_per_parameter": self.D / self.N, **self.inputs}
        for name, (low, high) in self.bands.items():
            columns |= {f"{name}_low": low, f"{name}_high": high}
        if self.unreachable is not None:
            columns["unreachable"] = self.unreachable
        table = pd.DataFrame({name: np.ravel(np.asarray(x)) for name, x in columns.items()})
        if self.binding:
            table.insert(5 + len(self.inputs), "limit", list(self.binding))
        return table

    def __repr__(self) -> str:
        return "\n".join([text(self.frame()), *self.notes])

    def _repr_html_(self) -> str:
        return html("Smallest budgets", self.frame(), self.notes)


def budget_for(
    source: Any,
    *,
    loss: Any,
    cost: FlopFunction = six_nd,
    fixed: Mapping[str, Any] | None = None,
    choose: Mapping[str, Sequence[float]] | None = None,
    limits: Iterable[Limit] = (),
    level: float = 0.9,
    force: bool = False,
) -> Budget:
    """min cost(N, D) with L(N, D) = loss: the inverse of `allocate`

    Differentiable in the parameters of a fit, in `loss`, fixed numbers and bounds. With draws, the
    answer for each of them makes the bands; where a draw never reaches the loss, its budget is
    infinite. For draws around a median (a posterior), N is the median over the draws, and D is
    enough for half of them.

    Args:
        source: as for `allocate`; the loss must fall with D.
        loss: loss or losses to reach.
        cost, fixed, choose, limits, level, force: as for `allocate`.

    Raises:
        FitError: as for `allocate`.
        LawError: for a loss below what the law can reach, at the estimate or for half of the
            draws; or as for `allocate`.
        DataError: for a loss that is not positive, or a name that nothing depends on.

    Example:
        >>> budget_for(boot, loss=2.0).frame()
    """
    goals = refuse_bad_loss(loss)
    given = source_of(source, force)
    asked = choices(given.law, cost=cost, fixed=fixed, choose=choose, limits=limits)
    search = Search(asked.setting, reach=True)
    refuse_meaningless(given, lambda many: best(search, given, many, goals, asked).at.value, force)
    found = reach(search, given, goals, asked)
    point, over = found.point, found.over
    inputs = inputs_at(asked, point.N, point.D, point.option)
    traced = is_traced(point.N, point.D)
    bands, notes = {}, tuple[str, ...]()
    if over is not None and given.draws is not None:
        drawn = {"flop": over.at.value, "N": over.at.N, "D": over.at.D}
        bands = {name: quantiles(values, tails(level)) for name, values in drawn.items()}
        notes = (
            given.draws.doubt,
            *unreached_notes(found.unreachable, goals),
            *disagreement_notes(asked, over.option, point.option, goals),
        )
    if not traced:
        notes += (
            *limit_notes(asked, binding(asked, point.holds), goals, "in loss"),
            *edge_notes(asked, point.option),
            *seen(given, inputs),
            *(() if given.draws is None else given.draws.notes),
        )
    return Budget(
        loss=goals,
        flop=point.value,
        N=point.N,
        D=point.D,
        bands=bands,
        level=level if bands else None,
        unreachable=None if over is None else jnp.asarray(found.unreachable),
        ranges=given.ranges,
        notes=tuple(dict.fromkeys(filter(None, notes))),
        inputs={name: inputs[name] for name in asked.others},
        binding=() if traced else binding(asked, point.holds),
        options=None
        if traced
        else options_table(
            asked, goals, "loss", found.each, "flop", None if over is None else over.option
        ),
    )
