"""The search behind profiles: refits with one quantity held, until every side is decided.

Every penalized optimum lies on the profile of its quantity at the value that it has there, so no
point is wasted and no penalty needs to be infinitely stiff.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._curvature import full
from jaxscale._errors import IdentificationError
from jaxscale._evaluate import Smoothing, normal_equations, value_function
from jaxscale._fit import Fit
from jaxscale._law import Law
from jaxscale._problem import Penalty
from jaxscale._quantity import Quantity, at_free
from jaxscale._refit import Refits, fit_rows, observations, refit_sets, single_fit

# Distances of the first points from the estimate, in rough standard errors.
_FIRST = np.array([0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0])
_FURTHER = np.array([1.6, 2.5, 4.0, 7.0])
_ROUNDS = 7
_REFINE = np.array([0.2, 0.4, 0.6, 0.8])
# Stiffness of the penalty, in units of the curvature of the profile itself.
_STIFF = 100.0
_LOOK_BLOCK = 256
_ROUND_OFF = 32.0  # of an objective, in eps: measured up to 15 in single precision
_FARTHEST = 60.0  # in any unconstrained coordinate: a factor of e^60
_FARTHEST_RATIO = 30.0  # of a positive quantity: what no factor of 1e13 excludes is open


class Search:
    """Points found so far on the profiles of some quantities, on their interval scale.

    Attributes:
        center: value of each quantity at the optimum.
        theta, value, at: for each quantity, the vectors of its points, their objectives, and the
            values that the quantity has there.
    """

    def __init__(self, fit: Fit, quantities: tuple[Quantity, ...]):
        self.fit, self.quantities = fit, quantities
        self.law, self.rows = fit.law, fit_rows(fit)
        self.n, self.total = observations(fit), float(np.asarray(single_fit(fit).weight).sum())
        # Round-off of a deviance: that of the objective, times the runs.
        eps = float(jnp.finfo(self.rows.loss.dtype).eps)
        self.round_off = max(1e-9, 2 * self.n * _ROUND_OFF * eps)
        self.best = np.asarray(fit.free, float)
        shape = _shape(self.law, fit.objective, self.best, self.rows, quantities, fit.log_refs)
        self.center, self.direction, curvature = (np.asarray(x, float) for x in shape)
        self.step = 1 / np.sqrt(curvature * _information_per_value(fit, self.n, self.total))
        self.stiffness = _STIFF * curvature
        # The estimate itself is a point of every profile.
        self.theta = [self.best[None] for _ in quantities]
        self.value = [np.array([float(fit.value)]) for _ in quantities]
        for quantity, center in zip(quantities, self.center, strict=True):
            if not np.isfinite(center):
                raise IdentificationError(f"{quantity.label} has no finite value at the optimum")
        self.at = [self.center[i : i + 1] for i in range(len(quantities))]

    def deviance(self, value: np.ndarray) -> np.ndarray:
        """Twice the drop of the log likelihood, with the noise scale refitted."""
        nll = self.fit.objective.profile_nll
        drop = nll(np.asarray(value) / self.total) - nll(float(self.fit.value) / self.total)
        return np.asarray(2 * self.n * drop)

    def hold(
        self,
        target: np.ndarray,
        held: np.ndarray,
        starts: np.ndarray,
        *,
        stiffer: float = 1.0,
        loss: np.ndarray | None = None,
        tick: Callable[[int], None] = lambda n: None,
    ) -> Refits:
        """Refit with some quantities held near targets.

        Args:
            target, held: value and whether it is asked for, shape (points, quantities).
            starts: shape (points, starts, p).
            stiffer: factor on the stiffness.
            loss: other losses, shape (points, runs).
        """
        dtype = self.rows.loss.dtype
        strength = np.where(held, stiffer * self.stiffness, 0.0)
        penalty = Penalty(
            pinned(self.law),
            (self.quantities, self.fit.log_refs),
            jnp.asarray(target, dtype),
            jnp.asarray(strength, dtype),
        )
        return refit_sets(self.fit, loss=loss, penalty=penalty, starts=starts, tick=tick)

    def add(self, which: np.ndarray, targets: np.ndarray, starts: np.ndarray) -> None:
        """New points: quantity `which` held near `targets`, shape (points,) each."""
        held = np.arange(len(self.quantities)) == which[:, None]
        found = self.hold(np.where(held, targets[:, None], self.center), held, starts)
        value, at = self.look(found.theta)
        for i in np.unique(which):
            mine = (which == i) & np.isfinite(value) & np.isfinite(at[:, i])
            self.theta[i] = np.concatenate([self.theta[i], found.theta[mine]])
            self.value[i] = np.concatenate([self.value[i], value[mine]])
            self.at[i] = np.concatenate([self.at[i], at[mine, i]])

    def look(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Objective without penalty, and the quantities, at some vectors."""
        n = len(theta)
        # A few sizes only, since each is compiled anew.
        padded = np.pad(theta, ((0, -n % _LOOK_BLOCK), (0, 0)), mode="edge")
        law, objective, refs = self.law, self.fit.objective, self.fit.log_refs
        blocks = [
            _look(law, objective, block, self.rows, self.quantities, refs)
            for block in padded.reshape(-1, _LOOK_BLOCK, theta.shape[1])
        ]
        value, at = (np.concatenate([np.asarray(b[i], float) for b in blocks]) for i in (0, 1))
        return value[:n], at[:n]

    def guess(self, i: int, targets: np.ndarray) -> np.ndarray:
        """Starts for targets of one quantity: along the valley, and the nearest point known."""
        step = np.clip((targets - self.center[i])[:, None] * self.direction[i], -4, 4)
        nearest = np.abs(self.at[i] - targets[:, None]).argmin(axis=1)
        along = np.clip(self.best + step, -_FARTHEST, _FARTHEST)
        return np.stack([along, self.theta[i][nearest]], axis=1)

    def batch(self, wanted: Mapping[int, np.ndarray]) -> None:
        """Refit at some targets per quantity, all together."""
        wanted = {i: targets for i, targets in wanted.items() if targets.size}
        if not wanted:
            return
        which = np.concatenate([np.full(len(t), i) for i, t in wanted.items()])
        starts = np.concatenate([self.guess(i, t) for i, t in wanted.items()])
        self.add(which, np.concatenate(list(wanted.values())), starts)

    def outwards(self, threshold: float, signs: tuple[int, ...]) -> None:
        """Go out on each side until a value is excluded, or until nothing changes any more."""
        every = range(len(self.quantities))
        first = np.concatenate([sign * _FIRST for sign in signs])
        self.batch({i: self.center[i] + self.step[i] * first for i in every})
        reached = dict.fromkeys(((i, sign) for i in every for sign in signs), _FIRST[-1])
        for _ in range(_ROUNDS):
            going = [(i, s) for i, s in reached if self.end(i, s, threshold)[1] is None]
            if not going:
                return
            wanted: dict[int, np.ndarray] = {}
            for i, sign in going:
                out = self.step[i] * reached[i, sign] * _FURTHER
                reached[i, sign] *= _FURTHER[-1]
                if self.quantities[i].positive(self.law):
                    out = np.unique(np.minimum(out, _FARTHEST_RATIO))
                before = wanted.get(i, np.empty(0))
                wanted[i] = np.concatenate([before, self.center[i] + sign * out])
            self.batch(wanted)

    def sweep(self) -> None:
        """Refit every point from its neighbors: a profile that jumps has missed an optimum."""
        which, targets, starts = [], [], []
        for i in range(len(self.quantities)):
            order = np.argsort(self.at[i], kind="stable")
            theta = self.theta[i][order]
            left, right = np.roll(theta, 1, axis=0), np.roll(theta, -1, axis=0)
            left[0], right[-1] = theta[0], theta[-1]
            which.append(np.full(len(order), i))
            targets.append(self.at[i][order])
            starts.append(np.stack([left, right], axis=1))
        self.add(np.concatenate(which), np.concatenate(targets), np.concatenate(starts))

    def refine(self, threshold: float, signs: tuple[int, ...]) -> None:
        """Points between the last value that is not excluded and the next one that is."""
        wanted = {}
        for i in range(len(self.quantities)):
            targets = []
            for sign in signs:
                (near, _), following = self.end(i, sign, threshold)
                if following is not None:
                    between = near + _REFINE * (following[0] - near)
                    targets.append(self.center[i] + sign * between)
            wanted[i] = np.concatenate(targets) if targets else np.empty(0)
        self.batch(wanted)

    def lower_envelope(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values, deviances and vectors of one profile, without points that others undercut."""
        order = np.argsort(self.at[i], kind="stable")
        at, dev = self.at[i][order], self.deviance(self.value[i][order])
        # Sides must rise: a point that lies above one farther out missed its optimum.
        right, left = at >= self.center[i], at <= self.center[i]
        keep = np.zeros(len(at), bool)
        keep[right] = dev[right] <= np.minimum.accumulate(dev[right][::-1])[::-1] + self.round_off
        keep[left] |= dev[left] <= np.minimum.accumulate(dev[left]) + self.round_off
        return at[keep], dev[keep], self.theta[i][order][keep]

    def end(
        self, i: int, sign: int, threshold: float
    ) -> tuple[tuple[float, float], tuple[float, float] | None]:
        """Distance and deviance of the farthest point on one side that is not excluded, and of the
        next one that is, if there is one."""
        at, dev, _ = self.lower_envelope(i)
        distance = sign * (at - self.center[i])
        side = distance >= 0
        distance, dev = distance[side], dev[side]
        inside = np.flatnonzero(dev <= threshold)
        last = inside[np.argmax(distance[inside])]
        beyond = np.flatnonzero((dev > threshold) & (distance > distance[last]))
        if beyond.size == 0:
            return (distance[last], dev[last]), None
        following = beyond[np.argmin(distance[beyond])]
        return (distance[last], dev[last]), (distance[following], dev[following])

    def crossing(self, i: int, sign: int, threshold: float) -> float | None:
        """Where the root of the deviance crosses that of the threshold."""
        (near, below), following = self.end(i, sign, threshold)
        if following is None:
            return None
        far, above = following
        low, high = np.sqrt(max(below, 0.0)), np.sqrt(above)
        share = (np.sqrt(threshold) - low) / max(high - low, 1e-300)
        return float(self.center[i] + sign * (near + share * (far - near)))


def _information_per_value(fit: Fit, n: float, total: float) -> float:
    """How fast the deviance grows with the objective, at the optimum."""
    mean = max(float(fit.value) / total, 1e-300)
    rise = fit.objective.profile_nll(mean * 1.001) - fit.objective.profile_nll(mean * 0.999)
    return 2 * float(rise) / (0.002 * mean) * n / total


@functools.cache
def pinned(law: Law) -> Callable[[Any, Any], Any]:
    """The quantities as a function of the unconstrained vector: one object per law."""

    def pinned(theta: Any, shared: Any) -> Any:
        return at_free(law, shared[0], theta, shared[1])

    return pinned


@functools.partial(jax.jit, static_argnames="law")
def _shape(
    law: Law, objective: Any, theta: Any, rows: Any, quantities: Any, log_refs: Any
) -> tuple[Any, Any, Any]:
    """Value, valley direction per unit and rough curvature of each profile at the optimum."""
    width = objective.width
    seen = normal_equations(law, objective, theta, Smoothing(width, width, 1.0), rows)
    hessian = full(seen.hessian, theta.size)
    ridge = 1e-9 * jnp.diag(hessian).mean() * jnp.eye(theta.size)

    def values(at: Any) -> Any:
        return at_free(law, quantities, at, log_refs)

    slopes = jax.jacfwd(values)(theta)
    solved = jnp.linalg.solve(hessian + ridge, slopes.T).T
    spread = jnp.maximum(jnp.sum(slopes * solved, axis=1), 1e-30)
    return values(theta), solved / spread[:, None], 1 / spread


@functools.partial(jax.jit, static_argnames="law")
def _look(
    law: Law, objective: Any, theta: Any, rows: Any, quantities: Any, log_refs: Any
) -> tuple[Any, Any]:
    """Objective without penalty, and the quantities, at every vector."""
    value = jax.vmap(value_function(law, objective, rows))(theta)
    return value, jax.vmap(lambda at: at_free(law, quantities, at, log_refs))(theta)
