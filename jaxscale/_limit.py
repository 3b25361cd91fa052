"""Limits of an allocation: the memory of a model, the tokens there are, the smallest size."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxscale._errors import DataError
from jaxscale._traced import is_traced


@dataclasses.dataclass(frozen=True)
class Limit:
    """A bound on a number of the inputs; made by `at_most` and `at_least`.

    Attributes:
        what: name of an input, or a function of inputs by their names.
        bound: the bound.
        upper: whether it bounds from above.
        name: how notes and tables call it.
    """

    what: str | Callable[..., Any]
    bound: Any
    upper: bool
    name: str


def at_most(what: str | Callable[..., Any], bound: float, *, name: str | None = None) -> Limit:
    """what(N, D, ...) <= bound, as a limit of `allocate`, `serve` and `budget_for`

    Args:
        what: ``"N"``, ``"D"`` or another name, or a function of them by their names, such as the
            bytes of the weights. Above zero, and not falling with D.
        bound: the bound, above zero.
        name: how notes and tables call the limit.

    Raises:
        DataError: for a bound that is not positive.

    Example:
        >>> at_most(lambda N: 2 * N, 80e9, name="weights in 16 bits")
    """
    return _limit(what, bound, True, name)


def at_least(what: str | Callable[..., Any], bound: float, *, name: str | None = None) -> Limit:
    """what(N, D, ...) >= bound, as a limit of `allocate`, `serve` and `budget_for`

    Arguments as for `at_most`.

    Raises:
        DataError: for a bound that is not positive.

    Example:
        >>> at_least("N", 1e9)
    """
    return _limit(what, bound, False, name)


def _limit(what: Any, bound: Any, upper: bool, name: str | None) -> Limit:
    if not (isinstance(what, str) or callable(what)):
        raise DataError(f"limit the name of an input or a function of inputs, not {what!r}")
    if not is_traced(bound) and not (np.isscalar(bound) or np.ndim(bound) == 0):
        raise DataError("a limit has one bound; ask for several limits one by one")
    if not is_traced(bound) and not (np.isfinite(bound) and bound > 0):
        raise DataError(f"the bound of a limit must be a positive number, got {bound}")
    title = what if isinstance(what, str) else getattr(what, "__name__", "limit")
    title = "limit" if title == "<lambda>" else title
    size = "" if is_traced(bound) else f" {float(bound):.4g}"
    return Limit(what, bound, upper, name or f"{title} {'<=' if upper else '>='}{size}")
