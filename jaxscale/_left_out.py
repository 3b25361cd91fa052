"""Refits to parts of a table, and how they predict the rest of it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._errors import FitError
from jaxscale._fit import Fit
from jaxscale._law import physical_params
from jaxscale._refit import Refits, fit_rows, refit_sets, single_fit
from jaxscale._runs import Runs
from jaxscale._starts import sobol
from jaxscale._verdict import Finding, Verdict

COLD_STARTS = 16


class LeftOut(NamedTuple):
    """Predictions of all runs by fits to parts of them.

    Attributes:
        refits: the optima, shape (parts, ...).
        predicted: by each of them, shape (parts, runs).
        residual: log(predicted) - log(loss), or as the objective defines it, (parts, runs).
        scale: noise scale of each part, (parts,), larger than its residuals for the parameters
            that were spent on them.
        log_density: of every loss under that noise, (parts, runs).
    """

    refits: Refits
    predicted: np.ndarray
    residual: np.ndarray
    scale: np.ndarray
    log_density: np.ndarray


def refit_parts(
    fit: Fit,
    seen: np.ndarray,
    *,
    key: jax.Array | None = None,
    starts: int = COLD_STARTS,
    tick: Callable[[int], None] = lambda n: None,
) -> Refits:
    """Fit the law to parts of the runs, all in one batch.

    Every part starts at the optimum of the fit, and with a key from `starts` random points, too:
    another part may have its optimum in another basin.

    Args:
        fit: a fit of one data set, with its runs.
        seen: which runs belong to each part, shape (parts, runs).
        key: JAX random key of the random starts.
        starts: their number.
        tick: called with the number of finished starts.

    Raises:
        FitError: if a part has no finite optimum.
    """
    weight = np.asarray(seen) * np.asarray(single_fit(fit).weight, float)
    begin = np.broadcast_to(np.asarray(fit.free), (len(weight), 1, len(fit.law.params)))
    if key is not None:
        points = sobol(fit.law, fit_rows(fit), starts, key)
        begin = np.concatenate(
            [begin, np.broadcast_to(points, (len(weight), *points.shape))], axis=1
        )
    found = refit_sets(fit, weight=weight, starts=begin, cold=key is not None, tick=tick)
    if not np.isfinite(found.value).all():
        runs = int((weight[np.argmin(np.isfinite(found.value))] > 0).sum())
        raise FitError(
            f"law {fit.law.name!r} has no finite optimum for a part of {runs} runs; leave out less"
        )
    return found


def predict_left_out(fit: Fit, seen: np.ndarray, refits: Refits) -> LeftOut:
    """Predictions of all runs by the refits to parts of them, and the density of their losses."""
    runs, p = single_fit(fit), len(fit.law.params)
    weight = np.asarray(seen) * np.asarray(runs.weight, float)
    predicted = predict_at(fit, refits.theta, runs)
    loss = np.asarray(runs.loss, float)
    residual = np.asarray(fit.objective.residual(jnp.asarray(predicted), jnp.asarray(loss)))
    scale = np.asarray(fit.objective.scale_at(refits.value / weight.sum(axis=1)), float)
    if not fit.objective.known:
        n = (weight > 0).sum(axis=1)
        scale = scale * np.sqrt(n / np.maximum(n - p, 1))
    return LeftOut(refits, predicted, residual, scale, log_density(fit, residual, scale, loss))


def predict_at(fit: Fit, theta: np.ndarray, runs: Runs) -> np.ndarray:
    """Loss of runs by many unconstrained vectors, shape (vectors, runs)."""
    params = physical_params(fit.law, jnp.asarray(theta), fit.log_refs)
    inputs = [jnp.asarray(runs.inputs[name]) for name in fit.law.inputs]
    columns = {name: jnp.asarray(value)[..., None] for name, value in params.items()}
    return np.asarray(fit.law(*inputs, **columns))


def log_density(fit: Fit, residual: Any, scale: Any, loss: Any) -> np.ndarray:
    """log p(loss) under the noise of the objective, shape (parts, runs); no law, no density."""
    tiny = np.finfo(float).tiny
    wide = np.maximum(np.asarray(scale), tiny)[:, None]
    value = np.asarray(fit.objective.log_prob(jnp.asarray(residual), jnp.asarray(wide)))
    if fit.objective.log:
        value = value - np.log(loss)
    return np.where(np.isfinite(residual), value, -np.inf)


def part_fit(fit: Fit, seen: np.ndarray, theta: np.ndarray, value: float, converged: bool) -> Fit:
    """A refit as a `Fit`: of the same table, in which the runs it has not seen have weight zero.

    Programs compiled for one part serve every other one.
    """
    runs = single_fit(fit)
    weight = np.where(seen, np.asarray(runs.weight, float), 0.0)
    mine = dataclasses.replace(runs, weight=weight)
    params = {name: np.asarray(x) for name, x in _physical(fit, theta).items()}
    residual = np.asarray(
        fit.objective.residual(
            jnp.asarray(predict_at(fit, np.asarray(theta)[None], runs)[0]), jnp.asarray(runs.loss)
        )
    )
    used = weight > 0
    columns = {name: np.asarray(runs.inputs[name], float)[used] for name in fit.law.inputs}
    finding = (
        Finding("converged", "The refit converged.")
        if converged
        else Finding("not_converged", "The refit to a part of the runs did not converge.")
    )
    return dataclasses.replace(
        fit,
        params=params,
        value=value,
        verdict=Verdict((finding,)),
        runs=mine,
        ranges={name: (x.min(), x.max()) for name, x in columns.items()},
        n_runs=int(used.sum()),
        digest=mine.digest(),
        free=np.asarray(theta),
        rmse=float(np.sqrt(np.average(residual[used] ** 2, weights=weight[used]))),
    )


def _physical(fit: Fit, theta: np.ndarray) -> dict[str, Any]:
    return dict(physical_params(fit.law, jnp.asarray(theta), fit.log_refs))
