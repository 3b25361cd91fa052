"""predict(): the loss of runs that have not been trained."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Predicted losses.

    The band of the law says where the law's loss lies; the band of a run adds the scatter of one
    new run. They answer different questions and are kept apart.

    Attributes:
        inputs: the inputs asked for, broadcast against each other.
        mean: predicted loss.
        law_low, law_high: band of the law, or None if the source carries no uncertainty.
        run_low, run_high: band of a new run, or None likewise.
        level: probability content of both bands, or None.
        notes: what to know before using the numbers.
    """

    inputs: dict[str, Any]
    mean: Any
    law_low: Any = None
    law_high: Any = None
    run_low: Any = None
    run_high: Any = None
    level: float | None = None
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """One row per prediction: inputs, loss, and the bands that exist."""
        columns = {**self.inputs, "loss": self.mean}
        bands = ("law_low", "law_high", "run_low", "run_high")
        columns |= {name: getattr(self, name) for name in bands if getattr(self, name) is not None}
        return pd.DataFrame({name: np.ravel(np.asarray(x)) for name, x in columns.items()})

    def __repr__(self) -> str:
        table = self.frame().to_string(index=False, float_format=lambda x: f"{x:.6g}")
        return "\n".join([table, *self.notes])


def predict(source: Fit, **inputs: Any) -> Prediction:
    """Predicted loss at new inputs.

    Args:
        source: a fit of one data set. A `Fit` alone carries no bands.
        **inputs: a number or array for every input of the law, in the units of the data.

    Raises:
        LawError: if an input is missing or unknown.
        DataError: if an input is not positive and finite.

    Example:
        >>> predict(fit, N=70e9, D=1.4e12).frame()
    """
    law = source.law
    if source.sets is not None:
        raise DataError(f"choose one data set first, such as fit[{source.sets[0]!r}]")
    if set(inputs) != set(law.inputs):
        raise LawError(
            f"law {law.name!r} needs the inputs {', '.join(law.inputs)}; "
            f"got {', '.join(inputs) or 'none'}"
        )
    arrays = dict(
        zip(
            law.inputs,
            jnp.broadcast_arrays(*(jnp.asarray(inputs[name], float) for name in law.inputs)),
            strict=True,
        )
    )
    for name, values in arrays.items():
        _refuse_nonpositive(name, values)
    return Prediction(
        inputs=arrays,
        mean=law(*arrays.values(), **source.params),
        notes=extrapolation_notes(source, arrays),
    )


def is_traced(*values: Any) -> bool:
    """Whether any value is abstract: inside jit or grad there are no numbers to look at."""
    return any(isinstance(value, jax.core.Tracer) for value in values)


def _refuse_nonpositive(name: str, values: Any) -> None:
    if is_traced(values):
        return
    numbers = np.asarray(values)
    if not (np.isfinite(numbers) & (numbers > 0)).all():
        raise DataError(f"{name} must be positive and finite, got {numbers}")


def extrapolation_notes(source: Fit, inputs: dict[str, Any]) -> tuple[str, ...]:
    """Say how far beyond the data the inputs lie."""
    notes = []
    for name, values in inputs.items():
        if is_traced(values):
            continue
        low, high = float(np.min(np.asarray(values))), float(np.max(np.asarray(values)))
        seen_low, seen_high = map(float, source.ranges[name])
        if high > seen_high * (1 + 1e-9):
            notes.append(
                f"{name} = {high:.4g} is {high / seen_high:.3g} times the largest {name} in the "
                f"data ({seen_high:.4g})."
            )
        if low < seen_low * (1 - 1e-9):
            notes.append(
                f"{name} = {low:.4g} is {seen_low / low:.3g} times below the smallest {name} in "
                f"the data ({seen_low:.4g})."
            )
    if not source.verdict.ok:
        notes.append(f"The fit itself is in doubt: {source.verdict}")
    return tuple(notes)
