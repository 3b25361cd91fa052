"""Tables of runs that could be trained: grids of candidates, and isoFLOP and ray designs."""

import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from jaxscale._errors import DataError, LawError
from jaxscale._law import Law
from jaxscale.flops import FlopFunction, six_nd

_COSTS = ("cost", "flop", "C")
_LOG_ENDS = (-20.0, 80.0)  # from far below one to 5e34
_HALVINGS = 80


def candidates(
    *,
    cost: Callable[..., Any] = six_nd,
    min_flop: float = 0.0,
    max_flop: float = np.inf,
    **inputs: Any,
) -> pd.DataFrame:
    """All combinations of sizes, with what each run costs, as `plan` takes them.

    Args:
        cost: FLOPs of a run by its inputs; only those that the function names are passed.
        min_flop, max_flop: cheaper and dearer runs are left out.
        **inputs: sizes to combine, an array for every input of the law.

    Returns:
        One row per candidate: the inputs and ``flop``.

    Raises:
        DataError: for sizes that are not positive numbers, or if no run is left.

    Example:
        >>> candidates(N=np.geomspace(1e7, 1e10, 30), D=np.geomspace(1e9, 1e12, 30), max_flop=1e21)
    """
    if not inputs:
        raise DataError("say which sizes may be run, such as N=np.geomspace(1e7, 1e10, 30)")
    axes = {name: np.unique(np.ravel(np.asarray(x, float))) for name, x in inputs.items()}
    for name, values in axes.items():
        if not len(values) or not np.isfinite(values).all():
            raise DataError(f"the candidates need at least one finite {name}")
    grid = np.meshgrid(*axes.values(), indexing="ij")
    table = pd.DataFrame({name: x.ravel() for name, x in zip(axes, grid, strict=True)})
    table["flop"] = cost_of(table, cost)
    kept = table[(table["flop"] >= min_flop) & (table["flop"] <= max_flop)]
    if kept.empty:
        raise DataError(
            f"no candidate costs between {min_flop:.3g} and {max_flop:.3g} FLOPs; they cost "
            f"{table['flop'].min():.3g} to {table['flop'].max():.3g}"
        )
    return kept.reset_index(drop=True)


def cost_of(table: pd.DataFrame, cost: Callable[..., Any]) -> np.ndarray:
    """Cost of every row by a function of some of its columns.

    Raises:
        DataError: if the function needs something that is no column, or gives no positive number.
    """
    needed = [
        name
        for name, argument in inspect.signature(cost).parameters.items()
        if argument.default is argument.empty or name in table.columns
    ]
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise DataError(
            f"the cost of a run needs {', '.join(missing)}; the candidates have "
            f"{', '.join(map(str, table.columns))} (pass cost= or a column 'cost')"
        )
    values = np.asarray(cost(**{name: table[name].to_numpy(float) for name in needed}), float)
    return np.broadcast_to(values, len(table)).astype(float)


def read_candidates(law: Law, table: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs of the law, and cost, of every row of a table.

    Args:
        law: the law.
        table: a pandas, polars or pyarrow table with a column for every input of the law and one of
            the cost: ``cost``, ``flop`` or ``C``; without it, a run costs 6 N D.

    Raises:
        DataError: naming the column, and the row counted from 1.
    """
    try:
        frame = nw.from_native(table, eager_only=True).to_pandas()
    except (TypeError, nw.exceptions.NarwhalsError) as error:
        raise DataError(f"the candidates are not a usable table ({error})") from None
    missing = [name for name in law.inputs if name not in frame.columns]
    if missing or frame.empty:
        raise DataError(
            f"the candidates need rows with the columns {', '.join(law.inputs)}; "
            + (f"{missing[0]!r} is missing" if missing else "there are none")
        )
    frame = frame.reset_index(drop=True)
    inputs = {name: _numbers(frame, name) for name in law.inputs}
    for name, values in inputs.items():
        about = law.about(name)
        _refuse(~about.allows(values), values, name, about.must)
    column = next((name for name in _COSTS if name in frame.columns), None)
    cost = cost_of(frame, six_nd) if column is None else _numbers(frame, column)
    _refuse(~(np.isfinite(cost) & (cost > 0)), cost, column or "cost", "be greater than zero")
    return inputs, cost


def _numbers(frame: pd.DataFrame, name: str) -> np.ndarray:
    numbers = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
    bad = np.flatnonzero(np.isnan(numbers))
    if bad.size:
        raise DataError(
            f"the candidates: row {bad[0] + 1} has {frame[name].iloc[bad[0]]!r} in column "
            f"{name!r}, which is not a number"
        )
    return numbers


def _refuse(bad: np.ndarray, values: np.ndarray, name: str, must: str) -> None:
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"the candidates: row {at + 1} has {values[at]:g} as {name}; it must {must}"
        )


def isoflop_design(
    budget: float,
    *,
    levels: int = 4,
    sizes: int = 7,
    ratio: float = 3.0,
    span: float = 4.0,
    tokens_per_parameter: float = 20.0,
    cost: FlopFunction = six_nd,
) -> pd.DataFrame:
    """Curves of equal compute, C_k = C_max / ratio^k, that cost the budget together.

    Every curve has models from ``1/span`` to `span` times the size at `tokens_per_parameter`.

    Args:
        budget: FLOPs of all runs together.
        levels: number of curves.
        sizes: models of each.
        ratio: FLOPs of a curve over those of the next smaller one.
        span: largest size of a curve over its middle.
        tokens_per_parameter: D / N in the middle.
        cost: FLOPs of a run by N and D.

    Returns:
        One row per run: N, D, flop.

    Raises:
        DataError: for numbers that make no design.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, section 3.2, for the kind of design.

    Example:
        >>> isoflop_design(1e21, levels=5)
    """
    _check_design(budget, levels, sizes, ratio, tokens_per_parameter)
    if not span > 1:
        raise DataError(f"an isoFLOP curve needs span > 1, got {span}")
    shares = ratio ** -np.arange(levels, dtype=float)
    each = budget * shares / (sizes * shares.sum())
    offsets = np.geomspace(1 / span, span, sizes) if sizes > 1 else np.ones(1)
    runs = [
        (factor * _size_at(flop, tokens_per_parameter, cost), flop)
        for flop, factor in itertools.product(each, offsets)
    ]
    return _with_tokens(runs, cost)


def ray_design(
    budget: float,
    *,
    runs: int = 28,
    tokens_per_parameter: float | Sequence[float] = 20.0,
    ratio: float = 1.5,
    cost: FlopFunction = six_nd,
) -> pd.DataFrame:
    """Runs at one number of tokens per parameter, C_k = C_max / ratio^k, that cost the budget.

    On one such ray alone the terms of N and of D cannot be told apart; several numbers take turns.

    Args:
        budget: FLOPs of all runs together.
        runs: number of runs.
        tokens_per_parameter: D / N, one number or several.
        ratio: FLOPs of a run over those of the next smaller one.
        cost: FLOPs of a run by N and D.

    Returns:
        One row per run: N, D, flop.

    Raises:
        DataError: for numbers that make no design.

    Example:
        >>> ray_design(1e21, tokens_per_parameter=(5, 20, 80))
    """
    rays = np.ravel(np.asarray(tokens_per_parameter, float))
    for ray in rays:
        _check_design(budget, runs, 1, ratio, float(ray))
    shares = ratio ** -np.arange(runs, dtype=float)
    each = budget * shares / shares.sum()
    return _with_tokens(
        [(_size_at(flop, float(rays[k % len(rays)]), cost), flop) for k, flop in enumerate(each)],
        cost,
    )


def _check_design(budget: float, levels: int, sizes: int, ratio: float, tokens: float) -> None:
    if not (0 < budget < np.inf and levels >= 1 and sizes >= 1 and ratio >= 1 and tokens > 0):
        raise DataError(
            "a design needs a positive budget, at least one run, a ratio of at least 1 and a "
            "positive number of tokens per parameter"
        )


def _size_at(flop: float, tokens_per_parameter: float, cost: FlopFunction) -> float:
    """N with cost(N, tokens_per_parameter N) = flop."""
    return _where(lambda N: float(cost(N, tokens_per_parameter * N)), flop)


def _where(spent: Callable[[float], float], flop: float) -> float:
    """x with spent(x) = flop, for a function that rises, or NaN: bisection in log x."""
    low, high = _LOG_ENDS
    if not spent(np.exp(low)) < flop < spent(np.exp(high)):
        return np.nan
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if spent(np.exp(middle)) > flop else (middle, high)
    return float(np.exp(0.5 * (low + high)))


def _with_tokens(runs: list[tuple[float, float]], cost: FlopFunction) -> pd.DataFrame:
    sizes, flop = (np.asarray(x, float) for x in zip(*runs, strict=True))

    def tokens_of(size: float, spent: float) -> float:
        return _where(lambda tokens: float(cost(size, tokens)), spent)

    tokens = [tokens_of(*run) for run in zip(sizes, flop, strict=True)]
    if not np.isfinite(tokens).all():
        raise LawError("no number of tokens costs what a run of the design may; change its span")
    return pd.DataFrame({"N": sizes, "D": tokens, "flop": flop})
