"""Sparse, quantized and parallel models: printed numbers and special cases."""

import cases
import catalogue_sparse
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxscale as js
from jaxscale import laws, published
from jaxscale.laws import moe, precision

CLARK = catalogue_sparse.CLARK


def test_clark_at_the_printed_numbers():
    assert cases.agrees(moe.effective_experts(64, E_start=1.847, E_max=314.478), "53.76866726")
    assert cases.agrees(laws.clark_routed(1e9, 64, **CLARK), "2.085814632")
    dense = moe.effective_parameters(1e9, 64, **CLARK)
    assert cases.agrees(dense, "3.137565896e9")
    same = laws.clark_routed(dense, 1, **CLARK)
    assert np.isclose(same, laws.clark_routed(1e9, 64, **CLARK), rtol=1e-13, atol=0)


ROUTERS = {
    # Root mean squares of log10 L with saturation, without it, and without coupling; a, c, d.
    "S-Base": ("0.003228", "0.00378", "0.0057", ("-0.0830", "0.0099", "1.1136")),
    "RL-R": ("0.003229", "0.00346", "0.0064", ("-0.0827", "0.0112", "1.1070")),
    "Hash": ("0.002982", "0.00374", "0.0063", ("-0.0874", "0.0126", "1.1595")),
}


def routed(router):
    keep = {"routing_frequency": 0.5, "k": 1, "seed": 42}
    frame = cases.load_frame("clark_routed_final.csv", keep)
    return frame[frame["router_type"].isin([router, "Dense"])]


@pytest.mark.parametrize(
    "router",
    ["S-Base", *(pytest.param(router, marks=pytest.mark.slow) for router in ("RL-R", "Hash"))],
)
def test_clark_on_real_rows(router):
    runs = js.Runs.from_frame(
        routed(router), N="dense_parameter_count", E="num_experts", loss="loss_validation"
    )
    *errors, numbers = ROUTERS[router]
    about = {"objective": js.LogGaussian(), "restarts": 64, "key": jax.random.key(0)}
    for law, rms in zip(
        (laws.clark_routed, laws.clark_bilinear, laws.clark_separable), errors, strict=True
    ):
        fit = js.fit(law, runs, **about)
        assert fit.restarts.hit_share >= 0.9
        error = (np.log(np.asarray(fit.predicted())) - np.log(runs.loss)) / np.log(10)
        assert cases.agrees(np.sqrt(np.mean(error**2)), rms)
        if law is laws.clark_routed:
            derived = {name: float(fn(**fit.params)) for name, fn in law.derived}
            found = (derived["a"], float(fit.params["c"]), derived["d"])
            assert all(cases.agrees(x, text) for x, text in zip(found, numbers, strict=True)), found


def test_dense_models_of_clark():
    frame = routed("Dense")
    assert len(frame) == 5
    runs = js.Runs.from_frame(frame, x="dense_parameter_count", loss="loss_validation")
    about = {"objective": js.LogGaussian(), "restarts": 16, "key": jax.random.key(0)}
    fit = js.fit(laws.power_law, runs, **about)
    assert cases.agrees(fit.params["alpha"], ".0785")
    assert cases.agrees(fit.params["A"] ** (1 / fit.params["alpha"]), "3.69e13")


@pytest.mark.parametrize(
    ("E", "size", "tokens", "theirs"),
    [
        (1, "1.73e9", "9.65e9", (1.7e9, 9.7e9)),
        (8, "9.90e8", "1.684e10", (9.90e8, 1.7e10)),
        (32, "6.74e8", "2.472e10", (6.69e8, 2.49e10)),
    ],
)
def test_best_use_of_compute_with_experts(E, size, tokens, theirs):
    params = published.get("ludziejewski_2025_joint_moe").params
    N = float(laws.chinchilla.optimum(1e20, **moe.at_experts(E, **params)))
    D = 1e20 / 6 / N
    assert cases.agrees(N, size)
    assert cases.agrees(D, tokens)
    # The paper's Table 1 comes from unrounded constants.
    assert (N, D) == pytest.approx(theirs, rel=0.03)


def test_float_precision_at_the_printed_numbers():
    params = published.get("sun_2025_fp").params
    assert cases.agrees(laws.sun_fp(1e9, 1e11, 4, 3, 128, **params), "2.563069911")
    for E, M, D in ((8, 7, "1730"), (4, 3, "27.33"), (2, 1, "0.393")):
        found = precision.float_critical_tokens(1e9, E, M, 128, **params) / 1e12
        assert cases.agrees(found, D)
    assert cases.agrees(precision.optimal_bits(1.0, 1.0, 1.0), "1.9038")


def test_routed_laws_without_saturation_and_without_coupling():
    """With E_start = 1 and no end E_hat is E; what couples E to N is E^(c log10 N)."""
    plain = catalogue_sparse.CLARK_PLAIN
    N, E = np.geomspace(1e7, 1e9, 5), np.array([1.0, 2.0, 8.0, 64.0, 512.0])
    bilinear = laws.clark_bilinear(N, E, **plain)
    # E_hat misses E by E / E_max, at most 5e-13, and its power by less.
    routed = laws.clark_routed(N, E, **plain, E_start=1.0, E_max=1e15)
    np.testing.assert_allclose(routed, bilinear, rtol=1e-12)
    c, b = plain["c"], -plain["c"] * np.log10(plain["N_cutoff"])
    separable = laws.clark_separable(N, E, A=plain["A"], alpha=plain["alpha"], b=b)
    np.testing.assert_allclose(bilinear, separable * E ** (c * np.log10(N)), rtol=1e-12)


def test_effective_experts_run_from_start_to_end():
    ends = {"E_start": 1.847, "E_max": 314.478}
    assert float(moe.effective_experts(1.0, **ends)) == pytest.approx(1.847, rel=1e-13)
    assert float(moe.effective_experts(1e12, **ends)) == pytest.approx(314.478, rel=1e-9)
    # Past E_max the law still has a value and a slope: a lane may pass through it.
    value, slope = jax.value_and_grad(
        lambda E_start: moe.effective_experts(8.0, E_start=E_start, E_max=2.0)
    )(3.0)
    assert float(value) == 2.0
    assert np.isfinite(float(slope))


def compute_optimal(loss, low, high):
    """log N of the least loss, by SciPy."""
    found = scipy.optimize.minimize_scalar(
        lambda log_N: float(loss(np.exp(log_N))),
        bounds=(np.log(low), np.log(high)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return np.exp(found.x), found.fun


@pytest.mark.parametrize("G", [1.0, 8.0])
def test_optimum_of_fine_grained_experts(G):
    params = published.get("krajewski_2024_moe").params
    C = 1e21
    N, D, loss = moe.krajewski_optimum(C, G, **params)
    assert float(moe.krajewski_flop(N, D, G)) == pytest.approx(C, rel=1e-12)
    best, least = compute_optimal(
        lambda n: laws.krajewski_moe(n, C / moe.krajewski_flop(n, 1.0, G), G, **params), 1e7, 1e13
    )
    # The loss is flat at its minimum: 1e-15 of the loss is 1e-7 in log N.
    assert float(N) == pytest.approx(best, rel=1e-5)
    assert float(loss) == pytest.approx(least, rel=1e-13)


def test_flop_of_a_mixture_without_router_is_that_of_its_active_parameters():
    d, n, E = 1024, 16, 64
    N = d**2 * (8 * E + 4) * n  # n = d / 64
    active = 12 * d**2 * n
    flop = moe.krajewski_flop(N, 1e10, 1.0, E=E, c_r=0)
    assert float(flop) == pytest.approx(6 * active * 1e10, rel=1e-12)


def test_parameters_of_joint_models():
    """One expert: 4 d^2 of attention and 9 d^2 of a gated layer; the rest is the vocabulary."""
    assert float(moe.active_parameters(512, 8)) == 2 * 512 * 50257 + 8 * 13 * 512**2
    assert float(moe.total_parameters(512, 8, 1)) == float(moe.active_parameters(512, 8))
    eight = moe.total_parameters(512, 8, 8) - moe.total_parameters(512, 8, 1)
    assert float(eight) == 7 * 9 * 8 * 512**2


@pytest.mark.parametrize(
    ("E", "printed"),
    [
        (1, ("30.3640", "0.1817", "53.9838", "0.1965")),
        (8, ("21.8330", "0.1676", "119.9126", "0.2338")),
        (32, ("16.5424", "0.1557", "234.6726", "0.2652")),
    ],
)
def test_joint_law_at_fixed_experts_is_the_printed_chinchilla_law(E, printed):
    params = published.get("ludziejewski_2025_joint_moe").params
    at = moe.at_experts(E, **params)
    m, mu, n, nu = map(float, printed)
    # Their Table 4 has other m and n in the third digit than their Table 3 gives.
    assert (float(at["A"]), float(at["B"])) == pytest.approx((m, n), rel=3e-3)
    # Four decimals of alpha (or beta), of what multiplies ln E_hat, and of the printed value.
    cut = 0.5e-4 * (2 + float(jnp.log(moe.effective_experts(E, E_start=2.0732, E_max=290.4521))))
    assert (float(at["alpha"]), float(at["beta"])) == pytest.approx((mu, nu), abs=cut)
    N, D = np.geomspace(1e8, 1e10, 4), np.geomspace(1e9, 1e11, 4)
    np.testing.assert_allclose(
        laws.chinchilla(N, D, **at), laws.ludziejewski_joint_moe(N, D, E, **params), rtol=1e-12
    )


def test_sparse_models_are_worth_dense_ones():
    params = catalogue_sparse.FRANTAR
    dense = {"E": params["E"], "A": params["a_S"] + params["c_S"], "B": params["B"]} | {
        name: params[name] for name in ("alpha", "beta")
    }
    N, D = 3e8, 2e10
    assert float(laws.frantar_sparse(N, D, 0.0, **params)) == pytest.approx(
        float(laws.chinchilla(N, D, **dense)), rel=1e-14
    )
    for S in (0.5, 0.9):
        worth = moe.sparse_capacity(S, **params)
        assert float(worth) > 1
        assert float(laws.chinchilla(N * worth, D, **dense)) == pytest.approx(
            float(laws.frantar_sparse(N, D, S, **params)), rel=1e-13
        )


@pytest.mark.parametrize("P", [3.0, 4.0, 6.0])
def test_critical_tokens_after_quantization(P):
    params = published.get("kumar_2024_ptq").params
    N = 1e8
    slope = jax.grad(lambda log_D: laws.kumar_ptq(N, jnp.exp(log_D), P, **params))
    at = float(jnp.log(precision.critical_tokens(N, P, **params)))
    assert abs(float(slope(at))) < 1e-13
    assert float(slope(at - 0.1)) < 0 < float(slope(at + 0.1))


@pytest.mark.parametrize(("E", "M"), [(4, 3), (2, 1)])
def test_critical_tokens_of_float_training(E, M):
    params = published.get("sun_2025_fp").params
    slope = jax.grad(lambda log_D: laws.sun_fp(1e9, jnp.exp(log_D), E, M, 128, **params))
    at = float(jnp.log(precision.float_critical_tokens(1e9, E, M, 128, **params)))
    assert abs(float(slope(at))) < 1e-13
    assert float(slope(at - 0.1)) < 0 < float(slope(at + 0.1))


def test_best_layout_of_a_float():
    params = published.get("sun_2025_fp").params
    P = 8.0
    E, M = precision.optimal_layout(P, **params)
    assert float(E + M + 1) == pytest.approx(P, rel=1e-14)
    grid = np.linspace(0.5, 6.5, 6001)
    losses = laws.sun_fp(1e9, 1e11, grid, P - 1 - grid, 128, **params)
    there = params["gamma"] * (E + 0.5) ** params["delta"] * (M + 0.5) ** params["nu"]
    assert float(precision.best_resolution(P, **params)) == pytest.approx(float(there), rel=1e-12)
    assert grid[np.argmin(losses)] == pytest.approx(float(E), abs=1e-3)  # one step of the grid


@pytest.mark.parametrize("P", [3.0, 8.0])
def test_best_size_at_a_given_precision(P):
    params = catalogue_sparse.KUMAR
    C = 1e20
    best, _ = compute_optimal(
        lambda n: laws.kumar_precision(n, 16 * C / (6 * n * P), P, P, P, **params), 1e6, 1e13
    )
    assert float(precision.optimal_size(C, P, **params)) == pytest.approx(best, rel=1e-5)


def test_cheapest_bits_by_brute_force():
    """C = (6/16) N D P with N, D and P free: the loss along equal compute, over a grid of P."""
    params = catalogue_sparse.KUMAR
    gammas = [params[f"gamma_{x}"] for x in ("w", "a", "kv")]
    P, C = np.linspace(2.0, 8.0, 6001), 1e20
    N = precision.optimal_size(C, P, **params)
    losses = laws.kumar_precision(N, 16 * C / (6 * N * P), P, P, P, **params)
    assert P[np.argmin(losses)] == pytest.approx(float(precision.optimal_bits(*gammas)), abs=2e-3)
    with pytest.raises(js.LawError, match="at least two gammas"):
        precision.optimal_bits(2.0)


@pytest.mark.parametrize(
    ("data", "entry", "r2"),
    [("stack_v2_python", "stack", "0.99783"), ("pile", "pile", "0.99868")],
)
def test_parallel_scaling_on_real_rows(data, entry, r2):
    frame = cases.load_frame("parscale.csv", {"dataset": data})
    runs = js.Runs.from_frame(frame, N="params", P="parallel_streams", loss="loss")
    objective = js.LogHuber(1e-3)
    fit = js.fit(laws.parscale, runs, objective=objective, restarts=64, key=jax.random.key(0))
    assert fit.restarts.hit_share >= 0.9
    there = published.get(f"chen_2025_parscale_{entry}")
    assert float(fit.value) <= cases.objective_at(laws.parscale, runs, objective, there.params)
    loss = np.asarray(runs.loss)
    left = loss - np.asarray(fit.predicted())
    assert cases.agrees(1 - np.sum(left**2) / np.sum((loss - loss.mean()) ** 2), r2)
    for name, digits in {"E": 3, "alpha": 3, "k": 3}.items():  # as the authors' own optimum
        assert fit.params[name] == pytest.approx(there.params[name], abs=0.6 * 10**-digits)
