"""Numbers that follow from the parameters: what intervals, profiles and audits are about."""

import abc
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._errors import DataError, LawError
from jaxscale._law import Law, physical_params
from jaxscale._optimum import optimum
from jaxscale._param import Param


class Ranged(Protocol):
    """A law, and the lowest and highest value of every input that goes with it, such as a fit."""

    @property
    def law(self) -> Law: ...

    @property
    def ranges(self) -> Mapping[str, Any]: ...


class Quantity(eqx.Module):
    """A number that follows from the parameters of a law; called as ``quantity(law, params)``.

    Made from a name (of a parameter or of something the law derives, such as ``"a"``), by
    `loss_at`, `optimal_N` or `optimal_D`. The numbers in it are leaves, so that jitted code serves
    every budget and size.
    """

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """How tables and pictures call it."""

    @abc.abstractmethod
    def positive(self, law: Law) -> bool:
        """Whether it is positive by nature, so that its intervals are formed on the log scale."""

    @abc.abstractmethod
    def __call__(self, law: Law, params: Mapping[str, Any]) -> Any:
        """Value at parameters in the user's units."""

    def __repr__(self) -> str:
        return self.label


class Parameter(Quantity):
    """A parameter of the law, in the user's units."""

    name: str = eqx.field(static=True)

    @property
    def label(self) -> str:
        return self.name

    def positive(self, law: Law) -> bool:
        return dict(law.params)[self.name].support == "positive"

    def __call__(self, law: Law, params: Mapping[str, Any]) -> Any:
        return params[self.name]


class Derived(Quantity):
    """A quantity that the law derives from its parameters, such as the exponent ``a``."""

    name: str = eqx.field(static=True)

    @property
    def label(self) -> str:
        return self.name

    def positive(self, law: Law) -> bool:
        return False

    def __call__(self, law: Law, params: Mapping[str, Any]) -> Any:
        return dict(law.derived)[self.name](**params)


class LossAt(Quantity):
    """The law's loss at given inputs; see `loss_at`."""

    names: tuple[str, ...] = eqx.field(static=True)
    values: tuple[Any, ...]

    @property
    def label(self) -> str:
        pairs = zip(self.names, self.values, strict=True)
        return f"L({', '.join(f'{name}={float(x):.12g}' for name, x in pairs)})"

    def positive(self, law: Law) -> bool:
        return True

    def __call__(self, law: Law, params: Mapping[str, Any]) -> Any:
        inputs = dict(zip(self.names, self.values, strict=True))
        return law.fn(*(inputs[name] for name in law.inputs), **params)


class OptimalSize(Quantity):
    """Compute-optimal N or D under C = 6 N D; see `optimal_N` and `optimal_D`."""

    which: Literal["N", "D"] = eqx.field(static=True)
    flop: Any
    middle: Any = (0.0, 0.0)

    @property
    def label(self) -> str:
        return f"{self.which}*(C={float(self.flop):.12g})"

    def positive(self, law: Law) -> bool:
        return True

    def __call__(self, law: Law, params: Mapping[str, Any]) -> Any:
        N, D = optimum(law, self.middle, params, jnp.asarray(self.flop, float))
        return N if self.which == "N" else D


def loss_at(**inputs: float) -> Quantity:
    """The law's loss at given inputs, in the units of the data: ``loss_at(N=70e9, D=1.4e12)``."""
    return LossAt(tuple(inputs), tuple(float(x) for x in inputs.values()))


def optimal_N(flop: float) -> Quantity:  # noqa: N802
    """Compute-optimal number of parameters under C = 6 N D at a budget in FLOPs."""
    return OptimalSize("N", _budget(flop))


def optimal_D(flop: float) -> Quantity:  # noqa: N802
    """Compute-optimal number of training tokens under C = 6 N D at a budget in FLOPs."""
    return OptimalSize("D", _budget(flop))


def _budget(flop: float) -> float:
    if not 0 < float(flop) < np.inf:
        raise DataError(f"the budget must be positive FLOPs, got {float(flop):g}")
    return float(flop)


def resolve(fit: Ranged, what: str | Quantity) -> Quantity:
    """A quantity of a fitted law, from its name or from itself.

    Raises:
        LawError: for an unknown name, or for inputs that the law does not have.
    """
    law = fit.law
    if isinstance(what, str):
        if what in law.names:
            return Parameter(what)
        derived = [name for name, _ in law.derived]
        if what in derived:
            return Derived(what)
        raise LawError(
            f"law {law.name!r} has no quantity {what!r}; it has {', '.join((*law.names, *derived))}"
        )
    if isinstance(what, Parameter | Derived):
        return resolve(fit, what.name)
    if isinstance(what, LossAt) and set(what.names) != set(law.inputs):
        raise LawError(
            f"law {law.name!r} needs the inputs {', '.join(law.inputs)}; "
            f"got {', '.join(what.names) or 'none'}"
        )
    if isinstance(what, LossAt):
        for name, value in zip(what.names, what.values, strict=True):
            if not law.about(name).allows(value).all():
                raise DataError(f"{what.label}: {name} must {law.about(name).must}")
    if isinstance(what, OptimalSize):
        if set(law.inputs) != {"N", "D"}:
            raise LawError(f"law {law.name!r} is not one in N and D, so it has no optimal size")
        ends = {name: np.log(np.asarray(fit.ranges[name], float)) for name in ("N", "D")}
        middle = (float(ends["N"].mean()), float(ends["D"].mean()))
        return OptimalSize(what.which, what.flop, middle)
    return what


def resolve_all(
    fit: Ranged, what: str | Quantity | Iterable[str | Quantity] | None
) -> tuple[Quantity, ...]:
    """One quantity or several, without repeats; None stands for all parameters and derived ones.

    Raises:
        LawError: for an unknown quantity, or an empty list.
    """
    if what is None:
        what = [*fit.law.names, *(name for name, _ in fit.law.derived)]
    if isinstance(what, str | Quantity):
        what = [what]
    found = {quantity.label: quantity for quantity in (resolve(fit, one) for one in what)}
    if not found:
        raise LawError(f"name at least one quantity of law {fit.law.name!r}, such as 'a'")
    return tuple(found.values())


@jax.jit(static_argnames="law")
def evaluate(law: Law, quantities: tuple[Quantity, ...], params: Mapping[str, Any]) -> Any:
    """Values of quantities, stacked on the last axis; parameters may share leading axes."""

    def one(params: Mapping[str, Any]) -> Any:
        return jnp.stack([jnp.asarray(q(law, params)) for q in quantities])

    shape = jnp.shape(params[law.names[0]])
    flat = {name: jnp.ravel(jnp.asarray(value, float)) for name, value in params.items()}
    return jax.vmap(one)(flat).reshape(*shape, len(quantities))


def at_free(
    law: Law, quantities: tuple[Quantity, ...], theta: Any, log_refs: Mapping[str, Any]
) -> Any:
    """Values of quantities at one unconstrained vector, on the scale on which intervals are formed.

    See `to_interval_scale`. Shape (quantities,).
    """
    params = physical_params(law, theta, log_refs)

    return jnp.stack([to_interval_scale(law, q, jnp.asarray(q(law, params))) for q in quantities])


def to_interval_scale(law: Law, quantity: Quantity, value: Any) -> Any:
    """The log of what is positive, the logit of a parameter between two bounds, or the value."""
    param = _bounded(law, quantity)
    if param is not None:
        return param.to_free(value)
    return jnp.log(value) if quantity.positive(law) else value


def from_interval_scale(law: Law, quantity: Quantity, value: Any) -> Any:
    """Inverse of `to_interval_scale`."""
    param = _bounded(law, quantity)
    if param is not None:
        return np.asarray(param.from_free(value))
    return np.exp(value) if quantity.positive(law) else value


def interval_slope(law: Law, quantity: Quantity, value: Any) -> float:
    """Derivative of `from_interval_scale`; a difference quotient would be lost in float32."""
    param = _bounded(law, quantity)
    if param is not None:
        return float(jax.grad(param.from_free)(jnp.asarray(value, float)))
    return float(np.exp(value)) if quantity.positive(law) else 1.0


def natural_ends(law: Law, quantity: Quantity) -> tuple[float, float]:
    """The ends of the values that a quantity can have at all."""
    param = _bounded(law, quantity)
    if param is not None:
        return param.lower, param.upper
    return (0.0 if quantity.positive(law) else -np.inf), np.inf


def _bounded(law: Law, quantity: Quantity) -> Param | None:
    """The parameter that a quantity is, if its support has two ends."""
    param = dict(law.params)[quantity.name] if isinstance(quantity, Parameter) else None
    return param if param is not None and param.support == "interval" else None
