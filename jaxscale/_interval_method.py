"""Intervals by a method of one's own, for a coverage study: from draws for every table."""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jaxscale._draws import tails
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._quantity import Quantity, evaluate, to_interval_scale

MOST_TABLES = 50  # given to such a method at once


@runtime_checkable
class IntervalMethod(Protocol):
    """A way to draw parameters for many tables of runs at once, such as a posterior.

    Anything with a `name` that is called like this can stand among the methods of `calibrate`.

    Example:
        >>> calibrate(fit, methods=["pairs", my_posterior], sims=100, key=key)
    """

    @property
    def name(self) -> str:
        """What tables and sentences call it; no other method of a study is called so."""
        ...

    def __call__(self, fit: Fit, loss: Any, *, key: jax.Array) -> Mapping[str, Any]:
        """Draws of the parameters for every table of simulated losses.

        Args:
            fit: the fit whose law and design the tables share. Its own losses are not theirs.
            loss: losses in the user's unit, shape (tables, runs), at most 50 tables.
            key: JAX random key, another one for every call.

        Returns:
            Draws of every parameter of the law in the user's units, each of shape (tables, draws);
            NaN for a table whose draws cannot be had.
        """
        ...


def split_methods(
    methods: Iterable[str | IntervalMethod], known: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, IntervalMethod]]:
    """Names of all methods without repeats, and the methods of one's own by name.

    Raises:
        DataError: for no method, an unknown one, or two of one name.
    """
    own: dict[str, IntervalMethod] = {}
    names = []
    for method in methods:
        name = method if isinstance(method, str) else getattr(method, "name", None)
        if not isinstance(method, str):
            if not (isinstance(method, IntervalMethod) and isinstance(name, str) and name):
                raise DataError(
                    f"a method of your own needs a name and is called with a fit, losses and a "
                    f"key, see IntervalMethod; got {method!r}"
                )
            if name in known or own.setdefault(name, method) is not method:
                raise DataError(f"two methods are called {name!r}; rename yours")
        elif name not in known:
            raise DataError(f"methods are {', '.join(known)}; got {name}")
        names.append(str(name))
    if not names:
        raise DataError(f"methods are {', '.join(known)}; got none")
    return tuple(dict.fromkeys(names)), own


def method_key(key: jax.Array, name: str) -> jax.Array:
    """A key that depends on the name only, not on the other methods."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def quantile_ends(
    method: IntervalMethod,
    fit: Fit,
    chosen: tuple[Quantity, ...],
    levels: tuple[float, ...],
    loss: np.ndarray,
    key: jax.Array,
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of equal-tailed intervals, each (tables, quantities, levels), on the interval scale."""
    draws = _checked(method, fit, loss, method(fit, loss, key=key))
    values = evaluate(fit.law, chosen, draws)
    each = [np.asarray(to_interval_scale(fit.law, q, values[..., j])) for j, q in enumerate(chosen)]
    ends = np.array([tails(level) for level in levels])
    low, high = np.quantile(np.stack(each, axis=-1), ends.T, axis=1)
    return np.moveaxis(low, 0, -1), np.moveaxis(high, 0, -1)


def _checked(
    method: IntervalMethod, fit: Fit, loss: np.ndarray, draws: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    missing = [name for name in fit.law.names if name not in draws]
    if missing:
        raise DataError(f"{method.name} gives no draws of {', '.join(missing)}")
    found = {name: np.asarray(draws[name], float) for name in fit.law.names}
    shapes = {values.shape for values in found.values()}
    shape = shapes.pop()
    if shapes or len(shape) != 2 or shape[0] != len(loss) or shape[1] < 2:
        raise DataError(
            f"{method.name} must give draws of shape (tables, draws) for {len(loss)} tables, "
            f"got {', '.join(f'{name} {values.shape}' for name, values in found.items())}"
        )
    return found
