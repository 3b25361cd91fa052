"""What the digits that somebody printed leave open."""

import dataclasses
import decimal
import itertools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxscale._fit import Fit
from jaxscale._quantity import evaluate, optimal_N, resolve
from jaxscale._refit import single_fit

# More significant digits than that come out of a conversion, such as exp(e), not out of print.
_MOST_DIGITS = 8
_ALL_CORNERS = 12  # parameters; beyond it, 2**12 corners are picked by a fixed pseudo-random draw


@dataclasses.dataclass(frozen=True)
class Rounding:
    """How far a point can move without changing a printed digit.

    Attributes:
        names: the parameters that have printed digits; the others stay where they are.
        rms: largest root mean square change of log predicted loss over the runs.
        worst: largest change of the log predicted loss of one run.
        rmse: root mean square residual of the fit, for comparison.
        flop: largest budget among the runs, in FLOPs; None for laws that are not in N and D.
        optimal_N: lowest and highest compute-optimal N at that budget, or None.
    """

    names: tuple[str, ...]
    rms: float
    worst: float
    rmse: float
    flop: float | None
    optimal_N: tuple[float, float] | None  # noqa: N815

    @property
    def matters(self) -> bool:
        """Rounding moves predictions by more than the fit's error, or a loss by more than 1%."""
        return self.rms > self.rmse or self.worst > 0.01

    @property
    def sentence(self) -> str:
        """The finding in plain English."""
        moves = f"rounding alone moves a predicted loss by up to {self.worst:.2g}"
        text = f"The printed digits of {', '.join(self.names)} "
        text += f"do not suffice: {moves}" if self.matters else f"suffice for the loss: {moves}"
        text += f" (root mean square {self.rms:.2g}, the fit's own error {self.rmse:.2g})"
        if self.optimal_N is None or self.optimal_N[1] / self.optimal_N[0] < 1.01:
            return f"{text}."
        low, high = self.optimal_N
        at = f"the optimal N at {self.flop:.3g} FLOP"
        return f"{text}, and leaves {at} between {low:.3g} and {high:.3g}."


def as_printed(value: float) -> str:
    """The shortest decimal that gives a number; whole ones are written out up to six digits."""
    shortest = decimal.Decimal(repr(float(value))).normalize()
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else str(shortest)


def rounding_of(fit: Fit, printed: Mapping[str, str]) -> Rounding | None:
    """Move every printed number by half a unit of its last digit, up and down, in all combinations.

    Numbers of more than eight significant digits were not printed that way, a zero or an end of the
    support has none to lose: these stay. None if nothing is left to move.

    Args:
        fit: a fit with its runs.
        printed: parameters as printed, by name; "0.340" has three decimals.

    Example:
        >>> rounding_of(fit, {"E": "1.69", "A": "406.4", "B": "410.7", "alpha": "0.34", ...})
    """
    point = {name: float(text) for name, text in printed.items()}
    ends = {name: (param.lower, param.upper) for name, param in fit.law.params}
    units = {
        name: _half_unit(text) for name, text in printed.items() if point[name] not in ends[name]
    }
    units = {name: unit for name, unit in units.items() if unit}
    if not units:
        return None
    corners = _corners(point, units)
    with np.errstate(all="ignore"):
        moved, base = (np.asarray(predicted_at(fit, at)) for at in (corners, point))
        change = np.log(moved / base)
    change = np.where(np.isnan(change), np.inf, change)
    runs = single_fit(fit)
    real = np.asarray(runs.weight) > 0
    change, weight = change[:, real], np.asarray(runs.weight)[real]
    rms = float(np.sqrt(np.average(change**2, axis=1, weights=weight)).max())
    worst = float(np.abs(change).max())
    flop, sizes = None, None
    if set(fit.law.inputs) == {"N", "D"}:
        flop = float(np.max(6 * runs.inputs["N"] * runs.inputs["D"], where=real, initial=0.0))
        N = np.asarray(evaluate(fit.law, (resolve(fit, optimal_N(flop)),), corners))
        sizes = (float(N.min()), float(N.max())) if np.isfinite(N).all() else None
    return Rounding(tuple(units), rms, worst, float(fit.rmse), flop, sizes)


def _corners(point: Mapping[str, float], units: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Every combination of half a unit of the last digit up and down, by parameter."""
    p = len(units)
    if p <= _ALL_CORNERS:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=p)))
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), (2**_ALL_CORNERS, p))
    moves = {name: unit * signs[:, i] for i, (name, unit) in enumerate(units.items())}
    return {name: x + moves.get(name, np.zeros(len(signs))) for name, x in point.items()}


def _half_unit(text: str) -> float:
    """Half a unit of the last digit; 0 for a number without printed digits."""
    number = decimal.Decimal(text).as_tuple()
    digits = len("".join(map(str, number.digits)).lstrip("0"))
    return 0.5 * 10.0 ** int(number.exponent) if 0 < digits <= _MOST_DIGITS else 0.0


def predicted_at(fit: Fit, params: Mapping[str, Any]) -> Any:
    """Predicted loss of every run, shape (runs,); parameters may have leading axes."""
    runs = single_fit(fit)
    values = {name: jnp.asarray(value, float)[..., None] for name, value in params.items()}
    return fit.law(*(jnp.asarray(runs.inputs[name]) for name in fit.law.inputs), **values)
