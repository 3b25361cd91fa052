"""What to know before training the runs of a plan."""

from typing import Any

import numpy as np
import pandas as pd

from jaxscale._belief import Belief
from jaxscale._draws import Draws
from jaxscale._predict import extrapolation_notes
from jaxscale._quantity import Quantity, to_interval_scale

_UNSPENT = 0.5
_CURVED = 1.25
_CLOSE = 1.4


def plan_notes(
    belief: Belief,
    targets: tuple[Quantity, ...],
    prospects: pd.DataFrame,
    draws: Draws | None,
    se: np.ndarray,
    *,
    lost: int,
    budget: float,
    limits: str,
) -> tuple[str, ...]:
    """Doubt, noise, extrapolation, edges of the grid and money left, one sentence each.

    Args:
        belief: what the plan is made from.
        targets: what it is for.
        prospects: candidates with their inputs, flop and times.
        draws: the draws behind it, if any.
        se: standard error of every target before the runs, on the scale of intervals.
        lost: candidates at which the law has no derivative.
        budget: what could be spent.
        limits: the limits on the number of runs, in words.
    """
    run = prospects[prospects["times"] > 0]
    inputs = {name: run[name].to_numpy(float) for name in belief.law.inputs}
    notes = [*belief.notes, *belief.noise.notes]
    if belief.fit is not None:
        notes += extrapolation_notes(belief.fit, inputs)
    else:
        notes += _too_few(belief, len(run))
    notes += _edges(belief, prospects, run)
    if np.max(belief.noise.cell) > 0:
        notes += _crowded(inputs)
    if draws is not None:
        notes += _curved(belief, targets, draws, se)
    if lost:
        notes.append(f"The law has no derivative at {lost} candidates; they were left out.")
    spent = float((run["flop"] * run["times"]).sum())
    if spent < _UNSPENT * budget:
        notes.append(
            f"Only {spent / budget:.2%} of the budget is spent: no other candidate fits in or "
            f"helps within the limits ({limits})."
        )
    return tuple(dict.fromkeys(notes))


def _too_few(belief: Belief, settings: int) -> list[str]:
    p = len(belief.law.params)
    if settings >= p:
        return []
    return [
        f"{settings} settings cannot determine the {p} parameters without what is known already: "
        "name more targets, criterion='D', or a guess with sd=."
    ]


def _edges(belief: Belief, prospects: pd.DataFrame, run: pd.DataFrame) -> list[str]:
    """Where the runs are as far out as the candidates allow."""
    found = []
    for name in (*belief.law.inputs, "flop"):
        low, high = prospects[name].min(), prospects[name].max()
        if low == high:
            continue
        said = "the most expensive" if name == "flop" else f"of the largest {name}"
        at = int(run.loc[run[name] >= high * (1 - 1e-9), "times"].sum())
        if at:
            found.append(f"{at} {said} ({high:.3g})")
        at = int(run.loc[run[name] <= low * (1 + 1e-9), "times"].sum())
        if at and name != "flop":
            found.append(f"{at} of the smallest {name} ({low:.3g})")
    if not found:
        return []
    return [f"At the edge of the candidates: {', '.join(found)}. Wider candidates may do better."]


def _crowded(inputs: dict[str, np.ndarray]) -> list[str]:
    """Settings so close that they miss the truth alike, which the plan takes for independent."""
    near = np.ones((len(next(iter(inputs.values()))),) * 2, bool)
    for values in inputs.values():
        apart = np.abs(values[:, None] - values)
        near &= apart < (_CLOSE - 1) * np.minimum(np.abs(values[:, None]), np.abs(values))
    close = int((near.sum(axis=1) > 1).sum())
    if not close:
        return []
    return [
        f"{close} of {len(near)} settings lie within a factor of {_CLOSE} of another: what the law "
        "misses is alike there but counts as independent. Space the candidates wider."
    ]


def _curved(
    belief: Belief, targets: tuple[Quantity, ...], draws: Draws, se: np.ndarray
) -> list[str]:
    """Where a target is too curved for its derivative to say how uncertain it is."""
    found: list[Any] = []
    for quantity, linear in zip(targets, se, strict=True):
        each = np.asarray(to_interval_scale(belief.law, quantity, draws[quantity]))
        low, high = np.nanquantile(each, [0.158655, 0.841345])
        ratio = linear / max(0.5 * (high - low), 1e-300)
        if not 1 / _CURVED < ratio < _CURVED:
            found.append(
                f"The derivative of {quantity.label} gives {ratio:.2g} times the spread that its "
                "draws have: take its predicted standard errors as relative."
            )
    return found
