"""serve() and budget_for(): published examples, closed forms, brute force and coverage."""

import dataclasses

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decisions import least, log_root, scattered

import jaxscale as js
from jaxscale import flops, laws, published
from jaxscale.laws import compute_optimal, inference_cost

SARDANA = published.get("hoffmann_2022_sardana")


def kaplan_like(N, D):
    """6 N D and a context term: no closed form anywhere."""
    return 6 * N * D + 4e3 * N ** (2 / 3) * D


# Published examples.


def test_the_three_examples_of_sardana():
    found = js.serve(SARDANA, quality_of=[13e9, 30e9, 70e9], tokens=[2e12, 1e13, 1e13])
    for i, (N, saved) in enumerate((("6.97e9", "17.4"), ("13.6e9", "28.0"), ("41.6e9", "11.9"))):
        assert cases.agrees(found.N[i], N)
        assert cases.agrees(100 * found.saving[i], saved)
    assert cases.agrees(found.D[1] / found.reference_D[1], "2.845")
    assert cases.agrees(found.D[2], "7.92e12")
    np.testing.assert_allclose(found.reference_N, [13e9, 30e9, 70e9])
    rival = laws.inference_cost.law_optimal_tokens(np.array([13e9, 30e9, 70e9]), **SARDANA.params)
    np.testing.assert_allclose(found.reference_D, rival, rtol=1e-12)


@pytest.mark.parametrize("used", [1e8, 1e12, 1e16])
def test_chinchilla_against_its_own_solver(used):
    loss = np.array([2.0, 2.3])
    found = js.serve(SARDANA, loss=loss, tokens=used)
    N, D = inference_cost.inference_aware(loss, used, **SARDANA.params)
    np.testing.assert_allclose(found.N, N, rtol=1e-9)
    np.testing.assert_allclose(found.D, D, rtol=1e-9)
    np.testing.assert_allclose(SARDANA(N=found.N, D=found.D), loss, rtol=1e-12)
    np.testing.assert_allclose(found.training, 6 * N * D, rtol=1e-8)
    np.testing.assert_allclose(found.inference, 2 * N * used, rtol=1e-8)
    alone = js.budget_for(SARDANA, loss=loss)
    np.testing.assert_allclose(found.reference_N, alone.N, rtol=1e-9)
    before = alone.flop + 2 * alone.N * used
    np.testing.assert_allclose(found.saving, 1 - found.flop / before, rtol=1e-6, atol=1e-12)


def cheapest(entry, loss, cost, around):
    """log N and log cost of the cheapest size, tokens by root finding."""

    def log_cost(n):
        N = np.exp(n)
        d = log_root(lambda d: np.log(loss) - np.log(float(entry.law.fn(N, np.exp(d), **params))))
        return np.log(cost(N, np.exp(d))) if np.isfinite(d) else np.nan

    params = {name: float(value) for name, value in entry.params.items()}
    return least(log_cost, around)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hoffmann_2022_sardana", "kaplan_2020_nd", "busbridge_2025"])
def test_any_law_and_cost_against_brute_force(name):
    entry, loss, used = published.get(name), 2.2, 3e12

    def price(N, tokens):
        """Use on hardware that is used a fifth as well as in training."""
        return 5 * 2 * N * tokens

    found = js.serve(entry, loss=loss, tokens=used, cost=kaplan_like, use=price)
    whole = cheapest(entry, loss, lambda N, D: kaplan_like(N, D) + price(N, used), float(found.N))
    assert np.log(float(found.flop)) <= whole[1] + 1e-12
    assert np.log(float(found.N)) == pytest.approx(whole[0], abs=1e-4)
    alone = js.budget_for(entry, loss=loss, cost=kaplan_like)
    best = cheapest(entry, loss, kaplan_like, float(alone.N))
    assert np.log(float(alone.flop)) <= best[1] + 1e-12
    assert np.log(float(alone.N)) == pytest.approx(best[0], abs=1e-4)
    assert float(found.reference_N) == pytest.approx(float(alone.N), rel=1e-9)
    assert float(entry(N=alone.N, D=alone.D)) == pytest.approx(loss, rel=1e-12)


# The inverse of allocate.


@pytest.mark.parametrize("cost", [flops.six_nd, kaplan_like])
def test_budgets_are_the_inverse_of_allocations(simulated_fit, cost):
    there = js.allocate(simulated_fit, flop=[1e20, 1e22, 1e24], cost=cost)
    back = js.budget_for(simulated_fit, loss=there.loss, cost=cost)
    np.testing.assert_allclose(back.flop, [1e20, 1e22, 1e24], rtol=1e-9)
    np.testing.assert_allclose(back.N, there.N, rtol=1e-9)
    np.testing.assert_allclose(back.D, there.D, rtol=1e-9)


def test_budgets_by_the_closed_form():
    loss = np.array([1.9, 2.1, 2.6])
    for name in ("besiroglu_2024", "busbridge_2025"):
        entry = published.get(name)
        found = js.budget_for(entry, loss=loss)
        closed = compute_optimal.budget(loss, **entry.params)
        np.testing.assert_allclose(found.flop, closed, rtol=1e-9)
        np.testing.assert_allclose(
            compute_optimal.least_loss(found.flop, **entry.params), loss, rtol=1e-12
        )
        assert compute_optimal.budget(entry.params["E"], **entry.params) == np.inf


def test_losses_below_the_floor_are_refused():
    entry = published.get("besiroglu_2024")
    with pytest.raises(js.LawError, match=r"no budget reaches a loss of 1\.8: .* off at 1\.8172"):
        js.budget_for(entry, loss=[2.0, 1.8])
    with pytest.raises(js.LawError, match=r"no budget reaches a loss of 1\.7"):
        js.serve(entry, loss=1.7, tokens=1e12)
    for loss in (0.0, -1.0, np.nan):
        with pytest.raises(js.DataError, match="positive number"):
            js.budget_for(entry, loss=loss)
    # Data that run out have a floor of their own: U (1 + R_D) tokens and U_N (1 + R_N) parameters,
    # U_N being the best size for U tokens, however much is spent.
    entry = published.get("muennighoff_2023_c4")
    p = entry.params
    best = (p["A"] / p["B"]) ** (1 / p["alpha"]) * 1e9  # alpha = beta
    floor = p["E"] + p["A"] / (best * (1 + p["R_N"])) ** p["alpha"]
    floor += p["B"] / (1e9 * (1 + p["R_D"])) ** p["beta"]
    with pytest.raises(js.LawError, match=rf"levels off at {floor:.6g} here"):
        js.budget_for(entry, loss=2.2, fixed={"U": 1e9})


def test_limits_on_the_way_to_a_loss(simulated_fit):
    """A smaller model on more tokens, or a larger one on fewer, and each by hand."""
    loss, p = 2.2, {k: float(v) for k, v in simulated_fit.params.items()}
    free = js.budget_for(simulated_fit, loss=loss)
    N = float(free.N) / 3
    small = js.budget_for(simulated_fit, loss=loss, limits=[js.at_most("N", N)])
    rest = loss - p["E"] - p["A"] * N ** -p["alpha"]
    D = (p["B"] / rest) ** (1 / p["beta"])
    assert float(small.N) == pytest.approx(N, rel=1e-12)
    assert float(small.D) == pytest.approx(D, rel=1e-9)
    assert float(small.flop) == pytest.approx(6 * N * D, rel=1e-9)
    assert small.binding == (f"N <= {N:.4g}",)
    short = js.budget_for(simulated_fit, loss=loss, limits=[js.at_most("D", float(free.D) / 2)])
    assert float(short.D) == pytest.approx(float(free.D) / 2, rel=1e-12)
    assert float(short.N) > float(free.N)
    assert float(simulated_fit.law(short.N, short.D, **p)) == pytest.approx(loss, rel=1e-12)
    assert float(free.flop) < min(float(small.flop), float(short.flop))
    with pytest.raises(js.LawError, match="under the limits N <= 1e"):
        js.budget_for(simulated_fit, loss=loss, limits=[js.at_most("N", 1e7)])


# Derivatives.


@pytest.mark.slow
def test_derivatives(simulated_fit):
    def logs(log_loss, alpha, log_used):
        fit = dataclasses.replace(simulated_fit, params={**simulated_fit.params, "alpha": alpha})
        found = js.serve(fit, loss=jnp.exp(log_loss), tokens=jnp.exp(log_used))
        return jnp.log(jnp.stack([found.N, found.D, found.flop]))

    at = np.array([np.log(2.1), float(simulated_fit.params["alpha"]), np.log(1e12)])
    exact = np.stack(jax.jacrev(logs, argnums=(0, 1, 2))(*at), axis=1)
    h = 1e-5
    for i in range(3):
        step = h * np.eye(3)[i]
        numeric = (logs(*(at + step)) - logs(*(at - step))) / (2 * h)
        np.testing.assert_allclose(exact[:, i], numeric, rtol=2e-5)
    # Of the smallest cost only the direct effect of use remains (the envelope theorem).
    share = float(js.serve(simulated_fit, loss=2.1, tokens=1e12).inference) / np.exp(logs(*at)[2])
    assert exact[2, 2] == pytest.approx(float(share), rel=1e-8)


# Bands.


def closed_budgets(draws, loss):
    return np.asarray(compute_optimal.budget(loss, **draws.params))


@pytest.mark.parametrize("center", ["fit", "median"])
def test_bands_hold_the_quantiles_of_every_draws_budget(simulated_fit, center):
    draws = scattered(simulated_fit, n=400, center=center)
    floor = np.sort(draws.params["E"])
    loss = np.array([2.2, 0.5 * (floor[-40] + floor[-41])])  # of a tenth of the draws, too low
    found = js.budget_for(draws, loss=loss, level=0.8)
    each = closed_budgets(draws, loss[:, None])
    low, high = np.quantile(each[0], [0.1, 0.9])
    # Where a draw may be infinite, nothing is interpolated.
    assert float(found.bands["flop"][0][0]) == pytest.approx(low, rel=0.02)
    assert float(found.bands["flop"][1][0]) == pytest.approx(high, rel=0.02)
    np.testing.assert_allclose(found.unreachable, [0.0, 0.1], atol=1e-12)
    for end, how in zip(found.bands["flop"], ("lower", "higher"), strict=True):
        q = {"lower": 0.1, "higher": 0.9}[how]
        np.testing.assert_allclose(end[1], np.quantile(each[1], q, method=how), rtol=1e-7)
    assert np.isinf(js.budget_for(draws, loss=loss[1], level=0.9).bands["flop"][1])
    assert any("10.00% of the draws no budget" in note for note in found.notes)
    if center == "median":
        # Half of the draws reach the loss at the answer.
        losses = laws.chinchilla(float(found.N[0]), float(found.D[0]), **draws.params)
        assert np.mean(losses <= loss[0]) == pytest.approx(0.5, abs=1 / 400)
    with pytest.raises(js.LawError, match="no budget reaches"):
        js.budget_for(draws, loss=float(np.quantile(floor, 0.3)))


def test_every_draw_serves_for_itself(simulated_fit):
    """The reference is as good under each draw as that draw says it is."""
    draws = scattered(simulated_fit, n=400)
    found = js.serve(draws, quality_of=5e9, tokens=1e12, level=0.8)
    D = inference_cost.law_optimal_tokens(5e9, **draws.params)
    loss = laws.chinchilla(5e9, D, **draws.params)
    N, tokens = inference_cost.inference_aware(loss, 1e12, **draws.params)
    after = inference_cost.lifetime_cost(N, tokens, 1e12)
    saving = 1 - after / inference_cost.lifetime_cost(5e9, D, 1e12)
    for name, each in (("N", N), ("D", tokens), ("flop", after), ("saving", saving)):
        np.testing.assert_allclose(
            np.stack(found.bands[name]), np.quantile(each, [0.1, 0.9]), rtol=1e-6, err_msg=name
        )
    assert {"saving_low", "flop_high"} <= set(found.frame().columns)
    low, high = found.bands["saving"]
    assert low < found.saving < high


def test_the_band_of_the_budget_holds_as_often_as_it_says(simulated_fit):
    """The truth is one more draw: the band holds it nine times in ten, up to chance of 1e-4."""
    draws, truths = scattered(simulated_fit, n=2000), scattered(simulated_fit, n=500, seed=1)
    low, high = js.budget_for(draws, loss=2.2).bands["flop"]
    budgets = closed_budgets(truths, 2.2)
    assert np.mean((low < budgets) & (budgets < high)) == pytest.approx(
        0.9, abs=3.9 * np.sqrt(0.09 / 500) + 0.02
    )


@pytest.mark.slow
def test_intervals_of_budgets_and_savings_cover_the_truth(key):
    """200 data sets of a known law: the 90% bands of Laplace draws hold it in 83% to 96%."""
    truth = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
    rng = np.random.default_rng(11)
    N, D = np.exp(rng.uniform(np.log([[1e7], [1e9]]), np.log([[1e10], [1e12]]), (2, 80)))
    mean = np.asarray(laws.chinchilla(N, D, **truth))
    sets = {
        str(i): js.Runs.from_arrays(N=N, D=D, loss=mean * np.exp(0.005 * rng.normal(size=80)))
        for i in range(200)
    }
    fits = js.fit(
        laws.chinchilla, js.Runs.stack(sets), objective=js.LogGaussian(), restarts=32, key=key
    )
    saved = float(js.serve(dataclasses.replace(SARDANA, values=tuple(truth.items())),
                           quality_of=5e9, tokens=1e12).saving)  # fmt: skip
    wanted = {"flop": float(compute_optimal.budget(2.2, **truth)), "saving": saved}
    held = dict.fromkeys(wanted, 0)
    for fit in fits:
        draws = js.laplace(fit, draws=1000)
        bands = {
            "flop": js.budget_for(draws, loss=2.2).bands["flop"],
            "saving": js.serve(draws, quality_of=5e9, tokens=1e12).bands["saving"],
        }
        for name, (low, high) in bands.items():
            held[name] += bool(low < wanted[name] < high)
    # Binomial(200, 0.9) lies outside 166 to 192 with probability 0.003; Laplace is approximate.
    assert all(166 <= count <= 192 for count in held.values()), held


# What is asked wrongly, and what is shown.


def test_requests_that_make_no_sense(simulated_fit):
    with pytest.raises(js.DataError, match="either the loss"):
        js.serve(simulated_fit, tokens=1e12)
    with pytest.raises(js.DataError, match="either the loss"):
        js.serve(simulated_fit, tokens=1e12, loss=2.0, quality_of=1e9)
    with pytest.raises(js.DataError, match="tokens must be a positive number"):
        js.serve(simulated_fit, tokens=0.0, loss=2.2)
    with pytest.raises(js.DataError, match="does not settle it"):
        js.serve(
            published.get("ludziejewski_2025_joint_moe"),
            tokens=1e12, quality_of=1e9, choose={"E": (1, 8)},
        )  # fmt: skip
    verdict = js.Verdict((js.Finding("not_identified", "A is open.", ("A",)),))
    with pytest.raises(js.FitError, match="cannot say what is best"):
        js.budget_for(dataclasses.replace(simulated_fit, verdict=verdict), loss=2.2)


def test_experts_for_use_are_chosen_by_all_they_cost():
    """With much use, the number of experts and the size are those of least total FLOPs."""
    entry = published.get("ludziejewski_2025_joint_moe")
    counts, loss, used = (1, 8, 32), 2.4, 1e12
    found = js.serve(entry, loss=loss, tokens=used, choose={"E": counts})
    totals = []
    for E in counts:
        at = laws.moe.at_experts(E, **entry.params)
        N, D = inference_cost.inference_aware(loss, used, **at)
        totals.append(float(inference_cost.lifetime_cost(N, D, used)))
    np.testing.assert_allclose(found.options["flop"], totals, rtol=1e-8)
    assert float(found.inputs["E"]) == counts[int(np.argmin(totals))]


def test_tables_and_texts(simulated_fit):
    found = js.serve(simulated_fit, loss=2.2, tokens=[1e10, 1e12])
    assert list(found.frame().columns) == [
        "loss", "tokens", "N", "D", "tokens_per_parameter", "training", "inference",
        "reference_N", "reference_D", "saving",
    ]  # fmt: skip
    assert "saving" in repr(found)
    assert "Cheapest to train and use" in found._repr_html_()
    budget = js.budget_for(simulated_fit, loss=2.2)
    assert list(budget.frame().columns) == ["loss", "flop", "N", "D", "tokens_per_parameter"]
    assert "Smallest budgets" in budget._repr_html_()
