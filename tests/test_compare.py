"""Comparing posteriors: scores equal closed forms and refits, true laws win, averages are fair."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import multivariate_normal, norm

import jaxscale as js
from bayes._folds import Sampling, predict_left_out
from bayes._scoring import psis_loo
from jaxscale import bayes
from jaxscale._average import average, counts
from jaxscale.folds import clusters, future, single
from jaxscale.scores import stacking_weights, standard_error, verdict

SIGMA, TAU = 0.05, 0.08
FEW = Sampling(chains=2, warmup=300, draws=600)


# A line in logs with a known noise scale: every predictive density has a closed form.


@pytest.fixture(scope="module")
def line():
    """24 runs of a power law in 6 clusters, each of them shifted as a whole."""
    rng = np.random.default_rng(5)
    x = np.geomspace(1e2, 1e6, 24)
    cluster = np.tile(np.arange(6), 4)
    noise = SIGMA * rng.normal(size=24) + TAU * rng.normal(size=6)[cluster]
    return js.Runs.from_arrays(x=x, loss=4.0 * x**-0.15 * np.exp(noise), cluster=cluster)


@pytest.fixture(scope="module")
def line_fit(line, key):
    return js.fit(js.laws.power_law, line, objective=js.LogGaussian(), restarts=16, key=key)


def known(value):
    return dist.LogNormal(np.log(value), 1e-3)


@pytest.fixture(scope="module")
def plain(line_fit):
    """The model without effects, of known scale."""
    return bayes.model(line_fit, priors={"scale": known(SIGMA)})


@pytest.fixture(scope="module")
def grouped(line_fit):
    """The model with an effect of the cluster, of known scales."""
    priors = {"scale": known(SIGMA), "sd_group": known(TAU)}
    return bayes.model(line_fit, effects={"group": "cluster"}, priors=priors)


@pytest.fixture(scope="module")
def posteriors(plain, grouped, key):
    # As many chains as six refits have, and as long a warmup, so that no program is compiled twice.
    return {
        name: bayes.sample(each, key=key, draws=200, warmup=FEW.warmup_of(each), chains=12)
        for name, each in (("plain", plain), ("grouped", grouped))
    }


def closed_form(model, folds, jointly):
    """Log predictive densities of log-linear runs by conditioning a normal distribution."""
    fit, runs = model.fit, model.fit.runs
    log_x = np.log(runs.inputs["x"]) - float(fit.log_refs["x"])
    design = np.stack([np.ones(24), -log_x], axis=1)
    middle = np.array([float(param.start(0.5)) for _, param in fit.law.params])
    width = np.array([param.prior_scale for _, param in fit.law.params])
    same = np.equal.outer(runs.cluster, runs.cluster) * (TAU**2 if model.table.centering else 0.0)
    cov = design * width**2 @ design.T + same + SIGMA**2 * np.eye(24)
    centered = np.log(runs.loss) - float(fit.log_refs["loss"]) - design @ middle
    found = []
    for held, seen in zip(folds.held, folds.seen, strict=True):
        gain = np.linalg.solve(cov[np.ix_(seen, seen)], cov[np.ix_(seen, held)]).T
        mean = gain @ centered[seen]
        left = cov[np.ix_(held, held)] - gain @ cov[np.ix_(seen, held)]
        logs = np.log(runs.loss)[held]
        if jointly:
            joint = multivariate_normal.logpdf(centered[held], mean, left)
            found.append([joint - logs.sum()])
        else:
            found.append(norm.logpdf(centered[held], mean, np.sqrt(np.diag(left))) - logs)
    return np.concatenate(found)


@pytest.mark.parametrize("name", ["plain", "grouped"])
def test_importance_sampling_equals_the_closed_form(posteriors, name):
    found = psis_loo(posteriors[name])
    model = posteriors[name].model
    exact = closed_form(model, single(model.fit.runs, np.arange(24)), jointly=False)
    assert found.khat.max() < 0.8
    assert found.elpd == pytest.approx(exact, abs=0.15)
    assert found.elpd.sum() == pytest.approx(exact.sum(), abs=0.5)
    assert 1.0 < found.p_loo.sum() < 9.0


@pytest.fixture(scope="module")
def by_cluster(posteriors, key):
    return bayes.compare(posteriors, method="cluster", key=key)


@pytest.mark.parametrize("name", ["plain", "grouped"])
def test_clusters_left_out_equal_the_closed_form(by_cluster, line, name):
    model = by_cluster.posteriors[name].model
    exact = closed_form(model, clusters(line, "cluster"), jointly=True)
    assert list(by_cluster.pointwise["runs"]) == [4] * 6
    elpd = by_cluster.table.set_index("model").loc[name]
    assert elpd["refits"] == 6
    assert 0 < elpd["error"] < 0.5
    # The error of a log mean of skewed densities is itself known to a factor of two at best.
    within = 6 * elpd["error"]
    assert by_cluster.pointwise[name].to_numpy() == pytest.approx(exact, abs=within)
    assert elpd["elpd"] == pytest.approx(exact.sum(), abs=within)


def test_runs_left_out_equal_the_closed_form(plain, line, key):
    # Six folds again, and the same compiled program.
    some = single(line, np.array([0, 5, 9, 13, 18, 23]))
    for folds in (some, future(line, share=0.7, blocks=6)):
        scores = predict_left_out(plain, folds, FEW, key, jointly=False)
        exact = closed_form(plain, folds, jointly=False)
        assert len(folds) == 6
        assert scores.value.shape == exact.shape
        # Draws of a chain count a little less than independent ones.
        assert (np.abs(scores.value - exact) < 6 * scores.error + 0.03).all()
        assert scores.error.max() < 0.3


def test_leaving_clusters_out_tells_what_leaving_runs_out_hides(posteriors, by_cluster):
    by_run = bayes.compare(posteriors)
    assert by_run.best == by_cluster.best == "grouped"
    run, cluster = (x.table.set_index("model") for x in (by_run, by_cluster))
    # The rest of its cluster says a lot about a run, but nothing if all of it is left out.
    assert run.loc["grouped", "elpd"] > cluster.loc["grouped", "elpd"] + 3
    assert run.loc["plain", "difference"] < -10
    assert any("fewer than 100 clusters" in note for note in by_cluster.notes)


def test_runs_of_high_k_hat_are_refitted(posteriors, key):
    only = {"plain": posteriors["plain"]}
    values = np.array(only["plain"].described.log_likelihood)
    spoiled = dataclasses.replace(only["plain"])
    rng = np.random.default_rng(0)
    some = [1, 3, 8, 12, 20, 22]
    values[..., some] += 3 * rng.standard_cauchy(values.shape[:2])[..., None].clip(-60, 0)
    object.__setattr__(spoiled, "described", spoiled.described._replace(log_likelihood=values))
    assert set(np.flatnonzero(psis_loo(spoiled).khat > 0.7)) == set(some)
    mended = bayes.compare({"plain": spoiled}, key=key)
    right = bayes.compare(only)
    assert mended.table["refits"].item() == 6
    assert mended.table["elpd"].item() == pytest.approx(right.table["elpd"].item(), abs=0.3)
    without = bayes.compare({"plain": spoiled})
    assert without.table["refits"].item() == 0
    assert "give key=" in without.notes[0]


# Folds.


def test_blocks_of_the_future_by_hand():
    runs = js.Runs.from_arrays(
        N=np.ones(10), D=np.array([1, 2, 3, 4, 5, 6, 6.03, 8, 9, 10.0]), loss=np.ones(10) + 1,
        weight=np.array([1, 1, 0, 1, 1, 1, 1, 1, 1, 1.0]),
    )  # fmt: skip
    folds = future(runs, "D", share=0.45, blocks=2)
    assert folds.names == ("D 6.03 to 8", "D 9 to 10")
    assert folds.held.tolist() == [[False] * 6 + [True] * 2 + [False] * 2, [False] * 8 + [True] * 2]
    # Not the run of weight zero, nor the one of nearly the same size.
    assert np.flatnonzero(folds.seen[0]).tolist() == [0, 1, 3, 4]
    assert np.flatnonzero(folds.seen[1]).tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert future(runs, share=0.45, blocks=2).held.tolist() == folds.held.tolist()
    with pytest.raises(js.DataError, match="one size"):
        future(runs, "N")
    with pytest.raises(js.DataError, match="no input 'x'"):
        future(runs, "x")
    with pytest.raises(js.DataError, match="share"):
        future(runs, share=1.0)


def test_clusters_have_names(line):
    assert clusters(line, None).names[2] == "cluster 2"
    assert clusters(line, list("ab") * 12).names == ("cluster a", "cluster b")
    assert clusters(line, "x").names[0] == "x = 100"
    assert (clusters(line, None).seen == ~clusters(line, None).held).all()


# The score.


def test_stacking_weights_equal_a_grid():
    rng = np.random.default_rng(2)
    value = rng.normal(size=(60, 3)) + np.array([0.3, 0.0, 0.1])
    weight = rng.uniform(0.2, 2.0, 60)
    side = np.linspace(0, 1, 201)
    a, b = (axis.ravel() for axis in np.meshgrid(side, side))
    grid = np.stack([a, b, 1 - a - b], axis=1)[a + b <= 1 + 1e-9].clip(0)
    score = weight @ np.log(np.exp(value) @ grid.T)
    found = stacking_weights(value, weight)
    assert found.sum() == pytest.approx(1)
    assert found == pytest.approx(grid[score.argmax()], abs=0.01)
    assert weight @ np.log(np.exp(value) @ found) >= score.max() - 1e-6


def test_stacking_ignores_what_never_helps():
    value = np.stack([np.linspace(0, 1, 9), np.linspace(-3, -2, 9) - 1000], axis=1)
    assert stacking_weights(value).tolist() == [1.0, 0.0]


def test_a_tie_needs_two_errors_or_four_nats():
    assert verdict(-3.9, 0.1) == "tied"
    assert verdict(-9.0, 5.0) == "tied"
    assert verdict(-4.1, 2.0) == "worse"
    x = np.array([[1.0], [2.0], [4.0], [9.0]])
    alone = standard_error(x, np.arange(4))
    assert alone == pytest.approx(2 * x.std(ddof=1))
    blocks = standard_error(x, np.array([0, 0, 1, 1]))
    assert blocks == pytest.approx(np.sqrt(2) * np.std([3, 13], ddof=1))


# Simulated data: the law that made them wins.


@pytest.fixture(scope="module")
def worlds(key):
    """Posteriors of two laws for two data sets, one made by each."""
    rng = np.random.default_rng(11)
    N = np.exp(rng.uniform(np.log(1e7), np.log(1e10), 50))
    D = np.exp(rng.uniform(np.log(1e9), np.log(1e12), 50))
    truth = {
        "chinchilla": dict(js.published.get("besiroglu_2024").params),
        "kaplan_nd": dict(js.published.get("kaplan_2020_nd").params),
    }
    found = {}
    for name, params in truth.items():
        loss = np.asarray(js.laws.get(name)(N, D, **params)) * np.exp(0.01 * rng.normal(size=50))
        runs = js.Runs.from_arrays(N=N, D=D, loss=loss)
        found[name] = {}
        for law in truth:
            fit = js.fit(js.laws.get(law), runs, objective=js.LogGaussian(), restarts=64, key=key)
            found[name][law] = bayes.sample(fit, key=key, chains=2, draws=300, warmup=250)
    return found


def test_the_true_law_wins(worlds):
    for truth, posteriors in worlds.items():
        found = bayes.compare(posteriors)
        assert found.best == truth
        assert found.table["verdict"].tolist() == ["best", "worse"]
        assert found.weights[truth] > 0.9
        assert "predicts worse than" in repr(found)


@pytest.fixture(scope="module")
def mixed(worlds):
    posteriors = worlds["chinchilla"]
    # So few draws are enough here, whatever the sampler's checks say.
    draws = {name: dataclasses.replace(x.draws, doubt="") for name, x in posteriors.items()}
    return draws, average(draws, {"chinchilla": 0.75, "kaplan_nd": 0.25})


def test_draws_are_taken_in_proportion(mixed):
    draws, averaged = mixed
    assert len(averaged) == 800
    member = averaged.params["model"]
    assert [(member == k).sum() for k in (0, 1)] == [600, 200]
    own = averaged.params["kaplan_nd_alpha_N"]
    assert set(own[member == 1]) <= set(draws["kaplan_nd"].params["alpha_N"])
    assert (own[member == 0] == np.median(draws["kaplan_nd"].params["alpha_N"])).all()
    assert averaged["a"][member == 1] == pytest.approx(draws["kaplan_nd"]["a"][1::3])
    assert counts(np.array([0.5, 0.3, 0.2]), np.array([10, 10, 10])).tolist() == [10, 6, 4]
    assert counts(np.array([1.0, 0.0]), np.array([7, 3])).tolist() == [7, 0]


def test_an_average_of_one_is_that_one(mixed):
    draws, _ = mixed
    alone = average(draws, {"chinchilla": 1.0, "kaplan_nd": 0.0})
    at = {"N": [1e9, 7e10], "D": [2e10, 1.4e12]}
    one, other = js.predict(alone, **at), js.predict(draws["chinchilla"], **at)
    for name in ("mean", "law_low", "law_high", "run_low", "run_high"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-8)
    frontier = js.allocate(alone, flop=[1e21, 1e23])
    assert frontier.N == pytest.approx(js.allocate(draws["chinchilla"], flop=[1e21, 1e23]).N)


def test_an_average_lies_between_its_members(mixed, key):
    draws, averaged = mixed
    each = [js.predict(one, N=1e11, D=1e13) for one in (*draws.values(), averaged)]
    assert min(each[0].mean, each[1].mean) < each[2].mean < max(each[0].mean, each[1].mean)
    assert each[2].run_low >= min(each[0].run_low, each[1].run_low)
    assert each[2].run_high <= max(each[0].run_high, each[1].run_high)
    sizes = [js.allocate(one, flop=1e24).bands["N"] for one in (*draws.values(), averaged)]
    assert min(sizes[0][0], sizes[1][0]) <= sizes[2][0] < sizes[2][1]
    wanted = ["a", js.loss_at(N=1e11, D=1e13)]
    table = js.intervals(averaged.fit, wanted, methods=(), draws=[averaged], key=key)
    assert table["a", averaged.method][0] < table["a", averaged.method][1]
    assert "kaplan_nd (25%)" in repr(averaged)


@pytest.mark.parametrize("raw", [False, True])
def test_the_band_of_a_run_equals_simulation(mixed, raw):
    draws, _ = mixed
    second = draws["kaplan_nd"]
    if raw:  # one member scatters in the loss itself, the other in its log
        scale = 2 * second.scale
        fit = dataclasses.replace(second.fit, objective=js.Gaussian())
        second = dataclasses.replace(second, fit=fit, scale=scale, noise=None)
    averaged = average(
        {"chinchilla": draws["chinchilla"], "kaplan_nd": second},
        {"chinchilla": 0.4, "kaplan_nd": 0.6},
    )
    rng = np.random.default_rng(4)
    which = rng.integers(len(averaged), size=400_000)
    params = {name: values[which] for name, values in averaged.params.items()}
    law = np.asarray(averaged.law(jnp.asarray(2e10), jnp.asarray(3e11), **params))
    noise, scale = rng.normal(size=len(which)), averaged.scale[which]
    additive = raw & (params["model"] == 1)
    loss = np.where(additive, law - scale * noise, law * np.exp(-scale * noise))
    band = js.predict(averaged, N=2e10, D=3e11, level=0.9)
    width = float(band.run_high - band.run_low)
    ends = np.quantile(loss, [0.05, 0.95])
    assert (band.run_low, band.run_high) == pytest.approx(ends, abs=0.01 * width)


def test_doubt_is_inherited(mixed):
    draws, _ = mixed
    doubtful = draws | {"kaplan_nd": dataclasses.replace(draws["kaplan_nd"], doubt="Do not use.")}
    averaged = average(doubtful, {"chinchilla": 0.5, "kaplan_nd": 0.5})
    assert averaged.doubt == "kaplan_nd: Do not use."
    with pytest.raises(js.FitError, match="kaplan_nd"):
        js.allocate(averaged, flop=1e22)
    assert not average(doubtful, {"chinchilla": 1.0, "kaplan_nd": 0.0}).doubt


# What cannot be compared.


def test_what_does_not_compare_is_refused(worlds, posteriors, key):
    one, other = worlds["chinchilla"]["chinchilla"], worlds["kaplan_nd"]["kaplan_nd"]
    with pytest.raises(js.DataError, match="not about the same runs"):
        bayes.compare({"a": one, "b": other})
    with pytest.raises(js.DataError, match="by name"):
        bayes.compare([one, other])
    with pytest.raises(js.DataError, match="method"):
        bayes.compare({"a": one}, method="waic")
    with pytest.raises(js.DataError, match="key="):
        bayes.compare({"a": one}, method="future")
    with pytest.raises(js.DataError, match="fewer than the 5 parameters"):
        bayes.compare({"a": one}, method="future", share=0.95, key=key)
    with pytest.raises(js.LawError, match="same inputs"):
        average({"a": one.draws, "b": posteriors["plain"].draws}, {"a": 0.5, "b": 0.5})


@pytest.mark.slow
def test_chinchilla_ties_with_the_coupled_law_on_real_runs(chinchilla_runs, key):
    posteriors = {}
    for name in ("chinchilla", "coupled_power", "kaplan_nd"):
        fit = js.fit(js.laws.get(name), chinchilla_runs, restarts=256, key=key)
        posteriors[name] = bayes.sample(fit, likelihood=bayes.StudentT(), key=key, draws=500)
    found = bayes.compare(posteriors, key=key)
    table = found.table.set_index("model")
    assert {table.loc["chinchilla", "verdict"], table.loc["coupled_power", "verdict"]} == {
        "best",
        "tied",
    }
    assert table.loc["kaplan_nd", "verdict"] == "worse"
    assert table["khat"].max() < 0.7
    ahead = bayes.compare(posteriors, method="future", key=key)
    assert ahead.table.set_index("model").loc["kaplan_nd", "verdict"] == "worse"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        band = js.predict(found, N=70e9, D=1.4e12)
    assert 1.9 < band.mean < 2.0
    assert jax.numpy.isfinite(js.allocate(found, flop=1e24).N)
