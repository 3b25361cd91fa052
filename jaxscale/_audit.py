"""Hold published intervals, and published parameters, against draws of one's own."""

import dataclasses
from collections.abc import Mapping
from html import escape
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy

from jaxscale._bootstrap import bootstrap
from jaxscale._draws import Draws, tails
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._published_point import PublishedPoint, coordinates, published_point
from jaxscale._quantity import Quantity, evaluate, resolve

_BOOTSTRAP = 4_000


@dataclasses.dataclass(frozen=True)
class Audit:
    """What runs have to say about intervals and parameters that somebody published.

    Attributes:
        draws: the draws they are held against.
        level: probability content of the claimed intervals, or None without any.
        claims: one row per claimed interval, see `frame`.
        point: verdict on a published parameter set, or None.
        claim_runs: number of runs that the claim was made from, or None.
    """

    draws: Draws
    level: float | None
    claims: pd.DataFrame
    point: PublishedPoint | None
    claim_runs: int | None

    def frame(self) -> pd.DataFrame:
        """One row per claimed interval.

        Columns: quantity; claimed_low, claimed_high; own estimate (of a posterior, the median), se
        (delta method), low and high (quantiles of the draws); ratio, own width over claimed width;
        runs_delta and runs_percentile, how many runs like these the claimed width would need by
        either own width; inside, whether the own estimate lies in the claimed interval;
        share_inside, how many of the draws do: of a posterior, the probability that the truth does.
        """
        return self.claims.copy()

    @property
    def sentences(self) -> tuple[str, ...]:
        """The findings in plain English."""
        about = [text for row in self.claims.to_dict("records") for text in self._about(row)]
        verdict = self.draws.verdict
        warning = [] if verdict.ok else [f"Mind the fit: {verdict}"]
        warning += [f"Mind the draws: {self.draws.doubt}"] if self.draws.doubt else []
        return (*about, *(self.point.sentences if self.point else ()), *warning)

    def _about(self, row: dict[str, Any]) -> list[str]:
        n, ratio = int(self.draws.fit.n_runs), row["ratio"]
        claim = f"The claimed {100 * (self.level or 0):g}% interval of {row['quantity']} " + (
            f"({row['claimed_low']:.4g}, {row['claimed_high']:.4g})"
        )
        if not ratio > 0:
            verdict = f"{claim} cannot be judged: the draws give no interval"
        elif ratio > 1.25:
            verdict = (
                f"{claim} is {_short(ratio)} times narrower than these {n} runs support: it would "
                f"need about {_rounded(row['runs_percentile'])} runs like these"
            )
            other = row["runs_delta"]
            if np.isfinite(other) and not 0.5 <= other / row["runs_percentile"] <= 2:
                verdict += f" (about {_rounded(other)} by the delta method)"
            if self.claim_runs is not None:
                verdict += f", and was made from {self.claim_runs:,}"
        elif ratio < 0.8:
            verdict = f"{claim} is {_short(1 / ratio)} times wider than these {n} runs support"
        else:
            verdict = f"{claim} is about as wide as these {n} runs support"
        own = self._probability(row) if self.draws.center == "median" else self._share(row)
        return [f"{verdict}.", f"{own} ({self.draws.method})."]

    def _share(self, row: dict[str, Any]) -> str:
        share = row["share_inside"] if row["inside"] else 1 - row["share_inside"]
        where = f"{'inside' if row['inside'] else 'outside'} it, and so do {100 * share:.4g}%"
        return f"The estimate from these runs, {row['estimate']:.4g}, lies {where} of the draws"

    def _probability(self, row: dict[str, Any]) -> str:
        """Draws of a posterior count as probability, but not below what one of them is worth."""
        share, least = row["share_inside"], 1 / len(self.draws)
        worth = f"{100 * share:.4g}%"
        if share < least:
            worth = f"below {100 * least:.2g}%"
        elif share > 1 - least:
            worth = f"above {100 * (1 - least):.5g}%"
        return (
            f"The posterior probability that the true {row['quantity']} lies in the claimed "
            f"interval is {worth}; its posterior median is {row['estimate']:.4g}"
        )

    def __repr__(self) -> str:
        tables = [self.claims] if len(self.claims) else []
        tables += [self.point.frame()] if self.point else []
        shown = [t.to_string(index=False, float_format=lambda x: f"{x:.6g}") for t in tables]
        return "\n".join([*self.sentences, *shown])

    def _repr_html_(self) -> str:
        tables = [self.claims] if len(self.claims) else []
        tables += [self.point.frame()] if self.point else []
        shown = [t.to_html(index=False, float_format=lambda x: f"{x:.6g}") for t in tables]
        return "".join([f"<p>{'<br>'.join(map(escape, self.sentences))}</p>", *shown])


def audit(
    source: Fit | Draws | Any,
    *,
    claimed: Mapping[str | Quantity, Any] | None = None,
    n_runs: int | None = None,
    published: Any = None,
    key: jax.Array | None = None,
) -> Audit:
    """Hold published intervals against draws: ``n_needed = n (own width / claimed width)^2``.

    The own width is taken twice: from the quantiles of the draws, and by the delta method as
    ``2 z se`` from their covariance. The standard error of n runs shrinks as ``1 / sqrt(n)``.

    Args:
        source: `Draws`, anything with ``.draws``, or a `Fit` together with `key`, which is
            bootstrapped here (4,000 pairs).
        claimed: claimed intervals by quantity, and their ``"level"``:
            ``{"a": (0.454, 0.455), "level": 0.8}``. A quantity called "level" itself is claimed by
            a `Quantity` object.
        n_runs: number of runs that the claim was made from, to be named in the answer.
        published: a parameter set to test as a whole: a name from `published`, one of its entries,
            or parameters by name. Write numbers as strings to keep trailing zeros.
        key: JAX random key for the bootstrap of a bare fit.

    Returns:
        An `Audit`: `frame()`, `sentences`, and `point` for the published parameters.

    Raises:
        DataError: for a bare fit without key, no claim, an interval that is none, a quantity that
            is claimed twice, or an unusable level.
        LawError: for a quantity that the law does not have.

    Source: Besiroglu et al. 2024, arXiv 2404.10102, section 4.

    Example:
        >>> audit(draws, claimed={"a": (0.454, 0.455), "level": 0.8}, published="hoffmann_2022")
    """
    intervals = dict(claimed or {})
    level = _level(intervals)
    if not intervals and published is None:
        raise DataError("give claimed intervals, a published parameter set, or both")
    if n_runs is not None and n_runs < 1:
        raise DataError(f"n_runs must be at least 1, got {n_runs}")
    draws = _draws_of(source, key)
    point = None if published is None else published_point(draws, published)
    return Audit(draws, level, _claims(draws, intervals, level), point, n_runs)


def _draws_of(source: Any, key: jax.Array | None) -> Draws:
    made = source if isinstance(source, Draws) else getattr(source, "draws", None)
    if isinstance(made, Draws):
        return made
    if not isinstance(source, Fit):
        raise DataError(f"audit() needs a Fit or Draws, got {type(source).__name__}")
    if key is None:
        raise DataError(
            "a fit alone has no uncertainty: pass draws, as in audit(bootstrap(fit, key=key), ...),"
            " or a key, as in audit(fit, ..., key=jax.random.key(0))"
        )
    return bootstrap(source, n=_BOOTSTRAP, key=key)


def _level(intervals: dict[Any, Any]) -> float | None:
    """The level of the intervals, which is taken out of them."""
    level = intervals.pop("level", None)
    if level is None:
        if intervals:
            raise DataError("say at which level the intervals are claimed, such as 'level': 0.8")
        return None
    if isinstance(level, bool) or not np.isscalar(level):
        raise DataError(
            f"'level' is the probability content of the claimed intervals, a number, got {level!r}"
        )
    tails(cast(Any, level))
    return float(cast(Any, level))


def _claims(draws: Draws, intervals: Mapping[Any, Any], level: float | None) -> pd.DataFrame:
    if not intervals or level is None:
        return pd.DataFrame()
    quantities = tuple(resolve(draws.fit, what) for what in intervals)
    labels = [quantity.label for quantity in quantities]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise DataError(f"{twice} is claimed twice; give one interval for each quantity")
    bounds = [_interval(*pair) for pair in zip(quantities, intervals.values(), strict=True)]
    errors = _delta_errors(draws, quantities)
    table = draws.frame(level, quantities).drop(columns="se")
    claimed_low, claimed_high = np.array(bounds).T
    table.insert(1, "claimed_low", claimed_low)
    table.insert(2, "claimed_high", claimed_high)
    table.insert(4, "se", errors)
    claimed_width = claimed_high - claimed_low
    n = int(draws.fit.n_runs)
    table["ratio"] = (table["high"] - table["low"]) / claimed_width
    table["runs_delta"] = (
        n * (2 * scipy.stats.norm.ppf(tails(level)[1]) * errors / claimed_width) ** 2
    )
    table["runs_percentile"] = n * table["ratio"] ** 2
    table["inside"] = (claimed_low <= table["estimate"]) & (table["estimate"] <= claimed_high)
    values = np.stack([draws[q] for q in quantities], axis=-1)
    table["share_inside"] = ((claimed_low <= values) & (values <= claimed_high)).mean(axis=0)
    return table


def _interval(quantity: Quantity, claimed: Any) -> tuple[float, float]:
    try:
        low, high = (float(x) for x in claimed)
    except (TypeError, ValueError):
        low = high = np.nan
    if not -np.inf < low < high < np.inf:
        raise DataError(
            f"the claimed interval of {quantity.label} must be two numbers, the lower first, "
            f"got {claimed!r}"
        )
    return low, high


def _delta_errors(draws: Draws, quantities: tuple[Quantity, ...]) -> np.ndarray:
    """``sqrt(g' cov g)``, with the gradient of each quantity at the mean of the draws."""
    law = draws.law
    each = coordinates(law, draws.params)

    def at(point: Any) -> Any:
        params = {
            name: jnp.exp(x) if p.support == "positive" else x
            for (name, p), x in zip(law.params, point, strict=True)
        }
        return evaluate(law, quantities, params)

    gradient = np.asarray(jax.jacfwd(at)(jnp.asarray(each.mean(axis=0))))
    with np.errstate(invalid="ignore"):
        covariance = np.cov(each.T).reshape(each.shape[1], each.shape[1])
    return np.sqrt(np.einsum("qi,ij,qj->q", gradient, covariance, gradient))


def _short(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 9.95 else f"{ratio:,.0f}"


def _rounded(count: float) -> str:
    """To three digits: nobody counts the runs of a hypothetical experiment one by one."""
    if not np.isfinite(count):
        return "infinitely many"
    digits = max(int(np.floor(np.log10(max(count, 1.0)))) - 2, 0)
    return f"{round(count, -digits):,.0f}"
