"""Objectives: derivatives agree with the loss, noise models are densities that match it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

import jaxscale as js

OBJECTIVES = [
    js.LogHuber(1e-3),
    js.LogHuber(0.3),
    js.Huber(0.05),
    js.LogGaussian(),
    js.Gaussian(),
    js.LogL1(),
    js.LogQuantile(0.2),
    js.LogStudentT(df=3.0, scale=0.02),
]
names = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)


@names
@pytest.mark.parametrize("width", [0.0, 0.01, 0.5])
def test_weights_are_the_derivatives_of_the_loss(objective, width):
    r = jnp.asarray([-0.7, -0.02, -0.0004, 0.0003, 0.04, 1.3])
    psi, core, reweighted = objective.weights(r, max(width, float(objective.width)))
    rho = lambda x: objective.rho(x, max(width, float(objective.width)))  # noqa: E731
    np.testing.assert_allclose(psi, jax.vmap(jax.grad(rho))(r), rtol=1e-12)
    second = jax.vmap(jax.grad(jax.grad(rho)))(r)
    np.testing.assert_allclose(core, np.maximum(second, 0), rtol=1e-9, atol=1e-9)
    other = jnp.linspace(-2, 2, 401)[:, None]
    parabola = rho(r) + psi * (other - r) + 0.5 * reweighted * (other - r) ** 2
    assert np.all(parabola >= rho(other) - 1e-12)


@names
def test_noise_model_integrates_to_one(objective):
    scale = 0.03
    density = lambda r: float(np.exp(objective.log_prob(jnp.asarray(r), scale)))  # noqa: E731
    total = sum(
        scipy.integrate.quad(density, low, high, limit=400)[0]
        for low, high in [(-50, -1), (-1, -1e-3), (-1e-3, 0), (0, 1e-3), (1e-3, 1), (1, 50)]
    )
    np.testing.assert_allclose(total, 1.0, rtol=2e-4 if "Student" in repr(objective) else 1e-6)


@names
def test_noise_scale_maximizes_the_likelihood(objective):
    if isinstance(objective, js.LogStudentT):
        pytest.skip("its scale is given, not estimated")
    r = 0.02 * np.random.default_rng(1).standard_t(4, size=200)
    weight = np.random.default_rng(2).integers(0, 3, size=200).astype(float)

    def negative(log_scale):
        return -float(weight @ np.asarray(objective.log_prob(jnp.asarray(r), np.exp(log_scale))))

    best = scipy.optimize.minimize_scalar(negative, bounds=(-9, 3), options={"xatol": 1e-9})
    np.testing.assert_allclose(objective.noise_scale(r, weight), np.exp(best.x), rtol=1e-5)


@names
def test_profile_is_the_negative_log_likelihood_at_the_best_scale(objective):
    residuals = np.random.default_rng(3).standard_t(4, size=(3, 50)) * [[3e-5], [0.01], [2.0]]
    mean = np.asarray(objective.rho(jnp.asarray(residuals))).mean(axis=1)
    found = objective.profile_nll(mean)
    assert found.shape == (3,)
    scales = objective.scale_at(mean)
    for r, value, scale in zip(residuals, found, scales, strict=True):

        def negative(log_scale, r=r):
            return -float(np.mean(objective.log_prob(jnp.asarray(r), np.exp(log_scale))))

        best = negative(np.log(scale))
        if not isinstance(objective, js.LogStudentT):
            at = np.log(np.sqrt(np.mean(r**2)))
            best = scipy.optimize.minimize_scalar(negative, bounds=(at - 4, at + 4)).fun
        np.testing.assert_allclose(value, best, rtol=1e-7)


@names
def test_a_perfect_fit_has_a_very_low_but_finite_profile(objective):
    assert np.isfinite(objective.profile_nll(0.0))
    assert objective.profile_nll(0.0) < objective.profile_nll(1e-6)


@names
@pytest.mark.parametrize("scale", [3e-4, 0.03, 2.0])
def test_cdf_is_the_integral_of_the_density(objective, scale):
    def density(r):
        return float(np.exp(objective.log_prob(jnp.asarray(r), scale)))

    points = scale * np.array([-30.0, -4.0, -1.0, -0.01, 0.0, 0.02, 0.7, 5.0, 40.0])
    edges = np.unique([*points, *(k * float(objective.width) for k in (-1, 1))])
    parts = [
        scipy.integrate.quad(density, a, b, epsrel=1e-9, epsabs=1e-12, limit=200)[0]
        for a, b in itertools.pairwise(edges)
    ]
    cdf = np.asarray(objective.cdf(jnp.asarray(edges), scale))
    np.testing.assert_allclose(np.diff(cdf), parts, atol=1e-8)
    tail = float(objective.cdf(-1e9 * scale, scale)), float(objective.cdf(1e9 * scale, scale))
    np.testing.assert_allclose(tail, [0, 1], atol=1e-10)


@names
@pytest.mark.parametrize("scale", [3e-4, 0.03, 2.0])
def test_ppf_inverts_the_cdf(objective, scale):
    u = np.array([1e-9, 1e-4, 0.05, 0.2, 0.4999, 0.5, 0.7, 0.8, 0.95, 0.9999, 1 - 1e-9])
    r = np.asarray(objective.ppf(jnp.asarray(u), scale))
    assert (np.diff(r) > 0).all()
    np.testing.assert_allclose(objective.cdf(r, scale), u, rtol=1e-9)


@names
def test_noise_model_takes_one_scale_per_draw(objective):
    scale = jnp.asarray([0.01, 0.02, 0.5])[:, None]
    u = jnp.asarray([0.05, 0.5, 0.95])
    both = objective.ppf(u, scale)
    assert both.shape == (3, 3)
    for i in range(3):
        np.testing.assert_allclose(both[i], objective.ppf(u, scale[i, 0]), rtol=1e-12)
    np.testing.assert_allclose(jax.jit(objective.cdf)(both, scale), jnp.tile(u, (3, 1)), rtol=1e-9)


@names
def test_the_fit_is_the_maximum_of_the_likelihood(objective):
    """Differences of rho and of the log density must be proportional."""
    if isinstance(objective, js.LogStudentT):
        factor = 1.0  # rho is the negative log likelihood itself
        scale = float(objective.scale)
    else:
        scale = 0.04
        factor = scale if isinstance(objective, (js.LogL1, js.LogQuantile)) else scale**2
    r = jnp.asarray([0.0, 0.01, -0.2, 0.5])
    rho = objective.rho(r)
    log_prob = objective.log_prob(r, scale)
    np.testing.assert_allclose(
        (rho - rho[0]) / factor, -(log_prob - log_prob[0]), rtol=1e-9, atol=1e-12
    )


def test_quantile_counts_runs_on_each_side(simulated, key):
    runs, _ = simulated
    low = js.fit(js.laws.chinchilla, runs, objective=js.LogQuantile(0.2), restarts=64, key=key)
    below = float(np.mean(np.asarray(low.residuals()) > 1e-6))  # runs under the curve
    assert 0.1 <= below <= 0.2 + 1e-9


@pytest.mark.parametrize(
    "make",
    [
        lambda: js.LogHuber(0.0),
        lambda: js.LogHuber(float("nan")),
        lambda: js.LogQuantile(1.0),
        lambda: js.LogStudentT(df=-1.0, scale=1.0),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(js.JaxscaleError):
        make()
