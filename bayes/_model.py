"""The probabilistic model: law, priors, and what makes runs scatter, as a NumPyro program."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import biject_to

import jaxscale as js
from bayes._likelihood import Counts, Likelihood, as_likelihood, extras
from bayes._prior import check_priors, prior

# Width of the prior of the log of the noise scale around its estimate.
_SCALE_WIDTH = 2.0
_NO_NOISE = 1e-12
_NOISE_NAMES = ("scale", "df", "concentration", "scale_slope", "outlier_share", "outlier_factor",
                "log_scale")  # fmt: skip
_DIMENSIONS = ("chain", "draw", "run", "loss", "weight")


class Table(eqx.Module):
    """What a model is conditioned on, as a PyTree: lanes of a batch may differ in any leaf.

    Attributes:
        inputs: inputs of the law in the user's units, each (runs,).
        loss: observed losses, (runs,).
        weight: weights of the runs with mean one, (runs,); zero leaves a run out.
        log_refs: log of the reference values of the fit.
        priors: distribution of every scalar parameter, by site.
        likelihood: how a run scatters.
        size: centered log of what the noise scale may depend on, (runs,).
        codes: cluster of every run, (runs,), by name of the effect.
        centering: how far each cluster's effect is centered, (clusters,), by name of the effect.
        input_error: relative standard error of inputs, by name.
    """

    inputs: dict[str, Any]
    loss: Any
    weight: Any
    log_refs: dict[str, Any]
    priors: dict[str, dist.Distribution]
    likelihood: Likelihood
    size: Any
    codes: dict[str, Any]
    centering: dict[str, Any]
    input_error: dict[str, Any]


class Terms(eqx.Module):
    """What follows from values of all sites: parameters, predictions and log densities of runs."""

    params: dict[str, Any]
    predicted: Any
    scale: Any
    effects: dict[str, Any]
    log_prob: Any


def program(law: js.Law, table: Table) -> None:
    """The NumPyro program: every site of `table.priors`, and the effects of clusters."""
    values = {name: numpyro.sample(name, chosen) for name, chosen in table.priors.items()}
    for name, weights in table.centering.items():
        width = jnp.broadcast_to(values[f"sd_{name}"], weights.shape) ** weights
        values[f"raw_{name}"] = numpyro.sample(f"raw_{name}", dist.Normal(0.0, width).to_event(1))
    found = terms(law, table, values, everywhere=False)
    for name, value in found.params.items():
        if name not in values:
            numpyro.deterministic(name, value)
    numpyro.factor("runs", jnp.sum(table.weight * found.log_prob))


def terms(
    law: js.Law, table: Table, values: Mapping[str, Any], *, everywhere: bool = True
) -> Terms:
    """Parameters, predictions and log density of every run at values of all sites.

    Without `everywhere`, runs of weight zero are taken as predicted exactly: where the law has no
    density for them, they must not spoil that of the others.
    """
    params = parameters(law, table, values)
    effects = {
        name: values[f"sd_{name}"] ** (1 - weights) * values[f"raw_{name}"]
        for name, weights in table.centering.items()
    }
    shift = sum(effects[name][table.codes[name]] for name in effects)
    central = law(*(table.inputs[name] for name in law.inputs), **params)
    if not everywhere:
        central = jnp.where(table.weight > 0, central, table.loss)
    predicted = central * jnp.exp(shift)
    scale = jnp.asarray(values.get("scale", 1.0))
    if "scale_slope" in values:
        scale = scale * jnp.exp(values["scale_slope"] * table.size)
    if table.input_error:
        slopes = _slopes(law, table, params)
        share = sum((table.input_error[x] * slopes[x] / central) ** 2 for x in slopes)
        scale = jnp.sqrt(scale**2 + share * (1.0 if table.likelihood.log else predicted**2))
    return Terms(params, predicted, scale, effects, _log_prob(table, values, predicted, scale))


def _slopes(law: js.Law, table: Table, params: dict[str, Any]) -> dict[str, Any]:
    """dlaw / dlog x at every run, for every input x that has an error."""

    def at(logs: dict[str, Any]) -> Any:
        return law(*(jnp.exp(logs[name]) for name in law.inputs), **params)

    logs = {name: jnp.log(x) for name, x in table.inputs.items()}
    slopes = {}
    for name in table.input_error:
        tangents = {key: jnp.ones_like(x) if key == name else 0 * x for key, x in logs.items()}
        slopes[name] = jax.jvp(at, (logs,), (tangents,))[1]
    return slopes


def _log_prob(table: Table, values: Mapping[str, Any], predicted: Any, scale: Any) -> Any:
    extra = extras(table.likelihood, values)
    core = table.likelihood.log_prob(predicted, table.loss, scale, extra)
    if "outlier_share" not in values:
        return core
    share, wide = values["outlier_share"], scale * (1 + values["outlier_factor"])
    outside = table.likelihood.log_prob(predicted, table.loss, wide, extra)
    return jnp.logaddexp(jnp.log1p(-share) + core, jnp.log(share) + outside)


def parameters(law: js.Law, table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters in the user's units: from reference coordinates, or sampled as they are."""
    own = {name: values[name] for name in law.names if name in table.priors}
    reference = {
        name: own[name] if name in own else param.from_free(values[f"free_{name}"])
        for name, param in law.params
    }
    return law.to_physical(reference, table.log_refs) | own


def scalar_sites(table: Table) -> tuple[str, ...]:
    """Names of the scalar sites in the order of ``u["main"]``: sorted, as PyTrees keep them."""
    return tuple(sorted(table.priors))


def latent_shapes(table: Table) -> dict[str, int]:
    """Number of values of every latent site."""
    return {f"raw_{name}": weights.shape[-1] for name, weights in table.centering.items()}


def constrained(table: Table, u: Mapping[str, Any]) -> dict[str, Any]:
    """Values of all sites at unconstrained coordinates: ``u["main"]`` and the latent ones."""
    main = {
        name: biject_to(table.priors[name].support)(u["main"][i])
        for i, name in enumerate(scalar_sites(table))
    }
    return main | {name: u[name] for name in latent_shapes(table)}


def site_values(model: "Model", u: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Values of the scalar sites at draws of the unconstrained coordinates."""
    sites = scalar_sites(model.table)
    return {
        name: np.asarray(
            biject_to(model.table.priors[name].support)(jnp.asarray(u["main"][..., i]))
        )
        for i, name in enumerate(sites)
    }


def prior_log_prob(table: Table, values: Mapping[str, Any]) -> Any:
    """Log prior density of the scalar parameters and of the effects given their widths."""
    total = sum(chosen.log_prob(values[name]) for name, chosen in table.priors.items())
    for name, weights in table.centering.items():
        width = values[f"sd_{name}"] ** weights
        total += dist.Normal(0.0, width).log_prob(values[f"raw_{name}"]).sum()
    return total


def log_jacobian(table: Table, u: Mapping[str, Any]) -> Any:
    """Log determinant of the map from unconstrained coordinates to values."""
    total = jnp.zeros(())
    for i, name in enumerate(scalar_sites(table)):
        transform = biject_to(table.priors[name].support)
        x = u["main"][i]
        total += transform.log_abs_det_jacobian(x, transform(x))
    return total


@dataclasses.dataclass(frozen=True)
class Model:
    """A law, its priors and its noise, conditioned on runs; calling it runs the NumPyro program.

    Attributes:
        fit: the fit that sampling starts at.
        table: everything the program is conditioned on.
        scale_by: what the noise scale depends on, or None.
        center: mean log of that over the runs.
    """

    fit: js.Fit
    table: Table
    scale_by: str | None = None
    center: float = 0.0

    @property
    def law(self) -> js.Law:
        """The law."""
        return self.fit.law

    @property
    def noise_sites(self) -> tuple[str, ...]:
        """Names of the parameters of the noise."""
        law = {f"free_{name}" for name in self.law.names} | set(self.law.names)
        return tuple(name for name in scalar_sites(self.table) if name not in law)

    def __call__(self) -> None:
        program(self.law, self.table)

    def __repr__(self) -> str:
        lines = [f"{self.law.name}, {self.fit.n_runs} runs, {self.table.likelihood}"]
        lines += [f"  {name} ~ {_shown(chosen)}" for name, chosen in self.table.priors.items()]
        return "\n".join(lines)


def _shown(chosen: dist.Distribution) -> str:
    numbers = ", ".join(f"{name}={float(x):.4g}" for name, x in chosen.get_args().items())
    return f"{type(chosen).__name__}({numbers})"


def model(
    fit: js.Fit,
    *,
    likelihood: js.Objective | Likelihood | None = None,
    priors: Mapping[str, dist.Distribution] | None = None,
    scale_by: str | None = None,
    effects: Mapping[str, Any] | None = None,
    outliers: bool = False,
    input_error: Mapping[str, float] | None = None,
) -> Model:
    """log loss_i = log law(inputs_i) + sum_e effect_e[cluster of i] + noise_i, with its priors.

    The parameters of the law have the priors of `prior` on their unconstrained coordinates in
    reference units (sites ``free_NAME``). The noise scale has
    a log-normal prior around its estimate, two standard deviations of which are a factor of 50.

    Args:
        fit: a fit of one data set, with its runs.
        likelihood: an objective such as ``LogGaussian()``, whose noise model is used with its
            scale inferred; `StudentT`, `Binomial` or `BetaBinomial`; default the objective of the
            fit.
        priors: NumPyro distributions by name: of parameters of the law in the user's units
            (``"alpha"``), or of the noise: ``"scale"``, ``"df"``, ``"concentration"``,
            ``"scale_slope"``, ``"sd_EFFECT"``, ``"outlier_share"``, ``"outlier_factor"``.
        scale_by: ``"C"`` for 6 N D, or an input: the log of the noise scale is linear in its log,
            with the slope ``scale_slope``.
        effects: random effects on log loss, by name: what makes a cluster, as `cluster_codes`
            takes it, or a tuple of inputs, whose equal values make one. With
            ``{"misfit": ("N", "D")}``, repeated runs share a misfit of the law, and the noise that
            remains is that of the seeds.
        outliers: a share of the runs scatters more widely: ``outlier_share``, by the factor 1 +
            ``outlier_factor``.
        input_error: relative standard errors of inputs that were read off a figure, such as
            ``{"N": 0.02}``. To first order they add the square of ``error * dlog law / dlog N`` to
            the square of the noise scale, at every draw; a new run's inputs are taken as exact.

    Raises:
        DataError: for a stack, a fit without runs, or an option that does not apply.
        LawError: for a prior of a parameter that the model does not have.

    Example:
        >>> model(fit, likelihood=StudentT(), effects={"model": "N"}, scale_by="C")
    """
    runs = _single(fit)
    noise = as_likelihood(likelihood, fit.objective, runs.weight)
    if isinstance(noise, Counts):
        _check_counts(noise, runs, scale_by is not None or outliers or bool(input_error))
    inputs = {name: runs.inputs[name] for name in fit.law.inputs}
    size, center = _sizes(runs, inputs, scale_by)
    codes = {name: _codes(runs, by) for name, by in (effects or {}).items()}
    _check_effects(fit.law, codes)
    refuse_names(fit.law)
    errors = _checked_errors(fit.law, input_error or {})
    typical = _typical(fit, noise)
    defaults = _defaults(fit, noise, typical, scale_by, tuple(codes), outliers)
    given = dict(priors or {})
    check_priors(
        given, (*fit.law.names, *(k for k in defaults if not k.startswith("free_"))), fit.law
    )
    chosen = {}
    for site, default in defaults.items():
        name = site.removeprefix("free_")
        chosen[name if name in given else site] = given.get(name, default)
    weight = np.asarray(runs.weight, float)
    table = Table(
        inputs={name: jnp.asarray(runs.inputs[name], float) for name in fit.law.inputs},
        loss=jnp.asarray(runs.loss, float),
        weight=jnp.asarray(_multiplicity(fit.objective, weight)),
        log_refs={name: jnp.asarray(x, float) for name, x in fit.log_refs.items()},
        priors=jax.tree.map(lambda x: jnp.asarray(x, float), chosen),
        likelihood=jax.tree.map(lambda x: jnp.asarray(x, float), noise),
        size=jnp.asarray(size, float),
        codes={name: jnp.asarray(code) for name, code in codes.items()},
        centering={name: _centering(fit, code) for name, code in codes.items()},
        input_error={name: jnp.asarray(x, float) for name, x in errors.items()},
    )
    return Model(fit, table, scale_by, center)


def _multiplicity(objective: js.Objective, weight: np.ndarray) -> np.ndarray:
    """How often each run counts: weights are relative, but for the objectives of outcomes."""
    if isinstance(objective, js.Binomial):  # its weights are trials, which the likelihood has
        return (weight > 0).astype(float)
    if isinstance(objective, js.LogScore):
        return weight
    return np.asarray(weight / weight[weight > 0].mean())


def _single(fit: js.Fit) -> js.Runs:
    if not isinstance(fit, js.Fit):
        raise js.DataError(f"a posterior needs a fit, or a law and runs, not {type(fit).__name__}")
    if fit.runs is None or fit.sets is not None:
        raise js.DataError("a posterior needs a fit of one data set, with its runs")
    return fit.runs


def _check_counts(noise: Counts, runs: js.Runs, scaled: bool) -> None:
    if scaled:
        raise js.DataError(
            "scale_by, outliers and input_error need a noise scale, which counts do not have"
        )
    trials, loss = np.asarray(noise.trials), np.asarray(runs.loss)
    if trials.shape not in ((), loss.shape):
        raise js.DataError(
            f"{runs.source}: {len(loss)} runs need as many trials, got {trials.shape}"
        )
    if (loss > 1).any():
        row = int(np.asarray(runs.row)[loss > 1][0])
        raise js.DataError(f"{runs.source}: row {row} has a share of {loss.max():g}, above 1")


def _sizes(runs: js.Runs, inputs: Mapping[str, Any], by: str | None) -> tuple[np.ndarray, float]:
    """Centered logs of what the noise scale depends on, and their center."""
    if by is None:
        return np.zeros(len(runs)), 0.0
    logs = np.asarray(log_size(inputs, by))
    center = float(logs[np.asarray(runs.weight) > 0].mean())
    return logs - center, center


def log_size(inputs: Mapping[str, Any], by: str) -> Any:
    """Log of an input, or of C = 6 N D."""
    if by in inputs:
        return jnp.log(jnp.asarray(inputs[by], float))
    if by in ("C", "flop") and {"N", "D"} <= set(inputs):
        return jnp.log(6.0) + jnp.log(inputs["N"]) + jnp.log(inputs["D"])
    raise js.DataError(f"scale_by must be an input of the law or 'C', got {by!r}")


def _codes(runs: js.Runs, by: Any) -> np.ndarray:
    if isinstance(by, tuple):
        each = np.stack([js.cluster_codes(runs, one) for one in by])
        return np.asarray(np.unique(each, axis=1, return_inverse=True)[1]).ravel()
    return js.cluster_codes(runs, by)


def refuse_names(law: js.Law) -> None:
    """Refuse a law whose parameters are called like those of the noise or of the population."""
    prefixes = ("free_", "sd_", "raw_", "mu_", "tau_", "effect_")
    bad = [name for name in law.names if name in _NOISE_NAMES or name.startswith(prefixes)]
    if bad:
        raise js.LawError(
            f"law {law.name!r} has a parameter {bad[0]!r}, which is what the noise model calls one "
            "of its own; rename it"
        )


def _check_effects(law: js.Law, codes: Mapping[str, np.ndarray]) -> None:
    for name, code in codes.items():
        if not name.isidentifier() or name in (*law.names, *law.inputs, *_DIMENSIONS):
            raise js.DataError(f"an effect needs a name of its own, such as 'model', not {name!r}")
        if len(np.unique(code)) == len(code):
            raise js.DataError(
                f"every cluster of the effect {name!r} has one run, so that it cannot be told "
                "from the noise"
            )


def _checked_errors(law: js.Law, given: Mapping[str, float]) -> dict[str, float]:
    for name, error in given.items():
        if name not in law.inputs:
            raise js.DataError(f"input_error: law {law.name!r} has no input {name!r}")
        if not 0 < float(error) < 1:
            raise js.DataError(f"input_error of {name} must be a relative error, such as 0.02")
    return {name: float(error) for name, error in given.items()}


def _typical(fit: js.Fit, noise: Likelihood) -> float:
    """Scale of the noise that the fit's residuals suggest; 1 where the noise has none."""
    if not noise.has_scale:
        return 1.0
    runs = _single(fit)
    real = np.asarray(runs.weight) > 0
    predicted, loss = np.asarray(fit.predicted())[real], np.asarray(runs.loss)[real]
    objective = getattr(noise, "objective", None)
    if objective is not None:
        r = np.asarray(objective.residual(jnp.asarray(predicted), jnp.asarray(loss)))
        return max(objective.noise_scale(r, np.asarray(runs.weight)[real]), _NO_NOISE)
    r = np.log(predicted) - np.log(loss)
    return max(1.4826 * float(np.median(np.abs(r))), 0.1 * float(r.std()), _NO_NOISE)


def _defaults(
    fit: js.Fit,
    noise: Likelihood,
    typical: float,
    scale_by: str | None,
    effects: tuple[str, ...],
    outliers: bool,
) -> dict[str, dist.Distribution]:
    chosen = {f"free_{name}": prior(param) for name, param in fit.law.params}
    if noise.has_scale:
        chosen["scale"] = dist.LogNormal(np.log(typical), _SCALE_WIDTH)
    chosen |= noise.priors()
    if scale_by is not None:
        chosen["scale_slope"] = dist.Normal(0.0, 0.3)
    total = max(float(fit.rmse), _NO_NOISE)
    chosen |= {f"sd_{name}": dist.HalfNormal(total) for name in effects}
    if outliers:
        chosen["outlier_share"] = dist.Beta(1.0, 15.0)
        chosen["outlier_factor"] = dist.LogNormal(np.log(5.0), 0.5)
    return chosen


def _centering(fit: js.Fit, codes: np.ndarray) -> Any:
    """How far to center each cluster's effect: n_g tau^2 / (n_g tau^2 + sigma^2).

    The more the runs of a cluster say about it, the more. The posterior does not depend on it, only
    the speed of the sampler does, so that the intraclass correlation of the residuals will do.
    """
    real = np.asarray(_single(fit).weight) > 0
    sizes = np.bincount(codes, weights=real, minlength=int(codes.max()) + 1)
    share = float(np.clip(js.icc(fit, codes).icc, 0.1, 0.98))
    return jnp.asarray(sizes * share / (sizes * share + (1 - share)))
