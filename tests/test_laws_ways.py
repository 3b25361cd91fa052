"""Laws that are no least squares in closed form go the whole way: counts, implicit, schedules.

Each is fitted to runs it generated, resampled, sampled and asked for a prediction; the three
standard errors must agree, and the bands hold the truth.
"""

import functools

import catalogue
import jax
import numpy as np
import pytest

import jaxscale as js
from jaxscale import bayes, laws, published
from jaxscale.laws import schedule

KEY = jax.random.key(0)


def counts():
    """Successes of 100 attempts on each of 159 prompts; asked for all attempts of ten missing."""
    law = laws.beta_binomial
    runs, objective = catalogue.simulate(law, seed=0)
    there = {"successes": np.array([0.0, 3.0]), "failures": np.array([10.0, 7.0])}
    return law, catalogue.DESIGNS[law.name].params, runs, objective, there


def implicit():
    """Kaplan's loss at a batch whose critical value is that of the loss itself."""
    law = laws.kaplan_nbs
    runs, objective = catalogue.simulate(law, seed=0)
    runs = js.Runs.from_frame(runs.frame().iloc[::2], loss="loss", N="N", B="B", S="S")
    there = {"N": np.array([1e9, 1e10]), "B": np.array([5e5, 2e6]), "S": np.array([1e5, 3e5])}
    return law, catalogue.DESIGNS[law.name].params, runs, objective, there


def schedules():
    """The multi-power law on short schedules; asked for the ends of two of them."""
    made = {
        "cosine": schedule.cosine(600, 3e-4, end=3e-5, warmup=50),
        "wsd": schedule.wsd(600, 3e-4, end=3e-5, cooldown=150, warmup=50),
        "stepped": schedule.stepped(600, (3e-4, 9e-5), at=(300,), warmup=50),
    }
    law = laws.multi_power(made, nodes=16)
    truth = published.get("luo_2025_25m").params
    own, t = np.repeat([0, 1, 2], 40), np.tile(np.linspace(60, 600, 40).astype(int), 3)
    noise = np.random.default_rng(0).normal(0, 2e-4, len(own))
    loss = np.asarray(law(own, t, **truth)) * np.exp(noise)
    runs = js.Runs.from_arrays(loss=loss, schedule=own, step=t)
    there = {"schedule": np.array([0, 1]), "step": np.array([600, 600])}
    return law, truth, runs, js.LogGaussian(), there


KINDS = {"counts": counts, "implicit": implicit, "schedule": schedules}
each_way = pytest.mark.parametrize(
    "kind",
    ["counts", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("implicit", "schedule"))],
)


@functools.cache
def gone(kind):
    """The problem, its fit, and draws made in two ways."""
    law, truth, runs, objective, there = KINDS[kind]()
    fit = js.fit(law, runs, objective=objective, restarts=32, key=KEY)
    boot = js.bootstrap(fit, n=200, guard=0, key=KEY)
    post = bayes.sample(fit, draws=400, warmup=300, chains=2, key=KEY)
    return law, truth, there, fit, boot, post


def log_spread(draws):
    """Standard deviations of the logs of all parameters."""
    return np.array([np.std(np.log(draws.params[name])) for name in draws.fit.law.names])


@each_way
def test_fit_is_certified(kind):
    *_, fit, _, _ = gone(kind)
    assert fit.verdict.ok, fit.verdict
    assert fit.restarts.hit_share >= 0.9


@each_way
def test_resamples_and_posterior_agree_with_the_curvature(kind):
    *_, fit, boot, post = gone(kind)
    expected = log_spread(js.laplace(fit, draws=2000))
    # 200 resamples fix a standard deviation to 5%, 800 correlated draws to about as much; the
    # rest is that neither is quite normal.
    for draws in (boot, post.draws):
        ratio = log_spread(draws) / expected
        assert (ratio > 0.6).all(), ratio
        assert (ratio < 1.7).all(), ratio


@each_way
def test_bands_hold_the_truth(kind):
    law, truth, there, fit, boot, post = gone(kind)
    target = np.asarray(law(*there.values(), **truth))
    point = np.asarray(js.predict(fit, **there).mean)
    for draws in (boot, post):
        made = js.predict(draws, level=0.99, **there)
        low, high = np.asarray(made.law_low), np.asarray(made.law_high)
        assert (low < target).all(), (low, target)
        assert (target < high).all(), (target, high)
        assert (low < point).all()
        assert (point < high).all()
