"""allocate(): the compute-optimal model size and number of tokens for a budget."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit
from jaxscale._law import Law
from jaxscale._optimum import optimum
from jaxscale._predict import extrapolation_notes, is_traced
from jaxscale.flops import FlopFunction, six_nd


@dataclasses.dataclass(frozen=True)
class Frontier:
    """The compute-optimal frontier.

    Attributes:
        flop: budgets, in FLOPs.
        N, D: optimal parameters and training tokens.
        loss: predicted loss there.
        bands: lower and upper ends by quantity, or empty if the source carries no uncertainty.
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


def allocate(source: Fit, *, flop: Any, cost: FlopFunction = six_nd) -> Frontier:
    """Model size and tokens that minimize the predicted loss at a fixed training cost.

    Under ``cost = 6 N D`` the closed form of the law is used where there is one; otherwise the
    stationary point along the budget is found by bisection. Both can be differentiated, in the
    parameters and in `flop`.

    Args:
        source: a fit of a law in N and D, for one data set.
        flop: budget or budgets, in FLOPs.
        cost: ``cost(N, D)`` in FLOPs, increasing in D, such as `flops.six_nd` or a function of
            your own that knows the shape of a model of N parameters.

    Raises:
        LawError: if the law is not one in N and D, or if the loss has no minimum along the budget
            inside nine decades around the models seen.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, equation 4.

    Example:
        >>> allocate(fit, flop=[1e21, 1e23]).frame()
    """
    law = source.law
    if source.sets is not None:
        raise DataError(f"choose one data set first, such as fit[{source.sets[0]!r}]")
    if set(law.inputs) != {"N", "D"}:
        raise LawError(
            f"allocate needs a law in N and D, but {law.name!r} is in {', '.join(law.inputs)}"
        )
    budget = jnp.asarray(flop, float)
    _refuse_bad_budget(budget)
    params = source.params
    N, D = optimum(law, _middle(source), params, budget, cost)
    _refuse_no_minimum(law, source, budget, N, D)
    return Frontier(
        flop=budget,
        N=N,
        D=D,
        loss=law(*({"N": N, "D": D}[name] for name in law.inputs), **params),
        ranges=source.ranges,
        notes=extrapolation_notes(source, {"N": N, "D": D}),
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
    numbers = np.asarray(budget)
    if not (np.isfinite(numbers) & (numbers > 0)).all():
        raise DataError(f"the budget must be positive FLOPs, got {numbers}")


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
