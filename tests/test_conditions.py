"""Inputs fixed and chosen, and limits: published examples, brute force and derivatives agree."""

import dataclasses

import cases
import catalogue_sparse
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decisions import least, log_root, scattered

import jaxscale as js
from jaxscale import flops, laws, published
from jaxscale.laws import moe, precision

C4 = published.get("muennighoff_2023_c4")
KUMAR = dataclasses.replace(
    C4, law=laws.kumar_precision, values=tuple(catalogue_sparse.KUMAR.items())
)
SAME_BITS = {"P_w": "P", "P_a": "P", "P_kv": "P"}


# Published examples.


def test_repeated_data_of_muennighoff():
    """1e22 FLOPs and 25e9 unique tokens: 9.49 epochs of them, 7.02e9 parameters."""
    found = js.allocate(C4, flop=1e22, fixed={"U": 25e9})
    assert cases.agrees(found.inputs["epochs"], "9.49")
    # Their own search ended 5e-4 from the lowest point, at 2.3734e11 tokens.
    assert float(found.N) == pytest.approx(7.02e9, rel=1e-3)
    assert float(found.D) == pytest.approx(2.3734e11, rel=1e-3)
    params = {name: value for name, value in C4.params.items() if name != "E"}
    direct = laws.data_constrained.optimal_size(1e22, 25e9, **params)
    assert float(found.N) == pytest.approx(float(direct), rel=1e-9)
    row = found.frame().iloc[0]
    assert row["U"] == 25e9
    assert row["epochs"] == pytest.approx(row["D"] / row["U"], rel=1e-12)


def test_epochs_may_be_given_in_other_ways():
    budgets = [1e21, 1e22]
    by_name = js.allocate(C4, flop=budgets, fixed={"U": 25e9})
    by_rule = js.allocate(C4, flop=budgets, fixed={"epochs": lambda D: D / 25e9})
    np.testing.assert_allclose(by_name.N, by_rule.N, rtol=1e-12)
    few = js.allocate(C4, flop=budgets, fixed={"epochs": 1.0})
    base = {name: C4.params[name] for name in laws.chinchilla.names}
    fresh = [float(laws.chinchilla.optimum(C, **base)) for C in budgets]
    np.testing.assert_allclose(few.N, fresh, rtol=1e-9)


def test_granularity_of_krajewski():
    """All seven rows of their Table 2; D and loss as far as printed parameters go."""
    printed = {
        2.95e18: (8, 4.37e9, 3.133),
        1.93e20: (16, 28.94e9, 2.491),
        1.41e21: (16, 72.90e9, 2.245),
        6.46e21: (32, 137.60e9, 2.076),
        4.16e23: (32, 941.07e9, 1.694),
        5.69e24: (64, 2.96e12, 1.503),
        4.97e25: (64, 7.94e12, 1.367),
    }
    entry = published.get("krajewski_2024_moe")
    found = js.allocate(
        entry, flop=list(printed), cost=moe.krajewski_flop, choose={"G": 2.0 ** np.arange(9)}
    )
    granularity, tokens, loss = np.array(list(printed.values())).T
    np.testing.assert_array_equal(found.inputs["G"], granularity)
    np.testing.assert_allclose(found.D, tokens, rtol=0.025)
    np.testing.assert_allclose(found.loss, loss, atol=0.025)  # parameters have two or three digits
    for C, G, N, D in zip(printed, granularity, found.N, found.D, strict=True):
        direct = moe.krajewski_optimum(C, G, **entry.params)
        np.testing.assert_allclose((N, D), direct[:2], rtol=1e-6)  # theirs stops at 1e-8 of a loss
    options = found.options[found.options["flop"] == 6.46e21]
    assert options.loc[options["excess"] == 0, "G"].tolist() == [32]
    assert (options["excess"] >= 0).all()


def test_experts_of_ludziejewski():
    """Their Table 1: active parameters and tokens at 1e20 FLOPs."""
    entry = published.get("ludziejewski_2025_joint_moe")
    counts = [1, 2, 4, 8, 16, 32]
    found = js.allocate(entry, flop=1e20, choose={"E": counts})
    table = found.options.set_index("E")
    for E, (N, D) in {1: ("1.7e9", "9.7e9"), 8: ("990e6", "17e9")}.items():
        assert cases.agrees(table.loc[E, "N"], N)
        assert cases.agrees(table.loc[E, "D"], D)
    # The printed parameters leave the third digit open, most of all where E is large.
    assert table.loc[32, "N"] == pytest.approx(669e6, rel=0.01)
    assert table.loc[32, "D"] == pytest.approx(24.9e9, rel=0.01)
    assert float(found.inputs["E"]) == 32
    assert any("the largest to choose from" in note for note in found.notes)


def test_memory_decides_the_number_of_experts():
    """All parameters must fit, not only the active ones: brute force over experts and sizes."""
    entry = published.get("ludziejewski_2025_joint_moe")

    def everything(N, E):
        return N * (4 + 9 * E) / 13

    counts, most, C = [1, 2, 4, 8, 16, 32], 4e9, 1e20
    limit = js.at_most(everything, most, name="all parameters")
    found = js.allocate(entry, flop=C, choose={"E": counts}, limits=[limit])
    losses = {}
    for E in counts:
        N = np.geomspace(1e7, 1e11, 40_001)
        N = np.append(N[everything(N, E) <= most], most * 13 / (4 + 9 * E))
        values = np.asarray(entry(N=N, D=C / 6 / N, E=np.full_like(N, E)))
        losses[E] = values.min()
    assert float(found.inputs["E"]) == min(losses, key=losses.get)
    assert float(found.loss) == pytest.approx(min(losses.values()), rel=1e-7)
    assert float(found.loss) <= min(losses.values())
    assert found.binding == ("all parameters",)
    assert float(everything(found.N, found.inputs["E"])) == pytest.approx(most, rel=1e-12)


@pytest.mark.parametrize("P", [3.0, 8.0])
def test_precision_of_kumar_held(P):
    found = js.allocate(KUMAR, flop=[1e20, 1e22], cost=flops.at_bits, fixed={"P": P, **SAME_BITS})
    closed = precision.optimal_size(np.array([1e20, 1e22]), P, **KUMAR.params)
    np.testing.assert_allclose(found.N, closed, rtol=1e-9)
    np.testing.assert_allclose(flops.at_bits(found.N, found.D, P), [1e20, 1e22], rtol=1e-10)


def test_precision_of_kumar_chosen():
    """Of bits a tenth apart, the best is next to the root of their equation 7."""
    bits = np.arange(2.0, 8.05, 0.1)
    found = js.allocate(KUMAR, flop=1e20, cost=flops.at_bits, choose={"P": bits}, fixed=SAME_BITS)
    root = precision.optimal_bits(*(KUMAR.params[f"gamma_{x}"] for x in ("w", "a", "kv")))
    assert abs(float(found.inputs["P"]) - float(root)) < 0.1
    assert not any("to choose from" in note for note in found.notes)


def test_floating_point_of_sun():
    """Their abstract: 4 to 8 bits have the best cost-performance from 1e21 to 1e31 FLOPs."""
    entry = published.get("sun_2025_fp")
    delta, nu = entry.params["delta"], entry.params["nu"]
    layout = {
        "E": lambda P: delta * P / (delta + nu) - 0.5,
        "M": lambda P: nu * P / (delta + nu) - 0.5,
        "B": 128.0,
    }
    found = js.allocate(
        entry,
        flop=[1e21, 1e31],
        cost=flops.at_bits,
        choose={"P": np.arange(2.0, 17.0)},
        fixed=layout,
    )
    bits = np.asarray(found.inputs["P"])
    assert 4 <= bits[0] < bits[1] <= 8


# Limits, against brute force.


def weights(N):
    return 2 * N


def cache(N, D):
    """Something that grows with both."""
    return 2 * N + 1e-3 * D


def ratio(N, D):
    return D / N


CASES = {
    "N": [js.at_most("N", 3e9)],
    "least N": [js.at_least("N", 2e9)],
    "D": [js.at_most("D", 1e11)],
    "least D": [js.at_least("D", 5e11)],
    "weights": [js.at_most(weights, 8e9)],
    "both": [js.at_most(cache, 5e9)],
    "ratio": [js.at_most(ratio, 10.0)],
    "window": [js.at_least("N", 2.0e9), js.at_most("N", 2.02e9)],
    "corner": [js.at_most("N", 3e9), js.at_most("D", 2e11)],
    "no matter": [js.at_most("N", 1e15)],
}
BUDGETS = (1e20, 1e22, 1e24)


def lowest(params, limits, budget):
    """log N and loss of the best size, tokens by root finding; NaN where nothing is left."""

    def loss(n):
        N = np.exp(n)

        def room(d):
            over = [np.log(6 * N) + d - np.log(budget)]
            for limit in limits:
                if limit.upper:
                    known = {"N": N, "D": np.exp(d)}
                    if isinstance(limit.what, str):
                        value = known[limit.what]
                    else:
                        names = limit.what.__code__.co_varnames[: limit.what.__code__.co_argcount]
                        value = limit.what(*(known[name] for name in names))
                    over.append(np.log(value / limit.bound))
            return max(over)

        d = log_root(room)
        if not np.isfinite(d):
            return np.nan
        known = {"N": N, "D": np.exp(d)}
        for limit in limits:
            if not limit.upper and known[limit.what] < limit.bound * (1 - 1e-12):
                return np.nan
        return float(laws.chinchilla.fn(N, np.exp(d), **params))

    return least(loss, float(laws.chinchilla.optimum(budget, **params)), points=3001)


@pytest.mark.parametrize("name", CASES)
def test_limits_against_brute_force(simulated_fit, name):
    params = {k: float(v) for k, v in simulated_fit.params.items()}
    limits = CASES[name]
    found = js.allocate(simulated_fit, flop=BUDGETS, limits=limits)
    for i, budget in enumerate(BUDGETS):
        n, loss = lowest(params, limits, budget)
        assert float(found.loss[i]) <= loss * (1 + 1e-9)
        assert float(found.N[i]) == pytest.approx(np.exp(n), rel=1e-4)  # a flat minimum
        for limit in limits:
            what = {"N": found.N[i], "D": found.D[i]}
            value = what[limit.what] if isinstance(limit.what, str) else None
            if value is not None:
                sign = 1 if limit.upper else -1
                assert sign * np.log(float(value) / limit.bound) < 1e-9
        assert float(6 * found.N[i] * found.D[i]) <= budget * (1 + 1e-9)
    free = js.allocate(simulated_fit, flop=BUDGETS)
    moved = np.abs(np.log(found.N / free.N)) > 1e-6
    np.testing.assert_array_equal(moved, [bool(binds) for binds in found.binding])


def test_limits_that_bind_are_named(simulated_fit):
    limits = [js.at_most("N", 3e9), js.at_most("D", 2e11, name="all the text there is")]
    found = js.allocate(simulated_fit, flop=[1e20, 3e21, 1e24], limits=limits)
    assert found.binding == ("", "N <= 3e+09", "N <= 3e+09 and all the text there is")
    assert list(found.frame()["limit"]) == list(found.binding)
    said = " ".join(found.notes)
    assert "The limit N <= 3e+09 binds at 2 of 3, from 3e+21 to 1e+24 FLOPs." in said
    assert "The limits leave 100% of the budget of 1e+24 FLOPs unspent" in said
    with pytest.raises(js.LawError, match="under this cost and these limits"):
        js.allocate(simulated_fit, flop=1e20, limits=[js.at_least("N", 1e10), js.at_most("N", 1e9)])


def test_a_budget_that_is_better_not_spent_is_remarked():
    """After quantization, more tokens may raise the loss."""
    entry = published.get("kumar_2024_ptq")
    found = js.allocate(entry, flop=1e22, fixed={"P": 3.0}, limits=[js.at_most("N", 1e8)])
    assert any("better not to spend the whole budget" in note for note in found.notes)
    fine = js.allocate(entry, flop=1e18, fixed={"P": 8.0}, limits=[js.at_most("N", 1e8)])
    assert not any("better not to spend" in note for note in fine.notes)


# Derivatives.


def difference(f, x, h=1e-5):
    return (f(x + h) - f(x - h)) / (2 * h)


@pytest.mark.slow
def test_derivatives_at_a_limit(simulated_fit):
    """On the limit the size follows the bound, and the tokens what the budget leaves."""

    def logs(log_c, log_bound, limit="N"):
        limits = [js.at_most(limit, jnp.exp(log_bound))]
        found = js.allocate(simulated_fit, flop=jnp.exp(log_c), limits=limits)
        return jnp.log(jnp.stack([found.N, found.D]))

    slopes = jax.jacrev(logs, argnums=(0, 1))(np.log(1e23), np.log(3e9))
    np.testing.assert_allclose(slopes, [[0, 1], [1, -1]], atol=1e-9)
    free = jax.jacrev(logs, argnums=(0, 1))(np.log(1e23), np.log(1e13))
    a = float(simulated_fit.derived["a"])
    np.testing.assert_allclose(free, [[a, 1 - a], [0, 0]], atol=1e-7)
    both = jax.jacfwd(lambda c, b: logs(c, b, cache), argnums=(0, 1))(np.log(1e23), np.log(5e9))
    for i in range(2):
        at = [np.log(1e23), np.log(5e9)]

        def along(x, i=i, at=at):
            point = [*at[:i], x, *at[i + 1 :]]
            return np.asarray(logs(*point, cache))

        np.testing.assert_allclose(both[i], difference(along, at[i]), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_derivatives_by_what_is_fixed():
    def log_size(log_u):
        return jnp.log(js.allocate(C4, flop=1e22, fixed={"U": jnp.exp(log_u)}).N)

    at = np.log(25e9)
    exact = jax.grad(log_size)(at)
    assert float(exact) == pytest.approx(float(difference(log_size, at)), rel=1e-5)
    assert exact > 0.05  # more unique tokens, less reason to repeat


def test_derivatives_go_through_a_choice():
    def loss(log_c):
        found = js.allocate(
            KUMAR, flop=jnp.exp(log_c), cost=flops.at_bits, choose={"P": (4, 8)}, fixed=SAME_BITS
        )
        return found.loss

    at = np.log(1e21)
    assert float(jax.grad(loss)(at)) == pytest.approx(float(difference(loss, at)), rel=1e-6)


# Bands.


@pytest.mark.parametrize("center", ["fit", "median"])
def test_bands_at_a_limit(simulated_fit, center):
    """Each draw is the smaller of its own optimum and the limit: closed form against search."""
    draws = scattered(simulated_fit, center=center)
    p, most, C = draws.params, 4e9, np.array([1e21, 1e22, 1e24])
    found = js.allocate(draws, flop=C, limits=[js.at_most("N", most)], level=0.8)
    total = p["alpha"] + p["beta"]
    own = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / total) * (C[:, None] / 6) ** (
        p["beta"] / total
    )
    N = np.minimum(own, most)
    for name, each in (("N", N), ("D", C[:, None] / 6 / N)):
        low, high = np.quantile(each, [0.1, 0.9], axis=1)
        np.testing.assert_allclose(found.bands[name][0], low, rtol=1e-8)
        np.testing.assert_allclose(found.bands[name][1], high, rtol=1e-8)
    if center == "median":
        np.testing.assert_allclose(found.N, np.median(N, axis=1), rtol=1e-8)
    np.testing.assert_allclose(6 * found.N * found.D, C, rtol=1e-9)
    assert found.binding[0] == ""
    assert found.binding[2] == "N <= 4e+09"


def bits_law():
    """Chinchilla with parameters that count for less at few bits, and a fit of it."""

    @js.law(
        inputs={"P": "bits"},
        E=js.positive(0.3, 1.0, unit="loss"),
        A=js.positive(0.3, 1.0, unit="loss * N**alpha"),
        B=js.positive(0.3, 1.0, unit="loss * D**beta"),
        alpha=js.positive(0.1, 1.0),
        beta=js.positive(0.1, 1.0),
        g=js.positive(1.0, 4.0),
    )
    def bits(N, D, P, *, E, A, B, alpha, beta, g):
        """L = E + A / (N (1 - exp(-P / g)))^alpha + B / D^beta"""
        return laws.chinchilla.fn(-N * jnp.expm1(-P / g), D, E=E, A=A, B=B, alpha=alpha, beta=beta)

    return bits


@pytest.fixture(scope="module")
def bits_fit(key):
    rng = np.random.default_rng(5)
    N, D = np.exp(rng.uniform(np.log([[1e7], [1e9]]), np.log([[1e10], [1e12]]), (2, 120)))
    P = rng.choice([2.0, 3.0, 4.0, 8.0, 16.0], 120)
    truth = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37, "g": 2.0}
    law = bits_law()
    loss = np.asarray(law(N, D, P, **truth)) * np.exp(0.01 * rng.normal(size=120))
    runs = js.Runs.from_arrays(N=N, D=D, P=P, loss=loss)
    return js.fit(law, runs, restarts=128, key=key)


def test_draws_choose_for_themselves(bits_fit):
    """One law at each number of bits is Chinchilla's, with a closed optimum and loss. A part of the
    cost that does not depend on bits keeps the best number of them from being the smallest.
    """

    def cost(N, D, P):
        return 6 * N * D * (P + 8) / 16

    draws = scattered(bits_fit, n=400, spread=0.05)
    bits, C = np.array([2.0, 3.6, 4.4, 6.0, 8.0]), 1e22
    found = js.allocate(draws, flop=C, cost=cost, choose={"P": bits})
    p = {k: v[:, None] for k, v in draws.params.items()}
    A = p["A"] * (-np.expm1(-bits / p["g"])) ** -p["alpha"]
    both = {"alpha": p["alpha"], "beta": p["beta"]}
    N = np.asarray(laws.chinchilla.optimum(16 * C / (bits + 8), E=1.0, A=A, B=p["B"], **both))
    loss = np.asarray(
        laws.chinchilla(N, 16 * C / (6 * N * (bits + 8)), E=p["E"], A=A, B=p["B"], **both)
    )
    best = loss.argmin(axis=1)
    shares = np.bincount(best, minlength=len(bits)) / len(best)
    np.testing.assert_allclose(found.options["share"], shares, atol=1e-12)
    each = N[np.arange(len(best)), best]
    np.testing.assert_allclose(
        np.stack(found.bands["N"]), np.quantile(each, [0.05, 0.95]), rtol=1e-8
    )
    chosen = int(np.flatnonzero(bits == float(found.inputs["P"]))[0])
    assert shares[chosen] < 0.95
    assert any(f"for {shares[chosen]:.0%} of them" in note for note in found.notes)
    own = dataclasses.replace(draws, center="median")
    median = js.allocate(own, flop=C, cost=cost, choose={"P": bits})
    most = int(shares.argmax())
    assert float(median.inputs["P"]) == bits[most]
    assert float(median.N) == pytest.approx(np.median(N[:, most]), rel=1e-8)


# What is asked wrongly.


@pytest.mark.parametrize(
    ("error", "said", "how"),
    [
        (js.LawError, "also in epochs|epochs follows from", {}),
        (js.DataError, "nothing depends on Q", {"fixed": {"U": 1e9, "Q": 1.0}}),
        (js.DataError, "epochs must be greater than zero", {"fixed": {"epochs": 0.0}}),
        (js.DataError, "both fixed and chosen", {"fixed": {"U": 1.0}, "choose": {"U": (1, 2)}}),
        (js.DataError, "one number, a name or a function", {"fixed": {"U": [1e9, 2e9]}}),
        (js.DataError, r"choose=\{'U'", {"choose": {"U": ()}}),
        (js.DataError, "is what is asked for", {"fixed": {"U": 1e9, "N": 1e9}}),
        (js.LawError, "the cost needs P", {"fixed": {"U": 1e9}, "cost": flops.at_bits}),
        (js.LawError, "needs memory", {"fixed": {"U": 1e9}, "limits": [js.at_most("memory", 1.0)]}),
        (js.LawError, "follow from each other", {"fixed": {"epochs": "a", "a": "epochs"}}),
        (js.DataError, "finite number", {"fixed": {"U": np.nan}}),
    ],
)
def test_requests_that_make_no_sense(error, said, how):
    with pytest.raises(error, match=said):
        js.allocate(C4, flop=1e22, **how)


def test_limits_that_make_no_sense():
    for bound in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(js.DataError, match="positive number"):
            js.at_most("N", bound)
    with pytest.raises(js.DataError, match="one by one"):
        js.at_least("N", [1.0, 2.0])
    with pytest.raises(js.DataError, match="name of an input or a function"):
        js.at_most(3.0, 2.0)
