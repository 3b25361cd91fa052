"""Laws in laws: found by numbers, tested by likelihood ratios whose p-values are honest."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxscale as js
from jaxscale._nested import Nesting, _chi_square, find_nesting, likelihood_ratio, simulate_ratio

X = np.geomspace(1e2, 1e6, 60)


@js.law(A=js.positive(0.3, 3.0, unit="loss * x**0.3"))
def root_law(x, *, A):
    """L(x) = A / x^0.3"""
    return A * x**-0.3


@js.law(E=js.positive(0.3, 3.0, unit="loss"))
def constant_law(x, *, E):
    """L(x) = E"""
    return E + 0.0 * x


def runs(seed, noise=0.02, E=0.0):
    rng = np.random.default_rng(seed)
    return js.Runs.from_arrays(x=X, loss=(E + 4.0 * X**-0.3) * np.exp(noise * rng.normal(size=60)))


LAWS = {
    "constant": constant_law,
    "root": root_law,
    "power": js.laws.power_law,
    "offset": js.laws.power_law_offset,
}


def fitted(name, data):
    return js.fit(LAWS[name], data, objective=js.LogGaussian(), restarts=16, key=jax.random.key(0))


@pytest.fixture(scope="module")
def fits():
    """All laws on runs of a power law with exponent 0.3 and no floor."""
    data = runs(3)
    return {name: fitted(name, data) for name in LAWS}


@pytest.mark.parametrize(
    ("small", "large", "expected"),
    [
        ("root", "power", Nesting()),
        ("power", "offset", Nesting(boundary=("E",))),
        ("root", "offset", Nesting(boundary=("E",))),
        ("constant", "offset", Nesting(boundary=("A",), undefined=("alpha",))),
        ("constant", "power", Nesting()),
        ("power", "root", None),
    ],
)
def test_laws_in_laws_are_found_by_numbers(fits, small, large, expected):
    assert find_nesting(fits[small], fits[large]) == expected


def test_a_law_that_is_only_close_is_not_contained():
    @js.law(A=js.positive(0.3, 3.0, unit="loss"), k=js.positive(0.02, 0.5))
    def log_law(x, *, A, k):
        """L(x) = A / (1 + k log(1 + x / 100))"""
        return A / (1 + k * jnp.log1p(x / 100))

    data = runs(4)
    small = js.fit(log_law, data, objective=js.LogGaussian(), restarts=16, key=jax.random.key(0))
    assert find_nesting(small, fitted("offset", data)) is None
    with pytest.raises(js.LawError, match="does not contain log_law"):
        likelihood_ratio(small, fitted("offset", data))


def test_the_statistic_is_that_of_sums_of_squares(fits):
    """2 log ratio = n log(S_small / S_large); Bartlett: (n - p - 1 + df / 2) / n of it."""
    small, large = fits["root"], fits["power"]
    squares = [float((np.asarray(f.residuals()) ** 2).sum()) for f in (small, large)]
    found = likelihood_ratio(small, large)
    assert found.statistic == pytest.approx(60 * np.log(squares[0] / squares[1]), rel=1e-6)
    corrected = found.statistic * (60 - 2 - 1 + 0.5) / 60
    assert found.p_value == pytest.approx(scipy.stats.chi2.sf(corrected, 1))
    # For one parameter and least squares the F test is exact: the correction comes close to it.
    F = (squares[0] - squares[1]) / (squares[1] / 58)
    assert found.p_value == pytest.approx(scipy.stats.f.sf(F, 1, 58), rel=0.02)


def test_a_known_scale_needs_no_correction(fits):
    def known(fit):
        objective = js.LogStudentT(5, 0.02)
        rho = np.asarray(objective.rho(np.asarray(fit.residuals())))
        return dataclasses.replace(fit, objective=objective, value=float(rho.sum()))

    small, large = known(fits["root"]), known(fits["power"])
    found = likelihood_ratio(small, large, nesting=Nesting())
    assert found.statistic == pytest.approx(max(2 * (small.value - large.value), 0))
    assert found.p_value == pytest.approx(scipy.stats.chi2.sf(found.statistic, 1))


SIMS = 600


@pytest.fixture(scope="module")
def null_statistics(fits):
    """Statistics of tables simulated from the smaller law, inside and at a boundary."""
    key = jax.random.key(8)
    return {
        "inside": simulate_ratio(fits["root"], fits["power"], SIMS, key),
        "boundary": simulate_ratio(fits["power"], fits["offset"], SIMS, key),
    }


def test_p_values_are_uniform_if_the_smaller_law_is_true(fits, null_statistics):
    """A correct test fails the Kolmogorov-Smirnov test once in a thousand seeds; this is one."""
    p = [
        _chi_square(fits["root"], fits["power"], float(s), 1, Nesting())[0]
        for s in null_statistics["inside"]
    ]
    assert scipy.stats.kstest(p, "uniform").pvalue > 1e-3
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / SIMS))


def test_at_a_boundary_half_of_the_statistics_are_zero(fits, null_statistics):
    """The share of zeros and of p < 0.05, each within four binomial errors (6 in 100,000)."""
    statistics = null_statistics["boundary"]
    nesting = Nesting(boundary=("E",))
    assert np.mean(statistics < 1e-4) == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / SIMS))
    p = np.array(
        [_chi_square(fits["power"], fits["offset"], float(s), 1, nesting)[0] for s in statistics]
    )
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / SIMS))
    naive = scipy.stats.chi2.sf(statistics, 1)
    assert np.mean(naive < 0.05) < np.mean(p < 0.05)


def test_simulation_agrees_with_the_chi_square(fits, key):
    found = likelihood_ratio(fits["root"], fits["power"], sims=SIMS, key=key)
    exact = likelihood_ratio(fits["root"], fits["power"])
    error = np.sqrt(exact.p_value * (1 - exact.p_value) / SIMS)
    assert found.p_value == pytest.approx(exact.p_value, abs=4 * error + 1 / SIMS)
    assert f"{SIMS} tables simulated from root_law" in found.sentence()


def test_a_true_floor_is_found():
    data = runs(5, E=0.1)
    found = likelihood_ratio(fitted("power", data), fitted("offset", data))
    assert found.p_value < 1e-6
    assert "power_law_offset fits better than power_law" in found.sentence()
    assert "E lies at a boundary" in found.sentence()


def test_without_meaning_there_is_no_chi_square(fits):
    found = likelihood_ratio(fits["constant"], fits["offset"])
    assert np.isnan(found.p_value)
    assert "alpha means nothing there" in found.sentence()


def test_two_parameters_at_a_boundary_are_judged_with_care(fits):
    nesting = Nesting(boundary=("E", "g"))
    p, words = _chi_square(fits["root"], fits["offset"], 5.0, 2, nesting)
    assert p == pytest.approx(scipy.stats.chi2.sf(5.0 * (60 - 3 - 1 + 1) / 60, 2))
    assert "too large a p" in words
    p, words = _chi_square(fits["root"], fits["offset"], 5.0, 2, Nesting(boundary=("E",)))
    each = scipy.stats.chi2.sf(5.0 * (60 - 3) / 60, [1, 2])
    assert p == pytest.approx(each.mean())


def test_compare_tests_every_pair_or_those_that_are_named(fits):
    chosen = {name: fits[name] for name in ("root", "power", "offset")}
    found = js.compare(chosen)
    pairs = {(test.small, test.large) for test in found.tests}
    assert pairs == {("root", "power"), ("root", "offset"), ("power", "offset")}
    named = js.compare(chosen, nested={"root": "power"})
    assert [(t.small, t.large) for t in named.tests] == [("root", "power")]
    assert not js.compare(chosen, nested=None).tests
    with pytest.raises(js.DataError, match="names 'flat'"):
        js.compare(chosen, nested={"root": "flat"})
    with pytest.raises(js.LawError, match="power does not contain offset"):
        js.compare(chosen, nested={"offset": "power"})
    with pytest.raises(js.DataError, match="nested must be"):
        js.compare(chosen, nested="all")


def test_unusable_pairs_are_refused(fits):
    with pytest.raises(js.LawError, match="neither is larger"):
        likelihood_ratio(fits["power"], fits["root"])
    with pytest.raises(js.DataError, match="needs a key"):
        likelihood_ratio(fits["root"], fits["power"], sims=10)
    other = fitted("power", runs(9))
    with pytest.raises(js.DataError, match="not about the same runs"):
        likelihood_ratio(fits["root"], other)
