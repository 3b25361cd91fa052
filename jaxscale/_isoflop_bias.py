"""isoflop_bias(): how far the minimum of a curve lies from that of the law it approximates."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._draws import as_draws
from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit
from jaxscale._law import Law
from jaxscale._line import weighted_line
from jaxscale._optimum import optimum
from jaxscale._valley import CURVES, Method, Valley, check_method, minima


@dataclasses.dataclass(frozen=True)
class IsoflopBias:
    """Minima of noiseless isoFLOP curves beside the optimum of the law behind them.

    Attributes:
        flop: budgets, shape (budgets,).
        N: the law's compute-optimal sizes.
        N_curve: minima of the curves; NaN where a curve has none inside its sizes.
        exponent: slope of log N over log C, or None for a single budget.
        exponent_curve: likewise of the minima.
        method: the kind of curve.
    """

    flop: np.ndarray
    N: np.ndarray
    N_curve: np.ndarray
    exponent: float | None
    exponent_curve: float | None
    method: Method

    @property
    def factor(self) -> np.ndarray:
        """N_curve / N."""
        return self.N_curve / self.N

    @property
    def sentence(self) -> str:
        """The bias in words."""
        low, high = (f"{100 * (x - 1):+.2g}%" for x in _span(self.factor))
        said = f"by {low}" if low == high else f"by {low} to {high}"
        words = f"the minimum of {CURVES[self.method]} misses the optimal N {said}"
        if self.exponent is not None and self.exponent_curve is not None:
            words += f" and the exponent a by {self.exponent_curve - self.exponent:+.2g}"
        return words

    def frame(self) -> pd.DataFrame:
        """One row per budget: flop, N of the law, N_curve and their ratio."""
        return pd.DataFrame(
            {"flop": self.flop, "N": self.N, "N_curve": self.N_curve, "factor": self.factor}
        )

    def __repr__(self) -> str:
        table = self.frame().to_string(index=False, float_format=lambda x: f"{x:.6g}")
        return f"{table}\nWithout any noise, {self.sentence}."


def isoflop_bias(
    source: Fit | Law | Any,
    *,
    flop: Any,
    params: Mapping[str, Any] | None = None,
    reach: Any = 4.0,
    offset: Any = 1.0,
    sizes: int = 15,
    method: Method = "parabola",
    log: bool = True,
) -> IsoflopBias:
    """N_curve / N*: minimum of a curve through noiseless losses over that of the law.

    The sizes are evenly spaced in log N from ``offset N* / reach`` to ``offset N* reach``, under
    C = 6 N D. For a sum of powers with exponents alpha and beta, the bias of a parabola through
    the loss depends on these and on the grid alone; it vanishes for centered grids if they are
    equal. An offset that drifts with the budget biases the exponent, too.

    Args:
        source: a fit of one data set (or draws around one), or a law in N and D with `params`.
        flop: budget or budgets, in FLOPs.
        params: parameters of the law in its units, for a law.
        reach: factor from the middle of the sizes to their ends, a number or one per budget.
        offset: factor from N* to the middle of the sizes, a number or one per budget.
        sizes: number of sizes at each budget.
        method: kind of curve, as for `isoflop`.
        log: whether the curve is drawn through log loss, or else through the loss.

    Raises:
        LawError: if the law is not one in N and D, or has no minimum along a budget.
        DataError: for a reach that is not above one, or missing parameters.

    Source: Czech et al. 2026 (Open Athena), bias of approach 2.

    Example:
        >>> isoflop_bias(fit, flop=[1e19, 1e21], reach=16.0)
    """
    check_method(method)
    law, values, middle = _law_of(source, params)
    budgets = np.atleast_1d(np.asarray(flop, float))
    far, shift = (np.broadcast_to(np.asarray(x, float), budgets.shape) for x in (reach, offset))
    if not ((far > 1).all() and (shift > 0).all()):
        raise DataError(f"reach must be above 1 and offset positive, got {reach} and {offset}")
    log_n = _log_optimum(law, values, middle, budgets)
    steps = np.linspace(-1, 1, sizes)
    grids = [x + np.log(s) + np.log(r) * steps for x, s, r in zip(log_n, shift, far, strict=True)]
    found = np.array(
        [
            _minimum(law, values, grid, np.log(c / 6) - grid, method, log)
            for grid, c in zip(grids, budgets, strict=True)
        ]
    )
    return _result(budgets, log_n, found, method)


def bias_sentence(source: Any, valleys: Sequence[Valley]) -> tuple[np.ndarray, str]:
    """Bias factors of the curves of real runs, and a note, if a fitted law were the truth."""
    law, values, middle = _law_of(source, None)
    budgets = np.array([valley.flop for valley in valleys])
    log_n = _log_optimum(law, values, middle, budgets)
    found = []
    for valley in valleys:
        tokens = valley.log_tokens(valley.log_N)
        weight = valley.weight
        found.append(_minimum(law, values, valley.log_N, tokens, valley.method, valley.log, weight))
    result = _result(budgets, log_n, np.array(found), valleys[0].method)
    return result.factor, f"If the fitted {law.name} law were true, {result.sentence}."


def _law_of(
    source: Any, params: Mapping[str, Any] | None
) -> tuple[Law, Mapping[str, Any], tuple[float, float]]:
    if isinstance(source, Law):
        if params is None or set(params) != set(source.names):
            raise DataError(f"give params= with {', '.join(source.names)} for law {source.name!r}")
        # Where a search for the optimum starts, for laws that have no closed form.
        return _in_n_and_d(source), params, (np.log(1e9), np.log(2e10))
    draws = as_draws(source)
    fit: Fit = source if draws is None else draws.fit
    if fit.sets is not None:
        raise DataError(f"choose one data set first, such as fit[{fit.sets[0]!r}]")
    law = _in_n_and_d(fit.law)
    middle = [float(np.mean(np.log(np.asarray(fit.ranges[name])))) for name in ("N", "D")]
    return law, fit.params, (middle[0], middle[1])


def _in_n_and_d(law: Law) -> Law:
    if set(law.inputs) != {"N", "D"}:
        raise LawError(f"law {law.name!r} is not one in N and D, so it has no isoFLOP curves")
    return law


def _log_optimum(law: Law, params: Any, middle: Any, budgets: np.ndarray) -> np.ndarray:
    N = np.asarray(optimum(law, middle, params, jnp.asarray(budgets))[0], float)
    if not (np.isfinite(N) & (N > 0)).all():
        raise LawError(f"the loss of law {law.name!r} has no minimum along C = 6 N D")
    return np.asarray(np.log(N))


def _minimum(
    law: Law,
    params: Any,
    log_n: np.ndarray,
    log_d: np.ndarray,
    method: Method,
    log: bool,
    weight: np.ndarray | None = None,
) -> float:
    """Log size at the minimum of the curve through the law's losses."""
    at = {"N": jnp.exp(jnp.asarray(log_n)), "D": jnp.exp(jnp.asarray(log_d))}
    loss = np.asarray(law(*(at[name] for name in law.inputs), **params), float)
    y = np.log(loss) if log else loss
    weights = np.ones(len(log_n)) if weight is None else weight
    return float(minima(log_n, y[:, None], method, weights).at[0])


def _result(
    budgets: np.ndarray, log_n: np.ndarray, found: np.ndarray, method: Method
) -> IsoflopBias:
    log_c = np.log(budgets)
    slopes: list[float | None] = [None, None]
    if len(np.unique(log_c)) > 1:
        slopes = [float(weighted_line(log_c, y, 1.0).slope) for y in (log_n, found)]
    return IsoflopBias(budgets, np.exp(log_n), np.exp(found), slopes[0], slopes[1], method)


def _span(x: np.ndarray) -> tuple[float, float]:
    known = x[np.isfinite(x)]
    return (float(known.min()), float(known.max())) if len(known) else (np.nan, np.nan)
