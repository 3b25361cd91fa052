"""Functions that are called with what they ask for by name."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jaxscale._errors import LawError


@dataclasses.dataclass(frozen=True)
class Call:
    """A function that is called with what it asks for by name.

    Attributes:
        fn: the function.
        first: names of its leading positional arguments, whatever it calls them.
        needs: names of further arguments without a default.
        takes: names of arguments that keep their default if nothing is known by that name.
        rest: whether it takes everything else as well (``**others``).
    """

    fn: Callable[..., Any]
    first: tuple[str, ...]
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    rest: bool

    def __call__(self, known: Mapping[str, Any]) -> Any:
        given = [known[name] for name in self.first]
        named = {name: known[name] for name in (*self.needs, *self.takes) if name in known}
        if self.rest:
            named |= {k: v for k, v in known.items() if k not in {*self.first, *named}}
        return self.fn(*given, **named)

    @property
    def wants(self) -> frozenset[str]:
        """Every name that it could use."""
        return frozenset((*self.first, *self.needs, *self.takes))


def by_name(what: str | Callable[..., Any], first: tuple[str, ...] = ()) -> Call:
    """How to call a function by name; a name alone stands for itself.

    Args:
        what: a function, or a name.
        first: names of arguments given by place, as in ``cost(N, D)``.
    """
    if isinstance(what, Call):
        return what
    if isinstance(what, str):
        return Call(_itself, (what,), (), (), False)
    fn = what
    try:
        arguments = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # compiled functions may not tell
        return Call(fn, first, (), (), False)
    places = [a for a in arguments if a.kind in (a.POSITIONAL_ONLY, a.POSITIONAL_OR_KEYWORD)]
    if any(a.kind is a.POSITIONAL_ONLY for a in places[len(first) :]):
        raise LawError("a function that is called by name takes an argument without a name")
    others = places[len(first) :] + [a for a in arguments if a.kind is a.KEYWORD_ONLY]
    return Call(
        fn,
        first,
        tuple(a.name for a in others if a.default is a.empty),
        tuple(a.name for a in others if a.default is not a.empty),
        any(a.kind is a.VAR_KEYWORD for a in arguments),
    )


def _itself(value: Any) -> Any:
    return value


@dataclasses.dataclass(frozen=True)
class _Sum:
    parts: tuple[Call, ...]

    def __call__(self, **known: Any) -> Any:
        return sum(part(known) for part in self.parts)


def added(*parts: Call) -> Call:
    """The sum of functions called by name."""
    needs = dict.fromkeys(name for part in parts for name in (*part.first, *part.needs))
    takes = dict.fromkeys(name for part in parts for name in part.takes if name not in needs)
    return Call(_Sum(parts), (), tuple(needs), tuple(takes), any(part.rest for part in parts))
