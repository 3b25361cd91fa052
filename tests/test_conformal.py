"""Past extrapolations are those of refits, and conformal bands hold as often as they say."""

import jax
import numpy as np
import pandas as pd
import pytest

import jaxscale as js
from jaxscale._conformal import conformal, extrapolation_residuals


@pytest.fixture(scope="module")
def past(simulated_fit):
    return extrapolation_residuals(simulated_fit)


def table(residual, distance=0.0):
    return pd.DataFrame({"distance": distance + 0 * residual, "residual": residual})


def test_residuals_are_those_of_a_fit_of_the_smaller_runs(simulated_fit, past):
    runs = simulated_fit.runs
    C = 6 * runs.inputs["N"] * runs.inputs["D"]
    assert past["cut"].nunique() >= 3
    cut = past["cut"].unique()[1]
    below = cut * (1 + 1e-9) >= C
    alone = js.fit(
        js.laws.chinchilla,
        js.Runs.from_arrays(
            **{k: v[below] for k, v in runs.inputs.items()}, loss=np.asarray(runs.loss)[below]
        ),
        restarts=256,
        key=jax.random.key(1),
    )
    rows = past[past["cut"] == cut]
    index = rows["row"].to_numpy() - np.asarray(runs.row)[0]
    assert len(rows) == (~below).sum()
    predicted = js.predict(alone, **{k: v[index] for k, v in runs.inputs.items()}).mean
    np.testing.assert_allclose(rows["predicted"], predicted, rtol=1e-5)
    np.testing.assert_allclose(rows["residual"], np.log(predicted / runs.loss[index]), atol=1e-5)
    np.testing.assert_allclose(rows["distance"], np.log10(C[index] / cut), rtol=1e-9)
    assert (past["distance"] > 0).all()


def test_cuts_with_too_few_runs_are_skipped(simulated_fit, past):
    C = np.sort(6 * simulated_fit.runs.inputs["N"] * simulated_fit.runs.inputs["D"])
    assert past["cut"].min() >= C[14] * (1 - 1e-9)
    some = extrapolation_residuals(simulated_fit, cuts=[C[3], C[29]])
    np.testing.assert_allclose(some["cut"].unique(), C[29])
    assert len(some) == 30
    by_size = extrapolation_residuals(simulated_fit, by="N", cuts=[1e9])
    assert by_size["cut"].iloc[0] <= 1e9
    with pytest.raises(js.DataError, match="at least 15 runs"):
        extrapolation_residuals(simulated_fit, cuts=[C[3]])
    with pytest.raises(js.DataError, match="'lr'"):
        extrapolation_residuals(simulated_fit, by="lr")


@pytest.mark.parametrize(("n", "level"), [(19, 0.9), (39, 0.8), (24, 0.9)])
def test_exchangeable_residuals_are_covered_as_often_as_split_conformal_says(
    simulated_fit, n, level
):
    """With n past residuals the band holds with probability ceil((n + 1) level) / (n + 1)."""
    rng = np.random.default_rng(n)
    hits = []
    for _ in range(400):
        residual = rng.standard_t(2, size=n + 1)
        band = conformal(simulated_fit, table(residual[:n]), level=level, rho=1.0, N=1e9, D=2e10)
        half = float(np.log(band.run_high / band.mean))
        hits.append(abs(residual[n]) <= half)
    exact = np.ceil((n + 1) * level - 1e-9) / (n + 1)
    assert exact >= level
    assert np.mean(hits) == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 400))


def test_the_band_widens_with_distance_when_the_residuals_do(simulated_fit):
    rng = np.random.default_rng(8)
    distance = rng.uniform(0, 3, 2000)
    past = table(0.01 * (1 + distance) * rng.normal(size=2000), distance)
    C = 6e21 * 10.0 ** np.arange(4)
    N = np.sqrt(C / 120)
    band = conformal(simulated_fit, past, level=0.9, rho=0.01, N=N, D=20 * N)
    half = np.log(np.asarray(band.run_high) / np.asarray(band.mean))
    assert (np.diff(half[1:]) > 0).all()
    flat = conformal(simulated_fit, past, level=0.9, rho=1.0, N=N, D=20 * N)
    np.testing.assert_allclose(np.ptp(np.log(flat.run_high / flat.mean)), 0, atol=1e-12)
    np.testing.assert_allclose(flat.run_low * flat.run_high, flat.mean**2, rtol=1e-12)


def test_too_few_residuals_give_an_infinite_band_and_a_note(simulated_fit):
    few = table(np.linspace(0.01, 0.08, 8))
    band = conformal(simulated_fit, few, level=0.9, rho=1.0, N=1e9, D=2e10)
    assert np.isinf(band.run_high)
    assert band.run_low == 0
    assert any("infinite" in note for note in band.notes)
    assert any("in effect 8" in note for note in band.notes)
    enough = conformal(simulated_fit, few, level=0.8, rho=1.0, N=1e9, D=2e10)
    np.testing.assert_allclose(np.log(enough.run_high / enough.mean), 0.08)
    far = conformal(simulated_fit, few, level=0.8, rho=0.1, N=1e13, D=1e15)
    assert np.isinf(far.run_high)
    assert any("No past residual lies as far" in note for note in far.notes)


def test_real_extrapolations_make_a_band(simulated_fit, past):
    band = conformal(simulated_fit, past, level=0.9, N=2e10, D=2e12)
    assert band.run_low < band.mean < band.run_high < np.inf
    assert band.law_low is None
    assert list(band.frame().columns) == ["N", "D", "loss", "run_low", "run_high"]


def test_unusable_requests_are_refused(simulated_fit, past):
    with pytest.raises(js.DataError, match="rho"):
        conformal(simulated_fit, past, rho=0.0, N=1e9, D=1e10)
    with pytest.raises(js.DataError, match="level"):
        conformal(simulated_fit, past, level=1.0, N=1e9, D=1e10)
    with pytest.raises(js.DataError, match="'residual'"):
        conformal(simulated_fit, past.drop(columns="residual"), N=1e9, D=1e10)
    with pytest.raises(js.DataError, match="no past residual"):
        conformal(simulated_fit, past.iloc[:0], N=1e9, D=1e10)


@pytest.mark.parametrize("column", ["distance", "residual"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, "far"])
@pytest.mark.parametrize("which", [slice(None), slice(1)])
def test_distances_and_residuals_must_be_finite(simulated_fit, column, wrong, which):
    past = table(np.linspace(0.01, 0.5, 40), 1.0).astype(object)
    past.iloc[which, past.columns.get_loc(column)] = wrong
    with pytest.raises(js.DataError, match=f"{column}' .* must hold finite numbers"):
        conformal(simulated_fit, past, level=0.9, N=1e9, D=1e10)
