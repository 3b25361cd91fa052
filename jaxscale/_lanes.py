"""A queue of starts and a block of lanes that works through it, all in one compiled loop.

A lane is one fit in progress. Lanes advance a few steps at a time; one that has finished files its
result and takes the next start of the queue, so no lane waits for the slowest and the host is asked
nothing in between. When the queue is empty, the last lanes move into a smaller block.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from jaxscale._evaluate import residuals
from jaxscale._problem import Problem, problem_equations, problem_value, select, set_axes

_STEPS_PER_ROUND = 4


class Stopping(NamedTuple):
    """When a lane is given up: after `max_steps`, or `patience` steps without gaining `rtol`."""

    max_steps: Any
    patience: Any
    rtol: Any


class Queue(NamedTuple):
    """Starts to work through: vectors (items, p), and for each item

    - which: its set;
    - unit: the unit of its objective;
    - near: factor on the optimizer's first smoothing, below 1 for a start near the optimum.

    Only the first `count` items are real; the others keep the compiled shape the same.
    """

    start: Any
    which: Any
    unit: Any
    near: Any
    count: Any


class Outcomes(NamedTuple):
    """Where each item of a queue ended; every leaf has a leading axis of items."""

    theta: Any
    value: Any
    steps: Any
    converged: Any


class _Lanes(NamedTuple):
    """State of a block of fits in progress; every leaf has a leading lane axis.

    `item` is the place in the queue, or the length of the queue for a lane that has none.
    """

    item: Any
    theta: Any
    memory: Any
    best: Any
    best_value: Any
    stale: Any
    steps: Any
    done: Any


class _Work(NamedTuple):
    lanes: _Lanes
    next: Any
    ended: Outcomes


def reports_convergence(optimizer: optax.GradientTransformationExtraArgs) -> bool:
    """Whether the optimizer's own state says when it has converged."""
    state = jax.eval_shape(optimizer.init, jax.ShapeDtypeStruct((2,), jnp.float32))
    return optax.tree.get(state, "converged", None) is not None


@functools.partial(jax.jit, static_argnames=("optimizer", "blocks"))
def drain(
    optimizer: Any, blocks: tuple[int, ...], problem: Problem, queue: Queue, stopping: Stopping
) -> Outcomes:
    """Optimize from every start of a queue.

    Args:
        optimizer: any Optax transformation; it is offered the value, gradient, value function,
            residual function and normal equations as extra arguments.
        blocks: numbers of lanes, falling: each block works until the next one can hold what is
            left.
        problem: what to minimize; leaves that differ between the sets have a leading axis of sets.
        queue: where to start.
        stopping: when to give up on a lane.
    """
    items, dtype = queue.start.shape[0], queue.start.dtype
    own_test = reports_convergence(optimizer)
    work = _Work(
        lanes=_fresh(optimizer, jnp.full(blocks[0], items), queue),
        next=jnp.zeros((), int),
        ended=Outcomes(
            theta=queue.start,
            value=jnp.full(items, jnp.inf, dtype),
            steps=jnp.zeros(items, int),
            converged=jnp.zeros(items, bool),
        ),
    )

    def one_round(work: _Work) -> _Work:
        lanes, following = _refill(optimizer, work.lanes, work.next, queue)
        mine = select(problem, queue.which[lanes.item])
        scales = queue.unit[lanes.item], queue.near[lanes.item]
        lanes = _advance(optimizer, mine, scales, lanes, stopping)
        return _Work(lanes, following, _file(work.ended, lanes, items))

    for size, smaller in zip(blocks, (*blocks[1:], 0), strict=True):

        def busy(work: _Work, smaller: int = smaller) -> Any:
            return (work.next < queue.count) | (_active(work.lanes, items).sum() > smaller)

        work = work._replace(lanes=_shrink(work.lanes, size, items))
        work = jax.lax.while_loop(busy, one_round, work)
    if not own_test:
        return work.ended
    return work.ended._replace(value=_values(problem, queue, work.ended.theta, blocks[-1]))


@functools.partial(jax.jit, static_argnames=("optimizer", "blocks", "mesh"))
def drain_on_mesh(
    optimizer: Any,
    blocks: tuple[int, ...],
    mesh: Mesh,
    problem: Problem,
    queue: Queue,
    stopping: Stopping,
) -> Outcomes:
    """`drain` on every device of a mesh, each with its own share and at its own pace.

    The leading axes of the queue (`count` has one, too) and of the leaves that differ between the
    sets are split evenly over the devices; what all sets share is copied to each.
    """
    split, whole = PartitionSpec(mesh.axis_names), PartitionSpec()
    by_leaf = jax.tree.map(
        lambda axis: whole if axis is None else split, set_axes(problem), is_leaf=_is_none
    )

    def share(problem: Problem, queue: Queue, stopping: Stopping) -> Outcomes:
        queue = queue._replace(count=queue.count[0])
        return drain(optimizer, blocks, problem, queue, stopping)

    specs = (by_leaf, Queue(split, split, split, split, split), Stopping(whole, whole, whole))
    over = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)
    return over(problem, queue, stopping)


def _is_none(x: Any) -> bool:
    return x is None


def _fresh(optimizer: Any, item: Any, queue: Queue) -> _Lanes:
    """Lanes at the starts of given items; lanes without one begin somewhere and stay unseen."""
    theta = queue.start[item]
    n, dtype = theta.shape[0], theta.dtype
    return _Lanes(
        item=item,
        theta=theta,
        memory=jax.vmap(optimizer.init)(theta),
        best=theta,
        best_value=jnp.full(n, jnp.inf, dtype),
        stale=jnp.zeros(n, int),
        steps=jnp.zeros(n, int),
        done=jnp.zeros(n, bool),
    )


def _active(lanes: _Lanes, items: int) -> Any:
    return ~lanes.done & (lanes.item < items)


def _refill(optimizer: Any, lanes: _Lanes, following: Any, queue: Queue) -> tuple[_Lanes, Any]:
    """Give the next items of the queue to the lanes that have none in progress."""
    items = queue.start.shape[0]
    free = ~_active(lanes, items)
    item = following + jnp.cumsum(free) - 1
    new = free & (item < queue.count)
    fresh = _fresh(optimizer, jnp.where(new, item, items), queue)

    def choose(theirs: Any, mine: Any) -> Any:
        return jnp.where(new.reshape((-1,) + (1,) * (theirs.ndim - 1)), theirs, mine)

    lanes = lanes._replace(item=jnp.where(free, items, lanes.item))
    return jax.tree.map(choose, fresh, lanes), following + new.sum()


def _advance(
    optimizer: Any, problem: Problem, scales: tuple[Any, Any], lanes: _Lanes, stopping: Stopping
) -> _Lanes:
    """A few steps for every lane, then a judgment on which are done."""
    axes = set_axes(problem)

    def step(_: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        advance = functools.partial(_step, optimizer)
        return jax.vmap(advance, in_axes=(axes, 0, 0, 0))(problem, scales, *carry)

    theta, memory = jax.lax.fori_loop(0, _STEPS_PER_ROUND, step, (lanes.theta, lanes.memory))
    steps = lanes.steps + _STEPS_PER_ROUND
    lanes = lanes._replace(theta=theta, memory=memory, steps=steps)
    converged = optax.tree.get(memory, "converged", None)
    if converged is not None:
        return lanes._replace(best=theta, done=(steps >= stopping.max_steps) | converged)
    value = jax.vmap(problem_value, in_axes=(axes, 0))(problem, theta)
    better = value < lanes.best_value
    gained = value < lanes.best_value * (1 - stopping.rtol)
    stale = jnp.where(gained, 0, lanes.stale + _STEPS_PER_ROUND)
    return lanes._replace(
        best=jnp.where(better[:, None], theta, lanes.best),
        best_value=jnp.where(better, value, lanes.best_value),
        stale=stale,
        done=(steps >= stopping.max_steps) | (stale >= stopping.patience),
    )


def _step(
    optimizer: Any, problem: Problem, scales: tuple[Any, Any], theta: Any, memory: Any
) -> tuple[Any, Any]:
    law, objective, rows = problem.law, problem.objective, problem.rows
    unit, near = scales

    def scaled(
        at: Any,
        normal_equations: Any = 0,
        residual_fn: Any = 0,
        width: Any = 0,
        width_unit: Any = 0,
        width_factor: Any = 0,
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
        width_factor=near,
    )
    return optax.apply_updates(theta, updates), memory


def _file(ended: Outcomes, lanes: _Lanes, items: int) -> Outcomes:
    """File the results of the lanes that are done; those of lanes without an item fall out."""
    place = jnp.where(lanes.done, lanes.item, items)
    converged = optax.tree.get(lanes.memory, "converged", None)
    if converged is None:
        converged = jnp.zeros_like(lanes.done)
    new = Outcomes(lanes.best, lanes.best_value, lanes.steps, converged)
    return jax.tree.map(lambda all, mine: all.at[place].set(mine, mode="drop"), ended, new)


def _shrink(lanes: _Lanes, size: int, items: int) -> _Lanes:
    if size == lanes.item.size:
        return lanes
    order = jnp.argsort(~_active(lanes, items), stable=True)[:size]
    return jax.tree.map(lambda x: x[order], lanes)


def _values(problem: Problem, queue: Queue, theta: Any, size: int) -> Any:
    """The exact objective of every item, a block at a time."""
    items = theta.shape[0]

    def block(i: Any, values: Any) -> Any:
        at = i * size + jnp.arange(size)
        mine = select(problem, queue.which[at])
        seen = jax.vmap(problem_value, in_axes=(set_axes(mine), 0))(mine, theta[at])
        return values.at[at].set(seen, mode="drop")

    blocks = (queue.count + size - 1) // size
    return jax.lax.fori_loop(0, blocks, block, jnp.full(items, jnp.inf, theta.dtype))
