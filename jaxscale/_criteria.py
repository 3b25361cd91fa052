"""Information criteria of fits: what an objective's noise model says about how well a law fits."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxscale._fit import Fit
from jaxscale._refit import observations, single_fit


class Criteria(NamedTuple):
    """Likelihood of a fit and what follows from it; see `criteria`."""

    log_likelihood: float
    parameters: int
    observations: float
    aic: float
    aicc: float
    bic: float


def log_likelihood(fit: Fit) -> float:
    """log p(losses) = sum_i log f(r_i; s) - sum_i log y_i, with s of maximum likelihood.

    f is the noise model of the objective, for residuals of log loss, to which the last sum belongs;
    it is absent for residuals of the loss itself. Runs of unequal weight count in proportion to it,
    and together as many times as there are of them.

    Args:
        fit: a fit of one data set, with its runs.
    """
    runs, n = single_fit(fit), observations(fit)
    weight = np.asarray(runs.weight, float)
    mean_rho = float(fit.value) / weight.sum()
    density = -n * float(fit.objective.profile_nll(mean_rho))
    if not fit.objective.log:
        return density
    real = weight > 0
    return density - n * float(
        np.average(np.log(np.asarray(runs.loss)[real]), weights=weight[real])
    )


def criteria(fit: Fit) -> Criteria:
    """AIC = 2 k - 2 log L, AICc = AIC + 2 k (k + 1) / (n - k - 1), BIC = k log n - 2 log L.

    k counts the parameters of the law, and the scale of the noise unless the objective knows it.
    AICc is infinite where n is at most k + 1.

    Args:
        fit: a fit of one data set, with its runs.

    Source: Akaike 1974; Hurvich & Tsai 1989, doi 10.1093/biomet/76.2.297; Schwarz 1978.
    """
    n, best = observations(fit), log_likelihood(fit)
    k = len(fit.law.params) + (not fit.objective.known)
    aic = 2 * k - 2 * best
    room = n - k - 1
    aicc = aic + 2 * k * (k + 1) / room if room > 0 else np.inf
    return Criteria(best, k, n, aic, aicc, k * np.log(n) - 2 * best)


def akaike_weights(values: Any) -> np.ndarray:
    """w_k = exp(-Delta_k / 2) / sum_j exp(-Delta_j / 2), Delta_k = AICc_k - min_j AICc_j.

    Args:
        values: AICc or another criterion on that scale, shape (models,); at least one is finite.

    Source: Burnham & Anderson 2002, Model Selection and Multimodel Inference, section 2.9.

    Example:
        >>> akaike_weights([100.0, 102.0, 110.0])
    """
    values = np.asarray(values, float)
    share = np.exp(-0.5 * (values - values.min()))
    return np.asarray(share / share.sum())


def incomparable(fits: Mapping[str, Fit]) -> str:
    """Why the likelihoods of fits do not compare, in one sentence; empty if they do."""
    (first, one), *others = fits.items()
    for name, other in others:
        for what in ("loss", "weight"):
            mine, theirs = (np.asarray(getattr(single_fit(f), what), float) for f in (one, other))
            if not np.array_equal(mine, theirs):
                return (
                    f"{first} and {name} are not about the same runs: the {what} of their "
                    f"{len(mine)} and {len(theirs)} runs differs; fit both to one table of runs"
                )
        same = type(one.objective) is type(other.objective)
        if not same or vars(one.objective) != vars(other.objective):
            kinds = [_scatter(fit) for fit in (one, other)]
            return (
                f"{first} was fitted with {one.objective} and {name} with {other.objective}: "
                f"{kinds[0]} and {kinds[1]} make different likelihoods; fit both with one objective"
            )
    return ""


def _scatter(fit: Fit) -> str:
    return f"{type(fit.objective).__name__} noise of {'log loss' if fit.objective.log else 'loss'}"
