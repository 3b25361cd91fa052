"""predict(): the law at new inputs, and a warning where they leave the data."""

import jax
import numpy as np
import pytest

import jaxscale as js


def test_it_is_the_law_at_the_estimates(simulated_fit):
    N, D = np.array([1e8, 1e9]), 2e10
    prediction = js.predict(simulated_fit, N=N, D=D)
    p = {k: float(v) for k, v in simulated_fit.params.items()}
    by_hand = p["E"] + p["A"] / N ** p["alpha"] + p["B"] / D ** p["beta"]
    np.testing.assert_allclose(prediction.mean, by_hand, rtol=1e-12)
    frame = prediction.frame()
    assert list(frame.columns) == ["N", "D", "loss"]
    assert len(frame) == 2
    assert prediction.law_low is None
    assert prediction.run_low is None


def test_extrapolation_is_said(simulated_fit):
    inside = js.predict(simulated_fit, N=1e9, D=1e11)
    assert inside.notes == ()
    outside = js.predict(simulated_fit, N=1e13, D=1e5)
    assert any("times the largest N" in note for note in outside.notes)
    assert any("times below the smallest D" in note for note in outside.notes)
    assert "largest N" in repr(outside)


def test_it_can_be_differentiated_and_compiled(simulated_fit):
    slope = jax.jit(jax.grad(lambda n: js.predict(simulated_fit, N=n, D=2e10).mean))(1e9)
    h = 1e3
    low, high = (float(js.predict(simulated_fit, N=1e9 + d, D=2e10).mean) for d in (-h, h))
    np.testing.assert_allclose(slope, (high - low) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [({"N": 1e9}, "N, D"), ({"N": 1e9, "D": -1.0}, "D must be positive"), ({"n": 1, "D": 2}, "n")],
)
def test_bad_requests(simulated_fit, inputs, said):
    with pytest.raises(js.JaxscaleError, match=said):
        js.predict(simulated_fit, **inputs)


def test_a_stack_is_refused(simulated, key):
    runs, _ = simulated
    batch = js.fit(js.laws.chinchilla, js.Runs.stack({"a": runs}), restarts=16, key=key)
    with pytest.raises(js.DataError, match=r"fit\['a'\]"):
        js.predict(batch, N=1e9, D=1e10)
    with pytest.raises(js.DataError, match=r"fit\['a'\]"):
        js.allocate(batch, flop=1e21)
