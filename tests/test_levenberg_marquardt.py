"""Levenberg-Marquardt as a plain Optax transformation, against SciPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import jaxscale as js


def minimize(residual_fn, start, steps=100, **settings):
    optimizer = js.levenberg_marquardt(**settings)
    state = optimizer.init(start)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(
            jnp.zeros_like(params), state, params, residual_fn=residual_fn
        )
        return optax.apply_updates(params, updates), state

    params = start
    for _ in range(steps):
        params, state = step(params, state)
        if state.converged:
            break
    return params, state


def test_rosenbrock_valley():
    params, state = minimize(
        lambda p: jnp.stack([10 * (p[1] - p[0] ** 2), 1 - p[0]]), jnp.asarray([-1.2, 1.0])
    )
    assert state.converged
    np.testing.assert_allclose(params, [1.0, 1.0], rtol=1e-8)


def test_linear_least_squares_in_closed_form():
    rng = np.random.default_rng(0)
    matrix, right = rng.normal(size=(30, 4)), rng.normal(size=30)
    params, state = minimize(lambda p: matrix @ p - right, jnp.zeros(4))
    assert state.converged
    np.testing.assert_allclose(params, np.linalg.lstsq(matrix, right, rcond=None)[0], rtol=1e-7)


@pytest.mark.parametrize("p", [3, 14])
def test_both_linear_solvers_agree_with_scipy(p):
    """Below and above the size at which the factorization is unrolled."""
    rng = np.random.default_rng(p)
    matrix, target = rng.normal(size=(60, p)), rng.normal(size=60)

    def residual(x):
        return jnp.tanh(matrix @ x) + 0.1 * (matrix @ x) - target

    params, state = minimize(residual, jnp.full(p, 0.01), steps=200)
    jacobian = jax.jacfwd(residual)
    found = scipy.optimize.least_squares(
        lambda x: np.asarray(residual(x)), params, jac=lambda x: np.asarray(jacobian(x)),
        xtol=1e-15, ftol=1e-15, gtol=1e-15,
    )  # fmt: skip
    assert state.converged
    np.testing.assert_allclose(params, found.x, atol=1e-6)
    np.testing.assert_allclose(state.value, found.cost, rtol=1e-10)


def test_the_objective_never_rises():
    optimizer = js.levenberg_marquardt()
    start = jnp.asarray([3.0, -2.0])
    state, params, values = optimizer.init(start), start, []
    for _ in range(40):
        updates, state = optimizer.update(
            start, state, params, residual_fn=lambda p: jnp.stack([p[0] ** 2 - p[1], p[1] ** 3])
        )
        params = params + updates
        values.append(float(state.value))
    assert np.all(np.diff(values) <= 0)


def test_a_start_that_is_not_finite_is_given_up():
    params, state = minimize(lambda p: jnp.log(p), jnp.asarray([-1.0, 2.0]), steps=50)
    assert state.converged
    assert not np.isfinite(state.value)
    np.testing.assert_array_equal(params, [-1.0, 2.0])


def test_it_says_what_it_needs():
    optimizer = js.levenberg_marquardt()
    with pytest.raises(TypeError, match="residual_fn"):
        optimizer.update(jnp.zeros(2), optimizer.init(jnp.zeros(2)), jnp.zeros(2))
