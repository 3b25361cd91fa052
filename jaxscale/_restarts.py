"""The restart certificate: how many starts agree on the optimum, and where the others ended."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

_MOST_BASINS = 8


class Restarts:
    """Where the restarts of one fit ended.

    Attributes:
        value: final objective of each restart, shape (restarts,).
        steps: steps each restart took, shape (restarts,).
        best: the objective of the reported optimum.
        basins: table of the optima found, best first: kind, objective, excess over the best
            (relative), restarts, share, dead (terms that vanish there), and the parameters. The
            kind is ``optimum``, ``basin``, or ``rest`` for a last row that gathers what is left.
        tolerance: relative difference of objectives that counts as equal: 1e-6, or 1e-3 in
            float32.
        floor: objectives below it are zero up to round-off.
    """

    def __init__(
        self,
        value: np.ndarray,
        steps: np.ndarray,
        best: float,
        basins: pd.DataFrame | Callable[[], pd.DataFrame],
        tolerance: float = 1e-6,
        floor: float = 0.0,
    ):
        self.value, self.steps, self.best = value, steps, best
        self.tolerance, self.floor = tolerance, floor
        self._basins = basins

    @functools.cached_property
    def basins(self) -> pd.DataFrame:
        """Table of the optima found; made when it is first asked for."""
        return self._basins() if callable(self._basins) else self._basins

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: with the table of optima, not with what would make it."""
        return {**vars(self), "basins": self.basins, "_basins": self.basins}

    def __len__(self) -> int:
        return len(self.value)

    def within(self, tolerance: float) -> float:
        """Share of the restarts whose objective is within a relative tolerance of the best."""
        return float(np.mean(self.value <= self.best + tolerance * abs(self.best) + self.floor))

    @property
    def hit_share(self) -> float:
        """Share of the restarts that reached the optimum, to `tolerance` of its objective."""
        return self.within(self.tolerance)

    def frame(self) -> pd.DataFrame:
        """One row per basin; see `basins`."""
        return self.basins

    def __str__(self) -> str:
        hits = round(self.hit_share * len(self))
        lines = [f"{hits:,} of {len(self):,} restarts reach this optimum (to {self.tolerance:g})"]
        others = [
            f"{row.restarts:,} at {row.objective:.6g}" + (f" ({row.dead} dead)" if row.dead else "")
            for row in self.basins[self.basins["kind"] == "basin"].head(3).itertuples()
        ]
        return "; ".join([*lines, *(["others: " + ", ".join(others)] if others else [])])

    __repr__ = __str__


def find_basins(
    value: np.ndarray,
    theta: np.ndarray,
    best: float,
    tolerance: float,
    floor: float,
    describe: Callable[[np.ndarray], tuple[str, dict[str, Any]]],
) -> pd.DataFrame:
    """Group restarts by final objective.

    Args:
        value: final objectives, shape (restarts,).
        theta: final unconstrained vectors, shape (restarts, p).
        best: objective of the reported optimum.
        tolerance: relative difference of objectives that counts as equal.
        floor: absolute difference that counts as none.
        describe: dead terms (as text) and parameters at an unconstrained vector.
    """
    order = np.argsort(value, kind="stable")
    ranked = value[order]
    finite = int(np.searchsorted(ranked, np.inf))
    table: list[tuple[float, int, str, dict[str, Any]]] = []
    at = 0
    while at < finite and len(table) < _MOST_BASINS:
        top = max(ranked[at], best)
        end = int(np.searchsorted(ranked, top + tolerance * abs(top) + floor, side="right"))
        end = min(max(end, at + 1), finite)
        dead, params = describe(theta[order[at]])
        table.append((float(ranked[at]), end - at, dead, params))
        at = end
    rows = [
        {
            "kind": "basin" if i else "optimum",
            "objective": objective,
            "excess": max(objective / best - 1, 0.0) if best else 0.0,
            "restarts": count,
            "share": count / len(value),
            "dead": dead,
            **params,
        }
        for i, (objective, count, dead, params) in enumerate(table)
    ]
    if at < len(value):
        rest = len(value) - at
        rows.append(
            {
                "kind": "rest",
                "objective": float(ranked[at]),
                "excess": float(ranked[at]) / best - 1 if best else np.inf,
                "restarts": rest,
                "share": rest / len(value),
                "dead": "",
            }
        )
    return pd.DataFrame(rows)
