"""Pictures of posteriors show the numbers they claim to show, and refuse what they cannot show."""

import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import jaxscale as js
from bayes._hierarchical import make_pool
from bayes._hierarchy import Hierarchy
from bayes._likelihood import as_likelihood
from bayes._sbc import _judged
from jaxscale import bayes

BUDGETS = np.geomspace(1e19, 1e23, 5)


@pytest.fixture(scope="module")
def post(simulated_fit, key):
    """500 draws around the fit, one of them divergent."""
    made = bayes.approximate(
        simulated_fit, likelihood=js.LogGaussian(), method="laplace", draws=500, key=key
    )
    diverging = np.zeros((1, 500), bool)
    diverging[0, 7] = True
    return dataclasses.replace(made, stats={"diverging": diverging})


@pytest.fixture(scope="module")
def curve_draws():
    """Draws around a learning curve: a law in one input."""
    x = np.geomspace(100, 1e5, 12)
    loss = (0.5 + 9 / x**0.4) * np.exp(0.01 * np.random.default_rng(6).normal(size=12))
    runs = js.Runs.from_arrays(x=x, loss=loss)
    fit = js.fit(js.laws.power_law_offset, runs, restarts=16, key=jax.random.key(0))
    rng = np.random.default_rng(1)
    params = {k: v * np.exp(0.005 * rng.normal(size=200)) for k, v in fit.params.items()}
    return js.Draws(fit=fit, method="made", params=params, scale=np.full(200, 0.01))


@pytest.fixture(scope="module")
def study():
    """Ranks of four quantities, of which those of beta pile up at the ends."""
    rng = np.random.default_rng(0)
    ranks = {name: rng.integers(0, 100, 200) for name in ("alpha", "beta", "E", "log likelihood")}
    ranks["beta"] = np.where(ranks["beta"] < 50, ranks["beta"] // 3, 99 - (99 - ranks["beta"]) // 3)
    table = pd.DataFrame([_judged(name, x, 99, 0.05 / 4) for name, x in ranks.items()])
    return bayes.SBC("chinchilla", 200, 99, 0.05, table, ranks, ranks, 1.0, 0.0)


@pytest.fixture(scope="module")
def hierarchy():
    """Two sets of a power law, alpha pooled, with draws that were made up."""
    law, rng = js.laws.power_law, np.random.default_rng(2)
    x = np.geomspace(1e2, 1e5, 8)
    tables = {
        name: js.Runs.from_arrays(x=x, loss=4 * x**-a * np.exp(0.02 * rng.normal(size=8)))
        for name, a in (("first", 0.2), ("second", 0.3))
    }
    runs = js.Runs.stack(tables)
    fits = {
        name: js.fit(law, table, objective=js.LogGaussian(), restarts=8, key=jax.random.key(0))
        for name, table in tables.items()
    }
    pool = make_pool(
        law, runs, ("alpha",), as_likelihood(js.LogGaussian(), js.LogGaussian(), 1.0), 0.02
    )
    alpha = dict(law.params)["alpha"]
    center = float(alpha.to_free(jnp.asarray(0.25)))
    values = {site: np.abs(0.1 + 0.01 * rng.normal(size=(2, 100))) for site in pool.sites}
    values["mu_alpha"] = center + 0.05 * rng.normal(size=(2, 100))
    for name in (*law.names, "scale"):
        middle = fits["first"].params.get(name, 0.02)
        values[name] = middle * np.exp(0.02 * rng.normal(size=(2, 100, 2)))
    stats = {"diverging": np.zeros((2, 100), bool), "energy": rng.normal(size=(2, 100))}
    return Hierarchy(
        law=law, objective=js.LogGaussian(), runs=runs, pooled=("alpha",), table=pool,
        values=values, stats=stats, fits=fits,
        replaced=frozenset(), key=jax.random.key(1),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def heading(pc):
    return pc.viz["figure"].item().get_suptitle().replace("\n", " ")


def drawn(pc, visual, variable):
    return pc.viz[visual][variable].item()


def written(pc, path):
    pc.savefig(path / "picture.png")
    data = (path / "picture.png").read_bytes()
    assert data[:4] == b"\x89PNG"
    assert len(data) > 5_000


# What a posterior predicts.


def test_the_runs_of_plot_predictive_are_the_observed_losses(post, simulated, tmp_path):
    pc = bayes.plot_predictive(post)
    runs, _ = simulated
    C = 6 * np.asarray(runs.inputs["N"]) * np.asarray(runs.inputs["D"])
    x, y = drawn(pc, "runs", "loss").get_data()
    np.testing.assert_allclose(np.sort(x), np.sort(C))
    np.testing.assert_allclose(y[np.argsort(x)], np.asarray(runs.loss)[np.argsort(C)])
    found = js.predict(post, **runs.inputs)
    ends = np.array([segment[:, 1] for segment in drawn(pc, "law_90", "loss").get_segments()])
    np.testing.assert_allclose(ends, np.stack([found.law_low, found.law_high], 1), rtol=1e-6)
    ends = np.array([segment[:, 1] for segment in drawn(pc, "run_90", "loss").get_segments()])
    np.testing.assert_allclose(ends, np.stack([found.run_low, found.run_high], 1), rtol=3e-3)
    miss = drawn(pc, "runs", "miss").get_ydata()
    assert np.all(np.diff(np.abs(np.log1p(miss / 100))) <= 1e-12)  # the worst at the back
    inside = np.mean((runs.loss >= ends[:, 0]) & (runs.loss <= ends[:, 1]))
    assert f"{inside:.0%} of 60 runs" in heading(pc)
    written(pc, tmp_path)


def test_plot_predictive_of_a_law_in_one_input_has_bands_over_it(curve_draws, tmp_path):
    pc = bayes.plot_predictive(curve_draws)
    corners = drawn(pc, "law_90", "loss").get_paths()[0].vertices
    x = drawn(pc, "median", "loss").get_xdata()
    law = js.predict(curve_draws, x=x)
    for end in (law.law_low, law.law_high):
        assert np.min(np.abs(corners[:, 1] - end[60]), initial=1.0) < 1e-9
    assert pc.get_viz("plot", "miss").get_xlabel() == "x"
    written(pc, tmp_path)


@pytest.mark.parametrize("quantity", ["N", "D", "tokens_per_parameter"])
def test_the_band_of_plot_frontier_is_that_of_allocate(post, quantity, tmp_path):
    pc = bayes.plot_frontier(post, BUDGETS, quantity, level=0.8, force=True)
    found = js.allocate(post, flop=BUDGETS, level=0.8, force=True)
    x, y = drawn(pc, "median", quantity).get_data()
    np.testing.assert_allclose(x, BUDGETS)
    np.testing.assert_allclose(y, getattr(found, quantity))
    corners = drawn(pc, "band", quantity).get_paths()[0].vertices
    for end in found.bands[quantity]:
        for budget, value in zip(BUDGETS, end, strict=True):
            assert np.isclose(corners, (budget, value), rtol=1e-9).all(1).any()
    known = drawn(pc, "known", quantity).get_ydata()
    assert np.isnan(known[-1])  # 1e23 FLOPs are more than any run had
    assert len(drawn(pc, "runs", quantity).get_xdata()) == 60
    assert "(80%)" in heading(pc)
    written(pc, tmp_path)


# Parameters.


def test_plot_forest_has_a_row_for_every_posterior(post, curve_draws, tmp_path):
    pc = bayes.plot_forest({"one": post, "two": post.draws, "curve": curve_draws})
    np.testing.assert_allclose(
        drawn(pc, "median", "alpha").get_xdata(),
        [*[np.median(post.params["alpha"])] * 2, np.median(curve_draws.params["alpha"])],
    )
    wide = drawn(pc, "wide", "beta").get_segments()
    np.testing.assert_allclose(wide[0][:, 0], np.quantile(post.params["beta"], [0.05, 0.95]))
    labels = [text.get_text() for text in pc.get_viz("plot", "alpha").get_yticklabels()]
    assert labels == ["one", "two", "curve"]
    assert "in 3 data sets" in heading(pc)
    written(pc, tmp_path)


def test_plot_forest_shows_a_population_next_to_its_sets(hierarchy, tmp_path):
    pc = bayes.plot_forest(hierarchy, "alpha")
    labels = [text.get_text() for text in pc.get_viz("plot", "alpha").get_yticklabels()]
    assert labels == ["first", "second", "population", "a new set"]
    param = dict(hierarchy.law.params)["alpha"]
    center = np.asarray(param.from_free(hierarchy.population["mu_alpha"]))
    new = hierarchy.new(key=hierarchy.key, from_prior=True).params["alpha"]
    expected = [*(np.median(hierarchy[s].draws.params["alpha"]) for s in hierarchy.sets)]
    expected += [np.median(center), np.median(new)]
    np.testing.assert_allclose(drawn(pc, "median", "alpha").get_xdata(), expected)
    alone = drawn(pc, "alone", "alpha").get_xdata()
    np.testing.assert_allclose(alone[:2], [fit.params["alpha"] for fit in hierarchy.fits.values()])
    assert np.isnan(alone[2:]).all()
    written(pc, tmp_path)


def test_plot_forest_has_no_population_of_what_depends_on_units(hierarchy):
    pc = bayes.plot_forest(hierarchy, ["A"])
    assert len(pc.get_viz("plot", "A").get_yticks()) == 2


def test_plot_pair_shows_logs_of_coefficients_and_divergent_draws(post, tmp_path):
    pc = bayes.plot_pair(post, ["A", "alpha"])
    ax = pc.viz["figure"].item().axes[2]
    scatter, cross = ax.collections
    np.testing.assert_allclose(
        scatter.get_offsets(), np.stack([np.log10(post.params["A"]), post.params["alpha"]], 1)
    )
    np.testing.assert_allclose(cross.get_offsets()[0], scatter.get_offsets()[7])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("A", "alpha")
    said = [float(text.get_text()) for text in ax.get_xticklabels()]
    np.testing.assert_allclose(np.log10(said), ax.get_xticks())
    assert "log A and alpha" in heading(pc)
    assert "1 divergent" in heading(pc)
    written(pc, tmp_path)


def test_plot_prior_posterior_has_both_densities(post, tmp_path):
    pc = bayes.plot_prior_posterior(post)
    assert set(pc.viz["prior"].data_vars or pc.viz["prior"].children) == {*post.law.names, "scale"}
    for name in ("alpha", "A"):
        line = drawn(pc, "prior", name)
        prior = np.ravel(post.data["prior"][name])
        peak = line.get_xdata()[np.argmax(line.get_ydata())]
        assert np.quantile(prior, 0.1) < peak < np.quantile(prior, 0.9)
        corners = drawn(pc, "posterior", name).get_paths()[0].vertices
        peak = corners[np.argmax(corners[:, 1]), 0]
        assert np.quantile(post.params[name], 0.1) < peak < np.quantile(post.params[name], 0.9)
    assert pc.get_viz("plot", "A").get_xscale() == "log"
    written(pc, tmp_path)


# Checks.


def test_plot_loo_pit_draws_the_distribution_of_the_values(post, tmp_path):
    pc = bayes.plot_loo_pit(post)
    found = bayes.check(post)
    x, y = drawn(pc, "ecdf", "pit").get_data()
    share = np.mean(found.pit[:, None] <= x + 1e-9, axis=0)
    np.testing.assert_allclose(y, share - x, atol=1e-12)
    again = bayes.plot_loo_pit(found)
    assert heading(again) == heading(pc)
    written(pc, tmp_path)


def test_plot_loo_pit_says_what_is_wrong():
    values = np.random.default_rng(0).beta(0.4, 0.4, 200)
    found = object.__new__(bayes.Check)
    for name, value in {"law": "chinchilla", "pit": values}.items():
        object.__setattr__(found, name, value)
    pc = bayes.plot_loo_pit(found)
    assert "too narrow" in heading(pc)
    assert drawn(pc, "ecdf", "pit").get_linestyle() == "--"


def test_plot_sbc_has_a_panel_per_quantity_and_marks_the_wrong_one(study, tmp_path):
    pc = bayes.plot_sbc(study)
    assert len([ax for ax in pc.viz["figure"].item().axes if ax.lines]) == 4
    at, low, high = study.band(1 - 0.05 / 4)
    y = drawn(pc, "ecdf", "alpha").get_ydata()
    share = np.mean(study.ranks["alpha"][:, None] < np.arange(1, 100), axis=0)
    np.testing.assert_allclose(y[1:-1], share - at, atol=0.02)
    corners = drawn(pc, "band", "alpha").get_paths()[0].vertices
    assert np.isclose(corners[:, 1].max(), np.max(high - at))
    assert np.isclose(corners[:, 1].min(), np.min(low - at))
    assert drawn(pc, "ecdf", "beta").get_linestyle() == "--"
    assert drawn(pc, "ecdf", "alpha").get_linestyle() == "-"
    assert "do not rank evenly for beta" in heading(pc)
    assert "log likelihood" in pc.get_viz("plot", "log likelihood").get_title()
    written(pc, tmp_path)


# Refused.


@pytest.mark.parametrize(
    ("draw", "reason"),
    [
        (lambda post: bayes.plot_predictive("post"), "needs a posterior"),
        (lambda post: bayes.plot_predictive(post, "F"), "x must be one of N, D, C"),
        (lambda post: bayes.plot_predictive(post, backend="plotly"), "Matplotlib"),
        (lambda post: bayes.plot_frontier(post, quantity="loss"), "quantity must be one of"),
        (lambda post: bayes.plot_frontier(post, 1e21, force=True), "at least two budgets"),
        (lambda post: bayes.plot_forest({}), "needs posteriors by name"),
        (lambda post: bayes.plot_forest(post), "needs posteriors by name"),
        (lambda post: bayes.plot_forest({"a": post}, "gamma"), "no data set has 'gamma'"),
        (lambda post: bayes.plot_pair(post, "alpha"), "two parameters or more"),
        (lambda post: bayes.plot_pair(post, ["alpha", "gamma"]), "has no 'gamma'"),
        (lambda post: bayes.plot_pair(post.draws), "needs a posterior"),
        (lambda post: bayes.plot_prior_posterior(post, []), "names is empty"),
        (lambda post: bayes.plot_loo_pit(post.draws), "needs a posterior or bayes.check"),
        (lambda post: bayes.plot_sbc(post), "needs a result of bayes.sbc"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(post, draw, reason):
    with pytest.raises(js.DataError, match=reason):
        draw(post)
    assert not plt.get_fignums()


def test_draws_without_runs_are_refused(curve_draws):
    alone = dataclasses.replace(curve_draws, fit=dataclasses.replace(curve_draws.fit, runs=None))
    with pytest.raises(js.DataError, match="without their runs"):
        bayes.plot_predictive(alone)


def test_a_law_without_budgets_has_no_frontier(curve_draws):
    with pytest.raises(js.LawError, match="needs a law in N and D"):
        bayes.plot_frontier(curve_draws)
