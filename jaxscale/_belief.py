"""What is known before the next run: parameters, how sure they are, and the noise to come."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from jaxscale._bands import finite_draws
from jaxscale._design_noise import (
    CellNoise,
    DesignNoise,
    drawn_noise,
    measured_noise,
    stated_noise,
    thinned,
)
from jaxscale._draws import Draws, as_draws
from jaxscale._errors import DataError, LawError
from jaxscale._evaluate import predict_reference
from jaxscale._fit import Fit
from jaxscale._laplace import laplace
from jaxscale._law import Law, free_vector
from jaxscale._objective import LogHuber, Objective
from jaxscale._quantity import Quantity, at_free
from jaxscale._runs import Runs
from jaxscale._sobol import sobol_points
from jaxscale.published import Published


@dataclasses.dataclass(frozen=True)
class Guess:
    """Parameters of a law before any run: what a design from scratch is made for.

    Attributes:
        law: the law.
        params: a value for every parameter, in the units of the candidates.
        sd: how sure they are: the standard deviation of each, by name or one for all, in the
            coordinates of a fit (the log of what is positive, at the middle of the candidates).
            Then the design is averaged over such parameters. None: it is made for these
            parameters, and hardly anything is taken as known (the weak priors of the law).
        objective: what the runs will be fitted with; default ``LogHuber(1e-3)``, as in `fit`.

    Raises:
        LawError: for missing, unknown or impossible parameters.

    Example:
        >>> Guess(laws.chinchilla, dict(E=1.8, A=480, B=2100, alpha=0.35, beta=0.37))
    """

    law: Law
    params: Mapping[str, float]
    sd: float | Mapping[str, float] | None = None
    objective: Objective = dataclasses.field(default_factory=LogHuber)

    def __post_init__(self) -> None:
        if set(self.params) != set(self.law.names):
            raise LawError(
                f"a guess at {self.law.name!r} needs {', '.join(self.law.names)}; it has "
                f"{', '.join(self.params) or 'none'}"
            )
        for name, param in self.law.params:
            value = float(self.params[name])
            if not (param.lower < value < param.upper and np.isfinite(value)):
                raise LawError(
                    f"a guess of {name} = {value:g} is not inside "
                    f"({param.lower:g}, {param.upper:g})"
                )
        for name, sd in self.widths().items():
            if not (np.isfinite(sd) and sd > 0):
                raise LawError(f"the sd of {name} must be a positive number, got {sd}")

    def widths(self) -> dict[str, float]:
        """Standard deviation of every parameter, in the coordinates of a fit."""
        given = self.sd if isinstance(self.sd, Mapping) else dict.fromkeys(self.law.names, self.sd)
        unknown = set(given) - set(self.law.names)
        if unknown:
            raise LawError(f"law {self.law.name!r} has no parameter {sorted(unknown)[0]!r}")
        weak = {name: param.prior_scale for name, param in self.law.params}
        return {
            name: float(weak[name] if (sd := given.get(name)) is None else sd)
            for name in self.law.names
        }


@dataclasses.dataclass(frozen=True)
class Belief:
    """A source in the form that planning needs. Coordinates are unconstrained, reference units.

    Attributes:
        law, objective: what is, or will be, fitted.
        center: the estimate, shape (p,).
        theta: where derivatives are taken, shape (draws, p).
        covariance: of the estimate before any new run, shape (p, p).
        log_refs: log of the reference value of each scaled input and of the loss.
        ranges: lowest and highest value of every input: of the runs, or of the candidates.
        fit: the fit so far, or None.
        noise: noise of every candidate.
        how: what the present knowledge is, in words.
        notes: what to know about it.
    """

    law: Law
    objective: Objective
    center: np.ndarray
    theta: np.ndarray
    covariance: np.ndarray
    log_refs: dict[str, Any]
    ranges: dict[str, tuple[Any, Any]]
    fit: Fit | None
    noise: CellNoise
    how: str
    notes: tuple[str, ...] = ()

    @property
    def runs(self) -> Runs | None:
        """The runs so far, if they are at hand."""
        return None if self.fit is None else self.fit.runs

    def scaled(self, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Inputs in reference units, in the order of the law."""
        return tuple(
            jnp.asarray(np.asarray(inputs[name], float) / np.exp(self.log_refs.get(name, 0.0)))
            for name in self.law.inputs
        )

    def jacobian(self, inputs: Mapping[str, Any]) -> np.ndarray:
        """Derivative of the residual of runs by the parameters, shape (draws, p, runs)."""
        unit = jnp.exp(jnp.asarray(self.log_refs.get("loss", 0.0), float))
        return np.asarray(
            _jacobian(self.law, self.objective, jnp.asarray(self.theta), self.scaled(inputs), unit)
        )

    def aims(self, targets: tuple[Quantity, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Values of targets at the center, (targets,), and derivatives, (draws, targets, p).

        Both on the scale on which intervals are formed, see `to_interval_scale`.
        """
        law, refs = self.law, self.log_refs
        value = _values(law, targets, jnp.asarray(self.center), refs)
        return np.asarray(value), np.asarray(_aims(law, targets, jnp.asarray(self.theta), refs))


@jax.jit(static_argnames="law")
def _jacobian(law: Law, objective: Objective, theta: Any, inputs: Any, unit: Any) -> Any:
    def one(at: Any) -> Any:
        # A run is expected on the law: its residual is zero, its derivative is not.
        loss = unit * predict_reference(law, at, inputs)

        def residual(moved: Any) -> Any:
            return objective.residual(unit * predict_reference(law, moved, inputs), loss)

        return jax.jacfwd(residual)(at).T

    return jax.lax.map(one, theta)


@jax.jit(static_argnames="law")
def _values(law: Law, targets: tuple[Quantity, ...], theta: Any, log_refs: Any) -> Any:
    return at_free(law, targets, theta, log_refs)


@jax.jit(static_argnames="law")
def _aims(law: Law, targets: tuple[Quantity, ...], theta: Any, log_refs: Any) -> Any:
    return jax.vmap(jax.jacfwd(lambda at: at_free(law, targets, at, log_refs)))(theta)


def belief_of(
    source: Any,
    inputs: Mapping[str, np.ndarray],
    *,
    noise: float | DesignNoise | None = None,
    cov: str = "hessian",
    by: Any = None,
    draws: int = 128,
) -> Belief:
    """What a source says, at candidates.

    Args:
        source: a fit, its draws, a posterior, a `Guess`, or an entry of `published`.
        inputs: inputs of the candidates by name.
        noise: stated noise, or None for that of the source.
        cov, by: how sure a fit is, see `laplace`.
        draws: at most so many draws at which derivatives are taken.

    Raises:
        DataError: if the source is none of these, or says nothing of the noise.
    """
    if isinstance(source, Published):
        source = Guess(source.law, source.params)
    if isinstance(source, Guess):
        return _of_guess(source, inputs, noise, draws)
    members = members_of(source)
    if members is None:
        return _of_fit(source, noise, cov, by)
    return _of_draws(members, inputs, noise, draws)


def members_of(source: Any) -> Draws | None:
    """The draws of a source, or None for one that has none.

    Raises:
        DataError: if it is nothing that a plan can start from.
    """
    return None if isinstance(source, Guess | Published) else as_draws(source)


def law_of(source: Any) -> Law:
    """The law of a source.

    Raises:
        DataError: if it has none.
    """
    members = members_of(source)
    return source.law if members is None else members.law


def _of_guess(guess: Guess, inputs: Mapping[str, np.ndarray], noise: Any, draws: int) -> Belief:
    if noise is None:
        raise DataError(
            "without runs the noise must be stated: noise=0.01 is a standard deviation of 1% of "
            "the loss"
        )
    law = guess.law
    params = {name: float(value) for name, value in guess.params.items()}
    refs = {n: float(np.mean(np.log(inputs[n]))) for n in law.inputs if n in law.scaled}
    if "loss" in law.scaled:
        predicted = np.asarray(law(*(inputs[name] for name in law.inputs), **params), float)
        refs["loss"] = float(np.mean(np.log(predicted)))
    center = np.asarray(free_vector(law, law.to_reference(params, refs)))
    width = np.array(list(guess.widths().values()))
    theta = center[None]
    if guess.sd is not None:
        depth = max(1, int(np.ceil(np.log2(draws))))
        points = sobol_points(len(center), depth)[:draws]
        theta = center + width * scipy.stats.norm.ppf(points + 0.5 / 2**depth)
    said = "weak priors only" if guess.sd is None else "the stated guess"
    return Belief(
        law=law,
        objective=guess.objective,
        center=center,
        theta=theta,
        covariance=np.diag(width**2),
        log_refs=refs,
        ranges={name: (x.min(), x.max()) for name, x in inputs.items()},
        fit=None,
        noise=stated_noise(guess.objective, noise),
        how=said,
    )


def _of_fit(fit: Fit, noise: Any, cov: str, by: Any) -> Belief:
    known = laplace(fit, cov=cov, by=by, draws=2)  # type: ignore[arg-type]  # it checks the name
    center = np.asarray(fit.free, float)
    return Belief(
        law=fit.law,
        objective=fit.objective,
        center=center,
        theta=center[None],
        covariance=known.covariance,
        log_refs=fit.log_refs,
        ranges=fit.ranges,
        fit=fit,
        noise=stated_noise(fit.objective, noise)
        if noise is not None
        else measured_noise(fit, known.cov),
        how=known.draws.method,
        notes=known.draws.notes,
    )


def _of_draws(draws: Draws, inputs: Mapping[str, np.ndarray], noise: Any, most: int) -> Belief:
    fit, law = draws.fit, draws.law
    params, _, lost = finite_draws(draws)
    reference = law.to_reference({k: jnp.asarray(x) for k, x in params.items()}, fit.log_refs)
    free = np.asarray(free_vector(law, reference), float)
    usable = np.isfinite(free).all(axis=1)
    free = free[usable]
    if len(free) <= 2 * len(law.params):
        raise DataError(
            f"{len(free)} usable draws say too little about {len(law.params)} parameters; make more"
        )
    return Belief(
        law=law,
        objective=fit.objective,
        center=np.asarray(fit.free, float) if draws.center == "fit" else np.median(free, axis=0),
        theta=free[thinned(len(free), most)],
        covariance=np.cov(free.T).reshape(free.shape[1], free.shape[1]),
        log_refs=fit.log_refs,
        ranges=fit.ranges,
        fit=fit,
        noise=_noise_of_draws(draws, inputs, noise),
        how=f"{len(draws):,} draws: {draws.method}",
        notes=tuple(filter(None, (draws.doubt, *lost, *draws.notes))),
    )


def _noise_of_draws(draws: Draws, inputs: Mapping[str, np.ndarray], noise: Any) -> CellNoise:
    if noise is not None:
        return stated_noise(draws.objective, noise)
    if draws.noise is None and draws.runs is not None:
        return measured_noise(draws.fit, "HC1")
    return drawn_noise(draws, dict(inputs))
