"""The Bayesian layer: the posterior equals one computed by brute force, and names agree."""

import numpy as np
import numpyro.distributions as dist
import pytest

import bayes as package
import jaxscale as js
from jaxscale import bayes


def test_both_names_are_the_same_classes():
    for name in ("sample", "model", "prior", "Posterior"):
        assert getattr(package, name) is getattr(bayes, name)


@pytest.fixture(scope="module")
def line():
    """A power law with Gaussian noise: linear in logs, so that a grid can integrate it."""
    rng = np.random.default_rng(8)
    x = np.geomspace(1e2, 1e6, 15)
    loss = 4.0 * x**-0.15 * np.exp(0.05 * rng.normal(size=15))
    return js.Runs.from_arrays(x=x, loss=loss)


@pytest.fixture(scope="module")
def posterior(line, key):
    fit = js.fit(js.laws.power_law, line, objective=js.LogGaussian(), restarts=16, key=key)
    return bayes.sample(fit, key=key, draws=1500, warmup=600)


def grid_posterior(fit):
    """Means and standard deviations of log A (reference units), alpha and log scale."""
    law, refs = fit.law, fit.log_refs
    log_x = np.log(fit.runs.inputs["x"]) - refs["x"]
    log_loss = np.log(fit.runs.loss) - refs["loss"]
    axes = np.meshgrid(
        np.linspace(-0.1, 0.1, 101), np.linspace(0.1, 0.2, 101), np.linspace(-4.2, -1.6, 101),
        indexing="ij",
    )  # fmt: skip
    a, alpha, log_scale = axes
    scale = np.exp(log_scale)
    r = a[..., None] - alpha[..., None] * log_x - log_loss
    log_density = -0.5 * (r**2).sum(-1) / scale**2 - len(log_x) * log_scale
    for value, (_, param) in zip((a, alpha), law.params, strict=True):
        log_density += -0.5 * ((value - float(param.start(0.5))) / param.prior_scale) ** 2
    log_density += -0.5 * ((log_scale - np.log(fit.noise_scale())) / 2.0) ** 2
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    mean = [float((weight * axis).sum()) for axis in axes]
    sd = [float(np.sqrt((weight * (x - m) ** 2).sum())) for x, m in zip(axes, mean, strict=True)]
    return np.array(mean), np.array(sd)


def test_it_agrees_with_brute_force_integration(posterior):
    fit = posterior.fit
    mean, sd = grid_posterior(fit)
    reference = fit.law.to_reference(posterior.params, fit.log_refs)
    draws = [np.log(reference["A"]), np.asarray(reference["alpha"]), np.log(posterior.scale)]
    # At least 400 effective draws: the mean is known to sd / 20, the sd to 4%; allow 4 of those.
    for i, values in enumerate(draws):
        assert abs(values.mean() - mean[i]) < 0.2 * sd[i]
        assert values.std() == pytest.approx(sd[i], rel=0.15)


def test_it_says_that_it_can_be_trusted(posterior):
    assert posterior.ok
    assert "passed its checks" in posterior.verdict
    assert posterior.params["A"].shape == (6000,)
    assert set(posterior.data.children) == {"posterior", "sample_stats"}
    frame = posterior.frame(level=0.8)
    assert list(frame["quantity"]) == ["A", "alpha"]
    assert (frame["low"] < frame["median"]).all()
    assert "alpha" in repr(posterior)


def test_it_predicts_with_bands(posterior):
    draws = posterior.draws
    assert isinstance(draws, js.Draws)
    band = js.predict(posterior, x=1e5, level=0.8)
    law = draws.params["A"] * 1e5 ** -draws.params["alpha"]
    assert band.mean == pytest.approx(np.median(law), rel=1e-9)
    assert (band.law_low, band.law_high) == pytest.approx(np.quantile(law, [0.1, 0.9]), rel=1e-9)
    assert band.run_low < band.law_low < band.law_high < band.run_high


def test_too_few_draws_are_not_trusted(posterior, key):
    short = bayes.sample(posterior.fit, key=key, draws=20, warmup=20)
    assert not short.ok
    assert "Do not use" in short.verdict


def test_priors_can_be_replaced_by_name(posterior, key):
    prior = {"alpha": dist.Normal(0.5, 1e-4)}
    forced = bayes.sample(posterior.fit, key=key, draws=300, warmup=300, priors=prior)
    assert forced.params["alpha"].mean() == pytest.approx(0.5, abs=2e-3)
    with pytest.raises(js.LawError, match="gamma"):
        bayes.sample(posterior.fit, key=key, priors={"gamma": dist.Normal(0, 1)})


def test_a_fit_without_runs_is_refused(posterior, key, tmp_path):
    js.save(tmp_path / "fit.json", posterior.fit)
    with pytest.raises(js.DataError, match="with its runs"):
        bayes.sample(js.load(tmp_path / "fit.json"), key=key)
