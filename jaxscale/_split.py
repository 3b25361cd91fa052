"""top() and split_top(): the largest runs, held out to see how a law extrapolates to them."""

from typing import Any

import numpy as np

from jaxscale._errors import DataError
from jaxscale._runs import Runs
from jaxscale._sizes import SAME_SIZE, counted, sizes


def split_top(runs: Runs, *, by: Any = None, share: float = 0.2) -> tuple[Runs, Runs]:
    """The smaller runs, to fit, and the largest `share` of them, to predict.

    Runs within 1% of the smallest run that is held out are held out, too, so that no budget is cut
    in two: the largest part may be a little more than `share`.

    Args:
        runs: one table. Runs of weight zero are in neither part.
        by: what orders the runs: ``"flop"`` for 6 N D, an input, or numbers, one per run; None
            stands for 6 N D or else the only input.
        share: of the runs, to hold out, between 0 and 1.

    Raises:
        DataError: for a share outside 0 to 1, or if all runs are of one size.

    Example:
        >>> train, far = split_top(runs, by="flop", share=0.2)
        >>> compare({"chinchilla": fit(laws.chinchilla, train, key=key)}, holdout=far)
    """
    if not 0 < share < 1:
        raise DataError(f"share must lie between 0 and 1, got {share}")
    size, real = sizes(runs, by), counted(runs)
    ranked = np.sort(size[real])
    # Rounding must not turn 20% of 15 runs into 4.
    wanted = max(1, int(np.ceil(share * len(ranked) - 1e-9)))
    held = real & (size >= (1 - SAME_SIZE) * ranked[-wanted])
    if (held == real).all():
        raise DataError(f"{runs.source}: the runs are too much of one size to hold some out")
    return runs.take(real & ~held), runs.take(held)


def top(runs: Runs, *, by: Any = None, share: float = 0.2) -> Runs:
    """The largest `share` of the runs; see `split_top`, which gives the others, too.

    Example:
        >>> compare({"chinchilla": one, "kaplan": other}, holdout=top(runs, by="flop", share=0.2))
    """
    return split_top(runs, by=by, share=share)[1]
