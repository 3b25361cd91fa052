"""Draws and quantities: names, quantiles, errors."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxscale as js


@pytest.fixture(scope="module")
def draws(simulated_fit):
    rng = np.random.default_rng(0)
    spread = np.exp(0.02 * rng.normal(size=(500, 1)))
    params = {name: float(v) * spread[:, 0] for name, v in simulated_fit.params.items()}
    return js.Draws(simulated_fit, "made up", params, np.full(500, 0.01))


def test_a_draw_is_its_parameters(draws):
    np.testing.assert_array_equal(draws["alpha"], draws.params["alpha"])
    alpha, beta = draws.params["alpha"], draws.params["beta"]
    np.testing.assert_allclose(draws["a"], beta / (alpha + beta), rtol=1e-12)
    np.testing.assert_allclose(draws.derived["b"], alpha / (alpha + beta), rtol=1e-12)
    p = {k: v[7] for k, v in draws.params.items()}
    loss = p["E"] + p["A"] * 1e9 ** -p["alpha"] + p["B"] * 2e10 ** -p["beta"]
    assert draws[js.loss_at(N=1e9, D=2e10)][7] == pytest.approx(loss, rel=1e-12)
    one = dataclasses.replace(draws.fit, params=p)
    best = js.allocate(one, flop=1e24)
    assert draws[js.optimal_N(1e24)][7] == pytest.approx(float(best.N), rel=1e-9)
    assert draws[js.optimal_D(1e24)][7] == pytest.approx(float(best.D), rel=1e-9)


def test_intervals_are_quantiles(draws):
    low, high = draws.interval("E", level=0.8)
    assert (low, high) == pytest.approx(np.quantile(draws.params["E"], [0.1, 0.9]))
    table = draws.frame(level=0.8).set_index("quantity")
    assert table.loc["E", "low"] == pytest.approx(low)
    assert table.loc["E", "se"] == pytest.approx(draws.params["E"].std(ddof=1))
    assert table.loc["E", "estimate"] == float(draws.fit.params["E"])
    middle = dataclasses.replace(draws, center="median").frame().set_index("quantity")
    assert middle.loc["E", "estimate"] == pytest.approx(np.median(draws.params["E"]))
    assert draws.covariance().loc["A", "B"] > 0
    assert draws.correlation().loc["A", "B"] == pytest.approx(1, abs=1e-6)
    assert "made up" in repr(draws)
    assert "made up" in draws._repr_html_()
    assert len(draws) == 500


def test_a_quantity_searched_numerically_agrees_with_the_closed_form(draws):
    """The same law without its closed-form optimum."""
    law = dataclasses.replace(js.laws.chinchilla, optimum=None)
    other = dataclasses.replace(draws, fit=dataclasses.replace(draws.fit, law=law))
    some = {name: v[:3] for name, v in draws.params.items()}
    closed = dataclasses.replace(draws, params=some)[js.optimal_N(1e22)]
    searched = dataclasses.replace(other, params=some)[js.optimal_N(1e22)]
    np.testing.assert_allclose(searched, closed, rtol=1e-7)


def test_unknown_quantities_are_named(draws):
    with pytest.raises(js.LawError, match="has no quantity 'gamma'"):
        draws["gamma"]
    with pytest.raises(js.LawError, match="needs the inputs N, D"):
        draws[js.loss_at(N=1e9)]
    with pytest.raises(js.DataError, match="level must lie between"):
        draws.interval("E", 95)


def test_optimal_sizes_are_for_laws_in_n_and_d():
    x = np.geomspace(1e3, 1e6, 12)
    runs = js.Runs.from_arrays(x=x, loss=3 * x**-0.1)
    fit = js.fit(js.laws.power_law, runs, restarts=8, key=jax.random.key(0))
    made = js.Draws(
        fit, "one", {k: np.ones(2) * float(v) for k, v in fit.params.items()}, np.ones(2)
    )
    with pytest.raises(js.LawError, match="not one in N and D"):
        made[js.optimal_N(1e20)]


def test_a_stack_has_no_draws(simulated):
    stack = js.fit(
        js.laws.chinchilla,
        js.Runs.stack({"a": simulated[0], "b": simulated[0]}),
        restarts=8,
        key=jax.random.key(0),
    )
    with pytest.raises(js.DataError, match="choose one data set"):
        js.Draws(stack, "none", {"E": np.ones(2)}, np.ones(2))


def test_the_noise_of_a_run_is_the_one_in_force(draws):
    implied = draws.run_noise
    assert implied.log
    r, u = np.array([[-0.02], [0.01]]), np.array([[0.05], [0.95]])
    np.testing.assert_allclose(
        implied.cdf(r, None, {}), draws.objective.cdf(r, draws.scale), rtol=1e-12
    )
    low, high = implied.bracket(u, None, {})
    np.testing.assert_array_equal(low, high)
    np.testing.assert_allclose(implied.cdf(low, None, {}), np.broadcast_to(u, low.shape), rtol=1e-9)
    assert dataclasses.replace(draws, noise=implied).run_noise is implied
    with pytest.raises(js.DataError, match="500 members for 3 draws"):
        dataclasses.replace(
            draws, params={k: v[:3] for k, v in draws.params.items()}, noise=implied
        )


def test_doubt_is_shown(draws):
    doubted = dataclasses.replace(draws, doubt="The chains disagree.", notes=("A note.",))
    assert doubted.remarks == ("The chains disagree.", "A note.")
    assert "The chains disagree." in repr(doubted)
    assert "The chains disagree." in doubted._repr_html_()
    assert draws.remarks == draws.notes
