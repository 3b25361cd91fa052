"""Which resamples draws belong to, so that results of the same resamples can be compared."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Resamples:
    """The name of a set of resamples of a table of runs, and the number of each draw among them.

    Draws of one name and number were made from the very same resample: differences between them
    are free of the noise that they share.

    Attributes:
        name: digest of the runs, the kind, the random key and the number of resamples.
        index: number of each draw, ascending, shape (draws,).
    """

    name: str
    index: np.ndarray

    def take(self, chosen: np.ndarray) -> "Resamples":
        """Those of some of the draws."""
        return Resamples(self.name, self.index[chosen])


def common_rows(members: Sequence[Resamples]) -> list[np.ndarray]:
    """Rows of each member that hold the resamples that all of them have, in the same order."""
    shared = members[0].index
    for member in members[1:]:
        shared = np.intersect1d(shared, member.index)
    return [np.searchsorted(member.index, shared) for member in members]


def resampling_key(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys for the resamples, and for what is done with them."""
    first, second = jax.random.split(key)
    return first, second


def drawn_residuals(pool: np.ndarray, n: int, runs: int, key: jax.Array) -> np.ndarray:
    """Residuals drawn from a pool with replacement, shape (n, runs).

    Pools in the order of the same runs give the noise of the same runs for the same key.
    """
    chosen = np.asarray(jax.random.randint(key, (n, runs), 0, len(pool)))
    return np.asarray(pool[chosen])
