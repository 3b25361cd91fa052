"""Comparing fits: criteria equal SciPy's, refits equal plain fits, the true law wins."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats

import jaxscale as js
from jaxscale._criteria import akaike_weights, criteria, log_likelihood

X = np.geomspace(1e2, 1e6, 40)


@js.law(A=js.positive(0.3, 3.0, unit="loss"), k=js.positive(0.02, 0.5))
def log_law(x, *, A, k):
    """L(x) = A / (1 + k log(1 + x / 100))"""
    return A / (1 + k * jax.numpy.log1p(x / 100))


LAWS = {"power": js.laws.power_law, "log": log_law}
TRUTHS = {"power": {"A": 4.0, "alpha": 0.15}, "log": {"A": 2.0, "k": 0.2}}


def table(law, seed, noise=0.01):
    rng = np.random.default_rng(seed)
    exact = np.asarray(LAWS[law](X, **TRUTHS[law]))
    return js.Runs.from_arrays(x=X, loss=exact * np.exp(noise * rng.normal(size=40)))


@pytest.fixture(scope="module")
def worlds():
    """Fits of both laws to data made by each."""
    key = jax.random.key(0)
    found = {}
    for truth in LAWS:
        runs = table(truth, 1)
        found[truth] = {
            name: js.fit(law, runs, objective=js.LogGaussian(), restarts=16, key=key)
            for name, law in LAWS.items()
        }
    return found


@pytest.fixture(scope="module")
def fits(worlds):
    return worlds["power"]


def with_objective(fit, objective):
    """The fit as if its parameters had been found with another objective."""
    loss = np.asarray(fit.runs.loss)
    rho = np.asarray(objective.rho(objective.residual(np.asarray(fit.predicted()), loss)))
    value = float((np.asarray(fit.runs.weight) * rho).sum())
    return dataclasses.replace(fit, objective=objective, value=value)


def by_hand(fit, density):
    """Log likelihood at the scale that SciPy finds best, as densities of the loss."""
    r = np.asarray(fit.residuals())

    def negative(log_scale):
        return -density(r, np.exp(log_scale)).sum()

    best = scipy.optimize.minimize_scalar(negative, bounds=(-12, 2), method="bounded")
    jacobian = np.log(fit.runs.loss).sum() if fit.objective.log else 0.0
    return -best.fun - jacobian


def huber(delta):
    def density(r, s):
        def rho(x):
            size = np.abs(x)
            return np.where(size <= delta, x * x / 2, delta * (size - delta / 2))

        inside, _ = scipy.integrate.quad(lambda x: np.exp(-rho(x) / s**2), 0, delta)
        outside, _ = scipy.integrate.quad(lambda x: np.exp(-rho(x) / s**2), delta, np.inf)
        return -rho(r) / s**2 - np.log(2 * (inside + outside))

    return density


@pytest.mark.parametrize(
    ("objective", "density", "known"),
    [
        (js.LogGaussian(), lambda r, s: scipy.stats.norm.logpdf(r, scale=s), False),
        (js.Gaussian(), lambda r, s: scipy.stats.norm.logpdf(r, scale=s), False),
        (js.LogL1(), lambda r, s: scipy.stats.laplace.logpdf(r, scale=s), False),
        (js.LogHuber(0.01), huber(0.01), False),
        (js.LogStudentT(4, 0.01), lambda r, s: scipy.stats.t.logpdf(r, 4, scale=0.01), True),
    ],
    ids=lambda x: repr(x) if isinstance(x, js.Objective) else "",
)
def test_criteria_equal_those_by_hand(fits, objective, density, known):
    fit = with_objective(fits["power"], objective)
    best = by_hand(fit, density)
    assert log_likelihood(fit) == pytest.approx(best, abs=2e-5)
    k, n = 2 + (not known), 40
    found = criteria(fit)
    assert (found.parameters, found.observations) == (k, n)
    assert found.aic == pytest.approx(2 * k - 2 * best, abs=1e-4)
    assert found.aicc == pytest.approx(found.aic + 2 * k * (k + 1) / (n - k - 1))
    assert found.bic == pytest.approx(k * np.log(n) - 2 * best, abs=1e-4)


def test_weights_scale_out_of_a_likelihood(fits):
    fit = fits["power"]
    runs = dataclasses.replace(fit.runs, weight=3 * np.asarray(fit.runs.weight))
    heavy = dataclasses.replace(fit, runs=runs, value=3 * fit.value)
    assert log_likelihood(heavy) == pytest.approx(log_likelihood(fit))


def test_akaike_weights_are_the_shares_of_the_likelihood():
    found = akaike_weights([10.0, 12.0, np.inf])
    assert found == pytest.approx([1 / (1 + np.exp(-1)), np.exp(-1) / (1 + np.exp(-1)), 0.0])


@pytest.mark.slow
@pytest.mark.parametrize("truth", LAWS)
def test_the_true_law_wins_by_every_measure(worlds, truth):
    other = next(name for name in LAWS if name != truth)
    fits = worlds[truth]
    plain = js.compare(fits)
    assert (plain.best, plain.ranked_by, plain.weighting) == (truth, "AICc", "Akaike weights")
    assert plain.table["verdict"].tolist() == ["best", "worse"]
    assert plain.weights[truth] > 0.99
    assert f"{other} is worse than {truth}" in repr(plain)
    for folds in ("single", "future"):
        left = js.compare(fits, folds=folds)
        assert (left.best, left.ranked_by) == (truth, "elpd")
        assert left.table["verdict"].tolist() == ["best", "worse"]
        assert left.weights[truth] > 0.8
    far = js.compare(fits, holdout=js.top(fits[truth].runs, share=0.3))
    assert (far.best, far.ranked_by) == (truth, "holdout")


def test_left_out_runs_are_scored_as_by_plain_fits(fits):
    """elpd = sum log N(log y; log L, s) - log y, with s^2 = sum r^2 / (n - p) of each part."""
    found = js.compare(fits, folds="future")
    runs, folds = fits["log"].runs, js.folds.future(fits["log"].runs)
    total, n_held = 0.0, 0
    for held, seen in zip(folds.held, folds.seen, strict=True):
        part = dataclasses.replace(runs, weight=seen.astype(float))
        alone = js.fit(
            log_law, part, objective=js.LogGaussian(), restarts=16, key=jax.random.key(5)
        )
        r = np.log(np.asarray(alone.predicted()) / np.asarray(runs.loss))
        scale = np.sqrt((r[seen] ** 2).sum() / (seen.sum() - 2))
        density = scipy.stats.norm.logpdf(r, scale=scale) - np.log(runs.loss)
        total += density[held].sum()
        n_held += held.sum()
    row = found.table.set_index("law").loc["log"]
    assert row["elpd"] == pytest.approx(total, rel=1e-6)
    assert len(found.pointwise) == n_held
    with_key = js.compare(fits, folds="future", key=jax.random.key(3))
    assert with_key.table["elpd"].to_numpy() == pytest.approx(found.table["elpd"], rel=1e-7)


def test_held_out_runs_that_were_fitted_are_taken_out_first(fits):
    runs = fits["power"].runs
    train, far = js.split_top(runs, share=0.25)
    found = js.compare(fits, holdout=far)
    assert any("fitted again without 10 held-out runs" in note for note in found.notes)
    padded = dataclasses.replace(runs, weight=np.isin(runs.row, train.row).astype(float))
    apart = {
        name: js.fit(law, padded, objective=js.LogGaussian(), restarts=16, key=jax.random.key(2))
        for name, law in LAWS.items()
    }
    again = js.compare(apart, holdout=far)
    assert not any("again" in note for note in again.notes)
    columns = ["holdout_rms", "holdout_bias", "holdout_score"]
    np.testing.assert_allclose(found.table[columns], again.table[columns], rtol=1e-5)
    for name, fit in apart.items():
        predicted = np.asarray(js.predict(fit, x=far.inputs["x"]).mean)
        np.testing.assert_allclose(found.held[name], predicted, rtol=1e-6)
        error = np.log(predicted / far.loss)
        row = found.table.set_index("law").loc[name]
        assert row["holdout_rms"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)


def test_the_average_is_the_weighted_mean_of_the_laws(fits):
    weights = {"power": 0.25, "log": 0.75}
    averaged = js.average(fits, weights)
    at = {"x": [1e5, 1e8]}
    exact = sum(w * np.asarray(js.predict(fits[n], **at).mean) for n, w in weights.items())
    band = js.predict(averaged, **at)
    each = np.array([js.predict(fits[n], **at).mean for n in weights])
    # Weights are kept as numbers of draws, to one in 4,000.
    assert (np.abs(band.mean - exact) <= np.ptp(each, axis=0) / 4000).all()
    np.testing.assert_allclose(band.law_low, each.min(axis=0))
    np.testing.assert_allclose(band.law_high, each.max(axis=0))
    comparison = js.compare(fits)
    np.testing.assert_allclose(
        js.predict(comparison, **at).mean, js.predict(comparison.average, **at).mean
    )
    with pytest.raises(js.DataError, match="sum of one"):
        js.average(fits, {"power": 0.5, "log": 0.6})
    with pytest.raises(js.DataError, match="each model needs a weight"):
        js.average(fits, {"power": 1.0})


def test_draws_compare_by_their_fits_and_average_as_draws(fits, key):
    boot = {name: js.bootstrap(fit, n=64, guard=0, key=key) for name, fit in fits.items()}
    found, plain = js.compare(boot), js.compare(fits)
    assert found.table["AICc"].tolist() == plain.table["AICc"].tolist()
    band = js.predict(found, x=1e7)
    assert band.law_low < band.mean < band.law_high


def test_close_laws_tie(key):
    """With little data both laws describe it: neither is called worse."""
    few = table("power", 4, noise=0.2)
    fits = {
        name: js.fit(law, few, objective=js.LogGaussian(), restarts=16, key=key)
        for name, law in LAWS.items()
    }
    assert js.compare(fits).table["verdict"].tolist() == ["best", "tied"]
    assert js.compare(fits, folds="random", key=key).table["verdict"].tolist() == ["best", "tied"]
    assert "cannot be told from" in repr(js.compare(fits))


def test_what_does_not_compare_is_refused_with_the_reason(fits, worlds):
    huber = with_objective(fits["log"], js.LogHuber(0.01))
    raw = with_objective(fits["log"], js.Gaussian())
    one = fits["power"]
    with pytest.raises(js.DataError, match=r"LogGaussian\(\) and b with LogHuber"):
        js.compare({"a": one, "b": huber})
    with pytest.raises(js.DataError, match="noise of log loss and Gaussian noise of loss"):
        js.compare({"a": one, "b": raw})
    with pytest.raises(js.DataError, match="not about the same runs"):
        js.compare({"a": one, "b": worlds["log"]["log"]})
    with pytest.raises(js.DataError, match="by name"):
        js.compare([one])
    with pytest.raises(js.DataError, match="folds must be"):
        js.compare(fits, folds="loo")
    with pytest.raises(js.DataError, match="need a key"):
        js.compare(fits, folds="random")
    other = {"a": one, "b": worlds["log"]["log"]}
    with pytest.raises(js.DataError, match="same runs of every fit"):
        js.compare(other, folds="single", holdout=js.top(one.runs))
    with pytest.raises(js.DataError, match="leave out less"):
        js.compare(fits, folds=js.folds.future(one.runs, share=0.97, blocks=1))
    with pytest.raises(js.DataError, match="hold out less"):
        js.compare(fits, holdout=js.top(one.runs, share=0.97))
    with pytest.raises(js.DataError, match="lack the input 'x'"):
        js.compare(fits, holdout=js.Runs.from_arrays(N=[1.0], loss=[1.0]))


def test_other_noise_compares_by_held_out_runs_alone(fits):
    mixed = {"power": fits["power"], "log": with_objective(fits["log"], js.Gaussian())}
    found = js.compare(mixed, holdout=js.top(fits["power"].runs, share=0.25))
    assert "AICc" not in found.table
    assert found.notes[0].startswith("No AICc, BIC or test: power was fitted with LogGaussian()")
    assert found.weighting == "stacking weights of held-out runs"
    assert found.best == "power"


def test_a_law_without_a_loss_out_there_is_worst(fits):
    lost = dataclasses.replace(fits["log"], params={"A": np.asarray(-1.0), "k": np.asarray(0.1)})
    lost = dataclasses.replace(lost, free=np.array([np.nan, 0.0]))
    far = js.Runs.from_arrays(x=[1e7, 1e8], loss=[0.35, 0.25])
    with pytest.raises(js.FitError, match="no finite optimum"):
        js.compare({"power": fits["power"], "log": lost}, holdout=far)


def test_names_are_escaped_in_a_notebook(fits):
    found = js.compare({"<b>": fits["power"], "log": fits["log"]})
    assert "<b> cannot" not in found._repr_html_()
    assert "&lt;b&gt;" in found._repr_html_()
