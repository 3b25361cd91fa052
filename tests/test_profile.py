"""Profile likelihood: closed forms, SciPy, and sides that are open."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.stats

import jaxscale as js
from jaxscale._profile import profiles


@pytest.fixture(scope="module")
def line():
    """A power law with Gaussian noise in log loss: linear regression in disguise."""
    rng = np.random.default_rng(5)
    x = np.geomspace(1e2, 1e7, 25)
    loss = 4.0 * x**-0.15 * np.exp(0.05 * rng.normal(size=25))
    runs = js.Runs.from_arrays(x=x, loss=loss)
    return js.fit(
        js.laws.power_law, runs, objective=js.LogGaussian(), restarts=16, key=jax.random.key(0)
    )


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_linear_regression_in_closed_form(line, level):
    """deviance = n log(1 + t^2 / (n - 2)), t the usual statistic of the slope."""
    x, y = np.log(line.runs.inputs["x"]), np.log(line.runs.loss)
    found = scipy.stats.linregress(x, y)
    n = len(x)
    reach = found.stderr * np.sqrt((n - 2) * np.expm1(scipy.stats.chi2.ppf(level, 1) / n))
    profile = js.profile(line, "alpha", level=level)
    assert profile.estimate == pytest.approx(-found.slope, rel=1e-9)
    assert profile.low == pytest.approx(-found.slope - reach, rel=1e-5)
    assert profile.high == pytest.approx(-found.slope + reach, rel=1e-5)
    t = (profile.values + found.slope) / found.stderr
    np.testing.assert_allclose(profile.deviance, n * np.log1p(t**2 / (n - 2)), atol=1e-6)


def test_the_scale_of_a_line_in_its_log(line):
    """A positive quantity is profiled on its own scale: the same interval as log A's."""
    x, y = np.log(line.runs.inputs["x"]), np.log(line.runs.loss)
    found, n = scipy.stats.linregress(x, y), len(x)
    reach = found.intercept_stderr * np.sqrt((n - 2) * np.expm1(scipy.stats.chi2.ppf(0.95, 1) / n))
    profile = js.profile(line, "A")
    assert np.log(profile.low) == pytest.approx(found.intercept - reach, abs=1e-5)
    assert np.log(profile.high) == pytest.approx(found.intercept + reach, abs=1e-5)


def test_a_bound_on_one_side_is_the_end_of_a_wider_interval(line):
    two = js.profile(line, "alpha", level=0.9)
    upper = js.profile(line, "alpha", level=0.95, side="upper")
    lower = js.profile(line, "alpha", level=0.95, side="lower")
    assert upper.high == pytest.approx(two.high, rel=1e-5)
    assert upper.low is None
    assert lower.low == pytest.approx(two.low, rel=1e-5)
    assert lower.high is None
    assert not any("not identified" in note for note in (*upper.notes, *lower.notes))


def test_chinchilla_rows_against_scipy(chinchilla_fit):
    """Huber: no point of the profile may lie above SciPy's optimum with alpha held."""
    profile = js.profile(chinchilla_fit, "alpha")
    N, D, loss = (
        np.log(np.asarray(v)) for v in (*_inputs(chinchilla_fit), chinchilla_fit.runs.loss)
    )

    def held(x, alpha):
        e, a, b, beta = x
        r = np.logaddexp(np.logaddexp(e, a - alpha * (N - N.mean())), b - beta * (D - D.mean()))
        size = np.abs(r - loss)
        return 1e3 * np.where(size <= 1e-3, size**2 / 2, 1e-3 * (size - 5e-4)).sum()

    for end in (profile.low, profile.high):
        p = {k: float(np.interp(end, profile.values, v)) for k, v in profile.params.items()}
        start = np.array([np.log(p["E"]), np.log(p["A"]) - end * N.mean(),
                          np.log(p["B"]) - p["beta"] * D.mean(), p["beta"]])  # fmt: skip
        for _ in range(3):
            start = scipy.optimize.minimize(
                held, start, args=(end,), method="Nelder-Mead",
                options={"xatol": 1e-10, "fatol": 1e-13, "maxiter": 4000},
            ).x  # fmt: skip
        nll = chinchilla_fit.objective.profile_nll
        best, here = float(chinchilla_fit.value) / 240, held(start, end) / 1e3 / 240
        deviance = 480 * (nll(here) - nll(best))
        assert deviance == pytest.approx(profile.threshold, rel=2e-3)
    assert profile.low < chinchilla_fit.params["alpha"] < profile.high
    assert np.all(profile.deviance >= -1e-6)


def _inputs(fit):
    return fit.runs.inputs["N"], fit.runs.inputs["D"]


@pytest.mark.slow
def test_quantities_are_profiled_together_and_alone_alike(simulated_fit):
    wanted = ["beta", "a", js.loss_at(N=1e11, D=1e13), js.optimal_N(1e24)]
    together = profiles(simulated_fit, wanted)
    for profile in together:
        assert profile.low < profile.estimate < profile.high
        order = np.argsort(profile.values)
        assert np.array_equal(order, np.arange(len(order)))
    alone = js.profile(simulated_fit, "a")
    assert (alone.low, alone.high) == pytest.approx((together[1].low, together[1].high), rel=1e-4)
    assert "a = " in repr(alone)
    assert {"value", "deviance", "param_E"} <= set(alone.frame().columns)


def test_the_held_quantity_has_the_value_it_claims(simulated_fit):
    profile = js.profile(simulated_fit, "a")
    alpha, beta = profile.params["alpha"], profile.params["beta"]
    np.testing.assert_allclose(beta / (alpha + beta), profile.values, rtol=1e-9)


def test_a_floor_that_the_runs_do_not_show_is_open_below():
    """A pure power law fitted with an offset: E = 0 is not excluded, whatever the level."""
    rng = np.random.default_rng(1)
    x = np.geomspace(1e3, 1e6, 30)
    runs = js.Runs.from_arrays(x=x, loss=3 * x**-0.1 * np.exp(0.01 * rng.normal(size=30)))
    fit = js.fit(
        js.laws.power_law_offset,
        runs,
        objective=js.LogGaussian(),
        restarts=64,
        key=jax.random.key(0),
    )
    profile = js.profile(fit, "E")
    assert profile.low is None
    assert profile.high is not None
    assert any("not identified from below" in note for note in profile.notes)


# Muennighoff et al. 2023, arXiv 2305.16264: decay of the value of repeated tokens (R_D) and of
# excess parameters (R_N); the other parameters are held at the authors' first-stage values.
_E, _A, _B, _ALPHA = np.exp(0.6254804), np.exp(6.255414), np.exp(7.3049974), 0.3526596
_G = (_A / _B) ** (1 / (2 * _ALPHA))


@js.law(R_D=js.positive(1.0, 100.0), R_N=js.positive(0.5, 20.0))
def repeated(N, D, U, *, R_D, R_N):
    """L = E + A / N'^alpha + B / D'^alpha with saturating N' and D'."""
    base = jnp.minimum(N, U * _G**2)
    excess, repeats = jnp.maximum(N / base - 1, 0), jnp.maximum(D / U - 1, 0)
    size = base * (1 - R_N * jnp.expm1(-excess / R_N))
    tokens = U * (1 - R_D * jnp.expm1(-repeats / R_D))
    return _E + _A * size**-_ALPHA + _B * tokens**-_ALPHA


@pytest.fixture(scope="module")
def repeated_fit():
    frame = pd.read_csv(cases.data_path("datablations.csv"))
    frame = frame[frame["in_published_fit_182"] == 1]
    runs = js.Runs.from_frame(
        frame, loss="loss_nats", N="params", D="tokens", U="unique_tokens", duplicates="keep"
    )
    return js.fit(repeated, runs, restarts=256, key=jax.random.key(0))


@pytest.mark.slow
def test_the_value_of_repeated_data_is_not_identified_from_above(repeated_fit):
    """The published R_D* = 15.39 is beaten, and no larger value is excluded at 95%."""
    fit = repeated_fit
    runs, residual = fit.runs, fit.objective.residual
    at_print = repeated(*(runs.inputs[k] for k in "NDU"), R_D=15.387756, R_N=5.309743)
    published = float(fit.objective.rho(residual(at_print, runs.loss)).sum())
    assert published == pytest.approx(0.01582594, abs=5e-9)
    assert fit.value < 0.01580738  # the better optimum on record, at (46.99, 2.330)
    profile = js.profile(fit, "R_D")
    assert profile.high is None
    assert 5 < profile.low < 10  # a row bootstrap gives 6.3
    assert any("not identified from above" in note for note in profile.notes)
    assert profile.values.max() > 1e6


def test_bad_requests_say_what_is_wrong(line):
    with pytest.raises(js.DataError, match="side must be"):
        js.profile(line, "alpha", side="left")
    with pytest.raises(js.DataError, match="level must lie between"):
        js.profile(line, "alpha", level=95)
    with pytest.raises(js.LawError, match="no quantity"):
        js.profile(line, "beta")


def test_two_quantities_together(line):
    """Linear regression: the deviance is n log(1 + F), F the usual quadratic form of two slopes."""
    surface = js.profile2d(line, "alpha", "A", points=7)
    x, y = np.log(line.runs.inputs["x"]), np.log(line.runs.loss)
    design = np.stack([-x, np.ones(len(x))], axis=1)
    best, rss = np.linalg.lstsq(design, y, rcond=None)[:2]
    move = np.stack([surface.x, np.log(surface.y)], axis=1) - best
    form = np.einsum("pi,ij,pj->p", move, design.T @ design, move) / rss[0]
    np.testing.assert_allclose(surface.deviance, len(x) * np.log1p(form), rtol=1e-6, atol=1e-6)
    assert len(surface.frame()) == 50
    assert surface.estimate == pytest.approx((best[0], np.exp(best[1])), rel=1e-6)
    assert "50 points" in repr(surface)
    with pytest.raises(js.DataError, match="at least 5 points"):
        js.profile2d(line, "alpha", "A", points=2)
