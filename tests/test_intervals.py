"""Intervals side by side."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jaxscale as js


@pytest.fixture(scope="module")
def table(simulated_fit, key):
    return js.intervals(simulated_fit, ["alpha", "a"], key=key, level=0.8, resamples=500)


def test_every_method_says_the_same_as_alone(simulated_fit, table):
    assert list(dict.fromkeys(table.frame()["method"])) == ["hessian", "HC1", "profile", "pairs"]
    near = js.laplace(simulated_fit, cov="HC1").interval("alpha", level=0.8)
    assert table["alpha", "HC1"] == pytest.approx(near)
    held = js.profile(simulated_fit, "a", level=0.8)
    assert table["a", "profile"] == pytest.approx((held.low, held.high), rel=1e-4)
    low, high = table["alpha", "pairs"]
    assert low < simulated_fit.params["alpha"] < high


def test_widths_are_compared_to_the_recommended_method(table):
    assert table.recommended == "pairs"
    frame = table.frame()
    np.testing.assert_allclose(frame["width"], frame["high"] - frame["low"])
    reference = frame[frame["method"] == "pairs"].set_index("quantity")["width"]
    expected = frame["width"] / frame["quantity"].map(reference)
    np.testing.assert_allclose(frame["ratio"], expected)
    assert "width relative to pairs" in repr(table)
    assert "<table" in table._repr_html_()


def test_clustered_runs_get_clustered_intervals(chinchilla_fit, key):
    """The residuals of the 240 rows depend on N: the table says so and adds two methods."""
    table = js.intervals(chinchilla_fit, "alpha", key=key, resamples=1000)
    assert table.recommended == "cluster pairs"
    assert {"cluster", "cluster pairs"} <= set(table.frame()["method"])
    assert any("use intervals that resample clusters (by='N')" in note for note in table.notes)
    low, high = table["alpha", "profile"]
    wide_low, wide_high = table["alpha", "cluster pairs"]
    assert high - low < 0.9 * (wide_high - wide_low)  # a likelihood of the wrong model


def test_draws_stand_beside_the_others(simulated_fit, key):
    mine = js.bootstrap(simulated_fit, n=100, key=key)
    table = js.intervals(simulated_fit, "a", methods=["hessian"], draws=[mine], key=key)
    assert table["a", "pairs bootstrap"] == pytest.approx(mine.interval("a"))


def test_bad_requests_say_what_is_wrong(simulated_fit, table, key):
    for message, arguments in {
        "methods are": {"methods": ["magic"]},
        "needs by=": {"methods": ["cluster"]},
        "level must lie": {"level": 1.5},
        "at least one method": {"methods": []},
        "not a fit": {"methods": [], "draws": [simulated_fit]},
    }.items():
        with pytest.raises(js.DataError, match=message):
            js.intervals(simulated_fit, "a", key=key, **arguments)
    with pytest.raises(js.DataError, match="no 'wild' interval of 'alpha'"):
        table["alpha", "wild"]


def test_an_open_profile_is_an_infinite_interval():
    rng = np.random.default_rng(1)
    x = np.geomspace(1e3, 1e6, 30)
    runs = js.Runs.from_arrays(x=x, loss=3 * x**-0.1 * np.exp(0.01 * rng.normal(size=30)))
    fit = js.fit(js.laws.power_law_offset, runs, restarts=64, key=jax.random.key(0))
    table = js.intervals(fit, "E", methods=["profile"], key=jax.random.key(0))
    assert table["E", "profile"][0] == 0.0
    assert any("not identified from below" in note for note in table.notes)


@pytest.mark.slow
def test_a_common_factor_of_the_weights_changes_nothing(simulated, key):
    found = []
    for factor in (1.0, 10.0):
        runs = js.Runs.from_arrays(
            **simulated[0].inputs, loss=simulated[0].loss, weight=np.full(60, factor)
        )
        fit = js.fit(js.laws.chinchilla, runs, restarts=64, key=key)
        table = js.intervals(
            fit, "alpha", methods=["hessian", "HC1", "profile", "pairs"], resamples=200, key=key
        )
        study = js.calibrate(
            fit, methods=["hessian", "profile"], quantities="alpha", sims=20, key=key
        )
        widths = study.frame()["width"].dropna().to_numpy()
        found.append((table.frame()[["low", "high"]].to_numpy(), widths))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5)


def test_repeats_are_said_once_and_nothing_is_refused(simulated_fit, key):
    mine = js.bootstrap(simulated_fit, n=50, key=key)
    table = js.intervals(
        simulated_fit, ["a", "a"], methods=["hessian", "hessian"], draws=[mine, mine], key=key
    )
    assert list(table.frame()["method"]) == ["hessian", "pairs bootstrap", "pairs bootstrap, 2"]
    with pytest.raises(js.LawError, match="at least one quantity"):
        js.intervals(simulated_fit, [], key=key)
    with pytest.raises(js.DataError, match="one quantity at a time"):
        mine[["a", "b"]]


def test_a_parameter_between_bounds_stays_between_them(key):
    """The floor as a share of the first loss: its intervals are formed on the logit."""

    @js.law(A=js.positive(0.5, 2.0, unit="loss"), s=js.unit(), alpha=js.real(0.05, 1.0))
    def shared_floor(x, *, A, s, alpha):
        return A * (s + (1 - s) * (x / 1e2) ** -alpha)

    rng = np.random.default_rng(2)
    x = np.geomspace(1e2, 1e4, 25)
    loss = 3 * (0.15 + 0.85 * (x / 1e2) ** -0.3) * np.exp(0.02 * rng.normal(size=25))
    runs = js.Runs.from_arrays(x=x, loss=loss)
    fit = js.fit(shared_floor, runs, objective=js.LogGaussian(), restarts=64, key=key)
    table = js.intervals(fit, "s", methods=["hessian", "profile"], level=0.99, key=key)
    for method in ("hessian", "profile"):
        low, high = table["s", method]
        assert 0 <= low < fit.params["s"] < high <= 1
    assert js.laplace(fit).se("s") > 0


def test_a_posterior_stands_beside_the_others(simulated_fit, key):
    """Anything with draws, with a noise of its own, and in doubt."""
    mine = js.bootstrap(simulated_fit, n=100, key=key)
    doubt = "The chains disagree."
    made = dataclasses.replace(
        mine, method="posterior", center="median", noise=mine.run_noise, doubt=doubt
    )
    asked = ["alpha", js.optimal_N(1e23)]
    table = js.intervals(
        simulated_fit, asked, methods=["hessian"], key=key, draws=[SimpleNamespace(draws=made)]
    )
    for what, label in zip(asked, ("alpha", "N*(C=1e+23)"), strict=True):
        assert table[label, "posterior"] == pytest.approx(made.interval(what))
    assert f"posterior: {doubt}" in table.notes
