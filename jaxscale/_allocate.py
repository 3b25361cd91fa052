"""allocate(): the best model size and number of tokens for a budget."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxscale._best import (
    Point,
    after_first,
    at_center,
    best,
    first,
    inputs_at,
    quantiles,
    seen,
)
from jaxscale._curve import Search
from jaxscale._draws import Draws, tails
from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit
from jaxscale._frontier import Frontier
from jaxscale._limit import Limit
from jaxscale._predict import predict
from jaxscale._remarks import (
    binding,
    conditional_notes,
    disagreement_notes,
    edge_notes,
    limit_notes,
    options_table,
    rising_notes,
    unspent_notes,
)
from jaxscale._setting import Choices, choices
from jaxscale._source import Source, refuse_meaningless, source_of
from jaxscale._traced import is_traced
from jaxscale.flops import FlopFunction, six_nd


def allocate(
    source: Any,
    *,
    flop: Any,
    cost: FlopFunction = six_nd,
    fixed: Mapping[str, Any] | None = None,
    choose: Mapping[str, Sequence[float]] | None = None,
    limits: Iterable[Limit] = (),
    level: float = 0.9,
    force: bool = False,
) -> Frontier:
    """Model size and tokens that minimize the predicted loss at a fixed training cost.

    Under ``cost = 6 N D`` the closed form of the law is used where there is one; otherwise the
    lowest point along the budget is searched. Both can be differentiated, in the parameters of a
    fit, in `flop`, in fixed numbers and in the bounds of limits.

    Args:
        source: a fit of a law in N, D and perhaps other inputs, for one data set; its `Draws`; a
            result that has ``draws``; published parameters; or a result with a frontier of its
            own. Only draws carry bands.
        flop: budget or budgets, in FLOPs.
        cost: ``cost(N, D)`` in FLOPs, increasing in D, such as `flops.six_nd` or a function of
            your own that knows the shape of a model of N parameters. Further arguments are given
            by name, if they are fixed or chosen: ``cost(N, D, P)``.
        fixed: other inputs of the law or of the cost, by name: a number; a function of other
            inputs, such as ``lambda D: D / 25e9``; or the name of another one. An input of the law
            may follow from a number it declares, such as the epochs from ``{"U": 25e9}``.
        choose: values to choose from, by name; all combinations are tried for every budget.
        limits: what must hold besides the budget: `at_most` and `at_least`. A budget need not be
            spent if limits leave no room for it.
        level: probability content of the bands, which are equal-tailed quantiles over the draws.
        force: go on with draws that are in doubt (`Draws.doubt`), or with a fit whose verdict
            leaves the optimum without meaning; the notes then say so first.

    Raises:
        FitError: for draws in doubt, or a fit that leaves open a parameter on which the answer
            hangs, without `force`.
        LawError: if the law lacks N or D, an input is missing, or the loss has no minimum along
            the budget inside nine decades around the models seen: at the estimate, or for half of
            the draws.
        DataError: for a budget that is not positive, or a name that nothing depends on.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, equation 4; with repeated data Muennighoff et
    al. 2023, arXiv 2305.16264, section 5.

    Example:
        >>> allocate(fit, flop=[1e21, 1e23], limits=[at_most("N", 7e9)]).frame()
    """
    budget = jnp.asarray(flop, float)
    _refuse_bad_budget(budget)
    if not isinstance(source, Fit | Draws) and callable(getattr(source, "frontier", None)):
        if cost is not six_nd or fixed or choose or tuple(limits):
            raise DataError(
                f"{type(source).__name__} has a frontier of its own; cost, fixed, choose and "
                "limits need a fit or draws"
            )
        return source.frontier(budget, level, force=force)
    given = source_of(source, force)
    asked = choices(given.law, cost=cost, fixed=fixed, choose=choose, limits=limits)
    search = Search(asked.setting)
    refuse_meaningless(given, lambda many: best(search, given, many, budget, asked).at.N, force)
    if given.draws is not None:
        return _with_bands(given, given.draws, budget, search, asked, level)
    point, each = first(best(search, given, given.one, budget, asked))
    _refuse_no_minimum(given, budget, point, asked)
    inputs = inputs_at(asked, point.N, point.D, point.option)
    traced = is_traced(point.N, point.D)
    return Frontier(
        flop=budget,
        N=point.N,
        D=point.D,
        loss=point.value,
        ranges=given.ranges,
        notes=()
        if traced
        else (*seen(given, inputs), *_notes(given, asked, inputs, budget, point)),
        inputs={name: inputs[name] for name in asked.others},
        binding=() if traced else binding(asked, point.holds),
        options=None if traced else options_table(asked, budget, "flop", each, "loss", None),
    )


def _with_bands(
    given: Source, draws: Draws, budget: Any, search: Search, asked: Choices, level: float
) -> Frontier:
    every = best(search, given, given.with_draws(draws), budget, asked)
    over = after_first(every)
    conditional = conditional_notes(over.at.N, budget, "FLOPs")
    if draws.center == "fit":
        point, each = first(every)
        _refuse_no_minimum(given, budget, point, asked)
    else:
        point, each = at_center(search, over, budget, asked, draws.center)
    inputs = inputs_at(asked, point.N, point.D, point.option)
    there = predict(draws, **{name: inputs[name] for name in given.law.inputs}, level=level)
    notes = (
        draws.doubt,  # doubt comes first, and prediction says it, too
        *conditional,
        *disagreement_notes(asked, over.option, point.option, budget),
        *_notes(given, asked, inputs, budget, point),
        *there.notes,
    )
    # A quantile needs numbers: a draw without a minimum is one without a size.
    sizes = {"N": over.at.N, "D": over.at.D, "tokens_per_parameter": over.at.D / over.at.N}
    return Frontier(
        flop=budget,
        N=point.N,
        D=point.D,
        loss=there.mean,
        bands={
            **{name: quantiles(values, tails(level)) for name, values in sizes.items()},
            "loss": (there.law_low, there.law_high),
            "run": (there.run_low, there.run_high),
        },
        level=level,
        ranges=draws.ranges,
        notes=tuple(dict.fromkeys(filter(None, notes))),
        inputs={name: inputs[name] for name in asked.others},
        binding=binding(asked, point.holds),
        options=options_table(asked, budget, "flop", each, "loss", over.option),
    )


def _notes(
    given: Source, asked: Choices, inputs: dict[str, Any], budget: Any, point: Point
) -> tuple[str, ...]:
    return (
        *limit_notes(asked, binding(asked, point.holds), budget, "FLOPs"),
        *unspent_notes(asked, inputs, budget),
        *rising_notes(given, asked, inputs),
        *edge_notes(asked, point.option),
    )


def _refuse_bad_budget(budget: Any) -> None:
    if is_traced(budget):
        return
    numbers = np.ravel(budget)
    usable = np.isfinite(numbers) & (numbers > 0)
    if not usable.all():
        raise DataError(f"the budget must be positive FLOPs, got {numbers[~usable][0]:g}")


def _refuse_no_minimum(source: Source, budget: Any, point: Point, asked: Choices) -> None:
    N, D = point.N, point.D
    if is_traced(N, D):
        return
    usable = np.isfinite(np.asarray(N)) & np.isfinite(np.asarray(D)) & (np.asarray(N) > 0)
    if usable.all():
        return
    law = source.law
    exponents = {k: round(float(source.params[k]), 4) for k, p in law.params if not p.unit}
    worst = np.ravel(np.asarray(budget))[np.argmin(np.ravel(usable))]
    under = " and these limits" if asked.limit_names else ""
    raise LawError(
        f"at {worst:.3g} FLOPs there is no compute-optimal size: the loss of {law.name!r} "
        f"({exponents}) does not turn around along the budget, or no size can be had for it under "
        f"this cost{under}"
    )
