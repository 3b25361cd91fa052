"""The choices of a multiverse: which laws, which objectives, and which runs are left out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxscale._errors import DataError, LawError
from jaxscale._law import Law
from jaxscale._objective import LogHuber, Objective
from jaxscale._runs import Runs

Selection = Mapping[str, Any | Callable[[Runs], Any]]


class Subset(NamedTuple):
    """What one cleaning leaves: a weight for every run, shape (runs,), 0 for those left out."""

    selection: str
    drop: int
    weight: np.ndarray


def laws_of(law: Law | Sequence[Law]) -> list[Law]:
    """One law or several as a list.

    Raises:
        LawError: if there is none, or two have one name.
    """
    laws = [law] if isinstance(law, Law) else list(law)
    if not laws or len({one.name for one in laws}) < len(laws):
        raise LawError("a multiverse needs at least one law, and laws of different names")
    return laws


def objectives_of(objective: Any, delta: Any) -> list[list[Objective]]:
    """All objectives, those of one class together: they differ in numbers only.

    Args:
        objective: an objective, several, or None.
        delta: thresholds of further `LogHuber` objectives; 1e-3 if both are None.

    Raises:
        DataError: if there is none, or one is there twice.
    """
    if objective is None and delta is None:
        delta = 1e-3
    found = [objective] if isinstance(objective, Objective) else list(objective or ())
    found += [] if delta is None else [LogHuber(float(d)) for d in np.atleast_1d(delta)]
    if not found or len(set(map(repr, found))) < len(found):
        raise DataError("a multiverse needs at least one objective, and none of them twice")
    kinds = dict.fromkeys(type(one) for one in found)
    return [[one for one in found if type(one) is kind] for kind in kinds]


def subsets_of(runs: Runs, drop: Any, selection: Selection | None) -> list[Subset]:
    """Every selection of runs, each without its `k` highest losses, for every `k` in `drop`.

    Raises:
        DataError: for a stack, a selection that is no mask over the runs, or more losses to drop
            than it has.
    """
    if runs.sets is not None:
        raise DataError("choose one data set of the stack first: multiverse(runs[name], ...)")
    drops = dict.fromkeys(int(k) for k in np.atleast_1d(drop))
    masks = {"all": np.ones(len(runs), bool)} if selection is None else dict(selection)
    if not drops or not masks:
        raise DataError("drop and selection need at least one choice each")
    each = {name: _mask(runs, name, mask) for name, mask in masks.items()}
    return [Subset(name, k, _kept(runs, each[name], name, k)) for name in each for k in drops]


def _mask(runs: Runs, name: str, mask: Any) -> np.ndarray:
    found = np.asarray(mask(runs) if callable(mask) else mask)
    if found.dtype != bool or found.shape != (len(runs),):
        raise DataError(
            f"the selection {name!r} must be a boolean mask over the {len(runs)} runs, got "
            f"{found.dtype} of shape {found.shape}"
        )
    return found


def _kept(runs: Runs, mask: np.ndarray, name: str, drop: int) -> np.ndarray:
    """Weights without the runs outside the mask and the highest losses of those inside."""
    weight = np.where(mask, np.asarray(runs.weight, float), 0.0)
    inside = np.flatnonzero(weight > 0)
    if not 0 <= drop < len(inside):
        raise DataError(
            f"cannot drop the {drop} highest losses of the {len(inside)} runs of {name!r}"
        )
    order = inside[np.argsort(np.asarray(runs.loss)[inside], kind="stable")]
    weight[order[len(order) - drop :]] = 0.0
    return weight
