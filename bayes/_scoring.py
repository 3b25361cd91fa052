"""Scores of models by runs they have not seen: densities, their errors, and weights."""

from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from scipy.optimize import minimize
from scipy.special import logsumexp

from bayes._posterior import Posterior

# Below this difference the distribution of its error is skewed and its standard error too small.
_SMALL = 4.0
_ERRORS = 2.0
_NO_WEIGHT = 1e-3


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


def standard_error(values: np.ndarray, block: np.ndarray) -> np.ndarray:
    """se(sum_i x_i) = sqrt(n var x), or over the sums of blocks where that is larger.

    Args:
        values: one row per point, (points, models).
        block: of each point, (points,), whose points share their error.
    """
    codes = np.unique(block, return_inverse=True)[1]
    sums = np.stack([np.bincount(codes, column) for column in values.T], axis=1)
    each = [
        np.sqrt(len(x)) * x.std(axis=0, ddof=1) if len(x) > 1 else np.zeros(x.shape[1])
        for x in (values, sums)
    ]
    return np.maximum(*each)


def verdict(difference: float, error: float) -> str:
    """Whether a model of lower elpd is tied with the best, or worse: see `compare`."""
    return "tied" if -difference < max(_SMALL, _ERRORS * error) else "worse"


def stacking_weights(value: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """w = argmax sum_i weight_i log sum_k w_k exp(value_ik), over w_k >= 0 with sum one.

    The weights of the mixture of predictive distributions that predicts best, in which models that
    say the same share one weight; they are not probabilities that a model is true.

    Args:
        value: log predictive densities, (points, models).
        weight: of the points, (points,); default 1.

    Source: Yao, Vehtari, Simpson & Gelman 2018, Bayesian Analysis 13(3), 917-1007.

    Example:
        >>> stacking_weights(np.log([[0.9, 0.1], [0.2, 0.8]]))
    """
    points, models = value.shape
    share = np.ones(points) if weight is None else weight / weight.mean()
    density = np.exp(value - value.max(axis=1, keepdims=True))

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(density @ w, 1e-300)
        return -float(share @ np.log(mixed)), -(density.T @ (share / mixed))

    found = minimize(
        loss,
        np.full(models, 1 / models),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * models,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-10, "maxiter": 500},
    ).x
    found = np.where(found < _NO_WEIGHT, 0.0, found)
    return np.asarray(found / found.sum())
