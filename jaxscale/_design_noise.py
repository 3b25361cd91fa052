"""The noise that runs to come will have: their own, and what runs of one cell share."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from jaxscale._bands import finite_draws
from jaxscale._clusters import equal_values, icc
from jaxscale._curvature import dispersion
from jaxscale._draws import Draws
from jaxscale._errors import DataError, FitError
from jaxscale._fit import Fit
from jaxscale._laplace import local_at
from jaxscale._objective import Objective
from jaxscale._refit import count_runs, fit_rows, single_fit
from jaxscale._run_noise import RunNoise

_REACH, _POINTS = 9.0, 20_001  # of a sum in place of an integral over standard deviations
# A share measured on fewer repeated runs than this is a guess.
_FEW_REPEATS = 3
_MOST_SHARED = 0.99
_MEMBERS = 64
_HALVINGS = 40


@dataclasses.dataclass(frozen=True)
class DesignNoise:
    """Residual of a run = its own (another seed differs) + that of its cell (another seed shares).

    A cell is one setting of the inputs, such as N and D. What its runs share is mostly where the
    law misses the truth. So n runs of a cell tell as much as one of variance
    ``cell^2 + run^2 / n``: repeating a run is worth less than running another one. Cells count as
    independent, so that candidates should be spaced by a factor of about 1.5 at least.

    Args:
        run: standard deviation of the residual of one run around its cell, in log loss unless the
            objective has another residual.
        cell: standard deviation of what the runs of a cell share.

    Raises:
        DataError: for a negative number, or no noise at all.

    Example:
        >>> DesignNoise(run=0.004, cell=0.012)
    """

    run: float
    cell: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("run", self.run), ("cell", self.cell)):
            if not (isinstance(value, int | float | np.number) and 0 <= value < math.inf):
                raise DataError(f"the noise of a {name} must be a standard deviation, got {value}")
        if not self.run > 0:
            raise DataError("runs without noise of their own need no plan; give run > 0")

    @property
    def sentence(self) -> str:
        """What a second seed is worth."""
        return worth_of_a_seed(self.run**2, self.cell**2)


def worth_of_a_seed(run: float, cell: float) -> str:
    """What a second run of a cell adds to the information of the first, in words."""
    more = (cell + run) / (cell + run / 2) - 1
    if cell == 0:
        return "A second seed is taken to tell as much as the first."
    return (
        f"A second seed of a run adds {more:.0%} to what the first tells: runs of one cell share "
        f"{cell / (cell + run):.0%} of their variance."
    )


class CellNoise(NamedTuple):
    """Noise of candidates, as variances that least squares would see.

    Attributes:
        run, cell: variance of a run around its cell, and of what the runs of a cell share, each a
            number or of shape (candidates,).
        notes: what to know about it.
    """

    run: Any
    cell: Any
    notes: tuple[str, ...]


def stated_noise(objective: Objective, noise: Any) -> CellNoise:
    """Normal noise of stated standard deviations, as the objective sees it.

    Args:
        objective: what the runs will be fitted with.
        noise: a `DesignNoise`, or the standard deviation of a run.
    """
    given = noise if isinstance(noise, DesignNoise) else DesignNoise(noise)
    if objective.outcomes:
        return CellNoise(given.run**2, given.cell**2, (given.sentence,))
    total = given.run**2 + given.cell**2
    lost = normal_variance(objective, math.sqrt(total)) / total
    notes = [given.sentence]
    if lost > 1.05:
        notes.append(
            f"{objective} uses {1 / lost:.0%} of the information that normal noise leaves to least "
            "squares."
        )
    return CellNoise(lost * given.run**2, lost * given.cell**2, tuple(notes))


def normal_variance(objective: Objective, scale: float) -> float:
    """``sd^4 E[psi^2] / E[r psi]^2``: variance that least squares would need to know as little.

    The asymptotic variance ``E[psi^2] / E[psi']^2`` of the objective's estimate of a location under
    normal noise, with ``E[psi'] = E[r psi] / sd^2`` (Stein), so that kinks do no harm.

    Source: Huber 1964, Annals of Mathematical Statistics 35, 73-101.
    """
    z = np.linspace(-_REACH, _REACH, _POINTS)
    density, r = np.exp(-0.5 * z**2), scale * z
    density /= density.sum()

    def slope(center: float) -> np.ndarray:
        return np.asarray(objective.weights(jnp.asarray(r - center))[0], float)

    ends = -_REACH * scale, _REACH * scale
    center = scipy.optimize.brentq(lambda c: float(density @ slope(c)), *ends)
    psi = slope(center)
    return float(scale**4 * (density @ psi**2) / (density @ (r * psi)) ** 2)


def measured_noise(fit: Fit, kind: str) -> CellNoise:
    """Noise of further runs like those of a fit.

    A run's variance is the one that the covariance of the estimates assumes: dispersion over mean
    curvature ("hessian"), or ``mean(psi^2) / mean(psi')^2`` (sandwiches). It is split into that of
    runs and of cells by the intraclass correlation of the cells that were run more than once.

    Args:
        fit: a fit of one data set, with its runs.
        kind: estimator of the covariance, see `laplace`.

    Raises:
        FitError: if the objective does not say how much a run tells.
    """
    rows, n, p = fit_rows(fit), count_runs(fit), len(fit.law.params)
    theta = jnp.asarray(fit.free, rows.loss.dtype)
    near = local_at(fit.law, fit.objective, theta, rows, None, None)
    weight = np.asarray(near.weight, float)
    bend = float(np.average(np.asarray(near.bend), weights=weight))
    slope = float(np.average(np.asarray(near.slope) ** 2, weights=weight))
    if not bend > 0:
        raise FitError(
            f"{fit.objective} has no curvature, so that it does not say how much a run tells"
        )
    corrected = n / max(n - p, 1)
    if kind != "hessian":
        total = corrected * slope / bend**2
    elif fit.objective.known:
        total = 1 / bend
    else:
        total = corrected * float(dispersion(fit.objective, fit.noise_scale())) / bend
    if fit.objective.outcomes:  # a new run stands for as many observations as a typical one
        total /= float(weight[weight > 0].mean())
    share, note = shared_in_cells(fit)
    return CellNoise((1 - share) * total, share * total, (note,))


def shared_in_cells(fit: Fit) -> tuple[float, str]:
    """Share of the residual variance that runs of one cell have in common, and what it says."""
    runs = single_fit(fit)
    codes = cell_codes({name: np.asarray(runs.inputs[name], float) for name in fit.law.inputs})
    real = np.asarray(runs.weight) > 0
    repeats = int(real.sum()) - len(np.unique(codes[real]))
    if repeats < _FEW_REPEATS or len(np.unique(codes[real])) < 2:
        return 0.0, (
            "Hardly any run has been repeated, so that nothing is known of what seeds share; a "
            "second seed is taken to tell as much as the first (noise=DesignNoise(run, cell))."
        )
    share = float(np.clip(icc(fit, codes).icc, 0.0, _MOST_SHARED))
    return share, worth_of_a_seed(1 - share, share)


def cell_codes(inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Codes 0 .. g - 1 of equal settings; positive inputs are equal up to gaps of 1%."""
    columns = [
        equal_values(np.log(x)) if (x > 0).all() else np.unique(x, return_inverse=True)[1]
        for x in inputs.values()
    ]
    return np.asarray(np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1]).ravel()


def drawn_noise(draws: Draws, inputs: dict[str, np.ndarray]) -> CellNoise:
    """Noise of a new run as draws know it: half the width of its central 68%, squared.

    It may depend on the size of the run, as in a posterior with `scale_by`.

    Args:
        draws: the draws.
        inputs: inputs of the candidates by name, each of shape (candidates,).
    """
    params, noise, _ = finite_draws(draws)
    some = thinned(len(next(iter(params.values()))), _MEMBERS)
    params = {name: np.asarray(x)[some] for name, x in params.items()}
    noise = jax.tree.map(lambda x: x[some] if np.ndim(x) else x, noise)
    points = tuple(jnp.asarray(inputs[name], float) for name in draws.law.inputs)
    width = np.asarray(_half_widths(draws.law, noise, params, points))
    if not np.isfinite(width).all() or not (width > 0).all():
        raise FitError("the draws do not say how much a run scatters; give noise=")
    share, note = 0.0, worth_of_a_seed(1.0, 0.0)
    if draws.runs is not None:
        share, note = shared_in_cells(draws.fit)
    return CellNoise((1 - share) * width**2, share * width**2, (note,))


def thinned(n: int, most: int) -> np.ndarray:
    """At most so many positions of n, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))


@jax.jit(static_argnames="law")
def _half_widths(law: Any, noise: RunNoise, params: Any, points: Any) -> Any:
    """Half the width between the 15.9% and 84.1% quantiles of the mixture of all members."""
    ends = jax.scipy.special.ndtr(jnp.asarray([-1.0, 1.0]))

    def at(point: tuple[Any, ...]) -> Any:
        predicted = jax.vmap(lambda p: law.fn(*point, **p))(params)
        inputs = dict(zip(law.inputs, point, strict=True))
        low, high = noise.bracket(ends[:, None], predicted, inputs)

        def halve(_: Any, reach: tuple[Any, Any]) -> tuple[Any, Any]:
            middle = 0.5 * (reach[0] + reach[1])
            below = noise.cdf(middle[:, None], predicted, inputs)
            below = jnp.nanmean(below, axis=1) < ends
            return jnp.where(below, middle, reach[0]), jnp.where(below, reach[1], middle)

        begin = jnp.nanmin(low, axis=1), jnp.nanmax(high, axis=1)
        low, high = jax.lax.fori_loop(0, _HALVINGS, halve, begin)
        return 0.5 * jnp.diff(0.5 * (low + high))[0]

    return jax.lax.map(at, points)
