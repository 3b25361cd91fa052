"""What a budget is spent under: other inputs held, chosen or following, a cost, and limits."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxscale._by_name import Call, by_name
from jaxscale._errors import DataError, LawError
from jaxscale._law import Law
from jaxscale._limit import Limit
from jaxscale._traced import is_traced
from jaxscale.flops import FlopFunction, six_nd


@dataclasses.dataclass(frozen=True)
class Setting:
    """Everything about an allocation but its numbers: hashable, so that programs are reused.

    Attributes:
        law: the law.
        cost: FLOPs of N, D and other names.
        follows: pairs of name and function, in an order in which they can be evaluated.
        limits: pairs of function and whether it is bounded from above.
    """

    law: Law
    cost: Call
    follows: tuple[tuple[str, Call], ...] = ()
    limits: tuple[tuple[Call, bool], ...] = ()

    @property
    def closed(self) -> bool:
        """Whether the law's own closed form answers."""
        return (
            self.law.optimum is not None
            and {*self.law.inputs} == {"N", "D"}
            and self.cost.fn is six_nd
            and not (self.limits or self.follows)
        )

    def known(self, N: Any, D: Any, held: Mapping[str, Any]) -> dict[str, Any]:
        """All numbers by name, at a size, tokens and what is held."""
        found = {"N": N, "D": D, **held}
        for name, call in self.follows:
            found[name] = call(found)
        return found

    def loss(self, known: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        """The law's loss, for scalars."""
        return self.law.fn(*(known[name] for name in self.law.inputs), **params)


@dataclasses.dataclass(frozen=True)
class Choices:
    """A `Setting` with its numbers.

    Attributes:
        setting: what does not change from number to number.
        held: numbers by name.
        options: the values of what is chosen, by name, one entry per combination; one without any
            name if nothing is chosen.
        bounds: bounds of the limits, one each.
        limit_names: how the limits are called.
        supplied: further numbers by name, of the shape of the goals, which tables do not show.
    """

    setting: Setting
    held: dict[str, Any]
    options: tuple[dict[str, Any], ...]
    bounds: tuple[Any, ...]
    limit_names: tuple[str, ...]
    supplied: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of what is chosen."""
        return tuple(self.options[0])

    @property
    def others(self) -> tuple[str, ...]:
        """Names beyond N and D that tables show: what is held, chosen, or follows."""
        followed = (name for name, _ in self.setting.follows)
        return (*self.held, *self.chosen, *followed)

    def numbers(self, option: Mapping[str, Any]) -> dict[str, Any]:
        """What is held, together with one combination of what is chosen."""
        every = {**self.held, **option, **self.supplied}
        return {name: jnp.asarray(value, float) for name, value in every.items()}


def choices(
    law: Law,
    *,
    cost: FlopFunction = six_nd,
    fixed: Mapping[str, Any] | None = None,
    choose: Mapping[str, Sequence[float]] | None = None,
    limits: Iterable[Limit] = (),
    supplied: Mapping[str, Any] | None = None,
) -> Choices:
    """Check what was asked for, and sort it into numbers and functions.

    Args:
        law: a law that has N and D among its inputs.
        cost: FLOPs of N, D and further names.
        fixed: a number by name; or the name of another number; or a function of other numbers.
        choose: the values to choose from, by name.
        limits: limits.
        supplied: numbers by name, of the shape of the goals, that are none of the user's business.

    Raises:
        LawError: if the law lacks N or D, or an input is neither fixed, chosen nor follows.
        DataError: for an unknown name or a number outside the range of an input.
    """
    if not {"N", "D"} <= set(law.inputs):
        raise LawError(
            f"an allocation needs a law in N and D, but {law.name!r} is in {', '.join(law.inputs)}"
        )
    fixed, choose = dict(fixed or {}), {k: _values(k, v) for k, v in (choose or {}).items()}
    limits = tuple(limits)
    for name in {"N", "D"} & {*fixed, *choose}:
        raise DataError(f"{name} is what is asked for; bound it with limits=[at_most({name!r}, x)]")
    for name in fixed.keys() & choose.keys():
        raise DataError(f"{name} is both fixed and chosen; give one of them")
    calls = {name: by_name(value) for name, value in fixed.items() if _is_rule(value)}
    held = {name: _number(name, value) for name, value in fixed.items() if name not in calls}
    for name in law.inputs:
        rule = law.about(name).follows
        if name not in {"N", "D", *fixed, *choose} and rule is not None:
            calls[name] = by_name(rule)
    supplied = dict(supplied or {})
    known = {"N", "D", *held, *choose, *calls, *supplied}
    _refuse_missing(law, known, calls)
    spending = by_name(cost, ("N", "D"))
    bounded = [(by_name(limit.what), limit) for limit in limits]
    asking = {"the cost": spending, **{limit.name: call for call, limit in bounded}, **calls}
    for title, call in asking.items():
        for name in {*call.first, *call.needs} - known:
            raise LawError(f"{title} needs {name}: give it in fixed= or choose=")
    used = {*law.inputs}.union(*(call.wants for call in asking.values()))
    for name in {*fixed, *choose} - used:
        if not any(call.rest for call in asking.values()):
            raise DataError(
                f"nothing depends on {name}: the law {law.name!r} is in {', '.join(law.inputs)}, "
                "and neither the cost nor a limit takes it"
            )
    for name, values in {**{k: (v,) for k, v in held.items()}, **choose}.items():
        _refuse_outside(law, name, tuple(values))
    options = tuple(
        dict(zip(choose, values, strict=True)) for values in itertools.product(*choose.values())
    )
    setting = Setting(
        law, spending, _ordered(calls), tuple((call, limit.upper) for call, limit in bounded)
    )
    names = tuple(limit.name for _, limit in bounded)
    bounds = tuple(limit.bound for _, limit in bounded)
    return Choices(setting, held, options, bounds, names, supplied)


def _is_rule(value: Any) -> bool:
    return isinstance(value, str) or callable(value)


def _number(name: str, value: Any) -> Any:
    if np.ndim(value) or not (is_traced(value) or np.isreal(value)):
        raise DataError(
            f"fixed {name!r} must be one number, a name or a function, not {value!r}; several "
            "numbers to choose from go into choose="
        )
    return value


def _values(name: str, values: Any) -> tuple[float, ...]:
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        found = ()
    if not found:
        raise DataError(f"choose {name!r} from numbers, such as choose={{{name!r}: (4, 8, 16)}}")
    return found


def _refuse_missing(law: Law, known: set[str], calls: Mapping[str, Call]) -> None:
    for name in law.inputs:
        if name not in known:
            raise LawError(
                f"law {law.name!r} is also in {name}: give it in fixed= (a number or a function of "
                "other inputs) or in choose="
            )
    for name, call in calls.items():
        wanted = [x for x in (*call.first, *call.needs) if x not in known]
        if wanted:
            raise LawError(
                f"{name} follows from {', '.join((*call.first, *call.needs))}: give "
                f"{', '.join(wanted)} in fixed= or choose=, or {name} itself"
            )


def _ordered(calls: Mapping[str, Call]) -> tuple[tuple[str, Call], ...]:
    """In an order in which every function finds what it needs."""
    left, found = dict(calls), dict[str, Call]()
    while left:
        ready = [name for name, call in left.items() if not call.wants & (left.keys() - {name})]
        ready = [name for name in ready if name not in left[name].wants]
        if not ready:
            raise LawError(f"{', '.join(left)} follow from each other; give one as a number")
        found |= {name: left.pop(name) for name in ready}
    return tuple(found.items())


def _refuse_outside(law: Law, name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        if is_traced(value):
            continue
        if name in law.inputs and not law.about(name).allows(value).all():
            raise DataError(f"{name} must {law.about(name).must}, got {value}")
        if not np.isfinite(value):
            raise DataError(f"{name} must be a finite number, got {value}")
