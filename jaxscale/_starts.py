"""Where restarts begin: a scaled Sobol sequence, or an explicit grid."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._errors import LawError
from jaxscale._evaluate import Rows, predict_reference
from jaxscale._law import Law, free_vector, from_free_vector
from jaxscale._sobol import sobol_points
from jaxscale._units import names

_BLOCK = 256
_MOST_RUNS = 4096


class Grid(eqx.Module):
    """Explicit starts in the user's units, one array per parameter, all of one length.

    Every value must lie inside the support of its parameter: a positive one cannot start at zero.
    """

    values: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def free(self, law: Law, log_refs: Mapping[str, Any]) -> np.ndarray:
        """The starts as unconstrained vectors in reference units.

        Shape (restarts, p), or (sets, restarts, p) if the references have an axis of sets.

        Raises:
            LawError: if the grid is not over the parameters of the law.
        """
        if set(self.values) != set(law.names):
            raise LawError(
                f"these starts are for {sorted(self.values)}, but law {law.name!r} has "
                f"the parameters {sorted(law.names)}"
            )
        for name, param in law.params:
            values = np.asarray(self.values[name], float)
            inside = (values > param.lower) & (values < param.upper) & np.isfinite(values)
            if not inside.all():
                raise LawError(
                    f"the start {name} = {values[~inside][0]:g} is not inside "
                    f"({param.lower:g}, {param.upper:g})"
                )
        physical = {name: jnp.asarray(values) for name, values in self.values.items()}
        refs = {name: jnp.asarray(ref)[..., None] for name, ref in log_refs.items()}
        moved = law.to_reference(physical, refs)
        shape = jnp.broadcast_shapes(*(x.shape for x in moved.values()))
        return np.asarray(
            free_vector(law, {name: jnp.broadcast_to(x, shape) for name, x in moved.items()})
        )


def grid(**axes: Sequence[float]) -> Grid:
    """All combinations of start values: ``grid(E=[1, 2], A=[100, 400], ...)``."""
    points = np.array(list(itertools.product(*axes.values())), dtype=float)
    if points.size == 0:
        raise LawError("a grid of starts needs at least one value for every parameter")
    return Grid({name: points[:, i] for i, name in enumerate(axes)})


def hoffmann_grid() -> Grid:
    """The 4,500 starts of Hoffmann et al. 2022 (arXiv 2203.15556, appendix D.3).

    alpha, beta in {0, 0.5, ..., 2}; log E in {-1, -0.5, ..., 1}; log A, log B in {0, 5, ..., 25}.
    Parameters and tokens are counted one by one, the loss in nats per token.
    """
    exponents = [0.0, 0.5, 1.0, 1.5, 2.0]
    scales = [math.exp(a) for a in range(0, 26, 5)]
    return grid(
        E=[math.exp(e) for e in (-1.0, -0.5, 0.0, 0.5, 1.0)],
        A=scales,
        B=scales,
        alpha=exponents,
        beta=exponents,
    )


def sobol(law: Law, rows: Rows, restarts: int, key: jax.Array) -> np.ndarray:
    """Scrambled Sobol starts in the law's start box, scaled to the loss of each data set.

    Where the law says how its parameters follow the unit of the loss, every start is multiplied so
    that its geometric-mean prediction is the observed one: no term begins far from the data.

    Args:
        law: the law.
        rows: one data set in reference units, or a stack.
        restarts: how many starts.
        key: JAX random key; it scrambles the sequence.

    Returns:
        Unconstrained vectors, shape (restarts, p), or (sets, restarts, p) for a stack.
    """
    seed = np.asarray(jax.random.bits(key, (4,), "uint32"))
    depth = (max(_BLOCK, restarts) - 1).bit_length()
    unit = sobol_points(len(law.params), depth, np.random.default_rng(seed))
    unit = unit.astype(rows.loss.dtype).reshape(-1, _BLOCK, len(law.params))
    stack = rows.loss.ndim == 2
    some = _thinned(rows if stack else jax.tree.map(lambda x: x[None], rows))
    blocks = [np.asarray(_scaled_starts(law, some, block)) for block in unit]
    points = np.concatenate(blocks, axis=1)[:, :restarts]
    return points if stack else points[0]


def _thinned(rows: Rows) -> Rows:
    """Few enough runs: a start need not be scaled to the last of a million."""
    runs = rows.loss.shape[-1]
    every = -(-runs // _MOST_RUNS)
    if every == 1:
        return rows
    return Rows(
        tuple(x[:, ::every] for x in rows.inputs),
        rows.loss[:, ::every],
        rows.weight[:, ::every],
        rows.log_loss_ref,
    )


@jax.jit(static_argnames="law")
def _scaled_starts(law: Law, rows: Rows, unit: jax.Array) -> jax.Array:
    """Starts at points of the unit cube, moved to the loss of each data set: (sets, starts, p)."""
    free = jnp.stack([p.start(unit[:, i]) for i, (_, p) in enumerate(law.params)], axis=-1)
    if "loss" not in law.scaled:
        return jnp.broadcast_to(free, (rows.loss.shape[0], *free.shape))
    return jax.lax.map(lambda mine: _moved(law, mine, free), rows)


def _moved(law: Law, rows: Rows, free: jax.Array) -> jax.Array:
    """Starts (starts, p), scaled to the loss of one data set where the law allows."""
    log_target = jnp.average(jnp.log(rows.loss), weights=rows.weight) - rows.log_loss_ref
    touched = jnp.array(["loss" in names(p.unit) for _, p in law.params])

    def one(theta: jax.Array) -> jax.Array:
        predicted = predict_reference(law, theta, rows.inputs)
        log_factor = log_target - jnp.average(jnp.log(predicted), weights=rows.weight)
        params = from_free_vector(law, theta)
        refs = {name: log_factor if name == "loss" else 0.0 for name in law.scaled}
        moved = free_vector(law, law.to_physical(params, refs))
        return jnp.where(touched & jnp.all(jnp.isfinite(moved)), moved, theta)

    return jax.vmap(one)(free)
