"""From where the restarts ended to results: refine the best of each data set, and judge it."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale import _driver
from jaxscale._evaluate import Rows
from jaxscale._identify import Sensitivity, dead_terms, elasticities, sensitivity
from jaxscale._lanes import Outcomes, Stopping
from jaxscale._law import Law, physical_params
from jaxscale._levenberg_marquardt import levenberg_marquardt
from jaxscale._objective import Objective
from jaxscale._polish import polish
from jaxscale._problem import Problem, bucket, pad_rows, set_axes, take_sets
from jaxscale._restarts import Restarts, find_basins
from jaxscale._verdict import Verdict, judge

# Restarts agree when their objectives do; in float32 an objective has seven digits at most, and
# those of runs that end on different sides of a kink differ in the fourth.
HIT = {"float64": 1e-6, "float32": 1e-3}
_SETS = 64
_MOST_CELLS = 1 << 20


@dataclasses.dataclass(frozen=True)
class Result:
    """One data set: unconstrained optimum, objective, what to think of it, rmse of log loss."""

    free: np.ndarray
    value: float
    verdict: Verdict
    restarts: Restarts
    rmse: float


def finish(
    law: Law,
    objective: Objective,
    rows: Rows,
    log_refs: dict[str, Any],
    ended: Outcomes,
    converged: bool,
) -> list[Result]:
    """Results of every data set.

    Args:
        law, objective: what was fitted.
        rows: the runs in reference units, with a leading axis of sets for a stack.
        log_refs: logs of the reference values, with that axis.
        ended: where the restarts ended.
        converged: whether the optimizer had a convergence test of its own.
    """
    value = np.where(np.isfinite(ended.value), ended.value, np.inf)
    sets = np.arange(len(value))
    best = ended.theta[sets, value.argmin(axis=1)]
    if not converged:
        # A first-order optimizer stops far from round-off, too far for Newton steps.
        finisher, limits = levenberg_marquardt(anneal=0.0), Stopping(300, 300, 0.0)
        best = _driver.run(Problem(law, objective, rows), best[:, None], finisher, limits).theta
        best = best[:, 0]
    tables = jax.tree.map(np.asarray, rows)
    results = []
    for i, (at, optimum, decrease, near) in enumerate(_refined(law, objective, rows, best)):
        mine, refs = (tables, log_refs) if rows.loss.ndim == 1 else _pick(tables, log_refs, i)
        restarts = _certificate(
            law, objective, mine, refs, ended.theta[i], value[i], ended.steps[i], optimum
        )
        results.append(_judged(law, objective, mine, at, decrease, near, restarts))
    return results


def _pick(rows: Rows, log_refs: dict[str, Any], i: int) -> tuple[Rows, dict[str, Any]]:
    return jax.tree.map(lambda x: x[i], rows), {name: ref[i] for name, ref in log_refs.items()}


def _refined(law: Law, objective: Objective, rows: Rows, best: np.ndarray) -> Any:
    """Refined optimum, objective, predicted decrease and sensitivities there, set by set."""
    problem = pad_rows(Problem(law, objective, rows))
    runs = rows.loss.shape[-1]
    most = 1 if rows.loss.ndim == 1 else max(1, min(_SETS, _MOST_CELLS // runs))
    size = min(bucket(len(best), 4), most)
    for first in range(0, len(best), size):
        last = min(first + size, len(best))
        here = best[first:last]
        padded = np.pad(here, [(0, size - len(here)), (0, 0)], mode="edge")
        seen = _look(take_sets(problem, first, last, size), jnp.asarray(padded))
        at, value, decrease, near = jax.tree.map(np.asarray, seen)
        for i in range(len(here)):
            cut = Sensitivity(*(x[i, ..., :runs] for x in near))
            yield at[i], float(value[i]), float(decrease[i]), cut


@jax.jit
def _look(problem: Problem, theta: Any) -> Any:
    def one(problem: Problem, theta: Any) -> Any:
        at, value, decrease = polish(problem.law, problem.objective, theta, problem.rows)
        return at, value, decrease, sensitivity(problem.law, problem.objective, at, problem.rows)

    return jax.vmap(one, in_axes=(set_axes(problem), 0))(problem, theta)


def _certificate(
    law: Law,
    objective: Objective,
    rows: Rows,
    log_refs: dict[str, Any],
    theta: np.ndarray,
    value: np.ndarray,
    steps: np.ndarray,
    optimum: float,
) -> Restarts:
    dtype = theta.dtype
    round_off = 64 * float(np.finfo(dtype).eps)
    floor = float(objective.rho(jnp.asarray(round_off))) * float(rows.weight.sum())
    tolerance = HIT[str(dtype)]
    basins = functools.partial(
        _basins, law, rows, log_refs, theta, value, optimum, tolerance, floor
    )
    return Restarts(value, steps, optimum, basins, tolerance, floor)


def _basins(
    law: Law,
    rows: Rows,
    log_refs: dict[str, Any],
    theta: np.ndarray,
    value: np.ndarray,
    optimum: float,
    tolerance: float,
    floor: float,
) -> pd.DataFrame:
    def describe(at: np.ndarray) -> tuple[str, dict[str, Any]]:
        dead = dead_terms(law, elasticities(law, at, rows))
        params = physical_params(law, at, log_refs)
        return ", ".join(dead), {name: float(value) for name, value in params.items()}

    return find_basins(value, theta, optimum, tolerance, floor, describe)


def _judged(
    law: Law,
    objective: Objective,
    rows: Rows,
    at: np.ndarray,
    decrease: float,
    near: Sensitivity,
    restarts: Restarts,
) -> Result:
    real = rows.weight > 0
    near = Sensitivity(*(x[..., real] for x in near))
    weight = rows.weight[real]
    return Result(
        free=at,
        value=restarts.best,
        verdict=judge(law, objective, at, weight, decrease, restarts, near),
        restarts=restarts,
        rmse=float(np.sqrt(np.average(near.residual**2, weights=weight))),
    )
