"""refit(): the optimum as a differentiable function of the data."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._curvature import gradient
from jaxscale._errors import DataError, FitError, LawError
from jaxscale._evaluate import Rows, normal_equations, residuals
from jaxscale._fit import Fit
from jaxscale._law import Law, physical_params
from jaxscale._levenberg_marquardt import levenberg_marquardt
from jaxscale._objective import Objective
from jaxscale._polish import polish
from jaxscale._refit import MAX_STEPS, WARM, single_fit
from jaxscale._runs import Runs
from jaxscale._traced import is_traced


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def optimum_near(law: Law, objective: Objective, theta: Any, rows: Rows) -> Any:
    """The optimum that a descent from `theta` reaches, shape (p,).

    Differentiable by the objective and the rows, to any order, not by `theta`:
    ``d theta = -H^-1 d gradient``, with the gradient's change at a fixed theta.
    """
    optimizer = levenberg_marquardt()
    unit = 1.0 if objective.log else jnp.exp(rows.log_loss_ref)
    equations = functools.partial(normal_equations, law, objective)

    def going(carry: Any) -> Any:
        _, state, steps = carry
        return ~state.converged & (steps < MAX_STEPS)

    def step(carry: Any) -> Any:
        at, state, steps = carry
        move, state = optimizer.update(
            None,
            state,
            at,
            normal_equations=lambda at, smoothing: equations(at, smoothing, rows),
            width=objective.width,
            width_unit=unit,
            width_factor=WARM,
        )
        return at + move, state, steps + 1

    begin = (theta, optimizer.init(theta), jnp.zeros((), int))
    return polish(law, objective, jax.lax.while_loop(going, step, begin)[0], rows)[0]


@optimum_near.defjvp
def _implicit_function_theorem(law: Law, primals: Any, tangents: Any) -> tuple[Any, Any]:
    objective, theta, rows = primals
    at = optimum_near(law, objective, theta, rows)
    by_theta = functools.partial(gradient, law)
    hessian = jax.jacfwd(lambda x: by_theta(objective, x, rows))(at)
    pull = jax.jvp(
        lambda objective, rows: by_theta(objective, at, rows),
        (objective, rows),
        (tangents[0], tangents[2]),
    )[1]
    return at, -jnp.linalg.solve(hessian, pull)


def refit(fit: Fit, *, loss: Any = None, weight: Any = None, **inputs: Any) -> Fit:
    """theta(data) = argmin sum_i weight_i rho(r_i), differentiable in the data.

    A warm refit: one descent from the optimum of `fit`, in its reference units. Inside `jax.grad`,
    `jax.jvp`, `jax.jacobian`, `jax.jit` and `jax.vmap` the parameters of the result carry the exact
    derivatives of the optimum, by the implicit function theorem, so that a gradient runs from a
    prediction or an allocation back to every run. Under a Huber loss they hold as long as no run
    crosses delta.

    The verdict and the restart certificate stay those of `fit`: a warm refit cannot know whether
    changed data have a better optimum elsewhere; `fit` them anew where that matters.

    Args:
        fit: a fit of one data set, with its runs.
        loss: new losses, shape (runs,), in the user's unit.
        weight: new weights, shape (runs,).
        **inputs: new inputs, shape (runs,), in the user's units.

    Raises:
        LawError: for an input that the law does not have.
        DataError: for a wrong shape, or numbers that are no runs.
        FitError: if the refit ends nowhere finite.

    Source: Krantz & Parks 2002, The Implicit Function Theorem; Blondel et al. 2022, arXiv
    2105.15183, for its use in JAX.

    Example:
        >>> jax.grad(lambda loss: predict(refit(fit, loss=loss), N=1e11, D=1e13).mean)(runs.loss)
    """
    runs = _changed(single_fit(fit), fit.law, loss=loss, weight=weight, inputs=inputs)
    rows = _traceable_rows(fit, runs)
    theta = jnp.asarray(fit.free, rows.loss.dtype)
    free = _solve(fit.law, fit.objective, theta, rows)
    traced = is_traced(free)
    if not traced and not np.isfinite(np.asarray(free)).all():
        raise FitError("the refit ends nowhere finite; fit the changed data from many starts")
    r = residuals(fit.law, fit.objective, free, rows)
    return dataclasses.replace(
        fit,
        params=physical_params(fit.law, free, fit.log_refs),
        value=jnp.sum(rows.weight * fit.objective.rho(r)),
        runs=runs,
        ranges=fit.ranges if traced else _ranges(fit.law, runs),
        n_runs=fit.n_runs if traced else int((np.asarray(runs.weight) > 0).sum()),
        digest="" if traced else runs.digest(),
        free=free,
        rmse=jnp.sqrt(jnp.sum(rows.weight * r**2) / jnp.sum(rows.weight)),
    )


_solve = jax.jit(optimum_near, static_argnums=0)


def _changed(runs: Runs, law: Law, *, loss: Any, weight: Any, inputs: dict[str, Any]) -> Runs:
    """The runs with some columns replaced; the checks are those that need no tracing."""
    unknown = [name for name in inputs if name not in law.inputs]
    if unknown:
        raise LawError(
            f"law {law.name!r} has no input {unknown[0]!r}; it has {', '.join(law.inputs)}"
        )
    columns = {"loss": loss, "weight": weight, **inputs}
    new = {name: jnp.asarray(x, float) for name, x in columns.items() if x is not None}
    for name, values in new.items():
        _check(name, values, len(runs))
    return Runs(
        inputs={**runs.inputs, **{name: new[name] for name in inputs}},
        loss=new.get("loss", runs.loss),
        weight=new.get("weight", runs.weight),
        row=runs.row,
        cluster=runs.cluster,
        source=runs.source,
    )


def _check(name: str, values: Any, n: int) -> None:
    if values.shape != (n,):
        raise DataError(f"refit needs {n} values of {name}, one per run, got shape {values.shape}")
    if is_traced(values):
        return
    numbers = np.asarray(values)
    allowed = numbers >= 0 if name == "weight" else numbers > 0
    bad = np.flatnonzero(~(allowed & np.isfinite(numbers)))
    if bad.size:
        raise DataError(f"refit got {name} = {numbers[bad[0]]:g} in row {bad[0] + 1}")


def _traceable_rows(fit: Fit, runs: Runs) -> Rows:
    """The runs in the reference units of the fit; unlike `reference_rows` it can be traced."""

    def scaled(name: str) -> Any:
        return jnp.asarray(runs.inputs[name], float) / np.exp(fit.log_refs.get(name, 0.0))

    return Rows(
        inputs=tuple(scaled(name) for name in fit.law.inputs),
        loss=jnp.asarray(runs.loss, float),
        weight=jnp.asarray(runs.weight, float),
        log_loss_ref=jnp.asarray(fit.log_refs.get("loss", 0.0), float),
    )


def _ranges(law: Law, runs: Runs) -> dict[str, tuple[Any, Any]]:
    real = np.asarray(runs.weight) > 0
    columns = {name: np.asarray(runs.inputs[name])[real] for name in law.inputs}
    return {name: (x.min(), x.max()) for name, x in columns.items()}
