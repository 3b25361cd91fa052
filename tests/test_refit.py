"""Refitting variations of the data: right against single fits, and penalties against SciPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxscale as js
from jaxscale._problem import Penalty
from jaxscale._profile_search import pinned
from jaxscale._quantity import at_free, resolve_all
from jaxscale._refit import fit_rows, refit_checked, refit_sets
from jaxscale._starts import sobol


def test_weights_stand_for_repeated_rows(simulated, simulated_fit):
    """A resample given by weights is the fit of the table with those rows written out."""
    runs, _ = simulated
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, len(runs), (3, len(runs)))
    weight = np.stack([np.bincount(d, minlength=len(runs)) for d in drawn]).astype(float)
    found = refit_sets(simulated_fit, weight=weight)
    assert found.converged.all()
    for i, rows in enumerate(drawn):
        table = js.Runs.from_frame(
            runs.frame().iloc[rows], loss="loss", N="N", D="D", duplicates="keep"
        )
        alone = js.fit(js.laws.chinchilla, table, restarts=64, key=jax.random.key(0))
        assert found.value[i] == pytest.approx(alone.value, rel=1e-8)


def test_losses_objectives_and_starts_may_differ_by_set(simulated, simulated_fit):
    runs, _ = simulated
    rng = np.random.default_rng(2)
    loss = np.asarray(runs.loss) * np.exp(0.01 * rng.normal(size=(2, len(runs))))
    deltas = np.array([1e-3, 1e-1])
    objective = dataclasses.replace(js.LogHuber(1e-3))
    object.__setattr__(objective, "delta", jnp.asarray(deltas))
    starts = sobol(js.laws.chinchilla, fit_rows(simulated_fit), 32, jax.random.key(0))
    found = refit_sets(
        simulated_fit, loss=loss, objective=objective, starts=np.stack([starts] * 2), cold=True
    )
    for i, delta in enumerate(deltas):
        table = js.Runs.from_arrays(**runs.inputs, loss=loss[i])
        alone = js.fit(
            js.laws.chinchilla,
            table,
            objective=js.LogHuber(float(delta)),
            restarts=64,
            key=jax.random.key(0),
        )
        assert found.value[i] == pytest.approx(alone.value, rel=1e-8)


@pytest.mark.parametrize("name", ["alpha", "A", "a"])
def test_a_penalized_optimum_is_a_constrained_one(simulated_fit, name):
    """Least squares, held at a value: SciPy's SLSQP on the same constraint finds no less."""
    fit = js.fit(
        js.laws.chinchilla,
        simulated_fit.runs,
        objective=js.LogGaussian(),
        restarts=64,
        key=jax.random.key(0),
    )
    quantities = resolve_all(fit, name)
    center = float(at_free(fit.law, quantities, jnp.asarray(fit.free), fit.log_refs)[0])
    penalty = Penalty(
        pinned(fit.law),
        (quantities, fit.log_refs),
        jnp.full((1, 1), center + 0.05),
        jnp.full((1, 1), 10.0),
    )
    starts = np.asarray(fit.free)[None, None]
    theta = refit_sets(fit, penalty=penalty, starts=starts).theta[0]
    held = at_free(fit.law, quantities, jnp.asarray(theta), fit.log_refs)[0]
    assert center + 0.01 < held < center + 0.06

    log_n, log_d = (np.log(np.asarray(fit.runs.inputs[k])) for k in ("N", "D"))
    log_loss = np.log(np.asarray(fit.runs.loss))
    refs = fit.log_refs

    def objective(x):
        e, a, b, alpha, beta = x
        predicted = np.exp(e) + np.exp(a - alpha * (log_n - refs["N"]))
        predicted += np.exp(b - beta * (log_d - refs["D"]))
        r = np.log(predicted) + refs["loss"] - log_loss
        return 1e3 * 0.5 * np.sum(r**2)

    def constraint(x):
        value = {
            "alpha": x[3],
            "A": x[1] + refs["loss"] + x[3] * refs["N"],
            "a": x[4] / (x[3] + x[4]),
        }
        return value[name] - float(held)

    best = scipy.optimize.minimize(
        objective,
        np.asarray(fit.free),
        method="SLSQP",
        constraints={"type": "eq", "fun": constraint},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert objective(theta) == pytest.approx(best.fun, rel=1e-6)


@pytest.mark.parametrize("checked", [[], [0, 3, 4], list(range(5))])
def test_checked_refits_are_those_made_one_kind_at_a_time(simulated_fit, checked):
    checked = np.array(checked, int)
    weight = np.random.default_rng(4).multinomial(60, np.full(60, 1 / 60), size=5).astype(float)
    points = sobol(js.laws.chinchilla, fit_rows(simulated_fit), 3, jax.random.key(1))
    ticks = []
    first, others = refit_checked(simulated_fit, checked, points, weight=weight, tick=ticks.append)
    assert sum(ticks) == 5 + 3 * len(checked)
    warm = refit_sets(simulated_fit, weight=weight)
    starts = np.broadcast_to(points, (5, *points.shape))
    cold = refit_sets(simulated_fit, weight=weight, starts=starts, cold=True)
    for mine, alone in ((first, warm), (others, type(cold)(*(x[checked] for x in cold)))):
        assert mine.theta.shape == alone.theta.shape
        np.testing.assert_allclose(mine.value, alone.value, rtol=1e-12)
        np.testing.assert_allclose(mine.theta, alone.theta, rtol=1e-6)
        np.testing.assert_array_equal(mine.converged, alone.converged)


def test_a_stack_and_a_fit_without_runs_are_refused(simulated, simulated_fit):
    stack = js.fit(
        js.laws.chinchilla,
        js.Runs.stack({"a": simulated[0], "b": simulated[0]}),
        restarts=8,
        key=jax.random.key(0),
    )
    with pytest.raises(js.DataError, match="choose one data set"):
        refit_sets(stack, weight=np.ones((2, 60)))
    with pytest.raises(js.DataError, match="without its runs"):
        refit_sets(dataclasses.replace(simulated_fit, runs=None), weight=np.ones((2, 60)))
