"""Sizes that reach a loss as cheaply as can be, at the estimate and for every draw."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._best import Best, Point, after_first, best, first, inputs_at
from jaxscale._curve import Search, tokens
from jaxscale._errors import DataError, LawError
from jaxscale._setting import Choices
from jaxscale._source import Source
from jaxscale._traced import is_traced

_FAR = 300.0  # log of a size and of tokens that are as good as endless


class Reached(NamedTuple):
    """What reaches a loss.

    Attributes:
        point: the answer, arrays of the shape of the goals.
        each: N, D and FLOPs of every option, for a table.
        over: the optima of all draws, or None; infinite where a draw never reaches the loss.
        unreachable: share of the draws that never do, or None.
    """

    point: Point
    each: tuple[Any, Any, Any]
    over: Best | None
    unreachable: Any


def reach(search: Search, given: Source, goals: Any, asked: Choices, own: Any = None) -> Reached:
    """The cheapest size and tokens for a loss.

    Args:
        search: with ``reach``.
        given: what it is found from.
        goals: losses, of any shape.
        asked: what was asked for.
        own: losses of the estimate and of every draw, shape (1 + draws, *goals), instead.

    Raises:
        LawError: if the loss cannot be reached at the estimate, or for half of the draws.
    """
    draws = given.draws
    params = given.one if draws is None else given.with_draws(draws)
    wanted = goals if own is None else own
    every = best(search, given, params, wanted, asked, each_its_own=own is not None)
    if draws is None:
        point, each = first(every)
        _refuse_unreached(search, given, goals, point, asked)
        return Reached(point, each, None, None)
    over = after_first(every)
    floors = _floors(search, given, params, asked, goals)[1:]
    lost = ~np.isfinite(np.asarray(over.at.N))
    wants = np.broadcast_to(np.asarray(wanted if own is None else own[1:]), lost.shape)
    never = lost & ((floors >= wants) | bool(asked.limit_names))
    share = never.mean(axis=0)
    if draws.center == "fit":
        point, each = first(every)
        _refuse_unreached(search, given, goals, point, asked)
    over = over._replace(at=over.at._replace(**_infinite(over.at, never)))
    _refuse_mostly_unreached(share, goals)
    if draws.center != "fit":
        point, each = _at_median(search, over, wants, asked, {k: v[1:] for k, v in params.items()})
    return Reached(point, each, over, share)


def _infinite(at: Any, never: np.ndarray) -> dict[str, np.ndarray]:
    """Optima of draws that never reach the loss lie at infinity."""
    return {name: np.where(never, np.inf, getattr(at, name)) for name in ("N", "D", "value")}


def _at_median(
    search: Search, over: Best, wants: np.ndarray, asked: Choices, params: Mapping[str, Any]
) -> tuple[Point, tuple[Any, Any, Any]]:
    """What most draws choose, their median size, and tokens that are enough for half of them."""
    votes = [(np.asarray(over.option) == i).sum(axis=0) for i in range(len(asked.options))]
    option = np.stack(votes).argmax(axis=0)
    far = (np.where(np.isfinite(x), x, np.inf) for x in map(np.asarray, over.each[:3]))
    sizes, data, flop = (np.median(x, axis=1) for x in far)
    picked = _picked(sizes, option)
    needed = [
        np.asarray(_needed(search, np.log(picked), params, wants, asked.numbers(one), asked.bounds))
        for one in asked.options
    ]
    log_d = np.stack([np.median(np.where(np.isfinite(x), x, np.inf), axis=0) for x in needed])
    holds = np.median(np.asarray(over.each.holds), axis=1).astype(int)
    N, D, chosen = map(jnp.asarray, (picked, np.exp(_picked(log_d, option)), option))
    spent = asked.setting.cost(inputs_at(asked, N, D, chosen))
    point = Point(N, D, spent, jnp.asarray(_picked(holds, option)), chosen)
    return point, (sizes, data, flop)


def _needed(
    search: Search, log_n: Any, params: Any, wants: Any, held: Mapping[str, Any], bounds: Any
) -> Any:
    """Tokens that every draw needs at given sizes."""

    def one(params: Any, goals: Any) -> Any:
        return tokens(search, log_n, params, goals, held, bounds)

    return jax.vmap(one)(params, jnp.asarray(wants))


def _picked(stacked: np.ndarray, option: np.ndarray) -> np.ndarray:
    index = option.reshape(1, *option.shape, *(1,) * (stacked.ndim - 1 - option.ndim))
    return np.take_along_axis(stacked, index, axis=0)[0]


def _floors(search: Search, given: Source, params: Any, asked: Choices, goals: Any) -> np.ndarray:
    """Loss of a huge model on endless data, for every set of parameters and goal."""
    shape = jnp.shape(goals)
    found = []
    for one in asked.options:
        held = {k: jnp.broadcast_to(v, shape) for k, v in asked.numbers(one).items()}
        known = asked.setting.known(jnp.exp(_FAR), jnp.exp(_FAR), held)
        inputs = [jnp.broadcast_to(known[name], shape)[None] for name in given.law.inputs]
        wide = {k: jnp.reshape(v, (-1, *(1,) * len(shape))) for k, v in params.items()}
        found.append(np.asarray(given.law(*inputs, **wide)))
    return np.stack(found).min(axis=0)


def refuse_bad_loss(loss: Any) -> Any:
    """The losses as an array.

    Raises:
        DataError: unless they are positive and finite.
    """
    goals = jnp.asarray(loss, float)
    if not is_traced(goals) and not (np.isfinite(goals) & (np.asarray(goals) > 0)).all():
        raise DataError(f"the loss to reach must be a positive number, got {np.asarray(goals)}")
    return goals


def _refuse_unreached(
    search: Search, given: Source, goals: Any, point: Point, asked: Choices
) -> None:
    if is_traced(point.N, point.D):
        return
    usable = np.ravel(np.isfinite(np.asarray(point.N)) & np.isfinite(np.asarray(point.D)))
    if usable.all():
        return
    worst = int(np.argmin(usable))
    loss = float(np.ravel(np.asarray(goals))[worst])
    floor = float(np.ravel(_floors(search, given, given.one, asked, goals)[0])[worst])
    if floor >= loss:
        raise LawError(
            f"no budget reaches a loss of {loss:.6g}: the law levels off at {floor:.6g} here; ask "
            "for a higher loss"
        )
    if asked.limit_names:
        raise LawError(
            f"no size reaches a loss of {loss:.6g} under the limits "
            f"{', '.join(asked.limit_names)}; loosen them, or ask for a higher loss"
        )
    raise LawError(
        f"no size reaches a loss of {loss:.6g} at the least cost: the cost does not turn around "
        "along that loss, or the loss does not fall with tokens throughout"
    )


def _refuse_mostly_unreached(share: Any, goals: Any) -> None:
    most = int(np.ravel(share).argmax())
    if np.ravel(share)[most] <= 0.5:
        return
    loss = np.ravel(np.asarray(goals))[most]
    raise LawError(
        f"for {np.ravel(share)[most]:.0%} of the draws no budget reaches a loss of {loss:.6g}; ask "
        "for a higher loss"
    )
