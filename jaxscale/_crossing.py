"""crossing(): from which scale on does one recipe beat another, and how sure is that?"""

import dataclasses
import html
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._draws import Draws, as_draws, tails
from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit
from jaxscale._law import Law
from jaxscale._path import (
    Path,
    bisect,
    checked_range,
    log_middle,
    losses,
    losses_at,
    make_path,
)

_POINTS = 257  # of the grid on which signs are looked at


@dataclasses.dataclass(frozen=True)
class Crossing:
    """Where the loss curves of two fits cross; see `crossing`.

    Attributes:
        names: what the two are called.
        winner: the one that is ahead (of lower loss) at the upper end of the range.
        at: scale from which on the winner stays ahead, by the estimates; NaN if the curves do not
            cross within the range.
        loss: of both there.
        low, high: equal-tailed interval of that scale over the draws, or None without draws. An end
            is 0 or infinite where it lies beyond the range.
        level: probability content of the interval.
        within: the range that was looked at.
        p_never: share of the draws whose curves do not cross within the range, or None.
        points: that scale in every draw, shape (draws,): 0 where the winner is ahead throughout,
            infinite where it is not ahead at the upper end. Empty without draws.
        table: one row per scale of a grid: loss of both, their difference (first minus second),
            and with draws its interval and the share of the draws in which the first is ahead.
        path: how the inputs follow from the scale.
        notes: what to know before using the numbers.
    """

    names: tuple[str, str]
    winner: str
    at: float
    loss: float
    low: float | None
    high: float | None
    level: float
    within: tuple[float, float]
    p_never: float | None
    points: np.ndarray
    table: pd.DataFrame
    path: Path
    notes: tuple[str, ...] = ()

    @property
    def loser(self) -> str:
        """The one that is behind at the upper end of the range."""
        return next(name for name in self.names if name != self.winner)

    def p_ahead(self, scale: float) -> float:
        """Share of the draws in which the winner is ahead from a scale to the end of the range."""
        if not len(self.points):
            raise DataError("a fit alone has no draws: give crossing() draws of both")
        return float(np.mean(self.points <= scale))

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, and the notes."""
        low, high = (f"{end:.3g}" for end in self.within)
        unit = " FLOPs" if self.path.scale == "flop" else ""
        if np.isnan(self.at):
            first = f"{self.winner} is ahead of {self.loser} from {low} to {high}{unit}"
        else:
            scale = f"{self.path.scale} = {self.at:.3g}"
            first = f"{self.loser} is ahead below {scale}, {self.winner} above"
        said = [f"{first}, {self.path.words}."]
        if self.low is not None and self.high is not None:
            said.append(
                f"{self.winner} stays ahead from {_end(self.low, low, 'below')} to "
                f"{_end(self.high, high, 'beyond')}{unit} on ({self.level:.0%} interval)."
            )
        if self.p_never is not None:
            said.append(
                f"In {self.p_never:.1%} of the draws the curves do not cross between {low} and "
                f"{high}{unit}."
            )
        return (*said, *self.notes)

    def frame(self) -> pd.DataFrame:
        """One row: winner, scale, loss, interval, and the probability that they never cross."""
        return pd.DataFrame(
            {
                "winner": [self.winner],
                "loser": [self.loser],
                self.path.scale: [self.at],
                "loss": [self.loss],
                "low": [np.nan if self.low is None else self.low],
                "high": [np.nan if self.high is None else self.high],
                "p_never": [np.nan if self.p_never is None else self.p_never],
            }
        )

    def __repr__(self) -> str:
        return "\n".join(self.sentences)

    def _repr_html_(self) -> str:
        return f"<p>{'<br>'.join(html.escape(text) for text in self.sentences)}</p>"


def _end(value: float, limit: str, word: str) -> str:
    return f"{value:.3g}" if 0 < value < np.inf else f"{word} {limit}"


def crossing(
    a: Any,
    b: Any,
    *,
    path: str | float | Callable[[Any], Any] | None = None,
    within: tuple[float, float] | None = None,
    level: float = 0.9,
    names: tuple[str, str] = ("a", "b"),
    **fixed: float,
) -> Crossing:
    """The scale x from which on L_a(x) and L_b(x) keep their order: L_a(x) = L_b(x).

    For power laws, the root of E1 + A1 x^-a1 = E2 + A2 x^-a2 in log x. Curves may cross twice;
    the last crossing within the range counts, from where on the winner stays ahead.

    Args:
        a, b: fits of two recipes or of two laws, their draws or posteriors. Draws are paired in
            their order, so that common resamples cancel what both share; if one has more, as many
            of it are taken, evenly spaced.
        path: how inputs follow from the scale. None: the compute-optimal N and D of each budget,
            for laws in N and D, or the only input of others. ``"optimal"``; a number of tokens per
            parameter; the name of an input, with the others given by name; or a function from a
            scale to inputs by name.
        within: range of the scale. Default: from the smallest run to 1,000 times the largest.
        level: probability content of the interval.
        names: what to call the two.
        **fixed: inputs to hold, along an input.

    Raises:
        LawError: for laws that cannot follow the path, or without a loss at the estimates.
        DataError: for an unusable range, or inputs that are missing.

    Source: Xiao 2024, arXiv 2409.15156, on why crossings matter.

    Example:
        >>> crossing(boot_a, boot_b, within=(1e18, 1e25))
    """
    tails(level)
    if len(names) != 2 or names[0] == names[1]:
        raise DataError(f"names= are two different names, got {names}")
    made = [as_draws(source) for source in (a, b)]
    fits = [x if y is None else y.fit for x, y in zip((a, b), made, strict=True)]
    for fit in fits:
        if fit.sets is not None:
            raise DataError(f"choose one data set first, such as fit[{fit.sets[0]!r}]")
    way = make_path(tuple(fit.law for fit in fits), path, fixed)
    ends = checked_range(within, tuple(fits), way)
    grid = np.linspace(np.log(ends[0]), np.log(ends[1]), _POINTS)
    found = _over_draws(fits, made, way, grid)
    point = found if _by_median(made) and found is not None else _at_estimates(fits, way, grid)
    middle = [np.median(loss, axis=0) for loss in point.loss]  # of one, at the estimates
    winner = 0 if middle[0][-1] < middle[1][-1] else 1
    where = _middle_of(np.exp(_last_crossings(point, grid, winner)))
    columns: dict[str, Any] = {
        way.scale: np.exp(grid),
        names[0]: middle[0],
        names[1]: middle[1],
        "difference": middle[0] - middle[1],
    }
    low = high = p_never = None
    points = np.empty(0)
    if found is not None:
        points = np.exp(_last_crossings(found, grid, winner))
        low, high = np.quantile(points, tails(level), method="inverted_cdf").tolist()
        first = found.difference < 0
        p_never = float((first == first[:, :1]).all(axis=1).mean())
        ends_of = np.quantile(found.difference, tails(level), axis=0)
        columns |= {"low": ends_of[0], "high": ends_of[1], f"p_{names[0]}": first.mean(axis=0)}
    crosses = 0 < where < np.inf
    return Crossing(
        names=names,
        winner=names[winner],
        at=where if crosses else np.nan,
        loss=point.curves[winner].middle_at(where) if crosses else np.nan,
        low=low,
        high=high,
        level=level,
        within=ends,
        p_never=p_never,
        points=points,
        table=pd.DataFrame(columns),
        path=way,
        notes=() if found is None else found.notes,
    )


def _by_median(made: list[Draws | None]) -> bool:
    """Whether the draws say what the middle is, not the fit."""
    return any(each is not None and each.center != "fit" for each in made)


def _middle_of(points: np.ndarray) -> float:
    """The median, of which infinite points are part."""
    return float(np.quantile(points, 0.5, method="inverted_cdf"))


class _Curve(NamedTuple):
    """The losses of one law along a path, for parameters of shape (draws,)."""

    law: Law
    path: Path
    middle: tuple[float, float]
    params: dict[str, Any]

    def on(self, grid: np.ndarray) -> np.ndarray:
        """At common log scales, shape (draws, points)."""
        return np.asarray(losses(self.law, self.path, self.middle, jnp.asarray(grid), self.params))

    def at(self, log_x: np.ndarray) -> np.ndarray:
        """At a log scale of each draw's own, shape (draws,)."""
        return np.asarray(
            losses_at(self.law, self.path, self.middle, jnp.asarray(log_x), self.params)
        )

    def middle_at(self, x: float) -> float:
        """The median over the draws at one scale."""
        return float(np.median(self.on(np.log([x]))))

    def take(self, rows: np.ndarray) -> "_Curve":
        return self._replace(params={name: x[rows] for name, x in self.params.items()})


class _Pair(NamedTuple):
    """Two curves with their losses on the grid, each (draws, points), and what to know."""

    curves: tuple[_Curve, _Curve]
    loss: tuple[np.ndarray, np.ndarray]
    notes: tuple[str, ...] = ()

    @property
    def difference(self) -> np.ndarray:
        """Loss of the first minus loss of the second, (draws, points)."""
        return self.loss[0] - self.loss[1]


def _over_draws(
    fits: list[Fit], made: list[Draws | None], path: Path, grid: np.ndarray
) -> _Pair | None:
    """Both curves for paired draws; None if either fit has none."""
    if made[0] is None or made[1] is None:
        return None
    count = min(len(each) for each in made if each is not None)
    curves = []
    for fit, each in zip(fits, made, strict=True):
        assert each is not None
        which = ((np.arange(count) + 0.5) * len(each) / count).astype(int)
        params = {name: jnp.asarray(np.asarray(x)[which]) for name, x in each.params.items()}
        curves.append(_Curve(fit.law, path, log_middle(fit), params))
    loss = [curve.on(grid) for curve in curves]
    usable = np.isfinite(loss[0]).all(axis=1) & np.isfinite(loss[1]).all(axis=1)
    if 2 * usable.sum() <= count:
        raise LawError(
            f"only {usable.mean():.0%} of the draws give a finite loss over the whole range, "
            f"{path.words}: choose a narrower one with within="
        )
    notes = [each.doubt for each in made if each is not None and each.doubt]
    if not usable.all():
        notes.append(
            f"{1 - usable.mean():.2%} of the draws give no finite loss somewhere in the range and "
            "were left out."
        )
    rows = np.flatnonzero(usable)
    one, other = (curve.take(rows) for curve in curves)
    return _Pair((one, other), (loss[0][rows], loss[1][rows]), tuple(notes))


def _at_estimates(fits: list[Fit], path: Path, grid: np.ndarray) -> _Pair:
    """Both curves at the estimates of the fits."""
    curves, loss = [], []
    for fit in fits:
        params = {name: jnp.asarray(x, float)[None] for name, x in fit.params.items()}
        curves.append(_Curve(fit.law, path, log_middle(fit), params))
        loss.append(curves[-1].on(grid))
        bad = np.flatnonzero(~np.isfinite(loss[-1][0]))
        if bad.size:
            raise LawError(
                f"law {fit.law.name!r} has no finite loss at {path.scale} = "
                f"{np.exp(grid[bad[0]]):.3g}, {path.words}: choose another range with within="
            )
    return _Pair((curves[0], curves[1]), (loss[0], loss[1]))


def _last_crossings(pair: _Pair, grid: np.ndarray, winner: int) -> np.ndarray:
    """Log scale from which on the winner stays ahead, (draws,): -inf throughout, inf never."""
    sign = 1.0 if winner == 0 else -1.0
    behind = sign * pair.difference >= 0
    last = np.where(behind.any(axis=1), behind.shape[1] - 1 - behind[:, ::-1].argmax(axis=1), -1)
    crosses = (last >= 0) & (last < len(grid) - 1)
    begin = np.where(crosses, last, 0)
    one, other = pair.curves

    def ahead(at: np.ndarray) -> np.ndarray:
        return np.asarray(sign * (one.at(at) - other.at(at)) < 0)

    # Draws that do not cross go along, so that all calls have one shape.
    root = bisect(ahead, grid[begin], grid[begin + 1])
    return np.where(crosses, root, np.where(last < 0, -np.inf, np.inf))
