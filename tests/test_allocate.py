"""allocate() and flops: closed forms, brute force and derivatives agree."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from decisions import scattered
from matplotlib.figure import Figure

import jaxscale as js
from jaxscale import flops
from jaxscale._draws import Draws

BUDGETS = np.array([1e18, 1e21, 5.76e23])


def brute_force(fit, cost, budget):
    """Dense search over log N, then golden section; D by root finding."""

    def loss(log_n):
        N = np.exp(log_n)
        if cost(N, 1e-8) > budget:  # too large even without data
            return np.inf
        log_d = scipy.optimize.brentq(lambda d: np.log(cost(N, np.exp(d)) / budget), -20, 120)
        return float(fit.law(N, np.exp(log_d), **fit.params))

    grid = np.linspace(np.log(1e4), np.log(1e16), 400)
    best = int(np.argmin([loss(x) for x in grid]))
    found = scipy.optimize.minimize_scalar(
        loss, bracket=(grid[best - 1], grid[best], grid[best + 1]), options={"xtol": 1e-9}
    )
    return np.exp(found.x), found.fun


def attention_cost(N, D):
    """6 N D plus a context term that grows as the two-thirds power of N."""
    return 6 * N * D + 4e3 * N ** (2 / 3) * D


def quadratic_cost(N, D):
    """Not linear in D."""
    return 6 * N * D * (1 + 0.1 * jnp.log1p(D / 1e10))


@pytest.mark.parametrize("cost", [flops.six_nd, attention_cost, quadratic_cost])
def test_against_brute_force(simulated_fit, cost):
    frontier = js.allocate(simulated_fit, flop=BUDGETS, cost=cost)
    np.testing.assert_allclose(cost(frontier.N, frontier.D), BUDGETS, rtol=1e-10)
    for i, budget in enumerate(BUDGETS):
        N, loss = brute_force(simulated_fit, cost, budget)
        np.testing.assert_allclose(frontier.N[i], N, rtol=2e-4)  # a flat minimum: sqrt of 1e-9
        assert float(frontier.loss[i]) <= loss * (1 + 1e-12)


def test_closed_form_and_numeric_agree(simulated_fit):
    closed = js.allocate(simulated_fit, flop=BUDGETS)
    numeric = js.allocate(simulated_fit, flop=BUDGETS, cost=lambda N, D: 6 * N * D)
    np.testing.assert_allclose(numeric.N, closed.N, rtol=1e-9)
    np.testing.assert_allclose(numeric.D, closed.D, rtol=1e-9)
    np.testing.assert_allclose(closed.tokens_per_parameter, closed.D / closed.N)


@pytest.mark.parametrize("cost", [flops.six_nd, attention_cost])
def test_derivatives_by_budget_and_parameter(simulated_fit, cost):
    def log_size(log_c, alpha):
        params = {**simulated_fit.params, "alpha": alpha}
        fit = dataclasses.replace(simulated_fit, params=params)
        return jnp.log(js.allocate(fit, flop=jnp.exp(log_c), cost=cost).N)

    at = (np.log(1e22), float(simulated_fit.params["alpha"]))
    exact = jax.grad(log_size, argnums=(0, 1))(*at)
    h = 1e-4
    for i in range(2):
        step = np.eye(2)[i] * h
        numeric = (log_size(*(at + step)) - log_size(*(at - step))) / (2 * h)
        np.testing.assert_allclose(exact[i], numeric, rtol=1e-5)
    if cost is flops.six_nd:
        np.testing.assert_allclose(exact[0], simulated_fit.derived["a"], rtol=1e-9)


def test_frame_and_notes(simulated_fit):
    frontier = js.allocate(simulated_fit, flop=BUDGETS)
    columns = ["flop", "N", "D", "tokens_per_parameter", "loss"]
    assert list(frontier.frame().columns) == columns
    assert any("largest N" in note for note in frontier.notes)


def test_refusals(simulated_fit, key):
    with pytest.raises(js.DataError, match="positive FLOPs"):
        js.allocate(simulated_fit, flop=-1.0)
    x = np.geomspace(1e6, 1e9, 20)
    one = js.fit(
        js.laws.power_law, js.Runs.from_arrays(x=x, loss=5 * x**-0.1), restarts=16, key=key
    )
    with pytest.raises(js.LawError, match="N and D"):
        js.allocate(one, flop=1e21)
    for bad in ({"alpha": -0.3}, {"beta": -0.1}):
        params = {**simulated_fit.params, **bad}
        for cost in (flops.six_nd, attention_cost):
            with pytest.raises(js.LawError, match="no compute-optimal size"):
                js.allocate(dataclasses.replace(simulated_fit, params=params), flop=1e21, cost=cost)


def test_flops_conventions():
    """Numbers worked out by hand for a 2-layer model, and limits in which conventions agree."""
    assert flops.six_nd(10, 20) == 1200
    assert flops.kaplan(1, n_layer=2, d_model=8) == 6 * 12 * 2 * 64
    assert flops.kaplan(1, n_layer=2, d_model=8, n_ctx=16) == 6 * (12 * 2 * 64) + 6 * 2 * 16 * 8
    assert flops.with_head(5, N_nonembedding=100, d_model=8, vocab=50) == 6 * 5 * 500
    per_layer = 6 * 8 * 8 + 2 * 16 * 8 + 3 * 2 * 16 + 2 * 16 * 8 + 2 * 8 * 8 + 4 * 8 * 32
    forward = 2 * 50 * 8 + 2 * per_layer + 2 * 8 * 50
    shape = {"n_layer": 2, "d_model": 8, "d_ff": 32, "n_head": 2, "d_key": 4, "vocab": 50}
    assert flops.hoffmann(1, n_ctx=16, **shape) == 3 * forward
    # A wide model with a short context and a small vocabulary: all conventions meet at 6 N D.
    d, n = 16_384, 100
    wide = flops.hoffmann(
        1, n_layer=n, d_model=d, d_ff=4 * d, n_head=128, d_key=128, n_ctx=32, vocab=100
    )
    assert wide / flops.six_nd(12 * n * d**2, 1) == pytest.approx(1.0, rel=2e-3)
    assert wide / flops.kaplan(1, n_layer=n, d_model=d, n_ctx=32) == pytest.approx(1.0, rel=2e-3)


@pytest.mark.parametrize(
    "cost",
    [
        lambda N, D: 6 * N * D * jnp.exp(D / 1e11),  # far from linear in D
        lambda N, D: 6 * N * D + 2 * N * 1e11,  # inference tokens
        lambda N, D: 6 * N * D + 1e20,  # a fixed cost
        lambda N, D: jnp.maximum(6 * N * D, 1e20),
    ],
    ids=["steep", "inference", "fixed", "minimum"],
)
def test_costs_of_any_shape_are_met_exactly(simulated_fit, cost):
    frontier = js.allocate(simulated_fit, flop=[1e22, 1e25], cost=cost)
    np.testing.assert_allclose(cost(frontier.N, frontier.D), [1e22, 1e25], rtol=1e-9)
    for i, budget in enumerate([1e22, 1e25]):
        _, loss = brute_force(simulated_fit, lambda N, D: float(cost(N, D)), budget)
        assert float(frontier.loss[i]) <= loss * (1 + 1e-9)


def test_a_budget_below_the_fixed_cost_is_refused(simulated_fit):
    with pytest.raises(js.LawError, match="no size can be had"):
        js.allocate(simulated_fit, flop=1e19, cost=lambda N, D: 6 * N * D + 1e20)


def sizes_by_hand(p, flop):
    total = p["alpha"] + p["beta"]
    ratio = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / total)
    return ratio * (flop / 6) ** (p["beta"] / total)


def test_bands_hold_the_quantiles_of_the_optimum_of_every_draw(simulated_fit):
    draws = scattered(simulated_fit)
    found = js.allocate(draws, flop=BUDGETS, level=0.8)
    N = sizes_by_hand(draws.params, BUDGETS[:, None])
    D = BUDGETS[:, None] / (6 * N)
    for name, each in (("N", N), ("D", D), ("tokens_per_parameter", D / N)):
        low, high = np.quantile(each, [0.1, 0.9], axis=1)
        np.testing.assert_allclose(found.bands[name][0], low, rtol=1e-9)
        np.testing.assert_allclose(found.bands[name][1], high, rtol=1e-9)
    point = js.allocate(simulated_fit, flop=BUDGETS)
    np.testing.assert_allclose(found.N, point.N)
    there = js.predict(draws, N=point.N, D=point.D, level=0.8)
    np.testing.assert_allclose(found.bands["loss"], (there.law_low, there.law_high))
    np.testing.assert_allclose(found.bands["run"], (there.run_low, there.run_high))
    assert found.level == 0.8
    assert {"N_low", "D_high", "loss_low", "run_high"} <= set(found.frame().columns)


def test_numeric_bands_agree_with_the_closed_form(simulated_fit):
    draws = scattered(simulated_fit)
    closed = js.allocate(draws, flop=BUDGETS)
    numeric = js.allocate(draws, flop=BUDGETS, cost=lambda N, D: 6 * N * D)
    for name, ends in closed.bands.items():
        np.testing.assert_allclose(numeric.bands[name], ends, rtol=1e-6, err_msg=name)


def test_a_posterior_has_the_median_size_and_spends_the_budget(simulated_fit):
    draws = scattered(simulated_fit, center="median")
    found = js.allocate(draws, flop=BUDGETS, cost=attention_cost)
    np.testing.assert_allclose(attention_cost(found.N, found.D), BUDGETS, rtol=1e-9)
    inside = (found.bands["N"][0] < found.N) & (found.N < found.bands["N"][1])
    assert inside.all()


@pytest.mark.parametrize("cost", [flops.six_nd, lambda N, D: 6 * N * D])
def test_draws_without_a_minimum_are_counted(simulated_fit, cost):
    draws = scattered(simulated_fit)
    draws.params["alpha"][:30] *= -1
    found = js.allocate(draws, flop=1e21, cost=cost)
    assert any("10.00% of the draws there is no" in note for note in found.notes)
    rest = Draws(
        simulated_fit, "rest", {k: v[30:] for k, v in draws.params.items()}, draws.scale[30:]
    )
    np.testing.assert_allclose(
        found.bands["N"], js.allocate(rest, flop=1e21, cost=cost).bands["N"], rtol=1e-6
    )
    draws.params["alpha"][:200] = -0.3
    with pytest.raises(js.LawError, match="of the draws have no compute-optimal size"):
        js.allocate(draws, flop=1e21, cost=cost)


def test_the_band_of_the_optimal_size_holds_as_often_as_it_says(simulated_fit):
    """The truth is one more draw: the band holds it nine times in ten, up to chance of 1e-4."""
    draws, truths = scattered(simulated_fit, n=2000), scattered(simulated_fit, n=500, seed=1)
    low, high = js.allocate(draws, flop=1e24).bands["N"]
    sizes = sizes_by_hand(truths.params, 1e24)
    assert np.mean((low < sizes) & (sizes < high)) == pytest.approx(
        0.9, abs=3.9 * np.sqrt(0.09 / 500) + 0.02
    )


def test_draws_in_doubt_decide_nothing_unless_forced(simulated_fit):
    draws = scattered(simulated_fit, doubt="The chains disagree: rank R-hat is 1.7.", notes=("x",))
    said = r"rank R-hat is 1\.7; pass force=True to allocate all the same"
    with pytest.raises(js.FitError, match=said):
        js.allocate(draws, flop=BUDGETS)
    found = js.allocate(draws, flop=BUDGETS, force=True)
    assert found.notes[0] == draws.doubt
    assert found.notes.count(draws.doubt) == 1
    assert found.notes[-1] == "x"
    trusted = js.allocate(scattered(simulated_fit), flop=BUDGETS)
    np.testing.assert_array_equal(found.bands["N"], trusted.bands["N"])
    ax = Figure().subplots()
    with pytest.raises(js.FitError, match=said):
        js.plot.frontier(draws, ax=ax)
    assert "in doubt" in js.plot.frontier(draws, force=True, ax=ax).get_title()
    assert any("in doubt" in panel.get_title() for panel in js.plot.summary(draws).axes)


# What a fit is worth.


def judged(fit, code, *names):
    finding = js.Finding(code, f"Something is wrong with {', '.join(names) or 'it'}.", names)
    return dataclasses.replace(fit, verdict=js.Verdict((finding,)))


@pytest.mark.parametrize("cost", [flops.six_nd, attention_cost])
@pytest.mark.parametrize("code", ["term_dead", "at_bound", "not_identified"])
def test_an_answer_that_hangs_on_an_open_parameter_is_refused(simulated_fit, code, cost):
    doubtful = judged(simulated_fit, code, "B")
    for source in (doubtful, scattered(doubtful)):
        with pytest.raises(js.FitError, match=r"wrong with B; pass force=True"):
            js.allocate(source, flop=BUDGETS, cost=cost)
        forced = js.allocate(source, flop=BUDGETS, cost=cost, force=True)
        assert any("in doubt" in note for note in forced.notes)
        np.testing.assert_allclose(
            forced.N, js.allocate(simulated_fit, flop=BUDGETS, cost=cost).N, rtol=1e-12
        )
    # The floor does not move the best size; a posterior brings its own uncertainty.
    harmless = judged(simulated_fit, code, "E")
    assert any("in doubt" in note for note in js.allocate(harmless, flop=BUDGETS, cost=cost).notes)
    own = scattered(doubtful, center="median")
    assert np.isfinite(js.allocate(own, flop=BUDGETS, cost=cost).N).all()


def test_a_fit_without_numbers_is_refused_and_softer_doubts_are_notes(simulated_fit):
    with pytest.raises(js.FitError, match="cannot say what is best"):
        js.allocate(judged(simulated_fit, "nonfinite"), flop=1e21)
    with pytest.raises(js.FitError):  # saved by an older version, without names
        js.allocate(judged(simulated_fit, "not_identified"), flop=1e21)
    for code in ("too_few_runs", "restarts_disagree", "not_converged", "borrowed"):
        found = js.allocate(judged(simulated_fit, code), flop=1e21)
        assert any("in doubt" in note for note in found.notes)


def test_verdicts_name_the_parameters_they_are_about(key):
    """Runs without an effect of D: its term is dead, and the fit says which."""
    rng = np.random.default_rng(0)
    N, D = np.exp(rng.uniform(np.log([[1e7], [1e10]]), np.log([[1e10], [1e12]]), (2, 60)))
    loss = np.asarray(js.laws.power_law(N, A=30.0, alpha=0.1)) * np.exp(0.003 * rng.normal(size=60))
    fit = js.fit(js.laws.chinchilla, js.Runs.from_arrays(N=N, D=D, loss=loss), restarts=64, key=key)
    about = {finding.code: finding.names for finding in fit.verdict.findings}
    assert "B" in {name for names in about.values() for name in names}, fit.verdict
    with pytest.raises(js.FitError, match="cannot say what is best"):
        js.allocate(fit, flop=1e22)


def test_results_with_a_frontier_of_their_own_give_it():
    class Approach:
        def frontier(self, flop, level, *, force):
            return ("frontier", float(flop), level, force)

    assert js.allocate(Approach(), flop=1e21, level=0.8) == ("frontier", 1e21, 0.8, False)
    with pytest.raises(js.DataError, match="need a fit or draws"):
        js.allocate(Approach(), flop=1e21, limits=[js.at_most("N", 1e9)])


def test_published_parameters_are_allocated_without_bands():
    entry = js.published.get("besiroglu_2024")
    found = js.allocate(entry, flop=5.76e23)
    assert float(found.N) == pytest.approx(72.25e9, rel=1e-4)
    assert found.bands == {}
    assert found.notes == ()


def test_pictures_in_notebooks_escape(simulated_fit):
    found = js.allocate(simulated_fit, flop=1e21, limits=[js.at_most("N", 1e6, name="<b>tiny")])
    assert "&lt;b&gt;tiny" in found._repr_html_()
    assert "<b>tiny" not in found._repr_html_()
