"""The best of what there is to choose from, each searched for its own optimum."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._curve import Search, tokens
from jaxscale._optimum import Optimum, optima
from jaxscale._predict import extrapolation_notes
from jaxscale._setting import Choices
from jaxscale._source import Source
from jaxscale._traced import is_traced


class Best(NamedTuple):
    """Optima over sets of parameters and goals.

    Attributes:
        at: the best optimum, arrays of shape (draws, *goals).
        option: which combination of what is chosen it is, same shape.
        each: the optima of all combinations, with a leading axis.
    """

    at: Optimum
    option: Any
    each: Optimum


class Point(NamedTuple):
    """One optimum for every goal, arrays of the shape of the goals; see `Optimum` and `Best`."""

    N: Any
    D: Any
    value: Any
    holds: Any
    option: Any


def best(
    search: Search,
    source: Source,
    params: Mapping[str, Any],
    goals: Any,
    asked: Choices,
    each_its_own: bool = False,
) -> Best:
    """The lowest of the optima of all combinations; see `optima`."""
    found = [
        optima(
            search,
            source.middle,
            params,
            goals,
            asked.numbers(option),
            asked.bounds,
            each_its_own=each_its_own,
        )
        for option in asked.options
    ]
    if not is_traced(*jax.tree.leaves(found)):
        found = jax.device_get(found)  # every small step from here on would be a program of its own
    if len(found) == 1:
        (only,) = found
        none = np.zeros(only.value.shape, int)
        return Best(only, none, jax.tree.map(lambda x: x[None], only))
    each = jax.tree.map(lambda *x: jnp.stack(x), *found)
    values = jnp.where(jnp.isfinite(each.value), each.value, jnp.inf)
    option = jax.lax.stop_gradient(values.argmin(axis=0))
    return Best(jax.tree.map(lambda x: pick(x, option), each), option, each)


def pick(stacked: Any, option: Any) -> Any:
    """Of arrays stacked on a leading axis, the one that `option` names, by element."""
    if len(stacked) == 1:
        return stacked[0]
    index = jnp.reshape(option, (1, *option.shape, *(1,) * (stacked.ndim - 1 - option.ndim)))
    return jnp.take_along_axis(stacked, index, axis=0)[0]


def inputs_at(asked: Choices, N: Any, D: Any, option: Any) -> dict[str, Any]:
    """All inputs by name at optima, each of the shape of N."""
    numbers = [asked.numbers(one) for one in asked.options]
    held = {
        name: pick(jnp.stack([jnp.broadcast_to(x[name], N.shape) for x in numbers]), option)
        for name in numbers[0]
    }
    known = asked.setting.known(N, D, held)
    return {name: jnp.broadcast_to(value, N.shape) for name, value in known.items()}


def first(found: Best) -> tuple[Point, tuple[Any, Any, Any]]:
    """The optimum of the first set of parameters; and N, D and value of its options."""
    point = Point(*(jnp.asarray(x[0]) for x in (*found.at, found.option)))
    return point, (found.each.N[:, 0], found.each.D[:, 0], found.each.value[:, 0])


def after_first(found: Best) -> Best:
    """The optima of all sets of parameters but the first."""
    return Best(
        jax.tree.map(lambda x: x[1:], found.at),
        found.option[1:],
        jax.tree.map(lambda x: x[:, 1:], found.each),
    )


def at_center(
    search: Search, over: Best, goals: Any, asked: Choices, center: str = "median"
) -> tuple[Point, tuple[Any, Any, Any]]:
    """What most draws choose, and the middle of their sizes, on the curve of a budget.

    The middle is the median, or for draws whose predictions are means, the mean of log N.
    """
    count = len(asked.options)
    votes = np.stack([(np.asarray(over.option) == i).sum(axis=0) for i in range(count)])
    option = jnp.asarray(votes.argmax(axis=0))
    sizes, data, values, holds = (np.nanmedian(np.asarray(x), axis=1) for x in over.each)
    if center == "mean":
        sizes = np.exp(np.nanmean(np.log(np.asarray(over.each[0])), axis=1))
    N = pick(jnp.asarray(sizes), option)
    each = [
        tokens(search, jnp.log(N), {}, goals, asked.numbers(one), asked.bounds)
        for one in asked.options
    ]
    D = jnp.exp(pick(jnp.stack(each), option))
    value, held = (pick(jnp.asarray(x), option) for x in (values, holds.astype(int)))
    return Point(N, D, value, held, option), (sizes, data, values)


def seen(source: Source, inputs: dict[str, Any]) -> tuple[str, ...]:
    """How far beyond the runs the inputs of the law lie, as far as it is known."""
    if source.fit is None:
        return ()
    return extrapolation_notes(source.fit, {name: inputs[name] for name in source.law.inputs})


def quantiles(values: Any, ends: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles over the first axis, without what is not a number.

    Where numbers may be infinite, nothing is interpolated, and the band is the wider one.
    """
    array = np.asarray(values, float)
    rule: Any = np.nanquantile if np.isnan(array).any() else np.quantile  # the first is slow
    how = ("lower", "higher") if np.isinf(array).any() else ("linear", "linear")
    low, high = (rule(array, end, axis=0, method=m) for end, m in zip(ends, how, strict=True))
    return low, high
