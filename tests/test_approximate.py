"""Approximations: right where their k-hat says so, refused where it does not."""

import jax
import numpy as np
import pytest
import scipy.stats

import jaxscale as js
from bayes._approximate import importance
from jaxscale import bayes


@pytest.fixture(scope="module")
def exact(simulated_fit, key):
    return bayes.sample(simulated_fit, key=key, likelihood=js.LogGaussian())


@pytest.mark.parametrize("method", ["laplace", "pathfinder", "normal", "flow"])
def test_a_trusted_approximation_agrees_with_nuts(method, exact, simulated_fit, key):
    post = bayes.approximate(simulated_fit, key=key, method=method, likelihood=js.LogGaussian())
    assert "k-hat" in str(post.verdict)
    if not post.ok:  # then it says so, and drives nothing; only the two fast ones must be good
        assert method in ("normal", "flow")
        with pytest.raises(js.FitError, match="force=True"):
            js.allocate(post, flop=1e21)
        return
    for name in exact.law.names:
        spread = exact.params[name].std()
        assert abs(post.params[name].mean() - exact.params[name].mean()) < 0.2 * spread
        assert post.params[name].std() == pytest.approx(spread, rel=0.2)
    assert js.allocate(post, flop=1e21).bands["N"][0] > 0


def test_a_posterior_of_many_effects_is_too_much_for_a_mode(key):
    """Widths of effects make a funnel; no normal approximation at its mode is near it."""
    rng = np.random.default_rng(5)
    x, size = np.geomspace(1e3, 1e7, 60), np.repeat(np.arange(20), 3)
    effect = 0.05 * rng.normal(size=20)
    loss = 4.0 * x**-0.1 * np.exp(effect[size] + 0.02 * rng.normal(size=60))
    runs = js.Runs.from_arrays(x=x, loss=loss, cluster=size)
    fit = js.fit(js.laws.power_law, runs, objective=js.LogGaussian(), restarts=16, key=key)
    post = bayes.approximate(fit, key=key, effects={"size": "cluster"})
    assert post.verdict.codes[0] == "sampler_failed"
    assert "Use bayes.sample" in str(post.verdict)


def test_weights_move_draws_to_the_target():
    """Proposals of a t distribution, weighted to a shifted normal one."""
    z = scipy.stats.t(4).rvs(20_000, random_state=np.random.default_rng(0))
    log_ratio = scipy.stats.norm(0.5, 0.8).logpdf(z) - scipy.stats.t(4).logpdf(z)
    chosen, khat = importance(log_ratio, jax.random.key(0))
    assert khat < 0.5
    assert z[chosen].mean() == pytest.approx(0.5, abs=0.04)
    assert z[chosen].std() == pytest.approx(0.8, abs=0.04)


def test_too_light_tails_are_seen():
    """Normal proposals for a Cauchy target: the weights have no variance, and k-hat is above 0.7.

    Their ratio grows without bound; k-hat is about 1 - 1 / width^2 for a wider normal target.
    """
    z = scipy.stats.norm.rvs(size=20_000, random_state=np.random.default_rng(0))
    wide = scipy.stats.norm(0, 3).logpdf(z) - scipy.stats.norm.logpdf(z)
    assert importance(wide, jax.random.key(0))[1] > 0.7
    same = importance(0 * z, jax.random.key(0))[0]
    assert sorted(same) == list(range(len(z)))
    broken = importance(np.full(200, np.nan), jax.random.key(0))
    assert broken[1] == np.inf


def test_bad_requests(simulated_fit, key):
    with pytest.raises(js.DataError, match="method must be"):
        bayes.approximate(simulated_fit, key=key, method="advi")
    with pytest.raises(js.DataError, match="at least 100"):
        bayes.approximate(simulated_fit, key=key, draws=10)
