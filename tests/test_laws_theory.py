"""Theories of scaling: their exponents, and whether fits recover them from exact simulations."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxscale as js
from jaxscale import laws
from jaxscale.laws import recipes, simulators, theory

KEY = jax.random.key(0)


def slopes(x, y):
    return -np.diff(np.log(np.asarray(y))) / np.diff(np.log(np.asarray(x)))


# Paquette's phases.

PHASES = {
    "Ia": [(0.7, 0.3), (1.2, 0.1), (0.55, 0.45)],
    "Ib": [(0.4, 0.3), (0.3, 0.45), (0.15, 0.4)],
    "Ic": [(0.2, 0.8), (0.1, 1.5), (0.24, 0.6)],
    "II": [(1.0, 0.7), (2.0, 0.9), (0.8, 0.55)],
    "III": [(0.7, 1.0), (1.0, 1.3), (0.6, 2.0)],
    "IVa": [(0.4, 0.8), (0.33, 1.5), (0.45, 0.6)],
    "IVb": [(0.27, 0.8), (0.28, 1.5), (0.26, 0.6)],
}


@pytest.mark.parametrize(
    ("phase", "alpha", "beta"), [(name, *pair) for name, pairs in PHASES.items() for pair in pairs]
)
def test_compute_optimum_of_the_risk_has_the_exponents_of_its_phase(phase, alpha, beta):
    assert theory.paquette_phase(alpha, beta) == phase
    log_C = jnp.array([2000.0, 4000.0])
    log_d, log_P = theory.paquette_optimum(log_C, alpha=alpha, beta=beta)
    printed = theory.paquette_exponents(alpha, beta)
    # Constants cancel in the slope; what is left of the other terms is below e^-10 here.
    assert np.diff(log_d)[0] / 2000 == pytest.approx(printed["N"], abs=1e-4)
    assert -np.diff(log_P)[0] / 2000 == pytest.approx(printed["loss"], abs=1e-4)


def test_the_optimum_is_a_minimum():
    about = {"alpha": 0.7, "beta": 1.0}
    log_d, log_P = theory.paquette_optimum(100.0, **about)
    near = log_d + np.array([-0.1, 0.0, 0.1])
    risk = theory.paquette_log_risk(near, 100.0 - near, **about)
    assert float(risk[1]) == pytest.approx(float(log_P), rel=1e-14)
    assert risk[1] < min(risk[0], risk[2])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((0.8, 0.5 - 1e-9), (0.8, 0.5 + 1e-9)),  # Ia, II
        ((0.8, 0.8 - 1e-9), (0.8, 0.8 + 1e-9)),  # II, III
        ((0.4, 0.5 - 1e-9), (0.4, 0.5 + 1e-9)),  # Ib, IVa
        ((0.25 - 1e-9, 0.9), (0.25 + 1e-9, 0.9)),  # Ic, IVb
        ((1 - 0.5**0.5 - 1e-9, 0.9), (1 - 0.5**0.5 + 1e-9, 0.9)),  # IVb, IVa
    ],
)
def test_exponents_are_continuous_across_the_borders(left, right):
    assert theory.paquette_phase(*left) != theory.paquette_phase(*right)
    a, b = theory.paquette_exponents(*left), theory.paquette_exponents(*right)
    if theory.paquette_phase(*left) != "IVb":  # there d* jumps along a flat risk
        assert a["N"] == pytest.approx(b["N"], abs=1e-7)
    assert a["loss"] == pytest.approx(b["loss"], abs=1e-7)


def test_no_phase_without_a_finite_target_or_on_the_critical_line():
    for pair in ((0.2, 0.3), (0.0, 1.0)):
        with pytest.raises(js.LawError, match=r"alpha \+ beta > 1/2"):
            theory.paquette_exponents(*pair)
    with pytest.raises(js.LawError, match="border"):
        theory.paquette_phase(0.5, 1.0)


# One-pass SGD, exactly.


def test_expected_loss_of_sgd_is_the_mean_of_real_runs():
    spectrum = simulators.projected_spectrum(KEY, 6, a=2.0, b=1.2, modes=40)
    rate, batch, steps, copies = 0.05, 3, 40, 20_000
    expected = simulators.sgd_loss(steps + 1, spectrum, rate=rate, batch=batch)
    root = jnp.sqrt(spectrum.eigenvalue)
    start = jnp.sqrt(spectrum.power) / root

    def run(key):
        def update(error, key):
            x = jax.random.normal(key, (batch, 7))[:, :6]
            features, noise = x * root, jax.random.normal(jax.random.fold_in(key, 1), (batch,))
            residual = features @ error + jnp.sqrt(spectrum.floor) * noise
            return error - rate * features.T @ residual, None

        error, _ = jax.lax.scan(update, start, jax.random.split(key, steps))
        return spectrum.floor + jnp.sum(spectrum.eigenvalue * error**2)

    losses = np.asarray(jax.vmap(run)(jax.random.split(jax.random.key(1), copies)))
    spread = losses.std() / np.sqrt(copies)
    assert abs(losses.mean() - float(expected[-1])) < 4 * spread
    assert spread < 0.002 * float(expected[-1])


def test_small_steps_of_sgd_are_gradient_flow():
    spectrum = simulators.projected_spectrum(KEY, 20, a=2.0, b=1.2, modes=200)
    for rate, error in ((1e-3, 2e-3), (1e-4, 2e-4)):
        steps = round(2 / rate)
        last = simulators.sgd_loss(steps + 1, spectrum, rate=rate)[-1]
        flow = simulators.gradient_flow_loss(2.0, spectrum)
        assert float(last) == pytest.approx(float(flow), rel=error)


def test_noise_of_sgd_slows_phase_three_from_its_own_exponent():
    """K against F_pp: -2 + 1 / (2 alpha) where gradient flow has -(2a + 2b - 1) / (2a)."""
    alpha, beta = 1.0, 1.3
    assert theory.paquette_phase(alpha, beta) == "III"
    spectrum = simulators.ideal_spectrum(2 * alpha + 2 * beta, 2 * alpha)
    steps = np.array([10_000, 30_000])
    noisy = simulators.sgd_loss(30_001, spectrum, rate=0.3)[steps]
    smooth = simulators.gradient_flow_loss(0.3 * steps, spectrum)
    # The faster term is still there after 3e4 steps: 1.546 for 1.5.
    assert slopes(steps, noisy)[0] == pytest.approx(1.5, abs=0.05)
    assert slopes(steps, smooth)[0] == pytest.approx(1.8, abs=0.01)


# Random features under gradient flow.


@pytest.mark.parametrize(("a", "b"), [(1.5, 1.25), (3.5, 1.3), (2.8, 1.2)])
def test_limits_of_random_features_have_their_exponents(a, b):
    expected = theory.random_feature_exponents(a, b)
    x = np.array([1e4, 1e6])
    flow = simulators.gradient_flow_loss(x, simulators.ideal_spectrum(a, b))
    assert slopes(x, flow)[0] == pytest.approx(expected["t"], abs=1e-4)
    projected = simulators.projection_floor(x, a=a, b=b)
    # Finite size: 1.1979 for 1.2 is the worst.
    assert slopes(x, projected)[0] == pytest.approx(expected["N"], abs=3e-3)
    # Where a - 1 is close to 2 b two powers are close to each other: 2.44 for 2.5.
    sampled = simulators.sample_floor(x, a=a, b=b)
    assert slopes(x, sampled)[0] == pytest.approx(expected["D"], abs=0.07)


@pytest.mark.slow
def test_projections_of_a_smooth_target_follow_b_and_not_twice_b():
    """Real random matrices: the exponent 2 = b of N, not the min(a - 1, 2 b) = 3.5 of the data."""
    a, b, sizes = 4.5, 2.0, (8, 16, 32, 64)
    floors = np.array(
        [
            np.mean(
                [
                    simulators.projected_spectrum(key, N, a=a, b=b, modes=1000).floor
                    for key in jax.random.split(jax.random.key(N), 16)
                ]
            )
            for N in sizes
        ]
    )
    theory_floors = simulators.projection_floor(np.array(sizes), a=a, b=b)
    # 16 draws of a floor that spreads by a third.
    np.testing.assert_allclose(floors[1:], theory_floors[1:], rtol=0.25)
    overall = -np.log(floors[-1] / floors[0]) / np.log(sizes[-1] / sizes[0])
    assert abs(overall - theory.random_feature_exponents(a, b)["N"]) < 0.25


def test_compute_optimum_of_random_features():
    for a, b in ((1.5, 1.25), (3.5, 1.3)):
        expected = theory.random_feature_exponents(a, b)
        optimum = expected["optimal"]
        log_N = []
        for log_C in (40.0, 80.0):
            best = scipy.optimize.minimize_scalar(
                lambda x, C=log_C, e=expected: np.logaddexp(-e["N"] * x, -e["t"] * (C - x)),
                bounds=(0, log_C),
                method="bounded",
                options={"xatol": 1e-9},
            )
            log_N.append((best.x, best.fun))
        (x1, y1), (x2, y2) = log_N
        assert (x2 - x1) / 40 == pytest.approx(optimum["N"], abs=1e-6)
        assert -(y2 - y1) / 40 == pytest.approx(optimum["loss"], abs=1e-6)
        assert optimum["N"] + optimum["t"] == pytest.approx(1, rel=1e-14)
    with pytest.raises(js.LawError, match="a > 1"):
        theory.random_feature_exponents(1.0, 1.0)


def test_power_law_fitted_to_gradient_flow_recovers_its_exponent():
    a, b = 1.8, 1.4
    t = np.geomspace(1e3, 1e7, 40)
    loss = np.asarray(simulators.gradient_flow_loss(t, simulators.ideal_spectrum(a, b)))
    fit = js.fit(
        laws.power_law_offset,
        js.Runs.from_arrays(x=t, loss=1 + loss),
        restarts=64,
        key=KEY,
    )
    # No verdict: the misfit is rounding (1e-20), so that few restarts agree on it.
    assert fit.params["E"] == pytest.approx(1, abs=1e-5)
    # The sum over modes differs from its integral by one mode, about 1e-4 of the exponent here.
    assert fit.params["alpha"] == pytest.approx((a - 1) / b, rel=1e-3)


def test_features_speed_up_hard_tasks_only():
    assert theory.feature_learning_exponent(0.5) == pytest.approx(2 / 3)
    assert theory.feature_learning_exponent(0.01) / 0.01 == pytest.approx(2, rel=0.01)
    assert theory.feature_learning_exponent(1 - 1e-12) == pytest.approx(1, abs=1e-11)
    assert theory.feature_learning_exponent(1.4) == 1.4


# Quanta.


def quanta_runs(alpha):
    N, D = (x.ravel() for x in np.meshgrid(np.geomspace(10, 1000, 8), np.geomspace(1e2, 3e4, 8)))
    N = np.round(N)
    return js.Runs.from_arrays(
        N=N, D=D, loss=1 + np.asarray(simulators.quanta_loss(N, D, alpha=alpha))
    )


def test_quanta_loss_by_hand_and_its_limits():
    total = sum(k**-1.5 for k in range(1, 10**6)) + 2 / np.sqrt(10**6 - 0.5)
    learned = sum(k**-1.5 for k in (1, 2, 3)) / total
    everything = simulators.quanta_loss(3, 1e12, alpha=0.5)
    assert float(everything) == pytest.approx(1 - learned, rel=1e-9)
    assert float(simulators.quanta_loss(10, 0, alpha=0.5)) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_exponents_of_the_quanta_model(alpha):
    expected = theory.quanta_exponents(alpha)
    N = np.array([500.0, 5000.0])
    assert slopes(N, simulators.quanta_loss(N, 1e15, alpha=alpha))[0] == pytest.approx(
        expected["N"], rel=2e-3
    )
    D = np.array([1e4, 1e5])
    ours = simulators.quanta_loss(20_000, D, alpha=1.0)
    if alpha == 1.0:
        assert slopes(D, ours)[0] == pytest.approx(expected["D"], rel=2e-2)
    assert expected["D"] == expected["t"] == alpha / (1 + alpha)


@pytest.mark.parametrize(("alpha", "fitted"), [(0.7, "1.26"), (1.0, "1.84")])
def test_an_additive_law_overstates_exponents_where_bottlenecks_do_not_add(alpha, fitted):
    """Quanta are limited by N or by D, whichever is less: `chinchilla` over the corner is wrong."""
    fit = js.fit(laws.chinchilla, quanta_runs(alpha), restarts=128, key=KEY)
    assert cases.agrees(fit.params["alpha"], fitted)


def test_quanta_is_chinchilla_with_tied_exponents():
    N, D = np.array([1e7, 1e9]), np.array([1e9, 1e11])
    about = {"E": 1.7, "A": 400.0, "B": 150.0, "alpha": 0.34}
    same = laws.chinchilla(N, D, beta=0.34 / 1.34, **about)
    np.testing.assert_allclose(laws.quanta(N, D, **about), same, rtol=1e-14)
    beta = dict(laws.quanta.derived)["beta"](**about)
    assert laws.quanta.optimum(1e21, **about) == pytest.approx(
        float(laws.chinchilla.optimum(1e21, beta=beta, **about)), rel=1e-12
    )


# Geometry.


def test_exponents_of_dimension_and_width():
    assert theory.manifold_exponent(16) == 0.25
    regimes = theory.bahri_exponents(16, order=1)
    assert regimes["variance_limited"] == {"D": 1, "width": 1}
    assert regimes["resolution_limited"] == {"D": 1 / 16, "N": 1 / 16}
    assert theory.maloney_exponents(0.3) == {"N": 0.3, "D": 0.3}
    # The paper's measured width exponent 0.91 and growth 2.52 give its 0.35, up to rounding.
    assert cases.agrees(theory.superposition_exponent(0.91), "0.36")
    assert theory.superposition_exponent(2.52 * 0.35) == pytest.approx(0.35)


def test_a_piecewise_linear_fit_has_exponent_four_over_dimension():
    """Squared error of linear interpolation on a grid: (1/n)^4 with n^d = N points."""
    errors = []
    for n in (16, 32, 64):
        x = np.linspace(0, 1, 200 * n + 1)
        grid = np.linspace(0, 1, n + 1)
        errors.append(np.mean((np.interp(x, grid, np.sin(3 * grid)) - np.sin(3 * x)) ** 2))
    assert slopes([16, 32, 64], errors)[-1] == pytest.approx(theory.manifold_exponent(1), rel=1e-3)


# Recipes.

SMALL_WINS = {"E": 2.0, "A": 40.0, "alpha": 0.2}
LARGE_WINS = {"E": 1.8, "A": 90.0, "alpha": 0.22}


def test_crossover_is_where_the_curves_meet():
    x = float(recipes.crossover(SMALL_WINS, LARGE_WINS, low=1e6, high=1e13))
    first, second = (laws.power_law_offset(x, **p) for p in (SMALL_WINS, LARGE_WINS))
    assert float(first) == pytest.approx(float(second), rel=1e-13)
    before, after = (
        laws.power_law_offset(s * x, **SMALL_WINS) - laws.power_law_offset(s * x, **LARGE_WINS)
        for s in (0.5, 2.0)
    )
    assert before < 0 < after
    # Two power laws meet in closed form.
    x = recipes.crossover({"A": 12.0, "alpha": 0.07}, {"A": 20.0, "alpha": 0.1}, low=1, high=1e12)
    assert float(x) == pytest.approx((20 / 12) ** (1 / 0.03), rel=1e-9)


def test_crossover_has_a_gradient_and_can_be_absent():
    def log_x(E, A):
        return jnp.log(recipes.crossover(SMALL_WINS, {**LARGE_WINS, "E": E, "A": A}, low=1e6,
                                         high=1e13))  # fmt: skip

    at = (1.8, 90.0)
    slope = jax.grad(log_x, (0, 1))(*at)
    for i, step in enumerate(np.diag([1e-6, 1e-4])):
        ends = [float(log_x(*(np.array(at) + sign * step))) for sign in (1, -1)]
        assert slope[i] == pytest.approx((ends[0] - ends[1]) / (2 * step[i]), rel=1e-5)
    never = {**SMALL_WINS, "A": 41.0}
    assert np.isnan(recipes.crossover(SMALL_WINS, never, low=1e6, high=1e13))


def test_probability_of_a_crossing_from_draws():
    """Draws of both laws from fits of noisy runs; the truth lies inside what they say."""
    x = np.geomspace(1e7, 1e11, 40)
    boots = []
    for seed, p in enumerate((SMALL_WINS, LARGE_WINS)):
        noise = np.random.default_rng(seed).normal(0, 0.005, 40)
        loss = np.asarray(laws.power_law_offset(x, **p)) * np.exp(noise)
        runs = js.Runs.from_arrays(x=x, loss=loss)
        fit = js.fit(laws.power_law_offset, runs, restarts=32, key=KEY)
        boots.append(js.bootstrap(fit, n=200, guard=0, key=KEY).params)
    found = np.asarray(recipes.crossover(*boots, low=1e4, high=1e16))
    truth = float(recipes.crossover(SMALL_WINS, LARGE_WINS, low=1e4, high=1e16))
    assert np.isnan(found).mean() < 0.05
    low, high = np.nanquantile(found, [0.01, 0.99])
    assert low < truth < high


def test_best_pruning_keeps_less_the_more_data_there_are():
    """Exponents that grow as less is kept: the envelope is steeper than any of its laws."""
    share, alpha = np.array([0.2, 0.4, 0.7, 1.0]), np.array([0.6, 0.45, 0.32, 0.24])
    A = np.full(4, 5.0)
    for i, D in ((2, 1e4), (1, 1e6), (0, 1e8)):  # where the next smaller share takes over
        A[i] = A[i + 1] * (share[i + 1] * D) ** -alpha[i + 1] * (share[i] * D) ** alpha[i]
    about = {"E": 0.0, "A": A, "alpha": alpha}
    D = np.geomspace(1e3, 1e9, 25)
    error, kept = recipes.best_share(D, share=share, **about)
    assert set(np.unique(kept)) == set(share)
    assert (np.diff(kept) <= 0).all()
    each = [
        laws.power_law_offset(f * D, E=0.0, A=A, alpha=a)
        for f, A, a in zip(share, A, alpha, strict=True)
    ]
    np.testing.assert_allclose(error, np.min(each, axis=0), rtol=1e-14)
    steep = -np.diff(np.log(error)) / np.diff(np.log(D))
    assert steep[-1] > steep[0] + 0.3
