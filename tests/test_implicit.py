"""The optimum as a function of the data: equal to a new fit, and differentiable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscale as js
from jaxscale._implicit import refit

OBJECTIVES = [js.LogGaussian(), js.LogHuber(1e-2), js.LogHuber(1e-3), js.Gaussian(), js.LogL1()]


@pytest.fixture(scope="module", params=OBJECTIVES, ids=repr)
def fitted(request, simulated, key):
    return js.fit(js.laws.chinchilla, simulated[0], objective=request.param, restarts=64, key=key)


def directions(fit, seed=0):
    """A column of the data, its values, and a direction to change it in."""
    rng = np.random.default_rng(seed)
    columns = {"loss": fit.runs.loss, "weight": fit.runs.weight, **fit.runs.inputs}
    return {k: (jnp.asarray(x), jnp.asarray(x * rng.normal(size=60))) for k, x in columns.items()}


def test_unchanged_data_give_the_same_fit(fitted):
    again = refit(fitted)
    assert np.asarray(again.free) == pytest.approx(fitted.free, rel=1e-9, abs=1e-9)
    assert float(again.value) == pytest.approx(fitted.value, rel=1e-12)
    assert float(again.rmse) == pytest.approx(fitted.rmse, rel=1e-9)
    assert again.digest == fitted.digest
    assert again.n_runs == fitted.n_runs


def test_derivatives_are_those_of_real_refits(fitted):
    """Along random directions of every column, for a prediction far outside the data."""
    moves = directions(fitted)
    columns = {name: x for name, (x, _) in moves.items()}

    def answer(columns):
        return js.predict(refit(fitted, **columns), N=7e10, D=1.4e12).mean

    slopes, answer = jax.jit(jax.grad(answer))(columns), jax.jit(answer)
    for name, (x, direction) in moves.items():
        step = 1e-6 * direction
        up, down = (answer({**columns, name: x + sign * step}) for sign in (1, -1))
        slope = float(slopes[name] @ direction)
        # A vertex of least absolute deviations does not move with the weights.
        assert slope == pytest.approx(float(up - down) / 2e-6, rel=1e-4, abs=1e-6), name


def test_a_changed_table_gives_the_fit_from_scratch(fitted, key):
    loss = fitted.runs.loss * np.exp(0.002 * np.random.default_rng(4).normal(size=60))
    warm = refit(fitted, loss=loss)
    runs = js.Runs.from_arrays(**fitted.runs.inputs, loss=loss)
    cold = js.fit(js.laws.chinchilla, runs, objective=fitted.objective, restarts=64, key=key)
    assert float(warm.value) == pytest.approx(cold.value, rel=1e-9)
    for name in fitted.law.names:
        assert float(warm.params[name]) == pytest.approx(float(cold.params[name]), rel=1e-5)
    assert warm.digest == cold.digest
    assert warm.verdict is fitted.verdict


@pytest.fixture(scope="module")
def least_squares(simulated, key):
    return js.fit(
        js.laws.chinchilla, simulated[0], objective=js.LogGaussian(), restarts=64, key=key
    )


def test_through_an_allocation_and_jit(least_squares):
    @jax.jit
    def size(loss):
        return jnp.log(js.allocate(refit(least_squares, loss=loss), flop=1e23).N)

    x, direction = directions(least_squares)["loss"]
    slope = jax.grad(size)(x) @ direction
    step = 1e-6
    difference = (size(x + step * direction) - size(x - step * direction)) / (2 * step)
    assert float(slope) == pytest.approx(float(difference), rel=1e-5)


@pytest.mark.slow
def test_many_tables_at_once(least_squares):
    rng = np.random.default_rng(1)
    weights = jnp.asarray(rng.exponential(size=(3, 60)))

    def exponents(weight):
        params = refit(least_squares, weight=weight).params
        return jnp.stack([params["alpha"], params["beta"]])

    together = jax.jit(jax.vmap(exponents))(weights)
    alone = jnp.stack([exponents(weight) for weight in weights])
    assert np.asarray(together) == pytest.approx(np.asarray(alone), rel=1e-8)
    jacobians = jax.vmap(jax.jacfwd(exponents))(weights)
    assert jacobians.shape == (3, 2, 60)
    backward = jax.jacrev(exponents)(weights[0])
    assert np.asarray(jacobians[0]) == pytest.approx(np.asarray(backward), rel=1e-6, abs=1e-12)


def test_second_derivatives(least_squares):
    x, direction = directions(least_squares)["loss"]

    def along(s):
        return refit(least_squares, loss=x * jnp.exp(s * direction / x)).params["alpha"]

    step = 1e-4
    bend = (jax.grad(along)(step) - jax.grad(along)(-step)) / (2 * step)
    assert float(jax.grad(jax.grad(along))(0.0)) == pytest.approx(float(bend), rel=1e-4)


def test_refusals(least_squares, simulated, key):
    with pytest.raises(js.LawError, match="no input 'C'; it has N, D"):
        refit(least_squares, C=np.ones(60))
    with pytest.raises(js.DataError, match="60 values of loss"):
        refit(least_squares, loss=np.ones(3))
    with pytest.raises(js.DataError, match="weight = -1 in row 2"):
        refit(least_squares, weight=np.r_[1.0, -1.0, np.ones(58)])
    with pytest.raises(js.DataError, match="N = nan in row 1"):
        refit(least_squares, N=np.r_[np.nan, np.ones(59)])
    many = js.fit(js.laws.chinchilla, js.Runs.stack({"a": simulated[0]}), restarts=8, key=key)
    with pytest.raises(js.DataError, match="choose one data set"):
        refit(many)


def test_on_the_replication(chinchilla_fit):
    """A sharp Huber loss on real runs: smooth as long as no run crosses delta."""
    x = jnp.asarray(chinchilla_fit.runs.loss)
    direction = jnp.asarray(np.random.default_rng(0).normal(size=240))

    def answer(loss):
        return jnp.log(js.allocate(refit(chinchilla_fit, loss=loss), flop=5.76e23).N)

    slope = jax.grad(answer)(x) @ direction
    step = 1e-7
    difference = (answer(x + step * direction) - answer(x - step * direction)) / (2 * step)
    assert float(slope) == pytest.approx(float(difference), rel=1e-4)
