"""capabilities(): principal components of benchmark scores, and how they grow with compute."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxscale._errors import DataError
from jaxscale._runs import Runs

_MOST_STEPS, _CLOSE = 1000, 1e-10


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """Benchmark scores of many models in a few components.

    Attributes:
        benchmarks: the columns that went in.
        scores: components of every model, shape (models, components).
        loadings: weight of every benchmark in every component, shape (components, benchmarks).
        center: mean score of every benchmark, shape (benchmarks,).
        explained: share of variance of every possible component, shape (benchmarks,).
        filled: scores with missing ones imputed, shape (models, benchmarks).
        missing: where a score was imputed, shape (models, benchmarks).
        families: one row per family with known compute: theta, nu and r2 of
            PC1 = theta log C + nu, and the number of models; None without families.
        flop: training FLOPs of every model, NaN where unknown, or None.
    """

    benchmarks: tuple[str, ...]
    scores: np.ndarray
    loadings: np.ndarray
    center: np.ndarray
    explained: np.ndarray
    filled: np.ndarray
    missing: np.ndarray
    families: pd.DataFrame | None = None
    flop: np.ndarray | None = None

    def equivalent_flop(self, family: str, pc1: Any = None) -> np.ndarray:
        """C_f = exp((PC1 - nu_f) / theta_f): the compute that a family would need.

        Args:
            family: the reference family.
            pc1: first components; default those of all models, shape (models,).

        Raises:
            DataError: for an unknown family, or one that does not grow with compute.

        Source: Ruan et al. 2024, arXiv 2405.10938.
        """
        if self.families is None or family not in self.families.index:
            known = () if self.families is None else tuple(self.families.index)
            raise DataError(
                f"there is no family {family!r} with two known FLOPs; there are {known}"
            )
        theta, nu = self.families.loc[family, ["theta", "nu"]]
        if theta <= 0:
            raise DataError(f"the family {family!r} does not grow with compute (theta = {theta:g})")
        pc1 = self.scores[:, 0] if pc1 is None else np.asarray(pc1)
        return np.asarray(np.exp((pc1 - nu) / theta))

    def project(self, scores: Any) -> np.ndarray:
        """Components of other models, from complete scores of shape (models, benchmarks)."""
        return (np.asarray(scores, float) - self.center) @ self.loadings.T

    def runs(self, metric: Any, *, where: Any = None) -> Runs:
        """Inputs pc1, pc2 ... and a metric as `Runs`, for `laws.capability_sigmoid`.

        Args:
            metric: one number per model, shape (models,); NaN leaves a model out.
            where: mask of the models to use, shape (models,), such as those of little compute.
        """
        y = np.asarray(metric, float)
        keep = np.isfinite(y) if where is None else np.isfinite(y) & np.asarray(where)
        columns = {f"pc{i + 1}": x[keep] for i, x in enumerate(self.scores.T)}
        return Runs.from_arrays(loss=y[keep], duplicates="keep", source="capabilities", **columns)

    def __repr__(self) -> str:
        shares = ", ".join(f"{x:.3f}" for x in self.explained[: len(self.loadings)])
        return (
            f"Capabilities({len(self.scores)} models, {len(self.benchmarks)} benchmarks, "
            f"{int(self.missing.sum())} scores imputed; variance explained: {shares})"
        )


def capabilities(
    frame: Any,
    benchmarks: Sequence[str],
    *,
    components: int = 3,
    family: str | None = None,
    flop: str | None = None,
) -> Capabilities:
    """scores = center + PC loadings: PCA of benchmarks, with PC1 = theta_f log C + nu_f by family.

    Missing scores are filled by the first component, iterated until they repeat themselves. Scores
    are centered but not scaled, as all are shares. Components are signed so that their loadings
    sum to a positive number.

    Args:
        frame: pandas table with a row per model.
        benchmarks: columns of scores from 0 to 1; NaN where missing.
        components: how many to keep.
        family, flop: columns of the model family and the training FLOPs (NaN if unknown).

    Raises:
        DataError: for a missing column, too few models or components, or a model without a score.

    Source: Ruan et al. 2024, arXiv 2405.10938 (observational scaling laws).

    Example:
        >>> capabilities(df, ["MMLU", "ARC-C", "HellaSwag"], family="family", flop="flops")
    """
    names = tuple(benchmarks)
    absent = [c for c in (*names, family, flop) if c is not None and c not in frame.columns]
    if absent:
        raise DataError(f"there is no column {absent[0]!r}; there are {', '.join(frame.columns)}")
    if not 1 <= components <= len(names) or len(frame) <= len(names):
        raise DataError(
            f"{components} components of {len(names)} benchmarks need 1 to {len(names)} "
            f"components and more than {len(names)} models, not {len(frame)}"
        )
    table = frame[list(names)].to_numpy(float)
    missing = ~np.isfinite(table)
    if missing.all(axis=1).any() or missing.all(axis=0).any():
        raise DataError("every model and every benchmark needs a score")
    filled = _impute(table, missing)
    center = filled.mean(axis=0)
    _, spread, loadings = np.linalg.svd(filled - center, full_matrices=False)
    loadings = (loadings * np.where(loadings.sum(axis=1, keepdims=True) < 0, -1, 1))[:components]
    scores = (filled - center) @ loadings.T
    compute = None if flop is None else frame[flop].to_numpy(float)
    groups = None
    if family is not None and compute is not None:
        groups = _families(scores[:, 0], np.log(compute), frame[family].to_numpy())
    return Capabilities(
        benchmarks=names,
        scores=scores,
        loadings=loadings,
        center=center,
        explained=spread**2 / (spread**2).sum(),
        filled=filled,
        missing=missing,
        families=groups,
        flop=compute,
    )


def _impute(table: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Fill missing scores by the first component of the filled table, until nothing moves."""
    filled = np.where(missing, np.nanmean(table, axis=0), table)
    for _ in range(_MOST_STEPS if missing.any() else 0):
        center = filled.mean(axis=0)
        left, spread, right = np.linalg.svd(filled - center, full_matrices=False)
        guess = center + spread[0] * left[:, :1] * right[:1]
        moved = np.abs(guess - filled)[missing].max()
        filled = np.where(missing, guess, table)
        if moved < _CLOSE:
            break
    return filled


def _families(pc1: np.ndarray, log_flop: np.ndarray, family: np.ndarray) -> pd.DataFrame:
    """Least squares of PC1 on log C in every family with two different budgets."""
    rows = {}
    for name in sorted(set(family)):
        mine = (family == name) & np.isfinite(log_flop)
        x, y = log_flop[mine], pc1[mine]
        if len(x) < 2 or np.ptp(x) == 0:
            continue
        theta, nu = np.polyfit(x, y, 1)
        total = ((y - y.mean()) ** 2).sum()
        r2 = 1 - ((y - theta * x - nu) ** 2).sum() / total if total > 0 else np.nan
        rows[name] = {"theta": theta, "nu": nu, "r2": r2, "models": len(x)}
    columns = ["theta", "nu", "r2", "models"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
