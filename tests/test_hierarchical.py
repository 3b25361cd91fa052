"""Partial pooling: the posterior is the right one, and a set of one run borrows honestly."""

import dataclasses

import cases
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import numpyro.handlers
import pandas as pd
import pytest
from scipy.stats import binom, chisquare

import jaxscale as js
from bayes._hierarchical import make_pool, sample_pools
from bayes._likelihood import as_likelihood
from bayes._pooling import parameters, predicted, program, scales
from jaxscale import bayes

LAW = js.laws.power_law
SIZES = {"a": 8, "b": 8, "c": 7, "d": 5, "two": 2, "one": 1}
NOISE = 0.05
PRIORS = {"mu_scale": dist.Normal(np.log(NOISE), 0.2), "tau_scale": dist.HalfNormal(0.2)}


def design(sizes):
    """Sets of different sizes on different ranges, without losses."""
    rng = np.random.default_rng(1)
    return [np.geomspace(1e2, 1e5, max(n, 2))[:n] * np.exp(rng.normal()) for n in sizes]


def simulate(inputs, alpha, loss_at_1e3, rng):
    """Runs of power laws with Gaussian noise."""
    losses = [
        level * (x / 1e3) ** -a * np.exp(NOISE * rng.normal(size=len(x)))
        for x, a, level in zip(inputs, alpha, loss_at_1e3, strict=True)
    ]
    return [js.Runs.from_arrays(x=x, loss=y) for x, y in zip(inputs, losses, strict=True)]


@pytest.fixture(scope="module")
def truth():
    rng = np.random.default_rng(4)
    return {"alpha": 0.3 + 0.05 * rng.normal(size=6), "level": 3 * np.exp(0.2 * rng.normal(size=6))}


@pytest.fixture(scope="module")
def runs(truth):
    tables = simulate(
        design(SIZES.values()), truth["alpha"], truth["level"], np.random.default_rng(5)
    )
    return js.Runs.stack(dict(zip(SIZES, tables, strict=True)))


def pooled(runs, key, **options):
    """The one model of this file, so that it is compiled once."""
    chosen = {"pool": ("A", "alpha"), "likelihood": js.LogGaussian(), "priors": PRIORS} | options
    return bayes.hierarchical(LAW, runs, key=key, draws=1000, warmup=400, **chosen)


@pytest.fixture(scope="module")
def hier(runs, key):
    return pooled(runs, key)


# Right.


def brute_force(runs, count=150_000):
    """Posterior moments of the same model by importance sampling, parameters integrated exactly.

    Given widths and noise scales the model is linear and Gaussian; those are drawn from the prior.
    """
    rng = np.random.default_rng(6)
    refs = {
        name: np.average(np.log(x), weights=runs.weight, axis=1)
        for name, x in {**runs.inputs, "loss": runs.loss}.items()
    }
    tau = np.abs(rng.normal(size=(count, 2))) * [spread(p) for _, p in LAW.params]
    spread_of_scale = 0.2 * np.abs(rng.normal(size=count))
    center = np.log(NOISE) + 0.2 * rng.normal(size=count)
    log_scale = center[:, None] + spread_of_scale[:, None] * rng.normal(size=(count, len(SIZES)))
    before = np.array([float(p.start(0.5)) for _, p in LAW.params])
    precision, pull = np.tile(np.eye(2), (count, 1, 1)), np.tile(before, (count, 1))
    log_weight, each = np.zeros(count), []
    for g, name in enumerate(runs.sets):
        table = runs[name]
        slopes = np.stack(
            [np.ones(len(table)), refs["x"].mean() - np.log(table.inputs["x"])], axis=1
        )
        y = np.log(table.loss) - refs["loss"].mean()
        variance = np.exp(2 * log_scale[:, g])
        total = slopes * tau[:, None] ** 2 @ slopes.T + variance[:, None, None] * np.eye(len(y))
        inverse = np.linalg.inv(total)
        precision += slopes.T @ inverse @ slopes
        pull += (slopes.T @ inverse @ y[:, None])[..., 0]
        log_weight += -0.5 * np.linalg.slogdet(total)[1] - 0.5 * (inverse @ y) @ y
        each.append((slopes, y, variance, inverse))
    mean = np.linalg.solve(precision, pull[..., None])[..., 0]
    log_weight += 0.5 * (mean * pull).sum(1) - 0.5 * np.linalg.slogdet(precision)[1]
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    assert 1 / (weight**2).sum() > 1000
    at = rng.choice(count, 20_000, p=weight)
    root = np.linalg.cholesky(np.linalg.inv(precision[at]))
    mu = mean[at] + (root @ rng.normal(size=(len(at), 2, 1)))[..., 0]
    found = {"mu_A": mu[:, 0], "mu_alpha": mu[:, 1]}
    found |= {"tau_A": tau[at, 0], "tau_alpha": tau[at, 1]}
    found |= {"mu_scale": center[at], "tau_scale": spread_of_scale[at]}
    for g, name in enumerate(runs.sets):
        slopes, y, variance, _ = each[g]
        own = slopes.T @ slopes / variance[at, None, None]
        own[:, [0, 1], [0, 1]] += tau[at] ** -2
        right = slopes.T @ y / variance[at, None] + mu / tau[at] ** 2
        lower = np.linalg.cholesky(np.linalg.inv(own))
        draw = np.linalg.solve(own, right[..., None]) + lower @ rng.normal(size=(len(at), 2, 1))
        found[f"alpha of {name}"] = draw[:, 1, 0]
        found[f"scale of {name}"] = np.exp(log_scale[at, g])
    return found


def spread(param):
    """Width of the default prior of tau: the sd of numbers spread evenly over the start range."""
    return float(param.start(1.0) - param.start(0.0)) / np.sqrt(12)


def numbers(hier):
    found = dict(hier.population)
    for i, name in enumerate(hier.sets):
        found |= {f"{p} of {name}": hier.values[p][..., i].ravel() for p in ("alpha", "scale")}
    return found


def test_it_agrees_with_brute_force_integration(hier, runs):
    expected, found = brute_force(runs), numbers(hier)
    # At least 400 effective draws on either side, about 2,000 usually: the difference of means is
    # then known to sd / 14, and of standard deviations to 5%; allow 4 of those.
    for name, draws in expected.items():
        assert abs(found[name].mean() - draws.mean()) < 0.28 * draws.std(), name
        assert found[name].std() == pytest.approx(draws.std(), rel=0.2), name


def test_it_recovers_population_and_sets(hier, truth):
    assert hier.ok, hier.verdict
    for i in range(len(SIZES)):
        draws = hier.values["alpha"][..., i]
        assert abs(draws.mean() - truth["alpha"][i]) < 4 * draws.std()
    assert abs(hier.population["mu_alpha"].mean() - 0.3) < 4 * hier.population["mu_alpha"].std()
    assert 0.01 < np.median(hier.population["tau_alpha"]) < 0.15


@pytest.mark.slow
def test_without_pooling_a_set_is_on_its_own(runs, key):
    free = {f"tau_{name}": dist.HalfNormal(20.0) for name in ("A", "alpha")}
    hier = pooled(runs, key, priors=PRIORS | free)
    fit = js.fit(LAW, runs["a"], objective=js.LogGaussian(), restarts=16, key=key)
    prior = {"scale": dist.LogNormal(np.log(NOISE), np.hypot(0.2, 0.2))}
    alone = bayes.sample(fit, key=key, draws=1000, warmup=400, priors=prior)
    for name in LAW.names:
        x, y = np.log(hier["a"].draws.params[name]), np.log(alone.params[name])
        assert abs(x.mean() - y.mean()) < 0.2 * y.std()
        assert x.std() == pytest.approx(y.std(), rel=0.2)


def test_what_a_set_is_called_and_where_it_stands_do_not_matter(runs, hier, key):
    turned = js.Runs.stack({f"new/{name}": runs[name] for name in reversed(runs.sets)})
    other = pooled(turned, key)
    assert other.ok, other.verdict
    for name in runs.sets:
        x, y = hier[name].draws.params["alpha"], other[f"new/{name}"].draws.params["alpha"]
        assert abs(x.mean() - y.mean()) < 0.2 * y.std()


# Borrowing.


def test_a_set_of_one_run_borrows_from_the_others(hier, truth):
    member = hier["one"]
    assert "borrowed" in member.verdict
    assert "1 run of 'one' cannot determine" in str(member.verdict)
    band = js.predict(member, x=1e7, level=0.9)
    expected = truth["level"][5] * 1e4 ** -truth["alpha"][5]
    assert band.law_low < expected < band.law_high
    # With its prior alone, alpha is uncertain by 1: at 1e5 times the run's size, a factor of 1e5.
    assert np.log(band.law_high / band.law_low) < 4
    assert band.run_low < band.law_low < band.law_high < band.run_high


def test_a_set_of_many_runs_keeps_its_own_estimate(hier, runs, key):
    fit = js.fit(LAW, runs["a"], objective=js.LogGaussian(), restarts=16, key=key)
    member = hier["a"]
    assert member.fit.verdict.ok == fit.verdict.ok
    assert member.draws["alpha"].mean() == pytest.approx(float(fit.params["alpha"]), abs=0.02)


def test_a_new_set_is_one_more_of_the_population(hier):
    new = hier.new(key=jax.random.key(3))
    population = hier.population
    assert new["alpha"].mean() == pytest.approx(population["mu_alpha"].mean(), abs=0.02)
    variance = population["mu_alpha"].var() + (population["tau_alpha"] ** 2).mean()
    assert new["alpha"].std() == pytest.approx(np.sqrt(variance), rel=0.1)
    band = js.predict(new, x=1e4, level=0.8)
    assert band.law_low < 3 * 10**-0.3 < band.law_high
    assert any("No run of this set was seen" in note for note in band.notes)


def test_what_is_not_pooled_is_not_known_of_a_new_set(hier, runs):
    noise = as_likelihood(js.LogGaussian(), js.LogGaussian(), 1.0)
    table = make_pool(LAW, runs, ("alpha",), noise, NOISE)
    half = dataclasses.replace(hier, pooled=("alpha",), table=table)
    with pytest.raises(js.DataError, match="nothing is known about A"):
        half.new(key=jax.random.key(0))
    new = half.new(key=jax.random.key(0), from_prior=True)
    assert "A of the new set come from their priors." in new.notes
    assert np.isfinite(new["A"]).all()


# What it gives back.


def test_results_read_well(hier):
    frame = hier.frame(level=0.8)
    assert list(frame["set"].unique()) == ["population", *SIZES]
    assert len(frame) == 6 + 3 * len(SIZES)
    assert (frame["low"] < frame["median"]).all()
    assert "alpha pooled" in repr(hier)
    assert "<table" in hier._repr_html_()
    assert "partial pooling" in repr(hier["a"])
    assert set(hier["a"].frame()["quantity"]) == {"A", "alpha"}


def test_data_is_labeled_by_set_and_run(hier, runs):
    data = hier.data
    assert data["posterior"]["alpha"].dims == ("chain", "draw", "set")
    assert list(data["posterior"]["set"].values) == list(SIZES)
    density = data["log_likelihood"]["loss"]
    assert density.sizes["run"] == sum(SIZES.values())
    assert list(density["run"].values[-3:]) == ["two:1", "two:2", "one:1"]
    r = np.log(np.asarray(LAW(runs["one"].inputs["x"][0], **first_draw(hier))))
    scale = hier.values["scale"][0, 0, -1]
    loss = runs["one"].loss[0]
    expected = dist.Normal(r, scale).log_prob(np.log(loss)) - np.log(loss)
    assert float(density[0, 0, -1]) == pytest.approx(float(expected), rel=1e-9)
    assert data["posterior_predictive"]["loss"].shape == density.shape


def first_draw(hier):
    return {name: hier.values[name][0, 0, -1] for name in LAW.names}


def test_members_serve_everything_that_takes_draws(hier, key, tmp_path):
    member = hier["d"]
    table = js.intervals(member.fit, level=0.9, methods=(), draws=[member], key=key).frame()
    assert "partial pooling" in table["method"].iloc[0]
    assert np.isfinite(table[["low", "high"]].to_numpy(float)).all()
    js.save(tmp_path / "one.json", hier["one"].fit)
    assert js.load(tmp_path / "one.json").params == hier["one"].fit.params


# Bad input.


def test_bad_input_is_named(runs, key):
    with pytest.raises(js.DataError, match="several data sets"):
        bayes.hierarchical(LAW, runs["a"], key=key)
    with pytest.raises(js.DataError, match="one data set, 'a'"):
        bayes.hierarchical(LAW, js.Runs.stack({"a": runs["a"]}), key=key)
    with pytest.raises(js.LawError, match="no parameter gamma to pool; it has A, alpha"):
        bayes.hierarchical(LAW, runs, pool=("gamma",), key=key)
    with pytest.raises(js.DataError, match="nothing in common"):
        bayes.hierarchical(LAW, runs, pool=(), key=key)
    with pytest.raises(js.LawError, match="lack N, D"):
        bayes.hierarchical(js.laws.chinchilla, runs, key=key)
    with pytest.raises(js.DataError, match="at least 1 chain"):
        bayes.hierarchical(LAW, runs, key=key, chains=0)
    with pytest.raises(js.DataError, match="a law and a stack"):
        bayes.hierarchical("power_law", runs, key=key)


def test_bad_models_are_named(runs):
    noise = as_likelihood(js.LogGaussian(), js.LogGaussian(), 1.0)
    with pytest.raises(js.LawError, match="no parameter tau_E"):
        make_pool(LAW, runs, ("alpha",), noise, NOISE, {"tau_E": dist.HalfNormal(1.0)})
    with pytest.raises(js.DataError, match="trials must be a number or have the shape"):
        make_pool(LAW, runs, ("alpha",), bayes.Binomial(np.full(3, 10.0)), 1.0)
    with pytest.raises(js.DataError, match="between 0 and 1"):
        make_pool(LAW, runs, ("alpha",), bayes.Binomial(100), 1.0)


# Honest: simulated stacks, side by side in one program.

STACKS = 400
SMALL = (6, 5, 4, 2, 1)
FAR = 1e7


@pytest.fixture(scope="module")
def blank():
    """The model of five small sets, whose losses are still to come."""
    tables = [js.Runs.from_arrays(x=x, loss=np.ones_like(x)) for x in design(SMALL)]
    stack = js.Runs.stack({str(i): table for i, table in enumerate(tables)})
    noise = as_likelihood(js.LogGaussian(), js.LogGaussian(), 1.0)
    priors = {"mu_scale": dist.Normal(np.log(NOISE), 0.5)}
    return make_pool(LAW, stack, ("A", "alpha"), noise, NOISE, priors)


@jax.jit
def simulated(pool, keys, fixed):
    """Truth and losses of one stack for every key; `fixed` holds sites at given values."""

    def one(key):
        first, second = jax.random.split(key)
        seeded = numpyro.handlers.seed(numpyro.handlers.substitute(program, fixed), first)
        trace = numpyro.handlers.trace(seeded).get_trace(LAW, pool)
        values = {name: site["value"] for name, site in trace.items() if name != "runs"}
        params = parameters(LAW, pool, values)
        mean = predicted(LAW, pool, params)
        loss = pool.likelihood.draw(second, mean, scales(pool, values), {})
        return {**values, **params}, loss

    return jax.vmap(one)(keys)


def posteriors(pool, loss):
    """99 nearly independent draws for each of many simulated stacks."""
    pools = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(loss), *jnp.shape(x))), pool)
    pools = eqx.tree_at(lambda p: p.loss, pools, loss)
    middle = jnp.array([float(p.start(0.5)) for _, p in LAW.params])
    begin = jnp.broadcast_to(middle, (len(loss), loss.shape[1], len(middle)))
    found = sample_pools(
        LAW, pools, begin, jax.random.key(8), chains=1, warmup=300, draws=396, accept=0.9
    )
    assert found.stats["diverging"].mean() < 1e-3
    return {name: x[:, 0, ::4] for name, x in found.values.items()}


@pytest.mark.slow
def test_simulation_based_calibration(blank):
    # Ranks of the truth among its posterior draws are uniform if all is right (Talts et al. 2018).
    # Four tests at 0.001 each fail by chance once in 250 keys.
    true, loss = simulated(blank, jax.random.split(jax.random.key(9), STACKS), {})
    draws = posteriors(blank, loss)
    pairs = {name: (draws[name], true[name]) for name in ("mu_alpha", "tau_alpha")}
    pairs |= {f"alpha {i}": (draws["alpha"][..., i], true["alpha"][:, i]) for i in (0, 4)}
    for name, (values, value) in pairs.items():
        ranks = (values < np.asarray(value)[:, None]).sum(1)
        counts = np.bincount(ranks // 5, minlength=20)
        assert counts.sum() == STACKS
        assert chisquare(counts).pvalue > 0.001, name


@pytest.mark.slow
def test_a_new_family_of_one_run_is_predicted_honestly(blank):
    # A population such as people have, with sets that differ by 15% in alpha. The last set has one
    # run, and is predicted at 1e5 times its size.
    fixed = {"mu_alpha": 0.3, "tau_alpha": 0.05, "mu_A": -0.5, "tau_A": 0.2}
    fixed |= {"mu_scale": np.log(NOISE), "tau_scale": 0.2}
    fixed = {name: jnp.asarray(x) for name, x in fixed.items()}
    true, loss = simulated(blank, jax.random.split(jax.random.key(10), STACKS), fixed)
    draws = posteriors(blank, loss)

    def at_far(params):
        return np.log(params["A"]) - params["alpha"] * np.log(FAR)

    expected = at_far({name: np.asarray(true[name])[:, 4] for name in LAW.names})
    found = at_far({name: draws[name][..., 4] for name in LAW.names})
    low, high = np.quantile(found, [0.1, 0.9], axis=1)
    covered = int(((low < expected) & (expected < high)).sum())
    # An 80% interval may cover more than that at this one population: its prior allows for sets
    # that differ more. Coverage under 80% would show at 1e-4.
    assert covered > binom.ppf(1e-4, STACKS, 0.8)
    error = np.abs(np.median(found, axis=1) - expected)
    prior_error = 0.6745 * np.log(FAR / 1e2)  # median error if alpha were uncertain by 1
    assert np.median(error) < 0.1 * prior_error


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", [None, bayes.StudentT()])
def test_heavy_tails_and_kinks(runs, key, likelihood):
    hier = bayes.hierarchical(LAW, runs, pool=LAW.names, likelihood=likelihood, key=key)
    assert "sampler_failed" not in hier.verdict
    assert ("df" in hier.population) == (likelihood is not None)
    assert abs(np.median(hier["a"].draws["alpha"]) - 0.3) < 0.2
    assert js.predict(hier["one"], x=1e5).run_low > 0


@pytest.mark.slow
def test_shares_of_successes_can_be_pooled(key):
    rng = np.random.default_rng(2)
    trials = 500
    x = np.geomspace(1e2, 1e5, 8)
    tables = {
        f"task {i}": js.Runs.from_arrays(
            x=x[:n],
            loss=np.maximum(rng.binomial(trials, 0.7 * (x[:n] / 1e2) ** -alpha), 1) / trials,
        )
        for i, (n, alpha) in enumerate([(8, 0.3), (8, 0.34), (6, 0.26), (1, 0.3)])
    }
    hier = bayes.hierarchical(
        LAW,
        js.Runs.stack(tables),
        pool=LAW.names,
        likelihood=bayes.Binomial(np.full((4, 8), float(trials))),
        key=key,
    )
    assert "sampler_failed" not in hier.verdict
    assert "scale" not in hier.values
    assert abs(np.median(hier["task 1"].draws["alpha"]) - 0.34) < 0.06
    band = js.predict(hier["task 3"], x=1e4, level=0.9)
    assert 0 < band.run_low < 0.7 * 100**-0.3 < band.run_high < 1


@pytest.mark.slow
def test_real_families(key):
    frame = pd.read_csv(cases.data_path("gadre_overtraining.csv"))
    columns = {"loss": "loss_c4_val", "N": "params", "D": "tokens"}
    sets = {
        str(name): js.Runs.from_frame(table.head(2) if name == "rw_original" else table, **columns)
        for name, table in frame.groupby("train_dataset")
    }
    law = js.laws.chinchilla
    hier = bayes.hierarchical(
        law,
        js.Runs.stack(sets),
        pool=law.names,
        likelihood=bayes.StudentT(),
        target_accept=0.95,
        key=key,
    )
    assert "borrowed" in hier["rw_original"].verdict
    largest = frame[(frame["train_dataset"] == "rw_original")].sort_values("flops").iloc[-1]
    band = js.predict(hier["rw_original"], N=largest["params"], D=largest["tokens"], level=0.9)
    assert band.run_low < largest["loss_c4_val"] < band.run_high
