"""Imperfect verifiers, the cost of sampling, training for inference."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats

import jaxscale as js
from jaxscale import laws
from jaxscale.laws import inference_cost, verification

# Imperfect verifiers.

TASKS = {"share": (0.58, 0.42), "correct": (0.87, 0.13)}
VERIFIER = {"completeness": 1.0, "soundness": 0.75}


def test_outcomes_of_an_attempt():
    right, wrong, rejected = verification.attempt_outcomes(TASKS["correct"], **VERIFIER)
    np.testing.assert_allclose(rejected, [0.0975, 0.6525], rtol=1e-14)
    np.testing.assert_allclose(right + wrong + rejected, 1, rtol=1e-15)


@pytest.mark.parametrize(
    ("wrong", "K", "R"), [(-0.7, 3, "0.5246"), (-1.0, 2, "0.4724"), (-2.0, 1, "0.3388")]
)
def test_best_number_of_attempts(wrong, K, R):
    best, payoff = verification.best_attempts(wrong=wrong, **TASKS, **VERIFIER)
    assert best == K
    assert cases.agrees(payoff, R)


def test_the_posterior_weights_of_the_notebook_give_other_rewards():
    for wrong, printed in ((-0.7, 0.5541), (-1.0, 0.4884)):
        _, payoff = verification.best_attempts(wrong=wrong, **TASKS, **VERIFIER)
        assert abs(payoff - printed) > 0.01


def test_ceiling_and_precision_of_a_verifier():
    about = {**TASKS, **VERIFIER}
    assert cases.agrees(verification.accuracy_ceiling(**about), "0.71624")
    assert cases.agrees(verification.precision(1, **about), "0.83537")
    assert cases.agrees(verification.precision(5, **about), "0.73412")
    endless = verification.accepted_correct(5000, **about)
    assert endless == pytest.approx(float(verification.accuracy_ceiling(**about)), rel=1e-12)
    assert verification.accepted(5000, **about) == pytest.approx(1, rel=1e-12)


def test_reward_is_the_sum_over_the_attempts():
    about = {**TASKS, "completeness": 0.9, "soundness": 0.8}
    p, r = np.array(TASKS["share"]), np.array(TASKS["correct"])
    b = 0.1 * r + 0.8 * (1 - r)
    payoff = 0.9 * r * 1.5 - 0.2 * (1 - r) * 0.7 - 0.05
    direct = [sum(np.sum(p * b**i * payoff) for i in range(K)) for K in range(6)]
    ours = verification.reward(np.arange(6), right=1.5, wrong=-0.7, cost=0.05, **about)
    np.testing.assert_allclose(ours, direct, rtol=1e-13, atol=1e-15)


def test_a_perfect_verifier_gives_coverage_and_a_blind_one_nothing():
    perfect = {"completeness": 1.0, "soundness": 1.0}
    K = np.array([1, 4, 30])
    mean = sum(p * (1 - (1 - r) ** K) for p, r in zip(*TASKS.values(), strict=True))
    ours = verification.accepted_correct(K, **TASKS, **perfect)
    np.testing.assert_allclose(ours, mean, rtol=1e-13)
    never = {"completeness": 0.0, "soundness": 1.0}
    assert verification.accepted_correct(7, **TASKS, **never) == 0
    assert verification.accuracy_ceiling(**TASKS, **never) == 0
    assert verification.best_attempts(cost=0.1, **TASKS, **never) == (0, 0.0)
    with pytest.raises(js.LawError, match="limit=0"):
        verification.best_attempts(0, **TASKS, **never)


def test_best_of_majority_is_not_fooled_by_a_rare_answer():
    counts, rewards = [50, 30, 19, 1], [0.4, 0.6, 0.1, 0.99]
    assert verification.best_of_majority(counts, rewards, kept=1, share=0.0).tolist() == [3]
    share = float(verification.majority_share(3.0))
    assert share == 0.25
    assert verification.best_of_majority(counts, rewards, kept=3, share=share).tolist() == [1, 0]
    N = verification.majority_samples(3.0, kept=2, reward_error=0.1)
    # From there on the sampling term C* exp(-N / (16 C*)) is below eps^2 / k.
    assert 3.0 * np.exp(-N / 48) == pytest.approx(0.1**2 / 2, rel=1e-12)


# Costs.

SHAPE = {"heads": 32, "kv_heads": 8, "head_dim": 128, "n_layer": 36}


def test_sampling_flop_is_the_sum_over_tokens():
    def token(t):
        return 2 * (1e9 + 2 * 24 * 2048 * t)

    direct = sum(token(t) for t in range(1, 301)) + 7 * sum(token(t) for t in range(301, 501))
    ours = inference_cost.sampling_flop(
        1e9, prompt=300, generated=200, samples=7, n_layer=24, d_model=2048
    )
    assert ours == pytest.approx(direct, rel=1e-14)


def test_one_byte_is_worth_the_ratio_of_compute_to_bandwidth():
    assert inference_cost.FLOP_PER_BYTE == 4.5e15 / 8e12


@pytest.mark.parametrize(("context", "generated", "budget"), [(100, 900, 400), (500, 80, 256)])
def test_top_k_attention_adds_up_a_window_that_fills(context, generated, budget):
    """With a minus: the authors' plus counts more than budget x generated."""
    about = {"context": context, "generated": generated, "budget": budget}
    price = {"heads": 1, "kv_heads": 0, "head_dim": 1, "n_layer": 1}
    ours = inference_cost.top_k_cost(0.0, **about, **price) / 4
    steps = np.arange(generated) + 0.5  # the formulas are integrals: token j sees c + j - 1/2
    direct = np.minimum(budget, context + steps).sum()
    assert ours == pytest.approx(direct, rel=1e-5)
    assert ours <= budget * generated


def test_sparse_attention_without_a_limit_is_dense():
    about = {"context": 700.0, "generated": 300.0}
    dense = inference_cost.dense_cost(8e9, **about, **SHAPE)
    sparse = inference_cost.top_k_cost(8e9, **about, budget=1e6, **SHAPE)
    assert sparse == pytest.approx(float(dense), rel=1e-14)
    blocks = inference_cost.block_cost(8e9, **about, budget=1e6, block=16, **SHAPE)
    h = 128 * 36
    search = (2 * 700 + 300) / 16 * 300 * h * (32 + 8 * 562.5)
    assert blocks - sparse == pytest.approx(search, rel=1e-10)


def test_dense_trials_share_the_cache_of_the_prompt():
    one, two = (
        inference_cost.dense_cost(8e9, context=1e4, generated=100.0, trials=n, **SHAPE)
        for n in (1, 2)
    )
    assert 1 < two / one < 1.05  # the prompt's traffic is nearly all of the cost
    sparse = [
        inference_cost.top_k_cost(8e9, context=1e4, generated=1e2, budget=1e6, trials=n, **SHAPE)
        for n in (1, 2)
    ]
    assert sparse[1] == 2 * sparse[0]


def test_exchange_of_pretraining_for_sampling():
    k = inference_cost.sampling_exchange(14.0, pretraining=1e12, inference=3e11)
    small, large = 6 * 1e12 + k * 2 * 3e11, 14 * (6 * 1e12 + 2 * 3e11)
    assert k == pytest.approx(14 + 3 * 13 / 0.3)
    assert small == pytest.approx(large, rel=1e-14)
    assert inference_cost.verified_cost(10, 4, ratio=2.0) == 90


# Training for inference.

SARDANA = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.336, "beta": 0.283}


def reference(N):
    D = inference_cost.law_optimal_tokens(N, **SARDANA)
    return D, laws.chinchilla(N, D, **SARDANA)


@pytest.mark.parametrize(
    ("N0", "D_inf", "N", "saved", "more"),
    [
        (13e9, 2e12, "6.97e9", "0.174", None),
        (30e9, 1e13, "1.36e10", "0.280", "2.845"),
        (70e9, 1e13, "4.16e10", "0.119", None),
    ],
)
def test_inference_aware_training_of_sardana(N0, D_inf, N, saved, more):
    D0, loss = reference(N0)
    ours, D = inference_cost.inference_aware(loss, D_inf, **SARDANA)
    assert cases.agrees(ours, N)
    before = inference_cost.lifetime_cost(N0, D0, D_inf)
    after = inference_cost.lifetime_cost(ours, D, D_inf)
    assert cases.agrees(1 - after / before, saved)
    assert more is None or cases.agrees(D / D0, more)
    assert laws.chinchilla(ours, D, **SARDANA) == pytest.approx(float(loss), rel=1e-14)


def test_70b_needs_8e12_tokens_and_the_reference_is_not_20_tokens_per_parameter():
    _, loss = reference(70e9)
    _, D = inference_cost.inference_aware(loss, 1e13, **SARDANA)
    assert cases.agrees(D, "7.92e12")
    loss = laws.chinchilla(13e9, 20 * 13e9, **SARDANA)
    N, D = inference_cost.inference_aware(loss, 2e12, **SARDANA)
    saved = 1 - inference_cost.lifetime_cost(N, D, 2e12) / inference_cost.lifetime_cost(
        13e9, 20 * 13e9, 2e12
    )
    assert cases.agrees(saved, "0.43")


@pytest.mark.parametrize("D_inf", [1e9, 1e12, 1e16])
def test_inference_aware_training_is_the_cheapest(D_inf):
    _, loss = reference(5e9)
    N, D = inference_cost.inference_aware(loss, D_inf, **SARDANA)

    def log_cost(log_N):
        rest = loss - SARDANA["E"] - SARDANA["A"] * np.exp(-SARDANA["alpha"] * log_N)
        D = (SARDANA["B"] / rest) ** (1 / SARDANA["beta"])
        return float(np.log(inference_cost.lifetime_cost(np.exp(log_N), D, D_inf)))

    least = np.log(SARDANA["A"] / (loss - SARDANA["E"])) / SARDANA["alpha"]
    best = scipy.optimize.minimize_scalar(
        log_cost, bounds=(least + 1e-6, least + 5), method="bounded", options={"xatol": 1e-10}
    )
    assert np.log(inference_cost.lifetime_cost(N, D, D_inf)) <= best.fun + 1e-14
    assert np.log(N) == pytest.approx(best.x, abs=1e-6)  # a minimum is flat


def test_without_inference_it_is_chinchilla_and_it_has_a_gradient():
    D0, loss = reference(5e9)
    N, D = inference_cost.inference_aware(loss, 0.0, **SARDANA)
    assert pytest.approx(5e9, rel=1e-10) == N
    assert pytest.approx(float(D0), rel=1e-10) == D
    elasticity = jax.grad(
        lambda x: jnp.log(inference_cost.inference_aware(loss, jnp.exp(x), **SARDANA)[0])
    )(np.log(1e12))
    up, down = (
        float(jnp.log(inference_cost.inference_aware(loss, 1e12 * np.exp(s), **SARDANA)[0]))
        for s in (1e-5, -1e-5)
    )
    assert elasticity == pytest.approx((up - down) / 2e-5, rel=1e-6)
    assert elasticity < 0
