"""From draws of the parameters to bands: of the law, and of a new run."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._curvature import times
from jaxscale._draws import Draws, tails
from jaxscale._errors import LawError
from jaxscale._law import Law
from jaxscale._run_noise import RunNoise

_CHUNK = 2**21  # predicted losses held at once
_CLOSE, _MOST_STEPS = 1e-10, 80


class Bands(NamedTuple):
    """Lower and upper ends of both bands, middles of the law, and whether a draw was of use there.

    `law` and `run` have shape (2, points); `median`, `mean` and `usable` have shape (points,), the
    last being the share of the draws that give a finite loss.
    """

    law: np.ndarray
    run: np.ndarray
    median: np.ndarray
    mean: np.ndarray
    usable: np.ndarray


class _Root(NamedTuple):
    """A bracket, the excess at its ends, the last point, its error, and the number of steps."""

    low: Any
    high: Any
    f_low: Any
    f_high: Any
    at: Any
    error: Any
    count: Any


def finite_draws(draws: Draws) -> tuple[dict[str, np.ndarray], RunNoise, tuple[str, ...]]:
    """Parameters and noise of the finite draws, and a note if some are not.

    Raises:
        LawError: if fewer than half of the draws are finite.
    """
    members = [x for x in jax.tree.leaves(draws.run_noise) if np.ndim(x)]
    columns = [np.asarray(x).reshape(len(draws), -1) for x in (*draws.params.values(), *members)]
    finite = np.isfinite(np.concatenate(columns, axis=1)).all(axis=1)
    lost = int((~finite).sum())
    if 2 * lost > len(finite):
        raise LawError(f"{lost:,} of {len(finite):,} draws are not finite; make them anew")
    note = (f"{lost:,} of {len(finite):,} draws are not finite and were left out.",) if lost else ()
    params = {name: np.asarray(values)[finite] for name, values in draws.params.items()}
    noise = jax.tree.map(lambda x: np.asarray(x)[finite] if np.ndim(x) else x, draws.run_noise)
    return params, noise, note


def bands(draws: Draws, inputs: dict[str, Any], level: float) -> tuple[Bands, tuple[str, ...]]:
    """Equal-tailed bands at inputs of shape (points,), and what to know about them.

    The band of the law holds quantiles of the law over the draws. The band of a run holds
    quantiles of the mixture, over the draws, of the law plus the noise of a run.

    Raises:
        LawError: if half of the draws give no finite loss at some point.
    """
    params, noise, notes = finite_draws(draws)
    ends = np.array(tails(level))
    points = tuple(jnp.asarray(inputs[name], float) for name in draws.law.inputs)
    law, run, *middles, usable = _bands(draws.law, noise, params, points, ends)
    found = Bands(np.asarray(law).T, np.asarray(run).T, *map(np.asarray, (*middles, usable)))
    least = float(found.usable.min(initial=1.0))
    if least <= 0.5:
        raise LawError(f"only {least:.0%} of the draws give a finite loss at these inputs")
    if least < 1:
        notes += (f"{1 - least:.2%} of the draws give no finite loss and were left out there.",)
    return found, notes


@jax.jit(static_argnames="law")
def _bands(law: Law, noise: RunNoise, params: Any, points: Any, ends: Any) -> Any:
    def at(point: tuple[Any, ...]) -> Any:
        predicted = jax.vmap(lambda p: law.fn(*point, **p))(params)
        usable = jnp.isfinite(predicted) & ((predicted > 0) | (not noise.log))
        predicted = jnp.where(usable, predicted, jnp.nan)
        low, middle, high = jnp.nanquantile(predicted, jnp.array([ends[0], 0.5, ends[1]]))
        inputs = dict(zip(law.inputs, point, strict=True))
        run = mixture_quantiles(noise, predicted, inputs, ends, usable)
        run = jnp.exp(run) if noise.log else run
        return jnp.stack([low, high]), run, middle, jnp.nanmean(predicted), usable.mean()

    size = max(1, _CHUNK // len(params[law.names[0]]))
    return jax.lax.map(at, points, batch_size=size)


def mixture_quantiles(
    noise: RunNoise, predicted: Any, inputs: dict[str, Any], ends: Any, usable: Any
) -> Any:
    """Quantiles of the mixture of law - noise over the draws, shape (2,), of logs if `noise.log`.

    They lie between the least and the greatest of the quantiles of its members. The root is found
    by false position (the Illinois rule), with a bisection in every third step against long flat
    tails, until the distribution function is met to 1e-10.
    """
    center = jnp.log(predicted) if noise.log else predicted
    # A run lies at law - residual, so that its low end has a high residual.
    low, high = noise.bracket(1 - ends[:, None], predicted, inputs)
    reach = (jnp.nanmin(center - high, axis=1), jnp.nanmax(center - low, axis=1))
    share = jnp.where(usable, 1 / usable.sum(), 0)
    close = max(_CLOSE, 64 * float(jnp.finfo(center.dtype).eps))

    def excess(at: Any) -> Any:
        beyond = 1 - noise.cdf(center - at[:, None], predicted, inputs)
        return times(jnp.where(usable, beyond, 0), share) - ends

    def step(state: _Root) -> _Root:
        slope = (state.f_high - state.f_low) / (state.high - state.low)
        secant = state.low - state.f_low / slope
        middle = 0.5 * (state.low + state.high)
        inside = (secant > state.low) & (secant < state.high) & (state.count % 3 < 2)
        at = jnp.where(inside, secant, middle)
        f = excess(at)
        left = f < 0
        # An end that stays put counts half, so that both ends come closer.
        return _Root(
            jnp.where(left, at, state.low),
            jnp.where(left, state.high, at),
            jnp.where(left, f, 0.5 * state.f_low),
            jnp.where(left, 0.5 * state.f_high, f),
            at,
            jnp.abs(f).max(),
            state.count + 1,
        )

    def unfinished(state: _Root) -> Any:
        open_ = (state.high > state.low).any()  # not so where there is no spread at all
        return (state.error > close) & open_ & (state.count < _MOST_STEPS)

    start = _Root(*reach, excess(reach[0]), excess(reach[1]), reach[0], jnp.inf, 0)
    return jax.lax.while_loop(unfinished, step, start).at
