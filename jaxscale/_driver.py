"""Run any Optax optimizer from many starts at once, on one or many data sets.

A fixed number of lanes advances a few steps at a time. Lanes that have finished are handed the
next start in the queue, so the compiled shape never changes, memory stays bounded however many
starts there are, and no lane waits for the slowest. When the queue is empty the last lanes move
into a smaller block. On a CPU, each core drives a queue of its own.
"""

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscale._evaluate import residuals
from jaxscale._problem import Problem, problem_equations, problem_value, select, set_axes

_STEPS_PER_ROUND = 4
_CPU_BLOCKS = (64, 512)
# Up to so many starts, a second compiled shape costs more than it saves.
_SMALL_JOB = 1024
_ACCELERATOR_BLOCKS = (256, 16_384)


class Lanes(NamedTuple):
    """State of a block of fits in progress; every leaf has a leading lane axis."""

    theta: jax.Array
    memory: Any
    best: jax.Array
    best_value: jax.Array
    stale: jax.Array
    steps: jax.Array
    done: jax.Array


class Outcomes(NamedTuple):
    """Where every start ended: unconstrained vectors (sets, restarts, p), values, steps taken."""

    theta: np.ndarray
    value: np.ndarray
    steps: np.ndarray
    converged: np.ndarray


class Stopping(NamedTuple):
    """When a lane is given up: after `max_steps`, or `patience` steps without gaining `rtol`."""

    max_steps: Any
    patience: Any
    rtol: Any


def reports_convergence(optimizer: optax.GradientTransformationExtraArgs) -> bool:
    """Whether the optimizer's own state says when it has converged."""
    state = jax.eval_shape(optimizer.init, jax.ShapeDtypeStruct((2,), jnp.float32))
    return optax.tree.get(state, "converged", None) is not None


def _step(optimizer: Any, problem: Problem, unit: Any, theta: Any, memory: Any) -> tuple[Any, Any]:
    law, objective, rows = problem.law, problem.objective, problem.rows

    def scaled(
        at: Any,
        normal_equations: Any = 0,
        residual_fn: Any = 0,
        width: Any = 0,
        width_unit: Any = 0,
    ) -> Any:
        # Optax's line search insists that the function it calls accepts every extra argument.
        return problem_value(problem, at) / unit

    # XLA drops this pass for optimizers that ignore the gradient they are handed.
    value, gradient = jax.value_and_grad(scaled)(theta)
    scale = 1.0 if objective.log else jnp.exp(rows.log_loss_ref)
    updates, memory = optimizer.update(
        gradient,
        memory,
        theta,
        value=value,
        grad=gradient,
        value_fn=scaled,
        normal_equations=functools.partial(problem_equations, problem),
        residual_fn=lambda at: residuals(law, objective, at, rows),
        width=objective.width,
        width_unit=scale,
    )
    return optax.apply_updates(theta, updates), memory


@functools.partial(jax.jit, static_argnames="optimizer", donate_argnums=(3,))
def _round(
    optimizer: Any, problem: Problem, unit: Any, lanes: Lanes, n_steps: Any, stopping: Stopping
) -> Lanes:
    """Advance every lane by `n_steps`, then judge which are done.

    `problem` and `unit` are those of the lanes: nothing here knows how many sets there are, so one
    compilation serves any number.
    """
    axes = set_axes(problem)

    def step(_: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        advance = functools.partial(_step, optimizer)
        return jax.vmap(advance, in_axes=(axes, 0, 0, 0))(problem, unit, *carry)

    theta, memory = jax.lax.fori_loop(0, n_steps, step, (lanes.theta, lanes.memory))
    value = jax.vmap(problem_value, in_axes=(axes, 0))(problem, theta)
    better = value < lanes.best_value
    gained = value < lanes.best_value * (1 - stopping.rtol)
    stale = jnp.where(gained, 0, lanes.stale + n_steps)
    steps = lanes.steps + n_steps
    converged = optax.tree.get(memory, "converged", None)
    over = (steps >= stopping.max_steps) | (stale >= stopping.patience)
    return Lanes(
        theta=theta,
        memory=memory,
        best=jnp.where(better[:, None], theta, lanes.best),
        best_value=jnp.where(better, value, lanes.best_value),
        stale=stale,
        steps=steps,
        done=over if converged is None else over | converged,
    )


@functools.partial(jax.jit, static_argnames="optimizer")
def _fresh(optimizer: Any, theta: jax.Array) -> Lanes:
    n = theta.shape[0]
    return Lanes(
        theta=theta,
        memory=jax.vmap(optimizer.init)(theta),
        best=theta,
        best_value=jnp.full(n, jnp.inf, theta.dtype),
        stale=jnp.zeros(n, int),
        steps=jnp.zeros(n, int),
        done=jnp.zeros(n, bool),
    )


@functools.partial(jax.jit, static_argnames="optimizer")
def _admit(optimizer: Any, lanes: Lanes, theta: jax.Array, mask: jax.Array) -> Lanes:
    """Put new starts into the lanes under `mask`."""

    def choose(new: Any, old: Any) -> Any:
        return jnp.where(mask.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, _fresh(optimizer, theta), lanes)


class _Worker:
    """One queue of (set, start) items and the block of lanes that works through it."""

    def __init__(
        self,
        call: Callable[[np.ndarray, Lanes], Lanes],
        optimizer: Any,
        starts: np.ndarray,
        which: np.ndarray,
        items: np.ndarray,
        blocks: tuple[int, ...],
        stop: threading.Event,
    ):
        self.stop = stop
        self.call, self.optimizer = call, optimizer
        self.starts, self.which = starts, which
        self.queue, self.blocks = items, blocks

    def run(self, out: Outcomes, tick: Callable[[int], None]) -> None:
        """Write the outcome of every queued item into `out` (flat over sets and restarts)."""
        size = _block_for(len(self.queue), self.blocks)
        held, self.queue = self.queue[:size], self.queue[size:]
        held = np.pad(held, (0, size - len(held)), constant_values=-1)
        lanes = _fresh(self.optimizer, jnp.asarray(self.starts[held]))
        while (held >= 0).any() and not self.stop.is_set():
            lanes = self.call(self.which[held], lanes)
            finished = np.flatnonzero(np.asarray(lanes.done) & (held >= 0))
            if finished.size == 0:
                continue
            _harvest(out, held, finished, lanes)
            tick(finished.size)
            held[finished] = -1
            lanes = self._refill(held, finished, lanes)
            lanes, held = self._shrink(held, lanes)

    def _refill(self, held: np.ndarray, finished: np.ndarray, lanes: Lanes) -> Lanes:
        take = min(len(self.queue), finished.size)
        if take == 0:
            return lanes
        slots, items = finished[:take], self.queue[:take]
        self.queue = self.queue[take:]
        held[slots] = items
        theta, mask = np.array(lanes.theta), np.zeros(len(held), bool)
        theta[slots], mask[slots] = self.starts[items], True
        return _admit(self.optimizer, lanes, jnp.asarray(theta), jnp.asarray(mask))

    def _shrink(self, held: np.ndarray, lanes: Lanes) -> tuple[Lanes, np.ndarray]:
        active = np.flatnonzero(held >= 0)
        size = _block_for(active.size, self.blocks)
        if active.size == 0 or size >= len(held):
            return lanes, held
        order = np.concatenate([active, np.flatnonzero(held < 0)])[:size]
        return jax.tree.map(lambda x: x[order], lanes), held[order]


def _harvest(out: Outcomes, held: np.ndarray, finished: np.ndarray, lanes: Lanes) -> None:
    items = held[finished]
    out.theta[items] = np.asarray(lanes.best)[finished]
    out.value[items] = np.asarray(lanes.best_value)[finished]
    out.steps[items] = np.asarray(lanes.steps)[finished]
    converged = optax.tree.get(lanes.memory, "converged", None)
    if converged is not None:
        out.converged[items] = np.asarray(converged)[finished]


def _block_for(n: int, blocks: tuple[int, ...]) -> int:
    return next((size for size in blocks if n <= size), blocks[-1])


def run(
    problem: Problem,
    starts: np.ndarray,
    optimizer: optax.GradientTransformationExtraArgs,
    stopping: Stopping,
    tick: Callable[[int], None] = lambda n: None,
) -> Outcomes:
    """Optimize from every start.

    Args:
        problem: what to minimize, in reference units; leaves that differ between the sets have a
            leading axis of sets.
        starts: unconstrained vectors, shape (sets, restarts, p); one set if `problem` is no stack.
        optimizer: any Optax transformation; it is offered the value, gradient, value function,
            residual function and normal equations as extra arguments.
        stopping: when to give up on a lane.
        tick: called with the number of newly finished starts.
    """
    sets, restarts, p = starts.shape
    flat = starts.reshape(-1, p)
    which = np.repeat(np.arange(sets), restarts)
    out = Outcomes(
        theta=flat.copy(),
        value=np.full(len(flat), np.inf, flat.dtype),
        steps=np.zeros(len(flat), int),
        converged=np.zeros(len(flat), bool),
    )
    unit = jnp.ones(sets, flat.dtype)
    if not reports_convergence(optimizer):
        unit = _natural_unit(problem, jnp.asarray(np.median(starts, axis=1)))
    cpu = jax.default_backend() == "cpu"
    blocks: tuple[int, ...] = _CPU_BLOCKS if cpu else _ACCELERATOR_BLOCKS
    blocks = blocks[:1] if len(flat) <= _SMALL_JOB else blocks
    workers = min(os.cpu_count() or 1, -(-len(flat) // blocks[0])) if cpu else 1
    lock, compiled, stop = threading.Lock(), set[int](), threading.Event()

    def call(sets_of: np.ndarray, lanes: Lanes) -> Lanes:
        def advance() -> Lanes:
            mine, scale = _select(problem, unit, jnp.asarray(sets_of))
            return _round(optimizer, mine, scale, lanes, _STEPS_PER_ROUND, stopping)

        if len(sets_of) in compiled:
            return advance()
        with lock:  # threads that meet a new shape wait for one compilation
            done = jax.block_until_ready(advance())
            compiled.add(len(sets_of))
            return done

    pool = [
        _Worker(call, optimizer, flat, which, np.arange(i, len(flat), workers), blocks, stop)
        for i in range(workers)
    ]
    config: Any = jax.config
    x64, device = config.jax_enable_x64, config.jax_default_device

    def work(worker: _Worker) -> None:
        # JAX keeps `with` settings per thread.
        with jax.enable_x64(x64), jax.default_device(device):
            worker.run(out, tick)

    with ThreadPoolExecutor(workers) as executor:
        try:
            for future in [executor.submit(work, worker) for worker in pool]:
                future.result()
        except BaseException:  # an error, or the user's Ctrl-C: the others need not go on
            stop.set()
            raise
    shape = (sets, restarts)
    return Outcomes(
        theta=out.theta.reshape(*shape, p),
        value=out.value.reshape(shape),
        steps=out.steps.reshape(shape),
        converged=out.converged.reshape(shape),
    )


@jax.jit
def _select(problem: Problem, unit: Any, which: jax.Array) -> tuple[Problem, Any]:
    return select(problem, which), unit[which]


@jax.jit
def _natural_unit(problem: Problem, middle: Any) -> Any:
    """An objective of ordinary size, so that no optimizer's absolute tolerance can bite."""

    def one(problem: Problem, theta: Any) -> Any:
        value = problem_value(problem, theta)
        return jnp.where(jnp.isfinite(value) & (value > 0), value, 1.0)

    return jax.vmap(one, in_axes=(set_axes(problem), 0))(problem, middle)
