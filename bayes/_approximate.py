"""approximate(): fast approximations of a posterior, never trusted without their k-hat."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from arviz_stats.base import array_stats
from jax.flatten_util import ravel_pytree
from numpyro.infer import SVI, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import AutoContinuous, AutoIAFNormal, AutoMultivariateNormal

import jaxscale as js
from bayes._diagnose import approximation_verdict
from bayes._model import Model, Table, latent_shapes, site_values
from bayes._posterior import Posterior
from bayes._sample import as_model
from bayes._target import Target, frames, lanes_of, moved, starts

Method = Literal["laplace", "pathfinder", "normal", "flow"]
_METHODS = ("laplace", "pathfinder", "normal", "flow")
_NEWTON_STEPS = 40
_PATHS = 8
_ELBO_DRAWS = 16
_LEAST_CURVATURE = 0.05  # in the coordinates of the frame, where the posterior is of width one
# Degrees of freedom of the tails: those of a posterior are heavier than its mode lets guess.
_TAILS = 5.0
_SVI_STEPS = 4000


class _Proposal(NamedTuple):
    """Independent draws (draws, dim), and their log density up to a constant, (draws,)."""

    z: Any
    log_q: Any


def approximate(
    source: js.Fit | js.Law | Model,
    runs: js.Runs | None = None,
    *,
    key: jax.Array,
    method: Method = "laplace",
    draws: int = 4000,
    **options: Any,
) -> Posterior:
    """Approximate the posterior by q, weight draws of q by p / q, and judge q by those weights.

    The weights compare q with the very density that `sample` walks on. Where their Pareto k-hat is
    at most 0.7, the draws are resampled by the smoothed weights; otherwise the verdict refuses
    them.

    - ``"laplace"``: multivariate t at the posterior mode, shaped by the inverse Hessian there.
    - ``"pathfinder"``: along Newton paths from eight starts around the fit, the normal
      approximation with the best evidence lower bound on each; their mixture, with the tails of t.
    - ``"normal"``: multivariate normal by stochastic variational inference.
    - ``"flow"``: inverse autoregressive flow, likewise.

    Args:
        source, runs: see `sample`.
        key: JAX random key.
        method: which approximation.
        draws: number of draws.
        **options: what `model` takes.

    Returns:
        A `Posterior` with one chain.

    Raises:
        DataError: for an unknown method, or what `model` refuses.

    Source: Yao et al. 2018, arXiv 1802.02538 (k-hat of approximations); Zhang et al. 2022, JMLR
    23(306) (Pathfinder); Vehtari et al. 2024, JMLR 25(72) (PSIS).

    Example:
        >>> approximate(fit, likelihood=StudentT(), method="pathfinder", key=jax.random.key(0))
    """
    if method not in _METHODS:
        raise js.DataError(f"method must be one of {', '.join(_METHODS)}, got {method!r}")
    if draws < 100:
        raise js.DataError(f"an approximation needs at least 100 draws to be judged, got {draws}")
    first, second, third, fourth = jax.random.split(key, 4)
    made = as_model(source, runs, fourth, options)
    tables = lanes_of(made.table, 1)
    axes = frames(made.law, tables, jnp.asarray(made.fit.free, float)[None])
    data = jax.tree.map(lambda x: x[0], (tables, axes))
    if method in ("normal", "flow"):
        found = _variational(Target(made.law), data, method, first, draws)
    else:
        found = _newton(made, data, method, first, draws)
    log_p = -_densities(Target(made.law), data, found.z)
    chosen, khat = importance(np.asarray(log_p - found.log_q), second)
    z = jax.vmap(_unravel(made.table))(jnp.asarray(found.z)[chosen])
    u = moved(axes, jax.tree.map(lambda x: x[None], z))
    verdict = approximation_verdict(made, site_values(made, u), khat, method)
    return Posterior(made, u, {}, method, verdict, third)


def importance(log_ratio: np.ndarray, key: jax.Array) -> tuple[np.ndarray, float]:
    """Indices of draws resampled by Pareto-smoothed weights, and the k-hat of the weights.

    Resampling is systematic: a draw of weight w is taken floor(n w) or floor(n w) + 1 times.
    """
    finite = np.where(np.isfinite(log_ratio), log_ratio, -np.inf)
    if np.isinf(finite).all():
        return np.arange(len(finite)), np.inf
    if np.ptp(finite) == 0:  # the draws are the target's
        return np.arange(len(finite)), -np.inf
    floor = finite[np.isfinite(finite)].min() - 1e3
    smoothed, khat = array_stats.psislw(-np.maximum(finite, floor))  # as log likelihoods
    weight = np.exp(smoothed - smoothed.max())
    steps = (np.arange(len(weight)) + float(jax.random.uniform(key))) / len(weight)
    chosen = np.searchsorted(np.cumsum(weight) / weight.sum(), steps)
    return np.minimum(chosen, len(weight) - 1), float(khat)


def _unravel(table: Table) -> Callable[[Any], dict[str, Any]]:
    return ravel_pytree(_zeros(table))[1]


def _zeros(table: Table) -> dict[str, Any]:
    latent = {name: jnp.zeros(n) for name, n in latent_shapes(table).items()}
    return {"main": jnp.zeros(len(table.priors)), **latent}


@jax.jit(static_argnames="target")
def _densities(target: Target, data: Any, z: Any) -> Any:
    unravel = _unravel(data[0])
    return jax.vmap(lambda at: target(data, unravel(at)))(z)


def _newton(made: Model, data: Any, method: str, key: jax.Array, draws: int) -> _Proposal:
    """Draws of normal approximations along Newton paths."""
    first, second, third = jax.random.split(key, 3)
    paths = _PATHS if method == "pathfinder" else 1
    begin = starts(made.table, paths, first)
    origin = jax.vmap(lambda z: ravel_pytree(z)[0])(begin)
    if method == "laplace":
        origin = jnp.zeros_like(origin)
    center, root = _paths(Target(made.law), data, origin, second, method == "laplace")
    return _mixture(center, root, third, draws)


@jax.jit(static_argnames=("target", "last"))
def _paths(target: Target, data: Any, origin: Any, key: jax.Array, last: bool) -> tuple[Any, Any]:
    """Normal approximations, center (paths, dim) and root (paths, dim, dim), one for each path."""
    unravel = _unravel(data[0])

    def value(z: Any) -> Any:
        return target(data, unravel(z))

    def step(state: Any, _: None) -> Any:
        z, f, damping = state
        gradient, hessian = jax.grad(value)(z), jax.hessian(value)(z)
        values, vectors = jnp.linalg.eigh(0.5 * (hessian + hessian.T))
        move = vectors @ ((vectors.T @ gradient) / (jnp.abs(values) + damping))
        trial = z - move
        g = value(trial)
        better = g < f
        shape = vectors / jnp.sqrt(jnp.maximum(values, _LEAST_CURVATURE))
        state = (
            jnp.where(better, trial, z),
            jnp.where(better, g, f),
            jnp.clip(damping * jnp.where(better, 0.2, 5.0), 1e-9, 1e9),
        )
        return state, (z, shape)

    def along(z: Any, key: jax.Array) -> tuple[Any, Any]:
        state = (z, value(z), jnp.asarray(0.1, z.dtype))
        _, (centers, roots) = jax.lax.scan(step, state, None, length=_NEWTON_STEPS)
        if last:
            return centers[-1], roots[-1]
        noise = jax.random.normal(key, (_ELBO_DRAWS, z.shape[0]), z.dtype)

        def bound(center: Any, root: Any) -> Any:
            size = jnp.linalg.slogdet(root)[1]
            density = jax.vmap(lambda e: value(center + root @ e))(noise)
            return jnp.where(jnp.isfinite(density).all(), size - density.mean(), -jnp.inf)

        best = jnp.argmax(jax.lax.map(lambda both: bound(*both), (centers, roots)))
        return centers[best], roots[best]

    return jax.vmap(along)(origin, jax.random.split(key, len(origin)))


def _mixture(center: Any, root: Any, key: jax.Array, draws: int) -> _Proposal:
    """Draws of the equal mixture of multivariate t distributions, as many of each."""
    paths, dim = center.shape
    which = jnp.arange(draws) % paths
    first, second = jax.random.split(key)
    noise = jax.random.normal(first, (draws, dim), center.dtype)
    stretch = jnp.sqrt(_TAILS / jax.random.chisquare(second, _TAILS, (draws, 1), center.dtype))
    z = center[which] + jnp.einsum("dij,dj->di", root[which], noise * stretch)

    def log_density(center: Any, root: Any) -> Any:
        squares = (jnp.linalg.solve(root, (z - center).T) ** 2).sum(0)
        kernel = -0.5 * (_TAILS + dim) * jnp.log1p(squares / _TAILS)
        return kernel - jnp.linalg.slogdet(root)[1]

    each = jax.vmap(log_density)(center, root)
    return _Proposal(z, jax.scipy.special.logsumexp(each, axis=0))


def _variational(target: Target, data: Any, method: str, key: jax.Array, draws: int) -> _Proposal:
    """Draws of a guide fitted by stochastic variational inference."""
    first, second = jax.random.split(key)
    unravel = _unravel(data[0])
    dim = ravel_pytree(_zeros(data[0]))[0].shape[0]

    def program() -> None:
        support = dist.constraints.real_vector
        z = numpyro.sample("z", dist.ImproperUniform(support, (), (dim,)))
        with numpyro.handlers.block():  # the sites of the model are not those of the guide
            density = -target(data, unravel(z))
        numpyro.factor("posterior", density)

    at_zero = init_to_value(values={"z": jnp.zeros(dim)})
    guide: AutoContinuous
    if method == "normal":
        guide = AutoMultivariateNormal(program, init_loc_fn=at_zero, init_scale=0.5)
    else:
        guide = AutoIAFNormal(
            program, init_loc_fn=at_zero, num_flows=2, hidden_dims=[max(32, dim)] * 2
        )
    schedule = optax.cosine_decay_schedule(0.02, _SVI_STEPS)
    svi = SVI(program, guide, optax.adam(schedule), Trace_ELBO(num_particles=8))
    params = svi.run(first, _SVI_STEPS, progress_bar=False).params
    base, transform = guide.get_base_dist(), guide.get_transform(params)
    x = base.sample(second, (draws,))
    z = transform(x)
    return _Proposal(z, base.log_prob(x) - transform.log_abs_det_jacobian(x, z))
