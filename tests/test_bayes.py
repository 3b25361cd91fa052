"""The Bayesian layer: posteriors equal ones computed by brute force, and bad chains are refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
import xarray

import bayes as package
import jaxscale as js
from bayes._diagnose import sampler_verdict
from bayes._model import site_values
from bayes._posterior import Posterior
from jaxscale import bayes


def test_both_names_are_the_same_classes():
    names = {name for name in vars(package) if not name.startswith("_")}
    assert names == {name for name in vars(bayes) if not name.startswith("_")}
    for name in names:
        assert getattr(package, name) is getattr(bayes, name)


@pytest.fixture(scope="module")
def line():
    """A power law with Gaussian noise: linear in logs, so that a grid can integrate it."""
    rng = np.random.default_rng(8)
    x = np.geomspace(1e2, 1e6, 15)
    loss = 4.0 * x**-0.15 * np.exp(0.05 * rng.normal(size=15))
    return js.Runs.from_arrays(x=x, loss=loss)


@pytest.fixture(scope="module")
def line_fit(line, key):
    return js.fit(js.laws.power_law, line, objective=js.LogGaussian(), restarts=16, key=key)


@pytest.fixture(scope="module")
def posterior(line_fit, key):
    return bayes.sample(line_fit, key=key, draws=1500, warmup=400)


@pytest.fixture(scope="module")
def chinchilla_posterior(chinchilla_fit, key):
    return bayes.sample(chinchilla_fit, likelihood=bayes.StudentT(), key=key)


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
    assert posterior.verdict.codes == ("converged",)
    assert "passed its checks" in str(posterior.verdict)
    assert posterior.params["A"].shape == (6000,)
    frame = posterior.frame(level=0.8)
    assert list(frame["quantity"]) == ["A", "alpha", "scale"]
    assert (frame["low"] < frame["median"]).all()
    assert "alpha" in repr(posterior)
    assert "alpha" in posterior._repr_html_()


def test_its_data_tree_has_every_group(posterior, tmp_path):
    data = posterior.data
    groups = ("posterior", "sample_stats", "log_likelihood", "log_prior", "posterior_predictive")
    groups += ("prior", "prior_predictive", "observed_data", "constant_data")
    assert set(groups) == set(data.children)
    assert data["log_likelihood"]["loss"].dims == ("chain", "draw", "run")
    runs = posterior.fit.runs
    np.testing.assert_array_equal(data["log_likelihood"]["run"], runs.row)
    # The density of a loss, not of its log.
    A, alpha, scale = (data["posterior"][k].values for k in ("A", "alpha", "scale"))
    r = np.log(runs.loss[3]) - np.log(A) + alpha * np.log(runs.inputs["x"][3])
    expected = scipy.stats.norm.logpdf(r, scale=scale) - np.log(runs.loss[3])
    np.testing.assert_allclose(data["log_likelihood"]["loss"].values[..., 3], expected, rtol=1e-9)
    posterior.save(tmp_path / "posterior.nc")
    with xarray.open_datatree(tmp_path / "posterior.nc") as back:
        np.testing.assert_array_equal(back["posterior"]["alpha"], data["posterior"]["alpha"])
    assert [path.name for path in tmp_path.iterdir()] == ["posterior.nc"]


def test_prior_draws_follow_the_priors(posterior):
    prior = posterior.data["prior"]
    param = dict(posterior.law.params)["alpha"]
    expected = scipy.stats.norm(float(param.start(0.5)), param.prior_scale)
    assert scipy.stats.kstest(prior["alpha"].values.ravel(), expected.cdf).pvalue > 1e-4
    scale = np.log(prior["scale"].values.ravel())
    expected = scipy.stats.norm(np.log(posterior.fit.noise_scale()), 2.0)
    assert scipy.stats.kstest(scale, expected.cdf).pvalue > 1e-4


def test_it_predicts_with_bands(posterior):
    draws = posterior.draws
    assert isinstance(draws, js.Draws)
    band = js.predict(posterior, x=1e5, level=0.8)
    law = draws.params["A"] * 1e5 ** -draws.params["alpha"]
    assert band.mean == pytest.approx(np.median(law), rel=1e-9)
    assert (band.law_low, band.law_high) == pytest.approx(np.quantile(law, [0.1, 0.9]), rel=1e-9)
    noise = np.random.default_rng(0).normal(size=(100, len(law)))
    runs = np.ravel(law * np.exp(posterior.scale * noise))
    assert (band.run_low, band.run_high) == pytest.approx(np.quantile(runs, [0.1, 0.9]), rel=2e-3)


def test_too_few_draws_are_not_trusted_and_drive_no_allocation(simulated_fit, key):
    short = bayes.sample(simulated_fit, key=key, draws=20, warmup=20)
    assert not short.ok
    assert short.verdict.codes[0] == "sampler_failed"
    assert "Do not use" in str(short.verdict)
    with pytest.raises(js.FitError, match="force=True"):
        js.allocate(short, flop=1e21)
    forced = js.allocate(short, flop=1e21, force=True)
    assert "Do not use" in forced.notes[0]


def test_divergences_low_energy_and_unmixed_chains_are_named(posterior):
    values = site_values(posterior.model, posterior.u)
    stats = {name: x.copy() for name, x in posterior.stats.items()}
    stats["diverging"][0, 3] = True
    assert "diverged" in str(sampler_verdict(posterior.model, values, stats))
    rng = np.random.default_rng(0)
    slow = {**posterior.stats, "energy": np.cumsum(rng.normal(size=(4, 1500)), axis=1)}
    assert "energy" in str(sampler_verdict(posterior.model, values, slow))
    apart = {**values, "free_alpha": values["free_alpha"] + 0.05 * np.arange(4)[:, None]}
    verdict = sampler_verdict(posterior.model, apart, posterior.stats)
    assert "not mixed in alpha" in str(verdict)
    stuck = {**values, "free_alpha": 0 * values["free_alpha"]}
    assert not sampler_verdict(posterior.model, stuck, posterior.stats).ok


def test_a_prior_replaces_by_name_and_in_the_users_units(line_fit, key):
    prior = {"alpha": dist.Normal(0.5, 1e-4), "A": dist.LogNormal(np.log(50.0), 0.5)}
    model = bayes.model(line_fit, priors=prior)
    assert {"alpha", "A", "scale"} == set(model.table.priors)
    forced = bayes.sample(model, key=key, draws=300, warmup=300)
    assert forced.params["alpha"].mean() == pytest.approx(0.5, abs=2e-3)
    with pytest.raises(js.LawError, match="gamma"):
        bayes.sample(line_fit, key=key, priors={"gamma": dist.Normal(0, 1)})
    for bad in (dist.Poisson(3.0), dist.Normal(np.zeros(2), 1.0), 0.5):
        with pytest.raises(js.DataError, match="prior of alpha"):
            bayes.model(line_fit, priors={"alpha": bad})


def test_a_flat_prior_in_the_users_units_is_the_same_posterior(posterior, line_fit, key):
    """A prior that says nothing, on parameters in another coordinate system."""
    priors = {"alpha": dist.Normal(0.55, 1.0), "A": dist.LogNormal(np.log(4.0), 1.0)}
    other = bayes.sample(line_fit, key=key, priors=priors, draws=1500, warmup=400)
    for name in ("A", "alpha"):
        spread = posterior.params[name].std()
        assert abs(other.params[name].mean() - posterior.params[name].mean()) < 0.2 * spread
        assert other.params[name].std() == pytest.approx(spread, rel=0.15)


def test_published_parameters_as_priors(chinchilla_fit):
    priors = bayes.published_priors("besiroglu_2024", discount=0.2)
    assert set(priors) == set(js.laws.chinchilla.names)
    assert float(priors["A"].loc) == pytest.approx(np.log(482.01))
    assert float(priors["A"].scale) == pytest.approx(np.log(1.2))
    assert float(priors["alpha"].scale) == pytest.approx(0.2 * 0.3478)
    assert set(bayes.model(chinchilla_fit, priors=priors).table.priors) == {*priors, "scale"}
    with pytest.raises(js.DataError, match="discount"):
        bayes.published_priors("besiroglu_2024", discount=0)


@pytest.mark.slow
def test_a_law_and_its_runs_will_do(line, key):
    direct = bayes.sample(js.laws.power_law, line, key=key, draws=300, warmup=200)
    assert 0.1 < direct.params["alpha"].mean() < 0.2
    with pytest.raises(js.DataError, match="needs its runs"):
        bayes.sample(js.laws.power_law, key=key)
    with pytest.raises(js.DataError, match="goes with a law"):
        bayes.sample(direct.fit, line, key=key)
    with pytest.raises(js.DataError, match="already"):
        bayes.sample(direct.model, key=key, outliers=True)


def test_a_fit_without_runs_is_refused(posterior, key, tmp_path):
    js.save(tmp_path / "fit.json", posterior.fit)
    with pytest.raises(js.DataError, match="with its runs"):
        bayes.sample(js.load(tmp_path / "fit.json"), key=key)


def test_the_240_runs(chinchilla_posterior, chinchilla_fit, key):
    """Student-t noise, weak priors: where the field's best refit lies, and as wide."""
    post = chinchilla_posterior
    assert post.ok
    assert "0 divergent" in str(post.verdict)
    table = post.frame().set_index("quantity")
    for name, (near, within) in {
        "alpha": (0.345, 0.02),
        "beta": (0.36, 0.03),
        "E": (1.81, 0.03),
    }.items():
        assert abs(table.loc[name, "mean"] - near) < within
    # Another noise model than the bootstrap's fit: they agree within the bootstrap's own error.
    boot = js.bootstrap(chinchilla_fit, n=1000, key=key)
    for name in js.laws.chinchilla.names:
        apart = np.log(post.params[name]).mean() - np.log(boot.params[name]).mean()
        assert abs(apart) < np.log(boot.params[name]).std()
        ratio = np.log(post.params[name]).std() / np.log(boot.params[name]).std()
        assert 0.4 < ratio < 1.2  # the t likelihood uses the runs better than least deviations


def test_effective_draws_of_the_240_runs(chinchilla_posterior):
    import arviz_stats

    for method in ("bulk", "tail"):
        found = arviz_stats.ess(chinchilla_posterior.data["posterior"].dataset, method=method)
        assert min(float(x) for x in found.data_vars.values()) > 4 * 400
    rhat = arviz_stats.rhat(chinchilla_posterior.data["posterior"].dataset)
    assert max(float(x) for x in rhat.data_vars.values()) < 1.01


def test_a_claimed_interval_against_the_posterior(chinchilla_posterior):
    found = js.audit(chinchilla_posterior, claimed={"a": (0.454, 0.455), "level": 0.8})
    row = found.frame().iloc[0]
    assert row["share_inside"] < 1e-3
    assert row["runs_percentile"] > 1e5
    assert any("posterior probability" in sentence for sentence in found.sentences)


def test_it_stands_beside_other_intervals(chinchilla_fit, chinchilla_posterior, key):
    table = js.intervals(
        chinchilla_fit, "alpha", key=key, methods=["hessian"], draws=[chinchilla_posterior]
    )
    low, high = table["alpha", "posterior (NUTS)"]
    assert 0.3 < low < 0.345 < high < 0.39
    estimate = table.frame().set_index("method")["estimate"]
    assert estimate["hessian"] == pytest.approx(float(chinchilla_fit.params["alpha"]))
    median = np.median(chinchilla_posterior.params["alpha"])
    assert estimate["posterior (NUTS)"] == pytest.approx(median)


def test_an_unidentified_parameter_is_said(key):
    """Runs at one model size: A and E cannot be told apart."""
    rng = np.random.default_rng(1)
    x = np.geomspace(1e8, 1.3e8, 12)
    loss = (1.7 + 3.0 * (x / 1e8) ** -0.3) * np.exp(0.02 * rng.normal(size=12))
    runs = js.Runs.from_arrays(x=x, loss=loss)
    post = bayes.sample(
        js.laws.power_law_offset, runs, key=key, draws=500, likelihood=js.LogGaussian()
    )
    assert not post.ok
    assert {"prior_dominated", "not_identified"} & set(post.verdict.codes)


def test_it_does_not_matter_that_there_are_two_devices(line_fit, key):
    """Three chains fit on no two devices evenly; the verdict and the shapes are the same."""
    assert len(jax.devices()) == 2
    odd = bayes.sample(line_fit, key=key, draws=300, warmup=200, chains=3)
    assert odd.u["main"].shape == (3, 300, 3)
    assert odd.ok


@pytest.mark.slow
def test_float32_is_respected(line, key):
    with jax.enable_x64(False):
        fit = js.fit(js.laws.power_law, line, objective=js.LogGaussian(), restarts=16, key=key)
        post = bayes.sample(fit, key=key, draws=400, warmup=200)
        assert post.params["alpha"].dtype == np.float32
        assert abs(post.params["alpha"].mean() - 0.15) < 0.03


def test_draws_of_a_posterior_can_be_cut(posterior):
    shorter = dataclasses.replace(posterior, u={"main": posterior.u["main"][:, :100]})
    assert isinstance(shorter, Posterior)
    assert len(shorter.draws) == 400
    assert jnp.isfinite(jnp.asarray(shorter.draws.params["A"])).all()
