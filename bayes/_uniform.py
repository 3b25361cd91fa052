"""Are values uniform? Simultaneous bands of the empirical distribution function."""

import functools
from typing import Any

import numpy as np
from scipy.stats import binom

_NULLS = 10_000
CELLS = 100


def uniform_p(values: Any, cells: int = CELLS) -> float:
    """p-value of the largest departure of ``F(z_k)`` from ``z_k = k / cells`` over all k.

    The departure at a point is judged by the binomial distribution that it has there, so that tails
    count as much as the middle; what the most extreme of them means is found by simulation. A
    sample that is uniform and independent gets a p below a bound as often as the bound says.

    Args:
        values: sample in [0, 1], (n,).
        cells: number of equal cells; for ranks of 0 to L, divided by L + 1, a divisor of it.

    Source: Säilynoja, Bürkner & Vehtari 2022, Statistics and Computing 32, 32, section 2.
    """
    values = np.asarray(values, float)
    cell = np.clip((values * cells + 1e-9).astype(int), 0, cells - 1)
    counts = np.bincount(cell, minlength=cells)
    least = _least(counts[None], len(values))[0]
    null = _null(len(values), cells)
    return float((1 + np.searchsorted(null, least * (1 + 1e-9), side="right")) / (1 + len(null)))


def envelope(n: int, cells: int = CELLS, level: float = 0.95) -> tuple[np.ndarray, ...]:
    """Band that holds the whole distribution function of a uniform sample with probability `level`.

    Returns:
        The points k / cells, and the lowest and highest value of the function there, each
        (cells - 1,).
    """
    at = np.arange(1, cells) / cells
    least = np.quantile(_null(n, cells), 1 - level)
    return at, binom.ppf(least / 2, n, at) / n, binom.isf(least / 2, n, at) / n


def _least(counts: np.ndarray, n: int) -> np.ndarray:
    """Smallest two-sided binomial probability over the points, by sample, from cell counts."""
    below = np.cumsum(counts, axis=-1)[..., :-1]
    return np.asarray(_two_sided(n, counts.shape[-1])[np.arange(below.shape[-1]), below].min(-1))


@functools.lru_cache(maxsize=32)
def _two_sided(n: int, cells: int) -> np.ndarray:
    """Two-sided probability of every count below every point, (cells - 1, n + 1)."""
    count, at = np.arange(n + 1), np.arange(1, cells)[:, None] / cells
    return 2 * np.minimum(binom.cdf(count, n, at), binom.sf(count - 1, n, at))


@functools.lru_cache(maxsize=32)
def _null(n: int, cells: int) -> np.ndarray:
    """Sorted `_least` of uniform samples."""
    rng = np.random.default_rng(0)
    return np.sort(_least(rng.multinomial(n, np.full(cells, 1 / cells), _NULLS), n))
