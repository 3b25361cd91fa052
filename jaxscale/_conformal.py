"""Bands from past extrapolations: how wrong was the law when it had to predict larger runs?

Residuals of a fit say little about extrapolation. Here the largest runs are left out, again and
again, and predicted from the smaller ones; these errors calibrate the band of a prediction.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._draws import tails
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._law import physical_params
from jaxscale._predict import Prediction, predict
from jaxscale._refit import refit_sets, single_fit
from jaxscale._sizes import RUNS_PER_PARAMETER, kept_below


def extrapolation_residuals(fit: Fit, *, by: str = "flop", cuts: Any = None) -> pd.DataFrame:
    """r = log predicted - log observed of runs above a cut, predicted from the runs below it.

    For each cut all runs above it are dropped and the law is fitted again, all cuts in one batch
    that starts at the optimum of the fit. Cuts that leave fewer than three runs per parameter are
    skipped.

    Args:
        fit: a fit of one data set, with its runs.
        by: the scale along which runs are left out: ``"flop"`` for 6 N D, or an input.
        cuts: largest values kept, in the unit of `by`; default up to 8 between the runs, even in
            rank.

    Returns:
        One row per cut and predicted run: cut, row (its number in the table), distance
        (log10 of its value over the largest one kept), predicted, observed, residual.

    Raises:
        DataError: if no cut leaves enough runs below it and one above it, or for a stack.

    Source: rolling-origin evaluation, Tashman 2000, doi 10.1016/S0169-2070(00)00065-0.

    Example:
        >>> extrapolation_residuals(fit, by="flop", cuts=[1e20, 3e20])
    """
    runs = single_fit(fit)
    scale = scale_of(fit, by, runs.inputs)
    weight = np.asarray(runs.weight, float)
    kept = kept_below(scale, weight, RUNS_PER_PARAMETER * len(fit.law.params), cuts, by)
    refits = refit_sets(fit, weight=np.where(kept, weight, 0.0))
    if not np.isfinite(refits.value).all():
        raise DataError(f"the law cannot be fitted below some cut in {by}; give larger cuts")
    params = physical_params(fit.law, refits.theta, fit.log_refs)
    inputs = [jnp.asarray(runs.inputs[name]) for name in fit.law.inputs]
    columns = {name: jnp.asarray(value)[:, None] for name, value in params.items()}
    predicted = np.asarray(fit.law(*inputs, **columns))
    cut = np.where(kept, scale, -np.inf).max(axis=1)
    i, j = np.nonzero(~kept & (weight > 0))
    loss = np.asarray(runs.loss, float)[j]
    return pd.DataFrame(
        {
            "cut": cut[i],
            "row": np.asarray(runs.row)[j],
            "distance": np.log10(scale[j] / cut[i]),
            "predicted": predicted[i, j],
            "observed": loss,
            "residual": np.log(np.maximum(predicted[i, j], 1e-300)) - np.log(loss),
        }
    )


def scale_of(fit: Fit, by: str, inputs: Any) -> np.ndarray:
    """The value of every run, or of new inputs, on the scale of extrapolation."""
    if by != "flop" and by not in fit.law.inputs:
        raise DataError(f"by must be 'flop' or one of {', '.join(fit.law.inputs)}, not {by!r}")
    if by == "flop" and not {"N", "D"} <= set(inputs):
        raise DataError(f"law {fit.law.name!r} has no N and D; give by={fit.law.inputs[0]!r}")
    if by != "flop":
        return np.asarray(inputs[by], float)
    return 6 * np.asarray(inputs["N"], float) * np.asarray(inputs["D"], float)


def conformal(
    fit: Fit,
    residuals: pd.DataFrame,
    *,
    level: float = 0.9,
    rho: float = 0.5,
    by: str = "flop",
    **inputs: Any,
) -> Prediction:
    """exp(log predicted +- q), q the weighted `level` quantile of past |r|, one mass at infinity.

    Weights are rho**|distance - distance_i| for a prediction at log10 distance beyond the largest
    run; the new run itself has weight one, at infinity. With ``rho = 1`` this is split conformal
    prediction: if past and new residuals are exchangeable, a new run lies in the band with
    probability `level` or more, whatever the law and the noise. Where the past residuals weigh too
    little, the band is infinite, and the notes say so. Residuals of one run under several cuts,
    and of one refit, are not independent: judge the band by `coverage_by_distance`.

    Args:
        fit: the fit whose prediction gets the band.
        residuals: what `extrapolation_residuals` returns, or a table with the columns distance and
            residual.
        level: probability content of the band.
        rho: how much a past residual counts that lies one decade nearer or farther, in (0, 1].
        by: the scale of the distances, as in `extrapolation_residuals`.
        **inputs: as for `predict`.

    Returns:
        A `Prediction` with the band of a new run.

    Raises:
        DataError: for a missing column, a distance or residual that is not finite, no residual at
            all, or `rho` outside (0, 1].

    Source: Vovk, Gammerman & Shafer 2005; weights: Barber et al. 2023, arXiv 2202.13415.

    Example:
        >>> conformal(fit, extrapolation_residuals(fit), level=0.9, N=70e9, D=1.4e12)
    """
    tails(level)
    if not 0 < rho <= 1:
        raise DataError(f"rho must lie in (0, 1], got {rho}")
    size, place = _past(residuals)
    point = predict(fit, **inputs)
    scale = scale_of(fit, by, point.inputs)
    runs = fit.ranges if fit.runs is None else fit.runs.inputs
    seen = scale_of(fit, by, runs)
    if fit.runs is not None:
        seen = seen[np.asarray(fit.runs.weight) > 0]
    distance = np.maximum(np.log10(scale / seen.max()), 0.0)
    weight = rho ** np.abs(distance[..., None] - place)
    half = _quantile(size, weight, level)
    return Prediction(
        inputs=point.inputs,
        mean=point.mean,
        run_low=point.mean * np.exp(-half),
        run_high=point.mean * np.exp(half),
        level=level,
        notes=(*point.notes, *_notes(weight, half, distance, place, level)),
    )


def _past(residuals: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of the past residuals, ascending, and their distances."""
    size, place = np.abs(_column(residuals, "residual")), _column(residuals, "distance")
    if not size.size:
        raise DataError("there is no past residual")
    order = np.argsort(size)
    return size[order], place[order]


def _column(residuals: pd.DataFrame, name: str) -> np.ndarray:
    """A column of finite numbers."""
    if name not in residuals.columns:
        raise DataError(f"the table of past residuals needs the column {name!r}")
    values = pd.to_numeric(residuals[name], errors="coerce").to_numpy(float)
    lost = int((~np.isfinite(values)).sum())
    if lost:
        raise DataError(
            f"the column {name!r} of the past residuals must hold finite numbers; {lost} of "
            f"{len(values)} are none"
        )
    return values


def _quantile(size: np.ndarray, weight: np.ndarray, level: float) -> np.ndarray:
    """Least size whose share of the weight, with one more at infinity, reaches `level`."""
    share = np.cumsum(weight, axis=-1) / (1 + weight.sum(axis=-1, keepdims=True))
    index = (share < level - 1e-12).sum(axis=-1)
    return np.append(size, np.inf)[index]


def _notes(
    weight: np.ndarray, half: np.ndarray, distance: np.ndarray, place: np.ndarray, level: float
) -> tuple[str, ...]:
    counts = weight.sum(axis=-1) ** 2 / (weight**2).sum(axis=-1)
    notes = [
        f"The band rests on {weight.shape[-1]} past residuals, in effect {counts.min():.3g} at "
        "the farthest point."
    ]
    if np.max(distance) > place.max() + 1e-9:
        notes.append(
            f"No past residual lies as far as 10^{np.max(distance):.2g} times the largest run; the "
            f"farthest lies at 10^{place.max():.2g}."
        )
    if np.isinf(half).any():
        needed = level / (1 - level)
        notes.append(
            f"The band is infinite where the past residuals weigh less than {needed:.3g} together "
            f"(least: {weight.sum(axis=-1).min():.3g}): too few, or too far away, for a level of "
            f"{level:.0%}."
        )
    return tuple(notes)
