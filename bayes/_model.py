"""The probabilistic model of a fit: priors from `Param`, likelihood from the objective."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

import jaxscale as js


def prior(param: js.Param) -> dist.Distribution:
    """Weakly informative prior of a parameter's unconstrained coordinate, in reference units.

    Normal at the middle of the start range, with standard deviation `prior_scale`: for a positive
    parameter a factor of about three either way at one standard deviation.
    """
    return dist.Normal(param.start(0.5), param.prior_scale)


def model(fit: js.Fit, priors: Mapping[str, dist.Distribution] | None = None) -> Callable[[], None]:
    """NumPyro model of the law and the runs of a fit.

    The unconstrained coordinates (sites ``free_NAME``) have the priors of `prior`; the parameters
    in the user's units are deterministic sites. Residuals follow the noise model of the fit's
    objective, whose ``scale`` is inferred around its maximum-likelihood value with a standard
    deviation of two in its log.

    Args:
        fit: a fit of one data set, with its runs.
        priors: distributions of the unconstrained coordinates that replace the default, by
            parameter.

    Raises:
        JaxscaleError: if a prior is for no parameter of the law, or the fit has no runs.
    """
    law, objective, runs = fit.law, fit.objective, fit.runs
    if runs is None or fit.sets is not None:
        raise js.DataError("a posterior needs a fit of one data set, with its runs")
    unknown = set(priors or {}) - set(law.names)
    if unknown:
        raise js.LawError(f"law {law.name!r} has no parameter {', '.join(sorted(unknown))}")
    chosen = {name: prior(param) for name, param in law.params} | dict(priors or {})
    inputs = [jnp.asarray(runs.inputs[name], float) for name in law.inputs]
    loss, weight = jnp.asarray(runs.loss, float), jnp.asarray(runs.weight, float)
    typical_scale = fit.noise_scale()

    def sampled() -> None:
        free = {name: numpyro.sample(f"free_{name}", chosen[name]) for name in law.names}
        reference = {name: param.from_free(free[name]) for name, param in law.params}
        params = law.to_physical(reference, fit.log_refs)
        for name, value in params.items():
            numpyro.deterministic(name, value)
        scale = numpyro.sample("scale", dist.LogNormal(jnp.log(typical_scale), 2.0))
        residual = objective.residual(law(*inputs, **params), loss)
        numpyro.factor("runs", jnp.sum(weight * objective.log_prob(residual, scale)))

    return sampled
