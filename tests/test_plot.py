"""Pictures say what the fit says, on the Axes they are given, and leave nothing behind."""

import subprocess
import sys

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxscale as js
from jaxscale import plot

BUDGETS = np.geomspace(1e18, 1e21, 5)


@pytest.fixture(scope="session")
def small_fit():
    """40 simulated runs on five budgets, the last of them an outlier."""
    rng = np.random.default_rng(5)
    C = np.repeat(BUDGETS, 8)
    N = np.sqrt(C / 120) * np.tile(np.geomspace(0.2, 5, 8), 5)
    D = C / (6 * N)
    loss = (1.8 + 480 / N**0.35 + 2100 / D**0.37) * np.exp(0.003 * rng.normal(size=40))
    loss[-1] *= 1.1
    runs = js.Runs.from_arrays(N=N, D=D, loss=loss)
    return js.fit(js.laws.chinchilla, runs, restarts=64, key=jax.random.key(0))


@pytest.fixture(scope="session")
def curve_fit():
    """12 simulated runs of a learning curve."""
    x = np.geomspace(100, 1e5, 12)
    loss = (0.5 + 9 / x**0.4) * np.exp(0.002 * np.random.default_rng(6).normal(size=12))
    runs = js.Runs.from_arrays(x=x, loss=loss)
    return js.fit(js.laws.power_law_offset, runs, restarts=64, key=jax.random.key(0))


@pytest.fixture
def ax():
    return Figure().add_subplot()


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    left = plt.get_fignums()
    plt.close("all")
    assert not left


def lines(ax, style="-"):
    return [line for line in ax.lines if line.get_linestyle() == style]


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("name", ["isoflop", "residuals", "restarts", "frontier"])
def test_draws_on_the_given_axes_or_on_a_new_figure(small_fit, ax, name):
    draw = getattr(plot, name)
    assert draw(small_fit, ax=ax) is ax
    assert not plt.get_fignums()
    made = draw(small_fit)
    assert made is not ax
    assert len(plt.get_fignums()) == 1
    made.figure.canvas.draw()
    plt.close(made.figure)


def test_isoflop_curves_are_the_prediction_along_each_budget(small_fit, ax):
    plot.isoflop(small_fit, ax=ax)
    curves = lines(ax)
    assert len(curves) == len(BUDGETS)
    for budget, curve in zip(BUDGETS, curves, strict=True):
        N, loss = curve.get_data()
        np.testing.assert_allclose(loss, js.predict(small_fit, N=N, D=budget / (6 * N)).mean)
        assert loss.min() < min(loss[0], loss[-1])


def test_isoflop_marks_the_compute_optimal_size(small_fit, ax):
    plot.isoflop(small_fit, ax=ax)
    marks = [line for line in ax.lines if line.get_marker() == "D"]
    best = js.allocate(small_fit, flop=BUDGETS)
    np.testing.assert_allclose([mark.get_xdata()[0] for mark in marks], best.N, rtol=1e-9)
    np.testing.assert_allclose([mark.get_ydata()[0] for mark in marks], best.loss, rtol=1e-9)


def test_isoflop_shows_every_run_with_its_compute(small_fit, ax):
    plot.isoflop(small_fit, ax=ax)
    (points,) = ax.collections
    runs = small_fit.runs
    np.testing.assert_allclose(points.get_offsets(), np.column_stack([runs.inputs["N"], runs.loss]))
    np.testing.assert_allclose(points.get_array(), 6 * runs.inputs["N"] * runs.inputs["D"])


def test_isoflop_takes_budgets(small_fit, ax):
    plot.isoflop(small_fit, ax=ax, budgets=[1e19, 1e20])
    assert len(lines(ax)) == 2


def test_isoflop_groups_runs_without_common_budgets(simulated_fit, ax):
    plot.isoflop(simulated_fit, ax=ax)
    assert 2 <= len(lines(ax)) <= 8
    assert len(ax.collections[0].get_offsets()) == 60


def test_isoflop_of_a_learning_curve_shows_runs_fit_and_floor(curve_fit, ax):
    plot.isoflop(curve_fit, ax=ax)
    (curve,) = lines(ax)
    x, loss = curve.get_data()
    np.testing.assert_allclose(loss, js.predict(curve_fit, x=x).mean)
    (floor,) = lines(ax, "--")
    np.testing.assert_allclose(floor.get_ydata(), float(curve_fit.params["E"]))
    np.testing.assert_array_equal(lines(ax, "None")[0].get_ydata(), curve_fit.runs.loss)


@pytest.mark.parametrize("against", [None, "predicted", "C", "N", "D"])
def test_residuals_are_those_of_the_fit_in_percent(small_fit, ax, against):
    plot.residuals(small_fit, ax=ax, against=against)
    points = lines(ax, "None")[0]
    np.testing.assert_allclose(points.get_ydata(), 100 * small_fit.residuals(), atol=1e-9)
    inputs = small_fit.runs.inputs
    x = {
        "predicted": small_fit.predicted(),
        "C": 6 * inputs["N"] * inputs["D"],
        **inputs,
    }[against or "C"]
    np.testing.assert_allclose(points.get_xdata(), x)


def test_residuals_name_the_outlier_by_its_row(small_fit, ax):
    plot.residuals(small_fit, ax=ax)
    assert "row 40" in texts(ax)


def test_residuals_leave_out_runs_of_weight_zero_but_keep_row_numbers(small_fit, ax):
    runs = small_fit.runs
    weight = np.ones(40)
    weight[:2] = 0
    weighted = js.Runs.from_arrays(**runs.inputs, loss=runs.loss, weight=weight)
    fit = js.fit(js.laws.chinchilla, weighted, restarts=32, key=jax.random.key(1))
    plot.residuals(fit, ax=ax)
    assert len(lines(ax, "None")[0].get_xdata()) == 38
    assert "row 40" in texts(ax)


def test_restarts_show_the_cumulative_share(small_fit, ax):
    plot.restarts(small_fit, ax=ax)
    x, share = ax.lines[0].get_data()
    assert (np.diff(share) >= 0).all()
    for tolerance in (1e-9, small_fit.restarts.tolerance, 1e-2):
        drawn = share[np.searchsorted(x, tolerance * (1 + 1e-9)) - 1]
        np.testing.assert_allclose(drawn, 100 * small_fit.restarts.within(tolerance), atol=1e-9)
    assert any(f"of {len(small_fit.restarts)} reach" in text for text in texts(ax))


def test_restarts_name_the_dead_terms_of_other_optima(small_fit, ax):
    found = small_fit.restarts
    table = found.basins.iloc[[0, 0]].reset_index(drop=True)
    table.loc[1, "objective"] = 2 * found.best
    table["share"], table["dead"] = [0.75, 0.25], ["", "B"]
    table["kind"] = ["optimum", "basin"]
    value = np.repeat(table["objective"].to_numpy(), [48, 16])
    mixed = js.Restarts(value, found.steps, found.best, table)
    stuck = js.Fit(**{**vars(small_fit), "restarts": mixed})
    plot.restarts(stuck, ax=ax)
    assert "B dead, 25%" in texts(ax)


def test_frontier_is_the_allocation_and_dashed_beyond_the_runs(small_fit, ax):
    flop = np.geomspace(1e18, 1e24, 25)
    plot.frontier(small_fit, flop=flop, ax=ax)
    best = js.allocate(small_fit, flop=flop)
    whole = [line for line in lines(ax, "--") if len(line.get_xdata()) == 25]
    solid = [line for line in lines(ax) if len(line.get_xdata()) == 25]
    for line, inside, values in zip(whole, solid, (best.N, best.D), strict=True):
        np.testing.assert_allclose(line.get_ydata(), values)
        drawn = np.isfinite(inside.get_ydata())
        np.testing.assert_array_equal(drawn, flop <= 1e21 * (1 + 1e-9))
    assert "dashed" in ax.get_title()


def test_frontier_takes_a_frontier_with_bands(small_fit, ax):
    best = js.allocate(small_fit, flop=BUDGETS)
    banded = js.Frontier(
        best.flop, best.N, best.D, best.loss, bands={"N": (best.N / 2, best.N * 2)}, level=0.9
    )
    plot.frontier(banded, ax=ax)
    (band,) = ax.collections
    np.testing.assert_allclose(band.get_datalim(ax.transData).ymax, 2 * np.max(best.N))
    assert "dashed" not in ax.get_title()


def test_frontier_takes_a_cost(small_fit, ax):
    plot.frontier(small_fit, flop=BUDGETS, cost=lambda N, D: 8 * N * D, ax=ax)
    best = js.allocate(small_fit, flop=BUDGETS, cost=lambda N, D: 8 * N * D)
    np.testing.assert_allclose(lines(ax, "--")[0].get_ydata(), best.N)


@pytest.mark.parametrize("which", ["small_fit", "curve_fit"])
def test_summary_has_four_panels_and_is_1600_by_1200(which, request, tmp_path):
    fit = request.getfixturevalue(which)
    figure = plot.summary(fit, title="A title")
    figure.savefig(tmp_path / "fit.png")
    assert plt.imread(tmp_path / "fit.png").shape[:2] == (1200, 1600)
    assert figure.get_suptitle() == "A title"
    assert sum(bool(panel.get_title()) for panel in figure.axes) == 4


def test_summary_of_a_law_in_other_inputs():
    @js.law(
        E=js.positive(0.5, 1.0, unit="loss"),
        A=js.positive(0.3, 1.0, unit="loss * x**p"),
        B=js.positive(0.3, 1.0, unit="loss * y**q"),
        p=js.real(0.1, 1.0),
        q=js.real(0.1, 1.0),
    )
    def in_x_and_y(x, y, *, E, A, B, p, q):
        """L(x, y) = E + A / x^p + B / y^q"""
        return E + A * x**-p + B * y**-q

    rng = np.random.default_rng(7)
    x, y = rng.uniform(1, 50, (2, 30))
    loss = (1 + 1 / x**0.5 + 2 / y**0.5) * np.exp(0.01 * rng.normal(size=30))
    runs = js.Runs.from_arrays(x=x, y=y, loss=loss)
    fit = js.fit(in_x_and_y, runs, restarts=32, key=jax.random.key(0))
    assert len(plot.summary(fit).axes) == 4
    with pytest.raises(js.DataError, match="in_x_and_y"):
        plot.isoflop(fit)
    with pytest.raises(js.LawError, match="N and D"):
        plot.frontier(fit)


@pytest.mark.parametrize("name", ["isoflop", "residuals", "summary"])
def test_a_fit_without_its_runs_is_refused(small_fit, tmp_path, name):
    js.save(tmp_path / "fit.json", small_fit)
    with pytest.raises(js.DataError, match="without its runs"):
        getattr(plot, name)(js.load(tmp_path / "fit.json"))


@pytest.mark.parametrize("name", ["restarts", "frontier"])
def test_what_needs_no_runs_is_drawn_from_a_loaded_fit(small_fit, tmp_path, ax, name):
    js.save(tmp_path / "fit.json", small_fit)
    assert getattr(plot, name)(js.load(tmp_path / "fit.json"), ax=ax) is ax


@pytest.mark.parametrize("name", ["isoflop", "residuals", "restarts", "frontier", "summary"])
def test_a_stack_is_refused(small_fit, name):
    runs = js.Runs.stack({"a": small_fit.runs, "b": small_fit.runs})
    stack = js.Fit(**{**vars(small_fit), "runs": runs})
    with pytest.raises(js.DataError, match=r"fit\['a'\]"):
        getattr(plot, name)(stack)


def test_wrong_choices_are_refused(small_fit):
    with pytest.raises(js.DataError, match="'lr'"):
        plot.residuals(small_fit, against="lr")
    with pytest.raises(js.DataError, match="cost"):
        plot.frontier(js.allocate(small_fit, flop=BUDGETS), flop=BUDGETS)


def test_importing_the_package_does_not_import_matplotlib():
    code = "import sys, jaxscale; from jaxscale import plot; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
