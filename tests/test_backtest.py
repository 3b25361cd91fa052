"""Backtests are plain fits in a loop, their bands those of predict(), and widened ones hold."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest
import scipy.stats

import jaxscale as js
from jaxscale import bayes
from jaxscale._growth import Growth, measure_growth

X = np.geomspace(1e2, 1e5, 40)
NEW = np.array([10**5.5, 1e6])
LAWS = {"power": js.laws.power_law, "offset": js.laws.power_law_offset}


def world(seed, walk=0.0, E=0.0):
    """40 runs of a power law, and two that are larger; log loss may walk away from it."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([X, NEW])
    steps = walk * np.sqrt(np.diff(np.log(x))) * rng.normal(size=41)
    drift = np.concatenate([[0.0], np.cumsum(steps)])
    loss = (E + 4 * x**-0.15) * np.exp(drift + 0.01 * rng.normal(size=42))
    return js.Runs.from_arrays(x=X, loss=loss[:40]), loss[40:]


def backtest(runs, methods=("hessian",), laws=LAWS["power"], seed=0, **options):
    return js.backtest(
        laws,
        runs,
        key=jax.random.key(seed),
        objective=js.LogGaussian(),
        methods=methods,
        restarts=16,
        resamples=100,
        **options,
    )


class Bayes:
    """A method of one's own: draws around the fit of its table, as wide as asked for."""

    name = "own"

    def __init__(self, spread):
        self.spread = spread

    def __call__(self, fit, loss, *, key):
        assert loss.shape == (1, 40)
        noise = 1 + self.spread * np.asarray(jax.random.normal(key, (1, 100)))
        return {name: float(value) * noise for name, value in fit.params.items()}


@pytest.fixture(scope="module")
def runs():
    return world(0)[0]


@pytest.fixture(scope="module")
def test(runs):
    return backtest(runs, ("pairs", "hessian", Bayes(1e-3)), LAWS)


@pytest.fixture(scope="module")
def apart(test, runs):
    """The fit below the third cut, by itself."""
    cut = test.cuts[2]
    weight = (cut * (1 + 1e-9) >= X).astype(float)
    part = dataclasses.replace(runs, weight=weight)
    return js.fit(
        LAWS["power"], part, objective=js.LogGaussian(), restarts=16, key=jax.random.key(9)
    )


def test_errors_are_those_of_a_plain_loop_of_fits(test, runs):
    for name, law in LAWS.items():
        mine = test.predictions[test.predictions["law"] == name]
        assert len(mine["cut"].unique()) == 8
        for cut, rows in mine.groupby("cut"):
            below = cut * (1 + 1e-9) >= X
            part = dataclasses.replace(runs, weight=below.astype(float))
            alone = js.fit(
                law, part, objective=js.LogGaussian(), restarts=16, key=jax.random.key(3)
            )
            predicted = np.asarray(alone.predicted())[~below]
            assert rows["row"].tolist() == np.asarray(runs.row)[~below].tolist()
            assert (rows["kept"] == below.sum()).all()
            np.testing.assert_allclose(rows["predicted"], predicted, rtol=1e-5)
            np.testing.assert_allclose(rows["distance"], np.log10(X[~below] / cut), rtol=1e-9)
            residual = np.log(predicted / runs.loss[~below])
            np.testing.assert_allclose(rows["residual"], residual, atol=1e-5)


def test_bands_are_those_of_draws_around_that_fit(test, apart):
    cut = test.cuts[2]
    mine = test.bands[(test.bands["law"] == "power") & (test.bands["cut"] == cut)]
    far = cut * (1 + 1e-9) < X
    # The draws are those of other reference units, which is all that may differ.
    lap = js.predict(js.laplace(apart, draws=100).draws, x=X[far], level=0.9)
    rows = mine[mine["method"] == "hessian"]
    width = np.log(np.asarray(lap.run_high) / np.asarray(lap.run_low))
    for end, band in (("low", lap.run_low), ("high", lap.run_high)):
        assert (np.abs(np.log(rows[end].to_numpy() / np.asarray(band))) < 0.02 * width).all()
    boot = js.bootstrap(apart, n=2000, guard=0, key=jax.random.key(1))
    band = js.predict(boot, x=X[far], level=0.9)
    rows = mine[mine["method"] == "pairs"]
    width = np.log(np.asarray(band.run_high) / np.asarray(band.run_low))
    assert (np.abs(np.log(rows["low"].to_numpy() / band.run_low)) < 0.25 * width).all()
    own = mine[mine["method"] == "own"]
    assert (own["low"] < own["predicted"]).all()


def test_tables_count_every_prediction_once(test):
    errors = test.errors()
    assert errors.groupby("law")["count"].sum().tolist() == [len(test.predictions) // 2] * 2
    one = test.errors(edges=[0, 5]).set_index("law").loc["power"]
    mine = test.predictions[test.predictions["law"] == "power"]
    assert one["rms"] == pytest.approx(np.sqrt((mine["residual"] ** 2).mean()))
    assert one["bias"] == pytest.approx(mine["residual"].mean())
    assert one["are"] == pytest.approx((mine["predicted"] / mine["observed"] - 1).abs().mean())
    table = test.coverage(edges=[0, 5]).set_index(["law", "method"])
    bands = test.bands[(test.bands["law"] == "power") & (test.bands["method"] == "hessian")]
    inside = (bands["low"] <= bands["observed"]) & (bands["observed"] <= bands["high"])
    assert table.loc[("power", "hessian"), "coverage"] == pytest.approx(inside.mean())
    assert list(test.frame()) == list(errors)
    wide = test.versus()
    assert list(wide.columns) == ["power", "offset"]
    assert wide["offset"].tolist() == errors[errors["law"] == "offset"]["rms"].tolist()
    assert "Rolling origin over 8 cuts in x" in repr(test)
    assert "90% hessian bands of power hold" in repr(test)


# Growth.


def test_growth_is_the_quantile_of_what_would_have_been_enough():
    rng = np.random.default_rng(3)
    d = rng.uniform(0, 2, 4000)
    half = rng.uniform(0.5, 2, 4000)
    error = np.abs(rng.normal(size=4000)) * half * np.exp(0.4 + 0.7 * d) / 1.645
    found = measure_growth(error, half, d, np.arange(4000), 0.9)
    assert found.b == pytest.approx(0.7, abs=0.06)
    assert found.a == pytest.approx(0.4, abs=0.06)
    inside = error <= half * np.exp(found.a + found.b * d)
    assert inside.mean() == pytest.approx(0.9, abs=2e-3)
    shrinking = measure_growth(error * np.exp(-2 * d), half, d, np.arange(4000), 0.9)
    assert shrinking.b == 0


def test_the_factor_pays_for_few_windows_and_never_narrows():
    growth = Growth(a=0.0, b=0.0, cuts=8, span=2.0, level=0.9)
    normal = scipy.stats.norm.ppf(0.95)
    for d, df in ((0.01, 7), (0.5, 4), (1.0, 2), (2.0, 1), (9.0, 1)):
        assert growth(d) == pytest.approx(scipy.stats.t.ppf(0.95, df) / normal)
    assert Growth(a=-5.0, b=0.1, cuts=8, span=2.0, level=0.9)([0, 1]).tolist() == [1.0, 1.0]


def test_a_widened_band_is_stretched_about_its_middle(test):
    fit = test.fits["power"]
    plain = js.predict(js.laplace(fit, draws=100), x=NEW, level=0.9)
    wide = test.widen(plain, law="power", method="hessian")
    factor = test.widening(np.log10(NEW / 1e5), law="power", method="hessian")
    assert (factor >= 1).all()
    for made, band in ((1.0, plain), (factor, wide)):
        half = 0.5 * np.log(np.asarray(band.run_high) / np.asarray(band.run_low))
        base = 0.5 * np.log(np.asarray(plain.run_high) / np.asarray(plain.run_low))
        np.testing.assert_allclose(half, made * base)
    middle = np.asarray(plain.run_low) * np.asarray(plain.run_high)
    np.testing.assert_allclose(np.asarray(wide.run_low) * np.asarray(wide.run_high), middle)
    np.testing.assert_array_equal(wide.law_low, plain.law_low)
    assert any("widened by up to" in note for note in wide.notes)
    beyond = test.widen(js.predict(js.laplace(fit, draws=100), x=1e12, level=0.9))
    assert any("No backtest reached as far" in note for note in beyond.notes)


def _held(walk, sims, E=0.0):
    """Share of two further runs, half a decade and a decade away, in plain and in widened bands."""
    held = []
    for seed in range(sims):
        runs, later = world(1000 + seed, walk, E)
        test = backtest(runs, seed=seed)
        plain = js.predict(js.laplace(test.fits["power_law"], draws=100), x=NEW, level=0.9)
        wide = test.widen(plain)
        held.append([(b.run_low <= later) & (later <= b.run_high) for b in (plain, wide)])
    return np.mean(held, axis=0)


@pytest.mark.slow
def test_widened_bands_hold_where_the_law_is_wrong_and_where_it_is_right():
    """90% bands at 3 and 10 times the largest run. Where the law is right, plain ones held 91% and
    90% of 100 runs, and widened ones 92% and 96%; where log loss walks away from it, plain ones 65%
    and 50%, and widened ones 94% and 85%. The limits leave three binomial errors.
    """
    plain, wide = _held(0.0, 100)
    assert (np.abs(plain - 0.9) < 0.1).all()
    assert (wide >= plain).all()
    assert (wide > 0.84).all()
    plain, wide = _held(0.02, 100)
    assert (plain < [0.8, 0.66]).all()
    assert (wide > [0.85, 0.74]).all()


@pytest.mark.slow
def test_a_posterior_is_a_method_among_others(runs):
    """With flat priors and Gaussian noise its bands are those of the Hessian, to a fifth."""
    method = bayes.posterior_method(draws=200, warmup=200, chains=2)
    found = backtest(runs, ("hessian", method), cuts=[3e3, 3e4])
    width = {
        name: np.log(table["high"] / table["low"]).to_numpy()
        for name, table in found.bands.groupby("method")
    }
    np.testing.assert_allclose(width["posterior"], width["hessian"], rtol=0.2)


def test_clusters_and_methods_are_checked(runs):
    with pytest.raises(js.DataError, match="cluster methods need clusters="):
        backtest(runs, ("cluster pairs",))
    with pytest.raises(js.DataError, match="methods are hessian"):
        backtest(runs, ("profile",))
    with pytest.raises(js.DataError, match="a law without runs"):
        js.backtest(LAWS["power"], key=jax.random.key(0))
    with pytest.raises(js.DataError, match="give a law or a fit"):
        js.backtest([], runs, key=jax.random.key(0))
    with pytest.raises(js.DataError, match="neither a law nor a fit"):
        js.backtest({"a": 3}, runs, key=jax.random.key(0))
    with pytest.raises(js.DataError, match="at least 6 runs"):
        backtest(runs, cuts=[200.0])


def test_questions_without_an_answer_are_refused(test, runs):
    plain = js.predict(test.fits["power"], x=1e6)
    with pytest.raises(js.DataError, match="no band of a new run"):
        test.widen(plain)
    other = js.predict(js.laplace(test.fits["power"], draws=64), x=1e6, level=0.8)
    with pytest.raises(js.DataError, match="90% bands"):
        test.widen(other)
    with pytest.raises(js.DataError, match="no law 'x'"):
        test.growth("x")
    with pytest.raises(js.DataError, match="no method 'x'"):
        test.growth("power", "x")
    errors = backtest(runs, ())
    assert errors.bands.empty
    assert errors.coverage().empty
    with pytest.raises(js.DataError, match="no intervals"):
        errors.growth()


def test_a_fit_brings_its_runs_and_its_objective(test):
    fit = test.fits["power"]
    again = js.backtest(fit, key=jax.random.key(0), methods=(), cuts=test.cuts)
    mine = test.predictions[test.predictions["law"] == "power"].reset_index(drop=True)
    pd.testing.assert_series_equal(again.predictions["cut"], mine["cut"])
    np.testing.assert_allclose(again.predictions["predicted"], mine["predicted"], rtol=1e-6)
    assert list(again.fits) == ["power_law"]
