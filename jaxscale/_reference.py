"""Reference units: each input divided by its geometric mean over the runs, the loss by its own.

In these units ``A / N^alpha`` becomes the loss attributed to the typical model, of order one
whatever the unit of N. Fits, starts and priors live there; nothing a user sees does.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxscale._evaluate import Rows
from jaxscale._law import Law
from jaxscale._runs import Runs


def log_references(law: Law, runs: Runs) -> dict[str, Any]:
    """Log of the reference value of ``loss`` and of every input that the law lets rescale.

    Each has shape () or, for a stack, (sets,). Computed in float64 whatever JAX's precision.
    """
    columns = {**runs.inputs, "loss": runs.loss}
    return {
        name: np.average(np.log(columns[name]), weights=runs.weight, axis=-1)
        for name in (*law.inputs, "loss")
        if name in law.scaled
    }


def reference_rows(law: Law, runs: Runs, log_refs: dict[str, Any]) -> Rows:
    """The runs in reference units, in JAX's default precision."""

    def scaled(name: str) -> Any:
        if name not in log_refs:
            return runs.inputs[name]
        return runs.inputs[name] / np.exp(np.expand_dims(log_refs[name], -1))

    shape = np.shape(runs.loss)[:-1]
    return Rows(
        inputs=tuple(jnp.asarray(scaled(name), float) for name in law.inputs),
        loss=jnp.asarray(runs.loss, float),
        weight=jnp.asarray(runs.weight, float),
        log_loss_ref=jnp.asarray(log_refs.get("loss", np.zeros(shape)), float),
    )
