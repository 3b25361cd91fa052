"""allocate(): the compute-optimal model size and number of tokens for a budget."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._bands import finite_draws
from jaxscale._draws import Draws, as_draws, tails
from jaxscale._errors import DataError, FitError, LawError
from jaxscale._fit import Fit
from jaxscale._law import Law
from jaxscale._optimum import log_tokens, optima, optimum
from jaxscale._predict import extrapolation_notes, is_traced, predict
from jaxscale.flops import FlopFunction, six_nd


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
    """

    flop: Any
    N: Any
    D: Any
    loss: Any
    bands: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    level: float | None = None
    ranges: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def tokens_per_parameter(self) -> Any:
        """D / N."""
        return self.D / self.N

    def frame(self) -> pd.DataFrame:
        """One row per budget: flop, N, D, tokens_per_parameter, loss, and bands if any."""
        columns = {
            "flop": self.flop,
            "N": self.N,
            "D": self.D,
            "tokens_per_parameter": self.tokens_per_parameter,
            "loss": self.loss,
        }
        for name, (low, high) in self.bands.items():
            columns |= {f"{name}_low": low, f"{name}_high": high}
        return pd.DataFrame({name: np.ravel(np.asarray(x)) for name, x in columns.items()})

    def __repr__(self) -> str:
        table = self.frame().to_string(index=False, float_format=lambda x: f"{x:.4g}")
        return "\n".join([table, *self.notes])


def allocate(
    source: Any,
    *,
    flop: Any,
    cost: FlopFunction = six_nd,
    level: float = 0.9,
    force: bool = False,
) -> Frontier:
    """Model size and tokens that minimize the predicted loss at a fixed training cost.

    Under ``cost = 6 N D`` the closed form of the law is used where there is one; otherwise the
    stationary point along the budget is found by bisection. Both can be differentiated, in the
    parameters of a fit and in `flop`.

    Args:
        source: a fit of a law in N and D, for one data set, its `Draws`, or a result that has
            ``draws``. A `Fit` alone carries no bands. Or an `Approach`, whose `frontier` it is.
        flop: budget or budgets, in FLOPs.
        cost: ``cost(N, D)`` in FLOPs, increasing in D, such as `flops.six_nd` or a function of
            your own that knows the shape of a model of N parameters.
        level: probability content of the bands, which are equal-tailed quantiles over the draws.
        force: go on with draws that are in doubt (`Draws.doubt`); the notes then say so first.

    Raises:
        FitError: for draws that are in doubt, without `force`.
        LawError: if the law is not one in N and D, or if the loss has no minimum along the budget
            inside nine decades around the models seen: at the estimate, or for half of the draws.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, equation 4.

    Example:
        >>> allocate(fit, flop=[1e21, 1e23]).frame()
    """
    if callable(getattr(source, "frontier", None)):
        return _own_frontier(source, flop, cost, level, force)
    draws = as_draws(source)
    fit = source if draws is None else draws.fit
    _refuse_other_laws(fit)
    budget = jnp.asarray(flop, float)
    _refuse_bad_budget(budget)
    if draws is not None:
        _refuse_doubt(draws, force)
        return _with_bands(draws, budget, cost, level)
    N, D = optimum(fit.law, _middle(fit), fit.params, budget, cost)
    _refuse_no_minimum(fit.law, fit, budget, N, D)
    return Frontier(
        flop=budget,
        N=N,
        D=D,
        loss=fit.law(*({"N": N, "D": D}[name] for name in fit.law.inputs), **fit.params),
        ranges=fit.ranges,
        notes=extrapolation_notes(fit, {"N": N, "D": D}),
    )


def _own_frontier(
    source: Any, flop: Any, cost: FlopFunction, level: float, force: bool
) -> Frontier:
    """The frontier of something that has one, such as an `Approach`."""
    if cost is not six_nd:
        raise DataError("an approach counts compute as its runs do; it takes no other cost")
    found = source.frontier(flop, level=level, force=force)
    assert isinstance(found, Frontier)
    return found


def _with_bands(draws: Draws, budget: Any, cost: FlopFunction, level: float) -> Frontier:
    params, _, _ = finite_draws(draws)
    sizes, tokens = optima(draws.law, _middle(draws.fit), params, budget, cost)
    # A quantile needs numbers: a draw without a minimum is one without a size.
    each = {
        "N": np.asarray(sizes),
        "D": np.asarray(tokens),
        "tokens_per_parameter": np.asarray(tokens) / np.asarray(sizes),
    }
    note = _conditional_note(each["N"], budget)
    if draws.center == "fit":
        point = allocate(draws.fit, flop=budget, cost=cost)
        N, D = point.N, point.D
    else:
        N = jnp.asarray(_middle_size(each["N"], draws.center))
        D = jnp.exp(log_tokens(cost, jnp.log(N), jnp.log(budget)))
    there = predict(draws, N=N, D=D, level=level)
    found = {name: tuple(np.nanquantile(v, tails(level), axis=0)) for name, v in each.items()}
    return Frontier(
        flop=budget,
        N=N,
        D=D,
        loss=there.mean,
        bands={
            **found,
            "loss": (there.law_low, there.law_high),
            "run": (there.run_low, there.run_high),
        },
        level=level,
        ranges=draws.ranges,
        # Doubt comes first, and prediction says it, too.
        notes=tuple(dict.fromkeys(filter(None, (draws.doubt, *note, *there.notes)))),
    )


def _middle_size(sizes: np.ndarray, center: str) -> np.ndarray:
    """The median size over the draws, or the mean of its log."""
    if center == "median":
        return np.nanmedian(sizes, axis=0)
    return np.exp(np.nanmean(np.log(sizes), axis=0))


def _conditional_note(sizes: np.ndarray, budget: Any) -> tuple[str, ...]:
    """Say for how many draws there is no compute-optimal size.

    Raises:
        LawError: if that is more than half of them at some budget.
    """
    missing = np.ravel(np.mean(~np.isfinite(sizes), axis=0))
    worst = float(missing.max())
    at = f"at {np.ravel(np.asarray(budget))[missing.argmax()]:.3g} FLOPs"
    if worst > 0.5:
        raise LawError(
            f"{at}, {worst:.0%} of the draws have no compute-optimal size: the runs do not say "
            "that there is one"
        )
    if worst == 0:
        return ()
    return (
        f"For {worst:.2%} of the draws there is no compute-optimal size {at}; the bands of N and D "
        "leave them out, so they hold only if there is one.",
    )


def _refuse_doubt(draws: Draws, force: bool) -> None:
    if draws.doubt and not force:
        raise FitError(f"{draws.doubt.rstrip('.')}; pass force=True to allocate all the same")


def _refuse_other_laws(fit: Fit) -> None:
    if fit.sets is not None:
        raise DataError(f"choose one data set first, such as fit[{fit.sets[0]!r}]")
    if set(fit.law.inputs) != {"N", "D"}:
        raise LawError(
            f"allocate needs a law in N and D, but {fit.law.name!r} is in "
            f"{', '.join(fit.law.inputs)}"
        )


def _middle(source: Fit) -> tuple[float, float]:
    """Log of the geometric middle of the sizes and tokens seen."""
    return (
        float(np.mean(np.log(np.asarray(source.ranges["N"])))),
        float(np.mean(np.log(np.asarray(source.ranges["D"])))),
    )


def _refuse_bad_budget(budget: Any) -> None:
    if is_traced(budget):
        return
    numbers = np.ravel(budget)
    usable = np.isfinite(numbers) & (numbers > 0)
    if not usable.all():
        raise DataError(f"the budget must be positive FLOPs, got {numbers[~usable][0]:g}")


def _refuse_no_minimum(law: Law, source: Fit, budget: Any, N: Any, D: Any) -> None:
    if is_traced(N, D):
        return
    usable = np.isfinite(np.asarray(N)) & np.isfinite(np.asarray(D)) & (np.asarray(N) > 0)
    if usable.all():
        return
    exponents = {k: round(float(source.params[k]), 4) for k, p in law.params if not p.unit}
    worst = np.ravel(np.asarray(budget))[np.argmin(np.ravel(usable))]
    raise LawError(
        f"at {worst:.3g} FLOPs there is no compute-optimal size: the loss of the fitted "
        f"{law.name!r} ({exponents}) does not turn around along the budget, or no size can be had "
        "for it under this cost"
    )
