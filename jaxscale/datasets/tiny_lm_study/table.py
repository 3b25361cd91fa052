"""A CSV that grows by whole runs: a kill at any moment leaves the file as it was before."""

from __future__ import annotations

import csv
import os
from pathlib import Path

COLUMNS = (
    "run",
    "budget",
    "params",
    "params_nonembedding",
    "tokens",
    "flop",
    "loss",
    "width",
    "depth",
    "heads",
    "lr",
    "batch",
    "steps",
    "seed",
    "checkpoint",
    "minutes",
)


class Table:
    """Rows on disk, keyed by the name of their run.

    Args:
        path: the CSV file; its rows are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, object]] = []
        if path.exists():
            with path.open(newline="") as file:
                self.rows = list(csv.DictReader(file))
        self._losses = {str(row["run"]): float(str(row["loss"])) for row in self.rows}

    def final_loss(self, run: str) -> float | None:
        """The loss of a finished run, or None. (Its last row comes last.)"""
        return self._losses.get(run)

    def append(self, rows: list[dict[str, object]]) -> None:
        """Add the rows of one run; the file on disk is replaced in one step."""
        self.rows.extend(rows)
        self._losses[str(rows[-1]["run"])] = float(str(rows[-1]["loss"]))
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)
