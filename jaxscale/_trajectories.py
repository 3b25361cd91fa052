"""A table of checkpoints as models of growing size, each trained for longer and longer."""

from typing import NamedTuple

import numpy as np

from jaxscale._clusters import cluster_codes
from jaxscale._errors import DataError, IdentificationError
from jaxscale._identify import refuse_unidentified
from jaxscale._law import Law
from jaxscale._runs import Runs
from jaxscale._sizes import counted


class Trajectories(NamedTuple):
    """Models from small to large, and which runs are to be predicted.

    Attributes:
        model: number of the model of every run, 0 for the smallest, shape (runs,).
        size: of every model, (models,).
        share: of its model's training that every run has seen, in (0, 1], (runs,).
        target: the late runs of the largest model, (runs,).
        least: runs that are too early to use, such as those of a warm-up, (runs,).
    """

    model: np.ndarray
    size: np.ndarray
    share: np.ndarray
    target: np.ndarray
    early: np.ndarray

    def seen(self, models: int, share: float) -> np.ndarray:
        """Runs of the smallest models up to a share of their training, (runs,)."""
        used = (self.model >= 0) & (self.model < min(models, len(self.size) - 1))
        return np.asarray(used & (self.share <= share * (1 + 1e-9)) & ~self.early)


def trajectories(
    runs: Runs, *, size: str, along: str, target_share: float, least: float
) -> Trajectories:
    """The models of a table: the clusters that its runs carry, or runs of one size.

    Args:
        runs: one table of checkpoints.
        size: the input that makes a model large.
        along: the input that grows with training.
        target_share: of the training of the largest model, counted from its end, to predict.
        least: smallest `along` that is used.

    Raises:
        DataError: for inputs that are not there, or fewer than two models.
    """
    for name in (size, along):
        if name not in runs.inputs:
            raise DataError(
                f"{runs.source}: there is no input {name!r}; there are {', '.join(runs.inputs)}"
            )
    if not 0 < target_share <= 1:
        raise DataError(f"target_share must lie between 0 and 1, got {target_share}")
    codes = cluster_codes(runs, size if runs.cluster is None else "cluster")
    real = counted(runs)
    sizes, training = (np.asarray(runs.inputs[name], float) for name in (size, along))
    known = np.unique(codes[real])
    means = np.array([sizes[real & (codes == c)].mean() for c in known])
    order = np.argsort(means, kind="stable")
    model = np.full(len(runs), -1)
    share = np.zeros(len(runs))
    for i, code in enumerate(known[order]):
        mine = real & (codes == code)
        model[mine] = i
        share[mine] = training[mine] / training[mine].max()
    early = training < least
    late = share > (1 - target_share) * (1 + 1e-9)
    target = (model == len(known) - 1) & late & ~early
    return Trajectories(model, means[order], share, target, early)


def determined(law: Law, runs: Runs) -> bool:
    """Whether the runs can determine the law at all."""
    try:
        refuse_unidentified(law, runs)
    except IdentificationError:
        return False
    return True
