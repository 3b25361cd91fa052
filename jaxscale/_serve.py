"""serve(): the model that is cheapest over its life, training and use together."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._best import best, inputs_at, quantiles, seen
from jaxscale._by_name import added, by_name
from jaxscale._curve import Search, optimal_tokens
from jaxscale._draws import tails
from jaxscale._errors import DataError, LawError
from jaxscale._limit import Limit
from jaxscale._reach import reach, refuse_bad_loss
from jaxscale._remarks import (
    binding,
    disagreement_notes,
    edge_notes,
    limit_notes,
    options_table,
    unreached_notes,
)
from jaxscale._setting import Choices, choices
from jaxscale._source import Source, refuse_meaningless, source_of
from jaxscale._tables import html, text
from jaxscale._traced import is_traced
from jaxscale.flops import FlopFunction, forward, six_nd


@dataclasses.dataclass(frozen=True)
class Serving:
    """The model of lowest cost of training and use.

    Attributes:
        loss: the loss to be reached.
        tokens: tokens in use.
        N, D: parameters and training tokens.
        training, inference: FLOPs of training and of use.
        reference_N, reference_D: the model of the same loss that is cheapest to train.
        saving: share of the reference's FLOPs, training and use together, that is saved.
        bands: lower and upper ends over the draws of ``N``, ``D``, ``flop`` (training and use) and
            ``saving``, or empty.
        level: probability content of the bands, or None.
        unreachable: share of the draws that never reach the loss, or None.
        ranges: lowest and highest N and D of the runs behind it.
        notes: what to know before using the numbers.
        inputs, binding, options: as for a `Frontier`.
    """

    loss: Any
    tokens: Any
    N: Any
    D: Any
    training: Any
    inference: Any
    reference_N: Any  # noqa: N815
    reference_D: Any  # noqa: N815
    saving: Any
    bands: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    level: float | None = None
    unreachable: Any = None
    ranges: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    inputs: dict[str, Any] = dataclasses.field(default_factory=dict)
    binding: tuple[str, ...] = ()
    options: pd.DataFrame | None = None

    @property
    def flop(self) -> Any:
        """FLOPs of training and use together."""
        return self.training + self.inference

    def frame(self) -> pd.DataFrame:
        """One row per loss and amount of use: sizes, FLOPs, the reference, and bands if any."""
        columns = {"loss": self.loss, "tokens": self.tokens, "N": self.N, "D": self.D}
        columns |= {"tokens_per_parameter": self.D / self.N, **self.inputs}
        names = ("training", "inference", "reference_N", "reference_D", "saving")
        columns |= {name: getattr(self, name) for name in names}
        for name, (low, high) in self.bands.items():
            columns |= {f"{name}_low": low, f"{name}_high": high}
        if self.unreachable is not None:
            columns["unreachable"] = self.unreachable
        table = pd.DataFrame({name: np.ravel(np.asarray(x)) for name, x in columns.items()})
        if self.binding:
            table.insert(table.columns.get_loc("saving") + 1, "limit", list(self.binding))
        return table

    def __repr__(self) -> str:
        return "\n".join([text(self.frame()), *self.notes])

    def _repr_html_(self) -> str:
        return html("Cheapest to train and use", self.frame(), self.notes)


def serve(
    source: Any,
    *,
    tokens: Any,
    loss: Any = None,
    quality_of: Any = None,
    cost: FlopFunction = six_nd,
    use: Callable[..., Any] = forward,
    fixed: Mapping[str, Any] | None = None,
    choose: Mapping[str, Sequence[float]] | None = None,
    limits: Iterable[Limit] = (),
    level: float = 0.9,
    force: bool = False,
) -> Serving:
    """min cost(N, D) + use(N, tokens) with L(N, D) = loss

    A model that will be used a lot should be smaller, and trained on more tokens, than training
    alone would have it. Differentiable as `budget_for`, which it is without tokens in use.

    Args:
        source: as for `allocate`; the loss must fall with D.
        tokens: tokens that will be read and written in use, above zero.
        loss: the loss to be reached; or
        quality_of: parameters of a model whose loss is to be reached, trained on the tokens that
            make it compute-optimal under the law: each draw has its own. Broadcasts with `tokens`.
        cost: ``cost(N, D)`` of training.
        use: ``use(N, tokens)``, the cost of use in the unit of `cost`; in money, if tokens in use
            cost more than a third of those in training because hardware is used less well.
        fixed, choose, limits, level, force: as for `allocate`; they hold for training and use.

    Raises:
        FitError: as for `allocate`.
        LawError: for a loss below what the law can reach, at the estimate or for half of the draws.
        DataError: unless there is either a loss or a model, or for numbers that are not positive.

    Source: Sardana et al. 2023, arXiv 2401.00448, section 3.

    Example:
        >>> serve(boot, quality_of=13e9, tokens=2e12).frame()
    """
    if (loss is None) == (quality_of is None):
        raise DataError("give either the loss to reach or the model whose quality_of is wanted")
    given = source_of(source, force)
    used, goals = jnp.broadcast_arrays(
        _positive(tokens, "tokens"),
        _positive(quality_of, "quality_of") if loss is None else refuse_bad_loss(loss),
    )
    how: dict[str, Any] = {"fixed": fixed, "choose": choose, "limits": tuple(limits)}
    how["supplied"] = {"tokens": used}
    training, using = by_name(cost, ("N", "D")), by_name(use, ("N", "tokens"))
    asked = choices(given.law, cost=added(training, using), **how)
    alone = choices(given.law, cost=training, **how)
    search = Search(asked.setting, reach=True)
    rival = None
    if loss is None:
        rival = _trained_well(given, alone, goals)
        goals = rival.middle(given)
    refuse_meaningless(given, lambda many: best(search, given, many, goals, asked).at.N, force)
    found = reach(search, given, goals, asked, None if rival is None else rival.loss)
    rival = rival or _cheapest(given, alone, goals)
    point, over = found.point, found.over
    inputs = inputs_at(asked, point.N, point.D, point.option)
    traced = is_traced(point.N, point.D)
    spent = training(inputs), using(inputs)
    theirs = asked.setting.cost(inputs_at(asked, rival.N, rival.D, rival.option))
    bands, notes = {}, tuple[str, ...]()
    if over is not None and given.draws is not None:
        drawn = {"N": over.at.N, "D": over.at.D, "flop": over.at.value}
        with np.errstate(invalid="ignore"):  # infinite both, where a draw never gets there
            drawn["saving"] = 1 - np.asarray(over.at.value) / np.asarray(theirs[1:])
        bands = {name: quantiles(values, tails(level)) for name, values in drawn.items()}
        notes = (
            given.draws.doubt,
            *unreached_notes(found.unreachable, goals),
            *disagreement_notes(asked, over.option, point.option, goals),
        )
    if not traced:
        notes += (
            *limit_notes(asked, binding(asked, point.holds), used, "tokens in use"),
            *edge_notes(asked, point.option),
            *seen(given, inputs),
            *(() if given.draws is None else given.draws.notes),
        )
    return Serving(
        loss=goals,
        tokens=used,
        N=point.N,
        D=point.D,
        training=spent[0],
        inference=spent[1],
        reference_N=rival.N[0],
        reference_D=rival.D[0],
        saving=1 - sum(spent) / theirs[0],
        bands=bands,
        level=level if bands else None,
        unreachable=None if over is None else jnp.asarray(found.unreachable),
        ranges=given.ranges,
        notes=tuple(dict.fromkeys(filter(None, notes))),
        inputs={name: inputs[name] for name in asked.others},
        binding=() if traced else binding(asked, point.holds),
        options=None
        if traced
        else options_table(
            asked, goals, "loss", found.each, "flop", None if over is None else over.option
        ),
    )


class _Rival(NamedTuple):
    """The model to compare with: for the middle and every draw, shape (1 + draws, *goals)."""

    N: Any
    D: Any
    option: Any
    loss: Any

    def middle(self, given: Source) -> Any:
        """Its loss in the middle of the source."""
        if given.draws is None or given.draws.center == "fit":
            return self.loss[0]
        return jnp.asarray(np.nanmedian(np.asarray(self.loss[1:]), axis=0))


def _trained_well(given: Source, alone: Choices, N: Any) -> _Rival:
    """Models of given sizes on the tokens that make them the best at their own cost.

    Raises:
        DataError: if something is to be chosen.
        LawError: if a size is never the best.
    """
    if alone.chosen:
        raise DataError("with choose=, give the loss to reach: a model's size does not settle it")
    search = Search(dataclasses.replace(alone.setting, limits=()))
    held = alone.numbers(alone.options[0])
    params = given.one if given.draws is None else given.with_draws(given.draws)
    D = jnp.exp(jax.vmap(lambda p: optimal_tokens(search, jnp.log(N), p, held))(params))
    if not is_traced(D) and not np.isfinite(np.asarray(D[0])).all():
        raise LawError("a model of this size is never the best at its own cost under this law")
    sizes = jnp.broadcast_to(N, D.shape)
    known = inputs_at(alone, sizes, D, jnp.zeros(D.shape, int))
    wide = {k: jnp.reshape(v, (-1, *(1,) * jnp.ndim(N))) for k, v in params.items()}
    loss = given.law(*(known[name] for name in given.law.inputs), **wide)
    return _Rival(sizes, D, jnp.zeros(D.shape, int), loss)


def _cheapest(given: Source, alone: Choices, goals: Any) -> _Rival:
    """The models that training alone would choose."""
    found = reach(Search(alone.setting, reach=True), given, goals, alone)
    if found.over is None:
        N, D, option = (x[None] for x in (found.point.N, found.point.D, found.point.option))
        return _Rival(N, D, option, goals[None])
    at = found.over.at
    N, D, option = (
        jnp.concatenate([x[None], jnp.asarray(y)])
        for x, y in (
            (found.point.N, at.N),
            (found.point.D, at.D),
            (found.point.option, found.over.option),
        )
    )
    return _Rival(N, D, option, jnp.broadcast_to(goals, N.shape))


def _positive(values: Any, name: str) -> Any:
    array = jnp.asarray(values, float)
    if not is_traced(array) and not (np.isfinite(array) & (np.asarray(array) > 0)).all():
        raise DataError(f"{name} must be a positive number, got {np.asarray(array)}")
    return array
