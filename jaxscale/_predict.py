"""predict(): the loss of runs that have not been trained."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._bands import bands
from jaxscale._draws import as_draws
from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit
from jaxscale._traced import is_traced

# Single precision may round the largest size seen to a little more: that is no extrapolation.
_SAME = 1e-6


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


def predict(source: Any, *, level: float = 0.9, **inputs: Any) -> Prediction:
    """Predicted loss at new inputs, with equal-tailed bands if the source carries uncertainty.

    The band of the law holds the quantiles of the law over the draws. The band of a new run holds
    those of the mixture over the draws of the law plus the noise of a run (`Draws.run_noise`), by
    bisection on its distribution function: there is nothing random in it.

    Args:
        source: a fit of one data set, its `Draws`, or a result that has ``draws``. A `Fit` alone
            carries no bands.
        level: probability content of each band.
        **inputs: a number or array for every input of the law, in the units of the data.

    Raises:
        LawError: if an input is missing or unknown, or if most draws give no finite loss there.
        DataError: if an input is outside the range of the law, or for a level outside 0 to 1.

    Example:
        >>> predict(boot, N=70e9, D=1.4e12, level=0.9).frame()
    """
    draws = as_draws(source)
    fit = source if draws is None else draws.fit
    arrays = checked_inputs(fit, inputs)
    mean = fit.law(*arrays.values(), **fit.params)
    notes = extrapolation_notes(fit, arrays)
    if draws is None:
        return Prediction(inputs=arrays, mean=mean, notes=notes)
    flat = {name: jnp.ravel(values) for name, values in arrays.items()}
    found, lost = bands(draws, flat, level)

    def shaped(values: Any) -> Any:
        return jnp.reshape(values, mean.shape)

    return Prediction(
        inputs=arrays,
        mean=mean if draws.center == "fit" else shaped(getattr(found, draws.center)),
        law_low=shaped(found.law[0]),
        law_high=shaped(found.law[1]),
        run_low=shaped(found.run[0]),
        run_high=shaped(found.run[1]),
        level=level,
        notes=tuple(filter(None, (draws.doubt, *notes, *lost, *draws.notes))),
    )


def checked_inputs(fit: Fit, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs in the order of the law, broadcast against each other."""
    law = fit.law
    if fit.sets is not None:
        raise DataError(f"choose one data set first, such as fit[{fit.sets[0]!r}]")
    if set(inputs) != set(law.inputs):
        raise LawError(
            f"law {law.name!r} needs the inputs {', '.join(law.inputs)}; "
            f"got {', '.join(inputs) or 'none'}"
        )
    values = jnp.broadcast_arrays(*(jnp.asarray(inputs[name], float) for name in law.inputs))
    for name, array in zip(law.inputs, values, strict=True):
        about = law.about(name)
        if not is_traced(array) and not about.allows(array).all():
            bad = np.ravel(array)[~np.ravel(about.allows(array))][0]
            raise DataError(f"{name} must {about.must}, got {float(bad):g}")
    return dict(zip(law.inputs, values, strict=True))


def extrapolation_notes(source: Fit, inputs: dict[str, Any]) -> tuple[str, ...]:
    """Say how far beyond the data the inputs lie."""
    notes = []
    for name, values in inputs.items():
        if is_traced(values):
            continue
        low, high = float(np.min(np.asarray(values))), float(np.max(np.asarray(values)))
        seen_low, seen_high = map(float, source.ranges[name])
        if high > seen_high + _SAME * abs(seen_high):
            by = f"{high / seen_high:.3g} times" if seen_high > 0 else "above"
            notes.append(
                f"{name} = {high:.4g} is {by} the largest {name} in the data ({seen_high:.4g})."
            )
        if low < seen_low - _SAME * abs(seen_low):
            by = f"{seen_low / low:.3g} times below" if low > 0 else "below"
            notes.append(
                f"{name} = {low:.4g} is {by} the smallest {name} in the data ({seen_low:.4g})."
            )
    if not source.verdict.ok:
        notes.append(f"The fit itself is in doubt: {source.verdict}")
    return tuple(notes)
