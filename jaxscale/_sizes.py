"""How large a run is, for everything that goes from small runs to large ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxscale._errors import DataError
from jaxscale._runs import Runs

# Sizes this close, relatively, count as equal: they are read off figures, or rounded.
SAME_SIZE = 0.01
# A cut must leave so many runs per parameter: below that a robust fit mostly interpolates.
RUNS_PER_PARAMETER = 3
CUTS = 8


def sizes(runs: Runs, by: Any = None) -> np.ndarray:
    """What orders the runs from small to large: 6 N D, an input, or numbers, shape (runs,).

    Args:
        runs: one table.
        by: the name of an input, ``"flop"`` or ``"C"`` for 6 N D, or numbers, one per run. None
            stands for 6 N D or else the only input.

    Raises:
        DataError: if there is no such input, or if None could mean several.
    """
    if runs.sets is not None:
        raise DataError("choose one data set of the stack first: runs[name]")
    inputs = {name: np.asarray(x, float) for name, x in runs.inputs.items()}
    if by is None:
        by = "C" if {"N", "D"} <= set(inputs) else next(iter(inputs))
        if by != "C" and len(inputs) > 1:
            raise DataError(f"say what orders the runs with by=, such as by={by!r}")
    if isinstance(by, str) and by in inputs:
        return inputs[by]
    if isinstance(by, str) and by in ("C", "flop") and {"N", "D"} <= set(inputs):
        return np.asarray(6.0 * inputs["N"] * inputs["D"])
    if isinstance(by, str):
        raise DataError(
            f"{runs.source}: there is no input {by!r} to order the runs by; there are "
            f"{', '.join(inputs)}"
        )
    numbers = np.asarray(by, float)
    if numbers.shape != (len(runs),) or not (np.isfinite(numbers) & (numbers > 0)).all():
        raise DataError(f"by must have {len(runs)} positive numbers, one for each run")
    return numbers


def counted(runs: Runs) -> np.ndarray:
    """The runs that count, which padding does not, shape (runs,)."""
    return np.asarray(np.asarray(runs.weight) > 0)


def design_codes(tables: Mapping[str, Runs], inputs: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Design point of every run of several tables, as one set of codes: shape (runs,) each.

    Inputs that agree to 1% are one design point, as sizes are read off figures, or rounded.
    """
    columns = []
    for name in inputs:
        values = np.concatenate([np.asarray(t.inputs[name], float) for t in tables.values()])
        positive = bool((values > 0).all())
        columns.append(_steps(np.log(values)) if positive else values)
    together = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].ravel()
    ends = np.cumsum([len(table) for table in tables.values()])[:-1]
    return dict(zip(tables, np.split(together, ends), strict=True))


def _steps(logs: np.ndarray) -> np.ndarray:
    """Codes of values that agree up to gaps of 1%, in ascending order."""
    order = np.argsort(logs, kind="stable")
    codes = np.empty(len(logs), int)
    codes[order] = np.cumsum(np.diff(logs[order], prepend=logs[order[0]]) > SAME_SIZE)
    return codes


def kept_below(
    size: np.ndarray, weight: np.ndarray, least: int, cuts: Any, by: str, most: int = CUTS
) -> np.ndarray:
    """Which runs lie at or below each of several cuts in size, shape (cuts, runs).

    Args:
        size: of every run, shape (runs,).
        weight: of every run; those of zero are never kept.
        least: runs that a cut must leave; it must also leave one out.
        cuts: largest sizes kept; default up to `most` between the runs, even in rank.
        by: what the size is, for the message.
        most: number of default cuts.

    Raises:
        DataError: if no cut leaves enough runs below it and one above it.
    """
    used = weight > 0
    if cuts is None:
        levels = np.unique(size[used])
        counts = np.array([(size[used] <= level).sum() for level in levels])
        levels = levels[(counts >= least) & (counts < used.sum())]
        chosen = np.linspace(0, len(levels) - 1, min(most, len(levels))).round().astype(int)
        cuts = levels[np.unique(chosen)]
    limits = np.atleast_1d(np.asarray(cuts, float))
    below = (size <= limits[:, None] * (1 + 1e-9)) & used
    enough = (below.sum(axis=1) >= least) & (below.sum(axis=1) < used.sum())
    if not enough.any():
        raise DataError(
            f"no cut in {by} leaves at least {least} runs below it ({RUNS_PER_PARAMETER} per "
            "parameter) and one above it"
        )
    return np.asarray(below[enough])
