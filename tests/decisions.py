"""What the tests of decisions share: draws around a fit, and searches by brute force."""

import numpy as np
import scipy.optimize

from jaxscale._draws import Draws


def scattered(fit, n=300, spread=0.02, seed=0, **how):
    """Draws whose parameters scatter by a share of their own."""
    rng = np.random.default_rng(seed)
    params = {k: float(v) * np.exp(spread * rng.normal(size=n)) for k, v in fit.params.items()}
    return Draws(fit, "scattered", params, np.full(n, fit.noise_scale()), **how)


def log_root(rise, low=-20.0, high=80.0):
    """Where a function of log D rises through zero; the ends where it does not."""
    ends = rise(low), rise(high)
    if ends[0] >= 0 or ends[1] <= 0:
        return np.nan
    return scipy.optimize.brentq(rise, low, high, xtol=1e-13, rtol=1e-14)


def least(value, around, width=14.0, points=1500):
    """The lowest point of a function of log N with holes: dense grid, then golden section.

    Returns:
        log N and the value there.
    """
    grid = np.log(around) + np.linspace(-width, width, points)
    values = np.array([value(x) for x in grid])
    best = int(np.nanargmin(values))
    ends = grid[max(best - 1, 0)], grid[min(best + 1, points - 1)]

    def filled(x):
        found = value(x)
        return found if np.isfinite(found) else 1e300

    found = scipy.optimize.minimize_scalar(
        filled, bounds=ends, method="bounded", options={"xatol": 1e-11}
    )
    return (found.x, found.fun) if found.fun <= values[best] else (grid[best], values[best])
