"""regret(): what it costs to train a model of the wrong size."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._best import after_first, at_center, best, first, inputs_at, quantiles, seen
from jaxscale._curve import Search, tokens
from jaxscale._draws import tails
from jaxscale._errors import DataError, LawError
from jaxscale._law import Law
from jaxscale._optimum import optima
from jaxscale._remarks import conditional_notes
from jaxscale._setting import Choices, choices
from jaxscale._source import Source, refuse_meaningless, source_of
from jaxscale._tables import html, text
from jaxscale._traced import is_traced
from jaxscale.flops import FlopFunction, six_nd
from jaxscale.laws._root import root

_FACTORS = (0.125, 0.25, 0.5, 0.7071067811865476, 1.0, 1.4142135623730951, 2.0, 4.0, 8.0)
_FEWER = 60.0  # log of how many times fewer FLOPs a wrong size may be worth


@dataclasses.dataclass(frozen=True)
class Regret:
    """What it costs to spend budgets on other sizes than the best.

    Attributes:
        flop: budgets, of any shape.
        factor: size over the best size at the estimate, shape (factors, *budgets).
        N, D: sizes and the tokens that the budget leaves them, same shape.
        loss: predicted loss, same shape; the median over draws if they have a middle of their own.
        regret: loss lost against the best size, likewise.
        wasted: share of the budget that is wasted: the best size would have reached the same loss
            on the rest; likewise.
        bands: with draws, lower and upper ends of ``regret``.
        expected: with draws, mean regret over them, same shape; None without.
        expected_wasted: with draws, the mean share of the budget that is wasted.
        best_N, best_D: with draws, the size of least expected regret, shape of the budgets.
        best_expected: its expected regret.
        level: probability content of the bands, or None.
        notes: what to know before using the numbers.
    """

    flop: Any
    factor: Any
    N: Any
    D: Any
    loss: Any
    regret: Any
    wasted: Any
    bands: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    expected: Any = None
    expected_wasted: Any = None
    best_N: Any = None  # noqa: N815
    best_D: Any = None  # noqa: N815
    best_expected: Any = None
    level: float | None = None
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """One row per budget and size."""
        names = ("factor", "N", "D", "loss", "regret", "wasted")
        columns = {"flop": jnp.broadcast_to(self.flop, jnp.shape(self.N))}
        columns |= {name: getattr(self, name) for name in names}
        if self.expected is not None:
            columns |= {"expected": self.expected, "expected_wasted": self.expected_wasted}
        for name, (low, high) in self.bands.items():
            columns |= {f"{name}_low": low, f"{name}_high": high}
        flat = {k: np.asarray(v).reshape(len(self.N), -1).T.ravel() for k, v in columns.items()}
        return pd.DataFrame(flat)

    def __repr__(self) -> str:
        return "\n".join([text(self.frame()), *self.notes])

    def _repr_html_(self) -> str:
        return html("Regret of other sizes", self.frame(), self.notes)


def regret(
    source: Any,
    *,
    flop: Any,
    factor: Any = _FACTORS,
    N: Any = None,
    cost: FlopFunction = six_nd,
    fixed: Mapping[str, Any] | None = None,
    level: float = 0.9,
    force: bool = False,
) -> Regret:
    """L(k N*, D) - L(N*, D*) with cost(k N*, D) = cost(N*, D*) = C

    A budget is spent whole on k times the best size. With draws, each has a best size of its own,
    so that even the size chosen has regret; the mean over draws is the expected regret, and the
    size that makes it least, which is also that of least expected loss, is found. Differentiable at
    a fit, as `allocate`. For `chinchilla` closed forms are in `laws.compute_optimal`.

    Args:
        source, cost, fixed, level, force: as for `allocate`.
        flop: budget or budgets, in FLOPs.
        factor: k, sizes over the best size at the estimate, shape (factors,).
        N: the sizes themselves instead, shape (factors,).

    Raises:
        FitError, LawError: as for `allocate`.
        DataError: for a number that is not positive.

    Source: for two-term laws Hoffmann et al. 2022, arXiv 2203.15556, equation 4; for Kaplan's law
    Kaplan et al. 2020, arXiv 2001.08361, appendix B, at equal loss instead of equal compute.

    Example:
        >>> regret(boot, flop=1e24, factor=[0.5, 1, 2]).frame()
    """
    budget = _positive(flop, "the budget")
    steps = _positive(factor if N is None else N, "factor" if N is None else "N").ravel()
    given = source_of(source, force)
    asked = choices(given.law, cost=cost, fixed=fixed)
    search = Search(asked.setting)
    refuse_meaningless(given, lambda many: best(search, given, many, budget, asked).at.N, force)
    draws = given.draws
    params = given.one if draws is None else given.with_draws(draws)
    every = best(search, given, params, budget, asked)
    point = first(every)[0]
    if draws is not None and draws.center != "fit":
        point = at_center(search, after_first(every), budget, asked)[0]
    if not is_traced(point.N) and not np.isfinite(np.asarray(point.N)).all():
        raise LawError("there is no best size at this budget, so no regret; see allocate")
    steps = steps.reshape(-1, *(1,) * budget.ndim)
    sizes = steps * point.N if N is None else jnp.broadcast_to(steps, (len(steps), *budget.shape))
    goals = jnp.broadcast_to(budget, sizes.shape)
    held = asked.numbers(asked.options[0])
    left = jnp.exp(tokens(search, jnp.log(sizes), {}, goals, held))
    inputs = inputs_at(asked, sizes, left, jnp.zeros(sizes.shape, int))
    wide = {k: jnp.reshape(v, (-1, *(1,) * sizes.ndim)) for k, v in params.items()}
    losses = given.law(*(inputs[name] for name in given.law.inputs), **wide)
    lost = losses - every.at.value[:, None]
    idle = 1 - _sufficient(given, asked, params, losses, goals) / goals
    found = Regret(
        flop=budget,
        factor=sizes / point.N,
        N=sizes,
        D=left,
        loss=losses[0],
        regret=lost[0],
        wasted=idle[0],
        notes=() if is_traced(sizes) else seen(given, inputs),
    )
    if draws is None:
        return found
    return _over_draws(found, given, asked, params, losses, lost, idle, level)


def _over_draws(
    found: Regret,
    given: Source,
    asked: Choices,
    params: Mapping[str, Any],
    losses: Any,
    lost: Any,
    idle: Any,
    level: float,
) -> Regret:
    draws, budget = given.draws, found.flop
    assert draws is not None
    drawn = np.asarray(lost[1:])
    notes = conditional_notes(drawn[:, 0], budget, "FLOPs")
    sound = np.isfinite(drawn).reshape(len(drawn), -1).all(axis=1)
    rest = {name: values[1:][sound] for name, values in params.items()}
    hedge = optima(
        Search(asked.setting, average=True),
        given.middle,
        rest,
        budget,
        asked.numbers(asked.options[0]),
    )
    own = losses[1:] - lost[1:]  # of its best size, whatever the size asked about
    least = hedge.value[0] - jnp.mean(own[sound, 0], axis=0)
    middle = {}
    if draws.center != "fit":
        shown = {"loss": losses, "regret": lost, "wasted": idle}
        middle = {k: np.median(np.asarray(v[1:])[sound], axis=0) for k, v in shown.items()}
    result = dataclasses.replace(
        found,
        **middle,
        bands={"regret": quantiles(drawn[sound], tails(level))},
        expected=drawn[sound].mean(axis=0),
        expected_wasted=np.asarray(idle[1:])[sound].mean(axis=0),
        best_N=hedge.N[0],
        best_D=hedge.D[0],
        best_expected=least,
        level=level,
    )
    said = (draws.doubt, *notes, *_hedge_notes(result), *found.notes, *draws.notes)
    return dataclasses.replace(result, notes=tuple(dict.fromkeys(filter(None, said))))


def _hedge_notes(found: Regret) -> list[str]:
    """Which size expects to lose least, against the one that is the best at the estimate."""
    notes = []
    flat = [
        np.asarray(x).reshape(len(found.N), -1) for x in (found.N, found.factor, found.expected)
    ]
    hedges = zip(
        *(np.ravel(np.asarray(x)) for x in (found.best_N, found.best_expected)), strict=True
    )
    for j, (size, expected) in enumerate(hedges):
        i = int(np.abs(np.log(flat[1][:, j])).argmin())
        at = float(np.ravel(np.asarray(found.flop))[j])
        notes.append(
            f"At {at:.4g} FLOPs, N = {size:.4g} has the least expected regret, {expected:.3g}; "
            f"N = {flat[0][i, j]:.4g} expects to lose {flat[2][i, j]:.3g}."
        )
    return notes


def _sufficient(given: Source, asked: Choices, params: Any, losses: Any, goals: Any) -> Any:
    """The budgets with which best sizes reach given losses, for every set of parameters."""
    if asked.setting.closed:
        return _closed_budgets(given.law, params, losses, goals)
    search, held = Search(asked.setting, reach=True), asked.numbers(asked.options[0])
    return optima(search, given.middle, params, losses, held, each_its_own=True).value


@jax.jit(static_argnames="law")
def _closed_budgets(law: Law, params: Any, losses: Any, goals: Any) -> Any:
    """Along the closed form of the frontier."""

    def over(log_c: Any, params: Any, loss: Any) -> Any:
        flop = jnp.exp(log_c)
        N = law.optimum(flop, **params)  # type: ignore[misc]  # the caller has looked
        known = {"N": N, "D": flop / (6 * N)}
        return jnp.log(law.fn(*(known[name] for name in law.inputs), **params)) - jnp.log(loss)

    def one(params: Any, loss: Any, goal: Any) -> Any:
        log_c = jnp.log(goal)
        return jnp.exp(root(over, log_c - _FEWER, log_c + 1.0, params, loss))

    at_goals = jax.vmap(one, in_axes=(None, 0, 0))
    flat = losses.reshape(len(losses), -1)
    found = jax.vmap(at_goals, in_axes=(0, 0, None))(params, flat, goals.ravel())
    return found.reshape(losses.shape)


def _positive(values: Any, name: str) -> Any:
    array = jnp.asarray(values, float)
    if not is_traced(array) and not (np.isfinite(array) & (np.asarray(array) > 0)).all():
        raise DataError(f"{name} must be positive numbers, got {np.asarray(array)}")
    return array
