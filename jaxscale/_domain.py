"""Are the numbers ones that the law and the objective are defined for?"""

from typing import Any

import numpy as np

from jaxscale._errors import DataError, LawError
from jaxscale._law import Law
from jaxscale._objective import Objective
from jaxscale._runs import Runs


def refuse_missing(law: Law, runs: Runs) -> None:
    """Refuse runs that lack an input of the law.

    Raises:
        LawError: naming what is missing.
    """
    missing = [name for name in law.inputs if name not in runs.inputs]
    if missing:
        raise LawError(
            f"law {law.name!r} needs the inputs {', '.join(law.inputs)}; {runs.source} lacks "
            f"{', '.join(missing)} (pass its column by name, such as {missing[0]}='column')"
        )


def refuse_outside(law: Law, objective: Objective, runs: Runs) -> None:
    """Refuse runs with an input outside the law's range, or a loss that the objective cannot take.

    Raises:
        DataError: naming the row and the input.
    """
    real = np.asarray(runs.weight) > 0
    checks = [(name, runs.inputs[name], law.about(name)) for name in law.inputs]
    for name, values, about in checks:
        what = f"{name} ({about.counts})" if about.counts else name
        _refuse(runs, real & ~about.allows(values), values, what, about.must)
    loss = np.asarray(runs.loss)
    _refuse(runs, real & ~objective.check(loss), loss, "loss", f"{objective.must} for {objective}")


def _refuse(runs: Runs, bad: np.ndarray, values: Any, what: str, must: str) -> None:
    if not bad.any():
        return
    at = tuple(np.argwhere(bad)[0])
    source = runs.source if runs.sets is None else runs.sets[at[0]]
    raise DataError(
        f"{source}: row {np.asarray(runs.row)[at]} has {np.asarray(values)[at]:g} as {what}; "
        f"it must {must}"
    )
