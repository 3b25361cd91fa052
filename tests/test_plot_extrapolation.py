"""Pictures of backtests and crossings say what the tables say."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import jaxscale as js
from jaxscale import plot
from jaxscale._backtest_result import Backtest
from jaxscale._crossing import Crossing
from jaxscale._path import Path


@pytest.fixture
def ax():
    return Figure().add_subplot()


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    left = plt.get_fignums()
    plt.close("all")
    assert not left


@pytest.fixture
def test():
    """A backtest by hand: two laws, two methods, errors that grow with distance."""
    rng = np.random.default_rng(0)
    rows, bands = [], []
    for law, growth in (("one", 0.01), ("two", 0.03)):
        for cut in (1e18, 1e19):
            for row in range(40):
                distance = rng.uniform(0, 2)
                residual = growth * (0.5 + distance) * rng.normal()
                common = {"law": law, "cut": cut, "row": row, "distance": distance}
                common |= {"predicted": np.exp(residual) * 3, "observed": 3.0}
                rows.append(common | {"kept": 20, "residual": residual})
                for method, half in (("pairs", 0.02), ("hessian", 0.01)):
                    ends = {"low": common["predicted"] - half, "high": common["predicted"] + half}
                    bands.append(common | {"method": method} | ends)
    return Backtest(
        fits={"one": None, "two": None},
        predictions=pd.DataFrame(rows),
        bands=pd.DataFrame(bands),
        methods=("pairs", "hessian"),
        level=0.9,
        by="flop",
    )


def test_a_backtest_shows_errors_and_coverage_by_distance(test, ax):
    assert plot.backtest(test, ax=ax) is ax
    left, right = ax.child_axes
    table = test.errors()
    curves = {line.get_label(): line for line in left.lines if line.get_linestyle() == "-"}
    for law in ("one", "two"):
        np.testing.assert_allclose(
            curves[law].get_ydata(),
            100 * table[(table["law"] == law) & (table["count"] >= 5)]["rms"].to_numpy(),
        )
    shown = {line.get_label(): line for line in right.lines if line.get_linestyle() == "-"}
    covered = test.coverage()
    for method in test.methods:
        rows = covered[(covered["law"] == "one") & (covered["method"] == method)]
        rows = rows[rows["count"] >= 5]
        np.testing.assert_allclose(shown[method].get_ydata(), 100 * rows["coverage"].to_numpy())
        middle = 10 ** (0.5 * (rows["from"] + rows["to"]))
        np.testing.assert_allclose(shown[method].get_xdata(), middle)
    assert right.get_title() == "90% bands of one"
    plot.backtest(test, law="two", ax=ax)
    assert ax.child_axes[-1].get_title() == "90% bands of two"
    with pytest.raises(js.DataError, match="no law 'three'"):
        plot.backtest(test, law="three", ax=ax)


def test_without_bands_there_is_one_panel(test, ax):
    plot.backtest(dataclasses.replace(test, bands=test.bands.iloc[:0]), ax=ax)
    assert len(ax.child_axes) == 1


def found(low, high):
    x = np.geomspace(1e18, 1e24, 50)
    gap = 0.01 * np.log(x / 1e21)
    table = pd.DataFrame({"flop": x, "a": 3 + gap, "b": 3.0, "difference": gap})
    if low is not None:
        table = table.assign(low=gap - 0.02, high=gap + 0.02)
    return Crossing(
        names=("a", "b"), winner="b", at=1e21, loss=3.0, low=low, high=high, level=0.9,
        within=(1e18, 1e24), p_never=None if low is None else 0.1,
        points=np.empty(0), table=table, path=Path("optimal", "flop"),
    )  # fmt: skip


def test_a_crossing_shows_the_difference_and_its_interval(ax):
    plot.crossing(found(1e20, 1e22), ax=ax)
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["difference"].get_ydata(), found(1, 2).table["difference"])
    np.testing.assert_allclose(lines["90% interval of the crossing"].get_xdata(), [1e20, 1e22])
    assert ax.get_ylabel() == "loss of a - loss of b"
    assert any(text.get_text() == "1e+21" for text in ax.texts)
    assert not any(text.get_text() == "open" for text in ax.texts)


def test_an_open_end_is_an_arrow_and_a_fit_has_no_band(ax):
    plot.crossing(found(1e20, np.inf), ax=ax)
    assert any(text.get_text() == "open" for text in ax.texts)
    other = Figure().add_subplot()
    plot.crossing(found(None, None), ax=other)
    assert not other.collections
    assert len(other.lines) == 3
