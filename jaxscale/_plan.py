"""plan(): which runs to train next, under a budget, to shrink a stated uncertainty most."""

import dataclasses
import html
from collections.abc import Callable, Iterable
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy

from jaxscale import _design_search as search
from jaxscale._belief import Belief, belief_of, law_of, members_of
from jaxscale._candidates import read_candidates
from jaxscale._design_bound import lower_bound
from jaxscale._design_noise import DesignNoise
from jaxscale._design_search import Chosen, Prospect
from jaxscale._draws import tails
from jaxscale._errors import DataError, LawError
from jaxscale._plan_notes import plan_notes
from jaxscale._progress import progress
from jaxscale._quantity import (
    Quantity,
    from_interval_scale,
    interval_slope,
    resolve_all,
)

Criterion = Literal["c", "D", "information"]
Method = Literal["greedy", "exchange", "exact"]
_SAME_CELL = 0.01
_BLOCK = 1024
_SHOWN = 20
_VACUOUS = 0.05  # a bound as low as that says nothing


@dataclasses.dataclass(frozen=True)
class Plan:
    """Runs to train next, and what they are expected to do for the targets.

    Attributes:
        runs: one row per setting, in order of gain per FLOP; see `frame`.
        targets: what should be known better.
        uncertainty: one row per target: estimate, predicted standard error and interval before and
            after the runs.
        budget, cost: what may be spent and what the runs cost.
        criterion, method: how they were chosen.
        efficiency: standard error that no plan of this budget can be below, from the candidates
            and within the limits, as a share of this plan's (of the geometric mean over targets or
            parameters for "information" and "D").
        prospects: one row per candidate that the budget pays for: inputs, cost, times, and
            ``gain``, by how much one run of it alone improves the criterion.
        source: what the plan is made from.
        level: probability content of the intervals.
        notes: what to know before training them.
    """

    runs: pd.DataFrame
    targets: tuple[Quantity, ...]
    uncertainty: pd.DataFrame
    budget: float
    cost: float
    criterion: str
    method: str
    efficiency: float
    prospects: pd.DataFrame
    source: Any
    level: float
    notes: tuple[str, ...]

    @property
    def se_before(self) -> float:
        """Standard error of the first target as things stand, in its unit."""
        return float(self.uncertainty["se_before"].iloc[0])

    @property
    def se_after(self) -> float:
        """Predicted standard error of the first target with the runs, in its unit."""
        return float(self.uncertainty["se_after"].iloc[0])

    def __len__(self) -> int:
        return int(self.runs["times"].sum())

    def frame(self) -> pd.DataFrame:
        """Runs to train: inputs, flop of one run, times (seeds), cumulative cost, and the standard
        error of every target with the runs so far; ``weight`` is that of each run in the next fit,
        where runs of a cell share noise."""
        return self.runs

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the plan costs and what it buys."""
        first = self.uncertainty.iloc[0]
        settings, n = len(self.runs), len(self)
        seeds = "" if n == settings else f" at {settings} settings"
        done = (
            f"{n} runs{seeds} for {self.cost:.4g} of {self.budget:.4g} FLOPs bring the standard "
            f"error of {first.target} from {first.se_before:.3g} to {first.se_after:.3g}."
        )
        if self.efficiency < _VACUOUS:
            return done, "How much better another plan could be is not known."
        of = "that" if len(self.uncertainty) == 1 else "these standard errors, all in all"
        return done, (
            f"No plan within the budget and limits can be below {self.efficiency:.0%} of {of}."
        )

    def __repr__(self) -> str:
        number, more = "{:.4g}".format, len(self.runs) - _SHOWN
        return "\n".join(
            [
                *self.sentences,
                self.runs.head(_SHOWN).to_string(index=False, float_format=number),
                *([f"... and {more} more rows: frame()"] if more > 0 else []),
                self.uncertainty.to_string(index=False, float_format=number),
                *self.notes,
            ]
        )

    def _repr_html_(self) -> str:
        said, notes = ("<br>".join(map(html.escape, x)) for x in (self.sentences, self.notes))
        tables = (
            x.to_html(index=False, float_format="{:.4g}".format)
            for x in (self.runs, self.uncertainty)
        )
        return f"<p>{said}</p>{''.join(tables)}<p>{notes}</p>"


def plan(
    source: Any,
    *,
    candidates: Any,
    budget: float,
    target: str | Quantity | Iterable[str | Quantity] | None = None,
    criterion: Criterion = "c",
    method: Method = "exchange",
    noise: float | DesignNoise | None = None,
    seeds: int = 3,
    most: int = 32,
    cov: str = "hessian",
    by: Any = None,
    draws: int = 128,
    level: float = 0.95,
    show_progress: bool | None = None,
) -> Plan:
    """Runs that minimize the variance of a target after the next fit, within a budget.

    With J the exact derivative of a run's residual and S the covariance of the parameters so far,
    the variance of a target of gradient c becomes ``c' (S^-1 + sum_i w_i J_i J_i')^-1 c``. n runs
    of one cell have ``w = 1 / (cell^2 + run^2 / n)``: see `DesignNoise`.

    - ``criterion="c"``: the variance of the target; of several, the mean relative to the present.
    - ``criterion="D"``: the log determinant of the covariance of all parameters.
    - ``criterion="information"``: expected information about the targets together, in nats.

    For a fit all derivatives are taken at the estimate. For draws, S is their covariance and
    derivatives are taken at each of them; the criterion is the mean. The law is taken as right:
    where it is not, runs near the target are worth more than this says.

    Args:
        source: a fit, its draws, a posterior, or for a design from scratch a `Guess` or an entry
            of `published`.
        candidates: table of runs that could be trained, with the inputs of the law and their cost:
            see `jaxscale.candidates` and `read_candidates`.
        budget: what the runs may cost together, in the unit of the candidates' cost.
        target: name of a parameter or derived quantity, `loss_at`, `optimal_N`, `optimal_D`, or
            several. For "D" only what is reported; default everything.
        criterion: what is minimized.
        method: ``"greedy"`` by gain per FLOP; ``"exchange"``: also by gain, then improved by
            exchanges, and all choices one by one where they are few; ``"exact"``: the latter.
        noise: noise of the new runs: a `DesignNoise`, or the standard deviation of a run. Default:
            that of the source.
        seeds: how often one candidate may be run.
        most: how many runs may be trained in all.
        cov, by: how sure a fit is, see `laplace`, such as ``cov="cluster", by="N"``.
        draws: at most so many draws at which derivatives are taken.
        level: probability content of the intervals.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Raises:
        DataError: for unusable candidates, a budget below the cheapest, or bad options.
        LawError: for an unknown target, or one that the source says nothing about.

    Source: Fedorov 1972, Theory of Optimal Experiments (exchange); Chaloner & Verdinelli 1995,
    Statistical Science 10, 273-304 (Bayesian criteria); Elfving 1952 (one target).

    Example:
        >>> plan(fit, candidates=grid, budget=1e21, target=loss_at(N=70e9, D=1.4e12))
    """
    _check_options(criterion, method, seeds, most, draws)
    tails(level)
    inputs, cost = read_candidates(law_of(source), candidates)
    # What is too dear stays in the arrays, so that a compiled program serves every budget.
    limit = np.where(_affordable(cost, budget), seeds, 0)
    belief = belief_of(source, inputs, noise=noise, cov=cov, by=by, draws=draws)
    if target is None and criterion != "D":
        raise DataError("say what the runs are for: target='a', or loss_at(N=70e9, D=1.4e12)")
    targets = resolve_all(belief, target)
    belief, value, aims = _usable(belief, targets)
    prospect, usable = _prospect(belief, inputs, cost / budget, limit, aims, criterion)
    with progress("planning", search.STEPS, show_progress) as tick:
        chosen = _search(prospect, method, most, tick)
    return _plan(
        source, belief, targets, value, aims, prospect, chosen,
        {name: x[usable] for name, x in inputs.items()},
        budget, criterion, method, level, int((~usable).sum()), seeds, most,
    )  # fmt: skip


def _check_options(criterion: str, method: str, seeds: int, most: int, draws: int) -> None:
    if criterion not in ("c", "D", "information"):
        raise DataError(f"criterion must be 'c', 'D' or 'information', not {criterion!r}")
    if method not in ("greedy", "exchange", "exact"):
        raise DataError(f"method must be 'greedy', 'exchange' or 'exact', not {method!r}")
    for name, value in (("seeds", seeds), ("most", most), ("draws", draws)):
        if value < 1:
            raise DataError(f"{name} must be at least 1, got {value}")


def _affordable(cost: np.ndarray, budget: float) -> np.ndarray:
    if not (np.ndim(budget) == 0 and np.isfinite(budget) and budget > 0):
        raise DataError(f"the budget must be a positive number, got {budget}")
    affordable = cost <= budget
    if not affordable.any():
        raise DataError(
            f"the budget of {budget:.4g} pays for none of the candidates; the cheapest costs "
            f"{cost.min():.4g}"
        )
    return np.asarray(affordable)


def _usable(belief: Belief, targets: tuple[Quantity, ...]) -> tuple[Belief, np.ndarray, np.ndarray]:
    """Without the draws at which a target has no derivative."""
    value, aims = belief.aims(targets)
    good = np.isfinite(aims).all(axis=(1, 2))
    if not np.isfinite(value).all() or 2 * good.sum() < len(good):
        bad = [q.label for q, v in zip(targets, value, strict=True) if not np.isfinite(v)]
        raise LawError(
            f"{', '.join(bad) or 'a target'} has no value at "
            f"{'these parameters' if bad else 'most draws'}, so that nothing can be planned for it"
        )
    notes = belief.notes
    if not good.all():
        lost = f"{(~good).mean():.0%} of the draws"
        notes += (f"At {lost} a target has no value; they were left out.",)
    return dataclasses.replace(belief, theta=belief.theta[good], notes=notes), value, aims[good]


def _prospect(
    belief: Belief,
    inputs: dict[str, np.ndarray],
    share: np.ndarray,
    limit: np.ndarray,
    aims: np.ndarray,
    criterion: str,
) -> tuple[Prospect, np.ndarray]:
    """The candidates at which the law has a derivative, and which these are."""
    jacobian = belief.jacobian(inputs)
    usable = np.isfinite(jacobian).all(axis=(0, 1))
    if not limit[usable].any():
        raise LawError(f"law {belief.law.name!r} has no derivative at any of the candidates")
    before = np.einsum("ski,ij,skj->sk", aims, belief.covariance, aims).mean(axis=0)
    if not (np.isfinite(before) & (before > 0)).all():
        raise LawError("a target does not depend on what is uncertain, so there is nothing to plan")
    if criterion == "information" and np.linalg.matrix_rank(aims[0]) < aims.shape[1]:
        raise LawError("these targets follow from each other; name fewer for 'information'")

    def column(values: Any) -> Any:
        return jnp.asarray(np.broadcast_to(values, share.shape)[usable], float)

    return (
        Prospect(
            jacobian=jnp.asarray(jacobian[:, :, usable], float),
            prior=jnp.asarray(belief.covariance, float),
            aims=None if criterion == "D" else jnp.asarray(aims, float),
            unit=jnp.asarray(1 / before / len(before), float),
            cost=column(share),
            run=column(belief.noise.run),
            cell=column(belief.noise.cell),
            before=column(_runs_before(belief, inputs)),
            limit=column(limit),
            logs=criterion != "c",
        ),
        usable,
    )


def _runs_before(belief: Belief, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """How many runs there are within 1% of every candidate."""
    count = np.zeros(len(next(iter(inputs.values()))))
    if belief.runs is None:
        return count
    real = np.asarray(belief.runs.weight) > 0
    old = {name: np.asarray(belief.runs.inputs[name], float)[real] for name in inputs}
    for first in range(0, len(count), _BLOCK):
        part = slice(first, first + _BLOCK)
        near = np.ones((len(count[part]), int(real.sum())), bool)
        for name, values in inputs.items():
            new, seen = values[part, None], old[name]
            near &= np.abs(new - seen) <= _SAME_CELL * np.maximum(np.abs(new), np.abs(seen))
        count[part] = near.sum(axis=1)
    return count


def _search(prospect: Prospect, method: str, most: int, tick: Callable[[int], None]) -> Chosen:
    if method == "greedy":
        return search.greedy(prospect, most)
    if search.countable(prospect):
        return search.exact(prospect, most)
    if method == "exact":
        raise DataError(
            "there are too many choices to look at one by one; use method='exchange', fewer "
            "candidates or fewer seeds"
        )
    return search.exchange(prospect, most, tick)


def _plan(
    source: Any,
    belief: Belief,
    targets: tuple[Quantity, ...],
    value: np.ndarray,
    aims: np.ndarray,
    prospect: Prospect,
    chosen: Chosen,
    inputs: dict[str, np.ndarray],
    budget: float,
    criterion: str,
    method: str,
    level: float,
    lost: int,
    seeds: int,
    most: int,
) -> Plan:
    # One compiled size, whatever the number of settings: those not run come last.
    which = np.argsort(-chosen.times, kind="stable")[: search.slots_of(prospect, most)]
    settings = int((chosen.times > 0).sum())
    some = prospect.of(which)
    order, variance = search.path(some, jnp.asarray(chosen.times[which]), jnp.asarray(aims))
    which = which[np.asarray(order)[:settings]]
    se = np.sqrt(np.maximum(np.asarray(variance)[: settings + 1], 0.0))
    unit = [interval_slope(belief.law, q, v) for q, v in zip(targets, value, strict=True)]
    cost, times = np.asarray(prospect.cost) * budget, chosen.times
    columns: dict[str, Any] = {name: x[which] for name, x in inputs.items()}
    columns |= {"flop": cost[which], "times": times[which]}
    columns["cumulative"] = np.cumsum(cost[which] * times[which])
    weight = _weights(prospect, which, times)
    if not np.allclose(weight, 1):
        columns["weight"] = weight
    names = ["se"] if len(targets) == 1 else [f"se {q.label}" for q in targets]
    columns |= {name: se[1:, k] * unit[k] for k, name in enumerate(names)}
    prospects = pd.DataFrame({**inputs, "flop": cost, "times": times})
    prospects["gain"] = search.first_gains(prospect, most)
    prospects = prospects[np.asarray(prospect.limit) > 0].reset_index(drop=True)
    return Plan(
        runs=pd.DataFrame(columns),
        targets=targets,
        uncertainty=_uncertainty(belief, targets, value, se, level),
        budget=float(budget),
        cost=float(cost @ times),
        criterion=criterion,
        method=method,
        efficiency=_efficiency(prospect, chosen, aims, most),
        prospects=prospects,
        source=source,
        level=level,
        notes=plan_notes(
            belief, targets, prospects, members_of(source), se[0], lost=lost, budget=budget,
            limits=f"seeds={seeds}, most={most}",
        ),
    )  # fmt: skip


def _weights(prospect: Prospect, which: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Weight of each run relative to one that is alone in its cell."""
    run, cell = np.asarray(prospect.run)[which], np.asarray(prospect.cell)[which]
    total = np.asarray(prospect.before)[which] + times[which]
    return np.asarray((run + cell) / (run + total * cell))


def _uncertainty(
    belief: Belief,
    targets: tuple[Quantity, ...],
    value: np.ndarray,
    se: np.ndarray,
    level: float,
) -> pd.DataFrame:
    law, reach = belief.law, float(scipy.stats.norm.ppf(tails(level)[1]))
    rows = []
    for k, quantity in enumerate(targets):
        unit = interval_slope(law, quantity, value[k])
        row = {
            "target": quantity.label,
            "estimate": float(from_interval_scale(law, quantity, value[k])),
            "se_before": se[0, k] * unit,
            "se_after": se[-1, k] * unit,
        }
        for when, spread in (("before", se[0, k]), ("after", se[-1, k])):
            for end, side in (("low", -1), ("high", 1)):
                moved = value[k] + side * reach * spread
                row[f"{end}_{when}"] = float(from_interval_scale(law, quantity, moved))
        rows.append(row)
    return pd.DataFrame(rows)


def _efficiency(prospect: Prospect, chosen: Chosen, aims: np.ndarray, most: int) -> float:
    """Lower bound of the standard error over the one that was found."""
    bound = float(lower_bound(prospect, chosen.times, most))
    if not prospect.logs:
        share = np.sqrt(max(bound, 0.0) / chosen.value)
    else:
        count = aims.shape[1] if prospect.aims is not None else aims.shape[2]
        share = np.exp((bound - chosen.value) / count)
    return float(np.clip(share, 0.0, 1.0)) if np.isfinite(share) else 0.0
