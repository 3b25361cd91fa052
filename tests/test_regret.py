"""regret(): closed forms, brute force, derivatives, and the size of least expected regret."""

import dataclasses

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from decisions import scattered
from matplotlib.figure import Figure

import jaxscale as js
from jaxscale import flops, laws, published
from jaxscale.laws import compute_optimal, kaplan

C = np.array([1e21, 1e24])
K = np.array([0.25, 0.5, 1.0, 2.0, 4.0])


def plain(N, D):
    """6 N D, but not known to be."""
    return 6 * N * D


# Closed forms.


@pytest.mark.parametrize("name", ["besiroglu_2024", "hoffmann_2022", "busbridge_2025"])
@pytest.mark.parametrize("cost", [flops.six_nd, plain])
def test_closed_and_numeric_regret_agree(name, cost):
    entry = published.get(name)
    p = entry.params
    shape = {k: p[k] for k in ("alpha", "beta", "gamma") if k in p}
    found = js.regret(entry, flop=C, factor=K, cost=cost)
    best = compute_optimal.least_loss(C, **p) - p["E"]
    closed = best * (compute_optimal.excess(K[:, None], **shape) - 1)
    np.testing.assert_allclose(found.regret, closed, rtol=1e-9, atol=1e-14)
    lost = compute_optimal.wasted(K[:, None], alpha=p["alpha"], beta=p["beta"])
    np.testing.assert_allclose(found.wasted, lost + 0 * C, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(6 * found.N * found.D, np.broadcast_to(C, found.N.shape), rtol=1e-12)
    np.testing.assert_allclose(found.factor, np.broadcast_to(K[:, None], found.N.shape))


def test_what_is_wasted_by_definition():
    """The best size on the rest of the budget reaches the same loss."""
    entry = published.get("besiroglu_2024")
    found = js.regret(entry, flop=C, factor=K)
    rest = js.allocate(entry, flop=C * (1 - found.wasted))
    np.testing.assert_allclose(rest.loss, found.loss, rtol=1e-12)


def test_overhead_at_equal_loss_by_brute_force():
    p = published.get("besiroglu_2024").params
    shape = {"alpha": p["alpha"], "beta": p["beta"]}
    loss = 2.0
    budget = float(compute_optimal.budget(loss, **p))
    best = float(laws.chinchilla.optimum(budget, **p))
    for k in (0.5, 2.0):
        rest = loss - p["E"] - p["A"] * (k * best) ** -p["alpha"]
        needed = 6 * k * best * (p["B"] / rest) ** (1 / p["beta"])
        assert float(compute_optimal.overhead(k, **shape)) == pytest.approx(needed / budget)
    least = float(compute_optimal.smallest_factor(**shape))
    assert compute_optimal.overhead(least * 0.999, **shape) == np.inf
    assert np.isfinite(compute_optimal.overhead(least * 1.001, **shape))


def test_kaplan_prints_the_same_overhead():
    """His law in size and steps has the same form: twice the best size takes 16% more compute."""
    k = np.array([0.5, 2.0, 8.0])
    ours = compute_optimal.overhead(k, alpha=0.076, beta=0.76)
    np.testing.assert_allclose(ours, kaplan.size_overhead(k, alpha_N=0.076, alpha_S=0.76))
    assert cases.agrees(compute_optimal.overhead(2.0, alpha=0.076, beta=0.76), "1.159686471")


# Any law and cost, against brute force.


@pytest.mark.slow
def test_any_law_and_cost(simulated_fit):
    def cost(N, D):
        return 6 * N * D + 4e3 * N ** (2 / 3) * D

    entry, budget = published.get("kaplan_2020_nd"), 1e21
    found = js.regret(entry, flop=budget, factor=[0.5, 3.0], cost=cost)

    def loss(n):
        N = np.exp(n)
        return float(entry(N=N, D=budget / cost(N, 1.0)))

    best = scipy.optimize.minimize_scalar(
        loss, bounds=(np.log(1e7), np.log(1e14)), method="bounded", options={"xatol": 1e-11}
    )
    for i, k in enumerate((0.5, 3.0)):
        assert float(found.regret[i]) == pytest.approx(
            loss(best.x + np.log(k)) - best.fun, rel=1e-5
        )
    rest = js.allocate(entry, flop=budget * (1 - found.wasted), cost=cost)
    np.testing.assert_allclose(rest.loss, found.loss, rtol=1e-10)


def test_inputs_that_are_fixed():
    """Too large a model is worse where data must be repeated than where it need not."""
    entry = published.get("muennighoff_2023_c4")
    scarce, ample = (
        js.regret(entry, flop=1e22, factor=[0.5, 2.0], fixed={"U": U}) for U in (25e9, 1e13)
    )
    assert float(scarce.regret[1]) != pytest.approx(float(ample.regret[1]), rel=0.05)
    base = {name: entry.params[name] for name in laws.chinchilla.names}
    plain = compute_optimal.least_loss(1e22, **base) - base["E"]
    shape = {"alpha": base["alpha"], "beta": base["beta"]}
    closed = plain * (compute_optimal.excess(np.array([0.5, 2.0]), **shape) - 1)
    # Twice the best size is beyond what its tokens can use, which the base law does not know.
    assert float(ample.regret[0]) == pytest.approx(float(closed[0]), rel=1e-6)


def test_derivatives(simulated_fit):
    def lost(alpha, log_c):
        fit = dataclasses.replace(simulated_fit, params={**simulated_fit.params, "alpha": alpha})
        return js.regret(fit, flop=jnp.exp(log_c), factor=[2.0]).regret[0]

    at = (float(simulated_fit.params["alpha"]), np.log(1e22))
    exact = jax.grad(lost, argnums=(0, 1))(*at)
    for i in range(2):
        step = 1e-5 * np.eye(2)[i]
        numeric = (lost(*(at + step)) - lost(*(at - step))) / 2e-5
        assert float(exact[i]) == pytest.approx(float(numeric), rel=1e-5)


# Draws.


@pytest.mark.parametrize("center", ["fit", "median"])
@pytest.mark.parametrize("cost", [flops.six_nd, plain])
def test_expected_regret_by_hand(simulated_fit, center, cost):
    draws = scattered(simulated_fit, n=300, spread=0.04, center=center)
    p, k = draws.params, np.array([0.5, 1.0, 2.0])
    found = js.regret(draws, flop=1e23, factor=k, level=0.8, cost=cost)
    sizes = laws.chinchilla.optimum(1e23, **p)
    point = float(laws.chinchilla.optimum(1e23, **simulated_fit.params))
    point = point if center == "fit" else float(np.median(sizes))
    N = k[:, None] * point
    best = laws.chinchilla(sizes, 1e23 / 6 / sizes, **p)
    lost = np.asarray(laws.chinchilla(N, 1e23 / 6 / N, **p) - best)
    np.testing.assert_allclose(found.expected, lost.mean(axis=1), rtol=1e-7)
    np.testing.assert_allclose(
        np.stack(found.bands["regret"]), np.quantile(lost, [0.1, 0.9], axis=1), rtol=1e-6
    )
    shape = {"alpha": p["alpha"], "beta": p["beta"]}
    idle = compute_optimal.wasted(N / sizes, **shape)
    np.testing.assert_allclose(found.expected_wasted, idle.mean(axis=1), rtol=1e-7)
    assert (lost >= 0).all()
    if center == "median":
        np.testing.assert_allclose(found.regret, np.median(lost, axis=1), rtol=1e-6)


def test_the_size_of_least_expected_regret_by_brute_force(simulated_fit):
    draws = scattered(simulated_fit, n=300, spread=0.06)
    found = js.regret(draws, flop=C, factor=K)
    for i, budget in enumerate(C):

        def mean_loss(n, budget=budget):
            N = np.exp(n)
            return float(np.mean(laws.chinchilla(N, budget / 6 / N, **draws.params)))

        best = scipy.optimize.minimize_scalar(
            mean_loss,
            bounds=(np.log(1e7), np.log(1e14)),
            method="bounded",
            options={"xatol": 1e-11},
        )
        own = laws.chinchilla.optimum(budget, **draws.params)
        least = np.mean(laws.chinchilla(own, budget / 6 / own, **draws.params))
        assert np.log(float(found.best_N[i])) == pytest.approx(best.x, abs=1e-5)
        assert float(found.best_expected[i]) == pytest.approx(best.fun - float(least), rel=1e-6)
        assert float(found.best_expected[i]) <= np.asarray(found.expected)[:, i].min()
        assert float(6 * found.best_N[i] * found.best_D[i]) == pytest.approx(budget, rel=1e-10)
        assert any(f"N = {float(found.best_N[i]):.4g} has the least" in x for x in found.notes)


def test_the_least_expected_regret_is_what_one_loses(simulated_fit):
    """The truth is one more draw: the mean loss over 2,000 of them, within four standard errors."""
    draws = scattered(simulated_fit, n=2000, spread=0.04)
    truths = scattered(simulated_fit, n=2000, spread=0.04, seed=1)
    found = js.regret(draws, flop=1e23, factor=[1.0])
    own = laws.chinchilla.optimum(1e23, **truths.params)
    best = laws.chinchilla(own, 1e23 / 6 / own, **truths.params)
    N = float(found.best_N)
    lost = np.asarray(laws.chinchilla(N, 1e23 / 6 / N, **truths.params) - best)
    error = lost.std() / np.sqrt(len(lost)) * np.sqrt(2)  # as many draws as truths
    assert float(found.best_expected) == pytest.approx(lost.mean(), abs=4 * error)
    low, high = found.bands["regret"]
    at = float(found.N[0])
    mine = np.asarray(laws.chinchilla(at, 1e23 / 6 / at, **truths.params) - best)
    inside = np.mean((low[0] < mine) & (mine < high[0]))
    assert inside == pytest.approx(0.9, abs=3.9 * np.sqrt(0.09 / 2000) + 0.02)


def test_draws_without_an_optimum_have_no_regret(simulated_fit):
    draws = scattered(simulated_fit)
    draws.params["alpha"][:30] *= -1
    found = js.regret(draws, flop=1e21, factor=[1.0, 2.0])
    assert any("10.00% of the draws there is no" in note for note in found.notes)
    rest = scattered(simulated_fit)
    kept = {name: values[30:] for name, values in rest.params.items()}
    rest = dataclasses.replace(rest, params=kept, scale=rest.scale[30:])
    again = js.regret(rest, flop=1e21, factor=[1.0, 2.0])
    np.testing.assert_allclose(found.expected, again.expected, rtol=1e-9)
    np.testing.assert_allclose(found.best_N, again.best_N, rtol=1e-9)


# What is shown.


def test_sizes_of_ones_own(simulated_fit):
    best = float(js.allocate(simulated_fit, flop=1e22).N)
    found = js.regret(simulated_fit, flop=1e22, N=[1e9, best])
    np.testing.assert_allclose(found.N, [1e9, best])
    np.testing.assert_allclose(found.factor, [1e9 / best, 1.0])
    assert float(found.regret[1]) == pytest.approx(0.0, abs=1e-14)


def test_tables_texts_and_refusals(simulated_fit):
    found = js.regret(simulated_fit, flop=C, factor=K)
    table = found.frame()
    assert list(table.columns) == ["flop", "factor", "N", "D", "loss", "regret", "wasted"]
    assert len(table) == len(C) * len(K)
    assert table["flop"].is_monotonic_increasing
    assert "Regret of other sizes" in found._repr_html_()
    assert "wasted" in repr(found)
    drawn = js.regret(scattered(simulated_fit), flop=1e22, factor=K).frame()
    assert {"expected", "expected_wasted", "regret_low", "regret_high"} <= set(drawn.columns)
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(js.DataError, match="factor must be positive"):
            js.regret(simulated_fit, flop=1e22, factor=[bad])
        with pytest.raises(js.DataError, match="budget must be positive"):
            js.regret(simulated_fit, flop=bad)
    flat = dataclasses.replace(simulated_fit, params={**simulated_fit.params, "alpha": -0.3})
    with pytest.raises(js.LawError, match="no best size"):
        js.regret(flat, flop=1e22)
    verdict = js.Verdict((js.Finding("not_identified", "A is open.", ("A",)),))
    with pytest.raises(js.FitError, match="cannot say what is best"):
        js.regret(dataclasses.replace(simulated_fit, verdict=verdict), flop=1e22)


def test_pictures(simulated_fit):
    draws = scattered(simulated_fit)
    ax = js.plot.regret(draws, flop=C, ax=Figure().subplots())
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(labels) == 2
    lines = {line.get_linestyle() for line in ax.get_lines()}
    assert {"-", "--"} <= lines | {"--"}
    assert len(ax.collections) == 2  # bands
    found = js.regret(simulated_fit, flop=1e22)
    ax = js.plot.regret(found, ax=Figure().subplots())
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), found.regret)
    assert any("wasted" in text.get_text() for text in ax.texts)
    with pytest.raises(js.DataError, match="give the budgets"):
        js.plot.regret(simulated_fit, ax=ax)
    with pytest.raises(js.DataError, match="already"):
        js.plot.regret(found, flop=1e22, ax=ax)
    with pytest.raises(js.DataError, match="shows 7 budgets"):
        js.plot.regret(simulated_fit, flop=np.geomspace(1e18, 1e25, 8), ax=ax)


def test_pictures_of_frontiers_under_limits(simulated_fit):
    limits = [js.at_most("N", 7e9)]
    ax = js.plot.frontier(simulated_fit, limits=limits, ax=Figure().subplots())
    assert "thin: at a limit" in ax.get_title()
    found = js.allocate(simulated_fit, flop=np.geomspace(1e20, 1e24, 9), limits=limits)
    ax = js.plot.frontier(found, ax=Figure().subplots())
    assert max(np.nanmax(line.get_ydata()) for line in ax.get_lines()[:3]) <= 7e9 * (1 + 1e-9)
    with pytest.raises(js.DataError, match="has its budgets, cost, limits"):
        js.plot.frontier(found, limits=limits, ax=ax)
