"""Tables as people have them: CSV files and frames, each cell checked and named where it is bad."""

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxscale._errors import DataError

Duplicates = Literal["error", "keep", "drop"]


def read_csv(path: str | Path) -> pd.DataFrame:
    """A CSV file (comma, semicolon or tab) as a frame.

    Raises:
        DataError: if it is missing, empty or not a table of text.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a CSV file")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if "\0" in text:
            raise UnicodeError
        line = next((line for line in re.split("[\r\n]+", text) if line.strip()), "")
        if not line:
            raise DataError(
                f"{path}: the file is empty; it needs a header line and one line per run"
            )
        separator = max(",;\t", key=line.count)
        _refuse_repeated_names(line, separator, path)
        table = pd.read_csv(io.StringIO(text), sep=separator, skipinitialspace=True)
    except (UnicodeError, csv.Error, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = f" ({str(error).strip()})" if "line" in str(error) else ""
        raise DataError(
            f"{path}: this is not a CSV file in UTF-8 with a header line and one line per run"
            f"{reason}"
        ) from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas took the first cells as labels
        cells = table.shape[1] + table.index.nlevels
        raise DataError(
            f"{path}: the header names {table.shape[1]} columns but the rows have {cells} cells; "
            "name every column, and remove a separator at the end of the lines"
        )
    return table.rename(columns=lambda name: str(name).strip())


def _refuse_repeated_names(line: str, separator: str, path: Path) -> None:
    """Pandas would number them, and a fit would silently take the first."""
    header = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    names = [name.strip() for name in header if name.strip()]
    again = next((name for name in names if names.count(name) > 1), None)
    if again is not None:
        raise DataError(
            f"{path}: the header names {_short(again)!r} twice; rename or remove one of them"
        )


def check_columns(table: Any, wanted: Mapping[str, str], source: str) -> None:
    for name, column in wanted.items():
        if column not in table.columns:
            has = ", ".join(_short(str(name)) for name in table.columns[:20])
            if len(table.columns) == 1:
                has += " (only one: is the separator a comma, a semicolon or a tab?)"
            raise DataError(
                f"{source}: there is no column {column!r} for {name}; the columns are: {has}"
            )
    if len(table) == 0:
        raise DataError(f"{source}: the table has a header but no rows")


def check_duplicates(table: Any, duplicates: Duplicates, source: str) -> np.ndarray:
    if duplicates not in ("error", "keep", "drop"):
        raise DataError(f"duplicates must be 'error', 'keep' or 'drop', not {duplicates!r}")
    keep = np.ones(len(table), bool)
    if duplicates == "keep" or not _may_repeat(table):
        return keep
    seen: dict[tuple[Any, ...], int] = {}
    for i, cells in enumerate(table.iter_rows()):
        row = tuple(str(cell) for cell in cells)  # NaN would differ from itself
        before = seen.setdefault(row, i)
        if before == i:
            continue
        if duplicates == "error":
            raise DataError(
                f"{source}: row {i + 1} repeats row {before + 1} in every column; "
                "say duplicates='keep' if both were run, or 'drop' to count it once"
            )
        keep[i] = False
    return keep


def _short(text: str) -> str:
    """Enough of a text to know it by."""
    return text if len(text) <= 60 else f"{text[:60]}..."


def _may_repeat(table: Any) -> bool:
    try:
        return bool(table.is_duplicated().any())
    except TypeError:  # a column holds lists, which pandas cannot compare; their texts can be
        return True


def _cells(series: Any) -> list[Any]:
    """Python values, with None wherever there is none, however the table says so."""
    values = zip(series.to_list(), series.is_null().to_list(), strict=True)
    cells = [None if null else cell for cell, null in values]
    return [None if isinstance(cell, float) and cell != cell else cell for cell in cells]


def column_codes(series: Any, column: str, source: str) -> np.ndarray:
    """Labels of any type as integers, in the order of their texts."""
    cells = _cells(series)
    missing = next((i for i, cell in enumerate(cells) if cell is None), None)
    if missing is not None:  # all of these would make one cluster
        raise DataError(
            f"{source}: row {missing + 1} has no value in column {column!r}, so its cluster is "
            "not known; fill it in or remove the row"
        )
    labels = [str(cell) for cell in cells]
    order = {label: i for i, label in enumerate(sorted(set(labels)))}
    return np.array([order[label] for label in labels], int)


def column_numbers(series: Any, column: str, source: str) -> np.ndarray:
    numbers = np.empty(len(series))
    if series.dtype.is_numeric():
        numbers[:] = series.to_numpy().astype(float)
    else:
        for i, value in enumerate(_cells(series)):
            try:
                numbers[i] = float("nan" if value is None else value)
            except (OverflowError, TypeError, ValueError):
                raise DataError(
                    f"{source}: row {i + 1} has {_short(repr(value))} in column {column!r}, "
                    "which is not a number, or none that a computer holds"
                ) from None
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        value = numbers[bad[0]]
        raise DataError(
            f"{source}: row {bad[0] + 1} has {'no value' if np.isnan(value) else value} in column "
            f"{column!r}; correct the row or remove it"
        )
    return numbers
