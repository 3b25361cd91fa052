"""A parameter of a law: its support, where searches start, and how it changes with units."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxscale._errors import LawError

Support = Literal["positive", "real", "interval"]


@dataclasses.dataclass(frozen=True)
class Param:
    """What is known about a parameter before any data.

    Transform, start box, bounds and prior all derive from these numbers, which are in reference
    units (inputs divided by their geometric means, loss too where `unit` names it).

    Args:
        support: ``"positive"``, ``"real"`` or ``"interval"``.
        low, high: range of the start values (log-uniform if positive, else uniform).
        lower, upper: ends of the support, for ``"interval"``.
        unit: how the value rescales with the inputs, e.g. ``"loss * N**alpha"``.
        prior_scale: width of the weakly informative prior in the unconstrained coordinate.

    Raises:
        LawError: if the start range is empty or leaves the support.
    """

    support: Support
    low: float
    high: float
    lower: float = -math.inf
    upper: float = math.inf
    unit: str = ""
    prior_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise LawError(f"a start range needs low < high, got ({self.low}, {self.high})")
        if not (self.lower <= self.low and self.high <= self.upper):
            raise LawError(
                f"the start range ({self.low}, {self.high}) leaves the support "
                f"({self.lower}, {self.upper})"
            )
        if self.support == "positive" and self.low <= 0:
            raise LawError(f"a positive parameter cannot start at {self.low}")

    def to_free(self, value: Any) -> Any:
        """Unconstrained coordinate of a value: log, identity or logit."""
        match self.support:
            case "positive":
                return jnp.log(value)
            case "interval":
                return jax.scipy.special.logit((value - self.lower) / (self.upper - self.lower))
        return jnp.asarray(value)

    def from_free(self, free: Any) -> Any:
        """Value at an unconstrained coordinate; inverse of `to_free`."""
        match self.support:
            case "positive":
                return jnp.exp(free)
            case "interval":
                return self.lower + (self.upper - self.lower) * jax.nn.sigmoid(free)
        return jnp.asarray(free)

    def start(self, share: Any) -> Any:
        """Unconstrained start at a point ``share`` in (0, 1) of the start range."""
        low, high = self.to_free(self.low), self.to_free(self.high)
        return low + (high - low) * share


def positive(low: float, high: float, *, unit: str = "", prior_scale: float = 1.0) -> Param:
    """A parameter in (0, inf), searched in its log from ``low`` to ``high``."""
    return Param("positive", low, high, lower=0.0, unit=unit, prior_scale=prior_scale)


def real(low: float, high: float, *, unit: str = "", prior_scale: float = 1.0) -> Param:
    """A parameter in (-inf, inf), searched uniformly from ``low`` to ``high``."""
    return Param("real", low, high, unit=unit, prior_scale=prior_scale)


def interval(
    lower: float,
    upper: float,
    low: float | None = None,
    high: float | None = None,
    *,
    unit: str = "",
    prior_scale: float = 1.0,
) -> Param:
    """A parameter in (``lower``, ``upper``), searched in its logit; starts in the middle 80%."""
    span = upper - lower
    low = lower + 0.1 * span if low is None else low
    high = upper - 0.1 * span if high is None else high
    return Param("interval", low, high, lower, upper, unit=unit, prior_scale=prior_scale)


def unit(low: float = 0.1, high: float = 0.9, *, prior_scale: float = 1.0) -> Param:
    """A parameter in (0, 1), such as a share or a probability."""
    return interval(0.0, 1.0, low, high, prior_scale=prior_scale)
