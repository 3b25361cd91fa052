"""influence(): how much each run moves the answer."""

import dataclasses
from html import escape
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._curvature import local, times
from jaxscale._errors import DataError, FitError
from jaxscale._evaluate import Rows
from jaxscale._fit import Fit
from jaxscale._law import Law, physical_params
from jaxscale._objective import Objective
from jaxscale._quantity import Quantity, evaluate, resolve, resolve_all
from jaxscale._refit import count_runs, fit_rows, refit_sets, single_fit

# Above this many runs only the most influential ones are refitted without.
_ALL = 2000
_TOP = 200
_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class Influence:
    """What dropping each run would do to some quantities; see `influence`.

    Attributes:
        fit: the fit.
        quantities: what is followed.
        derivative: first-order effect of dropping each run, shape (runs, quantities), in the units
            of the quantities.
        loo: effect found by refitting without the run, same shape; NaN where that was not done.
        se: standard error of each quantity that these effects imply (HC1), shape (quantities,).
        residual, leverage: of each run, shape (runs,).
    """

    fit: Fit
    quantities: tuple[Quantity, ...]
    derivative: np.ndarray
    loo: np.ndarray
    se: np.ndarray
    residual: np.ndarray
    leverage: np.ndarray

    @property
    def size(self) -> np.ndarray:
        """Largest effect of dropping a run on any quantity, in its standard errors, (runs,)."""
        effect = np.where(np.isfinite(self.loo), self.loo, self.derivative)
        scaled = np.abs(effect) / np.where(self.se > 0, self.se, np.inf)
        return np.max(scaled, axis=1)

    def frame(self) -> pd.DataFrame:
        """One row per run, the most influential first.

        Columns: row, inputs, loss, residual, leverage, and by quantity ``d_<label>`` (first order)
        and ``loo_<label>`` (refitted without the run).
        """
        runs = single_fit(self.fit)
        columns = {"row": runs.row, **runs.inputs, "loss": runs.loss}
        columns |= {"residual": self.residual, "leverage": self.leverage}
        for i, quantity in enumerate(self.quantities):
            columns[f"d_{quantity.label}"] = self.derivative[:, i]
            columns[f"loo_{quantity.label}"] = self.loo[:, i]
        order = np.argsort(-self.size, kind="stable")
        return pd.DataFrame(columns).iloc[order].reset_index(drop=True)

    def runs_to_move(self, what: str | Quantity, by: float | None = None) -> int | None:
        """Fewest runs whose dropping moves a quantity by `by`, to first order.

        Args:
            what: one of the quantities followed.
            by: signed distance in the unit of the quantity; default one standard error, in
                whichever direction needs fewer runs.

        Returns:
            The number, or None if dropping every run that pulls that way is not enough.

        Source: Broderick, Giordano & Meager 2020, arXiv 2011.14999.
        """
        label = resolve(self.fit, what).label
        labels = [q.label for q in self.quantities]
        if label not in labels:
            raise DataError(f"{label} was not followed; influence(fit, [{label!r}, ...]) does")
        i = labels.index(label)
        targets = [by] if by is not None else [self.se[i], -self.se[i]]
        counts = [_fewest(self.derivative[:, i], target) for target in targets]
        return min((count for count in counts if count is not None), default=None)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The run that matters most, and how few runs make a standard error."""
        runs, size = single_fit(self.fit), self.size
        top = int(size.argmax())
        effect = np.where(np.isfinite(self.loo[top]), self.loo[top], self.derivative[top])
        i = int((np.abs(effect) / np.where(self.se > 0, self.se, np.inf)).argmax())
        label = self.quantities[i].label
        first = (
            f"Run {int(runs.row[top])} moves the answer most: without it {label} changes by "
            f"{effect[i]:+.3g}, {size[top]:.2g} standard errors."
        )
        count = self.runs_to_move(self.quantities[i])
        if count is None:
            return (first,)
        return (
            first,
            f"To first order, dropping {count} of {count_runs(self.fit)} runs, if the worst ones, "
            f"moves {label} by one standard error ({self.se[i]:.3g}).",
        )

    def __repr__(self) -> str:
        table = self.frame().head(_SHOWN)
        text = table.to_string(index=False, float_format=lambda x: f"{x:.4g}")
        return "\n".join([*self.sentences, text])

    def _repr_html_(self) -> str:
        table = self.frame().head(_SHOWN).to_html(index=False, float_format=lambda x: f"{x:.4g}")
        return f"<p>{escape(' '.join(self.sentences))}</p>{table}"


def influence(fit: Fit, quantities: Any = None) -> Influence:
    """d_i = -weight_i dq/dweight_i = dq/dtheta H^-1 s_i, and q(without i) - q.

    The infinitesimal jackknife, with ``s_i`` the score of run i and H the exact Hessian, beside
    the exact leave-one-out change from real refits, all of them at once. Where the two disagree the
    objective bends between the fit with and without the run: near a kink, or at high leverage.

    Args:
        fit: a fit of one data set, with its runs.
        quantities: names or `Quantity` objects; default every parameter and derived quantity.

    Returns:
        An `Influence`. Above 2,000 runs only the 200 with the largest derivatives are refitted
        without; the others have NaN.

    Raises:
        DataError: for a stack or a fit without runs.
        FitError: if the Hessian cannot be inverted.

    Source: Jaeckel 1972; Giordano et al. 2019, arXiv 1806.00550.

    Example:
        >>> influence(fit, ["alpha", "beta"]).frame()
    """
    chosen = resolve_all(fit, quantities)
    rows = fit_rows(fit)
    theta = jnp.asarray(fit.free, rows.loss.dtype)
    derivative, residual, leverage = map(
        np.asarray, _first_order(fit.law, fit.objective, theta, rows, chosen, fit.log_refs)
    )
    if not np.isfinite(derivative).all():
        raise FitError("the Hessian at the optimum cannot be inverted: the runs leave a direction")
    n, p = count_runs(fit), len(fit.law.params)
    se = np.sqrt((derivative**2).sum(0) * n / max(n - p, 1))
    return Influence(
        fit=fit,
        quantities=chosen,
        derivative=derivative,
        loo=_leave_one_out(fit, chosen, _worth_refitting(derivative, se)),
        se=se,
        residual=residual,
        leverage=leverage,
    )


@jax.jit(static_argnames="law")
def _first_order(
    law: Law,
    objective: Objective,
    theta: Any,
    rows: Rows,
    quantities: tuple[Quantity, ...],
    log_refs: Any,
) -> tuple[Any, Any, Any]:
    def values(at: Any) -> Any:
        return evaluate(law, quantities, physical_params(law, at, log_refs))

    near = local(law, objective, theta, rows, "exact")
    moves = jnp.linalg.solve(near.hessian, near.scores.T).T
    return times(moves, jax.jacfwd(values)(theta).T), near.residual, near.leverage


def _worth_refitting(derivative: np.ndarray, se: np.ndarray) -> np.ndarray:
    n = len(derivative)
    if n <= _ALL:
        return np.arange(n)
    size = np.max(np.abs(derivative) / np.where(se > 0, se, np.inf), axis=1)
    return np.sort(np.argsort(-size, kind="stable")[:_TOP])


def _leave_one_out(fit: Fit, chosen: tuple[Quantity, ...], which: np.ndarray) -> np.ndarray:
    """Change of the quantities without each run in `which`, NaN for the others."""
    weight = np.asarray(single_fit(fit).weight, float)
    without = np.repeat(weight[None], len(which), axis=0)
    without[np.arange(len(which)), which] = 0.0
    refits = refit_sets(fit, weight=without)
    params = physical_params(fit.law, jnp.asarray(refits.theta), fit.log_refs)
    change = np.asarray(evaluate(fit.law, chosen, params) - evaluate(fit.law, chosen, fit.params))
    change = np.where(np.isfinite(refits.value)[:, None], change, np.nan)
    loo = np.full((len(weight), len(chosen)), np.nan)
    loo[which] = change
    return loo


def _fewest(effects: np.ndarray, target: float) -> int | None:
    """How many of the largest effects towards a target add up to it."""
    towards = np.sort(np.maximum(effects * np.sign(target), 0.0))[::-1]
    reached = np.flatnonzero(np.cumsum(towards) >= abs(target))
    return int(reached[0]) + 1 if reached.size else None
