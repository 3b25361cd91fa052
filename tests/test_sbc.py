"""Simulation-based calibration and coverage: posteriors are right, and wrong ones are caught."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import bayes as package
import jaxscale as js
from bayes._many import sample_many
from bayes._model import scalar_sites
from jaxscale import bayes

SIMS, DRAWS, THIN = 120, 49, 4


@pytest.fixture(scope="module")
def line():
    """A power law with Gaussian noise in log loss."""
    rng = np.random.default_rng(5)
    x = np.geomspace(1e2, 1e6, 16)
    loss = 4.0 * x**-0.15 * np.exp(0.05 * rng.normal(size=16))
    runs = js.Runs.from_arrays(x=x, loss=loss)
    return js.fit(
        js.laws.power_law, runs, objective=js.LogGaussian(), restarts=16, key=jax.random.key(0)
    )


@dataclasses.dataclass
class Recorded:
    """NUTS, kept, so that wrong samplers can be made of it."""

    u: dict = None

    def __call__(self, law, tables, theta, key):
        found = sample_many(law, tables, theta, key, chains=1, warmup=200, draws=DRAWS * THIN)
        self.u = {name: x[:, 0, THIN - 1 :: THIN] for name, x in found.u.items()}
        return self.u


@pytest.fixture(scope="module")
def right(line, key):
    sampler = Recorded()
    return sampler, bayes.sbc(line, sims=SIMS, sampler=sampler, key=key)


def again(line, key, change):
    """The same tables, and draws that are changed."""
    return bayes.sbc(line, sims=SIMS, key=key, sampler=lambda law, tables, theta, k: change(tables))


def test_correct_posteriors_pass(right):
    """Fails for one key in 20; this key is that of all tests."""
    found = right[1]
    assert package.sbc is bayes.sbc
    assert isinstance(found, bayes.SBC)
    assert found.ok
    assert list(found.frame()["quantity"]) == ["A", "alpha", "scale", "log likelihood"]
    assert all(x.shape == (SIMS,) for x in found.ranks.values())
    assert all(0 <= x.min() and x.max() <= DRAWS for x in found.ranks.values())
    assert found.draws == DRAWS
    at, low, high = found.band()
    share = np.mean(found.ranks["alpha"][:, None] < np.round(at * (DRAWS + 1)), axis=0)
    assert ((share >= low) & (share <= high)).all()
    assert "are uniform" in repr(found)
    assert "<table" in found._repr_html_()


def test_posteriors_that_are_too_narrow_are_caught(line, right, key):
    u = right[0].u["main"]
    center = u.mean(1, keepdims=True)
    found = again(line, key, lambda tables: {"main": center + 0.6 * (u - center)})
    assert not found.ok
    table = found.frame().set_index("quantity")
    assert not table.loc["alpha", "ok"]
    assert table.loc["alpha", "spread"] > 1.1
    assert any("alpha are too narrow" in each for each in found.sentences)


def test_posteriors_that_are_shifted_are_caught(line, right, key):
    u = right[0].u["main"]
    found = again(line, key, lambda tables: {"main": u + 0.7 * u.std(1, keepdims=True)})
    assert any("alpha are too high" in each for each in found.sentences)


def test_posteriors_that_ignore_their_runs_are_caught(line, key):
    """The prior itself: its draws rank the parameters about evenly, but not the likelihood."""

    def prior(tables):
        shape = (SIMS, DRAWS)
        keys = jax.random.split(key, len(scalar_sites(tables)))
        drawn = [
            jnp.log(chosen.sample(k, shape)) if site == "scale" else chosen.sample(k, shape)
            for site, k in zip(scalar_sites(tables), keys, strict=True)
            for chosen in [bayes.model(line).table.priors[site]]
        ]
        return {"main": np.stack(drawn, axis=-1)}

    table = again(line, key, prior).frame().set_index("quantity")
    assert not table.loc["log likelihood", "ok"]


def test_a_wrong_likelihood_is_caught(line, key):
    """A scale that is believed to be known, and is half of what it is."""

    def sampler(law, tables, theta, k):
        half = dataclasses.replace(tables, loss=tables.loss, priors=dict(tables.priors))
        loc = jnp.full(SIMS, np.log(0.02))
        half.priors["scale"] = jax.vmap(lambda m: dist.LogNormal(m, 0.01))(loc)
        found = sample_many(law, half, theta, k, chains=1, warmup=200, draws=DRAWS * THIN)
        return {name: x[:, 0, THIN - 1 :: THIN] for name, x in found.u.items()}

    priors = {"scale": dist.LogNormal(np.log(0.05), 0.01)}
    found = bayes.sbc(line, sims=SIMS, sampler=sampler, priors=priors, key=key)
    table = found.frame().set_index("quantity")
    assert not table.loc["alpha", "ok"]
    assert any("alpha are too narrow" in each for each in found.sentences)


def test_priors_that_expect_no_runs_are_refused(line, key):
    with pytest.raises(js.DataError, match="nearer to the runs"):
        bayes.sbc(line, priors={"A": dist.LogNormal(20.0, 0.1)}, key=key)
    with pytest.raises(js.DataError, match="at least 20 tables"):
        bayes.sbc(line, sims=3, key=key)


@pytest.mark.slow
def test_posterior_method_gives_the_posterior_of_every_table(line, key):
    """Least squares per table: means agree to a fifth of a standard deviation."""
    method = bayes.posterior_method(draws=300, chains=2)
    assert isinstance(method, js.IntervalMethod)
    assert method.name == "posterior"
    rng = np.random.default_rng(3)
    x = np.asarray(line.runs.inputs["x"])
    loss = 4.0 * x**-0.15 * np.exp(0.05 * rng.normal(size=(5, 16)))
    draws = method(line, loss, key=key)
    assert {name: values.shape for name, values in draws.items()} == {
        "A": (5, 600), "alpha": (5, 600)
    }  # fmt: skip
    slope = -np.polyfit(np.log(x), np.log(loss).T, 1)[0]
    sd = draws["alpha"].std(1)
    assert np.abs(draws["alpha"].mean(1) - slope).max() < 0.2 * sd.max()
    with pytest.raises(js.DataError, match="at least 1 chain"):
        bayes.posterior_method(chains=0)


def ranks_are_uniform(found):
    """Chi-square p above 0.001 over the number of quantities: fails once in 1,000 studies."""
    print(found)
    assert (found.frame()["chi2_p"] > 1e-3 / len(found.ranks)).all()
    assert (found.frame()["ecdf_p"] > 1e-3 / len(found.ranks)).all()


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", [js.LogGaussian(), bayes.StudentT()], ids=str)
def test_ranks_of_an_offset_law_are_uniform(likelihood, key):
    rng = np.random.default_rng(3)
    x = np.geomspace(1e2, 1e6, 24)
    loss = (1.7 + 3 * x**-0.3) * np.exp(0.02 * rng.normal(size=24))
    runs = js.Runs.from_arrays(x=x, loss=loss)
    fit = js.fit(js.laws.power_law_offset, runs, restarts=64, key=key)
    ranks_are_uniform(bayes.sbc(fit, likelihood=likelihood, sims=160, key=key))


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", [js.LogGaussian(), bayes.StudentT()], ids=str)
def test_ranks_of_chinchilla_are_uniform(simulated_fit, likelihood, key):
    """Exponents to within a third: with the default's factor of three, chains are slow."""
    priors = {"alpha": dist.LogNormal(np.log(0.35), 0.3), "beta": dist.LogNormal(np.log(0.37), 0.3)}
    found = bayes.sbc(simulated_fit, likelihood=likelihood, priors=priors, sims=200, key=key)
    ranks_are_uniform(found)


@pytest.mark.slow
def test_posterior_intervals_cover_what_they_say(simulated_fit, key):
    """200 tables: 3.5 Monte Carlo errors, passed by nine true coverages in all but 0.4% of keys."""
    fit = js.fit(
        js.laws.chinchilla, simulated_fit.runs, objective=js.LogGaussian(), restarts=128, key=key
    )
    study = js.calibrate(
        fit, methods=["hessian", bayes.posterior_method()], quantities=["a", "alpha", "E"],
        levels=[0.5, 0.8, 0.95], sims=200, key=key,
    )  # fmt: skip
    print(study)
    table = study.frame()
    assert (table["failed"] == 0).all()
    mine = table[table["method"] == "posterior"]
    error = np.sqrt(mine["level"] * (1 - mine["level"]) / 200)
    assert (np.abs(mine["coverage"] - mine["level"]) < 3.5 * error).all()
