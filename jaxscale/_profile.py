"""profile(): how much worse the fit gets when one quantity is held at another value."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
import pandas as pd
import scipy

from jaxscale._draws import tails
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._law import physical_params
from jaxscale._profile_search import Search
from jaxscale._quantity import Quantity, from_interval_scale, resolve_all, to_interval_scale
from jaxscale._refit import Refits, fit_rows, warn_float32

Side = Literal["two", "lower", "upper"]
_REFINEMENTS = 3
_BETTER = 1e-3  # of a deviance: too little to move any interval


@dataclasses.dataclass(frozen=True)
class Profile:
    """Profile likelihood of one quantity.

    Attributes:
        label: the quantity.
        values: values at which it was held, ascending, in its own unit.
        deviance: twice the drop of the log likelihood from the optimum, every other parameter and
            the noise scale refitted; 0 at the estimate.
        params: the refitted parameters at those values.
        estimate: the fit's own value.
        low, high: ends of the interval, or None where it is open: no value on that side is
            excluded.
        level, threshold: probability content, and the deviance that it stands for.
        notes: what to know before using it.
    """

    label: str
    values: np.ndarray
    deviance: np.ndarray
    params: dict[str, np.ndarray]
    estimate: float
    low: float | None
    high: float | None
    level: float
    threshold: float
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """One row per point: value, deviance and the refitted parameters."""
        columns = {"value": self.values, "deviance": self.deviance}
        return pd.DataFrame(columns | {f"param_{k}": v for k, v in self.params.items()})

    def __repr__(self) -> str:
        low = "open" if self.low is None else f"{self.low:.6g}"
        high = "open" if self.high is None else f"{self.high:.6g}"
        head = f"{self.label} = {self.estimate:.6g}, {self.level:.0%} profile ({low}, {high})"
        return "\n".join([head, *self.notes])


def profile(
    fit: Fit,
    what: str | Quantity,
    *,
    level: float = 0.95,
    side: Side = "two",
) -> Profile:
    """Interval of all values c with ``min over g(theta) = c of deviance(theta) <= chi2_1(level)``.

    The deviance is twice the drop of the log likelihood under the objective's noise model, whose
    scale is refitted too. All points are fitted together; the search goes on outwards until a value
    is excluded, or until nothing more can change, and then the side is reported as open.

    Args:
        fit: a fit of one data set, with its runs.
        what: a parameter, a derived quantity such as ``"a"``, or `loss_at`, `optimal_N` ...
        level: probability content.
        side: ``"two"``, or ``"lower"`` or ``"upper"`` for a bound on that side alone.

    Raises:
        LawError: for an unknown quantity.

    Source: Venzon & Moolgavkar 1988; Raue et al. 2009 (open sides).

    Example:
        >>> profile(fit, "alpha", level=0.8)
    """
    return profiles(fit, [what], level=level, side=side)[0]


def profiles(
    fit: Fit,
    what: str | Quantity | Iterable[str | Quantity] | None = None,
    *,
    level: float = 0.95,
    side: Side = "two",
) -> tuple[Profile, ...]:
    """The profiles of several quantities, fitted together; see `profile`."""
    tails(level)
    if side not in ("two", "lower", "upper"):
        raise DataError(f"side must be 'two', 'lower' or 'upper', not {side!r}")
    if side != "two" and level <= 0.5:
        raise DataError(f"a bound on one side needs a level above 0.5, got {level}")
    warn_float32(fit_rows(fit).loss.dtype, "profile")
    search = Search(fit, resolve_all(fit, what))
    threshold = float(scipy.stats.chi2.ppf(level if side == "two" else 2 * level - 1, 1))
    signs = {"two": (-1, 1), "lower": (-1,), "upper": (1,)}[side]
    search.outwards(threshold, signs)
    search.sweep()
    for _ in range(_REFINEMENTS):
        search.refine(threshold, signs)
    return tuple(
        _finished(search, i, threshold, level, signs) for i in range(len(search.quantities))
    )


def _finished(
    search: Search, i: int, threshold: float, level: float, signs: tuple[int, ...]
) -> Profile:
    law, quantity = search.law, search.quantities[i]
    at, deviance, theta = search.lower_envelope(i)
    ends = {sign: search.crossing(i, sign, threshold) for sign in signs}

    def natural(end: float | None) -> float | None:
        return None if end is None else float(from_interval_scale(law, quantity, end))

    params = physical_params(law, theta, search.fit.log_refs)
    return Profile(
        label=quantity.label,
        values=np.asarray(from_interval_scale(law, quantity, at)),
        deviance=deviance,
        params={name: np.asarray(v) for name, v in params.items()},
        estimate=float(from_interval_scale(law, quantity, search.center[i])),
        low=natural(ends.get(-1)),
        high=natural(ends.get(1)),
        level=level,
        threshold=threshold,
        notes=_notes(quantity.label, deviance, ends, level, max(_BETTER, search.round_off)),
    )


def _notes(
    label: str,
    deviance: np.ndarray,
    ends: dict[int, float | None],
    level: float,
    better: float,
) -> tuple[str, ...]:
    found = [
        f"{label} is not identified from {where}: no {size} value is excluded at {level:.0%}."
        for sign, where, size in ((1, "above", "larger"), (-1, "below", "smaller"))
        if sign in ends and ends[sign] is None
    ]
    if deviance.min() < -better:
        found.append(
            f"The profile found an optimum better than the fit (deviance {deviance.min():.2g}): "
            "fit again with more restarts."
        )
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Surface:
    """Profile likelihood of two quantities together.

    Attributes:
        label_x, label_y: the quantities.
        x, y: their values at the points, shape (points,).
        deviance: twice the drop of the log likelihood, everything else refitted, shape (points,).
        estimate: values at the optimum.
    """

    label_x: str
    label_y: str
    x: np.ndarray
    y: np.ndarray
    deviance: np.ndarray
    estimate: tuple[float, float]

    def frame(self) -> pd.DataFrame:
        """One row per point."""
        return pd.DataFrame({self.label_x: self.x, self.label_y: self.y, "deviance": self.deviance})

    def __repr__(self) -> str:
        x, y = self.estimate
        return (
            f"{self.label_x} = {x:.6g} and {self.label_y} = {y:.6g} together: "
            f"{len(self.x)} points of their profile likelihood"
        )


def profile2d(fit: Fit, x: str | Quantity, y: str | Quantity, *, points: int = 25) -> Surface:
    """Deviance of two quantities held together, on a grid over their 99% profile intervals.

    Regions of probability content q are those below the q-quantile of chi-square with two degrees
    of freedom; `plot.profile2d` draws them.

    Args:
        fit: a fit of one data set, with its runs.
        x, y: two quantities, as in `profile`.
        points: points along each axis.

    Raises:
        LawError: for an unknown quantity.
        DataError: for fewer than 5 points.

    Example:
        >>> plot.profile2d(profile2d(fit, "alpha", "beta"))
    """
    if points < 5:
        raise DataError(f"a surface needs at least 5 points along each axis, got {points}")
    chosen = resolve_all(fit, [x, y])
    search, axes = Search(fit, chosen), []
    for found, quantity, center, step in zip(
        profiles(fit, chosen, level=0.99), chosen, search.center, search.step, strict=True
    ):
        low, high = (
            center + sign * 6 * step
            if end is None
            else float(to_interval_scale(fit.law, quantity, end))
            for sign, end in ((-1, found.low), (1, found.high))
        )
        # A region of two quantities reaches farther than the interval of each.
        axes.append(center + 1.25 * (np.linspace(low, high, points) - center))
    target = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    along = search.best + (target - search.center) @ search.direction
    starts = np.stack([along, np.broadcast_to(search.best, along.shape)], axis=1)
    theta = search.hold(target, np.ones(target.shape, bool), starts).theta
    value, at = search.look(theta)
    at, deviance = np.vstack([at, search.center]), np.append(search.deviance(value), 0.0)
    natural = [np.asarray(from_interval_scale(fit.law, q, at[:, i])) for i, q in enumerate(chosen)]
    return Surface(
        label_x=chosen[0].label,
        label_y=chosen[1].label,
        x=natural[0],
        y=natural[1],
        deviance=deviance,
        estimate=(float(natural[0][-1]), float(natural[1][-1])),
    )


def held_deviance(
    fit: Fit,
    quantities: tuple[Quantity, ...],
    truth: np.ndarray,
    loss: np.ndarray,
    found: Refits,
    tick: Callable[[int], None] = lambda n: None,
) -> np.ndarray:
    """Deviance of holding each quantity at a value, on many tables of the same design.

    Args:
        truth: the values, on the interval scale, shape (quantities,).
        loss: the tables, shape (tables, runs).
        found: their own optima.

    Returns:
        Shape (tables, quantities).
    """
    search, (tables, k) = Search(fit, quantities), (len(loss), len(quantities))
    own = np.repeat(found.theta, k, axis=0)
    # Stiff enough to leave nothing of the distance, and next to nothing of the penalty itself.
    held = search.hold(
        np.tile(truth, (tables * k, 1)),
        np.tile(np.eye(k, dtype=bool), (tables, 1)),
        np.stack([own, np.broadcast_to(search.best, own.shape)], axis=1),
        stiffer=100.0,
        loss=np.repeat(loss, k, axis=0),
        tick=tick,
    )
    nll = fit.objective.profile_nll
    drop = nll(held.value / search.total) - np.repeat(nll(found.value / search.total), k)
    return np.asarray(2 * search.n * drop).reshape(tables, k)
