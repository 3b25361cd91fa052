"""Which runs are left out and predicted from the others: ``folds.future(runs)`` and others.

`compare` takes the result, or the name of one of these functions.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxscale._clusters import cluster_codes
from jaxscale._errors import DataError
from jaxscale._law import Law
from jaxscale._runs import Runs
from jaxscale._sizes import SAME_SIZE, counted, sizes


@dataclasses.dataclass(frozen=True)
class Folds:
    """Which runs are left out, and which ones the law is fitted to instead.

    Attributes:
        names: what is left out, in words, one for every fold.
        held: the runs that are predicted, (folds, runs).
        seen: the runs that are fitted, (folds, runs).
    """

    names: tuple[str, ...]
    held: np.ndarray
    seen: np.ndarray

    def __post_init__(self) -> None:
        shape = (len(self.names), np.shape(self.held)[-1])
        if np.shape(self.held) != shape or np.shape(self.seen) != shape:
            raise DataError(f"{len(self.names)} folds need masks of shape (folds, runs)")
        if (np.asarray(self.held) & np.asarray(self.seen)).any():
            raise DataError("a run cannot be predicted by a fit that has seen it")

    def __len__(self) -> int:
        return len(self.names)


def single(runs: Runs, which: Any = None) -> Folds:
    """A fold for each of some runs, by position; default for every run: leave one out."""
    chosen = np.flatnonzero(counted(runs)) if which is None else np.asarray(which, int)
    held = np.arange(len(runs)) == chosen[:, None]
    rows = np.asarray(runs.row)[chosen]
    return _folds(runs, tuple(f"row {row}" for row in rows), held, ~held)


def random(runs: Runs, k: int = 10, *, key: jax.Array) -> Folds:
    """`k` folds of about equal numbers of runs, drawn at random.

    Raises:
        DataError: for fewer than 2 folds, or more than there are runs.
    """
    real = np.flatnonzero(counted(runs))
    if not 2 <= k <= len(real):
        raise DataError(f"{len(real)} runs make 2 to {len(real)} folds, got k={k}")
    code = np.full(len(runs), -1)
    code[real] = np.asarray(jax.random.permutation(key, np.arange(len(real)) % k))
    held = code == np.arange(k)[:, None]
    return _folds(runs, tuple(f"fold {i + 1}" for i in range(k)), held, ~held)


def clusters(runs: Runs, by: Any = None) -> Folds:
    """A fold for each cluster, as `jaxscale.cluster_codes` makes them."""
    codes = cluster_codes(runs, by)
    held = np.unique(codes)[:, None] == codes
    held = held[(held & counted(runs)).any(axis=1)]
    names = tuple(_cluster_label(runs, by, np.flatnonzero(each)) for each in held)
    return _folds(runs, names, held, ~held)


def _cluster_label(runs: Runs, by: Any, members: np.ndarray) -> str:
    if isinstance(by, str) and (by in runs.inputs or by != "cluster"):
        return f"{by} = {np.median(sizes(runs, by)[members]):.4g}"
    labels = runs.cluster if by is None or isinstance(by, str) else by
    return f"cluster {np.asarray(labels)[members[0]]}"


def future(runs: Runs, by: Any = None, *, share: float = 0.4, blocks: int = 4) -> Folds:
    """Blocks of the largest runs, each predicted from the runs that are smaller than all of it.

    The largest `share` of the runs is cut into `blocks` of about equal numbers; runs of equal size
    stay together. What lies within 1% of the smallest run of a block counts as of its size, so
    that it is not fitted.

    Args:
        runs: one table.
        by: what orders the runs: an input, ``"C"`` for 6 N D, or numbers, one per run.
        share: of the runs that are predicted.
        blocks: number of blocks that they are predicted in.

    Raises:
        DataError: if all runs are of one size, or for a share or a number that cannot be.

    Source: Buerkner, Gabry & Vehtari 2020, doi 10.1080/00949655.2020.1783262.
    """
    if not 0 < share < 1 or blocks < 1:
        said = f"got share={share} and blocks={blocks}"
        raise DataError(f"share must lie between 0 and 1, and blocks be 1 or more; {said}")
    size, real = sizes(runs, by), counted(runs)
    ranked = np.sort(size[real])
    first = np.linspace((1 - share) * len(ranked), len(ranked), blocks + 1)[:-1]
    cuts = np.unique(ranked[np.minimum(np.round(first).astype(int), len(ranked) - 1)])
    cuts = cuts[cuts > ranked[0] * (1 + SAME_SIZE)]
    if not len(cuts):
        raise DataError(f"{runs.source}: the runs are too much of one size to leave some out")
    upper = np.append(cuts[1:], np.inf)
    held = (size >= cuts[:, None]) & (size < upper[:, None])
    seen = size < (1 - SAME_SIZE) * cuts[:, None]
    shown = by if isinstance(by, str) else "size"
    names = tuple(f"{shown} {size[e].min():.3g} to {size[e].max():.3g}" for e in held & real)
    return _folds(runs, names, held, seen)


def _folds(runs: Runs, names: tuple[str, ...], held: np.ndarray, seen: np.ndarray) -> Folds:
    return Folds(names, held & counted(runs), seen & counted(runs))


def refuse_starved(law: Law, folds: Folds) -> None:
    """Refuse folds that leave fewer runs than the law has parameters.

    Raises:
        DataError: naming the fold.
    """
    left = folds.seen.sum(axis=1)
    needed = len(law.params)
    if left.min() < needed:
        raise DataError(
            f"without the runs of {folds.names[int(left.argmin())]}, only {left.min()} are left, "
            f"fewer than the {needed} parameters of {law.name!r}: leave out less"
        )
