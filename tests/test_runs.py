"""Runs: what is accepted, what is refused, and that a refusal names file, column and row."""

import jax
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import jaxscale as js

GOOD = pd.DataFrame({"n": [1e8, 2e8, 4e8], "d": [1e9, 4e9, 2e9], "loss": [3.0, 2.8, 2.7]})
COLUMNS = {"N": "n", "D": "d", "loss": "loss"}


@pytest.mark.parametrize("convert", [lambda f: f, pl.from_pandas, pa.Table.from_pandas])
def test_every_kind_of_frame_gives_the_same_runs(convert):
    runs = js.Runs.from_frame(convert(GOOD), **COLUMNS)
    np.testing.assert_array_equal(runs.inputs["N"], GOOD["n"])
    np.testing.assert_array_equal(runs.loss, GOOD["loss"])
    np.testing.assert_array_equal(runs.weight, np.ones(3))
    assert runs.digest() == js.Runs.from_frame(GOOD, **COLUMNS).digest()


def test_csv_semicolons_tabs_and_a_byte_order_mark(tmp_path):
    expected = js.Runs.from_frame(GOOD, **COLUMNS).digest()
    for separator in (",", ";", "\t"):
        path = tmp_path / "runs.csv"
        path.write_text("\ufeff" + GOOD.to_csv(index=False, sep=separator), encoding="utf-8")
        assert js.Runs.from_csv(path, **COLUMNS).digest() == expected


def broken(column, value, row=1):
    frame = GOOD.astype(object)
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (broken("loss", float("nan")), ["'loss'", "row 2", "no value"]),
        (broken("loss", None), ["'loss'", "row 2", "no value"]),
        (broken("n", float("inf")), ["'n'", "row 2", "inf"]),
        (broken("d", "4e9 tokens"), ["'d'", "row 2", "4e9 tokens", "not a number"]),
        (GOOD.drop(columns="d"), ["'d'", "D", "n, loss"]),
        (GOOD.iloc[:0], ["no rows"]),
        (pd.concat([GOOD, GOOD.iloc[[1]]]), ["row 4 repeats row 2", "duplicates"]),
    ],
)
def test_bad_rows_are_named(frame, said):
    with pytest.raises(js.DataError) as error:
        js.Runs.from_frame(frame, source="runs.csv", **COLUMNS)
    for part in ["runs.csv", *said]:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (broken("n", 0.0), "row 2 has 0 as N"),
        (broken("d", -5.0, row=2), "row 3 has -5 as D"),
        (broken("loss", -0.1), "row 2 has -0.1 as loss"),
    ],
)
def test_numbers_that_the_law_or_the_objective_cannot_take_are_named_by_the_fit(frame, said):
    runs = js.Runs.from_frame(frame, source="runs.csv", **COLUMNS)
    with pytest.raises(js.DataError) as error:
        js.fit(js.laws.chinchilla, runs, key=jax.random.key(0))
    for part in ("runs.csv", said, "greater than zero"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"\xef\xbb\xbf \r\n\r\n", "empty"),
        ("n,d,loss\n1,2,3\n".encode("utf-16"), "UTF-8"),
        ("n,d,loss,caf\u00e9\n1,2,3,4\n".encode("latin-1"), "UTF-8"),
        (b"n,d,loss\n" + b"1,2,3\n" * 2000 + b"1,2,\xff\n", "UTF-8"),
        (b"n,d,loss\n" + b"1,2,3\n" * 2000 + b"1,2,\0\n", "not a CSV"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "not a CSV"),
        (b"\xff\xfe\xfa binary \xc3\x28", "not a CSV"),
        (b"n,d,loss\n1,2,3\n1,2,3,4,5\n", "not a CSV"),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path, content, said):
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    with pytest.raises(js.DataError, match=said) as error:
        js.Runs.from_csv(path, **COLUMNS)
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path, said in ((tmp_path / "nowhere.csv", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(js.DataError, match=said):
            js.Runs.from_csv(path, **COLUMNS)


def test_text_without_a_table_names_the_columns_it_has(tmp_path):
    path = tmp_path / "notes.csv"
    path.write_text("dear diary\ntoday we trained a model\n")
    with pytest.raises(js.DataError, match="dear diary"):
        js.Runs.from_csv(path, **COLUMNS)


def test_duplicates_can_be_kept_or_dropped():
    frame = pd.concat([GOOD, GOOD.iloc[[1]]])
    assert len(js.Runs.from_frame(frame, duplicates="keep", **COLUMNS)) == 4
    dropped = js.Runs.from_frame(frame, duplicates="drop", **COLUMNS)
    assert dropped.digest() == js.Runs.from_frame(GOOD, **COLUMNS).digest()
    # Rows that differ in any column, such as a seed, are different runs.
    frame["seed"] = range(4)
    assert len(js.Runs.from_frame(frame, **COLUMNS)) == 4


def test_weights_and_clusters():
    frame = GOOD.assign(w=[1.0, 0.0, 2.0], model=["b", "a", "b"])
    runs = js.Runs.from_frame(frame, weight="w", cluster="model", **COLUMNS)
    np.testing.assert_array_equal(runs.cluster, [1, 0, 1])
    np.testing.assert_array_equal(runs.weight, [1, 0, 2])
    with pytest.raises(js.DataError, match="weights"):
        js.Runs.from_frame(frame.assign(w=[1.0, -1.0, 1.0]), weight="w", **COLUMNS)


@pytest.mark.parametrize("kind", ["string", "Int64", "Float64", "int64[pyarrow]", object])
def test_a_missing_cell_is_named_in_every_type_of_pandas(kind):
    cells = pd.Series(["1", None, "2"] if kind == "string" else [1, None, 2], dtype=kind)
    for column, changed in (("loss", {}), ("w", {"weight": "w"}), ("model", {"cluster": "model"})):
        frame = GOOD.assign(**{column: cells})
        with pytest.raises(js.DataError, match=f"row 2 has no value in column '{column}'"):
            js.Runs.from_frame(frame, **COLUMNS, **changed)


def test_columns_that_are_not_asked_for_may_hold_anything():
    frame = GOOD.assign(notes=[["a"], {"b": 1}, None])
    assert len(js.Runs.from_frame(frame, **COLUMNS)) == 3
    frame = pd.concat([frame, frame.iloc[[0]]])
    with pytest.raises(js.DataError, match="row 4 repeats row 1"):
        js.Runs.from_frame(frame, **COLUMNS)


def test_columns_of_one_name_are_refused_in_one_line():
    frame = pd.DataFrame([[1, 2, 3, 4]], columns=["n", "n", "d", "loss"])
    with pytest.raises(js.DataError, match="'n' 2 times") as error:
        js.Runs.from_frame(frame, **COLUMNS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("convert", [lambda f: f, pl.from_pandas, pa.Table.from_pandas])
def test_a_run_of_unknown_cluster_is_refused(convert):
    """The runs without a label have nothing in common."""
    frame = convert(GOOD.assign(model=["a", None, "a"]))
    with pytest.raises(js.DataError, match="row 2 has no value in column 'model'"):
        js.Runs.from_frame(frame, cluster="model", **COLUMNS)


def test_columns_of_different_length_are_refused():
    with pytest.raises(js.DataError, match="length"):
        js.Runs.from_arrays(N=[1.0, 2.0], D=[1.0, 2.0, 3.0], loss=[1.0, 2.0])


def test_drop_top_takes_the_highest_losses_and_keeps_the_order():
    runs = js.Runs.from_frame(GOOD, **COLUMNS)
    np.testing.assert_array_equal(js.drop_top(runs, 1).loss, [2.8, 2.7])
    assert js.drop_top(runs, 0).digest() == runs.digest()
    for k in (-1, 3):
        with pytest.raises(js.DataError, match="drop"):
            js.drop_top(runs, k)


def test_a_stack_pads_and_gives_its_members_back():
    runs = js.Runs.from_frame(GOOD, **COLUMNS)
    shorter = runs.take([0, 2])
    stack = js.Runs.stack({"a": runs, "b": shorter})
    assert stack.loss.shape == (2, 3)
    assert stack["a"].digest() == runs.digest()
    assert stack["b"].digest() == shorter.digest()
    assert len(stack.frame()) == 5
    with pytest.raises(js.DataError):
        stack["c"]
    with pytest.raises(js.DataError):
        js.Runs.stack({})


def test_a_message_does_not_repeat_a_whole_file(tmp_path):
    path = tmp_path / "runs.csv"
    for text in ("x" * 100_000 + "\n1\n", "x" * 300_000 + "\n1\n", f"{'x' * 9000},{'x' * 9000}\n"):
        path.write_text(text)
        with pytest.raises(js.DataError) as error:
            js.Runs.from_csv(path, **COLUMNS)
        assert len(str(error.value)) < 400


def test_lines_before_the_header_may_be_empty(tmp_path):
    """The header tells the separator, wherever it stands and however long it is."""
    path = tmp_path / "runs.csv"
    names = [f"column_{i}" for i in range(800)]
    for before in ("", "\n", "\r\n \r\n"):
        header, rest = ";".join(["n", "d", "loss", *names]), ";0" * 800
        path.write_text(f"{before}{header}\n1;2;3{rest}\n4;5;6{rest}\n", newline="")
        np.testing.assert_array_equal(js.Runs.from_csv(path, **COLUMNS).loss, [3, 6])


@pytest.mark.parametrize("header", ["n,n,loss", "n, n ,loss", "loss;d;n;loss"])
def test_a_name_that_is_there_twice_is_refused(tmp_path, header):
    path = tmp_path / "runs.csv"
    separator = ";" if ";" in header else ","
    path.write_text(header + "\n" + separator.join("1234"[: header.count(separator) + 1]) + "\n")
    with pytest.raises(js.DataError, match="twice; rename or remove"):
        js.Runs.from_csv(path, **COLUMNS)


def test_numbers_that_no_computer_holds_are_refused():
    for huge in (10**400, -(10**400)):
        with pytest.raises(js.DataError, match="row 2 has") as error:
            js.Runs.from_frame(broken("n", huge), **COLUMNS)
        assert len(str(error.value)) < 300


def test_rows_longer_than_the_header_are_refused(tmp_path):
    """Pandas would take the first cells as labels and shift every column."""
    path = tmp_path / "runs.csv"
    path.write_text("n,d,loss\n1e9,6e9,2.3,0.5\n2e9,7e9,2.2,0.4\n")
    with pytest.raises(js.DataError, match="3 columns but the rows have 4 cells"):
        js.Runs.from_csv(path, **COLUMNS)


def test_header_spaces_and_empty_columns_do_no_harm(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("n , d , loss ,\n1e9,6e9,2.3,\n2e9,7e9,2.2,\n1e9,6e9,2.3,\n")
    with pytest.raises(js.DataError, match="row 3 repeats row 1"):
        js.Runs.from_csv(path, **COLUMNS)
    assert len(js.Runs.from_csv(path, duplicates="drop", **COLUMNS)) == 2


def test_a_nul_byte_is_no_csv(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_bytes(b"n,d,loss\n1,2\x00,3\n")
    with pytest.raises(js.DataError, match="not a CSV"):
        js.Runs.from_csv(path, **COLUMNS)


@pytest.mark.parametrize("table", [{"n": [1]}, pl.from_pandas(GOOD).lazy(), 3])
def test_things_that_are_no_table_are_refused(table):
    with pytest.raises(js.DataError, match="not a usable table"):
        js.Runs.from_frame(table, **COLUMNS)


def test_a_stack_has_no_rows_to_take():
    stack = js.Runs.stack({"a": js.Runs.from_frame(GOOD, **COLUMNS)})
    for change in (lambda: stack.take([0]), lambda: js.drop_top(stack, 1)):
        with pytest.raises(js.DataError, match="stack first"):
            change()


def test_the_order_of_the_inputs_is_no_part_of_the_data():
    a = js.Runs.from_arrays(N=GOOD.n, D=GOOD.d, loss=GOOD.loss)
    b = js.Runs.from_arrays(D=GOOD.d, N=GOOD.n, loss=GOOD.loss)
    assert a.digest() == b.digest()
