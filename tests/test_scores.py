"""Scores agree with closed forms, with integrals, and with what simulation says."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import jaxscale as js
from jaxscale import scores

norm = scipy.stats.norm


def test_pit_of_the_right_distribution_is_uniform_and_of_a_narrow_one_is_not():
    rng = np.random.default_rng(0)
    y = rng.normal(size=500)
    assert scores.pit(norm.cdf(y)).p > 0.01
    assert scores.pit(norm.cdf(y, scale=0.5)).p < 1e-6
    draws = rng.normal(size=(999, 500))
    found = scores.pit(draws, y)
    assert found.p > 0.01
    np.testing.assert_allclose(found.values, norm.cdf(y), atol=0.06)
    assert scores.pit(0.5 * draws, y).p < 1e-6


def test_pit_rejects_as_often_as_it_says():
    rng = np.random.default_rng(1)
    p = [scores.pit(norm.cdf(rng.normal(size=40))).p for _ in range(400)]
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 400))


def test_coverage_counts_and_its_error_is_the_monte_carlo_error():
    share, error, n = scores.coverage([0, 0, 0, -np.inf], [1, 1, 1, 5], [0.5, 1.0, 2.0, 3.0])
    assert (share, n) == (0.75, 4)
    assert error == pytest.approx(np.sqrt(0.75 * 0.25 / 4))
    rng = np.random.default_rng(2)
    half = norm.ppf(0.95)
    shares = [scores.coverage(-half, half, rng.normal(size=200)).share for _ in range(300)]
    assert np.mean(shares) == pytest.approx(0.9, abs=4 * 0.0212 / np.sqrt(300))
    assert np.std(shares) == pytest.approx(0.0212, rel=0.2)


def test_winkler_by_hand_and_least_for_the_true_quantiles():
    found = scores.winkler(1.0, 3.0, [2.0, 0.5, 3.1], level=0.8)
    np.testing.assert_allclose(found, [2.0, 2.0 + 10 * 0.5, 2.0 + 10 * 0.1])
    y = np.random.default_rng(3).normal(size=20_000)
    half = norm.ppf(0.95)
    scored = [scores.winkler(-f * half, f * half, y, level=0.9).mean() for f in (0.7, 1.0, 1.4)]
    assert scored[1] < min(scored[0], scored[2])


def test_crps_is_the_integral_of_the_squared_difference():
    for y, mean, sd in [(0.3, 0.0, 1.0), (-2.0, 0.5, 0.3), (5.0, 1.0, 2.0)]:
        below = scipy.integrate.quad(lambda t, m=mean, s=sd: norm.cdf(t, m, s) ** 2, -30, y)[0]
        above = scipy.integrate.quad(lambda t, m=mean, s=sd: norm.sf(t, m, s) ** 2, y, 30)[0]
        np.testing.assert_allclose(scores.crps_gaussian(y, mean, sd), below + above, rtol=1e-6)
    np.testing.assert_allclose(scores.crps_gaussian([1.0, 3.0], 2.5, 0.0), [1.5, 0.5])


def test_weighted_interval_score_approaches_the_crps():
    y, mean, sd = np.array([0.2, -1.4, 3.0]), 0.1, 0.8
    levels = np.arange(1, 400) / 400
    ends = [norm.ppf((1 + side * levels[:, None]) / 2, mean, sd) * np.ones(3) for side in (-1, 1)]
    found = scores.weighted_interval_score(y, np.full(3, mean), *ends, levels)
    np.testing.assert_allclose(found, scores.crps_gaussian(y, mean, sd), rtol=0.01)


def test_weighted_interval_score_of_one_interval_by_hand():
    found = scores.weighted_interval_score([4.0], [1.0], [[0.0]], [[2.0]], [0.9])
    np.testing.assert_allclose(found, (0.5 * 3 + 0.05 * (2 + 20 * 2)) / 1.5)


def test_coverage_by_distance_shows_where_intervals_fail():
    rng = np.random.default_rng(4)
    distance = rng.uniform(0, 3, 3000)
    y = rng.normal(size=3000) * (1 + distance)
    half = norm.ppf(0.95)
    table = scores.coverage_by_distance(y, -half, half, distance, [0, 1, 2, 3, 4])
    assert table["count"].tolist()[-1] == 0
    assert np.isnan(table["coverage"].iloc[-1])
    assert table["count"].sum() == 3000
    assert (np.diff(table["coverage"][:3]) < 0).all()
    np.testing.assert_allclose(table["width"][:3], 2 * half)
    right = scores.coverage_by_distance(
        y, -half * (1 + distance), half * (1 + distance), distance, [0, 1, 2, 3]
    )
    assert (np.abs(right["coverage"] - 0.9) < 4 * right["error"]).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: scores.pit([0.2, 1.3]), "between 0 and 1"),
        (lambda: scores.pit(np.zeros((5, 2)), np.zeros(3)), "3 observations"),
        (lambda: scores.coverage([0.0], [1.0], [np.nan]), "observed"),
        (lambda: scores.coverage(np.zeros(2), np.zeros(3), 0.0), "different shapes"),
        (lambda: scores.winkler(0, 1, 0.5, level=90), "level"),
        (lambda: scores.weighted_interval_score([1.0], [1.0], [[0.0]], [[2.0]], [0.5, 0.9]), "2"),
        (lambda: scores.crps_gaussian(0.0, 0.0, -1.0), "negative"),
        (lambda: scores.coverage_by_distance(0.0, 0.0, 1.0, 0.5, [1, 0]), "ascend"),
    ],
)
def test_unusable_input_is_refused(call, said):
    with pytest.raises(js.DataError, match=said):
        call()
