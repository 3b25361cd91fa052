"""Run any Optax optimizer from many starts, on one or many data sets, on all the hardware there is.

The work is cut into shares of one compiled shape, each a queue that `_lanes.drain` empties by
itself. On a CPU every core takes shares as it gets free; on a mesh every device gets one at a time.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxscale._evaluate import MANY_ROWS
from jaxscale._lanes import Outcomes, Queue, Stopping, drain, drain_on_mesh, reports_convergence
from jaxscale._mesh import current_mesh
from jaxscale._problem import Problem, bucket, pad_rows, problem_value, set_axes, take_sets

# Lanes are elementwise work, so a block need only be large enough to hide the overhead of a loop
# over the rows, and small enough to stay in cache. An accelerator moves its last lanes to a smaller
# block; a core of a CPU has so few that this would only double the time to compile.
_CPU_BLOCKS = (96, 32)
_ACCELERATOR_BLOCKS = (32_768, 2_048)
# Starts in one queue: what is done between two looks at the clock and the keyboard.
_CPU_QUEUE = 4096
_ACCELERATOR_QUEUE = 1 << 18
# Rows of all the sets of one share that do not share them, and of all the lanes of one block.
_MOST_CELLS = 1 << 21
# A longer table asks for a shorter queue.
_USUAL_ROWS = 1 << 10


def run(
    problem: Problem,
    starts: np.ndarray,
    optimizer: optax.GradientTransformationExtraArgs,
    stopping: Stopping,
    tick: Callable[[int], None] = lambda n: None,
    near: float = 1.0,
) -> Outcomes:
    """Optimize every set from as many starts, on the mesh in use or the cores of this machine.

    Args:
        problem: what to minimize, in reference units; leaves that differ between the sets have a
            leading axis of sets.
        starts: unconstrained vectors, shape (sets, restarts, p); one set if `problem` is no stack.
        optimizer: any Optax transformation, see `drain`.
        stopping: when to give up on a lane.
        tick: called with the number of newly finished starts.
        near: factor on the optimizer's first smoothing, below 1 for starts near the optimum.

    Returns:
        Arrays with leading axes (sets, restarts); steps taken, and whether the optimizer says that
        it has converged.
    """
    problem = pad_rows(problem)
    sets, restarts, p = starts.shape
    unit = np.ones(sets, starts.dtype)
    if not reports_convergence(optimizer):
        unit = np.asarray(_natural_unit(problem, jnp.asarray(np.median(starts, axis=1))))
    which = np.repeat(np.arange(sets), restarts)
    every = np.full(len(which), near, starts.dtype)
    job = _Job(problem, starts.reshape(-1, p), which, unit, every, optimizer, stopping)
    ended = _ended(job, tick)
    return Outcomes(*(x.reshape(sets, restarts, *x.shape[1:]) for x in ended))


def run_items(
    problem: Problem,
    start: np.ndarray,
    which: np.ndarray,
    near: np.ndarray,
    optimizer: optax.GradientTransformationExtraArgs,
    stopping: Stopping,
    tick: Callable[[int], None] = lambda n: None,
) -> Outcomes:
    """`run` from any number of starts per set, each with a factor of its own.

    Args:
        problem, stopping, tick: as for `run`.
        start: unconstrained vectors, shape (items, p).
        which: the set of each, in ascending order.
        near: the factor of each.
        optimizer: one that says when it has converged.

    Returns:
        Arrays with leading axis (items,).
    """
    unit = np.ones(int(which[-1]) + 1, start.dtype)
    job = _Job(pad_rows(problem), start, which, unit, near, optimizer, stopping)
    return _ended(job, tick)


def _ended(job: "_Job", tick: Callable[[int], None]) -> Outcomes:
    start = job.start
    ended = Outcomes(
        theta=start.copy(),
        value=np.full(len(start), np.inf, start.dtype),
        steps=np.zeros(len(start), int),
        converged=np.zeros(len(start), bool),
    )
    mesh = current_mesh()
    # Closed at once after an error or Ctrl-C, whoever holds on to the traceback.
    with contextlib.closing(_on_threads(job) if mesh is None else _on_mesh(job, mesh)) as finished:
        for items, part in finished:
            for all_items, mine in zip(ended, part, strict=True):
                all_items[items] = mine
            tick(len(items))
    return ended


class _Job(NamedTuple):
    problem: Problem
    start: np.ndarray
    which: np.ndarray
    unit: np.ndarray
    near: np.ndarray
    optimizer: Any
    stopping: Stopping


Finished = Generator[tuple[np.ndarray, Outcomes]]


class _Layout(NamedTuple):
    """One compiled shape: lanes, starts in a queue, sets with leaves of their own; and the cut."""

    blocks: tuple[int, ...]
    queue: int
    sets: int
    shares: list[np.ndarray]


def _layout(job: _Job, workers: int, cpu: bool) -> _Layout:
    total = len(job.start)
    blocks: tuple[int, ...] = _CPU_BLOCKS if cpu else _ACCELERATOR_BLOCKS
    queue = _CPU_QUEUE if cpu else _ACCELERATOR_QUEUE
    each = -(-total // workers)
    rows = job.problem.rows.loss.shape[-1]
    own = bool(jax.tree.leaves(set_axes(job.problem)))
    # A lane without work costs as much as one with, which matters where passes are long.
    least = blocks[-1] if rows < MANY_ROWS else bucket(each, 2)
    blocks = tuple(b for b in blocks if b <= each) or (least,)
    if rows >= MANY_ROWS:
        blocks = blocks[-1:]
    elif cpu:
        blocks = blocks[:1]
    most_sets = max(1, _MOST_CELLS // rows)
    if own:  # every lane has a copy of its rows
        blocks = tuple(dict.fromkeys(min(b, most_sets) for b in blocks))
    queue = min(queue, max(2 * blocks[0], queue * _USUAL_ROWS // rows))
    restarts = total // (int(job.which[-1]) + 1)
    per_share = min(queue, most_sets * restarts) if own else queue
    count = workers * -(-total // (workers * per_share))
    if not own:
        # Neighbors in a grid of starts are alike: every share gets some of each kind.
        return _Layout(
            blocks, queue, 0, [np.arange(i, total, count) for i in range(min(count, total))]
        )
    shares = [part for part in np.array_split(np.arange(total), count) if len(part)]
    sets = max(int(job.which[part[-1]] - job.which[part[0]]) + 1 for part in shares)
    return _Layout(blocks, queue, bucket(sets, 4), shares)


def _share(job: _Job, layout: _Layout, items: np.ndarray) -> tuple[Problem, Queue]:
    """The problem and the queue of one share, padded to the compiled shape."""
    which = job.which[items]
    problem = job.problem
    if layout.sets:
        first = int(which[0])
        problem = take_sets(problem, first, int(which[-1]) + 1, layout.sets)
        local = which - first
    else:
        local = np.zeros_like(which)
    more = layout.queue - len(items)
    queue = Queue(
        start=np.pad(job.start[items], ((0, more), (0, 0)), mode="edge"),
        which=np.pad(local, (0, more), mode="edge"),
        unit=np.pad(job.unit[which], (0, more), mode="edge"),
        near=np.pad(job.near[items], (0, more), mode="edge"),
        count=np.asarray(len(items)),
    )
    return problem, queue


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _on_threads(job: _Job) -> Finished:
    """One share at a time per core of a CPU, or on the one accelerator."""
    cpu = jax.default_backend() == "cpu"
    workers = min(_cores(), len(job.start)) if cpu else 1
    layout = _layout(job, workers, cpu)
    work = functools.partial(drain, job.optimizer, layout.blocks)
    if len(layout.shares) > 1:  # an empty queue compiles the program, once for all threads
        problem, queue = _share(job, layout, layout.shares[0])
        jax.block_until_ready(work(problem, queue._replace(count=np.asarray(0)), job.stopping))
    config: Any = jax.config
    x64, device = config.jax_enable_x64, config.jax_default_device
    stop = threading.Event()

    def one(items: np.ndarray) -> tuple[np.ndarray, Outcomes]:
        # JAX keeps `with` settings per thread.
        with jax.enable_x64(x64), jax.default_device(device):
            if stop.is_set():
                return items[:0], Outcomes(*(np.empty(0) for _ in Outcomes._fields))
            problem, queue = _share(job, layout, items)
            ended = work(problem, queue, job.stopping)
            return items, Outcomes(*(np.asarray(x)[: len(items)] for x in ended))

    with ThreadPoolExecutor(workers) as executor:
        try:
            yield from executor.map(one, layout.shares)
        finally:  # an error, or the user's Ctrl-C: the others need not go on
            stop.set()


def _on_mesh(job: _Job, mesh: Mesh) -> Finished:
    """One share at a time per device of a mesh, whichever hosts they are on."""
    devices = mesh.devices.size
    cpu = mesh.devices.flat[0].platform == "cpu"
    layout = _layout(job, devices, cpu)
    split = PartitionSpec(mesh.axis_names)
    for first in range(0, len(layout.shares), devices):
        group = layout.shares[first : first + devices]
        parts = [_share(job, layout, items) for items in group]
        idle = parts[0][0], parts[0][1]._replace(count=np.asarray(0))
        parts += [idle] * (devices - len(parts))
        problem = _spread(mesh, [problem for problem, _ in parts])
        leaves = zip(*(queue for _, queue in parts), strict=True)
        queue = Queue(
            *(_placed(mesh, split, np.concatenate([np.atleast_1d(y) for y in x])) for x in leaves)
        )
        ended = drain_on_mesh(job.optimizer, layout.blocks, mesh, problem, queue, job.stopping)
        whole = [_gathered(x).reshape(devices, layout.queue, *x.shape[1:]) for x in ended]
        for i, items in enumerate(group):
            yield items, Outcomes(*(x[i, : len(items)] for x in whole))


def _spread(mesh: Mesh, problems: list[Problem]) -> Problem:
    """The problems of all devices as one: stacked where sets differ, copied where they share."""

    def place(axis: int | None, *x: Any) -> Any:
        if x[0] is None:  # no leaf at all
            return None
        if axis is None:
            return _placed(mesh, PartitionSpec(), x[0])
        return _placed(mesh, PartitionSpec(mesh.axis_names), np.concatenate(x))

    axes = set_axes(problems[0])
    return jax.tree.map(place, axes, *problems, is_leaf=lambda x: x is None)


def _placed(mesh: Mesh, spec: PartitionSpec, x: Any) -> jax.Array:
    """An array laid out over a mesh; every host holds all of it and hands over its part."""
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, NamedSharding(mesh, spec), lambda at: x[at])


def _gathered(x: jax.Array) -> np.ndarray:
    """All of an array, on every host."""
    if x.is_fully_addressable:
        return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


@jax.jit
def _natural_unit(problem: Problem, middle: Any) -> Any:
    """An objective of ordinary size, so that no optimizer's absolute tolerance can bite."""

    def one(problem: Problem, theta: Any) -> Any:
        value = problem_value(problem, theta)
        return jnp.where(jnp.isfinite(value) & (value > 0), value, 1.0)

    return jax.vmap(one, in_axes=(set_axes(problem), 0))(problem, middle)
