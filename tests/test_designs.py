"""Candidates, isoFLOP and ray designs; plans against them by simulation."""

import numpy as np
import pandas as pd
import polars
import pytest

import jaxscale as js
from jaxscale import flops

BUDGET = 1e21
TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
TARGET = js.loss_at(N=70e9, D=1.4e12)
# Standard deviations from 300 tables have Monte Carlo errors of about 4%. A right one is within
# four errors in all but 6 of 100,000 comparisons; 5% more is left for the curvature of the law.
MOST_ERRORS, CURVED = 4, 0.05


def guess(objective=None):
    return js.Guess(js.laws.chinchilla, TRUTH, objective=objective or js.LogGaussian())


def plan_for(target, **options):
    grid = js.candidates(
        N=np.geomspace(3e7, 2e10, 9), D=np.geomspace(3e8, 4e11, 9), max_flop=3.4e20
    )
    options = {"candidates": grid, "budget": BUDGET, "noise": 0.01, "most": 28, **options}
    return js.plan(guess(), target=target, **options)


def assert_honest(study):
    table = study.frame()
    table = table[np.isfinite(table["simulated"])]
    assert len(table)
    gap = (table["predicted"] - table["simulated"]).abs()
    assert (gap <= MOST_ERRORS * table["error"] + CURVED * table["simulated"]).all(), table


# Tables.


def test_candidates_are_a_grid_with_costs():
    table = js.candidates(N=[1e7, 1e8, 1e7], D=[1e9, 1e10], max_flop=1e18)
    assert list(table.columns) == ["N", "D", "flop"]
    assert len(table) == 3  # of four, the largest costs 6e18
    np.testing.assert_allclose(table["flop"], 6 * table["N"] * table["D"])
    priced = js.candidates(x=[1.0, 2.0], cost=lambda x: 5 * x)
    assert list(priced["flop"]) == [5.0, 10.0]
    with pytest.raises(js.DataError, match="no candidate costs between"):
        js.candidates(N=[1e7], D=[1e9], max_flop=1.0)
    with pytest.raises(js.DataError, match="the cost of a run needs N, D"):
        js.candidates(x=[1.0])
    with pytest.raises(js.DataError, match="which sizes"):
        js.candidates()
    with pytest.raises(js.DataError, match="at least one finite"):
        js.candidates(N=[np.nan], D=[1.0])


@pytest.mark.parametrize("cost", [flops.six_nd, lambda N, D: 6 * N * D + 4e3 * N ** (2 / 3) * D])
def test_designs_cost_what_they_may(cost):
    iso = js.isoflop_design(BUDGET, levels=3, sizes=5, ratio=2.0, cost=cost)
    assert len(iso) == 15
    assert iso["flop"].sum() == pytest.approx(BUDGET)
    np.testing.assert_allclose(cost(iso["N"], iso["D"]), iso["flop"], rtol=1e-8)
    levels = iso["flop"].to_numpy().reshape(3, 5)
    np.testing.assert_allclose(levels, levels[:, :1] + np.zeros(5))
    np.testing.assert_allclose(levels[0] / levels[1], 2.0)
    middle = iso.iloc[[2, 7, 12]]
    np.testing.assert_allclose(middle["D"] / middle["N"], 20, rtol=1e-6)
    sizes = iso["N"].to_numpy().reshape(3, 5)
    np.testing.assert_allclose(sizes[:, -1] / sizes[:, 0], 16, rtol=1e-9)
    ray = js.ray_design(BUDGET, runs=9, tokens_per_parameter=(5, 20, 80), cost=cost)
    assert ray["flop"].sum() == pytest.approx(BUDGET)
    np.testing.assert_allclose(ray["D"] / ray["N"], [5, 20, 80] * 3, rtol=1e-6)
    np.testing.assert_allclose(cost(ray["N"], ray["D"]), ray["flop"], rtol=1e-8)


def test_bad_designs():
    for call, said in (
        (lambda: js.isoflop_design(-1.0), "positive budget"),
        (lambda: js.isoflop_design(1e20, span=1.0), "span > 1"),
        (lambda: js.ray_design(1e20, runs=0), "at least one run"),
        (lambda: js.ray_design(1e20, tokens_per_parameter=(20, -1)), "positive number of tokens"),
    ):
        with pytest.raises(js.DataError, match=said):
            call()


# Evaluation.


def test_a_plan_beats_other_designs_of_its_cost_and_keeps_its_word(key):
    """For the loss far away, and for the exponent: each plan is best at what it is made for."""
    targets = [TARGET, "a"]
    designs = {
        "for the loss": plan_for(TARGET),
        "for a": plan_for("a"),
        "isoflop": js.isoflop_design(BUDGET),
        "ray": js.ray_design(BUDGET, tokens_per_parameter=(5, 20, 80)),
    }
    study = js.evaluate_designs(
        designs, guess(), target=targets, noise=0.01, key=key, tables=300, restarts=2
    )
    table = study.frame().set_index(["design", "target"])
    assert (table["cost"] <= BUDGET * (1 + 1e-9)).all()
    assert (table["failed"] == 0).all()
    for quantity, best in ((repr(TARGET), "for the loss"), ("a", "for a")):
        rmse = table.xs(quantity, level="target")["rmse"]
        assert rmse.idxmin() == best
        assert rmse[best] < 0.9 * rmse[["isoflop", "ray"]].min()
    assert_honest(study)
    # 90% intervals of 300 tables: outside 0.83 to 0.96 with a probability below 1e-3 each.
    assert table["coverage"].between(0.83, 0.96).all()
    assert "lowest root mean square error" in repr(study)
    # Not so far from the plan's own prediction, which has a weak prior on top.
    own = designs["for a"].se_after
    assert table.loc[("for a", "a"), "simulated"] == pytest.approx(own, rel=0.2)


def test_seeds_and_cells_are_simulated_as_planned(key):
    """A design with repeated runs: its cells' noise does not average out, and is predicted."""
    noise = js.DesignNoise(run=0.006, cell=0.008)
    once = js.isoflop_design(BUDGET)
    study = js.evaluate_designs(
        {"once": once, "seeds": once.assign(times=3)}, guess(), target=["a", TARGET], noise=noise,
        key=key, tables=300, restarts=1,
    )  # fmt: skip
    assert_honest(study)
    table = study.frame().set_index(["design", "target"])
    assert table.loc["seeds", "runs"].tolist() == [84, 84]
    assert table.loc[("seeds", "a"), "cost"] == pytest.approx(3 * BUDGET)
    # Three times the money, but noise falls from cell^2 + run^2 to cell^2 + run^2 / 3 only.
    kept = np.sqrt((0.008**2 + 0.006**2 / 3) / (0.008**2 + 0.006**2))
    ratio = table.loc["seeds", "predicted"] / table.loc["once", "predicted"]
    np.testing.assert_allclose(ratio, kept, rtol=1e-9)


def test_robust_fits_of_normal_noise_are_predicted(key):
    """LogHuber(1e-3) is nearly least absolute deviations: pi/2 of the variance."""
    study = js.evaluate_designs(
        {"isoflop": js.isoflop_design(BUDGET, sizes=12)}, guess(js.LogHuber(1e-3)), target="a",
        noise=0.01, key=key, tables=300, restarts=1,
    )  # fmt: skip
    plain = js.evaluate_designs(
        {"isoflop": js.isoflop_design(BUDGET, sizes=12)}, guess(), target="a", noise=0.01, key=key,
        tables=300, restarts=1,
    )  # fmt: skip
    robust, least = (x.frame().iloc[0] for x in (study, plain))
    assert robust["predicted"] / least["predicted"] == pytest.approx(np.sqrt(np.pi / 2), rel=0.03)
    assert_honest(study)


def test_plan_on_top_of_real_runs(simulated_fit, key):
    """Runs added to those of a fit: what plan() predicts is what refits of all of them show."""
    grid = js.candidates(N=np.geomspace(1e7, 2e10, 8), D=np.geomspace(1e9, 1e12, 8), max_flop=3e20)
    plan = js.plan(simulated_fit, candidates=grid, budget=BUDGET, target="a", most=20)
    nothing = plan.frame().head(1).assign(N=1e8, D=2e9, times=1)
    study = js.evaluate_designs(
        {"plan": plan, "next to nothing": nothing}, simulated_fit, target="a", key=key, tables=300,
        restarts=1,
    )  # fmt: skip
    table = study.frame().set_index("design")
    assert table.loc["plan", "rmse"] < table.loc["next to nothing", "rmse"]
    # The fit's own information is one realization of 60 runs, and a kinked loss's curvature is an
    # estimate: 15% of the standard error.
    assert table.loc["plan", "simulated"] == pytest.approx(plan.se_after, rel=0.2)
    assert table.loc["next to nothing", "simulated"] == pytest.approx(plan.se_before, rel=0.2)


def test_a_single_ray_is_refused_by_name(key):
    study = js.evaluate_designs(
        {"ray": js.ray_design(BUDGET), "isoflop": polars.from_pandas(js.isoflop_design(BUDGET))},
        guess(), target="a", noise=0.01, key=key, tables=20, restarts=1,
    )  # fmt: skip
    assert study.notes[0].startswith("ray: D = 20 N in every run")
    table = study.frame().set_index("design")
    assert np.isnan(table.loc["ray", "rmse"])
    assert np.isfinite(table.loc["isoflop", "rmse"])


def test_bad_studies(key, simulated_fit):
    iso = js.isoflop_design(BUDGET)
    for designs, options, said in (
        ({}, {}, "at least one design"),
        ({"a": iso}, {"tables": 1}, "at least 2 tables"),
        ({"a": iso}, {"level": 3}, "level"),
        ({"a": pd.DataFrame({"N": [1.0]})}, {}, "'D' is missing"),
        ({"a": iso.assign(times=0)}, {}, "times"),
    ):
        with pytest.raises(js.DataError, match=said):
            js.evaluate_designs(
                designs, guess(), **{"target": "a", "noise": 0.01, "key": key, **options}
            )
    draws = js.laplace(simulated_fit, draws=16).draws
    with pytest.raises(js.DataError, match="not draws"):
        js.evaluate_designs({"a": iso}, draws, target="a", key=key)
