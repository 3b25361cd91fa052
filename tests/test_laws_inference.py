"""Coverage of repeated attempts: pass@k, fitted curves, beta-distributed success rates."""

import itertools

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats

import jaxscale as js
from jaxscale import laws
from jaxscale.laws import best_of_n, inference
from jaxscale.laws._gamma import log_gamma_ratio

KEY = jax.random.key(0)


# pass@k.


def test_pass_at_k_golden_value():
    assert inference.pass_at_k(10, 3, 5) == pytest.approx(11 / 12, rel=1e-15)


def test_pass_at_k_is_the_hypergeometric_chance_of_a_hit():
    n = 37
    c, k = np.meshgrid(np.arange(n + 1), np.arange(1, n + 1), indexing="ij")
    exact = scipy.stats.hypergeom.sf(0, n, c, k)
    # atol: SciPy's own value at c = 0 is 0 only to rounding.
    np.testing.assert_allclose(inference.pass_at_k(n, c, k), exact, rtol=1e-11, atol=1e-13)


def test_pass_at_k_keeps_its_digits_where_coverage_is_tiny():
    assert inference.pass_at_k(10_000, 1, 1) == pytest.approx(1e-4, rel=1e-12)
    assert inference.pass_at_k(10_000, 1, 5_000) == pytest.approx(0.5, rel=1e-10)
    assert inference.pass_at_k(10, 0, 5) == 0
    assert inference.pass_at_k(10, 6, 5) == 1


@pytest.mark.parametrize("p", [0.01, 0.3])
def test_pass_at_k_has_no_bias_and_the_plug_in_has_a_downward_one(p):
    n, k = 20, np.array([1, 2, 7, 20])
    c = np.arange(n + 1)
    chance = scipy.stats.binom.pmf(c, n, p)
    truth = 1 - (1 - p) ** k
    mean = chance @ inference.pass_at_k(n, c[:, None], k)
    np.testing.assert_allclose(mean, truth, rtol=1e-12)
    plug_in = chance @ (1 - (1 - c[:, None] / n) ** k)
    assert plug_in[0] == pytest.approx(truth[0], rel=1e-12)
    assert (plug_in[1:] < truth[1:] - 1e-4).all()


def test_pass_at_k_takes_problems_with_different_numbers_of_samples():
    n, c = np.array([4, 8, 8]), np.array([1, 2, 0])
    both = inference.pass_at_k(n[:, None], c[:, None], np.array([1, 3]))
    assert both.shape == (3, 2)
    np.testing.assert_allclose(both, [[1 / 4, 3 / 4], [1 / 4, 1 - 20 / 56], [0, 0]], rtol=1e-14)


@pytest.mark.parametrize(
    ("n", "c", "k", "match"),
    [
        (10, 3, 11, "k goes from 11 to 11 with 10 samples"),
        (10, 3, 0, "1 <= k <= n"),
        (10, 11, 2, "c must not exceed n"),
        (10, 2.5, 2, "c must hold whole numbers"),
        (10, -1, 2, "c must hold whole numbers"),
        (np.nan, 1, 2, "n must hold whole numbers"),
    ],
)
def test_pass_at_k_refuses(n, c, k, match):
    with pytest.raises(js.DataError, match=match):
        inference.pass_at_k(n, c, k)


# Curves read off the figure of Brown et al. 2024, fitted as the authors do.

DIGITIZED = {
    "gemma-2b": ("-2.679", "-.4165"),
    "llama-3-70b-instruct": ("-.767", "-.461"),
    "llama-3-8b-instruct": ("-1.347", "-.435"),
    "llama-3-8b": ("-2.078", "-.441"),
    "pythia-2.8b": ("-4.302", "-.346"),
}


def digitized(model):
    frame = cases.load_frame("passk_digitised.csv", {"model": model, "metric": "coverage"})
    return js.Runs.from_frame(frame, loss="rate", duplicates="keep", k="samples_k")


@pytest.mark.parametrize(("model", "printed"), DIGITIZED.items(), ids=list(DIGITIZED))
def test_coverage_of_five_models(model, printed):
    runs = digitized(model)
    fit = js.fit(laws.coverage_power, runs, objective=js.Gaussian(), restarts=128, key=KEY)
    assert fit.restarts.hit_share >= 0.9
    assert cases.agrees(-fit.params["a"], printed[0], slack=1e-6)
    assert cases.agrees(-fit.params["b"], printed[1], slack=1e-6)
    x, y = np.log(runs.inputs["k"]), np.log(-np.log(runs.loss))
    # "linear with R^2 .993 to .998"
    assert 0.9925 < np.corrcoef(x, y)[0, 1] ** 2 < 0.9985


@pytest.mark.parametrize("model", list(DIGITIZED))
def test_one_success_rate_for_all_problems_is_refuted_by_the_same_curves(model):
    runs = digitized(model)
    power, single = (
        js.fit(law, runs, objective=js.Gaussian(), restarts=64, key=KEY).value
        for law in (laws.coverage_power, laws.coverage_saturating)
    )
    # The better law leaves a small part of the squares: 1/36 on gemma-2b, less on others.
    assert power < single / 6


def test_printed_coverage_changes_sign():
    params = inference.coverage_from_printed(-2.679, -0.4165)
    k = np.array([1.0, 10.0, 1e4])
    printed = np.exp(-2.679 * k**-0.4165)
    np.testing.assert_allclose(laws.coverage_power(k, **params), printed, rtol=1e-14)
    for a, b in ((2.679, -0.4), (-2.679, 0.4)):
        with pytest.raises(js.LawError, match="a < 0 and b < 0"):
            inference.coverage_from_printed(a, b)


# Densities of success rates.


def missed(density, k, points):
    """Integral of (1 - p)^k f(p), over pieces that resolve p near 1 / k."""

    def integrand(u):
        p = np.exp(u)
        return np.exp(k * np.log1p(-p)) * density(p) * p

    edges = np.log(points)
    pieces = itertools.pairwise(edges)
    return sum(scipy.integrate.quad(integrand, *e, epsrel=1e-11, limit=400)[0] for e in pieces)


@pytest.mark.parametrize(
    ("name", "alpha", "density", "end"),
    [
        ("uniform", 1.0, lambda p: 1 / 0.4, 0.4),
        ("beta", 0.37, scipy.stats.beta(0.37, 2.5).pdf, 1 - 1e-12),
        ("kumaraswamy", 0.6, lambda p: 0.6 * 3 * p**-0.4 * (1 - p**0.6) ** 2, 1 - 1e-12),
        ("continuous_bernoulli", 1.0, lambda p: (0.3 / 0.7) ** p, 1 - 1e-12),
    ],
)
def test_exponent_is_the_slope_of_the_misses(name, alpha, density, end):
    slopes = []
    for k in (1e4, 1e8):
        points = np.array([1e-40, 1e-3 / k, 1e-1 / k, 1 / k, 10 / k, 100 / k, end])
        ends = [missed(density, x, points) for x in (k / 1.01, k * 1.01)]
        slopes.append(-np.log(ends[1] / ends[0]) / (2 * np.log(1.01)))
    exponent = inference.coverage_exponent(name, alpha)
    # Corrections fall with a power of k: from 5e-2 at most to 1e-4.
    assert abs(slopes[0] - exponent) < 5e-2
    assert abs(slopes[1] - exponent) < 1e-4


def test_a_density_away_from_zero_or_unknown_has_no_exponent():
    with pytest.raises(js.LawError, match="no rates near 0"):
        inference.coverage_exponent("reciprocal")
    with pytest.raises(js.LawError, match="known are uniform"):
        inference.coverage_exponent("normal")


def test_tail_of_the_beta_density_is_the_asymptotic_term():
    k, alpha, beta = np.array([3.0, 1e3]), 0.3, 2.0
    tail = inference.coverage_tail(k, scale=1 / scipy.special.beta(alpha, beta), b=alpha)
    near = best_of_n.asymptotic_coverage(k, alpha=alpha, beta=beta)
    np.testing.assert_allclose(tail, 1 - near, rtol=1e-13)


# Beta-distributed success rates.


def test_log_gamma_ratio_against_scipy():
    x, d = np.meshgrid(np.geomspace(1e-3, 1e3, 25), np.geomspace(1e-3, 1e2, 25))
    for e in (d, -0.9 * np.minimum(x, d)):
        exact = scipy.special.gammaln(x + e) - scipy.special.gammaln(x)
        np.testing.assert_allclose(log_gamma_ratio(x, e), exact, rtol=1e-10, atol=2e-12)


def test_log_gamma_ratio_keeps_digits_of_single_precision():
    x, d = np.float64(1e7), np.float64(0.3)
    low = log_gamma_ratio(jnp.float32(x), jnp.float32(d))
    # Asymptotically d log x; SciPy's difference of 1.5e8s, in single precision, would be noise.
    assert float(low) == pytest.approx(0.3 * np.log(1e7), rel=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 2.0), (1.7, 0.4), (0.05, 30.0)])
def test_beta_coverage_is_the_mean_over_problems(alpha, beta):
    for k in (1, 3, 50, 4000):
        exact = 1 - np.exp(
            scipy.special.betaln(alpha, beta + k) - scipy.special.betaln(alpha, beta)
        )
        value = float(laws.beta_coverage(float(k), alpha=alpha, beta=beta))
        assert value == pytest.approx(exact, rel=1e-10)
    assert laws.beta_coverage(0.0, alpha=alpha, beta=beta) == 0
    assert laws.beta_coverage(1.0, alpha=alpha, beta=beta) == pytest.approx(alpha / (alpha + beta))


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 2.0), (2.5, 0.4)])
def test_beta_binomial_is_scipys(alpha, beta):
    for n in (1, 7, 2000):
        k = np.unique(np.linspace(0, n, 30).astype(int)).astype(float)
        ours = laws.beta_binomial(k, n - k, alpha=alpha, beta=beta)
        exact = scipy.stats.betabinom.pmf(k, n, alpha, beta)
        np.testing.assert_allclose(ours, exact, rtol=1e-9)  # SciPy subtracts logs of 1e4


def test_probabilities_of_all_outcomes_add_up_to_one():
    k = np.arange(61.0)
    shapes = {"alpha": 0.3, "beta": 2.0}
    plain = laws.beta_binomial(k, 60 - k, **shapes)
    spiked = laws.spike_beta_binomial(k, 60 - k, share=0.25, **shapes)
    assert np.sum(plain) == pytest.approx(1, rel=1e-12)
    assert np.sum(spiked) == pytest.approx(1, rel=1e-12)
    assert spiked[0] == pytest.approx(0.25 + 0.75 * float(plain[0]), rel=1e-12)
    # A miss of all attempts is the complement of coverage.
    assert plain[0] == pytest.approx(1 - float(laws.beta_coverage(60.0, **shapes)), rel=1e-12)
    assert spiked[0] == pytest.approx(
        1 - float(laws.spike_beta_coverage(60.0, share=0.25, **shapes)), rel=1e-12
    )


def test_asymptotic_coverage_fails_at_one_attempt_and_the_shift_repairs_it():
    shapes = {"alpha": 0.3, "beta": 2.0}
    assert cases.agrees(best_of_n.asymptotic_coverage(1.0, **shapes), "-0.167")
    assert cases.agrees(laws.beta_coverage(1.0, **shapes), "0.130")
    k = np.array([1.0, 10.0, 100.0])
    exact = np.asarray(laws.beta_coverage(k, **shapes))
    plain = np.abs(best_of_n.asymptotic_coverage(k, **shapes) - exact)
    shifted = np.abs(best_of_n.asymptotic_coverage(k, shifted=True, **shapes) - exact)
    assert (shifted < plain / 50).all()
    assert shifted[0] < 0.002


def test_hundred_attempts_predict_a_thousand():
    """The study of SABER on 159 prompts, where the truth is known."""
    rng = np.random.default_rng(11)
    errors = []
    for _ in range(5):
        p = rng.beta(0.3, 2.0, 159)
        k = rng.binomial(100, p).astype(float)
        truth = np.mean(1 - (1 - p) ** 1000)
        runs = js.Runs.from_arrays(
            successes=k, failures=100 - k, loss=np.ones(159), duplicates="keep"
        )
        fit = js.fit(laws.beta_binomial, runs, objective=js.LogScore(), restarts=32, key=KEY)
        plug_in = np.mean(1 - (1 - k / 100) ** 1000)
        seen = inference.pass_at_k(100, k, 100).mean()
        anchored = best_of_n.anchored_coverage(1000.0, anchor_k=100, anchor=seen, **fit.params)
        model = laws.beta_coverage(1000.0, **fit.params)
        errors.append([abs(float(x) - truth) for x in (model, anchored, plug_in)])
    exact, anchored, plug_in = np.mean(errors, axis=0)
    # Mean errors over five draws of the prompts.
    assert max(exact, anchored) < 0.03 < 0.08 < plug_in


def test_anchored_coverage():
    shapes = {"alpha": 0.3, "beta": 2.0}
    at = float(laws.beta_coverage(100.0, **shapes))
    # Anchored at the law itself it is the law, and it passes through its anchor.
    far = best_of_n.anchored_coverage(1e5, anchor_k=100.0, anchor=at, **shapes)
    assert far == pytest.approx(float(laws.beta_coverage(1e5, **shapes)), rel=1e-12)
    through = best_of_n.anchored_coverage(100.0, anchor_k=100.0, anchor=0.6, **shapes)
    assert through == pytest.approx(0.6, rel=1e-14)
    # With beta = 1 for the fitted 2, as in the authors' code, it is another curve.
    wrong = best_of_n.anchored_coverage(1e5, anchor_k=100.0, anchor=at, alpha=0.3, beta=1.0)
    assert abs(wrong - far) > 1e-4
    limit = best_of_n.anchored_coverage(1e5, anchor_k=100.0, anchor=at, alpha=0.3)
    assert limit == pytest.approx(1 - (1 - at) * 1e3**-0.3, rel=1e-12)
    budget = best_of_n.anchored_budget(limit, anchor_k=100.0, anchor=at, alpha=0.3)
    assert budget == pytest.approx(1e5, rel=1e-10)


@pytest.mark.parametrize("target", [1e-3, 0.1304348, 0.5, 0.9, 0.999])
def test_attempts_for_inverts_the_coverage(target):
    shapes = {"alpha": 0.3, "beta": 2.0}
    k = best_of_n.attempts_for(target, **shapes)
    assert laws.beta_coverage(k, **shapes) == pytest.approx(target, rel=1e-10)
    spiked = best_of_n.attempts_for(0.8 * target, share=0.2, **shapes)
    assert spiked == pytest.approx(float(k), rel=1e-9)


def test_attempts_for_is_differentiable_and_infinite_above_the_ceiling():
    def log_k(alpha, beta):
        return jnp.log(best_of_n.attempts_for(0.9, alpha=alpha, beta=beta))

    slopes = jax.grad(log_k, (0, 1))(0.3, 2.0)
    for i, step in enumerate(np.eye(2) * 1e-5):
        up, down = (float(log_k(0.3 + s * step[0], 2.0 + s * step[1])) for s in (1, -1))
        assert slopes[i] == pytest.approx((up - down) / 2e-5, rel=1e-6)
    k = best_of_n.attempts_for(np.array([0.7, 0.8, 0.9]), alpha=0.3, beta=2.0, share=0.2)
    assert np.isfinite(k).tolist() == [True, False, False]
    slope = jax.grad(lambda a: best_of_n.attempts_for(0.7, alpha=a, beta=2.0, share=0.2))(0.3)
    assert np.isfinite(slope)


# Saturation, and accuracy against tokens.


@pytest.mark.parametrize(("gain", "p"), [(0.01, 0.3), (0.001, 0.02), (0.3, 0.9)])
def test_saturation_is_the_first_attempt_that_gains_too_little(gain, p):
    k = np.arange(2000.0)
    F = np.asarray(laws.coverage_saturating(k, ceiling=0.6, p=p))
    first = int(np.argmax(np.diff(F) <= gain))
    assert inference.attempts_to_saturation(gain, ceiling=0.6, p=p) == first


def test_arise():
    assert inference.arise([0, 1, 0], [1, 2, 4]) == -1.5
    # Gains are discounted, losses amplified; the same with samples on a leading axis.
    both = inference.arise([[0, 1], [1, 0]], [[100, 400], [100, 400]])
    np.testing.assert_allclose(both, [0.25, -4.0], rtol=1e-15)
    assert inference.arise([0, 1, 1], [0, 2, 4]) == 0
    gradient = jax.grad(lambda a: inference.arise(a, jnp.array([0.0, 2.0, 4.0])))(jnp.ones(3))
    assert np.isfinite(gradient).all()
    assert inference.tokens_slope([[0, 1], [0, 0]], [[100, 200], [100, 400]]) == 0.5 / 200
    with pytest.raises(js.DataError, match="same number of tokens"):
        inference.tokens_slope([[0, 1]], [[5, 5]])
