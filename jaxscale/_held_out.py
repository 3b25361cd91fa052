"""How laws predict runs that are held out, after refits without those that they have seen."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._comparison import Part
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._left_out import log_density, predict_at, predict_left_out, refit_parts
from jaxscale._refit import single_fit
from jaxscale._runs import Runs
from jaxscale._sizes import counted
from jaxscale.scores import stacking_weights, standard_error

_ERRORS = 2.0  # standard errors that make a difference
_CLOSE = 0.2  # relative difference of mean squares that one refit of each law cannot tell


def by_holdout(
    fits: Mapping[str, Fit],
    holdout: Runs,
    key: jax.Array | None,
    tick: Callable[[int], None],
) -> Part:
    if holdout.sets is not None:
        raise DataError("holdout must be one table of runs, not a stack")
    far = holdout.take(counted(holdout))
    found, notes = [], []
    for name, fit in fits.items():
        missing = [x for x in fit.law.inputs if x not in far.inputs]
        if missing:
            raise DataError(f"the held-out runs lack the input {missing[0]!r} of {name}")
        error, density, predicted, again = _on_holdout(fit, far, key, tick)
        found.append((error, density, predicted))
        if again:
            notes.append(
                f"{name} was fitted again without {again} held-out runs for its error on them."
            )
    error, density, predicted = (np.stack(x, axis=1) for x in zip(*found, strict=True))
    square = error**2
    best = int(np.argmin(square.mean(axis=0)))
    least = square[:, best].mean()
    with np.errstate(invalid="ignore"):  # a law without a loss somewhere is infinitely wrong
        worse = square - square[:, [best]]
        spread = standard_error(worse, _blocks(far)) / len(square)
        tied = worse.mean(axis=0) < np.fmax(_ERRORS * spread, _CLOSE * least)
    weights = (
        stacking_weights(density) if np.isfinite(density).all() else np.full(len(fits), np.nan)
    )
    columns = {
        "holdout_rms": np.sqrt(square.mean(axis=0)),
        "holdout_bias": error.mean(axis=0),
        "holdout_score": density.mean(axis=0),
    }
    points = pd.DataFrame(
        {
            "row": np.asarray(far.row),
            **far.inputs,
            "loss": far.loss,
            **dict(zip(fits, predicted.T, strict=True)),
        }
    )
    if len(fits) > 1:
        notes.append(
            f"The {len(far)} held-out runs share the error of one fit of each law, so that ties "
            "are judged roughly."
        )
    return Part(
        "holdout",
        columns,
        square.mean(axis=0),
        tied,
        weights,
        "stacking weights of held-out runs",
        points,
        tuple(notes),
    )


def _on_holdout(
    fit: Fit, far: Runs, key: jax.Array | None, tick: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Log error, log density and prediction of every held-out run, and how many had been seen."""
    runs = single_fit(fit)
    known = _known(fit, runs, far)
    seen = (counted(runs) & ~known)[None]
    if seen.sum() < len(fit.law.params):
        raise DataError(
            f"without the held-out runs, {int(seen.sum())} are left, fewer than the "
            f"{len(fit.law.params)} parameters of {fit.law.name!r}: hold out less"
        )
    refits = refit_parts(fit, seen, key=key, tick=tick)
    scale = predict_left_out(fit, seen, refits).scale
    predicted = predict_at(fit, refits.theta, far)[0]
    loss = np.asarray(far.loss, float)
    residual = np.asarray(fit.objective.residual(jnp.asarray(predicted), jnp.asarray(loss)))
    density = log_density(fit, residual[None], scale, loss)[0]
    with np.errstate(invalid="ignore"):
        error = np.log(predicted) - np.log(loss)
    return np.where(np.isfinite(error), error, np.inf), density, predicted, int(known.sum())


def _known(fit: Fit, runs: Runs, far: Runs) -> np.ndarray:
    """Which runs of a fit are among those held out: equal in loss and in every input."""

    def rows(table: Runs) -> np.ndarray:
        columns = [np.asarray(table.inputs[name], float) for name in fit.law.inputs]
        return np.stack([*columns, np.asarray(table.loss, float)], axis=1)

    held = {tuple(row) for row in rows(far)}
    return np.array([tuple(row) in held for row in rows(runs)]) & counted(runs)


def _blocks(far: Runs) -> np.ndarray:
    """Runs of one size share more of the error: the first input that repeats, or all alone."""
    for values in far.inputs.values():
        codes = np.unique(np.round(np.log(np.asarray(values, float)) / 0.01), return_inverse=True)[
            1
        ]
        if 1 < codes.max() + 1 <= 0.5 * len(codes):
            return np.asarray(codes)
    return np.arange(len(far))
