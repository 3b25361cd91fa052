"""Pictures say what the fit says, on the Axes they are given, and leave nothing behind."""

import subprocess
import sys
import types

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from matplotlib.figure import Figure

import jaxscale as js
from jaxscale import plot
from jaxscale._draws import Draws

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


@pytest.fixture(scope="session")
def small_draws(small_fit):
    rng = np.random.default_rng(0)
    params = {
        k: float(v) * np.exp(0.02 * rng.normal(size=200)) for k, v in small_fit.params.items()
    }
    return Draws(small_fit, "scattered", params, np.full(200, small_fit.noise_scale()))


def filled_in(collection):
    paths = collection.get_paths()
    return len(paths) == 1 and len(paths[0]) > 10


def filled(ax):
    """Upper and lower edge of every filled band, by the points of its outline."""
    return [c.get_paths()[0].vertices for c in ax.collections if filled_in(c)]


def test_frontier_of_draws_has_their_bands(small_draws, ax):
    plot.frontier(small_draws, flop=BUDGETS, level=0.8, ax=ax)
    found = js.allocate(small_draws, flop=BUDGETS, level=0.8)
    tops = [vertices[:, 1].max() for vertices in filled(ax)]
    np.testing.assert_allclose(tops, [np.max(found.bands[name][1]) for name in ("N", "D")])
    assert "80% bands" in ax.get_title()
    with pytest.raises(js.DataError, match="level"):
        plot.frontier(found, level=0.8)


@pytest.mark.parametrize("over", ["N", "D", "C"])
def test_predictions_follow_the_ray(small_draws, ax, over):
    plot.predictions(small_draws, over=over, ratio=20, level=0.8, ax=ax)
    (line,) = [line for line in lines(ax) if line.get_label() == "prediction"]
    x, loss = line.get_data()
    N = {"N": x, "D": x / 20, "C": np.sqrt(x / 120)}[over]
    found = js.predict(small_draws, N=N, D=20 * N, level=0.8)
    np.testing.assert_allclose(loss, found.mean)
    run, law = filled(ax)[:2]
    np.testing.assert_allclose(run[:, 1].min(), np.min(found.run_low), rtol=1e-9)
    np.testing.assert_allclose(law[:, 1].max(), np.max(found.law_high), rtol=1e-9)
    assert "D/N = 20" in ax.get_title()
    labels = [text.get_text() for text in ax.legend_.get_texts()]
    assert {"law, 80%", "new run, 80%", "prediction"} <= set(labels)


def test_predictions_hold_other_inputs_and_show_the_runs(small_fit, curve_fit, ax):
    plot.predictions(small_fit, over="N", fixed={"D": 2e10}, reach=10, ax=ax)
    x, loss = lines(ax)[0].get_data()
    np.testing.assert_allclose(loss, js.predict(small_fit, N=x, D=2e10).mean)
    np.testing.assert_allclose(x[-1], 10 * small_fit.runs.inputs["N"].max())
    assert not filled(ax)
    other = Figure().add_subplot()
    plot.predictions(curve_fit, ax=other)
    np.testing.assert_array_equal(lines(other, "None")[0].get_ydata(), curve_fit.runs.loss)
    for bad in ({"over": "lr"}, {"over": "D", "fixed": {"D": 1e10}}):
        with pytest.raises(js.DataError, match="over must be one of"):
            plot.predictions(small_fit, **bad)


def forest():
    rows = [
        ("alpha", "pairs", 0.35, 0.30, 0.41),
        ("alpha", "profile", 0.35, 0.31, np.inf),
        ("alpha", "jackknife", 0.35, np.nan, np.nan),
        ("E", "pairs", 1.8, 1.7, 1.9),
    ]
    return pd.DataFrame(rows, columns=["quantity", "method", "estimate", "low", "high"])


def test_intervals_are_one_row_per_method(ax):
    assert plot.intervals(forest(), quantity="alpha", ax=ax) is ax
    bars = [line.get_xdata() for line in lines(ax) if len(line.get_xdata()) == 2]
    assert [0.30, 0.41] in [list(bar) for bar in bars]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["pairs", "profile", "jackknife"]
    assert texts(ax).count("open") == 1
    assert texts(ax).count("failed") == 1
    assert ax.get_xlabel() == "alpha"


def test_intervals_of_several_quantities_stand_side_by_side(ax):
    result = types.SimpleNamespace(frame=forest)
    plot.intervals(result, ax=ax)
    assert [panel.get_xlabel() for panel in ax.child_axes] == ["alpha", "E"]
    ax.figure.canvas.draw()
    with pytest.raises(js.DataError, match="alpha, E"):
        plot.intervals(forest(), quantity="beta")
    with pytest.raises(js.DataError, match="'low' is missing"):
        plot.intervals(forest().drop(columns="low"))


def test_coverage_has_the_real_coverage_and_two_standard_errors(ax):
    rows = [("pairs", "a", 0.5, 0.45, 0.02), ("pairs", "a", 0.9, 0.8, 0.01)]
    rows += [("naive", "a", 0.5, 0.2, 0.02), ("naive", "a", 0.9, 0.6, 0.01)]
    frame = pd.DataFrame(rows, columns=["method", "quantity", "level", "coverage", "error"])
    plot.coverage(frame, ax=ax)
    drawn = {c.get_label(): c.lines[0].get_ydata() for c in ax.containers}
    np.testing.assert_allclose(drawn["pairs"], [45, 80])
    np.testing.assert_allclose(drawn["naive"], [20, 60])
    bar = ax.containers[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(bar[:, 1], [41, 49])
    promised = next(c for c in ax.collections if c.get_label() == "as promised").get_segments()
    assert [{*piece[:, 1]} for piece in promised] == [{50}, {90}]
    for (left, _), (right, _) in promised:
        assert right - left < 40  # levels do not meet
    with pytest.raises(js.DataError, match="quantity must be"):
        plot.coverage(frame, quantity="b")


def profiled(low, high):
    x = np.linspace(0.2, 0.5, 31)
    return types.SimpleNamespace(
        label="alpha",
        values=x,
        deviance=((x - 0.35) / 0.03) ** 2,
        estimate=0.35,
        low=low,
        high=high,
        level=0.95,
        threshold=scipy.stats.chi2.ppf(0.95, 1),
    )


def test_profile_shows_threshold_and_ends(ax):
    found = profiled(0.291, 0.409)
    plot.profile(found, ax=ax)
    np.testing.assert_allclose(lines(ax)[0].get_ydata(), found.deviance)
    np.testing.assert_allclose(lines(ax, "--")[0].get_ydata(), found.threshold)
    assert {"0.291", "0.409"} <= set(texts(ax))
    assert "open" not in texts(ax)


@pytest.mark.parametrize(
    ("low", "high", "count"), [(None, 0.41, 1), (0.29, None, 1), (None, None, 2)]
)
def test_profile_says_which_side_is_open(ax, low, high, count):
    plot.profile(profiled(low, high), ax=ax)
    assert texts(ax).count("open") == count


@pytest.mark.parametrize("shape", ["grid", "points"])
def test_profile2d_draws_the_regions_of_chi_square_two(ax, shape):
    x, y = np.linspace(-4, 4, 161), np.linspace(-4, 4, 161)
    X, Y = np.meshgrid(x, y)
    surface = types.SimpleNamespace(label_x="a", label_y="b", x=x, y=y, deviance=X**2 + Y**2)
    if shape == "points":
        surface.x, surface.y, surface.deviance = X.ravel(), Y.ravel(), (X**2 + Y**2).ravel()
    plot.profile2d(surface, ax=ax)
    outer = ax.collections[1].get_paths()[-1].vertices
    radius = np.sqrt(scipy.stats.chi2.ppf(0.95, 2))
    np.testing.assert_allclose(np.hypot(*outer[:-1].T), radius, rtol=2e-3)
    surface.deviance = np.zeros(5)
    with pytest.raises(js.DataError, match="shape"):
        plot.profile2d(surface, ax=ax)


def test_specification_sorts_estimates_above_their_choices(ax):
    frame = pd.DataFrame(
        {
            "law": ["one", "two", "one", "two"],
            "drop": [0, 0, 5, 5],
            "same": ["x"] * 4,
            "runs": [45, 45, 40, 40],
            "a": [0.5, 0.4, np.nan, 0.45],
            "a_low": [0.45, 0.3, np.nan, 0.44],
            "a_high": [0.6, 0.5, np.nan, 0.46],
        }
    )
    plot.specification(frame, quantity="a", ax=ax)
    top, below = ax.child_axes
    np.testing.assert_array_equal(top.lines[-1].get_ydata(), [0.4, 0.45, 0.5])
    labels = [label.get_text() for label in below.get_yticklabels()][::-1]
    assert labels == ["law: one", "law: two", "drop: 0", "drop: 5"]
    marked = [line.get_xdata() for line in below.lines if line.get_marker() == "|"]
    assert [list(x) for x in marked] == [[2], [0, 1], [0, 2], [1]]
    ax.figure.canvas.draw()
    with pytest.raises(js.DataError, match="'b'"):
        plot.specification(frame, quantity="b")
    with pytest.raises(js.DataError, match="finite"):
        plot.specification(frame.assign(a=np.nan), quantity="a")


def test_influence_shows_the_largest_changes_first(ax):
    frame = pd.DataFrame(
        {"row": [2, 3, 4, 5], "loo_a": [0.1, -0.4, 0.02, 0.2], "d_a": [0.1, -0.3, 0.02, 0.2]}
    )
    plot.influence(frame, top=3, ax=ax)
    refitted, first = ax.lines[1:3]
    np.testing.assert_allclose(refitted.get_xdata(), [-0.4, 0.2, 0.1])
    np.testing.assert_allclose(first.get_xdata(), [-0.3, 0.2, 0.1])
    assert [x.get_text() for x in ax.get_yticklabels()] == ["row 3", "row 5", "row 2"]
    with pytest.raises(js.DataError, match="loo_b"):
        plot.influence(frame, quantity="b")


def test_new_pictures_make_their_own_figure(small_draws):
    for draw in (lambda: plot.predictions(small_draws), lambda: plot.intervals(forest())):
        made = draw()
        made.figure.canvas.draw()
        assert len(plt.get_fignums()) == 1
        plt.close(made.figure)


def test_draws_are_drawn_as_their_fit_with_bands(simulated_fit, key):
    draws = js.bootstrap(simulated_fit, n=50, key=key)
    plain, banded = (
        js.plot.isoflop(source, budgets=[1e20, 1e21]) for source in (simulated_fit, draws)
    )
    assert len(banded.lines) == len(plain.lines)
    assert len(banded.collections) == len(plain.collections) + 2
    np.testing.assert_array_equal(
        js.plot.residuals(draws).lines[1].get_ydata(),
        js.plot.residuals(simulated_fit).lines[1].get_ydata(),
    )
    assert js.plot.restarts(draws).get_title() == js.plot.restarts(simulated_fit).get_title()
    plt.close("all")
