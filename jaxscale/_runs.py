"""The table of training runs. Every check on data happens here, once."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import narwhals as nw
import numpy as np
import pandas as pd

from jaxscale._errors import DataError
from jaxscale._table import (
    Duplicates,
    check_columns,
    check_duplicates,
    column_codes,
    column_numbers,
    read_csv,
)


class Runs(eqx.Module):
    """Training runs as arrays: inputs, loss, weight and an optional cluster label.

    A PyTree. Made by `Runs.from_frame`, `Runs.from_csv` or `Runs.from_arrays`; several tables are
    joined by `Runs.stack`, which adds a leading axis and pads with rows of weight zero.

    Attributes:
        inputs: one array per input of the law, shape (runs,), in the user's units.
        loss: observed losses, shape (runs,).
        weight: relative weight of each run: a common factor changes nothing but the value of the
            objective. 0 marks padding.
        row: number of each run in the table it came from, counted from 1.
        cluster: integer cluster codes (runs that share a model, a budget ...), or None.
        sets: names of the data sets if this is a stack, else None.
        source: where the table came from, for messages.
    """

    inputs: dict[str, Any]
    loss: Any
    weight: Any
    row: Any
    cluster: Any = None
    sets: tuple[str, ...] | None = eqx.field(static=True, default=None)
    source: str = eqx.field(static=True, default="runs")

    @classmethod
    def from_arrays(
        cls,
        *,
        loss: Any,
        weight: Any = None,
        cluster: Any = None,
        duplicates: Duplicates = "error",
        source: str = "runs",
        **inputs: Any,
    ) -> "Runs":
        """Runs from arrays of equal length, one per input; see `from_frame`."""
        columns = {**inputs, "loss": loss}
        for optional, values in (("weight", weight), ("cluster", cluster)):
            if values is not None:
                columns[optional] = values
        lengths = {name: np.shape(np.atleast_1d(values)) for name, values in columns.items()}
        if len(set(lengths.values())) > 1 or any(len(shape) != 1 for shape in lengths.values()):
            raise DataError(f"{source}: the columns differ in length: {lengths}")
        frame = pd.DataFrame({name: np.atleast_1d(v) for name, v in columns.items()})
        return cls.from_frame(
            frame,
            loss="loss",
            weight="weight" if weight is not None else None,
            cluster="cluster" if cluster is not None else None,
            duplicates=duplicates,
            source=source,
            **{name: name for name in inputs},
        )

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        loss: str = "loss",
        weight: str | None = None,
        cluster: str | None = None,
        duplicates: Duplicates = "error",
        source: str = "the table",
        **inputs: str,
    ) -> "Runs":
        """Runs from a pandas, polars or pyarrow table, checked row by row.

        Args:
            frame: the table.
            loss: column of the loss, in any unit.
            weight: column of non-negative weights; default 1.
            cluster: column of cluster labels, of any type.
            duplicates: what to do with rows that are equal in every column of the table.
            source: what to call the table in messages.
            **inputs: column of each input of the law, such as ``N="params", D="tokens"``.

        Raises:
            DataError: naming the column and the row (counted from 1, without the header).

        Example:
            >>> Runs.from_frame(df, loss="loss", N="params", D="tokens")
        """
        try:
            table = nw.from_native(frame, eager_only=True)
        except (TypeError, nw.exceptions.NarwhalsError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{source}: this is not a usable table ({reason})") from None
        if not inputs:
            raise DataError(f"{source}: say which columns are the inputs, such as N='params'")
        wanted = {**inputs, "loss": loss}
        for optional, column in (("weight", weight), ("cluster", cluster)):
            if column is not None:
                wanted[optional] = column
        check_columns(table, wanted, source)
        keep = check_duplicates(table, duplicates, source)
        numbers = {
            name: column_numbers(table[column], column, source)
            for name, column in wanted.items()
            if name != "cluster"
        }
        weights = numbers.get("weight", np.ones(len(table)))
        if (weights < 0).any() or not weights.any():
            raise DataError(f"{source}: the weights in column {weight!r} must be 0 or more")
        codes = None
        if cluster is not None:
            codes = column_codes(table[cluster], cluster, source)[keep]
        return cls(
            inputs={name: numbers[name][keep] for name in inputs},
            loss=numbers["loss"][keep],
            weight=weights[keep],
            row=np.flatnonzero(keep) + 1,
            cluster=codes,
            source=source,
        )

    @classmethod
    def from_csv(cls, path: str | Path, **columns: Any) -> "Runs":
        """Runs from a CSV file with a header line; arguments as in `from_frame`.

        Raises:
            DataError: if the file is missing, empty or not a CSV, or as `from_frame` does.
        """
        return cls.from_frame(read_csv(path), **{"source": str(path), **columns})

    @staticmethod
    def stack(sets: Mapping[str, "Runs"]) -> "Runs":
        """Several tables with the same inputs as one batch with a leading axis of sets."""
        if not sets:
            raise DataError("there is nothing to stack")
        tables = list(sets.values())
        names = tuple(tables[0].inputs)
        for key, runs in sets.items():
            if tuple(runs.inputs) != names or runs.sets is not None:
                raise DataError(f"{key}: a stack needs single tables that all have {names}")
        longest = max(len(runs) for runs in tables)

        def padded(arrays: Sequence[Any], mode: Literal["edge", "constant"] = "edge") -> Any:
            return np.stack([np.pad(a, (0, longest - len(a)), mode=mode) for a in arrays])

        clustered = all(runs.cluster is not None for runs in tables)
        return Runs(
            inputs={name: padded([runs.inputs[name] for runs in tables]) for name in names},
            loss=padded([runs.loss for runs in tables]),
            weight=padded([runs.weight for runs in tables], "constant"),
            row=padded([runs.row for runs in tables]),
            cluster=padded([runs.cluster for runs in tables]) if clustered else None,
            sets=tuple(sets),
            source=", ".join(sets),
        )

    def __len__(self) -> int:
        return int(np.shape(self.loss)[-1])

    def __getitem__(self, name: str) -> "Runs":
        """One data set of a stack, without its padding and runs of weight zero."""
        if self.sets is None or name not in self.sets:
            raise DataError(f"there is no data set {name!r}; there are {self.sets}")
        i = self.sets.index(name)
        real = np.asarray(self.weight[i]) > 0
        return Runs(
            inputs={key: x[i][real] for key, x in self.inputs.items()},
            loss=self.loss[i][real],
            weight=self.weight[i][real],
            row=self.row[i][real],
            cluster=None if self.cluster is None else self.cluster[i][real],
            source=name,
        )

    def take(self, rows: Any) -> "Runs":
        """The runs at some positions or under a boolean mask."""
        if self.sets is not None:
            raise DataError("choose one data set of the stack first: runs[name]")
        return Runs(
            inputs={key: np.asarray(x)[rows] for key, x in self.inputs.items()},
            loss=np.asarray(self.loss)[rows],
            weight=np.asarray(self.weight)[rows],
            row=np.asarray(self.row)[rows],
            cluster=None if self.cluster is None else np.asarray(self.cluster)[rows],
            source=self.source,
        )

    def frame(self) -> pd.DataFrame:
        """One row per run: its number in the table, inputs, loss, weight, cluster."""
        columns = {"row": self.row, **self.inputs, "loss": self.loss, "weight": self.weight}
        if self.cluster is not None:
            columns["cluster"] = self.cluster
        if self.sets is not None:
            columns["set"] = np.repeat(np.asarray(self.sets)[:, None], len(self), axis=1)
        table = pd.DataFrame({name: np.ravel(values) for name, values in columns.items()})
        return table[table["weight"] > 0].reset_index(drop=True) if self.sets else table

    def digest(self) -> str:
        """SHA-256 of the numbers, so that a saved fit can tell whether it sees its own runs."""
        names = sorted(self.inputs)
        arrays = [*(self.inputs[name] for name in names), self.loss, self.weight]
        content = hashlib.sha256(",".join(names).encode())
        for array in arrays:
            content.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return content.hexdigest()

    def __repr__(self) -> str:
        if self.sets is not None:
            return f"Runs({len(self.sets)} sets of up to {len(self)} runs: {self.source})"
        ranges = ", ".join(
            f"{name} {np.min(x):.3g}-{np.max(x):.3g}"
            for name, x in {**self.inputs, "loss": self.loss}.items()
        )
        return f"Runs({len(self)} runs from {self.source}: {ranges})"


def drop_top(runs: Runs, k: int) -> Runs:
    """Without the `k` runs of highest loss, a common cleaning of early or failed runs.

    Raises:
        DataError: if `k` is negative or leaves no runs.
    """
    if runs.sets is not None:
        raise DataError("choose one data set of the stack first: drop_top(runs[name], k)")
    if not 0 <= k < len(runs):
        raise DataError(f"cannot drop the {k} highest losses of {len(runs)} runs")
    order = np.argsort(np.asarray(runs.loss), kind="stable")
    return runs.take(np.sort(order[: len(runs) - k]))
