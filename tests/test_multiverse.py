"""The multiverse: every specification equals a fit of its own, and choices are told apart."""

import cases
import jax
import numpy as np
import pandas as pd
import pytest

import jaxscale as js
from jaxscale._multiverse import _asked, _Batch, multiverse
from jaxscale._quantity import Parameter, optimal_N
from jaxscale._spread import Multiverse

DELTAS = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)


@js.law(drop=js.positive(0.1, 1.0), alpha=js.positive(0.1, 1.0))
def TAKEN(N, *, drop, alpha):  # noqa: N802
    return drop * N**-alpha


# The 240 runs, by delta: A, B, E, alpha, beta as noted from refits in SciPy.
PRINTED = {
    1e-2: ("538.75", "2905.6", "1.83808", ".35442", ".38154"),
    3e-3: ("493.30", "2212.8", "1.82092", ".34925", ".36864"),
    1e-3: ("477.826", "2143.417", "1.81722", ".347312", ".367172"),
    3e-4: ("473.28", "2090.1", "1.81515", ".34672", ".36594"),
    1e-4: ("478.69", "2065.4", "1.81582", ".34741", ".36538"),
}
ALL_RUNS = ("495.726", "12845.6", "1.89134", ".34931", ".45305")


@pytest.fixture(scope="module")
def all_runs():
    """The 245 runs, none dropped."""
    frame = pd.read_csv(cases.data_path("chinchilla_epoch.csv"))
    return js.Runs.from_frame(frame, loss="loss_nats", N="params", D="tokens")


@pytest.fixture(scope="module")
def replication(all_runs, key):
    """The choices of the Chinchilla replication."""
    return multiverse(all_runs, key=key, delta=DELTAS, drop=(0, 5), bootstrap=200, level=0.8)


@pytest.fixture(scope="module")
def halves(simulated):
    """Two selections of 40 of the 60 simulated runs."""
    first = np.arange(60) < 40
    return {"first": first, "last": lambda runs: np.asarray(first[::-1])}


@pytest.fixture(scope="module")
def small(simulated, halves, key):
    return multiverse(
        simulated[0],
        key=key,
        law=[js.laws.chinchilla, js.laws.kaplan_nd],
        objective=[js.LogGaussian(), js.LogStudentT(4, 0.01)],
        delta=(1e-2, 1e-3),
        drop=(0, 2),
        selection=halves,
        restarts=64,
    )


# Right.


def pick(table, **choices):
    """The only row with these choices."""
    for name, value in choices.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


@pytest.mark.slow
@pytest.mark.parametrize("delta", DELTAS)
def test_thresholds_of_the_replication(replication, delta):
    row = pick(replication.frame(), objective=repr(js.LogHuber(delta)), drop=5)
    assert row["runs"] == 240
    assert row["hit_share"] > 0.9
    # A kinked objective fixes its parameters to about 1e-5 only; the objective itself to 1e-12.
    for name, digits in zip(("A", "B", "E", "alpha", "beta"), PRINTED[delta], strict=True):
        assert cases.agrees(row[name], digits, slack=1e-5), name


@pytest.mark.slow
def test_all_runs_of_the_replication(replication):
    row = pick(replication.frame(), objective=repr(js.LogHuber(1e-3)), drop=0)
    assert row["runs"] == 245
    assert cases.agrees(row["value"], "1.8260e-3")
    for name, digits in zip(("A", "B", "E", "alpha", "beta"), ALL_RUNS, strict=True):
        assert cases.agrees(row[name], digits, slack=1e-5), name


def test_value_equals_the_fit(replication, chinchilla_fit):
    row = pick(replication.frame(), objective=repr(js.LogHuber(1e-3)), drop=5)
    assert row["value"] == pytest.approx(chinchilla_fit.value, rel=1e-9)
    assert row["a"] == pytest.approx(float(chinchilla_fit.derived["a"]), rel=1e-5)


def test_dropping_five_runs_matters_more_than_the_threshold(replication):
    spread = replication.spread("a", claimed=(0.454, 0.455))
    assert spread.specifications == len(replication) == 10
    assert list(spread.moved_by) == ["drop", "objective"]
    assert spread.moved_by["drop"] > 0.04 > 0.01 > spread.moved_by["objective"]
    assert spread.low == pytest.approx(0.5126, abs=5e-4)
    assert spread.high == pytest.approx(0.571, abs=5e-3)
    assert spread.share_inside == 0
    assert "dropping high losses moves it by 0.05" in repr(replication)


def test_bootstrap_of_the_replication(replication):
    row = pick(replication.frame(), objective=repr(js.LogHuber(1e-3)), drop=5)
    # A standard error from 200 resamples has one itself of 5% under normality, 7% with the tails
    # of these; three of them. The 80% width is .0514 with 4,000 resamples, 6% with 200.
    assert row["a_se"] == pytest.approx(0.0200, rel=0.2)
    assert row["alpha_se"] == pytest.approx(0.0154, rel=0.2)
    assert row["a_high"] - row["a_low"] == pytest.approx(0.0514, rel=0.2)
    table = replication.frame()
    assert ((table["a_low"] < table["a"]) & (table["a"] < table["a_high"])).all()
    assert replication.spread("a").se == pytest.approx(table["a_se"].median())


@pytest.mark.parametrize(
    ("law", "objective"),
    [
        (js.laws.chinchilla, js.LogHuber(1e-2)),
        (js.laws.chinchilla, js.LogStudentT(4, 0.01)),
        (js.laws.kaplan_nd, js.LogGaussian()),
    ],
    ids=lambda x: getattr(x, "name", type(x).__name__),
)
def test_every_specification_equals_its_own_fit(small, simulated, key, law, objective):
    runs = simulated[0]
    subset = js.drop_top(runs.take(np.arange(60) < 40), 2)
    fit = js.fit(law, subset, objective=objective, restarts=64, key=key)
    row = pick(small.frame(), law=law.name, objective=repr(objective), drop=2, selection="first")
    assert row["runs"] == 38
    assert row["value"] == pytest.approx(fit.value, rel=1e-6)
    # The objective is flat to second order: 1e-12 in it is about 1e-6 in the parameters.
    for name in law.names:
        assert row[name] == pytest.approx(float(fit.params[name]), rel=1e-4), name


def test_shape_of_the_table(small):
    table = small.frame()
    assert len(table) == len(small) == 2 * 4 * 2 * 2
    assert not table.duplicated(["law", "objective", "drop", "selection"]).any()
    assert set(table.groupby("selection")["runs"].unique().explode()) == {38, 40}
    kaplan = table["law"] == "kaplan_nd"
    assert table.loc[kaplan, "E"].isna().all()
    assert table.loc[~kaplan, "E"].notna().all()
    assert table["converged"].all()
    # The runs follow the other law; a misfit under a sharp loss has several optima.
    assert (table.loc[~kaplan, "hit_share"] > 0.9).all()
    low = (table["hit_share"] < 0.5).sum()
    assert ("of 32 specifications are reached by few of their restarts" in repr(small)) == (low > 0)


def test_restricting_to_one_specification_gives_the_same_numbers(small, simulated, halves, key):
    one = multiverse(
        simulated[0],
        key=key,
        objective=js.LogGaussian(),
        drop=2,
        selection={"last": halves["last"]},
        restarts=64,
        quantities="a",
    )
    row = pick(small.frame(), law="chinchilla", objective="LogGaussian()", drop=2, selection="last")
    assert len(one) == 1
    assert one.quantities == ("a",)
    assert one.frame().loc[0, "a"] == pytest.approx(row["a"], rel=1e-8)
    assert one.spread("a").moved_by == {}
    assert "a ranges from" in repr(one)


def test_runs_of_weight_zero_are_not_counted_or_dropped(simulated, key):
    runs, _ = simulated
    top = np.argmax(runs.loss)
    weight = np.where(np.arange(60) == top, 0.0, 1.0)
    padded = js.Runs.from_arrays(loss=runs.loss, weight=weight, **runs.inputs)
    asked = {"key": key, "objective": js.LogGaussian(), "restarts": 64}
    a = multiverse(padded, drop=1, **asked).frame()
    b = multiverse(runs, drop=2, **asked).frame()
    assert a.loc[0, "runs"] == b.loc[0, "runs"] == 58
    assert a.loc[0, "value"] == pytest.approx(b.loc[0, "value"], rel=1e-9)


def test_quantities_and_intervals(simulated, key):
    flop = optimal_N(1e21)
    found = multiverse(
        simulated[0],
        key=key,
        objective=js.LogGaussian(),
        drop=(0, 1),
        restarts=64,
        quantities=["alpha", flop],
        bootstrap=40,
    )
    assert found.quantities == ("alpha", flop.label)
    table = found.frame()
    assert (table[f"{flop.label}_low"] < table[flop.label]).all()
    assert (table["alpha_se"] > 0).all()
    assert found.spread(flop).quantity == flop.label
    assert "<table" in found._repr_html_()


def test_resamples_without_an_optimum_are_left_out_and_counted(simulated, key, monkeypatch):
    solve = _Batch.solve

    def lossy(self, weight, starts, width, tick):
        out = solve(self, weight, starts, width, tick)
        if starts.shape[1] > 1:
            return out
        value, theta = np.array(out.value), np.array(out.theta)
        # Of the first specification 3 of 20 are lost, of the second all but one.
        lost = [0, 5, 19, *range(20, 39)]
        value[lost], theta[lost] = np.inf, np.nan
        return out._replace(value=value, theta=theta)

    asked = {"key": key, "drop": (0, 1), "restarts": 8, "bootstrap": 20, "quantities": "alpha"}
    asked["objective"] = js.LogGaussian()
    whole = multiverse(simulated[0], **asked)
    assert whole.frame()["failed_share"].tolist() == [0, 0]
    assert "finite optimum" not in repr(whole)
    monkeypatch.setattr(_Batch, "solve", lossy)
    found = multiverse(simulated[0], **asked)
    table = found.frame()
    assert table["failed_share"].tolist() == pytest.approx([0.15, 0.95])
    assert table.loc[0, "alpha_se"] == pytest.approx(whole.frame().loc[0, "alpha_se"], rel=0.5)
    assert table.loc[0, "alpha_low"] < table.loc[0, "alpha"] < table.loc[0, "alpha_high"]
    assert table.loc[1, ["alpha_se", "alpha_low", "alpha_high"]].isna().all()
    assert "2 of 2 specifications have resamples without a finite optimum" in repr(found)
    assert "(95% at worst)" in repr(found)


def test_padding_does_not_widen_the_ranges(simulated):
    runs, _ = simulated
    more = 1.0 + np.arange(3)
    padded = js.Runs.from_arrays(
        loss=np.concatenate([runs.loss, more]),
        weight=np.concatenate([np.ones(60), 0 * more]),
        **{name: np.concatenate([x, 1e20 * more]) for name, x in runs.inputs.items()},
    )
    asked = [_asked([js.laws.chinchilla], r, optimal_N(1e21)) for r in (runs, padded)]
    assert len({q.middle for (one,) in asked for q in one.values()}) == 1


def test_quantities_that_only_one_law_has_or_that_are_named_twice(simulated, key):
    laws = [js.laws.chinchilla, js.laws.kaplan_nd]
    found = multiverse(
        simulated[0],
        key=key,
        law=laws,
        objective=js.LogGaussian(),
        restarts=8,
        bootstrap=2,
        quantities=["E", Parameter("E")],
    )
    assert found.quantities == ("E",)
    assert found.frame().set_index("law")["E_se"].isna().tolist() == [False, True]


# Spread, by hand.


def test_spread_of_a_known_table():
    table = pd.DataFrame(
        {
            "law": "chinchilla",
            "objective": ["x", "x", "y", "y"],
            "drop": [0, 5, 0, 5],
            "selection": "all",
            "a": [0.1, 0.5, 0.2, 0.6],
            "hit_share": [1.0, 1.0, 0.3, 0.1],
            "converged": [True, True, True, False],
        }
    )
    found = Multiverse(table, ("a",))
    spread = found.spread("a", claimed=(0.15, 0.5))
    assert (spread.low, spread.median, spread.high) == pytest.approx((0.1, 0.35, 0.6))
    assert list(spread.moved_by) == ["drop", "objective"]
    assert spread.moved_by == pytest.approx({"drop": 0.4, "objective": 0.1})
    assert spread.share_inside == 0.5
    assert spread.sentence == (
        "a ranges from 0.1 to 0.6 over 4 specifications; dropping high losses moves it by 0.4, "
        "the objective moves it by 0.1; 50% lie in the claimed interval."
    )
    assert "1 of 4 specifications did not converge." in repr(found)
    assert "2 of 4 specifications are reached by few of their restarts (10% at worst)" in repr(
        found
    )
    assert list(found.spreads().columns) == [
        "quantity", "low", "median", "high", "by_objective", "by_drop",
    ]  # fmt: skip
    with pytest.raises(js.DataError, match="no quantity 'b'"):
        found.spread("b")
    with pytest.raises(js.DataError, match="the lower first"):
        found.spread("a", claimed=(1.0, 0.0))


# Errors.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"delta": ()}, "at least one objective"),
        ({"delta": (1e-3, 1e-3)}, "none of them twice"),
        ({"delta": -1.0}, "delta must be a positive number"),
        ({"law": []}, "at least one law"),
        ({"law": [js.laws.chinchilla, js.laws.chinchilla]}, "different names"),
        ({"drop": 60}, "cannot drop the 60 highest losses of the 60 runs"),
        ({"drop": ()}, "at least one choice"),
        ({"selection": {"odd": np.arange(60)}}, "the selection 'odd' must be a boolean mask"),
        ({"selection": {"short": np.ones(3, bool)}}, "over the 60 runs"),
        ({"selection": {"few": np.arange(60) < 3}}, "3 runs cannot determine"),
        ({"quantities": "c"}, "has no quantity 'c'"),
        ({"quantities": []}, "at least one quantity"),
        ({"law": TAKEN}, "has a column 'drop' already"),
        ({"restarts": 0}, "restarts must be"),
        ({"bootstrap": 1}, "bootstrap 0 or at least 2"),
        ({"level": 95}, "between 0 and 1"),
    ],
)
def test_bad_choices(simulated, key, arguments, message):
    with pytest.raises(js.JaxscaleError, match=message):
        multiverse(simulated[0], key=key, **arguments)


def test_a_stack_is_refused(simulated, key):
    with pytest.raises(js.DataError, match="choose one data set"):
        multiverse(js.Runs.stack({"a": simulated[0]}), key=jax.random.key(0))
