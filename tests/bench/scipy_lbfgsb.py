"""SciPy's L-BFGS-B on Chinchilla's law under a Huber loss on log loss, with a gradient by hand.

Imports no JAX: processes of a pool load it, one per core, each with one BLAS thread.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize

# The objective is multiplied by this, so that no absolute tolerance bites.
SCALE = 1e3
SETTINGS: dict[str, Any] = {
    "jac": True,
    "method": "L-BFGS-B",
    "options": {"maxiter": 2000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-10},
}


def minima(lanes: list[tuple[Any, ...]], starts: np.ndarray) -> np.ndarray:
    """Objectives at the optima; a lane is (log N, log D, log loss, weight, log reference loss)."""
    found = [
        scipy.optimize.minimize(analytic(*lane), start, **SETTINGS).fun
        for lane, start in zip(lanes, starts, strict=True)
    ]
    return np.array(found) / SCALE


def analytic(
    log_n: Any, log_d: Any, log_loss: Any, weight: Any, log_ref: Any, delta: float = 1e-3
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Value and gradient by (log E, log A, log B, alpha, beta) in reference units."""
    target = log_loss - log_ref

    def value_and_gradient(p: np.ndarray) -> tuple[float, np.ndarray]:
        terms = np.stack([np.full_like(log_n, p[0]), p[1] - p[3] * log_n, p[2] - p[4] * log_d])
        log_predicted = np.logaddexp.reduce(terms)
        shares = np.exp(terms - log_predicted)
        r = log_predicted - target
        psi = weight * np.clip(r, -delta, delta)
        huber = np.where(np.abs(r) <= delta, 0.5 * r**2, delta * (np.abs(r) - 0.5 * delta))
        slopes = [shares[0], shares[1], shares[2], -shares[1] * log_n, -shares[2] * log_d]
        return SCALE * (weight @ huber), SCALE * np.array([psi @ s for s in slopes])

    return value_and_gradient
