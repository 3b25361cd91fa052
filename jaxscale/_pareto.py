"""time_compute_pareto(): larger batches take fewer steps, and more compute."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from jaxscale._best import quantiles
from jaxscale._draws import tails
from jaxscale._errors import DataError, LawError
from jaxscale._source import Source, source_of
from jaxscale._tables import html, text
from jaxscale.flops import FlopFunction, six_nd


@dataclasses.dataclass(frozen=True)
class Pareto:
    """Time against compute, over batches and perhaps models.

    Attributes:
        N: parameters of each model, shape (models, 1).
        critical_batch: batch that takes twice the least steps and twice the least tokens, same.
        batch: tokens per batch, shape (models, batches); so for what follows.
        steps: optimizer steps.
        tokens: tokens trained on.
        flop: FLOPs of training.
        time: seconds, or steps if no time of a step was given.
        efficient: whether no other point is both faster and cheaper.
        bands: lower and upper ends of ``steps``, ``tokens`` and ``flop`` over the draws of the
            critical batch, or empty.
        level: probability content of the bands, or None.
        unit: of the time, ``"seconds"`` or ``"steps"``.
    """

    N: Any
    critical_batch: Any
    batch: Any
    steps: Any
    tokens: Any
    flop: Any
    time: Any
    efficient: Any
    bands: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    level: float | None = None
    unit: str = "steps"

    def frame(self) -> pd.DataFrame:
        """One row per model and batch, the smallest batch first."""
        names = ("N", "critical_batch", "batch", "steps", "tokens", "flop", "time", "efficient")
        shape = np.shape(self.batch)
        columns = {name: np.broadcast_to(getattr(self, name), shape) for name in names}
        for name, (low, high) in self.bands.items():
            columns |= {f"{name}_low": low, f"{name}_high": high}
        if self.unit == "steps":
            columns.pop("time")
        return pd.DataFrame({name: np.ravel(values) for name, values in columns.items()})

    def within(self, time: float) -> "pd.Series[Any]":
        """The cheapest row that takes no longer than `time`.

        Raises:
            DataError: if none is as fast as that.
        """
        table = self.frame()
        table = table[np.ravel(np.broadcast_to(self.time, np.shape(self.batch))) <= time]
        if not len(table):
            raise DataError(
                f"nothing is done within {time:.4g} {self.unit}; the fastest takes "
                f"{np.min(self.time):.4g}"
            )
        return table.loc[table["flop"].idxmin()]

    def __repr__(self) -> str:
        return text(self.frame())

    def _repr_html_(self) -> str:
        return html("Time against compute", self.frame(), ())


def time_compute_pareto(
    N: Any,
    D: Any,
    *,
    critical_batch: Any,
    loss: Any = None,
    batch: Any = None,
    step_seconds: float | Callable[..., Any] | None = None,
    cost: FlopFunction = six_nd,
    level: float = 0.9,
) -> Pareto:
    """(S / S_min - 1) (E / E_min - 1) = 1: steps S and tokens E that reach one loss at any batch

    E = D (1 + B / B_crit) and S = E / B: at the critical batch both are twice their least.

    Args:
        N: parameters of one model, or of several that reach the same loss, shape (models,).
        D: tokens that each needs at a small batch, E_min, such as those of `allocate` and
            `budget_for`; same shape.
        critical_batch: B_crit in tokens, for each model; or what gives it: a fit, draws or
            published numbers of `critical_batch` (in the loss), of `scaling_rule` (of the tokens),
            of any law in N, D and L, or of `critical_batch_steps` and its twin.
        loss: the loss to be reached, if the law of B_crit depends on it.
        batch: tokens per batch, shape (batches,); default from 1/32 to 32 times the critical one.
        step_seconds: seconds that one step takes, or a function of N and of the batch.
        cost: ``cost(N, D)`` in FLOPs.
        level: probability content of the bands, if B_crit has draws.

    Raises:
        DataError: for numbers that are not positive, or a loss that is missing.
        LawError: for a law of B_crit in other inputs.

    Source: McCandlish et al. 2018, arXiv 1812.06162, equation 2.11; Kaplan et al. 2020, arXiv
    2001.08361, section 5.1.

    Example:
        >>> time_compute_pareto(7e9, 1.4e11, critical_batch=4e6).frame()
    """
    sizes, least = np.broadcast_arrays(_positive("N", N).ravel(), _positive("D", D).ravel())
    sizes, least = sizes[:, None], least[:, None]
    middle, drawn = _critical(critical_batch, sizes, least, loss)
    middle = np.broadcast_to(middle, sizes.shape)
    if batch is None:
        batches = middle * np.geomspace(1 / 32, 32, 41)
    else:
        wanted = np.sort(_positive("batch", batch).ravel())
        batches = np.broadcast_to(wanted, (len(sizes), len(wanted)))
    tokens, steps, flop = _trade(sizes, least, middle, batches, cost)
    if callable(step_seconds):
        seconds = np.asarray(step_seconds(sizes, batches), float)
    else:
        seconds = _positive("step_seconds", 1.0 if step_seconds is None else step_seconds)
    time = steps * seconds
    bands = {}
    if drawn is not None:
        each = _trade(sizes, least, drawn, batches, cost)
        names = ("tokens", "steps", "flop")
        bands = {n: quantiles(x, tails(level)) for n, x in zip(names, each, strict=True)}
    return Pareto(
        N=sizes,
        critical_batch=middle,
        batch=batches,
        steps=steps,
        tokens=tokens,
        flop=flop,
        time=time,
        efficient=_undominated(time, flop),
        bands=bands,
        level=level if bands else None,
        unit="steps" if step_seconds is None else "seconds",
    )


def _trade(N: Any, D: Any, critical: Any, batch: Any, cost: FlopFunction) -> tuple[Any, Any, Any]:
    """Tokens, steps and FLOPs at batches."""
    tokens = D * (1 + batch / critical)
    return tokens, tokens / batch, np.asarray(cost(N, tokens), float)


def _undominated(time: np.ndarray, flop: np.ndarray) -> np.ndarray:
    """Points than which no other is faster without being dearer."""
    order = np.lexsort((flop.ravel(), time.ravel()))
    costs = flop.ravel()[order]
    cheaper = np.concatenate([[np.inf], np.minimum.accumulate(costs)[:-1]])
    found = np.empty(time.size, bool)
    found[order] = costs < cheaper
    return found.reshape(time.shape)


def _critical(source: Any, N: Any, D: Any, loss: Any) -> tuple[Any, Any]:
    """Critical batches of the models, (models, 1), and those of draws, (draws, models, 1)."""
    if np.isscalar(source) or isinstance(source, list | tuple | np.ndarray):
        return _positive("critical_batch", source).reshape(-1, 1), None
    given = source_of(source)
    middle = np.asarray(_batch_of(given, given.params, N, D, loss), float)
    if given.draws is None:
        return middle, None
    columns = {name: np.asarray(x)[:, None, None] for name, x in given.draws.params.items()}
    drawn = np.asarray(_batch_of(given, columns, N, D, loss), float)
    drawn = np.broadcast_to(drawn, (len(given.draws), *N.shape))
    return (middle if given.draws.center == "fit" else np.median(drawn, axis=0)), drawn


def _batch_of(given: Source, params: Any, N: Any, D: Any, loss: Any) -> Any:
    law = given.law
    if "B_crit" in law.names:
        return params["B_crit"]
    known = {"N": N, "D": D, "x": D, "L": loss}
    for name in law.inputs:
        if name not in known:
            raise LawError(f"a critical batch depends on N, D or L; {law.name!r} is in {name}")
    if "L" in law.inputs and loss is None:
        raise DataError(f"{law.name!r} depends on the loss to be reached: give loss=")
    inputs = [np.asarray(known[name], float) for name in law.inputs]
    return law(*inputs, **{name: np.asarray(value) for name, value in params.items()})


def _positive(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value, float)
    if not (np.isfinite(array) & (array > 0)).all():
        raise DataError(f"{name} must be positive, got {value}")
    return array
