"""Hyper-parameters and downstream tasks: recipes on real rows, closed forms, limits, errors."""

import functools

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxscale as js
from jaxscale import laws, published
from jaxscale.laws import downstream, hyperparameter

KEY = jax.random.key(0)


# Step Law.


@functools.cache
def sweeps(which):
    return pd.read_csv(cases.data_path(f"steplaw_{which}.csv"))


def regrets(frame, cells, params):
    lr, batch = published.get("step_2025_lr"), published.get("step_2025_batch")
    return [
        hyperparameter.grid_regret(
            cell["smooth_loss_nats"],
            cell["lr"],
            cell["batch_tokens"],
            float(lr(N=cell[params].iloc[0], D=cell["tokens"].iloc[0])),
            float(batch(x=cell["tokens"].iloc[0])),
        )
        for _, cell in frame.groupby(cells)
    ]


def test_regret_of_the_published_rules_on_dense_models():
    found = regrets(sweeps("dense"), ["params_nonembedding", "tokens"], "params_nonembedding")
    assert len(found) == 17
    assert cases.agrees(100 * np.mean(found), ".0957")


def test_regret_of_the_published_rules_on_mixtures_of_experts():
    found = regrets(sweeps("moe"), ["moe_config", "tokens"], "params_total")
    assert len(found) == 16
    assert cases.agrees(100 * np.mean(found), ".159")


@functools.cache
def tuned():
    """The authors' recipe on the released rows: learning rate and batch."""
    frame = sweeps("dense")
    cell = frame["params_nonembedding"].astype(str) + " " + frame["tokens"].astype(str)
    rows = frame[hyperparameter.near_optimal(frame["smooth_loss_nats"], cell)]
    assert len(rows) == 129
    least_squares = {"objective": js.LogGaussian(), "restarts": 16, "key": KEY}
    of_lr = js.Runs.from_frame(
        rows, loss="lr", N="params_nonembedding", D="tokens", duplicates="keep"
    )
    of_batch = js.Runs.from_frame(rows, loss="batch_tokens", x="tokens", duplicates="keep")
    lr = js.fit(laws.step_lr, of_lr, **least_squares)
    return lr, js.fit(laws.scaling_rule, of_batch, **least_squares)


def test_refit_of_the_released_rows():
    lr, batch = tuned()
    assert lr.verdict.ok
    assert batch.verdict.ok
    assert cases.agrees(lr.params["a"], "-.766")
    assert cases.agrees(lr.params["b"], ".197")
    assert cases.agrees(batch.params["g"], ".6125")  # printed .612, cut


def test_vertices_of_the_surfaces_scale_as_the_independent_refit():
    cells = sweeps("dense").groupby(["params_nonembedding", "tokens"])
    best = [
        (*cell, *hyperparameter.surface_optimum(c["smooth_loss_nats"], c["lr"], c["batch_tokens"]))
        for cell, c in cells
    ]
    assert len(best) == 17
    N, D, lr, batch = np.array(best).T
    least_squares = {"objective": js.LogGaussian(), "restarts": 16, "key": KEY}
    rate = js.fit(laws.step_lr, js.Runs.from_arrays(loss=lr, N=N, D=D), **least_squares)
    assert cases.agrees(rate.params["a"], "-.695")
    assert cases.agrees(rate.params["b"], ".208")
    runs = js.Runs.from_arrays(loss=batch, x=D, duplicates="keep")
    assert cases.agrees(js.fit(laws.scaling_rule, runs, **least_squares).params["g"], ".569")


def test_vertex_of_a_paraboloid():
    lr, batch = (x.ravel() for x in np.meshgrid(np.geomspace(1e-4, 1e-2, 6), 2.0 ** np.arange(6)))
    x, y = np.log(lr / 7e-4), np.log(batch / 5)
    loss = 2 + 0.02 * x**2 + 0.01 * x * y + 0.03 * y**2
    found = hyperparameter.surface_optimum(loss, lr, batch)
    assert found == pytest.approx((7e-4, 5.0), rel=1e-9)
    with pytest.raises(js.DataError, match="does not bracket"):
        hyperparameter.surface_optimum(2 + 0.01 * x, lr, batch)
    with pytest.raises(js.DataError, match="needs 6 runs near the best, there are 1"):
        hyperparameter.surface_optimum(loss, lr, batch, tolerance=1e-5)


def test_refit_is_ordinary_least_squares():
    lr, _ = tuned()
    X = np.stack([np.ones(129), np.log(lr.runs.inputs["N"]), np.log(lr.runs.inputs["D"])], axis=1)
    expected = np.linalg.lstsq(X, np.log(lr.runs.loss), rcond=None)[0]
    ours = [np.log(lr.params["c"]), lr.params["a"], lr.params["b"]]
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


# Recommendations.


def test_published_rules_recommend_without_bands():
    made = hyperparameter.recommend(
        1e9, 1e11, lr=published.get("step_2025_lr"), batch=published.get("step_2025_batch")
    )
    assert cases.agrees(made.values["lr"], "1.63250e-3")
    assert cases.agrees(made.values["batch"], "1.107715e6")
    assert made.level is None
    assert list(made.frame()) == ["N", "D", "lr", "batch"]


@functools.cache
def tuned_draws():
    # The same runs and key: common resamples.
    return tuple(js.bootstrap(fit, n=1000, guard=0, key=KEY) for fit in tuned())


def test_joint_bands_hold_the_stated_share_of_the_draws():
    lr, batch = tuned_draws()
    D = np.array([1e11, 1e12])
    made = hyperparameter.recommend(1e9, D, lr=lr, batch=batch, level=0.8)
    inside = np.ones((2, 1000), bool)
    for name in ("lr", "batch"):
        x = made.draws[name]
        inside &= (x >= made.low[name][:, None]) & (x <= made.high[name][:, None])
    np.testing.assert_allclose(inside.mean(axis=1), 0.8, atol=0.002)  # 1,000 draws, one on the edge
    alone = js.predict(batch, x=D, level=0.8)
    assert (made.high["batch"] - made.low["batch"] > alone.law_high - alone.law_low).all()


def test_weight_decay_has_the_wanted_timescale():
    lr, batch = tuned_draws()
    tau = published.Published(
        **{
            "name": "tau",
            "law": laws.adamw_timescale,
            "values": (("c", 1.0), ("m", 0.527)),
            **dict.fromkeys(("source", "table", "units", "objective", "rows", "evidence"), ""),
        }
    )
    made = hyperparameter.recommend(1e9, 2e10, lr=lr, batch=batch, tau=tau)
    v = made.values
    got = hyperparameter.timescale(v["batch"], v["lr"], v["weight_decay"], 2e10)
    assert np.isclose(got, 20**-0.527, rtol=1e-12)
    assert made.low["weight_decay"] < v["weight_decay"] < made.high["weight_decay"]
    np.testing.assert_allclose(
        made.draws["weight_decay"] * made.draws["lr"] / made.draws["batch"],
        1 / (2e10 * 20**-0.527),
        rtol=1e-12,
    )


def test_recommend_refuses():
    lr, batch = tuned_draws()
    rule = published.get("filatov_2025_lr")
    with pytest.raises(js.DataError, match="needs B, not only N and D"):
        hyperparameter.recommend(1e9, 1e10, lr=rule, batch=batch.fit)
    with pytest.raises(js.DataError, match="level"):
        hyperparameter.recommend(1e9, 1e10, lr=lr, batch=batch, level=90)
    fewer = js.bootstrap(batch.fit, n=10, guard=0, key=KEY)
    with pytest.raises(js.DataError, match="different numbers of draws"):
        hyperparameter.recommend(1e9, 1e10, lr=lr, batch=fewer)


# Batch and weight decay.


def test_critical_batch_hyperbola():
    S_min, B_crit = 4e3, 5e5
    B = np.geomspace(1e3, 1e8, 30)
    S = laws.critical_batch_steps(B, S_min=S_min, B_crit=B_crit)
    E = laws.critical_batch_examples(B, E_min=S_min * B_crit, B_crit=B_crit)
    np.testing.assert_allclose(E, B * S, rtol=1e-12)
    np.testing.assert_allclose((S / S_min - 1) * (E / (S_min * B_crit) - 1), 1, rtol=1e-9)
    back = hyperparameter.batch_for_steps(S, S_min=S_min, B_crit=B_crit)
    np.testing.assert_allclose(back, B, rtol=1e-9)
    assert hyperparameter.batch_for_steps(S_min, S_min=S_min, B_crit=B_crit) == np.inf


def test_steps_and_examples_give_one_critical_batch():
    rng = np.random.default_rng(0)
    B = np.geomspace(1e4, 1e7, 20)
    S = laws.critical_batch_steps(B, S_min=4e3, B_crit=5e5) * np.exp(rng.normal(0, 0.05, 20))
    options = {"objective": js.LogGaussian(), "restarts": 16, "key": KEY}
    steps = js.fit(laws.critical_batch_steps, js.Runs.from_arrays(B=B, loss=S), **options)
    examples = js.fit(laws.critical_batch_examples, js.Runs.from_arrays(B=B, loss=B * S), **options)
    assert np.isclose(steps.params["B_crit"], examples.params["B_crit"], rtol=1e-6)
    E_min = dict(laws.critical_batch_steps.derived)["E_min"](**steps.params)
    assert np.isclose(E_min, examples.params["E_min"], rtol=1e-6)


def test_noise_scale_of_exact_norms():
    signal, noise = 2.0, 300.0
    small, big = (signal + noise / B for B in (8, 64))
    assert np.isclose(hyperparameter.noise_scale(8, 64, small, big), 150.0, rtol=1e-12)


def test_exponents_of_the_optimal_norm_chain():
    """lr along the optimal batch B ~ D^0.45 falls as D^-0.28, the printed exponent."""
    p = published.get("filatov_2025_lr").params
    assert cases.agrees(p["a"] * 0.45 + p["b"], "-0.28")
    value = published.get("filatov_2025_lr")(B=256.0, D=2e10)
    assert np.isclose(np.log2(value), 0.62 * 8 - 0.56 * np.log2(2e10) + 9.8, rtol=1e-12)


def test_layerwise_weight_decay_keeps_the_singular_value():
    def top(d):
        decay = hyperparameter.layerwise_weight_decay(d, 256, 0.1)
        return np.sqrt(d**-1.0 / decay) * d**0.75

    np.testing.assert_allclose(top(np.array([512.0, 4096.0])), top(256.0), rtol=1e-12)


def test_lr_sensitivity():
    losses = [3.0, 2.5, 2.75, np.nan, 50.0]
    # Capped at 4: excesses over 2.5 are .5, 0, .25, 1.5, 1.5.
    assert np.isclose(hyperparameter.lr_sensitivity(losses, 4.0), 3.75 / 5, rtol=1e-12)
    both = hyperparameter.lr_sensitivity([losses, [4.0] * 5], [4.0, 4.0])
    np.testing.assert_allclose(both, [0.75, 0.0], rtol=1e-12)
    with pytest.raises(js.DataError, match="one learning rate or more"):
        hyperparameter.lr_sensitivity(3.0, 4.0)


def test_deepseek_model_and_data_multiply_to_the_compute():
    C = 1e20
    M = laws.scaling_rule(C, c=0.1715, g=0.5243)
    D = laws.scaling_rule(C, c=5.8316, g=0.4757)
    assert cases.agrees(M * D / C, "1.00012", slack=5e-6)  # the exponents add to exactly 1


def test_deepseek_compute_is_not_six_nd():
    shape = {"n_layer": 30, "d_model": 4096}
    C = js.flops.deepseek(2e12, **shape, n_ctx=4096)
    short = js.flops.deepseek(2e12, **shape, n_ctx=0)
    assert short == js.flops.kaplan(2e12, **shape)
    # Attention adds n_ctx / (6 d_model).
    assert C / short == pytest.approx(1 + 4096 / (6 * 4096))
    # Their 7B model of 2e12 tokens: batch 9.2M tokens and learning rate 4.2e-4, as they report.
    assert cases.agrees(laws.scaling_rule(C, c=0.2920, g=0.3271) / 1e6, "9.2", slack=0.01)
    assert cases.agrees(laws.scaling_rule(C, c=0.3118, g=-0.1250) * 1e4, "4.2", slack=0.01)


# Fine-tuning.

CURVE = {"E": 1.2, "drop": 1.5, "D0": 9e3, "beta": 0.6}
EXAMPLES = np.geomspace(200, 2e6, 15)


def test_three_parametrizations_are_one_curve():
    law = laws.rectified_finetuning(EXAMPLES, **CURVE)
    p = downstream.rectified_parameters(**CURVE)
    paper, code, bench = p["paper"], p["code"], p["sldbench"]
    written = (
        paper["B"] / (paper["D_l"] + EXAMPLES ** paper["beta"]) + paper["E"],
        (code["A"] - code["E"]) / (1 + np.exp(code["beta"] * np.log(EXAMPLES) + code["b"]))
        + code["E"],
        bench["theta2"] + bench["theta0"] / (EXAMPLES ** bench["theta1"] + bench["theta3"]),
    )
    for values in written:
        np.testing.assert_allclose(values, law, rtol=1e-12)
    for back in (downstream.rectified_from_paper(**paper), downstream.rectified_from_code(**code)):
        for name, value in CURVE.items():
            assert np.isclose(back[name], value, rtol=1e-12), name


def test_no_examples_are_allowed_and_differentiable():
    law = laws.rectified_finetuning
    assert np.isclose(law(0.0, **CURVE), CURVE["E"] + CURVE["drop"], rtol=1e-15)
    slope = jax.grad(lambda p: law(0.0, **p))(CURVE)
    assert slope["E"] == 1
    assert slope["drop"] == 1
    assert slope["beta"] == 0
    assert slope["D0"] == 0
    assert np.isfinite(jax.hessian(lambda D: law(D, **CURVE))(0.0))


def test_vanilla_law_is_the_limit_without_a_flat_phase():
    tiny = downstream.rectified_from_paper(B=40.0, D_l=1e-9, beta=0.5, E=1.1)
    plain = laws.vanilla_finetuning(EXAMPLES, B=1 / 40.0, E=1.1, alpha=1.0, beta=0.5)
    np.testing.assert_allclose(laws.rectified_finetuning(EXAMPLES, **tiny), plain, rtol=1e-9)


# Accuracy.


def test_sigmoids_agree_with_the_authors_forms():
    L = np.linspace(0.0, 2.0, 9)
    wave = 1 / (1 + np.exp(-5.0 * (L - 0.8)))
    ours = laws.sigmoid_accuracy(L, top=0.95, drop=0.7, k=5.0, L0=0.8)
    np.testing.assert_allclose(ours, -0.7 * wave + 0.95, rtol=1e-12)
    ours = laws.log_sigmoid_accuracy(L, a=0.2, k=5.0, L0=0.8)
    np.testing.assert_allclose(ours, 1 + 0.2 * np.log(1 - wave), rtol=1e-12)


def test_log_score_is_exact_where_the_logarithm_is_large_and_never_breaks():
    D = np.geomspace(1e8, 1e11, 7)
    p = {"A": 0.02, "alpha": 0.35, "beta": 1.8}
    np.testing.assert_allclose(laws.log_score(D, **p), np.log(0.02 * D**0.35) ** 1.8, rtol=1e-8)
    for D_low in (1e-30, 1.0, 0.02 ** (-1 / 0.35)):
        value, slope = jax.value_and_grad(lambda D: laws.log_score(D, **p))(D_low)
        assert value > 0
        assert np.isfinite(slope)


def test_alignment_needs_both_languages():
    assert downstream.alignment_score(1.0, 0.0) == 0.7
    assert downstream.alignment_score(0.0, 1.0) == 0.8
    assert downstream.alignment_score(0.5, 0.5) == 1.0


def test_pass_rates_from_counts():
    """Binomial maximum likelihood, with models that never passed."""
    rng = np.random.default_rng(1)
    N = np.geomspace(3e7, 3e9, 30)
    truth = {"c": 600.0, "alpha": 0.25}
    samples = np.full(30, 2_000.0)
    passes = rng.binomial(2_000, np.asarray(laws.pass_rate(N, **truth)))
    runs = js.Runs.from_arrays(
        N=N, loss=np.asarray(downstream.pass_until(passes, samples)), weight=samples
    )
    assert (np.asarray(runs.loss) == 0).any()
    fit = js.fit(laws.pass_rate, runs, objective=js.Binomial(), restarts=64, key=KEY)
    assert fit.restarts.hit_share >= 0.9
    assert np.isclose(fit.params["alpha"], 0.25, atol=0.032)  # four standard errors of 0.008
    line = np.log(-np.log(np.asarray(laws.pass_rate(N, **truth))))
    np.testing.assert_allclose(np.diff(line), -0.25 * np.diff(np.log(N)), rtol=1e-9)


def test_composed_curves_fall_rise_or_turn():
    x = np.linspace(-10, 10, 401)
    turn = np.asarray(laws.composed_accuracy(x, a=0.75, b=0.025, k=1.0, m=0.0))
    np.testing.assert_allclose(
        turn,
        (0.025 * x + 0.75) / (1 + np.exp(-x)) + (0.25 - 0.025 * x) / (1 + np.exp(x)),
        rtol=1e-12,
    )
    assert np.argmin(turn) not in (0, 400)
    fall = np.asarray(laws.composed_accuracy(x, a=0.1, b=0.0, k=1.0, m=0.0))
    assert (np.diff(fall) < 0).all()
    assert (np.diff(1 - fall) > 0).all()


def test_u_shape_turns_at_its_center():
    p = {"y0": 0.4, "q": 0.01, "C0": 3e20}
    assert laws.u_shaped(3e20, **p) == 0.4
    sides = laws.u_shaped(3e20 * np.array([0.1, 10.0]), **p)
    np.testing.assert_allclose(sides, 0.4 + 0.01 * np.log(10) ** 2, rtol=1e-12)


def test_skill_has_a_floor_and_a_logit_linear_in_logs():
    p = {"floor": 0.25, "K": 1e-10, "u": 0.5, "v": 0.4}
    N, D = 3e9, 7e10
    share = (laws.skill_accuracy(N, D, **p) - 0.25) / 0.75
    logit = np.log(1e-10) + 0.5 * np.log(N) + 0.4 * np.log(D)
    assert np.isclose(np.log(share / (1 - share)), logit, rtol=1e-10)
    assert np.isclose(laws.skill_accuracy(1.0, 1.0, **p), 0.25, atol=1e-9)


def test_decision_accuracy_and_its_ties():
    decide = downstream.decision_accuracy
    assert decide([1, 2, 3], [1, 2, 3]) == 1
    assert decide([3, 2, 1], [1, 2, 3]) == 0
    assert np.isclose(decide([1, 3, 2], [1, 2, 3]), 2 / 3)
    # One pair is tied in the prediction only.
    assert np.isclose(decide([1, 1, 2], [1, 2, 3]), 2 / 3)
    assert np.isclose(decide([1, 1, 2], [1, 2, 3], ties=0.5), 2.5 / 3)
    assert decide([1, 1], [2, 2]) == 1
    assert decide([1, 1], [2, 2], ties=0.5) == 0.5
    with pytest.raises(js.DataError, match="two or more choices"):
        decide([1], [1])
    with pytest.raises(js.DataError, match="finite"):
        decide([1, np.nan], [1, 2])


def test_choice_metrics():
    log_p = jnp.log(jnp.array([[0.2, 0.1, 0.1], [0.01, 0.03, 0.0]]))
    found = downstream.choice_metrics(jnp.maximum(log_p, -1e3), jnp.array([0, 0]))
    np.testing.assert_allclose(found["p_vocab"], [0.2, 0.01], rtol=1e-12)
    np.testing.assert_allclose(found["p_choices"], [0.5, 0.25], rtol=1e-12)
    np.testing.assert_allclose(found["brier"], [0.375, 0.75**2 * 2], rtol=1e-12)
    np.testing.assert_allclose(found["accuracy"], [1, 0])
