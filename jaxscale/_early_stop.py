"""A mistake, reproduced: how a fit that stops early yields intervals that are far too narrow.

Everything here is meant to fail. It fits the Chinchilla law as a common script does, with SciPy's
L-BFGS-B at its default tolerances, which are absolute for practical purposes: an objective of size
1e-6 looks converged wherever it starts. Resamples then all end near the start, and the spread of
their ends is reported as an uncertainty. It exists to show that, and shares no code with `fit`.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import jax
import numpy as np
import pandas as pd
import scipy

from jaxscale import published
from jaxscale._bootstrap import pairs_weights
from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit
from jaxscale._law import physical_params
from jaxscale._objective import LogHuber
from jaxscale._refit import count_runs, refit_sets, single_fit
from jaxscale.laws import chinchilla

_LEVEL = 0.8  # of the intervals that Hoffmann et al. report
_CONVERGED = "converged"
_NAMES = ("A", "B", "E", "alpha", "beta")


@dataclasses.dataclass(frozen=True)
class EarlyStop:
    """What stopping early does to the exponent ``a = beta / (alpha + beta)`` and its interval.

    Attributes:
        table: one row per scaling of the objective, and a last one for the converged fit. From one
            fit to all runs: iterations, the parameters and `a` where it stopped, and `excess`, by
            which share its objective lies above the optimum. From the resamples: median and
            standard deviation of `a`, and the width of its 80% interval.
        start: the parameters that every fit began at.
        resamples: number of pairs-bootstrap resamples.
    """

    table: pd.DataFrame
    start: dict[str, float]
    resamples: int

    def frame(self) -> pd.DataFrame:
        """One row per scaling; see `table`."""
        return self.table.copy()

    @property
    def sentence(self) -> str:
        """The finding in plain English."""
        width = self.table.set_index("minimized")["width"]
        narrow = str(width.idxmin())
        if narrow == _CONVERGED:
            return "No scaling gives a narrower interval than the converged fits do."
        ratio = width[_CONVERGED] / width[narrow]
        return (
            f"Minimizing the {narrow} with default tolerances gives an 80% interval of a that is "
            f"{width[narrow]:.2g} wide; converged fits to the same resamples give "
            f"{width[_CONVERGED]:.2g}, {ratio:.3g} times as much."
        )

    def __repr__(self) -> str:
        table = self.table.to_string(index=False, float_format=lambda x: f"{x:.5g}")
        head = f"{self.resamples} resamples, L-BFGS-B with default tolerances"
        return f"{head}\n{table}\n{self.sentence}"

    def _repr_html_(self) -> str:
        table = self.table.to_html(index=False, float_format=lambda x: f"{x:.5g}")
        return f"{table}<p>{escape(self.sentence)}</p>"


def early_stop(
    fit: Fit,
    *,
    key: jax.Array,
    start: str | Mapping[str, float] = "hoffmann_2022",
    resamples: int = 200,
    scalings: Sequence[str] = ("mean", "sum", "sum*1e3"),
) -> EarlyStop:
    """Minimize ``k sum_i Huber(log L(N_i, D_i) - log L_i)`` with SciPy's defaults, for several k.

    For the Chinchilla law and `LogHuber` only, in the parameters (log A, log B, log E, alpha, beta)
    and in raw N and D, with the exact gradient. Weights are relative: their mean is taken as 1.

    Args:
        fit: a converged fit, whose runs and delta are used.
        key: JAX random key; it draws the resamples.
        start: where every fit begins: a name from `published`, or parameters by name.
        resamples: number of pairs-bootstrap resamples.
        scalings: "mean", "sum", or one of them times a number, such as "sum*1e3".

    Raises:
        LawError: for another law or objective.
        DataError: for an unusable scaling, start or number of resamples.

    Source: Besiroglu et al. 2024, arXiv 2404.10102, section 4, on the intervals of Hoffmann et al.
    2022, arXiv 2203.15556.

    Example:
        >>> early_stop(fit, key=jax.random.key(0)).frame()
    """
    if fit.law != chinchilla or type(fit.objective) is not LogHuber:
        raise LawError("early_stop() is about the law 'chinchilla' fitted with LogHuber only")
    runs = single_fit(fit)
    if resamples < 2:
        raise DataError(f"resamples must be at least 2, got {resamples}")
    factors = {text: _factor(text, count_runs(fit)) for text in scalings}
    begin = _start(start)
    own = np.asarray(runs.weight, float)
    real, mean = own > 0, own[own > 0].mean()
    own = own / mean
    weight = np.vstack([own, pairs_weights(own, None, resamples, key)])

    columns = (runs.inputs["N"], runs.inputs["D"], runs.loss)
    logs = [np.log(np.asarray(x, float)[real]) for x in columns]
    delta, best = float(fit.objective.delta), float(fit.value / mean)
    rows = []
    for text, k in factors.items():
        out = [_minimize(begin, k * w, *logs, delta) for w in weight[:, real]]
        ends = np.array([o.x for o in out])
        rows.append(_row(text, ends, int(out[0].nit), float(out[0].fun) / k / best - 1))
    ends = _logs(physical_params(fit.law, refit_sets(fit, weight=weight).theta, fit.log_refs))
    rows.append(_row(_CONVERGED, ends, None, 0.0))
    table = pd.DataFrame(rows).astype({"iterations": "Int64"})
    return EarlyStop(table, _named(begin), resamples)


def _factor(text: str, n: int) -> float:
    found = re.fullmatch(r"(mean|sum)(?:\*(.+))?", text.replace(" ", ""))
    try:
        factor = float((found and found[2]) or 1.0)
    except ValueError:
        factor = np.nan
    if found is None or not 0 < factor < np.inf:
        raise DataError(f"a scaling is 'mean', 'sum' or such as 'sum*1e3', got {text!r}")
    return factor / n if found[1] == "mean" else factor


def _start(start: str | Mapping[str, float]) -> np.ndarray:
    values = published.get(start).params if isinstance(start, str) else dict(start)
    if set(values) != set(_NAMES) or not all(values[name] > 0 for name in _NAMES):
        raise DataError(f"a start needs positive values of {', '.join(_NAMES)}, got {values}")
    return _logs(values)


def _minimize(begin: np.ndarray, *rows: Any) -> Any:
    """SciPy's result; rows are the weights, the three logs and delta."""
    return scipy.optimize.minimize(
        _value_and_gradient, begin, args=rows, jac=True, method="L-BFGS-B"
    )


def _value_and_gradient(
    at: np.ndarray,
    weight: np.ndarray,
    log_N: np.ndarray,
    log_D: np.ndarray,
    log_loss: np.ndarray,
    delta: float,
) -> tuple[float, np.ndarray]:
    a, b, e, alpha, beta = at
    terms = np.stack([a - alpha * log_N, b - beta * log_D, np.full_like(log_N, e)])
    total = np.logaddexp.reduce(terms, axis=0)
    share_N, share_D, share_E = np.exp(terms - total)
    r = total - log_loss
    inside = np.abs(r) <= delta
    rho = np.where(inside, 0.5 * r * r, delta * (np.abs(r) - 0.5 * delta))
    slopes = np.stack([share_N, share_D, share_E, -share_N * log_N, -share_D * log_D])
    pull = weight * np.clip(r, -delta, delta)
    return float((weight * rho).sum()), (slopes * pull).sum(axis=1)


def _logs(params: Mapping[str, Any]) -> np.ndarray:
    """(log A, log B, log E, alpha, beta) on the last axis."""
    values = [np.asarray(params[name], float) for name in _NAMES]
    return np.stack([*map(np.log, values[:3]), *values[3:]], axis=-1)


def _named(at: np.ndarray) -> dict[str, float]:
    values = map(float, (*np.exp(at[:3]), *at[3:]))
    return dict(zip(_NAMES, values, strict=True))


def _row(text: str, ends: np.ndarray, iterations: int | None, excess: float) -> dict[str, Any]:
    """A line of the table; the first of `ends` is the fit to the runs, the others to resamples."""
    a = ends[:, 4] / (ends[:, 3] + ends[:, 4])
    low, high = np.quantile(a[1:], [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return {
        "minimized": text,
        "iterations": iterations,
        **_named(ends[0]),
        "a": a[0],
        "excess": excess,
        "median": np.median(a[1:]),
        "sd": a[1:].std(ddof=1),
        "width": high - low,
    }
