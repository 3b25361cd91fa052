"""agree(): whether estimates of the compute-optimal frontier agree within their uncertainty."""

import dataclasses
import html
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxscale._approach import Approach
from jaxscale._draws import tails
from jaxscale._errors import DataError, FitError
from jaxscale._resamples import common_rows

Verdict = Literal["agree", "disagree", "undecided"]
_LEAST_DRAWS = 50
_POWER = 0.8416  # standard errors beyond a threshold: 80% of normal estimates lie above it
_BEYOND = 10.0  # of the largest budget: where decisions are made


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Differences between approaches, pair by pair; see `agree`.

    Attributes:
        approaches: what is compared.
        table: one row per pair and quantity: first, second, quantity (``"a"`` or ``"N*"``), flop
            (NaN for a), estimate (difference of a, first minus second, or ratio N* first / second),
            low and high (equal-tailed), low_all and high_all (which hold for all rows together),
            detectable (the difference, or factor, that low_all to high_all would tell from none in
            four of five tables), paired (from common resamples) and verdict.
        level: probability content.
        tolerance: largest factor of N* that does not matter.
        notes: what to know before using it.
    """

    approaches: tuple[Approach, ...]
    table: pd.DataFrame
    level: float
    tolerance: float
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """``"disagree"`` if any row does, ``"undecided"`` if one could hide what matters."""
        found = set(self.table["verdict"])
        if "disagree" in found:
            return "disagree"
        return "undecided" if "undecided" in found else "agree"

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is to be said of the pairs that disagree, that are undecided, and that agree."""
        pairs: dict[str, list[pd.DataFrame]] = {"disagree": [], "undecided": [], "agree": []}
        for _, rows in self.table.groupby(["first", "second"], sort=False):
            found = next(v for v in pairs if (rows["verdict"] == v).any())
            pairs[found].append(rows)
        said = [self._apart(rows.loc[rows["distance"].idxmax()]) for rows in pairs["disagree"]]
        if pairs["undecided"]:
            names, factor, _ = self._seen(pairs["undecided"])
            said.append(
                f"{names} cannot be told apart, which is no agreement: less than {factor} would "
                "easily have been missed."
            )
        if pairs["agree"]:
            names, factor, slope = self._seen(pairs["agree"])
            said.append(
                f"{names} agree within their uncertainty: {factor} or {slope:.2g} in the exponent "
                "would most likely have been seen."
            )
        return tuple(said)

    @property
    def sentence(self) -> str:
        """All of it in one text."""
        return " ".join(self.sentences)

    def frame(self) -> pd.DataFrame:
        """One row per pair and quantity, see `table`."""
        return self.table.drop(columns="distance")

    def _seen(self, pairs: list[pd.DataFrame]) -> tuple[str, str, float]:
        """Names of some pairs, and the largest differences between them that stay unseen."""
        rows = pd.concat(pairs)
        sizes = rows[rows["quantity"] == "N*"]
        worst = sizes.loc[sizes["detectable"].idxmax()]
        slope = float(rows.loc[rows["quantity"] == "a", "detectable"].max())
        if len(pairs) == len(self.table.groupby(["first", "second"])):
            *first, last = _labels(self.approaches)
            names = f"{', '.join(first)} and {last}"
        else:
            names = "; ".join(f"{p['first'].iloc[0]} and {p['second'].iloc[0]}" for p in pairs)
        return names, f"a factor {worst.detectable:.3g} in N*({_flop(worst.flop)})", slope

    def _apart(self, row: Any) -> str:
        what = (
            f"the exponent by {row.estimate:+.2g} ({row.low_all:+.2g} to {row.high_all:+.2g})"
            if row.quantity == "a"
            else f"N*({_flop(row.flop)}) by a factor {_factor(row)}"
        )
        return f"{row.first} and {row.second} disagree: {what}."

    def __repr__(self) -> str:
        table = self.frame().to_string(index=False, float_format=lambda x: f"{x:.4g}")
        return "\n".join([*self.sentences, table, *self.notes])

    def _repr_html_(self) -> str:
        table = self.frame().to_html(index=False, float_format=lambda x: f"{x:.4g}")
        said = "<br>".join(html.escape(s) for s in self.sentences)
        notes = "<br>".join(html.escape(s) for s in self.notes)
        return f"<p><b>{said}</b></p>{table}<p>{notes}</p>"


def agree(
    *approaches: Approach, flop: Any = None, level: float = 0.95, tolerance: float = 2.0
) -> Agreement:
    """max_k |d_k| / se_k <= q: whether all differences d_k between approaches are chance.

    The d_k are the differences of the exponent a and of log N*(C) of every pair. Their joint
    distribution comes from the draws: of the same resample where approaches were made from the
    same runs, kind of resampling, key and number of draws, and otherwise as if independent (for
    the same runs, that makes intervals wider than need be). The sharpest comparison of `isoflop`
    and `surface` is under the same noise: ``isoflop(runs, noise=fit, key=key)`` beside
    ``surface(bootstrap(fit, kind="residual", key=key))``; it sees differences of a percent, such
    as the bias of a parabola, so look at their size, too. The quantile q is that of the largest
    |d_k| / se_k under the draws, so that approaches that agree are said to disagree in a share
    1 - level of all tables, however many pairs and budgets there are.

    Args:
        *approaches: two or more results of `envelope`, `isoflop` and `surface`, with draws.
        flop: budgets at which N* is compared; default: the smallest and largest budget that all
            of them have seen, and ten times the largest.
        level: probability content of the intervals, and of all of them together.
        tolerance: factor of N* that does not matter. If a larger one would not have been seen, the
            verdict is ``"undecided"``, not ``"agree"``.

    Raises:
        DataError: for fewer than two approaches, or one without draws.
        FitError: if too few draws are finite.

    Source: max-t intervals: Romano & Wolf 2005, doi 10.1111/j.1468-0262.2005.00615.x.

    Example:
        >>> agree(isoflop(runs, key=key), surface(bootstrap(fit, kind="residual", key=key)))
    """
    tails(level)
    _check(approaches, tolerance)
    budgets = _budgets(approaches) if flop is None else np.unique(np.asarray(flop, float))
    point, draws, groups = _joint(approaches, budgets)
    names = _labels(approaches)
    pairs = list(itertools.combinations(range(len(approaches)), 2))
    d = np.concatenate([point[i] - point[j] for i, j in pairs])
    each = np.concatenate([draws[i] - draws[j] for i, j in pairs], axis=1)
    centered = each - each.mean(axis=0)
    se = centered.std(axis=0, ddof=1)
    safe = np.where(se > 0, se, np.inf)
    q = float(np.quantile(np.abs(centered / safe).max(axis=1), level))
    low, high = np.quantile(each, tails(level), axis=0)
    rows = []
    for k, (pair, index) in enumerate(itertools.product(pairs, range(len(budgets) + 1))):
        i, j = pair
        rows.append(
            _row(
                (names[i], names[j]),
                None if index == 0 else float(budgets[index - 1]),
                (d[k], low[k], high[k], se[k], q),
                groups[i] == groups[j],
                tolerance,
            )
        )
    return Agreement(
        approaches=tuple(approaches),
        table=pd.DataFrame(rows),
        level=level,
        tolerance=tolerance,
        notes=_notes(approaches, groups, budgets),
    )


def _check(approaches: Sequence[Any], tolerance: float) -> None:
    if len(approaches) < 2 or not all(isinstance(a, Approach) for a in approaches):
        raise DataError("agree compares two or more results of envelope, isoflop and surface")
    if tolerance <= 1:
        raise DataError(f"tolerance is a factor of N* above 1, such as 2, got {tolerance}")
    for approach in approaches:
        if not approach.draws:
            raise DataError(
                f"{approach.name} carries no uncertainty, so that nothing can be said; make it of "
                "draws, such as surface(bootstrap(fit, key=key))"
            )


def _labels(approaches: Sequence[Approach]) -> list[str]:
    """Names of the approaches, numbered where two have the same."""
    names: list[str] = [approach.name for approach in approaches]
    return [
        name if names.count(name) == 1 else f"{name} {names[: i + 1].count(name)}"
        for i, name in enumerate(names)
    ]


def _budgets(approaches: Sequence[Approach]) -> np.ndarray:
    low = max(approach.ranges["flop"][0] for approach in approaches)
    high = min(approach.ranges["flop"][1] for approach in approaches)
    return np.unique([min(low, high), high, _BEYOND * high])


def _joint(
    approaches: Sequence[Approach], budgets: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray], list[int]]:
    """a and log N* of every approach: estimates and joint draws; and which share resamples."""
    points, columns = [], []
    for approach in approaches:
        at = approach.sizes(budgets)
        assert at.N_draws is not None
        points.append(np.concatenate([[approach.a], at.N]))
        columns.append(np.column_stack([approach.draws["a"], at.N_draws]))
    groups = _groups(approaches)
    chosen: list[np.ndarray] = [np.arange(len(c)) for c in columns]
    for group in set(groups):
        members = [i for i, g in enumerate(groups) if g == group]
        known = [approaches[i].resamples for i in members]
        shared = [r for r in known if r is not None]
        if len(members) > 1 and len(shared) == len(members):
            for i, rows in zip(members, common_rows(shared), strict=True):
                chosen[i] = rows
    count = min(len(rows) for rows in chosen)
    joint = []
    for i, rows in enumerate(chosen):
        # One key may drive two kinds of resampling; draws shifted against each other share nothing.
        shift = groups[i] * count // (max(groups) + 1)
        joint.append(np.roll(columns[i][rows[:count]], shift, axis=0))
    finite = np.all([np.isfinite(x).all(axis=1) for x in joint], axis=0)
    if finite.sum() < max(_LEAST_DRAWS, count // 2):
        raise FitError(
            f"only {finite.sum():,} of {count:,} draws give every approach a frontier; take more "
            "draws, or leave out the approach whose resamples fail"
        )
    return points, [x[finite] for x in joint], groups


def _groups(approaches: Sequence[Approach]) -> list[int]:
    """Number of the set of resamples of each approach; one of its own where it is not known."""
    known: dict[str, int] = {}
    found = []
    for i, approach in enumerate(approaches):
        name = f"own {i}" if approach.resamples is None else approach.resamples.name
        found.append(known.setdefault(name, len(known)))
    return found


def _row(
    names: tuple[str, str],
    flop: float | None,
    numbers: tuple[float, float, float, float, float],
    paired: bool,
    tolerance: float,
) -> dict[str, Any]:
    """One row of the table; log N* is turned into a factor."""
    d, low, high, se, q = numbers
    half, clear = q * se, (q + _POWER) * se
    to = float if flop is None else _factor_of
    apart, unseen = abs(d) > half, flop is not None and to(clear) > tolerance
    return {
        "first": names[0],
        "second": names[1],
        "quantity": "a" if flop is None else "N*",
        "flop": np.nan if flop is None else flop,
        "estimate": to(d),
        "low": to(low),
        "high": to(high),
        "low_all": to(d - half),
        "high_all": to(d + half),
        "detectable": to(clear),
        "paired": paired,
        "verdict": "disagree" if apart else "undecided" if unseen else "agree",
        "distance": abs(d) / half if half > 0 else np.inf,
    }


def _factor_of(log_ratio: Any) -> float:
    return float(np.exp(log_ratio))


def _notes(
    approaches: Sequence[Approach], groups: Sequence[int], budgets: np.ndarray
) -> tuple[str, ...]:
    notes = []
    if len(set(groups)) > 1:
        notes.append(
            "Draws of different resamples are taken as independent; those of the same runs are "
            "not, and differences between them are known better than stated. Common resamples: "
            "the same runs, kind, key and number of draws."
        )
    top = min(approach.ranges["flop"][1] for approach in approaches)
    if budgets.max() > top * (1 + 1e-6):
        notes.append(f"Budgets above {top:.3g} FLOPs lie beyond the runs.")
    return tuple(notes)


def _flop(flop: float) -> str:
    return f"{flop:.3g}"


def _factor(row: Any) -> str:
    return f"{row.estimate:.3g} ({row.low_all:.3g} to {row.high_all:.3g})"
