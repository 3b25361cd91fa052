"""Scores of models by runs they have not seen: densities, their errors, and weights."""

from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from scipy.special import logsumexp

from bayes._posterior import Posterior


class Loo(NamedTuple):
    """Leave-one-out by importance sampling: arrays of shape (runs,), NaN for runs of weight zero.

    Attributes:
        elpd: log predictive density of each run given the others.
        khat: Pareto k-hat of its importance weights: how far the run moves the posterior.
        p_loo: by how much the run's density falls when the run is left out.
    """

    elpd: np.ndarray
    khat: np.ndarray
    p_loo: np.ndarray


def psis_loo(posterior: Posterior) -> Loo:
    """log p(y_i | y_-i) = log sum_s w_is p(y_i | s), with smoothed w_is from 1 / p(y_i | s)^weight.

    Args:
        posterior: with draws of the log likelihood.

    Source: Vehtari, Gelman & Gabry 2017, Statistics and Computing 27, 1413-1432; Vehtari et al.
    2024, JMLR 25(72).

    Example:
        >>> psis_loo(posterior).khat.max()
    """
    weight = np.asarray(posterior.model.table.weight)
    real = weight > 0
    log_likelihood = np.asarray(posterior.described.log_likelihood)
    weighted = log_likelihood.reshape(-1, len(weight))[:, real].T
    density = weighted / weight[real, None]
    smoothed, khat = array_stats.psislw(weighted)
    elpd = logsumexp(smoothed + density, axis=1)
    seen = logsumexp(density, axis=1) - np.log(density.shape[1])
    found = np.full((3, len(weight)), np.nan)
    found[:, real] = elpd, khat, seen - elpd
    return Loo(*found)
