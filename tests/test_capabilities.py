"""capabilities(): principal components of benchmarks, families, and metrics of models."""

import functools

import cases
import jax
import numpy as np
import pandas as pd
import pytest

import jaxscale as js

BENCHMARKS = (
    "MMLU",
    "ARC-C",
    "HellaSwag",
    "Winograd",
    "TruthfulQA",
    "GSM8K",
    "XWinograd",
    "HumanEval",
)


@functools.cache
def models():
    frame = pd.read_csv(cases.data_path("obsscaling_base_llms.csv"))
    # One row has a thousand times its tokens: 627 instead of 0.627 T.
    frame.loc[frame["flops_suspect"] == 1, "flops_1e21"] = 11.3
    return frame.assign(flop=1e21 * frame["flops_1e21"])


@functools.cache
def ruan():
    return js.capabilities(models(), BENCHMARKS, family="family", flop="flop")


def made_up(models=30, benchmarks=4, noise=0.0):
    """One capability that all benchmarks share, from the compute of two families."""
    rng = np.random.default_rng(0)
    log_flop = rng.uniform(48, 56, models)
    family = np.where(np.arange(models) % 2, "slow", "fast")
    skill = np.where(family == "fast", 0.10, 0.05) * log_flop - 5
    weights = np.array([0.5, 0.5, 0.5, 0.5])[:benchmarks]
    scores = 0.5 + skill[:, None] * weights + noise * rng.normal(size=(models, benchmarks))
    frame = pd.DataFrame(scores, columns=list("abcd")[:benchmarks])
    return frame.assign(family=family, flop=np.exp(log_flop))


def test_one_capability_is_found_exactly():
    frame = made_up()
    found = js.capabilities(frame, "abcd", components=1, family="family", flop="flop")
    np.testing.assert_allclose(found.explained, [1, 0, 0, 0], atol=1e-15)
    np.testing.assert_allclose(np.abs(found.loadings), 0.5, rtol=1e-12)
    theta = found.families["theta"]
    # Weights of length one, so that PC1 is the skill up to a constant.
    np.testing.assert_allclose([theta["fast"], theta["slow"]], [0.10, 0.05], rtol=1e-10)
    np.testing.assert_allclose(found.families["r2"], 1, rtol=1e-12)
    fast = (frame["family"] == "fast").to_numpy()
    np.testing.assert_allclose(found.equivalent_flop("fast")[fast], frame["flop"][fast], rtol=1e-8)
    slow = found.equivalent_flop("fast")[~fast]
    assert (slow < frame["flop"][~fast]).all()


def test_components_are_those_of_the_covariance():
    frame = made_up(noise=0.05)
    found = js.capabilities(frame, "abcd", components=2)
    values = np.linalg.eigvalsh(np.cov(frame[list("abcd")].T))[::-1]
    np.testing.assert_allclose(found.explained, values / values.sum(), rtol=1e-10)
    np.testing.assert_allclose(found.scores.var(axis=0, ddof=1), values[:2], rtol=1e-10)
    np.testing.assert_allclose(found.project(frame[list("abcd")]), found.scores, atol=1e-12)
    assert (found.loadings.sum(axis=1) > 0).all()


def test_missing_scores_of_one_capability_are_restored():
    frame = made_up()
    holes = frame.copy()
    holes.loc[[2, 9], "a"] = np.nan
    holes.loc[5, ["b", "c"]] = np.nan
    found = js.capabilities(holes, "abcd", components=1)
    assert found.missing.sum() == 4
    # Iteration stops where nothing moves by 1e-10; it contracts by less than a half.
    np.testing.assert_allclose(found.filled, frame[list("abcd")], atol=1e-9)


def test_refusals():
    frame = made_up()
    with pytest.raises(js.DataError, match="no column 'z'"):
        js.capabilities(frame, ["a", "z"])
    with pytest.raises(js.DataError, match="5 components of 4 benchmarks"):
        js.capabilities(frame, "abcd", components=5)
    with pytest.raises(js.DataError, match="needs a score"):
        js.capabilities(frame.assign(a=np.nan), "abcd")
    found = js.capabilities(frame, "abcd", family="family", flop="flop")
    with pytest.raises(js.DataError, match="there is no family 'x'"):
        found.equivalent_flop("x")


# Ruan et al. 2024.


def test_variance_explained():
    found = ruan()
    assert len(found.scores) == 148
    assert found.missing.sum() == 40
    for share, printed in zip(found.explained, (".853", ".094"), strict=False):
        assert cases.agrees(share, printed), share
    assert cases.agrees(found.explained[:3].sum(), ".973")
    # Printed .027; ours rounds the other way (.02648) although the sum agrees.
    assert abs(found.explained[2] - 0.027) < 0.0006


@pytest.mark.parametrize(
    ("family", "printed"),
    [
        ("OPT", ".985"),
        ("Pythia", ".984"),
        ("BLOOM", ".984"),
        ("Llama", ".978"),
        ("Qwen1.5", ".970"),
        ("OLMo", ".51"),
        ("StableLM", ".08"),
    ],
)
def test_compute_explains_a_family(family, printed):
    assert cases.agrees(ruan().families.loc[family, "r2"], printed)


def test_equivalent_flop():
    found, frame = ruan(), models()
    llama = (frame["family"] == "Llama").to_numpy()
    ratio = np.log(found.equivalent_flop("Llama")[llama] / frame["flop"][llama])
    # Residuals of a least-squares line add up to zero.
    assert abs(float(np.mean(ratio))) < 1e-10
    with pytest.raises(js.DataError, match="does not grow with compute"):
        found.equivalent_flop("StableLM")


def test_a_metric_from_three_components():
    """Three-digit addition by the weaker models predicts it for the stronger ones."""
    found, frame = ruan(), models()
    metric = frame["arithmetic_3da_2_acc"].to_numpy(float)
    weak = found.flop <= 8.4e22
    runs = found.runs(metric, where=weak)
    fit = js.fit(
        js.laws.capability_sigmoid,
        runs,
        objective=js.Gaussian(),
        restarts=256,
        key=jax.random.key(0),
    )
    test = found.runs(metric, where=found.flop > 8.4e22)
    assert len(runs) > 30
    assert len(test) > 10
    predicted = js.predict(fit, **{k: np.asarray(v) for k, v in test.inputs.items()}).mean
    error = np.abs(np.asarray(predicted) - test.loss).mean()
    constant = np.abs(runs.loss.mean() - test.loss).mean()
    assert error < 0.5 * constant
