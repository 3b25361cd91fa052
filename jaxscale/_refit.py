"""Fit a law again, many times at once, on variations of the data it was fitted to.

Resamples, simulations, profile points and leave-one-out fits all come through here: they share the
reference units of the fit, start at its optimum, and differ only in the leaves that are passed.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy

from jaxscale import _driver
from jaxscale._errors import DataError
from jaxscale._evaluate import Rows
from jaxscale._fit import Fit
from jaxscale._lanes import Outcomes, Stopping
from jaxscale._levenberg_marquardt import levenberg_marquardt
from jaxscale._objective import Objective
from jaxscale._problem import Penalty, Problem
from jaxscale._reference import reference_rows
from jaxscale._runs import Runs

MAX_STEPS = 300
STOPPING = Stopping(MAX_STEPS, np.iinfo(np.int32).max, 0.0)
# Share of the first smoothing for a start near the optimum, where a little is enough to step across
# the kinks of a sharp Huber loss.
WARM = 0.02


class Refits(NamedTuple):
    """Best optimum of every variation: theta (sets, p), value (sets,), and whether it converged."""

    theta: np.ndarray
    value: np.ndarray
    converged: np.ndarray


def single_fit(fit: Fit) -> Runs:
    """The runs of a fit of one data set.

    Raises:
        DataError: for a stack, or a fit that was loaded without its runs.
    """
    if fit.sets is not None:
        raise DataError(f"choose one data set first, such as fit[{fit.sets[0]!r}]")
    if fit.runs is None:
        raise DataError("this fit was loaded without its runs; use load(path, runs=runs)")
    return fit.runs


def count_runs(fit: Fit) -> int:
    """Number of runs, without padding."""
    return int((np.asarray(single_fit(fit).weight) > 0).sum())


def observations(fit: Fit) -> float:
    """How many independent observations the runs stand for, see `Objective.observations`."""
    return float(fit.objective.observations(jnp.asarray(single_fit(fit).weight)))


def inflation(fit: Fit) -> float:
    """Residuals of a fit are too small by sqrt(n / (n - p)): p parameters were spent on them."""
    n = count_runs(fit)
    return float(np.sqrt(n / max(n - len(fit.law.params), 1)))


def residual_pool(fit: Fit) -> np.ndarray:
    """Residuals to draw noise from: without padding, inflated, centered as the objective sees it.

    Centered where ``sum_i rho'(r_i - c) = 0``, so that the law at which noise is drawn is the one
    that a fit to it would find: the mean for least squares, a quantile for `LogQuantile`.
    """
    r = np.asarray(fit.residuals(), float)[np.asarray(single_fit(fit).weight) > 0]

    def score(c: float) -> float:
        return float(np.sum(np.asarray(fit.objective.weights(jnp.asarray(r - c))[0])))

    low, high = float(r.min()), float(r.max())
    inside = score(low) > 0 > score(high)
    center = scipy.optimize.brentq(score, low, high, xtol=1e-15) if inside else np.median(r)
    return np.asarray((r - center) * inflation(fit))


def warn_float32(dtype: Any, what: str, stacklevel: int = 4) -> None:
    """Say that something needs double precision, where it is not there."""
    if jnp.finfo(dtype).bits < 64:
        warnings.warn(
            f"a {what} in single precision has few correct digits; set "
            "jax.config.update('jax_enable_x64', True) before fitting",
            stacklevel=stacklevel,
        )


def fit_rows(fit: Fit) -> Rows:
    """The runs of a fit of one data set, in its reference units."""
    return reference_rows(fit.law, single_fit(fit), fit.log_refs)


def refit_sets(
    fit: Fit,
    *,
    weight: Any = None,
    loss: Any = None,
    objective: Objective | None = None,
    penalty: Penalty | None = None,
    starts: Any = None,
    cold: bool = False,
    tick: Callable[[int], None] = lambda n: None,
) -> Refits:
    """Fit variations of the data of a fit, all at once.

    Args:
        fit: a fit of one data set, with its runs.
        weight: weights of the runs, shape (sets, runs); default those of the fit.
        loss: losses in the user's unit, shape (sets, runs); default those of the fit.
        objective: another objective, or one whose fields have shape (sets,).
        penalty: ties quantities down, see `Penalty`.
        starts: unconstrained vectors, shape (sets, restarts, p); default the optimum of the fit.
        cold: the starts are not near the optimum.
        tick: called with the number of finished starts.
    """
    problem = _varied(fit, weight, loss, objective, penalty)
    if starts is None:
        starts = _from_optimum(fit, problem)[:, None]
    return solve_sets(problem, starts, cold=cold, tick=tick)


def refit_checked(
    fit: Fit,
    checked: np.ndarray,
    points: np.ndarray,
    *,
    weight: Any = None,
    loss: Any = None,
    tick: Callable[[int], None] = lambda n: None,
) -> tuple[Refits, Refits]:
    """Fit variations of the data of a fit from its optimum, and some of them from elsewhere, too.

    All at once, in one queue of one compiled program.

    Args:
        fit, weight, loss, tick: as for `refit_sets`.
        checked: numbers of the sets with more starts.
        points: those starts, unconstrained vectors far from the optimum, shape (restarts, p).

    Returns:
        Where all sets end from the optimum of the fit; where those checked end from the points.
    """
    problem = _varied(fit, weight, loss, None, None)
    start = _from_optimum(fit, problem)
    n, restarts = len(start), len(points)
    which = np.concatenate([np.arange(n), np.repeat(checked, restarts)])
    flat = np.concatenate([start, np.tile(points, (len(checked), 1))]).astype(start.dtype)
    near = np.where(np.arange(len(which)) < n, WARM, 1.0).astype(start.dtype)
    order = np.argsort(which, kind="stable")
    ended = _driver.run_items(
        problem, flat[order], which[order], near[order], levenberg_marquardt(), STOPPING, tick
    )
    back = np.argsort(order)
    first = Outcomes(*(x[back[:n]][:, None] for x in ended))
    others = Outcomes(*(x[back[n:].reshape(-1, restarts)] for x in ended))
    return _best(first), _best(others)


def _varied(
    fit: Fit, weight: Any, loss: Any, objective: Objective | None, penalty: Penalty | None
) -> Problem:
    rows = fit_rows(fit)
    rows = Rows(
        rows.inputs,
        rows.loss if loss is None else jnp.asarray(loss, rows.loss.dtype),
        rows.weight if weight is None else jnp.asarray(weight, rows.loss.dtype),
        rows.log_loss_ref,
    )
    return Problem(fit.law, objective or fit.objective, rows, penalty)


def _from_optimum(fit: Fit, problem: Problem) -> np.ndarray:
    """The optimum of the fit for every set, shape (sets, p)."""
    rows = problem.rows
    sets = max(len(x) for x in (rows.weight, rows.loss) if x.ndim == 2)
    free = np.asarray(fit.free, rows.loss.dtype)
    return np.broadcast_to(free, (sets, len(free)))


def solve_sets(
    problem: Problem,
    starts: Any,
    *,
    cold: bool = False,
    tick: Callable[[int], None] = lambda n: None,
) -> Refits:
    """The best optimum of every problem of a stack.

    Args:
        problem: one with a leading axis of sets.
        starts: unconstrained vectors, shape (sets, restarts, p).
        cold: the starts are not near the optimum.
        tick: called with the number of finished starts.
    """
    starts = np.asarray(starts, problem.rows.loss.dtype)
    near = 1.0 if cold else WARM
    return _best(_driver.run(problem, starts, levenberg_marquardt(), STOPPING, tick, near))


def _best(out: Outcomes) -> Refits:
    value = np.where(np.isfinite(out.value), out.value, np.inf)
    best = value.argmin(axis=1)
    each = np.arange(len(best))
    return Refits(out.theta[each, best], value[each, best], out.converged[each, best])
