"""What must not matter does not: the kind of frame, the order of rows, units, a common weight.

Examples are drawn by hypothesis from a fixed seed, so that a run never differs from the next.
"""

import dataclasses

import jax
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from cases import examples
from hypothesis import given, strategies as st

import jaxscale as js
from jaxscale._objective import OBJECTIVES

NUMBERS = st.floats(1e-30, 1e30)
ANY = st.floats(allow_nan=False, allow_infinity=False)
LABELS = st.text(st.characters(codec="utf-8"), max_size=5)
RUNS, HALF = 24, 8


@st.composite
def tables(draw, least=1, most=12):
    """A table that `Runs` takes: positive numbers, weights of which one counts, any labels."""
    n = draw(st.integers(least, most))
    column = st.lists(NUMBERS, min_size=n, max_size=n)
    weight = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=n, max_size=n))
    return pd.DataFrame(
        {
            "n": draw(column),
            "d": draw(column),
            "loss": draw(column),
            "w": [weight[0] or 1.0, *weight[1:]],
            "model": draw(st.lists(LABELS, min_size=n, max_size=n)),
            "id": range(n),
        }
    )


COLUMNS = {"N": "n", "D": "d", "weight": "w", "cluster": "model"}


def same(a, b):
    """The same runs: their numbers, rows and clusters."""
    return (
        a.digest() == b.digest()
        and np.array_equal(a.row, b.row)
        and np.array_equal(a.cluster, b.cluster)
    )


@examples(40)
@given(tables())
def test_every_kind_of_frame_gives_the_same_runs(table):
    runs = js.Runs.from_frame(table, **COLUMNS)
    for convert in (pl.from_pandas, pa.Table.from_pandas):
        assert same(js.Runs.from_frame(convert(table), **COLUMNS), runs)
    np.testing.assert_array_equal(runs.inputs["N"], table["n"])
    np.testing.assert_array_equal(runs.weight, table["w"])
    shared = runs.cluster[:, None] == runs.cluster
    labels = table["model"].to_numpy()
    np.testing.assert_array_equal(shared, labels[:, None] == labels)


@examples(40)
@given(st.lists(tables(), min_size=1, max_size=4))
def test_a_stack_gives_its_members_back(frames):
    """Without the runs of weight zero, which are as good as padding."""
    sets = {f"set {i}": js.Runs.from_frame(x, **COLUMNS) for i, x in enumerate(frames)}
    stack = js.Runs.stack(sets)
    for name, runs in sets.items():
        assert same(stack[name], runs.take(runs.weight > 0))
    assert len(stack.frame()) == sum(int((runs.weight > 0).sum()) for runs in sets.values())


@examples(40)
@given(tables(least=2), st.data())
def test_taking_and_dropping_rows(table, data):
    runs = js.Runs.from_frame(table, **COLUMNS)
    order = data.draw(st.permutations(range(len(table))))
    back = np.argsort(order)
    assert same(runs.take(order).take(back), runs)
    k = data.draw(st.integers(0, len(table) - 1))
    kept = js.drop_top(runs, k)
    assert len(kept) == len(table) - k
    if k:
        left = np.setdiff1d(runs.row, kept.row) - 1
        assert kept.loss.max() <= runs.loss[left].min()
    np.testing.assert_array_equal(np.sort(kept.row), kept.row)


@examples(25)
@given(tables(), st.data())
def test_repeated_rows_are_refused_kept_or_dropped(table, data):
    again = data.draw(st.lists(st.integers(0, len(table) - 1), min_size=1, max_size=4))
    longer = pd.concat([table, table.iloc[again]], ignore_index=True)
    with pytest.raises(js.DataError, match=f"row {len(table) + 1} repeats row {again[0] + 1}"):
        js.Runs.from_frame(longer, **COLUMNS)
    assert len(js.Runs.from_frame(longer, duplicates="keep", **COLUMNS)) == len(longer)
    dropped = js.Runs.from_frame(longer, duplicates="drop", **COLUMNS)
    assert same(dropped, js.Runs.from_frame(table, **COLUMNS))


@examples(25)
@given(tables(), st.sampled_from(",;\t"))
def test_a_csv_file_gives_the_same_runs(folder, table, separator):
    path = folder / "runs.csv"
    table.assign(model=range(len(table))).to_csv(path, index=False, sep=separator)
    read = js.Runs.from_csv(path, **COLUMNS)
    for name in ("n", "d", "loss"):
        found = read.loss if name == "loss" else read.inputs[name.upper()]
        np.testing.assert_allclose(found, table[name], rtol=1e-15)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("properties")


# Fits: two shapes of tables, so that two programs are compiled.

TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


def _runs(**changes):
    rng = np.random.default_rng(8)
    N, D = np.exp(rng.uniform(np.log([[1e7], [1e9]]), np.log([[1e10], [1e12]]), (2, RUNS)))
    loss = np.asarray(js.laws.chinchilla(N, D, **TRUTH)) * np.exp(0.01 * rng.normal(size=RUNS))
    columns = {"N": N, "D": D, "loss": loss, "weight": np.ones(RUNS)}
    return {name: np.asarray(changes.get(name, values)) for name, values in columns.items()}


def _fit(columns, **options):
    runs = js.Runs.from_arrays(**columns, duplicates="keep")
    return js.fit(js.laws.chinchilla, runs, restarts=32, key=jax.random.key(0), **options)


@pytest.fixture(scope="module")
def reference():
    return _fit(_runs())


def agree(fit, reference, N=1.0, D=1.0, loss=1.0):
    """The same optimum, whose predictions agree once the units are undone."""
    # A kinked objective fixes predictions less well than its own value.
    at = {"N": np.array([1e8, 1e10, 7e10]), "D": np.array([1e10, 1e11, 1.4e12])}
    expected = js.predict(reference, **at).mean
    found = js.predict(fit, N=at["N"] * N, D=at["D"] * D).mean
    np.testing.assert_allclose(found / loss, expected, rtol=2e-6)
    for name in ("alpha", "beta"):
        assert float(fit.params[name]) == pytest.approx(float(reference.params[name]), rel=1e-4)


@examples(8)
@given(st.permutations(range(RUNS)))
def test_the_order_of_the_rows_does_not_matter(reference, order):
    fit = _fit({name: values[list(order)] for name, values in _runs().items()})
    assert fit.value == pytest.approx(reference.value, rel=1e-8)
    agree(fit, reference)


@examples(8)
@given(*[st.floats(-12, 12).map(lambda x: 10.0**x)] * 3)
def test_the_units_do_not_matter(reference, N, D, loss):
    columns = _runs()
    units = {"N": N, "D": D, "loss": loss, "weight": 1.0}
    fit = _fit({name: values * units[name] for name, values in columns.items()})
    assert fit.value == pytest.approx(reference.value, rel=1e-8)
    agree(fit, reference, N, D, loss)
    assert float(fit.params["E"]) / loss == pytest.approx(float(reference.params["E"]), rel=1e-4)


@examples(6)
@given(st.floats(-6, 6).map(lambda x: 10.0**x))
def test_a_common_weight_scales_the_objective_only(reference, factor):
    fit = _fit(_runs(weight=np.full(RUNS, factor)))
    assert fit.value == pytest.approx(factor * reference.value, rel=1e-8)
    agree(fit, reference)


@examples(6)
@given(st.lists(st.integers(0, RUNS - 1), min_size=HALF, max_size=HALF, unique=True))
def test_a_weight_of_two_is_the_run_twice_and_of_zero_none_at_all(twice):
    weight = np.ones(RUNS)
    weight[twice] = 2
    rows = [*range(RUNS), *twice]
    repeated = _fit({name: values[rows] for name, values in _runs().items()})
    weighted = _fit(_runs(weight=weight))
    assert weighted.value == pytest.approx(repeated.value, rel=1e-8)
    agree(weighted, repeated)
    longer = {name: values[rows] for name, values in _runs().items()}
    longer["weight"][RUNS:] = 0
    longer["loss"][RUNS:] *= 3  # of no weight, so it does not matter
    ignored = _fit(longer)
    plain = _fit(_runs())
    assert ignored.value == pytest.approx(plain.value, rel=1e-8)
    agree(ignored, plain)


# What is saved comes back, to the last bit.


@st.composite
def objectives(draw):
    kind = draw(st.sampled_from(sorted(OBJECTIVES)))
    fields = {
        field.name: draw(st.floats(0.01, 0.99)) + (2.0 if field.name == "df" else 0.0)
        for field in dataclasses.fields(OBJECTIVES[kind])
    }
    return OBJECTIVES[kind](**fields)


@examples(40)
@given(
    st.fixed_dictionaries(dict.fromkeys(TRUTH, ANY)),
    st.lists(ANY, min_size=5, max_size=5),
    objectives(),
    st.text(max_size=20),
    ANY,
)
def test_a_fit_comes_back_to_the_last_bit(reference, folder, params, free, objective, text, value):
    verdict = js.Verdict((js.Finding("converged", text),))
    fit = dataclasses.replace(
        reference, params=params, free=np.asarray(free), objective=objective, verdict=verdict,
        rmse=value,
    )  # fmt: skip
    js.save(folder / "fit.json", fit)
    loaded = js.load(folder / "fit.json")
    assert {name: float(x) for name, x in loaded.params.items()} == params
    assert loaded.free.tolist() == free
    assert loaded.rmse == value
    assert loaded.verdict == verdict
    assert repr(loaded.objective) == repr(objective)
    assert vars(loaded.objective) == vars(objective)
    assert loaded.ranges == reference.ranges
    assert loaded.log_refs == reference.log_refs


@examples(40)
@given(st.data(), st.integers(2, 9), st.lists(st.text(max_size=20), max_size=3), st.text())
def test_draws_come_back_to_the_last_bit(reference, folder, data, n, notes, doubt):
    column = st.lists(ANY, min_size=n, max_size=n)
    params = {name: np.array(data.draw(column)) for name in TRUTH}
    draws = js.Draws(
        fit=reference,
        method=doubt,
        params=params,
        scale=np.abs(data.draw(column)),
        center=data.draw(st.sampled_from(["fit", "median"])),
        value=data.draw(st.none() | column.map(np.array)),
        failed=n,
        notes=tuple(notes),
        doubt=doubt,
    )
    js.save(folder / "draws.json", draws)
    loaded = js.load(folder / "draws.json")
    for name in TRUTH:
        np.testing.assert_array_equal(loaded.params[name], params[name])
    np.testing.assert_array_equal(loaded.scale, draws.scale)
    assert (loaded.value is None) == (draws.value is None)
    if draws.value is not None:
        np.testing.assert_array_equal(loaded.value, draws.value)
    for name in ("method", "center", "failed", "notes", "doubt"):
        assert getattr(loaded, name) == getattr(draws, name)
