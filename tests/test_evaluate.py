"""The one pass over the data agrees with automatic differentiation and plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscale as js
from jaxscale._evaluate import (
    Rows,
    Smoothing,
    normal_equations,
    residuals,
    value_function,
)

LAW = js.laws.chinchilla


def make_rows(n, seed=0):
    rng = np.random.default_rng(seed)
    inputs = tuple(jnp.asarray(np.exp(rng.normal(size=n))) for _ in LAW.inputs)
    loss = jnp.asarray(np.exp(0.3 * rng.normal(size=n)))
    weight = jnp.asarray(rng.integers(0, 3, size=n).astype(float))
    return Rows(inputs, loss, weight, jnp.asarray(0.2))


def random_theta(lanes, seed=1):
    return jnp.asarray(0.5 * np.random.default_rng(seed).normal(size=(lanes, 5)))


@pytest.mark.parametrize("n", [1, 3, 4, 5, 53, 8191, 8193])
@pytest.mark.parametrize("objective", [js.LogHuber(0.05), js.Gaussian(), js.LogStudentT(4.0, 0.1)])
def test_value_gradient_and_hessian(n, objective):
    rows, theta = make_rows(n), random_theta(1)[0]
    width = objective.width

    def plain(at):
        return jnp.sum(rows.weight * objective.rho(residuals(LAW, objective, at, rows)))

    seen = normal_equations(LAW, objective, theta, Smoothing(width, width, 1.0), rows)
    np.testing.assert_allclose(seen.value, plain(theta), rtol=1e-12)
    np.testing.assert_allclose(jnp.stack(seen.gradient), jax.grad(plain)(theta), rtol=1e-9)

    jacobian = jax.jacfwd(lambda at: residuals(LAW, objective, at, rows))(theta)
    r = residuals(LAW, objective, theta, rows)
    _, core, reweighted = objective.weights(r, width)
    for mix, weights in ((0.0, core), (1.0, np.maximum(core, reweighted))):
        seen = normal_equations(LAW, objective, theta, Smoothing(width, width, mix), rows)
        full = jacobian.T @ ((rows.weight * weights)[:, None] * jacobian)
        lower = [full[i, j] for i in range(5) for j in range(i + 1)]
        np.testing.assert_allclose(jnp.stack(seen.hessian), lower, rtol=1e-9, atol=1e-12)


def test_batching_rule_agrees_with_a_loop():
    rows, theta, objective = make_rows(21), random_theta(7), js.LogHuber(0.02)
    mix = jnp.linspace(0.0, 1.0, 7)

    def one(at, m, rows):
        return normal_equations(LAW, objective, at, Smoothing(0.02, 0.05, m), rows)

    batched = jax.jit(jax.vmap(one, in_axes=(0, 0, None)))(theta, mix, rows)
    for i in range(7):
        alone = one(theta[i], mix[i], rows)
        jax.tree.map(
            lambda b, a, i=i: np.testing.assert_allclose(b[i], a, rtol=1e-11), batched, alone
        )


def test_each_lane_can_have_its_own_rows():
    objective, theta = js.Huber(0.05), random_theta(3)
    sets = [make_rows(10, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *sets)

    def one(at, rows):
        return normal_equations(LAW, objective, at, Smoothing(0.05, 0.05, 0.5), rows)

    batched = jax.vmap(one)(theta, stacked)
    for i, rows in enumerate(sets):
        alone = one(theta[i], rows)
        np.testing.assert_allclose(batched.value[i], alone.value, rtol=1e-11)
        np.testing.assert_allclose(batched.gradient[4][i], alone.gradient[4], rtol=1e-10)


def test_only_the_weights_may_differ_between_lanes():
    objective, theta, rows = js.LogHuber(0.02), random_theta(3), make_rows(19)
    weights = jnp.asarray(np.random.default_rng(5).integers(0, 4, (3, 19)).astype(float))

    def one(at, weight):
        own = Rows(rows.inputs, rows.loss, weight, rows.log_loss_ref)
        return normal_equations(LAW, objective, at, Smoothing(0.02, 0.02, 0.5), own).value

    batched = jax.vmap(one)(theta, weights)
    np.testing.assert_allclose(batched, [one(theta[i], weights[i]) for i in range(3)], rtol=1e-11)


def test_value_function_has_the_gradient_of_the_value():
    rows, theta, objective = make_rows(30), random_theta(4), js.LogHuber(0.02)
    value = value_function(LAW, objective, rows)
    batched = jax.vmap(jax.value_and_grad(value))(theta)
    for i in range(4):
        expected = jax.value_and_grad(
            lambda at: jnp.sum(rows.weight * objective.rho(residuals(LAW, objective, at, rows)))
        )(theta[i])
        np.testing.assert_allclose(batched[0][i], expected[0], rtol=1e-12)
        np.testing.assert_allclose(batched[1][i], expected[1], rtol=1e-9)


def test_padding_never_counts():
    rows, theta, objective = make_rows(12), random_theta(1)[0], js.LogGaussian()
    padded = Rows(
        tuple(jnp.append(x, 1e9) for x in rows.inputs),
        jnp.append(rows.loss, 1e9),
        jnp.append(rows.weight, 0.0),
        rows.log_loss_ref,
    )
    smooth = Smoothing(0.0, 0.0, 1.0)
    expected = normal_equations(LAW, objective, theta, smooth, rows)
    seen = normal_equations(LAW, objective, theta, smooth, padded)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), seen, expected)


def test_derivatives_that_it_does_not_have_are_refused():
    """By the rows, `residuals` is differentiable; `value_function` must not answer zero."""
    rows, theta, objective = make_rows(12), random_theta(1)[0], js.LogGaussian()

    def by_weight(weight):
        own = Rows(rows.inputs, rows.loss, weight, rows.log_loss_ref)
        return value_function(LAW, objective, own)(theta)

    with pytest.raises(TypeError, match="by theta only"):
        jax.grad(by_weight)(rows.weight)


@js.law(E=js.positive(0.3, 1.0), A=js.positive(0.3, 1.0), alpha=js.real(0.1, 1.0))
def by_iteration(N, D, *, E, A, alpha):
    """L = E + A N^-alpha + D^-1/2, the root by Heron's method: a loop that has no reverse mode."""

    def better(state):
        root, _ = state
        following = 0.5 * (root + D / root)
        return following, jnp.abs(following - root) > 1e-14 * following

    root, _ = jax.lax.while_loop(lambda state: state[1], better, (0.5 * (1 + D), D > 0))
    return E + A * jnp.exp(-alpha * jnp.log(N)) + 1 / root


@js.law(E=js.positive(0.3, 1.0), A=js.positive(0.3, 1.0), alpha=js.real(0.1, 1.0))
def in_closed_form(N, D, *, E, A, alpha):
    """L = E + A N^-alpha + D^-1/2"""
    return E + A * jnp.exp(-alpha * jnp.log(N)) + 1 / jnp.sqrt(D)


def test_a_law_with_a_loop_of_unknown_length():
    rows, theta, objective = make_rows(21), random_theta(4)[:, :3], js.LogHuber(0.05)

    def seen(law):
        def one(at):
            return normal_equations(law, objective, at, Smoothing(0.05, 0.05, 0.5), rows)

        return jax.jit(jax.vmap(one))(theta)

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)

    jax.tree.map(close, seen(by_iteration), seen(in_closed_form))
