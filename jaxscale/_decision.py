"""decision_accuracy(): do small runs rank recipes as large runs do?"""

import dataclasses
import functools
import html
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import pandas as pd

from jaxscale._errors import DataError
from jaxscale._fit import fit as fit_law
from jaxscale._law import Law
from jaxscale._objective import Objective
from jaxscale._runs import Runs
from jaxscale._sizes import SAME_SIZE, counted, design_codes, sizes
from jaxscale._trajectories import determined
from jaxscale.scores import pairwise_agreement

Ties = Literal["half", "wrong", "drop"]


@dataclasses.dataclass(frozen=True)
class Decisions:
    """How well small runs rank recipes; see `decision_accuracy`.

    Attributes:
        target: the inputs at which recipes are ranked for real.
        observed: loss of each recipe there, by name.
        predicted: one row per method and size: what each recipe's loss was taken to be.
        table: one row per method and size: method (``"small run"`` or the law's name), size (of
            the largest run used), compute (6 N D of the runs used of one recipe, or NaN), share of
            the pairs ranked right, pairs, and bias: mean log error of the losses at the target.
        by: what the size is.
        notes: what to know before using the numbers.
    """

    target: Mapping[str, float]
    observed: Mapping[str, float]
    predicted: pd.DataFrame
    table: pd.DataFrame
    by: str
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """One row per method and size."""
        return self.table

    def frontier(self) -> pd.DataFrame:
        """The rows that no other row beats in compute and in accuracy at once, cheapest first.

        Raises:
            DataError: if the compute of the runs is not known.
        """
        known = self.table.dropna(subset=["compute"])
        if not len(known):
            raise DataError("there is no compute to weigh: the runs have no N and D")
        ordered = known.sort_values(["compute", "accuracy"], ascending=[True, False])
        best = ordered["accuracy"].cummax()
        first = ordered["accuracy"] > best.shift(fill_value=-1.0)
        return ordered[first].reset_index(drop=True)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What ranks best, and the notes."""
        said = []
        for method, part in self.table.groupby("method", sort=False):
            row = part.loc[part["accuracy"].idxmax()]
            said.append(
                f"{method} ranks {row['accuracy']:.0%} of {int(row['pairs'])} pairs right at best, "
                f"from runs of up to {self.by} = {row['size']:.3g}."
            )
        return (*said, *self.notes)

    def __repr__(self) -> str:
        at = ", ".join(f"{name} = {value:.4g}" for name, value in self.target.items())
        table = self.table.to_string(index=False, float_format=lambda x: f"{x:.4g}")
        return "\n".join([f"Decision accuracy at {at}", table, *self.sentences])

    def _repr_html_(self) -> str:
        table = self.table.to_html(index=False, float_format=lambda x: f"{x:.4g}")
        said = "<br>".join(html.escape(text) for text in self.sentences)
        return f"<b>Decision accuracy</b>{table}<p>{said}</p>"


def decision_accuracy(
    runs: Mapping[str, Runs],
    law: Law | Mapping[str, Law] | None = None,
    *,
    by: str | None = None,
    target: Mapping[str, float] | None = None,
    cuts: Any = None,
    ties: Ties = "half",
    objective: Objective | None = None,
    key: jax.Array | None = None,
    restarts: int = 128,
    show_progress: bool | None = None,
) -> Decisions:
    """Share of the pairs A, B with sign(y^_A - y^_B) = sign(y_A - y_B) at the target scale.

    y are the losses at the target; y^ are those of one smaller size, as they are, or those that a
    law predicts for the target from the runs up to that size. All fits, of all recipes and sizes,
    run in one batch.

    Args:
        runs: one table per recipe, by name. Runs of one recipe at one design point (repeats with
            other seeds) are averaged.
        law: one law, or several by name, to extrapolate with; None for small runs alone.
        by: what orders design points from small to large; default 6 N D, or the only input.
        target: inputs of the design point to rank at, which every recipe has; default the largest
            that all have.
        cuts: largest sizes that laws are fitted to, in the unit of `by`; default every common
            design point below the target that leaves more runs than parameters.
        ties: what a pair counts whose prediction or truth is a draw: ``"half"``, ``"wrong"``, or
            ``"drop"``.
        objective: of the fits; default ``LogHuber(1e-3)``.
        key: JAX random key of the fits.
        restarts: random starts of each fit.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Raises:
        DataError: for fewer than two recipes, no common target, no smaller size, laws without a
            key, or cuts that leave too few runs.

    Source: Magnusson et al. 2025 (DataDecide), arXiv 2504.11393.

    Example:
        >>> decision_accuracy({"c4": one, "rw": other, "rpj": third}, laws.chinchilla, key=key)
    """
    if not isinstance(runs, Mapping) or len(runs) < 2:
        raise DataError("give at least two recipes by name: decision_accuracy({'a': ..., ...})")
    tables = {name: table.take(counted(table)) for name, table in runs.items()}
    points = _common_points(tables, by)
    aim = _target(points, target)
    observed = {name: points.loss[aim, k] for k, name in enumerate(tables)}
    methods = _small_runs(points, aim)
    if law is not None:
        if key is None:
            raise DataError("laws are fitted from random starts: give key=")
        chosen = {law.name: law} if isinstance(law, Law) else dict(law)
        for i, (name, one) in enumerate(chosen.items()):
            mine = jax.random.fold_in(key, i)
            methods += _extrapolated(
                name, one, tables, points, aim, cuts, objective, mine, restarts, show_progress
            )
    truth = points.loss[aim]
    rows = []
    for method, size, compute, losses in methods:
        share, pairs = pairwise_agreement(losses, truth, ties=ties)
        bias = float(np.mean(np.log(losses) - np.log(truth))) if (losses > 0).all() else np.nan
        rows.append((method, size, compute, share, pairs, bias))
    columns = ["method", "size", "compute", "accuracy", "pairs", "bias"]
    predicted = pd.DataFrame(
        [(method, size, *losses) for method, size, _, losses in methods],
        columns=["method", "size", *tables],
    )
    pairs = len(tables) * (len(tables) - 1) // 2
    notes = (f"{pairs} pairs of {len(tables)} recipes are few: one pair is {1 / pairs:.0%}.",) * (
        pairs < 30
    )
    return Decisions(
        target=dict(zip(points.inputs, points.values[aim].tolist(), strict=True)),
        observed={name: float(x) for name, x in observed.items()},
        predicted=predicted,
        table=pd.DataFrame(rows, columns=columns),
        by=points.by,
        notes=notes,
    )


class _Points(NamedTuple):
    """Design points that all recipes have: inputs (points, inputs) and sizes (points,) from small
    to large, mean loss (points, recipes), and compute of one run, or NaN.
    """

    inputs: tuple[str, ...]
    by: str
    values: np.ndarray
    size: np.ndarray
    loss: np.ndarray
    compute: np.ndarray


Method = tuple[str, float, float, np.ndarray]


def _common_points(tables: Mapping[str, Runs], by: str | None) -> _Points:
    first = next(iter(tables.values()))
    inputs = tuple(first.inputs)
    for name, table in tables.items():
        if set(table.inputs) != set(inputs):
            raise DataError(f"{name}: all recipes need the inputs {', '.join(inputs)}")
    by = by or ("flop" if {"N", "D"} <= set(inputs) else inputs[0])
    codes = design_codes(tables, inputs)
    common = functools.reduce(np.intersect1d, codes.values())
    if not len(common):
        raise DataError("the recipes have no design point in common (inputs within 1%)")
    rows = []
    for point in common:
        here = {name: table.take(codes[name] == point) for name, table in tables.items()}
        one = next(iter(here.values()))
        at = [float(np.mean(np.asarray(one.inputs[x]))) for x in inputs]
        loss = [float(np.mean(np.asarray(table.loss))) for table in here.values()]
        rows.append((float(np.mean(sizes(one, by))), at, loss))
    rows.sort(key=lambda row: row[0])
    values = np.array([row[1] for row in rows])
    named = dict(zip(inputs, values.T, strict=True))
    flop = 6 * named["N"] * named["D"] if {"N", "D"} <= set(inputs) else np.full(len(rows), np.nan)
    return _Points(
        inputs=inputs,
        by=by,
        values=values,
        size=np.array([row[0] for row in rows]),
        loss=np.array([row[2] for row in rows]),
        compute=flop,
    )


def _target(points: _Points, target: Mapping[str, float] | None) -> int:
    if target is None:
        aim = len(points.size) - 1
    else:
        if set(target) != set(points.inputs):
            raise DataError(f"target= needs {', '.join(points.inputs)}; got {', '.join(target)}")
        wanted = np.log([float(target[name]) for name in points.inputs])
        off = np.abs(np.log(points.values) - wanted).max(axis=1)
        aim = int(off.argmin())
        if off[aim] > 2 * SAME_SIZE:
            raise DataError(
                f"not all recipes have a run at {dict(target)}: the nearest common design point is "
                f"{dict(zip(points.inputs, points.values[aim].tolist(), strict=True))}"
            )
    if not (points.size < points.size[aim]).any():
        raise DataError("the recipes have no common design point below the target")
    return aim


def _small_runs(points: _Points, aim: int) -> list[Method]:
    """Losses of each smaller common design point, as they are."""
    below = np.flatnonzero(points.size < (1 - SAME_SIZE) * points.size[aim])
    return [
        ("small run", float(points.size[i]), float(points.compute[i]), points.loss[i])
        for i in below
    ]


def _extrapolated(
    name: str,
    law: Law,
    tables: Mapping[str, Runs],
    points: _Points,
    aim: int,
    cuts: Any,
    objective: Objective | None,
    key: jax.Array,
    restarts: int,
    show_progress: bool | None,
) -> list[Method]:
    """Losses at the target by fits to all runs up to each size, of all recipes in one batch."""
    p = len(law.params)
    limit = (1 - SAME_SIZE) * points.size[aim]
    wanted = np.unique(points.size) if cuts is None else np.atleast_1d(np.asarray(cuts, float))
    wanted = wanted[wanted < limit]
    size = {recipe: sizes(table, points.by) for recipe, table in tables.items()}
    kept = {
        (recipe, cut): table.take(size[recipe] <= cut * (1 + SAME_SIZE))
        for cut in wanted
        for recipe, table in tables.items()
    }
    usable = [
        cut
        for cut in wanted
        if all(
            len(kept[recipe, cut]) > p and determined(law, kept[recipe, cut]) for recipe in tables
        )
    ]
    if not usable:
        raise DataError(
            f"no size below the target leaves every recipe more than the {p} parameters of {name}"
        )
    stack = Runs.stack(
        {f"{recipe} {cut!r}": kept[recipe, cut] for cut in usable for recipe in tables}
    )
    fits = fit_law(
        law, stack, objective=objective, restarts=restarts, key=key, show_progress=show_progress
    )
    at = dict(zip(points.inputs, points.values[aim], strict=True))
    losses = np.asarray(law(*(at[x] for x in law.inputs), **fits.params))
    found = losses.reshape(len(usable), len(tables))
    return [
        (name, float(cut), _compute(kept[next(iter(tables)), cut]), row)
        for cut, row in zip(usable, found, strict=True)
    ]


def _compute(table: Runs) -> float:
    if not {"N", "D"} <= set(table.inputs):
        return float("nan")
    return float((6 * np.asarray(table.inputs["N"]) * np.asarray(table.inputs["D"])).sum())
