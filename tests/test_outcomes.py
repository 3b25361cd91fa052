"""Objectives of outcomes: exact likelihoods, their fits against SciPy, and honest intervals."""

import decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from jax.scipy.special import gammaln

import jaxscale as js
from jaxscale import bayes

TRIALS = np.array([40.0, 60.0, 80.0, 100.0, 150.0, 200.0] * 3)


def betaln(x, y):
    return gammaln(x) + gammaln(y) - gammaln(x + y)


N = np.geomspace(1e7, 1e10, len(TRIALS))


@js.law(c=js.positive(0.2, 3.0, unit="N**k"), k=js.real(0.1, 1.0), predicts="pass rate")
def pass_rate(N, *, c, k):
    """p(N) = exp(-c N^-k)"""
    return jnp.exp(-c * jnp.exp(-k * jnp.log(N)))


@js.law(
    inputs={
        "successes": js.Input("successes", closed=True),
        "trials": js.Input("trials", lower=1, closed=True),
    },
    a=js.positive(0.2, 3.0),
    b=js.positive(0.5, 8.0),
)
def outcome(successes, trials, *, a, b):
    """P(k of n) = C(n, k) B(k + a, n - k + b) / B(a, b)"""
    k, n = successes, trials
    log_choose = -jnp.log1p(n) - betaln(k + 1, n - k + 1)
    return jnp.exp(log_choose + betaln(k + a, n - k + b) - betaln(a, b))


def counts(seed, c=250.0, k=0.25):
    rate = np.exp(-c * N**-k)
    return np.random.default_rng(seed).binomial(TRIALS.astype(int), rate)


@pytest.fixture(scope="module")
def fitted():
    k = counts(0)
    assert (k == 0).any()  # the case that a share in a log cannot take
    runs = js.Runs.from_arrays(N=N, loss=k / TRIALS, weight=TRIALS)
    return k, js.fit(pass_rate, runs, objective=js.Binomial(), restarts=64, key=jax.random.key(0))


@pytest.mark.parametrize("y", [0.0, 1e-3, 0.2, 0.5, 0.97, 1.0])
def test_binomial_residual_is_the_deviance(y):
    p = np.concatenate([y + np.geomspace(1e-12, 0.5, 60), y - np.geomspace(1e-12, 0.5, 60)])
    p = p[(p > 1e-9) & (p < 1 - 1e-9)]
    r = np.asarray(js.Binomial().residual(jnp.asarray(p), jnp.asarray(y)))

    def exact(p):
        with decimal.localcontext(prec=60):
            p, q = decimal.Decimal(float(p)), decimal.Decimal(y)
            ends = ((q, p), (1 - q, 1 - p))
            terms = sum(share * (share / other).ln() for share, other in ends if share)
            return float((2 * terms).sqrt()) * (1 if p > q else -1)

    np.testing.assert_allclose(r, [exact(x) for x in p], rtol=1e-9, atol=1e-15)


def test_binomial_residual_is_smooth_at_its_zero_and_across_its_series():
    slope = jax.vmap(jax.grad(js.Binomial().residual), (0, None))
    p = jnp.linspace(0.2, 0.4, 2001)
    at = np.asarray(slope(p, 0.3))
    assert np.isfinite(at).all()
    assert abs(at[1000] - 1 / np.sqrt(0.3 * 0.7)) < 1e-8
    assert np.abs(np.diff(at)).max() < 2e-3  # no jump where the series ends
    assert np.isfinite(jax.vmap(jax.grad(slope_of_one), (0, None))(p, 0.3)).all()


def slope_of_one(p, y):
    return jax.grad(js.Binomial().residual)(p, y)


def test_binomial_fit_is_the_maximum_likelihood_estimate(fitted):
    k, fit = fitted

    def negative(x):
        rate = np.exp(-np.exp(x[0]) * (N / 1e8) ** -x[1])
        return -scipy.stats.binom.logpmf(k, TRIALS.astype(int), rate).sum()

    best = scipy.optimize.minimize(negative, [0.0, 0.3], method="Nelder-Mead", tol=1e-12)
    assert fit.verdict.ok, fit.verdict
    assert fit.params["k"] == pytest.approx(best.x[1], rel=1e-5)
    assert fit.params["c"] == pytest.approx(np.exp(best.x[0]) * 1e8 ** best.x[1], rel=1e-4)
    saturated = -scipy.stats.binom.logpmf(k, TRIALS.astype(int), k / TRIALS).sum()
    assert float(fit.value) == pytest.approx(best.fun - saturated, rel=1e-8)


def test_laplace_of_counts_is_the_inverse_information(fitted):
    _, fit = fitted
    found = js.laplace(fit)

    def negative(free):
        c, k = jnp.exp(free[0]), free[1]
        rate = jnp.exp(-c * jnp.exp(-k * jnp.log(N / np.exp(fit.log_refs["N"]))))
        y = np.asarray(fit.runs.loss)
        return -jnp.sum(TRIALS * (y * jnp.log(rate) + (1 - y) * jnp.log1p(-rate)))

    inverse = np.linalg.inv(jax.hessian(negative)(jnp.asarray(fit.free)))
    np.testing.assert_allclose(found.covariance, inverse, rtol=1e-5)


def test_profile_of_counts_is_the_likelihood_ratio(fitted):
    k, fit = fitted
    found = js.profile(fit, "k", level=0.9)
    best = -float(fit.value)
    for end in (found.low, found.high):

        def negative(x, end=end):
            rate = np.exp(-np.exp(x) * (N / 1e8) ** -end)
            return float(-scipy.stats.binom.logpmf(k, TRIALS.astype(int), rate).sum())

        held = scipy.optimize.minimize_scalar(negative, bounds=(-3, 4), method="bounded")
        saturated = -scipy.stats.binom.logpmf(k, TRIALS.astype(int), k / TRIALS).sum()
        drop = 2 * (held.fun - saturated + best)
        assert drop == pytest.approx(scipy.stats.chi2.ppf(0.9, 1), rel=1e-2)


def test_posterior_of_counts_agrees_with_laplace(fitted):
    _, fit = fitted
    post = bayes.sample(fit, key=jax.random.key(1), draws=500, chains=2)
    se = js.laplace(fit).se("k")
    # A weak prior and 1,000 correlated draws: within a third of a standard error.
    assert abs(post.draws.params["k"].mean() - fit.params["k"]) < 0.35 * se
    assert post.draws.params["k"].std() == pytest.approx(se, rel=0.2)


def test_band_of_a_run_of_counts_is_the_band_of_the_law(fitted):
    _, fit = fitted
    boot = js.bootstrap(fit, n=200, key=jax.random.key(2))
    there = js.predict(boot, N=1e11)
    # Between the same two of the 200 draws: one band interpolates, the other jumps.
    drawn = np.sort(pass_rate(1e11, **boot.params))
    for law, run in ((there.law_low, there.run_low), (there.law_high, there.run_high)):
        i = np.searchsorted(drawn, law)
        assert drawn[i - 2] <= run <= drawn[i + 1]


@pytest.mark.slow
def test_wald_intervals_of_counts_cover():
    """90% intervals over 200 tables: 3 standard errors of a binomial share are 6.4%."""
    stack = {
        str(seed): js.Runs.from_arrays(N=N, loss=counts(seed) / TRIALS, weight=TRIALS)
        for seed in range(200)
    }
    fits = js.fit(
        pass_rate, js.Runs.stack(stack), objective=js.Binomial(), restarts=32, key=jax.random.key(0)
    )
    inside = 0
    for one in fits:
        low, high = js.laplace(one).interval("k", 0.9)
        inside += low <= 0.25 <= high
    assert abs(inside / 200 - 0.9) < 0.064


@pytest.mark.slow
def test_log_score_fits_a_beta_binomial():
    rng = np.random.default_rng(3)
    trials = rng.integers(5, 40, 300).astype(float)
    k = rng.binomial(trials.astype(int), rng.beta(0.7, 3.0, 300)).astype(float)
    runs = js.Runs.from_arrays(successes=k, trials=trials, loss=np.ones(300), duplicates="keep")
    fit = js.fit(outcome, runs, objective=js.LogScore(), restarts=64, key=jax.random.key(0))

    def negative(x):
        return -scipy.stats.betabinom.logpmf(k, trials, np.exp(x[0]), np.exp(x[1])).sum()

    best = scipy.optimize.minimize(negative, [0.0, 0.0], method="BFGS")
    assert fit.verdict.ok, fit.verdict
    assert float(fit.value) == pytest.approx(best.fun, rel=1e-9)
    assert fit.params["a"] == pytest.approx(np.exp(best.x[0]), rel=1e-4)
    assert fit.restarts.hit_share > 0.9
    cov = js.laplace(fit).covariance
    hessian = jax.hessian(
        lambda x: -jnp.sum(jnp.log(outcome(k, trials, a=jnp.exp(x[0]), b=jnp.exp(x[1]))))
    )(jnp.asarray(fit.free))
    np.testing.assert_allclose(cov, np.linalg.inv(hessian), rtol=1e-5)


def test_numbers_outside_a_range_are_refused_by_row():
    runs = js.Runs.from_arrays(N=N, loss=np.linspace(0.1, 1.2, len(N)))
    with pytest.raises(js.DataError, match=r"row 15 has 1\.\d+ as loss; it must be a share"):
        js.fit(pass_rate, runs, objective=js.Binomial(), key=jax.random.key(0))
    with pytest.raises(js.DataError, match="row 1 has -1 as N; it must be greater than zero"):
        js.fit(
            pass_rate,
            js.Runs.from_arrays(N=np.append(-1.0, N), loss=np.full(len(N) + 1, 0.5)),
            key=jax.random.key(0),
        )
    few = js.Runs.from_arrays(successes=[0.0, 1, 2], trials=[0.5, 3, 4], loss=np.ones(3))
    with pytest.raises(js.DataError, match=r"0.5 as trials \(trials\); it must be at least 1"):
        js.fit(outcome, few, objective=js.LogScore(), key=jax.random.key(0))
