"""Checks of a posterior: quiet when the model is true, and right about what is wrong with it."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import bayes as package
import jaxscale as js
from bayes._check import loo_pit
from bayes._discrepancy import quantities, residuals
from bayes._many import sample_many
from bayes._target import lanes_of
from bayes._uniform import envelope, uniform_p
from jaxscale import bayes

TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
NOISE = 0.01
RUNS = 50


def design():
    """Five isoFLOP curves of nine sizes and one of five, within a factor of six of the best N."""
    budget = np.geomspace(1e18, 3e21, 6)
    N = [0.2 * np.sqrt(c / 6) * np.geomspace(1 / 6, 6, 5 if c > 2e21 else 9) for c in budget]
    C = np.repeat(budget, [9, 9, 9, 9, 9, 5])
    N = np.concatenate(N)
    return N, C / (6 * N)


def posteriors(tables, fit, key, draws, chains=1, warmup=300):
    """Posteriors of lanes of tables that differ in losses or priors."""
    made = bayes.model(fit, likelihood=js.LogGaussian())
    lanes = len(tables.loss)
    theta = jnp.broadcast_to(jnp.asarray(fit.free), (lanes, len(fit.free)))
    found = sample_many(fit.law, tables, theta, key, chains=chains, warmup=warmup, draws=draws)
    return [
        bayes.Posterior(
            model=dataclasses.replace(made, table=jax.tree.map(lambda x, i=i: x[i], tables)),
            u={name: x[i] for name, x in found.u.items()},
            stats={name: x[i] for name, x in found.stats.items()},
            method="NUTS",
            verdict=fit.verdict,
            key=jax.random.fold_in(key, i),
        )
        for i in range(lanes)
    ]


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(4)
    N, D = design()
    loss = np.asarray(js.laws.chinchilla(N, D, **TRUTH)) * np.exp(NOISE * rng.normal(size=RUNS))
    runs = js.Runs.from_arrays(N=N, D=D, loss=loss)
    return js.fit(
        js.laws.chinchilla, runs, objective=js.LogGaussian(), restarts=64, key=jax.random.key(1)
    )


def wrongs():
    """Factors on log loss that a law cannot explain, by what should notice."""
    N, D = design()
    size = np.log(N * D)
    z = (size - size.mean()) / size.std()
    budget = np.round(size - size.min(), 6)
    code = np.unique(budget, return_inverse=True)[1]
    return {
        "true": np.zeros(RUNS),
        "curvature in C": 0.03 * (z**2 - 1),
        "largest runs": 0.05 * (code == 5),
        "largest residual": 0.09 * (np.arange(RUNS) == 20),
        "same C": 0.03 * np.array([1, -1, -1, 1, 1, -1])[code],
    }


@pytest.fixture(scope="module")
def checks(fit, key):
    """One check for every wrong, and for priors that are too sure; sampled in one call."""
    table = bayes.model(fit, likelihood=js.LogGaussian()).table
    each = {name: {"loss": table.loss * np.exp(wrong)} for name, wrong in wrongs().items()}
    sure = dist.LogNormal(jnp.asarray(np.log(0.3 * NOISE)), jnp.asarray(0.02))
    far = dist.Normal(jnp.asarray(np.log(0.6)), jnp.asarray(0.08))
    each["overconfident"] = {"priors": {**table.priors, "scale": sure}}
    each["conflict"] = {"priors": {**table.priors, "free_alpha": far}}
    lanes = [dataclasses.replace(table, **changes) for changes in each.values()]
    tables = jax.tree.map(lambda *x: jnp.stack(x), *lanes)
    found = posteriors(tables, fit, key, draws=400)
    return {name: (post, bayes.check(post)) for name, post in zip(each, found, strict=True)}


def row(found, name):
    return found.frame().set_index("check").loc[name]


def test_both_names_are_the_same(checks):
    assert package.check is bayes.check
    assert isinstance(checks["true"][1], bayes.Check)


def test_a_true_model_passes(checks):
    """Fails by chance for one simulated table in 20; this one was not chosen, but is fixed."""
    found = checks["true"][1]
    assert found.ok
    assert found.sentences == (f"All {len(found.frame())} checks passed.",)
    assert {"isoFLOP minima", "trend in C", "neighbors"} <= set(found.frame()["check"])
    assert found.pit.shape == found.khat.shape == (RUNS,)
    assert ((found.pit > 0) & (found.pit < 1)).all()
    assert set(found.sensitivity["diagnosis"]) == {"ok"}
    assert set(found.sensitivity["quantity"]) == {*TRUTH, "scale"}
    assert "passed" in repr(found)
    assert "<table" in found._repr_html_()


@pytest.mark.parametrize("what", [name for name in wrongs() if name != "true"])
def test_what_a_law_cannot_explain_is_found(checks, what):
    found = checks[what][1]
    assert not found.ok
    here = row(found, what)
    assert not here["ok"]
    assert here["p"] < 0.005
    assert here["sentence"] in found.sentences
    assert len(found.observed[what]) == len(found.replicated[what])


def test_sentences_say_which_way(checks):
    assert (
        "bend up at both ends of C" in row(checks["curvature in C"][1], "curvature in C").sentence
    )
    largest = row(checks["largest runs"][1], "largest runs")
    assert largest["value"] > 0
    assert "above the law" in largest.sentence
    assert "row 21" in row(checks["largest residual"][1], "largest residual").sentence


def test_overconfidence_is_flagged(checks):
    found = checks["overconfident"][1]
    uniform = row(found, "uniform")
    assert uniform["p"] < 1e-3, (uniform, found)
    assert "overconfident" in uniform.sentence
    assert "overconfident" in "".join(found.sentences)


def test_a_prior_that_fights_the_runs_is_flagged(checks):
    found = checks["conflict"][1]
    table = found.sensitivity.set_index("quantity")
    assert table.loc["alpha", "diagnosis"] == "prior-data conflict"
    assert table.loc["alpha", "because_of"] == "alpha"
    assert "prior of alpha" in row(found, "prior sensitivity").sentence
    assert not row(found, "prior sensitivity")["ok"]


def test_a_prior_at_odds_with_the_losses_is_flagged(checks):
    """Checks of the prior need no draws of a posterior, so that those of another one will do."""
    post = checks["true"][0]
    priors = {**post.model.table.priors, "free_E": dist.Normal(np.log(300.0), 0.1)}
    table = dataclasses.replace(post.model.table, priors=priors)
    there = dataclasses.replace(post, model=dataclasses.replace(post.model, table=table))
    found = bayes.check(there)
    assert not row(found, "typical loss")["ok"]
    assert not row(found, "plausible share")["ok"]
    assert "at odds with the runs" in row(found, "typical loss").sentence


def test_what_the_law_absorbs_is_no_finding(checks):
    """Another alpha, as residuals: nothing of it is left."""
    post = checks["true"][0]
    u = {"main": post.u["main"].reshape(-1, post.u["main"].shape[-1])[:50]}
    found = residuals(post.model, u, jax.random.key(0))
    N, D = design()
    moved = np.log(js.laws.chinchilla(N, D, **{**TRUTH, "alpha": 0.3502}))
    moved = (moved - np.log(js.laws.chinchilla(N, D, **TRUTH))) / found.width
    assert np.abs(moved @ found.outside).max() < 0.02 * np.abs(moved).max()
    # ... so that the residuals hardly depend on the draw of the parameters.
    assert found.observed.std(0).max() < 0.25
    assert found.replicated.std(0).min() > 0.5


def test_isoflop_minima_move_with_a_tilt(checks):
    post = checks["true"][0]
    u = {"main": post.u["main"].reshape(-1, post.u["main"].shape[-1])[:5]}
    found = residuals(post.model, u, jax.random.key(0))
    minima = next(each for each in quantities(found) if each.name == "isoFLOP minima")
    assert minima.of(np.zeros((2, RUNS))) == pytest.approx(0, abs=1e-12)
    tilt = 0.01 * np.log(found.inputs["N"] / 1e9) / found.width
    assert minima.of(tilt[None])[0] < -0.01
    assert "smaller" in minima.sentence(minima.of(tilt[None])[0])


@pytest.fixture(scope="module")
def line(key):
    """A power law with Gaussian noise in log loss: a linear model, of which theory knows all."""
    rng = np.random.default_rng(8)
    x = np.geomspace(1e2, 1e6, 40)
    loss = 4.0 * x**-0.15 * np.exp(0.05 * rng.normal(size=40))
    weight = np.ones(40)
    weight[7] = 0
    runs = js.Runs.from_arrays(x=x, loss=loss, weight=weight)
    fit = js.fit(js.laws.power_law, runs, objective=js.LogGaussian(), restarts=16, key=key)
    return bayes.sample(fit, key=key, draws=500, chains=2)


def test_loo_pit_is_that_of_studentized_residuals(line):
    """Under a flat prior, the PIT of run i is t_{n-3} at its externally studentized residual.

    The priors are flat on the scale of this posterior but for two degrees of freedom.
    """
    keep = np.asarray(line.fit.runs.weight) > 0
    x = np.log(np.asarray(line.fit.runs.inputs["x"]))[keep]
    y = np.log(np.asarray(line.fit.runs.loss))[keep]
    n, design = len(y), np.column_stack([np.ones_like(x), x])
    hat = design @ np.linalg.pinv(design)
    r, h = y - hat @ y, np.diag(hat)
    scale = np.sqrt((r @ r - r**2 / (1 - h)) / (n - 3))
    expected = scipy.stats.t.cdf(r / scale / np.sqrt(1 - h), n - 3)
    pit, khat = loo_pit(line, jax.random.key(0))
    assert pit == pytest.approx(expected, abs=0.02)
    assert khat.max() < 0.7


def test_a_law_of_one_input_is_checked_against_it(line):
    found = bayes.check(line, key=jax.random.key(3))
    names = set(found.frame()["check"])
    assert {"largest runs", "curvature in x", "neighbors"} <= names
    assert "trend in x" not in names  # the law is a line: it has none
    assert len(found.pit) == 39
    assert found.ok


@pytest.mark.slow
def test_counts_are_checked(key):
    """Few questions: the values of leave-one-out must be randomized to be uniform."""
    rng = np.random.default_rng(5)
    x = np.geomspace(1e2, 1e6, 60)
    share = 0.8 * (x / 1e2) ** -0.15
    runs = js.Runs.from_arrays(x=x, loss=np.maximum(rng.binomial(30, share), 1) / 30)
    fit = js.fit(js.laws.power_law, runs, restarts=16, key=key)
    post = bayes.sample(fit, likelihood=bayes.Binomial(30), key=key, draws=300, chains=2)
    assert bayes.check(post).ok


def test_bad_requests_say_what_is_wrong(checks, key):
    with pytest.raises(js.DataError, match="alpha must lie"):
        bayes.check(checks["true"][0], alpha=5)
    post = checks["true"][0]
    weight = jnp.where(jnp.arange(RUNS) < 6, 1.0, 0.0)
    table = dataclasses.replace(post.model.table, weight=weight)
    few = dataclasses.replace(post, model=dataclasses.replace(post.model, table=table))
    with pytest.raises(js.DataError, match="6 runs leave no residuals"):
        bayes.check(few)


def test_the_same_key_gives_the_same_check(checks):
    post, found = checks["true"]
    again = bayes.check(post)
    np.testing.assert_array_equal(again.frame()["p"], found.frame()["p"])


def test_the_test_of_uniformity_fails_as_often_as_it_says():
    """2,000 uniform samples: p below 0.05 in 5%, to within four Monte Carlo errors of 0.5%."""
    rng = np.random.default_rng(1)
    p = np.array([uniform_p(rng.uniform(size=50)) for _ in range(2000)])
    assert abs((p < 0.05).mean() - 0.05) < 0.02
    ranks = rng.integers(0, 20, (2000, 50)) / 20
    p = np.array([uniform_p(each, 20) for each in ranks])
    assert (p < 0.05).mean() < 0.07
    assert uniform_p(rng.beta(2, 2, size=300)) < 1e-3
    assert uniform_p(rng.beta(0.5, 0.5, size=300)) < 1e-3


def test_the_band_holds_whole_distribution_functions():
    rng = np.random.default_rng(2)
    at, low, high = envelope(80, cells=40, level=0.9)
    share = (rng.uniform(size=(3000, 80, 1)) <= at).mean(1)
    inside = ((share >= low) & (share <= high)).all(1)
    assert 0.88 < inside.mean() < 0.95


@pytest.mark.slow
def test_p_values_are_uniform_when_the_model_is_true(fit, key):
    """200 tables from one truth: every check fails at 5% as often as it says, and few at 0.5%.

    LOO-PIT and the largest residual may fail less often. Kolmogorov-Smirnov p of the others above
    1e-3 each: fails once in 150 studies.
    """
    N, D = design()
    rng = np.random.default_rng(11)
    truth = np.asarray(js.laws.chinchilla(N, D, **TRUTH))
    table = bayes.model(fit, likelihood=js.LogGaussian()).table
    losses = truth * np.exp(NOISE * rng.normal(size=(200, RUNS)))
    tables = eqx.tree_at(lambda t: t.loss, lanes_of(table, 200), jnp.asarray(losses))
    found = [bayes.check(post) for post in posteriors(tables, fit, key, draws=500)]
    p = {}
    for each in found:
        for name, value in each.frame().set_index("check")["p"].dropna().items():
            p.setdefault(name, []).append(value)
    for name in ("typical loss", "range of losses"):
        p.pop(name)
    for name, values in p.items():
        print(name, np.mean(np.array(values) < 0.05), scipy.stats.kstest(values, "uniform").pvalue)
        assert np.mean(np.array(values) < 0.05) < 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / 200)
        if name not in ("uniform", "largest residual"):
            assert scipy.stats.kstest(values, "uniform").pvalue > 1e-3
    failed = [not each.frame().set_index("check").loc[list(p), "ok"].all() for each in found]
    print("failed", np.mean(failed))
    assert np.mean(failed) < 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / 200)
