"""Value-based reinforcement learning: published entries, the cheapest ratio of updates."""

import cases
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats

from jaxscale import laws, published
from jaxscale.laws import reinforcement

# Reinforcement.


def test_rybkin_entries_and_their_printed_values():
    names = [n for n in published.names() if n.startswith("rybkin_2025")]
    assert len(names) == 2 * 10 + 2 * 11
    batch = published.get("rybkin_2025_batch_gym_ant")
    assert int(batch(1.0)) == 415  # the csv cuts 415.8
    assert cases.agrees(batch(16.0), "176")


def test_data_to_return_is_an_offset_power_law_in_other_letters():
    p = published.get("rybkin_2025_dmc_7").params
    sigma = 2.0 ** np.arange(-2, 5)
    same = laws.power_law_offset(sigma, E=p["D_min"], A=p["b"] ** p["a"], alpha=p["a"])
    np.testing.assert_allclose(laws.data_to_return(sigma, **p), same, rtol=1e-14)
    # The label in the authors' code needs its own b.
    b = p["b"] * p["D_min"] ** (-1 / p["a"])
    label = p["D_min"] * (1 + (sigma / b) ** -p["a"])
    np.testing.assert_allclose(laws.data_to_return(sigma, **p), label, rtol=1e-13)


@pytest.mark.parametrize("price", [1.0, 1e3, 1e6])
def test_cheapest_ratio_of_updates_to_data(price):
    p = published.get("rybkin_2025_gym_5").params
    batch = published.get("rybkin_2025_batch_gym_ant").params

    def cost(log_sigma):
        sigma = np.exp(log_sigma)
        data = laws.data_to_return(sigma, **p)
        B = laws.power_law(sigma, **batch)
        C = reinforcement.compute_to_return(sigma, data=data, batch=B, params=1.0)
        return float(np.log(C + price * data))

    best = scipy.optimize.minimize_scalar(
        cost, bounds=(-20, 20), method="bounded", options={"xatol": 1e-10}
    )
    ours = reinforcement.cheapest_ratio(
        price, batch_at_one=batch["A"], batch_slope=-batch["alpha"], **p
    )
    assert cost(np.log(ours)) <= best.fun + 1e-14
    assert np.log(ours) == pytest.approx(best.x, abs=1e-6)


def test_dearer_data_asks_for_more_updates():
    p = published.get("rybkin_2025_gym_5").params
    ours = reinforcement.cheapest_ratio(
        np.geomspace(1, 1e6, 5), batch_at_one=400.0, batch_slope=-0.31, **p
    )
    assert (np.diff(ours) > 0).all()
