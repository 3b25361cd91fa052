"""The line through isoFLOP minima, and whether their noise explains their scatter around it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxscale._approach import PowerLaws
from jaxscale._isoflop_minima import Optima
from jaxscale._line import Line, weighted_line
from jaxscale._valley import DEGREES, Valley

_SCATTER = 0.05  # significance from which on the scatter of the minima widens the draws
_MUCH_WORSE = 2.0  # than other budgets, in standard errors of their minima
_SPACING = 1 / 3  # of the spacing of sizes: how well an interpolated minimum can be known at best


class Widening(NamedTuple):
    """By how much the draws were widened, and the probability of so much scatter without cause."""

    factor: float
    p_value: float

    @property
    def sentence(self) -> str:
        """What happened, or nothing."""
        if self.factor == 1:
            return ""
        return (
            f"The minima scatter {self.factor:.2g} times as far from the line as the noise "
            f"explains (p = {self.p_value:.2g}); the draws are widened by that factor."
        )


def lines_through(valleys: Sequence[Valley], found: Optima) -> tuple[PowerLaws, Widening]:
    """Lines of log N* and log D* over log C, through the minima and through every draw of them."""
    log_c = np.log([valley.flop for valley in valleys])
    weight = 1 / _errors(valleys, found, log_c) ** 2
    middle = float((weight * log_c).sum() / weight.sum())
    tokens = np.array([v.log_tokens(x) for v, x in zip(valleys, found.size, strict=True)])
    token_draws = np.stack([v.log_tokens(x) for v, x in zip(valleys, found.draws, strict=True)])
    N, D = (weighted_line(log_c, x, weight, middle) for x in (found.size, tokens))
    drawn = [weighted_line(log_c, x.T, weight, middle) for x in (found.draws, token_draws)]
    wider = _widening(log_c, weight, found, N)
    spread = [_stretched(a, b, wider.factor) for a, b in zip((N, D), drawn, strict=True)]
    return PowerLaws(N, D, spread[0], spread[1]), wider


def _errors(valleys: Sequence[Valley], found: Optima, log_c: np.ndarray) -> np.ndarray:
    """Standard errors of log N* for the weights, shape (budgets,).

    Resamples without a minimum count against a budget. The minimum of an interpolant is not known
    to better than a third of the spacing of sizes, however little noise there is. The errors of
    least-squares minima depend on the same noise as the minima themselves: weights that followed
    them would prefer the lucky budgets, and make intervals of cubics too narrow (84% for 90%).
    They are therefore those of a power of C, except where a budget is much worse.
    """
    spacing = np.array([np.ptp(v.log_N) / (v.sizes - 1) for v in valleys])
    error = np.maximum(np.nanstd(found.draws, axis=1), 1e-9 * spacing) / found.inside
    if valleys[0].method not in DEGREES:
        return np.maximum(error, _SPACING * spacing / found.inside)
    if len(valleys) < 3:
        return error
    smooth = np.exp(weighted_line(log_c, np.log(error), 1.0)(log_c))
    return np.where(error > _MUCH_WORSE * smooth, error, smooth)


def _widening(log_c: np.ndarray, weight: np.ndarray, found: Optima, line: Line) -> Widening:
    """Ratio of the minima's scatter around their line to that of the draws, if it is significant.

    The draws show which scatter noise makes: sum_i w_i r_i^2 of their deviations from the minima.
    """
    moved = (found.draws - found.size[:, None]).T
    moved = moved[np.isfinite(moved).all(axis=1)]
    if len(log_c) < 3 or len(moved) < 2:
        return Widening(1.0, np.nan)
    again = weighted_line(log_c, moved, weight, line.middle)
    expected = (weight * (moved - again(log_c)) ** 2).sum(axis=1)
    observed = float((weight * (found.size - line(log_c)) ** 2).sum())
    p_value = float((1 + (expected >= observed).sum()) / (1 + len(expected)))
    if p_value >= _SCATTER or expected.mean() <= 0:
        return Widening(1.0, p_value)
    return Widening(max(1.0, float(np.sqrt(observed / expected.mean()))), p_value)


def _stretched(line: Line, draws: Line, factor: float) -> Line:
    height, slope = np.asarray(draws.height), np.asarray(draws.slope)
    return Line(
        draws.middle,
        line.height + factor * (height - line.height),
        line.slope + factor * (slope - line.slope),
    )
