"""NUTS for many lanes at once: chains, data sets and folds side by side in one compiled program."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from numpyro.infer.hmc import hmc

_CHUNK = 50  # iterations between two looks at the clock
_KEPT = ("diverging", "energy", "num_steps", "accept_prob")


class Target(Protocol):
    """A density to sample: hashable, so that compiled programs are kept."""

    def __hash__(self) -> int: ...

    def __call__(self, data: Any, z: dict[str, Any]) -> Any:
        """Negative log density of one lane, up to a constant, at ``z["main"]`` and others."""


class Chains(NamedTuple):
    """Draws of every lane, (lanes, draws, ...) by name, and statistics, (lanes, draws)."""

    z: dict[str, Any]
    stats: dict[str, np.ndarray]


@functools.lru_cache(maxsize=64)
def _programs(target: Target, warmup: int, accept: float, devices: int) -> tuple[Any, Any]:
    """Compiled ``init(data, z, keys)`` and ``advance(state, data)`` of `_CHUNK` iterations."""

    def potential(data: Any) -> Callable[[Any], Any]:
        return lambda z: target(data, z)

    init_kernel, sample_kernel = hmc(potential_fn_gen=potential, algo="NUTS")

    def init(data: Any, z: Any, key: Any) -> Any:
        return init_kernel(
            z,
            warmup,
            step_size=0.5,
            dense_mass=[("main",)],
            target_accept_prob=accept,
            trajectory_length=None,
            model_args=(data,),
            rng_key=key,
        )

    def advance(state: Any, data: Any) -> tuple[Any, Any]:
        def one(state: Any, _: None) -> tuple[Any, Any]:
            state = jax.vmap(lambda s, d: sample_kernel(s, model_args=(d,)))(state, data)
            return state, (state.z, {name: getattr(state, name) for name in _KEPT})

        return jax.lax.scan(one, state, None, length=_CHUNK)

    if devices == 1:
        return jax.jit(jax.vmap(init)), jax.jit(advance)
    mesh = Mesh(np.array(jax.local_devices()[:devices]), ("lanes",))
    lanes = PartitionSpec("lanes")
    both = (lanes, (PartitionSpec(None, "lanes"), PartitionSpec(None, "lanes")))
    shard = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
    return (
        jax.jit(shard(jax.vmap(init), in_specs=(lanes, lanes, lanes), out_specs=lanes)),
        jax.jit(shard(advance, in_specs=(lanes, lanes), out_specs=both)),
    )


def run(
    target: Target,
    data: Any,
    starts: dict[str, Any],
    key: jax.Array,
    *,
    warmup: int,
    draws: int,
    accept: float = 0.9,
    tick: Callable[[int], None] = lambda n: None,
) -> Chains:
    """Sample every lane.

    Args:
        target: the density.
        data: PyTree whose leaves have a leading axis of lanes.
        starts: z by name, each (lanes, ...).
        key: JAX random key.
        warmup, draws: iterations of every lane.
        accept: acceptance probability that the step size is tuned to.
        tick: called with the number of finished iterations, summed over lanes.
    """
    lanes = len(starts["main"])
    devices = len(jax.local_devices())
    init, advance = _programs(target, warmup, accept, devices if lanes % devices == 0 else 1)
    state = init(data, starts, jax.random.split(key, lanes))
    kept: list[Any] = []
    for done in range(0, warmup + draws, _CHUNK):
        state, (z, stats) = advance(state, data)
        skip = max(0, warmup - done)
        if skip < _CHUNK:
            kept.append(jax.device_get(jax.tree.map(lambda x, skip=skip: x[skip:], (z, stats))))
        tick(lanes * min(_CHUNK, warmup + draws - done))
    joined = jax.tree.map(lambda *parts: np.concatenate(parts)[:draws].swapaxes(0, 1), *kept)
    return Chains(*joined)
