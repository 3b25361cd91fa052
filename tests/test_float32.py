"""Devices without float64: every step of a fit in single precision, held against double.

Distances between estimates are in standard errors, since that is what they do to a conclusion.
"""

import dataclasses
import functools
import warnings

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.extend.core import jaxprs_in_params

import jaxscale as js
from jaxscale import _noise
from jaxscale._bootstrap import pairs_weights
from jaxscale._curvature import covariance, local
from jaxscale._evaluate import value_function
from jaxscale._law import physical_params
from jaxscale._polish import polish
from jaxscale._refit import fit_rows, refit_sets

CHINCHILLA = "epoch_huber_1e-3"
# Absolute deviations: five residuals vanish at the optimum, and in float32 none quite does.
KINK = "epoch_l1"
# The smallest eigenvalue of its Hessian, diagonal scaled to 1, is 8e-5: 0.0017 for Chinchilla.
SLOPPY = "misfitting"
CASES = (CHINCHILLA, KINK, pytest.param(SLOPPY, marks=pytest.mark.slow))
HERE, BUDGET = {"N": 70e9, "D": 1.4e12}, 5.76e23


@functools.cache
def fitted(name, x64):
    case = next(case for case in cases.REFITS if case.name == name)
    with jax.enable_x64(x64):
        return js.fit(
            js.laws.get(case.law),
            cases.load_runs(case),
            objective=case.objective,
            restarts=128,
            key=jax.random.key(20260714),
        )


@functools.cache
def curvature(name, x64, cov="hessian"):
    with jax.enable_x64(x64), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return js.laplace(fitted(name, x64), cov=cov).standard_errors()


def numbers(fit):
    return {name: float(value) for name, value in {**fit.params, **fit.derived}.items()}


# The fit.


@pytest.mark.parametrize("name", CASES)
def test_a_fit_in_single_precision_is_the_fit(name):
    """Round-off is a hundredth of a standard error at most; measured 4e-5, at the kink 1.5e-3."""
    double, single = fitted(name, True), fitted(name, False)
    assert all(np.asarray(value).dtype == np.float32 for value in single.params.values())
    # Sums of 240 terms of 1e-7 of a loss each: measured 4e-6.
    assert single.value == pytest.approx(double.value, rel=2e-5)
    at = jnp.asarray(np.asarray(single.free, float))
    value = value_function(double.law, double.objective, fit_rows(double))(at)
    # The valley is flat: its floor is met to 7e-11 (measured), at a kink to 6e-7.
    assert float(value) <= double.value * (1 + (1e-5 if name == KINK else 1e-8))
    error, found = curvature(name, True), numbers(single)
    distance = {k: abs(x - found[k]) / error[k] for k, x in numbers(double).items()}
    assert max(distance.values()) < (1e-2 if name == KINK else 5e-4), distance


@pytest.mark.parametrize("name", CASES)
def test_the_certificate_and_the_verdict_are_the_same(name):
    double, single = fitted(name, True), fitted(name, False)
    assert single.verdict.codes == double.verdict.codes == ("converged",)
    assert single.restarts.hit_share >= 0.95
    assert len(single.restarts.basins[single.restarts.basins["kind"] == "optimum"]) == 1


def test_a_term_that_vanishes_is_still_named(key):
    """The floor of these 16 runs is dead.

    The objective cannot tell a floor of 2e-4 from none in float32, where double precision goes on
    to 1e-12, so that it is called undetermined if not dead.
    """
    case = next(case for case in cases.LADDER if case.dead)
    frame = cases.load_frame(cases.LADDER_FILE, {"mode": "train", "task": case.task})
    runs = js.Runs.from_frame(frame, **cases.LADDER_COLUMNS)
    with jax.enable_x64(False):
        fit = js.fit(js.laws.chinchilla, runs, restarts=128, key=key)
    assert set(fit.verdict.codes) <= {"term_dead", "not_identified"}
    assert "E" in fit.verdict.findings[0].sentence.replace(":", "").split()
    assert float(fit.params["E"]) < 1e-3
    printed = {name: float(digits) for name, digits in case.params.items() if name != "E"}
    found = {name: float(fit.params[name]) for name in printed}
    assert found == pytest.approx(printed, rel=5e-3)  # the digits that the source prints


# Its errors.


@pytest.mark.parametrize("name", CASES)
def test_standard_errors_from_curvature(name):
    """To a hundredth, three at the kink.

    Measured 3e-5, and 3e-3 where the Hessian is nearly singular. The window that smooths a kink
    counts residuals: one that round-off moves across its end is 1% of them.
    """
    for cov in ("hessian", "HC1"):
        double, single = curvature(name, True, cov), curvature(name, False, cov)
        assert single == pytest.approx(double, rel=3e-2 if name == KINK else 1e-2)
    if name == CHINCHILLA:
        assert curvature(name, False) == pytest.approx(curvature(name, True), rel=5e-4)


@js.law(
    A=js.positive(0.2, 0.6, unit="loss * x**alpha"),
    B=js.positive(0.2, 0.6, unit="loss * x**alpha"),
    alpha=js.real(0.1, 1.0),
)
def one_term_twice(x, *, A, B, alpha):
    """(A + B) x^-alpha"""
    return (A + B) * x**-alpha


def test_a_direction_that_is_open_is_still_refused(key):
    x = np.geomspace(1e6, 1e10, 40)
    loss = 60 * x**-0.15 * np.exp(0.01 * np.random.default_rng(0).normal(size=40))
    runs = js.Runs.from_arrays(x=x, loss=loss)
    with jax.enable_x64(False):
        fit = js.fit(one_term_twice, runs, objective=js.LogGaussian(), restarts=8, key=key)
        refused = pytest.raises(js.FitError, match="leave A, B open")
        with refused, pytest.warns(UserWarning, match="single precision"):
            js.laplace(fit)


def test_the_same_resamples_have_the_same_optima(key):
    """Standard errors of a bootstrap agree to 1%, measured 5e-4; single draws to 0.02 of one."""
    weight = pairs_weights(np.ones(fitted(CHINCHILLA, True).n_runs), None, 256, key)
    draws = {}
    for x64 in (True, False):
        fit = fitted(CHINCHILLA, x64)
        with jax.enable_x64(x64):
            found = refit_sets(fit, weight=weight)
            params = physical_params(fit.law, jnp.asarray(found.theta), fit.log_refs)
            draws[x64] = {name: np.asarray(x, float) for name, x in params.items()}
        assert found.converged.all()
    for name, exact in draws[True].items():
        error, gap = exact.std(), draws[False][name] - exact
        assert draws[False][name].std() == pytest.approx(error, rel=0.01), name
        assert np.sqrt(np.mean(gap**2)) < 0.02 * error, name


# Of the exponent a, by 2,000 resamples in double precision.
BOOTSTRAP = {"pairs": 0.01946, "wild": 0.01509, "residual": 0.00796, "parametric": 0.00795}


@pytest.mark.parametrize("kind", BOOTSTRAP)
def test_every_bootstrap_gives_errors_of_the_right_size(kind, key):
    """Keys give other resamples in single precision, so sampling error is what is left.

    Three of its standard deviations: 200 resamples, of tails somewhat heavier than the normal's,
    know a standard error to 6% each, and 2,000 to 2%.
    """
    with jax.enable_x64(False):
        draws = js.bootstrap(fitted(CHINCHILLA, False), key=key, n=200, kind=kind, guard=0.0)
    assert draws.failed == 0
    assert not any("optimum" in note or "converge" in note for note in draws.notes)
    assert draws["a"].std() == pytest.approx(BOOTSTRAP[kind], rel=3 * np.hypot(0.06, 0.02))


def test_a_profile_keeps_its_ends():
    """To a thousandth of their distance, measured 5e-5, and the caller hears about it."""
    low, high = 0.49281494, 0.53658019  # in double precision
    with jax.enable_x64(False), pytest.warns(UserWarning, match="profile in single precision"):
        single = js.profile(fitted(CHINCHILLA, False), "a")
    assert (single.low, single.high) == pytest.approx((low, high), abs=1e-3 * (high - low))
    assert single.notes == ()  # round-off near the optimum is no better optimum


# Decisions.


@pytest.mark.parametrize("name", CASES)
def test_predictions_and_plans(name):
    """The loss to 1e-5, the size to 1e-3; measured 4e-6 and 9e-5, both at the kink."""
    found = []
    for x64 in (True, False):
        with jax.enable_x64(x64):
            fit = fitted(name, x64)
            plan = js.allocate(fit, flop=BUDGET)
            found.append((float(js.predict(fit, **HERE).mean), float(plan.loss), float(plan.N)))
    assert found[1][:2] == pytest.approx(found[0][:2], rel=1e-5)
    assert found[1][2] == pytest.approx(found[0][2], rel=1e-3)


def test_bands_of_the_same_draws(key):
    """Bands of the law, of a run and of a size: quantiles of float32 numbers, to 1e-4."""
    rng = np.random.default_rng(0)
    center = numbers(fitted(CHINCHILLA, True))
    spread = {
        k: center[k] * np.exp(0.02 * rng.normal(size=500)) for k in fitted(CHINCHILLA, True).params
    }
    found = []
    for x64 in (True, False):
        with jax.enable_x64(x64):
            fit = fitted(CHINCHILLA, x64)
            draws = js.Draws(fit, "made up", spread, np.full(500, fit.noise_scale()))
            table = js.allocate(draws, flop=[BUDGET, 1e30]).frame()
            found.append(table.drop(columns=["N", "D", "loss"]).to_numpy(float))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)


def test_the_numeric_search_at_the_largest_budgets():
    """It finds the closed form, and no product overflows up to 1e32 FLOPs."""
    budgets = [1e18, BUDGET, 1e32]
    closed = js.allocate(fitted(CHINCHILLA, True), flop=budgets).N
    with jax.enable_x64(False):
        plan = js.allocate(fitted(CHINCHILLA, False), flop=budgets, cost=lambda N, D: 6 * N * D)
    np.testing.assert_allclose(plan.N, closed, rtol=1e-3)


def test_the_largest_run_is_no_extrapolation():
    """Single precision may round the size asked for to above the largest size seen."""
    fit = fitted(CHINCHILLA, False)
    # A size that float32 rounds up, as half of all sizes are.
    size = 1e10 + 600.0
    assert float(np.float32(size)) > size
    low, _ = fit.ranges["N"]
    there = dataclasses.replace(fit, ranges={**fit.ranges, "N": (low, size)})
    with jax.enable_x64(False):
        assert js.predict(there, N=size, D=1e11).notes == ()
        assert "times the largest N" in js.predict(there, N=1.01 * size, D=1e11).notes[0]


def test_saved_and_loaded(tmp_path):
    single = fitted(CHINCHILLA, False)
    with jax.enable_x64(False):
        js.save(tmp_path / "fit.json", single)
        back = js.load(tmp_path / "fit.json", runs=single.runs)
        assert numbers(back) == numbers(single)
        assert js.allocate(back, flop=BUDGET).N == js.allocate(single, flop=BUDGET).N
        np.testing.assert_array_equal(back.residuals(), single.residuals())


# The pieces.


def test_resamples_of_a_kinked_loss_converge(key):
    """A kink narrower than the residuals are exact is never reached: 20% converged, not 98%."""
    fit = fitted(KINK, False)
    with jax.enable_x64(False):
        found = refit_sets(fit, weight=pairs_weights(np.ones(fit.n_runs), None, 200, key))
    assert found.converged.mean() > 0.9


@pytest.mark.parametrize("df", [1.0, 4.0, 30.0, 1000.0])
def test_student_noise_has_tails_in_single_precision(df):
    """Their logs end at 1e-38, which is no reason to give up the rest.

    Measured 6e-7 up to 30 degrees of freedom; JAX's incomplete beta function loses digits beyond,
    3e-5 at 1,000.
    """
    x = np.array([-1e30, -1e6, -60.0, -5.0, -0.5, 0.0, 0.5, 5.0, 60.0, 1e6, 1e30])
    with jax.enable_x64(False):
        found = _noise.student_cdf(jnp.asarray(x, jnp.float32), df)
    np.testing.assert_allclose(
        found, scipy.stats.t.cdf(x, df), rtol=0, atol=2e-6 if df <= 30 else 1e-4
    )


@pytest.mark.parametrize("objective", [js.LogGaussian(), js.LogL1(), js.LogQuantile(0.1)])
def test_a_perfect_fit_has_a_likelihood(objective):
    assert np.isfinite(objective.profile_nll(np.float32(0.0)))


def _products(jaxpr):
    """Precisions of all matrix products of a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"]
        for inner in jaxprs_in_params(equation.params):
            yield from _products(inner)


def test_products_are_not_left_to_the_device():
    """A TPU multiplies float32 in 8 bits unless told otherwise, a recent GPU in 11."""
    fit = fitted(CHINCHILLA, False)
    law, objective = fit.law, fit.objective

    def errors(theta, rows, codes):
        near = local(law, objective, theta, rows)
        return [covariance(near, kind, codes=codes, groups=9) for kind in ("hessian", "HC3", "CR3")]

    with jax.enable_x64(False):
        rows, theta = fit_rows(fit), jnp.asarray(fit.free)
        programs = [
            jax.make_jaxpr(errors)(theta, rows, jnp.zeros(len(rows.loss), int)),
            jax.make_jaxpr(lambda at, rows: polish(law, objective, at, rows))(theta, rows),
            jax.make_jaxpr(lambda at: jax.grad(value_function(law, objective, rows))(at))(theta),
        ]
    found = [list(_products(program.jaxpr)) for program in programs]
    highest = (jax.lax.Precision.HIGHEST,) * 2
    assert found[0], "the walk over the program found no product at all"
    assert {precision for each in found for precision in each} == {highest}
