"""predict(): the law at new inputs, and a warning where they leave the data."""

import dataclasses
import types
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.scipy.special import betainc, log_ndtr, ndtr, ndtri

import jaxscale as js
from jaxscale._bands import _bands
from jaxscale._draws import Draws, as_draws
from jaxscale._run_noise import student_bracket


def scattered(fit, n=400, spread=0.02, seed=0, **how):
    """Draws around a fit, with a noise scale of their own each."""
    rng = np.random.default_rng(seed)
    params = {k: float(v) * np.exp(spread * rng.normal(size=n)) for k, v in fit.params.items()}
    scale = float(fit.noise_scale()) * np.exp(0.2 * rng.normal(size=n))
    return Draws(fit, "scattered", params, scale, **how)


def law_at(draws, N, D):
    p = draws.params
    return p["E"] + p["A"] / N ** p["alpha"] + p["B"] / D ** p["beta"]


def test_it_is_the_law_at_the_estimates(simulated_fit):
    N, D = np.array([1e8, 1e9]), 2e10
    prediction = js.predict(simulated_fit, N=N, D=D)
    p = {k: float(v) for k, v in simulated_fit.params.items()}
    by_hand = p["E"] + p["A"] / N ** p["alpha"] + p["B"] / D ** p["beta"]
    np.testing.assert_allclose(prediction.mean, by_hand, rtol=1e-12)
    frame = prediction.frame()
    assert list(frame.columns) == ["N", "D", "loss"]
    assert len(frame) == 2
    assert prediction.law_low is None
    assert prediction.run_low is None


def test_extrapolation_is_said(simulated_fit):
    inside = js.predict(simulated_fit, N=1e9, D=1e11)
    assert inside.notes == ()
    outside = js.predict(simulated_fit, N=1e13, D=1e5)
    assert any("times the largest N" in note for note in outside.notes)
    assert any("times below the smallest D" in note for note in outside.notes)
    assert "largest N" in repr(outside)


def test_it_can_be_differentiated_and_compiled(simulated_fit):
    slope = jax.jit(jax.grad(lambda n: js.predict(simulated_fit, N=n, D=2e10).mean))(1e9)
    h = 1e3
    low, high = (float(js.predict(simulated_fit, N=1e9 + d, D=2e10).mean) for d in (-h, h))
    np.testing.assert_allclose(slope, (high - low) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"N": 1e9}, "N, D"),
        ({"N": 1e9, "D": -1.0}, "D must be greater than zero"),
        ({"n": 1, "D": 2}, "n"),
    ],
)
def test_bad_requests(simulated_fit, inputs, said):
    with pytest.raises(js.JaxscaleError, match=said):
        js.predict(simulated_fit, **inputs)


def test_a_stack_is_refused(simulated, key):
    runs, _ = simulated
    batch = js.fit(js.laws.chinchilla, js.Runs.stack({"a": runs}), restarts=16, key=key)
    with pytest.raises(js.DataError, match=r"fit\['a'\]"):
        js.predict(batch, N=1e9, D=1e10)
    with pytest.raises(js.DataError, match=r"fit\['a'\]"):
        js.allocate(batch, flop=1e21)


def test_the_band_of_the_law_holds_quantiles_over_the_draws(simulated_fit):
    draws = scattered(simulated_fit)
    N, D = np.geomspace(1e8, 1e12, 7), 1e11
    found = js.predict(draws, N=N, D=D, level=0.8)
    each = law_at(draws, N[:, None], D)
    np.testing.assert_allclose(found.law_low, np.quantile(each, 0.1, axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.law_high, np.quantile(each, 0.9, axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.mean, js.predict(simulated_fit, N=N, D=D).mean)
    assert found.level == 0.8
    columns = ["N", "D", "loss", "law_low", "law_high", "run_low", "run_high"]
    assert list(found.frame().columns) == columns


NOISE = {
    "LogGaussian": (js.LogGaussian(), lambda r, s, p: scipy.stats.norm.cdf(r / s)),
    "Gaussian": (js.Gaussian(), lambda r, s, p: scipy.stats.norm.cdf(r / s)),
    "LogL1": (js.LogL1(), lambda r, s, p: scipy.stats.laplace.cdf(r / s)),
    "LogStudentT": (js.LogStudentT(3.0, 0.02), lambda r, s, p: scipy.stats.t.cdf(r / s, 3.0)),
}


@pytest.mark.parametrize("name", NOISE)
def test_the_band_of_a_run_holds_quantiles_of_the_mixture(simulated_fit, name):
    objective, cdf = NOISE[name]
    draws = scattered(dataclasses.replace(simulated_fit, objective=objective))
    found = js.predict(draws, N=[1e9, 1e11], D=1e11, level=0.9)
    for i, N in enumerate([1e9, 1e11]):
        at = law_at(draws, N, 1e11)
        for end, content in ((found.run_low[i], 0.05), (found.run_high[i], 0.95)):
            y = float(end)
            distance = np.log(y) - np.log(at) if objective.log else y - at
            below = cdf(distance, draws.scale, None).mean()
            np.testing.assert_allclose(below, content, atol=1e-8)
        assert found.run_low[i] < found.law_low[i] < found.law_high[i] < found.run_high[i]


def test_the_band_of_a_run_knows_on_which_side_the_noise_is(simulated_fit):
    """The law of the 10% quantile has 10% of the runs below it, and 90% above."""
    fit = dataclasses.replace(simulated_fit, objective=js.LogQuantile(0.1))
    same = {k: np.full(50, float(v)) for k, v in fit.params.items()}
    found = js.predict(Draws(fit, "same", same, np.full(50, 0.02)), N=1e9, D=1e11, level=0.8)
    np.testing.assert_allclose(found.run_low, found.mean, rtol=1e-9)
    assert found.run_high > found.mean * 1.05


def test_simulated_runs_fall_into_the_huber_band(simulated_fit):
    draws = scattered(simulated_fit)
    found = js.predict(draws, N=1e10, D=1e11, level=0.9)
    rng = np.random.default_rng(1)
    pick = rng.integers(0, 400, 40_000)
    r = np.asarray(draws.objective.ppf(rng.uniform(size=40_000), draws.scale[pick]))
    y = law_at(draws, 1e10, 1e11)[pick] * np.exp(-r)
    expected = pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 40_000))
    assert np.mean(y < float(found.run_low)) == expected
    assert np.mean(y > float(found.run_high)) == expected


def test_both_bands_hold_as_often_as_they_say():
    """Known noise and exact draws of the parameters: 90% bands must hold nine times in ten.

    With 500 tables of runs, a correct band leaves the limits in 1 of 10,000 tests.
    """
    rng = np.random.default_rng(11)
    x, sigma, far = np.geomspace(1e6, 1e9, 12), 0.02, 1e11
    design = np.column_stack([np.ones(12), -np.log(x)])
    covariance = sigma**2 * np.linalg.inv(design.T @ design)
    truth, runs = np.array([np.log(20.0), 0.1]), js.Runs.from_arrays(x=x, loss=20 * x**-0.1)
    fit = js.fit(
        js.laws.power_law, runs, objective=js.LogGaussian(), restarts=16, key=jax.random.key(0)
    )
    names = fit.law.names
    assert names == ("A", "alpha")
    expected = truth @ [1, -np.log(far)]
    law, run = [], []
    for _ in range(500):
        y = design @ truth + sigma * rng.normal(size=12)
        best = np.linalg.lstsq(design, y, rcond=None)[0]
        sample = rng.multivariate_normal(best, covariance, size=1000)
        params = {"A": np.exp(sample[:, 0]), "alpha": sample[:, 1]}
        center = dataclasses.replace(fit, params={"A": np.exp(best[0]), "alpha": best[1]})
        draws = Draws(center, "exact", params, np.full(1000, sigma))
        band = js.predict(draws, x=far, level=0.9)
        law.append(band.law_low < np.exp(expected) < band.law_high)
        new = np.exp(expected + sigma * rng.normal())
        run.append(band.run_low < new < band.run_high)
    limits = pytest.approx(0.9, abs=3.9 * np.sqrt(0.09 / 500))
    assert np.mean(law) == limits
    assert np.mean(run) == limits


def test_many_points_are_the_points_one_by_one(simulated_fit):
    draws = scattered(dataclasses.replace(simulated_fit, objective=js.LogL1()), n=2000)
    N = np.geomspace(1e8, 1e12, 1100).reshape(100, 11)  # more than one chunk
    found = js.predict(draws, N=N, D=1e11)
    assert found.run_high.shape == (100, 11)
    alone = js.predict(draws, N=N[57, 3], D=1e11)
    for name in ("law_low", "law_high", "run_low", "run_high"):
        np.testing.assert_allclose(getattr(found, name)[57, 3], getattr(alone, name), rtol=1e-8)


def test_the_middle_of_a_posterior_is_its_median(simulated_fit):
    draws = scattered(simulated_fit, center="median")
    found = js.predict(types.SimpleNamespace(draws=draws), N=1e10, D=1e11)
    np.testing.assert_allclose(found.mean, np.median(law_at(draws, 1e10, 1e11)), rtol=1e-12)


def test_lost_draws_are_counted(simulated_fit):
    draws = scattered(simulated_fit, notes=("A note of the draws.",))
    whole = js.predict(draws, N=5e9, D=1e11)
    assert whole.notes == ("A note of the draws.",)
    draws.params["alpha"][:4] = np.nan
    found = js.predict(draws, N=5e9, D=1e11)
    assert "4 of 400 draws are not finite" in found.notes[0]
    kept = law_at(draws, 5e9, 1e11)[4:]
    np.testing.assert_allclose(found.law_low, np.quantile(kept, 0.05), rtol=1e-12)
    draws.params["alpha"][:300] = np.nan
    with pytest.raises(js.LawError, match="300 of 400"):
        js.predict(draws, N=5e9, D=1e11)


def test_draws_that_give_no_loss_are_left_out_there(simulated_fit):
    draws = scattered(simulated_fit)
    draws.params["E"][:40] = -50.0
    found = js.predict(draws, N=5e9, D=1e11)
    assert "10.00% of the draws" in found.notes[0]
    kept = law_at(draws, 5e9, 1e11)[40:]
    np.testing.assert_allclose(found.law_low, np.quantile(kept, 0.05), rtol=1e-12)
    assert np.isfinite(found.run_low)


def test_what_carries_draws(simulated_fit):
    draws = scattered(simulated_fit)
    assert as_draws(simulated_fit) is None
    assert as_draws(draws) is draws
    assert as_draws(types.SimpleNamespace(draws=draws)) is draws
    for bad in (3.0, types.SimpleNamespace(draws=[1, 2])):
        with pytest.raises(js.DataError, match="give a fit, its draws or a posterior"):
            js.predict(bad, N=1e9, D=1e10)
    with pytest.raises(js.DataError, match="level"):
        js.predict(draws, N=1e9, D=1e10, level=90)


def test_a_fit_without_scatter_has_a_band_without_width(simulated_fit):
    same = {k: np.full(400, float(v)) for k, v in simulated_fit.params.items()}
    found = js.predict(Draws(simulated_fit, "same", same, np.zeros(400)), N=1e9, D=1e11)
    np.testing.assert_allclose([found.run_low, found.run_high], float(found.mean), rtol=1e-12)


class StudentNoise(js.RunNoise):
    """Student's t in log loss with a tail for every draw; the scale falls with N."""

    df: np.ndarray
    scale: np.ndarray
    log: bool = eqx.field(static=True, default=True)

    def at(self, inputs):
        return self.scale * (inputs["N"] / 1e9) ** -0.2

    def cdf(self, r, predicted, inputs):
        x = r / self.at(inputs)
        tail = 0.5 * betainc(0.5 * self.df, 0.5, self.df / (self.df + x**2))
        return jnp.where(x < 0, tail, 1 - tail)

    def bracket(self, u, predicted, inputs):
        low, high = student_bracket(u, self.df)
        return low * self.at(inputs), high * self.at(inputs)


class LateNoise(js.RunNoise):
    """Normal noise plus an exponential delay, both in proportion to the predicted loss."""

    log: ClassVar[bool] = False
    scale: np.ndarray
    delay: float = 2.0

    def cdf(self, r, predicted, inputs):
        x, k = r / (self.scale * predicted), 1 / self.delay
        return ndtr(x) - jnp.exp(0.5 * k**2 - k * x + log_ndtr(x - k))

    def bracket(self, u, predicted, inputs):
        size = self.scale * predicted
        low, high = u / 2, (1 + u) / 2  # a sum is low only if one of its parts is
        return tuple(size * (ndtri(v) - self.delay * jnp.log1p(-v)) for v in (low, high))


@pytest.mark.parametrize("level", [0.5, 0.9, 0.999])
def test_a_noise_of_its_own_makes_the_band_of_a_run(simulated_fit, level):
    draws = scattered(simulated_fit, n=300)
    df = np.exp(np.random.default_rng(3).uniform(np.log(0.7), np.log(60), 300))
    draws = dataclasses.replace(draws, noise=StudentNoise(df, draws.scale))
    found = js.predict(draws, N=[1e9, 1e12], D=1e11, level=level)
    plain = js.predict(dataclasses.replace(draws, noise=None), N=[1e9, 1e12], D=1e11, level=level)
    np.testing.assert_array_equal(found.law_low, plain.law_low)
    for i, N in enumerate([1e9, 1e12]):
        scale = draws.scale * (N / 1e9) ** -0.2
        for end, content in ((found.run_low[i], 1 - level), (found.run_high[i], 1 + level)):
            x = (np.log(float(end)) - np.log(law_at(draws, N, 1e11))) / scale
            below = scipy.stats.t.cdf(x, df).mean()
            assert below == pytest.approx(content / 2, abs=1e-8)


def test_a_skewed_noise_on_the_loss_itself_against_monte_carlo(simulated_fit):
    draws = scattered(simulated_fit)
    draws = dataclasses.replace(draws, noise=LateNoise(draws.scale))
    found = js.predict(draws, N=1e10, D=1e11, level=0.9)
    at = law_at(draws, 1e10, 1e11)
    for end, content in ((found.run_low, 0.05), (found.run_high, 0.95)):
        r = (at - float(end)) / (draws.scale * at)  # late runs lie below the law
        assert scipy.stats.exponnorm.sf(r, 2.0).mean() == pytest.approx(content, abs=1e-8)
    rng = np.random.default_rng(2)
    pick = rng.integers(0, 400, 100_000)
    r = rng.normal(size=100_000) + rng.exponential(2.0, size=100_000)
    y = at[pick] * (1 - draws.scale[pick] * r)
    share = np.mean((y > float(found.run_low)) & (y < float(found.run_high)))
    assert share == pytest.approx(0.9, abs=3.5 * np.sqrt(0.09 / 100_000))


def test_members_of_the_noise_go_with_their_draws(simulated_fit):
    draws = scattered(simulated_fit)
    df, scale = np.full(400, 4.0), draws.scale.copy()
    scale[:5] = np.nan
    found = js.predict(dataclasses.replace(draws, noise=StudentNoise(df, scale)), N=5e9, D=1e11)
    assert "5 of 400 draws are not finite" in found.notes[0]
    rest = Draws(
        simulated_fit,
        "rest",
        {k: v[5:] for k, v in draws.params.items()},
        draws.scale[5:],
        noise=StudentNoise(df[5:], scale[5:]),
    )
    expected = js.predict(rest, N=5e9, D=1e11)
    np.testing.assert_allclose(found.run_high, expected.run_high, rtol=1e-12)


def test_other_members_of_a_noise_are_not_compiled_again(simulated_fit):
    draws = scattered(simulated_fit, n=64)
    for df in (3.0, 5.0, 9.0):
        noise = StudentNoise(np.full(64, df), draws.scale)
        js.predict(dataclasses.replace(draws, noise=noise), N=5e9, D=1e11)
        if df == 3.0:
            compiled = _bands._cache_size()
    assert _bands._cache_size() == compiled


@pytest.mark.parametrize("df", [0.2, 0.9, 1.0, 1.5, 2.0, 2.1, 4.0, 30.0, 1e4])
def test_the_quantile_of_student_noise_is_bracketed(df):
    u = np.concatenate([np.geomspace(1e-6, 0.5, 30), 1 - np.geomspace(1e-6, 0.5, 30)])
    low, high = student_bracket(u, df)
    exact = scipy.stats.t.ppf(u, df)
    slack = 1e-6 * np.abs(exact) + 1e-12
    assert (low <= exact + slack).all()
    assert (exact <= high + slack).all()
    assert np.isfinite([low, high]).all()


def test_doubt_is_the_first_thing_said(simulated_fit):
    doubt = "The chains disagree."
    draws = scattered(simulated_fit, notes=("A note.",), doubt=doubt)
    assert js.predict(draws, N=1e13, D=1e11).notes[0] == doubt
    assert js.predict(draws, N=5e9, D=1e11).notes == (doubt, "A note.")
