"""The bootstrap: the published standard errors, agreement with theory, and guards that bite."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxscale as js
from jaxscale._bootstrap import pairs_weights, webb_weights

# Besiroglu et al. 2024, their repository: 4,000 resamples of the 240 rows, LogHuber(1e-3).
PRINTED_SE = {"A": 124.52, "B": 1293.28, "E": 0.02566, "alpha": 0.01540, "beta": 0.02060, "a": 0.02}
PRINTED_CI = {
    "A": (285.2, 743.6),
    "B": (1042.4, 5810.3),
    "E": (1.769, 1.871),
    "alpha": (0.317, 0.373),
    "beta": (0.331, 0.415),
}


@pytest.fixture(scope="module")
def chinchilla_boot(chinchilla_fit, key):
    return js.bootstrap(chinchilla_fit, key=key)


def _error_of_sd(draws):
    """Monte Carlo error of a standard deviation: sd sqrt((kurtosis - 1) / (4 n))."""
    z = (draws - draws.mean()) / draws.std()
    return draws.std() * np.sqrt(((z**4).mean() - 1) / (4 * len(draws)))


def test_the_replications_standard_errors(chinchilla_boot):
    """Both sides are Monte Carlo: 4 combined errors, 1 in 16,000 per number."""
    for name, printed in PRINTED_SE.items():
        draws = chinchilla_boot[name]
        assert abs(draws.std(ddof=1) - printed) < 4 * np.sqrt(2) * _error_of_sd(draws), name


def test_the_replications_percentile_intervals(chinchilla_boot):
    """Ends within 4 combined Monte Carlo errors, measured on a hundred subsamples."""
    rng = np.random.default_rng(0)
    for name, printed in PRINTED_CI.items():
        draws = chinchilla_boot[name]
        again = np.quantile(rng.choice(draws, (100, len(draws))), [0.025, 0.975], axis=1)
        error = again.std(axis=1)
        rounding = 0.5 * 10.0 ** -(3 if printed[0] < 10 else 1)
        ends = np.array(chinchilla_boot.interval(name, 0.95))
        assert np.all(np.abs(ends - printed) < 4 * np.sqrt(2) * error + rounding), name


def test_every_resample_is_at_its_optimum(chinchilla_fit, chinchilla_boot, key):
    """The guard found nothing better, and no resample lies above the fit's own point."""
    assert chinchilla_boot.failed == 0
    assert not any("cold start" in note for note in chinchilla_boot.notes)
    drawn = jax.random.split(key)[0]
    weight = pairs_weights(np.asarray(chinchilla_fit.runs.weight), None, 4000, drawn)
    rho = np.asarray(chinchilla_fit.objective.rho(chinchilla_fit.residuals()))
    assert np.all(chinchilla_boot.value <= weight @ rho * (1 + 1e-9))


def test_it_says_that_the_chinchilla_rows_ask_for_clusters(chinchilla_fit, chinchilla_boot, key):
    assert any("by='N'" in note for note in chinchilla_boot.notes)
    clustered = js.bootstrap(chinchilla_fit, by="N", n=1000, key=key)
    assert clustered["alpha"].std() > 1.1 * chinchilla_boot["alpha"].std()
    assert clustered.method == "cluster pairs bootstrap by N"
    assert not any("by='N'" in note for note in clustered.notes)


@pytest.mark.slow
def test_all_kinds_agree_with_theory_where_noise_is_gaussian(simulated_fit, key):
    """60 runs with iid Gaussian noise: every kind estimates the least-squares standard error.

    The closed form is sigma^2 (J'J)^-1. With 1,000 resamples an sd has an error of 2.2%; pairs
    and wild resampling are noisy estimators themselves, hence 25%.
    """
    fit = js.fit(
        js.laws.chinchilla,
        simulated_fit.runs,
        objective=js.LogGaussian(),
        restarts=64,
        key=jax.random.key(0),
    )
    closed = js.laplace(fit, cov="hessian").se("alpha")
    for kind, tolerance in (
        ("parametric", 0.1),
        ("residual", 0.1),
        ("wild", 0.25),
        ("pairs", 0.25),
    ):
        draws = js.bootstrap(fit, kind=kind, n=1000, key=key)
        assert draws["alpha"].std() == pytest.approx(closed, rel=tolerance), kind


def test_clusters_are_drawn_whole(key):
    codes = np.array([0, 0, 1, 1, 1, 2, 3, 3])
    weight = pairs_weights(np.ones(8), codes, 500, key)
    for code in range(4):
        assert np.all(np.ptp(weight[:, codes == code], axis=1) == 0)
    multiplicity = np.stack([weight[:, codes == c][:, 0] for c in range(4)], axis=1)
    assert np.all(multiplicity.sum(axis=1) == 4)
    # A multinomial count of mean 1 has variance 3/4; 500 resamples know it to about 5%.
    assert multiplicity.var() == pytest.approx(0.75, rel=0.2)


def test_padding_is_never_drawn(key):
    weight = np.array([1.0, 1.0, 0.0, 2.0])
    drawn = pairs_weights(weight, None, 200, key)
    assert np.all(drawn[:, 2] == 0)
    assert np.all((drawn / np.array([1, 1, 1, 2])).sum(axis=1) == 3)


def test_webb_weights_have_mean_zero_and_variance_one(key):
    weights = webb_weights(50, None, 4000, key)
    assert len(np.unique(weights)) == 6
    n = weights.size
    assert abs(weights.mean()) < 4 / np.sqrt(n)
    assert abs(weights.var() - 1) < 4 * np.sqrt(1 / 6 / n) + 1e-3  # fourth moment 7/6
    shared = webb_weights(4, np.array([0, 0, 1, 1]), 10, key)
    assert np.all(shared[:, 0] == shared[:, 1])


def test_a_cold_start_that_beats_the_warm_one_is_reported(simulated_fit, key):
    """A fit that sits on the plateau of a dead term: its neighbors are no optima."""
    stuck = np.array(simulated_fit.free)
    stuck[0] = -40.0  # E is dead
    wrong = dataclasses.replace(simulated_fit, free=stuck)
    draws = js.bootstrap(wrong, n=40, key=key)
    good = js.bootstrap(simulated_fit, n=40, key=key)
    assert any("a cold start found a better optimum" in note for note in draws.notes)
    np.testing.assert_allclose(draws.value, good.value, rtol=1e-7)


def test_same_key_same_draws(simulated_fit, key):
    first, second = (js.bootstrap(simulated_fit, n=20, key=key) for _ in range(2))
    np.testing.assert_array_equal(first["alpha"], second["alpha"])
    other = js.bootstrap(simulated_fit, n=20, key=jax.random.key(1))
    assert not np.array_equal(first["alpha"], other["alpha"])


def test_bad_requests_say_what_is_wrong(simulated_fit, key):
    for message, arguments in {
        "at least 2 resamples": {"n": 1},
        "kind must be": {"kind": "magic"},
        "ignores clusters": {"kind": "residual", "by": "N"},
        "guard is a share": {"guard": 2.0},
        "no input 'width'": {"by": "width"},
    }.items():
        with pytest.raises(js.DataError, match=message):
            js.bootstrap(simulated_fit, key=key, **arguments)


def test_a_quantile_stays_a_quantile(key):
    """Residuals are centered where the pinball loss balances, not at their mean."""
    rng = np.random.default_rng(4)
    x = np.geomspace(1e2, 1e6, 120)
    loss = 4 * x**-0.15 * np.exp(0.05 * rng.exponential(size=120))
    fit = js.fit(
        js.laws.power_law,
        js.Runs.from_arrays(x=x, loss=loss),
        objective=js.LogQuantile(0.1),
        restarts=16,
        key=key,
    )
    draws = js.bootstrap(fit, kind="residual", n=400, key=key)
    here = float(fit.predicted()[60])
    scatter = np.asarray(draws.params["A"] * x[60] ** -draws.params["alpha"])
    assert np.quantile(scatter, 0.05) < here < np.quantile(scatter, 0.95)
    with pytest.raises(js.DataError, match="use kind='pairs' for a quantile"):
        js.bootstrap(fit, kind="wild", key=key)


@pytest.mark.slow
def test_round_off_is_no_better_optimum(simulated, key):
    """Single precision, and an exact fit: the guard must not cry wolf."""
    with jax.enable_x64(False):
        fit = js.fit(
            js.laws.chinchilla, simulated[0], objective=js.LogGaussian(), restarts=64, key=key
        )
        draws = js.bootstrap(fit, n=50, guard=1.0, key=key)
    assert not any("cold start" in note for note in draws.notes)
    x = np.geomspace(1e2, 1e6, 30)
    exact = js.fit(
        js.laws.power_law, js.Runs.from_arrays(x=x, loss=4 * x**-0.15), restarts=8, key=key
    )
    draws = js.bootstrap(exact, n=50, guard=1.0, key=key)
    assert not any("cold start" in note or "clusters" in note for note in draws.notes)


def test_large_tables_are_resampled_in_blocks(simulated_fit, key, monkeypatch):
    monkeypatch.setattr("jaxscale._bootstrap._MOST_CELLS", 60 * 7)
    draws = js.bootstrap(simulated_fit, n=20, key=key)
    assert len(draws) == 20
    assert len(np.unique(draws["alpha"])) == 20
