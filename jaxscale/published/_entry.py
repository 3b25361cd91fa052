"""A published parameter set, and how the modules of this package write one down."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from jaxscale._errors import LawError
from jaxscale._law import Law


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """One published parameter set of a law. Calling it gives the loss it predicts.

    Attributes:
        name: author, year and variant.
        law: the law.
        values: pairs of parameter name and value, in the units of the publication.
        source: paper and arXiv number.
        table: where in the paper or the code the numbers are printed.
        units: what the inputs and the loss count.
        objective: what the authors minimized.
        rows: the runs they fitted.
        evidence: how the numbers were checked.
        note: a known trap, if there is one.
        scored_on: rows and objective on which `value` and `better_value` were computed here.
        value: the objective at these parameters there, or None.
        better: pairs of parameter name and value that reach a lower objective there, if the
            published parameters are not at the optimum.
        better_value: the objective at those, or None.

    Example:
        >>> get("besiroglu_2024")(N=1e9, D=2e10)
    """

    name: str
    law: Law
    values: tuple[tuple[str, float], ...]
    source: str
    table: str
    units: str
    objective: str
    rows: str
    evidence: str
    note: str = ""
    scored_on: str = ""
    value: float | None = None
    better: tuple[tuple[str, float], ...] = ()
    better_value: float | None = None

    @property
    def params(self) -> dict[str, float]:
        """The parameters by name, in the units of the publication."""
        return dict(self.values)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Predicted loss at inputs in the publication's units; arrays broadcast.

        Raises:
            LawError: if these are not the inputs of the law.
        """
        given = dict(zip(self.law.inputs, inputs, strict=False)) | named
        if set(given) != set(self.law.inputs) or len(inputs) + len(named) != len(given):
            raise LawError(
                f"{self.name!r} predicts from {', '.join(self.law.inputs)}; it was given "
                f"{len(inputs)} values without a name and {sorted(named)}"
            )
        return self.law(*(given[name] for name in self.law.inputs), **self.params)

    def __repr__(self) -> str:
        return f"Published({self.name}: {self.law.name}, {text_of(self.params)}; {self.source})"


def text_of(params: dict[str, float]) -> str:
    return ", ".join(f"{name}={value:.6g}" for name, value in params.items())


def entry(name: str, law: Law, numbers: Iterable[float], **about: Any) -> Published:
    """An entry from numbers in the order of the law's parameters; so for ``better``, if given."""

    def named(numbers: Iterable[float]) -> tuple[tuple[str, float], ...]:
        return tuple(zip(law.names, map(float, numbers), strict=True))

    values = named(numbers)
    if "better" in about:
        about["better"] = named(about["better"])
    return Published(name=name, law=law, values=values, **about)


def from_logs(a: float, b: float, e: float, *exponents: float) -> tuple[float, ...]:
    """E, A, B and the exponents from what is fitted: a = log A, b = log B, e = log E."""
    return (math.exp(e), math.exp(a), math.exp(b), *exponents)


READ = "read in the paper"
REFITTED = "read in the authors' code, re-fitted"
TOTAL = "N with embeddings, D in tokens, loss in nats per token"
LOG_HUBER = "sum of LogHuber(1e-3)"
