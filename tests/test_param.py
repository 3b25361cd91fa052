"""Parameters and units: transforms are inverse, units are products of powers."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import jaxscale as js
from jaxscale import _units

PARAMS = [
    js.positive(0.1, 10.0),
    js.real(-1.0, 2.0),
    js.interval(-2.0, 5.0),
    js.unit(),
]


@pytest.mark.parametrize("param", PARAMS, ids=lambda p: p.support)
@settings(deadline=None, max_examples=25)
@given(free=st.floats(-6, 6))
def test_transforms_are_inverse_and_stay_in_the_support(param, free):
    value = param.from_free(free)
    assert param.lower < value < param.upper
    np.testing.assert_allclose(param.to_free(value), free, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("param", PARAMS, ids=lambda p: p.support)
def test_starts_cover_the_start_range(param):
    np.testing.assert_allclose(param.from_free(param.start(0.0)), param.low, rtol=1e-12)
    np.testing.assert_allclose(param.from_free(param.start(1.0)), param.high, rtol=1e-12)
    assert jax.grad(param.from_free)(0.3) > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: js.positive(-1.0, 1.0),
        lambda: js.real(2.0, 1.0),
        lambda: js.unit(-0.5, 0.5),
        lambda: js.interval(0.0, 1.0, 0.5, 2.0),
    ],
)
def test_a_start_range_outside_the_support_is_refused(make):
    with pytest.raises(js.LawError):
        make()


def test_units_are_evaluated_in_logs():
    refs = {"N": np.log(1e300), "loss": np.log(2.0)}
    log = _units.log_unit("loss**(1/gamma) * N**(alpha/beta) / N**2", refs, {
        "gamma": 0.5, "alpha": 0.3, "beta": 0.6,
    })  # fmt: skip
    np.testing.assert_allclose(log, 2 * np.log(2.0) - 1.5 * np.log(1e300))
    assert _units.names("loss * N**alpha") == {"loss", "N", "alpha"}


@pytest.mark.parametrize("unit", ["N + D", "2 * N", "N**", "exp(N)", "N**sin(alpha)"])
def test_a_unit_that_is_no_product_of_powers_is_refused(unit):
    with pytest.raises(js.LawError, match="unit"):
        _units.log_unit(unit, {"N": 1.0, "D": 1.0}, {"alpha": 0.5})
