"""Likelihoods: densities, draws and distribution functions agree; models with every option."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from numpyro.infer.util import log_density

import jaxscale as js
from bayes._likelihood import ObjectiveNoise
from bayes._model import constrained, latent_shapes, log_jacobian, program
from bayes._precondition import Frame, frame
from bayes._target import Target
from jaxscale import bayes

CASES = {
    "gaussian": (ObjectiveNoise(js.LogGaussian()), {}),
    "raw gaussian": (ObjectiveNoise(js.Gaussian()), {}),
    "huber": (ObjectiveNoise(js.LogHuber(0.02)), {}),
    "laplace": (ObjectiveNoise(js.LogL1()), {}),
    "quantile": (ObjectiveNoise(js.LogQuantile(0.2)), {}),
    "student": (bayes.StudentT(), {"df": 2.7}),
    "student, known df": (bayes.StudentT(4.0), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_density_distribution_and_draws_agree(name):
    noise, extra = CASES[name]
    at, scale = 2.0, 0.03
    grid = np.linspace(0.8, 5.0, 200_001)
    density = np.exp(np.asarray(noise.log_prob(at, jnp.asarray(grid), scale, extra)))
    below = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    cdf = np.asarray(noise.cdf(at, jnp.asarray(grid), scale, extra))
    assert np.abs(below + cdf[0] - cdf).max() < 1e-5
    draws = np.asarray(noise.draw(jax.random.key(1), jnp.full(20_000, at), scale, extra))
    assert scipy.stats.kstest(draws, lambda x: np.interp(x, grid, cdf)).pvalue > 1e-3


@pytest.mark.parametrize("noise", [bayes.Binomial(200.0), bayes.BetaBinomial(200.0)])
def test_counts(noise):
    extra = {"concentration": 50.0} if isinstance(noise, bayes.BetaBinomial) else {}
    share = np.arange(201) / 200
    mass = np.exp(np.asarray(noise.log_prob(0.3, jnp.asarray(share), 1.0, extra)))
    assert mass.sum() == pytest.approx(1, abs=1e-6)
    mean, var = (mass * share).sum(), (mass * (share - 0.3) ** 2).sum()
    assert mean == pytest.approx(0.3, abs=1e-6)
    draws = np.asarray(noise.draw(jax.random.key(1), jnp.full(40_000, 0.3), 1.0, extra))
    assert draws.mean() == pytest.approx(0.3, abs=4 * np.sqrt(var / 40_000))
    assert draws.var() == pytest.approx(var, rel=0.05)
    # The distribution function is a beta distribution's, of the same mean and variance.
    approximate = np.asarray(noise.cdf(0.3, jnp.asarray(share + 0.0025), 1.0, extra))
    assert np.abs(np.cumsum(mass) - approximate).max() < 0.02


@pytest.fixture(scope="module")
def clustered(key):
    """48 runs of 8 models whose noise grows with size, one of them far off."""
    rng = np.random.default_rng(11)
    N = np.repeat(np.geomspace(1e7, 1e10, 8), 6)
    D = np.tile(np.geomspace(1e9, 1e12, 6), 8)
    truth = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
    effect = 0.02 * rng.normal(size=8)
    noise = 0.005 * rng.normal(size=48)
    loss = np.asarray(js.laws.chinchilla(N, D, **truth)) * np.exp(np.repeat(effect, 6) + noise)
    loss[7] *= 1.2
    runs = js.Runs.from_arrays(N=N, D=D, loss=loss, cluster=np.repeat(np.arange(8), 6))
    return js.fit(js.laws.chinchilla, runs, restarts=64, key=key)


def test_the_target_is_the_numpyro_program(clustered):
    """In the sampler's coordinates, up to the constant of a linear map, with every option."""
    model = bayes.model(
        clustered,
        likelihood=bayes.StudentT(),
        effects={"model": "cluster"},
        scale_by="C",
        outliers=True,
        input_error={"N": 0.02},
    )
    axes = frame(model.law, model.table, jnp.asarray(clustered.free))
    rng = np.random.default_rng(0)
    z = {"main": jnp.asarray(0.3 * rng.normal(size=len(model.table.priors)))}
    assert latent_shapes(model.table) == {"raw_model": 8}
    z |= {k: jnp.asarray(0.1 * rng.normal(size=n)) for k, n in latent_shapes(model.table).items()}
    u = axes.u(z)
    values = constrained(model.table, u)
    joint, trace = log_density(program, (model.law, model.table), {}, values)
    expected = -(joint + log_jacobian(model.table, u))
    assert float(Target(model.law)((model.table, axes), z)) == pytest.approx(float(expected))
    sites = {name for name, site in trace.items() if site["type"] == "sample"}
    wanted = {*model.table.priors, "raw_model"}
    assert wanted <= sites
    gradient = jax.grad(lambda z: Target(model.law)((model.table, axes), z))(z)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(gradient))


def test_the_frame_is_the_laplace_covariance(simulated_fit, key):
    """Gaussian noise: the law's block is the inverse Gauss-Newton Hessian plus the prior's."""
    runs = simulated_fit.runs
    fit = js.fit(js.laws.chinchilla, runs, objective=js.LogGaussian(), restarts=64, key=key)
    model = bayes.model(fit)
    axes: Frame = frame(model.law, model.table, jnp.asarray(fit.free))
    names = sorted(model.table.priors)
    which = [names.index(f"free_{name}") for name in fit.law.names]
    cov = np.asarray(axes.root @ axes.root.T)[np.ix_(which, which)]
    expected = js.laplace(fit, cov="hessian").covariance
    ratio = np.sqrt(np.diag(cov) / np.diag(expected))
    assert ratio == pytest.approx(np.ones(5), abs=0.25)  # scale by mean size, not by n - p


@pytest.mark.slow
def test_effects_and_noise_are_told_apart(clustered, key):
    post = bayes.sample(
        clustered,
        key=key,
        likelihood=bayes.StudentT(),
        effects={"model": "cluster"},
    )  # with 500 draws R-hat exceeds 1.01 by chance, for one key in four
    assert post.verdict.codes[0] == "converged"
    table = post.frame().set_index("quantity")
    assert 0.008 < table.loc["sd_model", "median"] < 0.04
    assert 0.002 < table.loc["scale", "median"] < 0.008
    assert post.data["posterior"]["effect_model"].shape == (4, 1000, 8)
    # A new run is of a new model: its band holds the effect, too.
    band = js.predict(post, N=1e9, D=1e11, level=0.9)
    simple = bayes.sample(clustered, key=key, likelihood=bayes.StudentT(), draws=500)
    assert band.law_high - band.law_low > 0
    assert js.predict(simple, N=1e9, D=1e11).run_high > simple.draws["E"].min()
    draws, rng = post.draws, np.random.default_rng(0)
    law = np.asarray(js.laws.chinchilla(1e9, 1e11, **draws.params))
    noise, many = post.noise, (40, len(law))
    r = noise["sd_model"] * rng.normal(size=many)
    r += noise["scale"] * rng.standard_t(noise["df"], size=many)
    brute = np.quantile(law * np.exp(r), [0.05, 0.95])
    assert (float(band.run_low), float(band.run_high)) == pytest.approx(brute, rel=1e-3)


@pytest.mark.slow
def test_repeated_runs_separate_seeds_from_misfit(key):
    """A law that bends where the model does not: misfit is large, the seeds' noise is small."""
    rng = np.random.default_rng(2)
    x = np.repeat(np.geomspace(1e3, 1e8, 12), 4)
    bend = 0.03 * np.sin(3 * np.log10(x))
    loss = 4.0 * x**-0.1 * np.exp(bend + 0.004 * rng.normal(size=48))
    runs = js.Runs.from_arrays(x=x, loss=loss)
    fit = js.fit(js.laws.power_law, runs, objective=js.LogGaussian(), restarts=16, key=key)
    post = bayes.sample(fit, key=key, effects={"misfit": ("x",)})
    assert post.ok
    assert post.noise["scale"].mean() == pytest.approx(0.004, rel=0.35)
    assert post.noise["sd_misfit"].mean() == pytest.approx(bend.std(), rel=0.5)


@pytest.mark.slow
def test_outliers_and_scale_by(clustered, key):
    post = bayes.sample(
        clustered, key=key, likelihood=js.LogGaussian(), outliers=True, scale_by="C", draws=400
    )
    assert {"outlier_share", "outlier_factor", "scale_slope"} <= set(post.noise)
    draws, rng = post.draws, np.random.default_rng(0)
    law = np.asarray(js.laws.chinchilla(1e10, 1e12, **draws.params))
    noise, many = post.noise, (100, len(law))
    center = np.log(6 * clustered.runs.inputs["N"] * clustered.runs.inputs["D"]).mean()
    scale = noise["scale"] * np.exp(noise["scale_slope"] * (np.log(6e22) - center))
    far = rng.uniform(size=many) < noise["outlier_share"]
    r = scale * np.where(far, 1 + noise["outlier_factor"], 1) * rng.normal(size=many)
    band = js.predict(post, N=1e10, D=1e12, level=0.9)
    brute = np.quantile(law * np.exp(-r), [0.05, 0.95])
    assert (float(band.run_low), float(band.run_high)) == pytest.approx(brute, rel=1e-3)


@pytest.mark.slow
def test_errors_of_inputs_widen_the_posterior(key):
    """x known to 30% only: exact inference for a linear model with normal errors of the input."""
    rng = np.random.default_rng(3)
    true = np.geomspace(1e3, 1e7, 30)
    x = true * np.exp(0.3 * rng.normal(size=30))
    loss = 4.0 * true**-0.2 * np.exp(0.01 * rng.normal(size=30))
    runs = js.Runs.from_arrays(x=x, loss=loss)
    fit = js.fit(js.laws.power_law, runs, objective=js.LogGaussian(), restarts=16, key=key)
    post = bayes.sample(fit, key=key, input_error={"x": 0.3})
    assert post.verdict.codes[0] == "converged"
    # Noise of log loss is alpha 0.3 from the input and little else.
    assert post.noise["scale"].mean() < 0.6 * fit.noise_scale()
    assert 0.19 < post.params["alpha"].mean() < 0.21


def test_accuracies(key):
    """Error rates of 500 questions; the law is the probability itself."""
    rng = np.random.default_rng(4)
    x = np.geomspace(1e3, 1e7, 25)
    share = 0.1 + 2.0 * x**-0.25
    trials = rng.integers(100, 900, size=25)
    loss = rng.binomial(trials, share) / trials
    runs = js.Runs.from_arrays(x=x, loss=loss)
    fit = js.fit(js.laws.power_law_offset, runs, restarts=64, key=key)
    post = bayes.sample(fit, key=key, likelihood=bayes.Binomial(trials), target_accept=0.98)
    assert post.verdict.codes[0] == "converged"
    low, high = post.draws.interval("E", 0.99)
    assert low < 0.1 < high
    assert np.isnan(post.scale).all()
    band = js.predict(post, x=1e5, level=0.9)
    law = np.asarray(post.law(1e5, **post.params))
    brute = rng.binomial(int(np.median(trials)), np.tile(law, (50, 1))) / np.median(trials)
    assert (float(band.run_low), float(band.run_high)) == pytest.approx(
        np.quantile(brute, [0.05, 0.95]), abs=1.5 / np.median(trials)
    )


def test_bad_options_are_one_sentence(clustered):
    for options, message in (
        ({"likelihood": "student"}, "likelihood must be"),
        ({"likelihood": bayes.Binomial(100)}, "above 1"),
        ({"likelihood": bayes.Binomial(100), "outliers": True}, "counts do not have"),
        ({"likelihood": bayes.Binomial([1, 2])}, "as many trials"),
        ({"scale_by": "width"}, "scale_by"),
        ({"effects": {"N": "N"}}, "name of its own"),
        ({"effects": {"size": np.arange(48)}}, "one run"),
        ({"effects": {"run": "N"}}, "name of its own"),
        ({"input_error": {"x": 0.1}}, "no input 'x'"),
        ({"input_error": {"N": 3}}, "relative error"),
    ):
        with pytest.raises(js.DataError, match=message):
            bayes.model(clustered, **options)
    with pytest.raises(js.JaxscaleError, match="df must be positive"):
        bayes.StudentT(-1.0)
    with pytest.raises(js.JaxscaleError, match="trials"):
        bayes.Binomial(0)


def test_names_of_the_noise_are_refused_as_parameters(clustered, key):
    @js.law(E=js.positive(0.5, 3.0), scale=js.positive(0.1, 3.0, unit="N**gamma"),
            gamma=js.real(0.05, 1.5))  # fmt: skip
    def named(N, *, E, scale, gamma):
        """L(N) = E + scale N^-gamma"""
        return E + scale * N**-gamma

    fit = js.fit(named, clustered.runs, restarts=16, key=key)
    with pytest.raises(js.LawError, match="rename"):
        bayes.model(fit)


def test_runs_of_weight_zero_may_be_out_of_reach_of_the_law(key):
    """A line that is negative where nothing counts: density and gradient are those of the rest."""

    @js.law(a=js.positive(1.0, 6.0), b=js.positive(0.1, 1.0))
    def falling(x, *, a, b):
        """L(x) = a - b log x"""
        return a - b * jnp.log(x)

    rng = np.random.default_rng(0)
    x = np.geomspace(1.5, 30.0, 12)
    loss = (4.0 - np.log(x)) * np.exp(0.01 * rng.normal(size=12))
    far = js.Runs.from_arrays(
        x=np.append(x, 1e4), loss=np.append(loss, 1.0), weight=np.append(np.ones(12), 0.0)
    )
    near = js.Runs.from_arrays(x=x, loss=loss)
    gradients = []
    best = js.fit(falling, near, objective=js.LogGaussian(), restarts=16, key=key)
    for runs in (near, far):
        fit = dataclasses.replace(best, runs=runs)
        model = bayes.model(fit)
        axes = frame(model.law, model.table, jnp.asarray(fit.free))
        z = {"main": jnp.full(3, 0.1)}
        gradients.append(jax.grad(lambda z, m=model, a=axes: Target(m.law)((m.table, a), z))(z))
    np.testing.assert_allclose(gradients[1]["main"], gradients[0]["main"], rtol=1e-5)


@pytest.mark.slow
def test_effects_much_wider_than_a_sharp_noise(key):
    """The band of a new run of Huber noise with effects, against simulation."""
    rng = np.random.default_rng(7)
    x, group = np.geomspace(1e3, 1e7, 48), np.repeat(np.arange(12), 4)
    loss = 4.0 * x**-0.1 * np.exp(0.05 * rng.normal(size=12)[group] + 0.001 * rng.normal(size=48))
    runs = js.Runs.from_arrays(x=x, loss=loss, cluster=group)
    fit = js.fit(js.laws.power_law, runs, restarts=16, key=key)
    post = bayes.sample(fit, key=key, effects={"group": "cluster"}, draws=400)
    law = np.asarray(js.laws.power_law(1e5, **post.params))
    many = (200, len(law))
    u = rng.uniform(1e-9, 1 - 1e-9, size=many)
    r = np.asarray(fit.objective.ppf(jnp.asarray(u), jnp.asarray(post.scale)))
    r = r + post.noise["sd_group"] * rng.normal(size=many)
    for level in (0.5, 0.9):
        band = js.predict(post, x=1e5, level=level)
        brute = np.quantile(law * np.exp(-r), [(1 - level) / 2, (1 + level) / 2])
        assert (float(band.run_low), float(band.run_high)) == pytest.approx(brute, rel=2e-3)
