"""What one lane minimizes: an objective over rows, and perhaps a penalty that ties a quantity down.

A stack of problems shares whatever has no leading axis of sets: the resamples of a bootstrap differ
in their weights alone, the points of a profile in their targets alone.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._curvature import times
from jaxscale._evaluate import Evaluation, Rows, Smoothing, normal_equations, value_function
from jaxscale._law import Law
from jaxscale._objective import Objective

_ROW_STEP = 16


class Penalty(eqx.Module):
    """``sum_k strength_k (g_k(theta) - target_k)^2 / 2``, for functions g of the parameters.

    A minimizer of objective plus penalty also minimizes the objective among all parameters with the
    same g, however weak or strong the penalty: that is what makes it fit for profiles.

    Attributes:
        fn: ``fn(theta, shared)`` gives all g, shape (quantities,).
        shared: what `fn` needs besides the parameters.
        target, strength: shape (quantities,), or (sets, quantities). Strength 0 leaves g free.
    """

    fn: Callable[[Any, Any], Any] = eqx.field(static=True)
    shared: Any
    target: Any
    strength: Any

    def distance(self, theta: Any) -> Any:
        """Scaled distances ``sqrt(strength) (g - target)``, zero where nothing is asked."""
        asked = self.strength > 0
        gap = jnp.where(asked, self.fn(theta, self.shared) - self.target, 0.0)
        return jnp.sqrt(self.strength) * gap


class Problem(eqx.Module):
    """Objective, rows and penalty of one lane, or of a stack of sets."""

    law: Law = eqx.field(static=True)
    objective: Objective
    rows: Rows
    penalty: Penalty | None = None


def set_axes(problem: Problem) -> Problem:
    """For every leaf 0 if it has a leading axis of sets, None if all sets share it."""

    def axes(tree: Any, alone: int) -> Any:
        return jax.tree.map(lambda x: 0 if jnp.ndim(x) > alone else None, tree)

    rows, penalty = problem.rows, problem.penalty
    return Problem(
        problem.law,
        axes(problem.objective, 0),
        Rows(
            axes(rows.inputs, 1),
            axes(rows.loss, 1),
            axes(rows.weight, 1),
            axes(rows.log_loss_ref, 0),
        ),
        None
        if penalty is None
        else Penalty(
            penalty.fn,
            jax.tree.map(lambda _: None, penalty.shared),
            axes(penalty.target, 1),
            axes(penalty.strength, 1),
        ),
    )


def select(problem: Problem, which: Any) -> Problem:
    """The problems of some sets, one per entry of `which`; what is shared stays shared."""
    axes = set_axes(problem)
    return jax.tree.map(
        lambda x, axis: x if axis is None else x[which],
        problem,
        axes,
        is_leaf=lambda x: x is None,
    )


def bucket(n: int, base: int) -> int:
    """The smallest power of `base` that is at least `n`: a shape that many sizes share."""
    size = 1
    while size < n:
        size *= base
    return size


def take_sets(problem: Problem, first: int, last: int, size: int) -> Problem:
    """The sets `first` to `last` as a stack of `size` sets; the rest are copies of the last one."""

    def take(axis: int | None, x: Any) -> Any:
        if axis is None:
            return x
        some = np.asarray(x[first:last])
        return np.pad(some, [(0, size - len(some))] + [(0, 0)] * (some.ndim - 1), mode="edge")

    return jax.tree.map(take, set_axes(problem), problem, is_leaf=lambda x: x is None)


def pad_rows(problem: Problem) -> Problem:
    """The same problem with up to an eighth more rows (or fewer than 16), of weight zero.

    Compiled programs are for one number of rows; this way, few numbers occur.
    """
    rows = problem.rows
    n = rows.loss.shape[-1]
    step = max(_ROW_STEP, (1 << n.bit_length()) // 16)
    more = -n % step
    if not more:
        return problem

    def longer(x: Any, mode: Any) -> Any:
        return np.pad(np.asarray(x), [(0, 0)] * (np.ndim(x) - 1) + [(0, more)], mode=mode)

    padded = Rows(
        tuple(longer(x, "edge") for x in rows.inputs),
        longer(rows.loss, "edge"),
        longer(rows.weight, "constant"),
        rows.log_loss_ref,
    )
    return Problem(problem.law, problem.objective, padded, problem.penalty)


def problem_value(problem: Problem, theta: Any) -> Any:
    """The exact objective of one lane, with its penalty."""
    value = value_function(problem.law, problem.objective, problem.rows)(theta)
    if problem.penalty is None:
        return value
    return value + 0.5 * jnp.sum(problem.penalty.distance(theta) ** 2)


def problem_equations(problem: Problem, theta: Any, smoothing: Smoothing) -> Evaluation:
    """Normal equations of one lane, with its penalty."""
    seen = normal_equations(problem.law, problem.objective, theta, smoothing, problem.rows)
    if problem.penalty is None:
        return seen
    gap = problem.penalty.distance(theta)
    jacobian = jax.jacfwd(problem.penalty.distance)(theta)
    extra, slope, bend = 0.5 * jnp.sum(gap**2), times(gap, jacobian), times(jacobian.T, jacobian)
    pairs = [(i, j) for i in range(theta.size) for j in range(i + 1)]
    return Evaluation(
        seen.value + extra,
        seen.next_value + extra,
        tuple(g + slope[i] for i, g in enumerate(seen.gradient)),
        tuple(h + bend[i, j] for h, (i, j) in zip(seen.hessian, pairs, strict=True)),
    )
