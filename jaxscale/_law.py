"""A law: a pure function with named inputs and parameters. It never holds fitted numbers."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale import _units
from jaxscale._errors import LawError
from jaxscale._param import Param


@dataclasses.dataclass(frozen=True)
class Input:
    """An input of a law: what it counts, and which values it may take.

    Args:
        counts: what one unit is, such as ``"parameters without embeddings"``.
        lower, upper: ends of the range; by default any positive number.
        closed: whether the ends themselves are allowed.
        follows: how it follows from numbers that one rather knows when a budget is spent, as a
            function of other inputs and of those: ``lambda D, U: D / U`` for epochs.

    Raises:
        LawError: if the range is empty.
    """

    counts: str = ""
    lower: float = 0.0
    upper: float = math.inf
    closed: bool = False
    follows: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if not self.lower < self.upper:
            raise LawError(f"an input needs lower < upper, got ({self.lower}, {self.upper})")

    def allows(self, values: Any) -> np.ndarray:
        """Which of the values are finite and in the range."""
        x = np.asarray(values)
        inside = (x > self.lower) & (x < self.upper)
        if self.closed:
            inside |= (x == self.lower) | (x == self.upper)
        return np.asarray(inside & np.isfinite(x))

    def typical(self, share: float) -> float:
        """A value well inside the range, of order one if that is possible, by a share in (0, 1)."""
        low, high = max(self.lower, -1e3), min(self.upper, 1e3)
        if low == 0 and high == 1e3:
            return 0.7 + 0.7 * share
        return low + (0.2 + 0.6 * share) * min(high - low, 2.0)

    @property
    def must(self) -> str:
        """The range in words, as in "it must be greater than zero"."""
        low, high = f"{self.lower:g}", f"{self.upper:g}"
        if math.isinf(self.lower) and math.isinf(self.upper):
            return "be a number"
        if math.isinf(self.upper):
            least = "at least" if self.closed else "greater than"
            return f"be {least} {'zero' if self.lower == 0 else low}"
        return f"lie between {low} and {high}" + ("" if self.closed else ", ends excluded")


@dataclasses.dataclass(frozen=True)
class Law:
    """A scaling law ``loss = fn(*inputs, **params)``.

    Args:
        name: how the registry, files and the command line call it.
        fn: pure JAX function; positional arguments are inputs, keyword-only ones parameters.
            It is called with scalars (one run, one set of parameters) and mapped over both.
        params: pairs of name and `Param`, in the order of the function.
        inputs: names of the inputs, such as ``("N", "D")``.
        family, formula, source, evidence: what the catalogue says about it.
        optimum: closed form ``optimum(C, **params) -> N`` under ``C = 6 N D``, if there is one.
        derived: pairs of name and function of the parameters, such as the exponent ``a``.
        domain: pairs of name and `Input` for the inputs of which something is known; any other
            input is a positive number.
        predicts: what the law gives, where it is not a loss: ``"learning rate"``, ``"accuracy"``.
    """

    name: str
    fn: Callable[..., Any]
    params: tuple[tuple[str, Param], ...]
    inputs: tuple[str, ...]
    family: str = "custom"
    formula: str = ""
    source: str = ""
    evidence: str = ""
    optimum: Callable[..., Any] | None = None
    derived: tuple[tuple[str, Callable[..., Any]], ...] = ()
    domain: tuple[tuple[str, Input], ...] = ()
    predicts: str = "loss"

    def about(self, name: str) -> Input:
        """What the input called ``name`` counts, and its range."""
        return dict(self.domain).get(name, Input())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(name for name, _ in self.params)

    @property
    def scaled(self) -> frozenset[str]:
        """The inputs (and ``loss``) that are put into reference units before fitting."""
        mentioned = frozenset[str]().union(*(_units.names(p.unit) for _, p in self.params))
        return mentioned & (frozenset(self.inputs) | {"loss"})

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        """Predicted loss; arrays of inputs and parameters broadcast against each other.

        The function itself only ever sees one run and one set of parameters.
        """
        return _over_arrays(self.fn, inputs, params)

    def __repr__(self) -> str:
        return f"Law({self.name}: {self.formula or ', '.join(self.names)})"

    def to_physical(
        self, params: Mapping[str, Any], log_refs: Mapping[str, Any], *, sign: int = 1
    ) -> dict[str, Any]:
        """Parameters in the user's units from parameters in reference units.

        Args:
            params: one value per parameter.
            log_refs: log of the reference value of each scaled input and of ``loss``.
            sign: -1 for the opposite direction, physical to reference.
        """
        units = {name: _units.log_unit(p.unit, log_refs, params) for name, p in self.params}
        return {
            name: params[name] * jnp.exp(sign * units[name]) if p.unit else params[name]
            for name, p in self.params
        }

    def to_reference(
        self, params: Mapping[str, Any], log_refs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Parameters in reference units from parameters in the user's units."""
        return self.to_physical(params, log_refs, sign=-1)


@jax.jit(static_argnames="fn", inline=True)
def _over_arrays(fn: Callable[..., Any], inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
    names, split = tuple(params), len(inputs)

    def one(*values: Any) -> Any:
        return fn(*values[:split], **dict(zip(names, values[split:], strict=True)))

    return jnp.vectorize(one)(*inputs, *params.values())


def law(
    *,
    name: str | None = None,
    family: str = "custom",
    source: str = "",
    evidence: str = "",
    optimum: Callable[..., Any] | None = None,
    derived: Mapping[str, Callable[..., Any]] | None = None,
    inputs: Mapping[str, str | Input] | None = None,
    predicts: str = "loss",
    **params: Param,
) -> Callable[[Callable[..., Any]], Law]:
    """Turn a function into a `Law`: positional arguments are inputs, keyword-only parameters.

    The first line of the docstring is taken as the formula. ``inputs`` says what each input counts,
    as text for a positive number, or as an `Input` with a range of its own.

    Raises:
        LawError: if the declared parameters are not the keyword-only arguments, or the declared
            inputs not among the positional ones, or a unit is no product of powers of the inputs
            and ``loss``. Whether the law really keeps its form under those units is verified when
            it is first fitted.

    Example:
        >>> @law(E=positive(0.5, 3.0), A=positive(0.1, 3, unit="N**gamma"), gamma=real(0.05, 1.5))
        ... def single_power(N, *, E, A, gamma):
        ...     "L(N) = E + A N^-gamma"
        ...     return E + A * N**-gamma
    """

    about = {k: Input(x) if isinstance(x, str) else x for k, x in (inputs or {}).items()}

    def wrap(fn: Callable[..., Any]) -> Law:
        arguments = inspect.signature(fn).parameters.values()
        keywords = [a.name for a in arguments if a.kind is a.KEYWORD_ONLY]
        takes = [a.name for a in arguments if a.kind is a.POSITIONAL_OR_KEYWORD]
        if set(keywords) != set(params):
            raise LawError(
                f"law {fn.__name__!r} takes the parameters {keywords} (keyword-only) but "
                f"declares {sorted(params)}"
            )
        if not set(about) <= set(takes):
            raise LawError(
                f"law {fn.__name__!r} takes the inputs {takes} but describes {sorted(about)}"
            )
        made = Law(
            name=name or fn.__name__,
            fn=fn,
            params=tuple((k, params[k]) for k in keywords),
            inputs=tuple(takes),
            family=family,
            formula=(inspect.getdoc(fn) or "").split("\n")[0],
            source=source,
            evidence=evidence,
            optimum=optimum,
            derived=tuple((derived or {}).items()),
            domain=tuple(about.items()),
            predicts=predicts,
        )
        _check_names(made)
        return made

    return wrap


def _check_names(made: Law) -> None:
    known = set(made.inputs) | {"loss"} | set(made.names)
    by_name = dict(made.params)
    for name, param in made.params:
        for mentioned in _units.names(param.unit):
            if mentioned not in known:
                raise LawError(f"the unit of {name!r} mentions {mentioned!r}, which is no input")
            if mentioned in by_name and by_name[mentioned].unit:
                raise LawError(
                    f"the unit of {name!r} uses {mentioned!r} as an exponent, but {mentioned!r} "
                    "has a unit itself"
                )
        zeros = dict.fromkeys((*made.inputs, "loss"), 0.0)
        _units.log_unit(param.unit, zeros, dict.fromkeys(made.names, 1.0))


@functools.cache
def check_units(checked: Law) -> None:
    """Verify that the declared units are right, by changing every unit and comparing losses.

    Raises:
        LawError: if the law does not keep its form, naming the input that fails.
    """
    if not checked.scaled:
        return
    rng = np.random.default_rng(0)
    middle = {
        name: p.from_free(p.start(float(rng.uniform(0.2, 0.8)))) for name, p in checked.params
    }
    inputs = {name: checked.about(name).typical(rng.uniform()) for name in checked.inputs}

    def loss_in_units(factors: dict[str, Any]) -> Any:
        moved = [value * factors.get(name, 1.0) for name, value in inputs.items()]
        refs = {name: jnp.log(factor) for name, factor in factors.items()}
        return checked(*moved, **checked.to_physical(middle, refs))

    evaluate = jax.jit(loss_in_units)
    before = evaluate(dict.fromkeys(checked.scaled, 1.0))
    for name in sorted(checked.scaled):
        after = evaluate({key: 3.0 if key == name else 1.0 for key in checked.scaled})
        expected = before * 3.0 if name == "loss" else before
        if not np.allclose(after, expected, rtol=1e-4):
            raise LawError(
                f"law {checked.name!r} does not keep its form when {name} changes unit: "
                f"correct the unit= of its parameters (a loss of {float(expected):.6g} became "
                f"{float(after):.6g})"
            )


def free_vector(of: Law, params: Mapping[str, Any]) -> jax.Array:
    """Unconstrained coordinates, stacked on the last axis, of reference-unit parameters."""
    return jnp.stack([p.to_free(jnp.asarray(params[name])) for name, p in of.params], axis=-1)


@jax.jit(static_argnames="of")
def physical_params(of: Law, free: Any, log_refs: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters in the user's units at unconstrained coordinates (parameters on the last axis)."""
    return of.to_physical(from_free_vector(of, free), log_refs)


def from_free_vector(of: Law, free: Any) -> dict[str, Any]:
    """Reference-unit parameters at unconstrained coordinates (parameters on the last axis)."""
    return {name: p.from_free(free[..., i]) for i, (name, p) in enumerate(of.params)}
