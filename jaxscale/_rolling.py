"""Rolling origin: fits to the smaller runs, and their intervals for the larger ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._bootstrap import draws_of, finite_refits, pairs_weights
from jaxscale._clusters import real_codes
from jaxscale._draws import Draws
from jaxscale._errors import DataError, FitError, LawError
from jaxscale._fit import Fit
from jaxscale._interval_method import IntervalMethod, method_key
from jaxscale._laplace import laplace
from jaxscale._left_out import COLD_STARTS, LeftOut, part_fit, predict_left_out, refit_parts
from jaxscale._predict import predict
from jaxscale._refit import inflation, refit_sets, single_fit

METHODS = ("hessian", "HC1", "HC3", "cluster", "pairs", "cluster pairs")
CLUSTERED = ("cluster", "cluster pairs")
_BOOTSTRAPS = ("pairs", "cluster pairs")
# Weights of so many resamples and runs are held at once: it bounds the memory.
_MOST_CELLS = 20_000_000


class Asked(NamedTuple):
    """What a backtest asks of every law."""

    methods: tuple[str, ...]
    own: dict[str, IntervalMethod]
    level: float
    resamples: int
    by: Any  # of the clusters
    key: jax.Array

    def work(self, cuts: int) -> int:
        """Starts and resamples of one law."""
        boots = sum(method in _BOOTSTRAPS for method in self.methods)
        return cuts * (1 + COLD_STARTS + boots * self.resamples)


class Rolled(NamedTuple):
    """The tables of one law: predictions, and their intervals by every method."""

    errors: pd.DataFrame
    bands: pd.DataFrame
    notes: tuple[str, ...]


def roll(
    name: str,
    fit: Fit,
    size: np.ndarray,
    kept: np.ndarray,
    asked: Asked,
    tick: Callable[[int], None],
) -> Rolled:
    """Fit a law to the runs below every cut, and predict those above it.

    Args:
        name: of the law in the tables.
        fit: to all runs; every refit shares its reference units and starts at its optimum, too.
        size: of every run, shape (runs,).
        kept: runs below each cut, (cuts, runs).
        asked: methods and their settings.
        tick: called with the number of finished starts.
    """
    start_key, draw_key = jax.random.split(asked.key)
    left = predict_left_out(fit, kept, refit_parts(fit, kept, key=start_key, tick=tick))
    runs = single_fit(fit)
    real = np.asarray(runs.weight) > 0
    cut = np.where(kept, size, -np.inf).max(axis=1)
    i, j = np.nonzero(~kept & real)
    loss = np.asarray(runs.loss, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        residual = np.log(left.predicted) - np.log(loss)
    common = {
        "law": name,
        "cut": cut[i],
        "row": np.asarray(runs.row)[j],
        "distance": np.log10(size[j] / cut[i]),
        "predicted": left.predicted[i, j],
        "observed": loss[j],
    }
    errors = pd.DataFrame({**common, "kept": kept.sum(axis=1)[i], "residual": residual[i, j]})
    parts = [
        part_fit(fit, kept[k], left.refits.theta[k], left.refits.value[k], left.refits.converged[k])
        for k in range(len(kept))
    ]
    tables, notes = [], []
    for method in asked.methods:
        draws = _draws(method, fit, parts, kept, left, asked, method_key(draw_key, method), tick)
        ends = [_band(each, runs.inputs, asked.level) for each in draws]
        low, high = (np.stack([end[side] for end in ends]) for side in (0, 1))
        tables.append(
            pd.DataFrame({**common, "method": method, "low": low[i, j], "high": high[i, j]})
        )
        lost = int(np.isnan(low).any(axis=1).sum())
        if lost:
            notes.append(f"{name}: no {method} interval below {lost} of {len(kept)} cuts.")
    stopped = int((~left.refits.converged).sum())
    if stopped:
        notes.append(f"{name}: {stopped} of {len(kept)} refits did not converge.")
    columns = [*common, "method", "low", "high"]
    bands = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    return Rolled(errors, bands, tuple(notes))


def _draws(
    method: str,
    fit: Fit,
    parts: list[Fit],
    kept: np.ndarray,
    left: LeftOut,
    asked: Asked,
    key: jax.Array,
    tick: Callable[[int], None],
) -> list[Draws | None]:
    """Draws around the fit below every cut; None where they cannot be had."""
    if method in asked.own:
        return [_own(asked.own[method], part, key) for part in parts]
    if method in _BOOTSTRAPS:
        return _pairs(method, fit, parts, kept, left, asked, key, tick)
    clustered = method in CLUSTERED
    found: list[Draws | None] = []
    for part in parts:
        try:
            by = asked.by if clustered else None
            found.append(
                laplace(part, cov=method, by=by, draws=asked.resamples).draws  # type: ignore[arg-type]
            )
        except (FitError, DataError):
            found.append(None)
    return found


def _pairs(
    method: str,
    fit: Fit,
    parts: list[Fit],
    kept: np.ndarray,
    left: LeftOut,
    asked: Asked,
    key: jax.Array,
    tick: Callable[[int], None],
) -> list[Draws | None]:
    """Resamples of the runs below all cuts, refitted in as few batches as memory allows."""
    runs, n = single_fit(fit), asked.resamples
    codes = real_codes(runs, asked.by) if method in CLUSTERED else None
    keys = jax.random.split(key, len(parts))
    most = max(1, _MOST_CELLS // (n * len(runs)))
    found: list[Draws | None] = []
    for first in range(0, len(parts), most):
        some = range(first, min(first + most, len(parts)))
        weight = [
            pairs_weights(np.asarray(single_fit(parts[k]).weight), codes, n, keys[k]) for k in some
        ]
        starts = np.repeat(left.refits.theta[list(some)], n, axis=0)[:, None]
        again = refit_sets(fit, weight=np.concatenate(weight), starts=starts, tick=tick)
        for i, k in enumerate(some):
            mine = type(again)(*(x[i * n : (i + 1) * n] for x in again))
            good = finite_refits(parts[k], mine)
            usable = good.sum() > n / 2
            found.append(draws_of(parts[k], method, mine, good) if usable else None)
    return found


def _own(method: IntervalMethod, part: Fit, key: jax.Array) -> Draws | None:
    """Draws by a method of the user's own, for one table."""
    given = method(part, np.asarray(single_fit(part).loss, float)[None], key=key)
    missing = [name for name in part.law.names if name not in given]
    if missing:
        raise DataError(f"{method.name} gives no draws of {', '.join(missing)}")
    params = {name: np.asarray(given[name], float)[0] for name in part.law.names}
    if not all(np.isfinite(x).all() for x in params.values()):
        return None
    scale = np.full(len(params[part.law.names[0]]), part.noise_scale() * inflation(part))
    return Draws(fit=part, method=method.name, params=params, scale=scale)


def _band(draws: Draws | None, inputs: Any, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the band of a new run at every run of the table; NaN where there is none."""
    names = next(iter(inputs))
    nothing = np.full(len(inputs[names]), np.nan)
    if draws is None:
        return nothing, nothing
    try:
        at = {name: jnp.asarray(inputs[name]) for name in draws.law.inputs}
        band = predict(draws, level=level, **at)
    except LawError:
        return nothing, nothing
    return np.asarray(band.run_low), np.asarray(band.run_high)
