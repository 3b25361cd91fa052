"""Posteriors of many data sets at once: a lane for every chain of every set."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxscale as js
from bayes import _nuts
from bayes._model import Table
from bayes._target import Target, frames, moved, starts

# Chains that are sampled at once.
_MOST_LANES = 256


class Many(NamedTuple):
    """Draws of unconstrained coordinates by name, each (sets, chains, draws, ...).

    `stats` has statistics of the sampler by name, each (sets, chains, draws).
    """

    u: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]


def sample_many(
    law: js.Law,
    tables: Table,
    theta: Any,
    key: jax.Array,
    *,
    chains: int,
    warmup: int,
    draws: int,
    accept: float = 0.9,
    tick: Callable[[int], None] = lambda n: None,
) -> Many:
    """Sample the posterior of every table.

    Args:
        law: the law.
        tables: tables with a leading axis of sets on every leaf, see `lanes_of`.
        theta: where to start: unconstrained coordinates of the law in the reference units of the
            tables, (sets, p).
        key: JAX random key.
        chains, warmup, draws: of every set.
        accept: acceptance probability that the step size is tuned to.
        tick: called with the number of finished iterations, summed over chains and sets.
    """
    sets = len(theta)
    block = max(1, min(sets, _MOST_LANES // chains))
    parts = []
    for first in range(0, sets, block):
        # The last block is filled up, so that one compiled program serves all.
        which = np.minimum(np.arange(first, first + block), sets - 1)
        found = _block(
            law,
            _take(tables, which),
            jnp.asarray(theta)[which],
            jax.random.fold_in(key, first),
            chains=chains,
            warmup=warmup,
            draws=draws,
            accept=accept,
            tick=tick,
        )
        parts.append(jax.tree.map(lambda x, n=sets - first: x[:n], found))
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def _take(tables: Table, which: np.ndarray) -> Table:
    return jax.tree.map(lambda x: jnp.asarray(x)[which], tables)


def _block(
    law: js.Law,
    tables: Table,
    theta: Any,
    key: jax.Array,
    *,
    chains: int,
    warmup: int,
    draws: int,
    accept: float,
    tick: Callable[[int], None],
) -> Many:
    sets = len(theta)
    each = np.repeat(np.arange(sets), chains)
    tables, axes = _take(tables, each), _take(frames(law, tables, theta), each)
    one = jax.tree.map(lambda x: x[0], tables)
    first, second = jax.random.split(key)
    found = _nuts.run(
        Target(law),
        (tables, axes),
        starts(one, len(each), first),
        second,
        warmup=warmup,
        draws=draws,
        accept=accept,
        tick=tick,
    )
    u = moved(axes, found.z)
    shaped = jax.tree.map(
        lambda x: np.asarray(x).reshape(sets, chains, *x.shape[1:]), (u, found.stats)
    )
    return Many(*shaped)
