"""Which parameters can the runs determine? Asked before a fit, and again at its optimum."""

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale import _units
from jaxscale._errors import IdentificationError
from jaxscale._evaluate import Rows, predict_reference
from jaxscale._law import Law, from_free_vector
from jaxscale._objective import Objective
from jaxscale._runs import Runs

_SAME = 1e-9
_ON_A_RAY = 1e-6


def refuse_unidentified(law: Law, runs: Runs) -> None:
    """Refuse runs that cannot determine the law, whatever the losses.

    Raises:
        IdentificationError: for fewer runs (or fewer distinct inputs) than parameters, an input
            that never varies, or two inputs in a fixed proportion such as ``D = 20 N``.
    """
    p = len(law.params)
    real = np.asarray(runs.weight) > 0
    inputs = np.stack([np.asarray(runs.inputs[name], float)[real] for name in law.inputs])
    n = inputs.shape[1]
    if n < p:
        raise IdentificationError(
            f"{runs.source}: {n} runs cannot determine the {p} parameters of {law.name!r} "
            f"({', '.join(law.names)}); at least {p} are needed, and many more to judge the fit"
        )
    # Inputs that are counts of their own may be zero, and a constant one may still do no harm.
    scales = {
        name: np.log(x)
        for name, x in zip(law.inputs, inputs, strict=True)
        if name in law.scaled or (not law.scaled and np.all(x > 0))
    }
    for name, log_values in scales.items():
        if np.ptp(log_values) < _SAME:
            raise IdentificationError(
                f"{runs.source}: {name} is {np.exp(log_values[0]):g} in every run, so "
                f"{_listed(_depends_on(law, name))} cannot be determined; add runs with another "
                f"{name} or choose a law without it"
            )
    for (first, x), (second, y) in itertools.combinations(scales.items(), 2):
        _refuse_ray(law, runs, first, x, second, y)
    distinct = len(np.unique(inputs, axis=1).T)
    if distinct < p:
        raise IdentificationError(
            f"{runs.source}: {n} runs at only {distinct} distinct settings of "
            f"{', '.join(law.inputs)} cannot determine the {p} parameters of {law.name!r}"
        )


def _refuse_ray(law: Law, runs: Runs, first: str, x: Any, second: str, y: Any) -> None:
    """On D = k N^s with s > 0 the two terms are one curve; on D = C / (6 N) they are not."""
    dx, dy = x - x.mean(), y - y.mean()
    if not (np.any(dx) and np.any(dy)):
        return
    slope = (dx @ dy) / (dx @ dx)
    if slope <= 0 or np.abs(dy - slope * dx).max() > _ON_A_RAY * np.abs(dy).max():
        return
    ratio = np.exp(np.mean(y - slope * x))
    power = "" if abs(slope - 1) < 1e-6 else f"^{slope:.3g}"
    raise IdentificationError(
        f"{runs.source}: {second} = {ratio:.4g} {first}{power} in every run, so the effects of "
        f"{first} and {second} ({_listed(_depends_on(law, first) | _depends_on(law, second))}) "
        f"cannot be told apart; add runs off this line or fit a law in one input"
    )


def _depends_on(law: Law, name: str) -> set[str]:
    units = {param: _units.names(p.unit) for param, p in law.params}
    scales = {param for param, mentioned in units.items() if name in mentioned}
    exponents = {m for param in scales for m in units[param] if m in units}
    return (scales | exponents) or {"its effect"}


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names, key=str.lower)
    return " and ".join([", ".join(ordered[:-1]), ordered[-1]] if ordered[1:] else ordered)


def elasticities(law: Law, theta: Any, rows: Rows) -> np.ndarray:
    """d log|predicted| / d theta, shape (runs, p), at one unconstrained vector.

    For the scale of a term (``A`` in ``A / N^alpha``) this is the term's share of the loss.
    """
    return np.asarray(_elasticities(law, jnp.asarray(theta), rows))


@jax.jit(static_argnames="law")
def _elasticities(law: Law, theta: Any, rows: Rows) -> Any:
    return jax.jacfwd(lambda at: _log_size(law, at, rows))(theta)


def _log_size(law: Law, theta: Any, rows: Rows) -> Any:
    return jnp.log(jnp.abs(predict_reference(law, theta, rows.inputs)))


class Sensitivity(NamedTuple):
    """A law at every run: prediction (runs,), and its derivatives; the runs are the last axis.

    `shares` is d log|predicted| / d theta, (p, runs), see `elasticities`; `slopes` the derivative
    by each input, (inputs, runs); `residual` that of the objective, (runs,), and `gain` its
    derivative by log|predicted|: 1 for residuals of log loss.
    """

    predicted: Any
    shares: Any
    slopes: Any
    residual: Any
    gain: Any


def sensitivity(law: Law, objective: Objective, theta: Any, rows: Rows) -> Sensitivity:
    """Predictions in reference units and what depends on them, at one unconstrained vector."""
    params = from_free_vector(law, theta)
    predicted = predict_reference(law, theta, rows.inputs)
    shares = jax.jacfwd(lambda at: _log_size(law, at, rows))(theta)
    physical = predicted * jnp.exp(rows.log_loss_ref)
    along = jax.jvp(lambda x: objective.residual(x, rows.loss), (physical,), (physical,))

    def slopes(*inputs: Any) -> Any:
        by_input = jax.grad(lambda *x: law.fn(*x, **params), argnums=tuple(range(len(inputs))))
        return jnp.stack(by_input(*inputs))

    return Sensitivity(predicted, shares.T, jax.vmap(slopes, out_axes=1)(*rows.inputs), *along)


def dead_terms(law: Law, shares: np.ndarray, threshold: float = 1e-4) -> tuple[str, ...]:
    """Scale parameters whose share of the loss is below `threshold` in every run."""
    return tuple(
        name
        for i, (name, p) in enumerate(law.params)
        if p.support == "positive" and not np.any(np.abs(shares[:, i]) > threshold)
    )


def loose_parameters(
    law: Law,
    shares: np.ndarray,
    residuals: np.ndarray,
    weight: np.ndarray,
    limit: float = 2.0,
    *,
    outcomes: bool = False,
) -> dict[str, float]:
    """Parameters that the runs leave open, with the standard error of their free coordinate.

    A first-order standard error from the Jacobian and a robust residual scale; it only sorts
    "determined" from "open" and is no interval to report. ``limit=2`` is a factor of 7 either way
    for a positive parameter. A robust fit passes through about p runs exactly, so the scale is the
    median of the other n - p. With `outcomes` the residuals have a scale of one, and a weight is a
    number of observations. Arrays have one row per run; no weight may be zero.
    """
    shares = shares * np.sqrt(weight / (1.0 if outcomes else weight.mean()))[:, None]
    n, p = shares.shape
    others = np.sort(np.abs(residuals))[min(p, n - 1) :]
    spread = 1.0 if outcomes else 1.4826 * np.median(others) * np.sqrt(n / max(n - p, 1))
    norms = np.linalg.norm(shares, axis=0)
    alive = norms > 0
    _, singular, right = np.linalg.svd(shares[:, alive] / norms[alive], full_matrices=False)
    safe = np.maximum(singular, 1e-12 * singular.max(initial=1e-300))
    spread = max(spread, 1e-12)
    errors = np.full(p, np.inf)
    errors[alive] = spread * np.sqrt(((right / safe[:, None]) ** 2).sum(0)) / norms[alive]
    return {
        name: float(error) for name, error in zip(law.names, errors, strict=True) if error > limit
    }
