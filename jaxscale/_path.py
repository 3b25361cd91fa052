"""A way through the inputs of a law along one scale: compute, or one of the inputs."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit
from jaxscale._law import Law
from jaxscale._optimum import optimum

_CHUNK = 2**22  # losses held at once
_NUMERIC = 640  # losses that a numeric optimum looks at
_HALVINGS = 60
_FAR = 1e3  # how far beyond the largest run a range goes by default


@dataclasses.dataclass(frozen=True)
class Path:
    """How the inputs of a law follow from one scale x.

    Attributes:
        kind: ``"optimal"`` (the compute-optimal N and D), ``"ratio"`` (D = ratio N), ``"input"``
            (x is an input, the others are fixed) or ``"function"``.
        scale: what x is: ``"flop"``, the name of an input, or ``"x"``.
        fixed: inputs that are held, by name; ``"ratio"`` among them.
        function: from x to inputs, of kind ``"function"``.
    """

    kind: str
    scale: str
    fixed: tuple[tuple[str, float], ...] = ()
    function: Callable[[Any], Mapping[str, Any]] | None = None

    @property
    def words(self) -> str:
        """The path as sentences call it."""
        if self.kind == "optimal":
            return "each at its compute-optimal size"
        if self.kind == "ratio":
            return f"at {dict(self.fixed)['ratio']:g} tokens per parameter"
        held = ", ".join(f"{name} = {value:g}" for name, value in self.fixed)
        return f"along {self.scale}" + (f" at {held}" if held else "")

    def loss(self, law: Law, middle: tuple[Any, Any], log_x: Any, params: Any) -> Any:
        """Loss of one set of parameters at one point, both scalar."""
        x, held = jnp.exp(log_x), dict(self.fixed)
        if self.kind == "optimal":
            N, D = optimum(law, middle, params, x)
            at: Mapping[str, Any] = {"N": N, "D": D}
        elif self.kind == "ratio":
            N = jnp.sqrt(x / (6 * held["ratio"]))
            at = {"N": N, "D": held["ratio"] * N}
        elif self.kind == "input":
            at = {**held, self.scale: x}
        else:
            assert self.function is not None
            at = self.function(x)
        return law.fn(*(at[name] for name in law.inputs), **params)


def make_path(laws: tuple[Law, ...], path: Any, fixed: Mapping[str, float]) -> Path:
    """The path that is asked for, which all the laws can follow.

    Args:
        laws: that follow it.
        path: None for the compute-optimal sizes of laws in N and D, or the only input of others;
            ``"optimal"``; a number of tokens per parameter; the name of an input; or a function
            from a scale to inputs by name.
        fixed: the other inputs, where the path is along one of them.

    Raises:
        LawError: if a law cannot follow it.
        DataError: for inputs that are missing or too many.
    """
    inputs = [set(law.inputs) for law in laws]
    if path is None:
        sized = all(each == {"N", "D"} for each in inputs) and not fixed
        path = "optimal" if sized else _only_input(laws, fixed)
    if callable(path):
        return Path("function", "x", function=path)
    if not isinstance(path, str):
        ratio = float(path)
        if not (math.isfinite(ratio) and ratio > 0):
            raise DataError(f"a path of tokens per parameter is a positive number, got {path}")
        _refuse_without_sizes(laws)
        return Path("ratio", "flop", (("ratio", ratio),))
    if path in ("optimal", "flop"):
        _refuse_without_sizes(laws)
        return Path("optimal", "flop")
    for law, each in zip(laws, inputs, strict=True):
        if path not in each:
            raise LawError(
                f"law {law.name!r} has no input {path!r} to go along; it is in "
                f"{', '.join(law.inputs)}"
            )
        missing = sorted(each - {path} - set(fixed))
        if missing:
            raise DataError(f"along {path}, say where to hold {missing[0]}: {missing[0]}=...")
    return Path("input", path, tuple(sorted((k, float(v)) for k, v in fixed.items())))


def _only_input(laws: tuple[Law, ...], fixed: Mapping[str, float]) -> str:
    free = [name for name in laws[0].inputs if name not in fixed]
    if len(free) != 1:
        raise DataError(
            f"say which way to go with path=: law {laws[0].name!r} is in {', '.join(free)}"
        )
    return free[0]


def _refuse_without_sizes(laws: tuple[Law, ...]) -> None:
    for law in laws:
        if set(law.inputs) != {"N", "D"}:
            raise LawError(
                f"a path along compute needs laws in N and D, but {law.name!r} is in "
                f"{', '.join(law.inputs)}; name an input with path="
            )


def log_middle(fit: Fit) -> tuple[float, float]:
    """Log of typical N and D, where a numeric optimum is sought; zero for other laws."""
    if set(fit.law.inputs) != {"N", "D"}:
        return 0.0, 0.0
    n, d = (float(np.mean(np.log(np.asarray(fit.ranges[name], float)))) for name in ("N", "D"))
    return n, d


def seen_range(fits: tuple[Fit, ...], path: Path) -> tuple[float, float]:
    """Smallest and largest scale of the runs behind fits.

    Raises:
        DataError: for a function, whose scale is not known.
    """
    if path.kind == "function":
        raise DataError("with a function as the path, give the range of its scale with within=")
    ends = []
    for fit in fits:
        if path.kind == "input":
            ends.append(np.asarray(fit.ranges[path.scale], float))
        elif fit.runs is None:
            ends.append(6 * np.asarray(fit.ranges["N"], float) * np.asarray(fit.ranges["D"], float))
        else:
            real = np.asarray(fit.runs.weight) > 0
            flop = 6 * np.asarray(fit.runs.inputs["N"]) * np.asarray(fit.runs.inputs["D"])
            ends.append(np.array([flop[real].min(), flop[real].max()]))
    return float(min(e[0] for e in ends)), float(max(e[1] for e in ends))


def checked_range(
    within: tuple[float, float] | None, fits: tuple[Fit, ...], path: Path
) -> tuple[float, float]:
    """The range asked for; default from the smallest run to a thousand times the largest."""
    if within is None:
        low, high = seen_range(fits, path)
        return low, _FAR * high
    low, high = map(float, within)
    if not (0 < low < high < math.inf):
        raise DataError(f"within= is two positive numbers, the lower first, got {within}")
    return low, high


@functools.partial(jax.jit, static_argnames=("law", "path"))
def losses(law: Law, path: Path, middle: Any, log_x: Any, params: Any) -> Any:
    """Losses of many sets of parameters at common points, shape (draws, points)."""

    def one(params: Any) -> Any:
        return jax.vmap(lambda at: path.loss(law, middle, at, params))(log_x)

    return jax.lax.map(one, params, batch_size=_batch(law, path, len(log_x)))


@functools.partial(jax.jit, static_argnames=("law", "path"))
def losses_at(law: Law, path: Path, middle: Any, log_x: Any, params: Any) -> Any:
    """Losses of many sets of parameters, each at a point of its own, shape (draws,)."""

    def one(pair: Any) -> Any:
        return path.loss(law, middle, pair[0], pair[1])

    return jax.lax.map(one, (log_x, params), batch_size=_batch(law, path, 1))


def _batch(law: Law, path: Path, points: int) -> int:
    """How many draws fit into memory at once."""
    each = _NUMERIC if path.kind == "optimal" and law.optimum is None else 1
    return max(1, _CHUNK // (each * points))


def bisect(above: Callable[[np.ndarray], np.ndarray], low: Any, high: Any) -> np.ndarray:
    """Where `above` turns from false to true between `low` and `high`, elementwise."""
    low, high = np.array(low, float), np.array(high, float)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        up = above(middle)
        low, high = np.where(up, low, middle), np.where(up, middle, high)
        if np.all(high - low <= 1e-12 * np.maximum(np.abs(middle), 1)):
            break
    return 0.5 * (low + high)
