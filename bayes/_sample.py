"""sample(): draws from the posterior of a fitted law, with a verdict on the sampler."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import arviz_base
import arviz_stats
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
from numpyro.infer import MCMC, NUTS, init_to_value

import jaxscale as js
from bayes._model import model

_MOST_RHAT = 1.01
_LEAST_ESS = 400


@dataclasses.dataclass(frozen=True)
class Posterior:
    """Draws from a posterior.

    Attributes:
        fit: the fit that it belongs to.
        params: draws in the user's units by parameter, each of shape (draws,).
        scale: draws of the noise scale, shape (draws,).
        data: ArviZ DataTree with the groups ``posterior`` and ``sample_stats``.
        verdict: whether the sampler can be trusted, in words.
        ok: whether it passed its checks.
    """

    fit: js.Fit
    params: dict[str, np.ndarray]
    scale: np.ndarray
    data: Any
    verdict: str
    ok: bool

    @property
    def draws(self) -> js.Draws:
        """The draws as `predict`, `allocate`, `intervals` and the plots take them.

        A sampler that failed its checks says so in their notes.
        """
        return js.Draws(
            fit=self.fit,
            method="posterior (NUTS)",
            params=self.params,
            scale=self.scale,
            center="median",
            notes=() if self.ok else (self.verdict,),
        )

    def frame(self, level: float = 0.9) -> pd.DataFrame:
        """Mean, median and equal-tailed interval of every parameter and derived quantity."""
        derived = {name: np.asarray(fn(**self.params)) for name, fn in self.fit.law.derived}
        tail = (1 - level) / 2
        rows = [
            {
                "quantity": name,
                "mean": draws.mean(),
                "median": np.median(draws),
                "low": np.quantile(draws, tail),
                "high": np.quantile(draws, 1 - tail),
            }
            for name, draws in {**self.params, **derived}.items()
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        table = self.frame().to_string(index=False, float_format=lambda x: f"{x:.6g}")
        return f"{self.fit.law.name}, posterior (90% intervals)\n{table}\n{self.verdict}"


def sample(
    fit: js.Fit,
    *,
    key: jax.Array,
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 4,
    priors: Mapping[str, dist.Distribution] | None = None,
) -> Posterior:
    """Sample the posterior of a fitted law with NUTS, all chains at once, started at the fit.

    Args:
        fit: a fit of one data set, with its runs.
        key: JAX random key.
        draws, warmup: per chain.
        chains: number of chains, run side by side by `vmap`.
        priors: see `bayes.model`.

    Source: Hoffman & Gelman 2014 (NUTS); Vehtari et al. 2021 (R-hat, ESS).

    Example:
        >>> bayes.sample(fit, key=jax.random.key(0)).frame()
    """
    target = model(fit, priors)
    start = {f"free_{name}": jnp.asarray(fit.free[i]) for i, name in enumerate(fit.law.names)}
    start["scale"] = jnp.asarray(fit.noise_scale())
    kernel = NUTS(
        target,
        dense_mass=True,
        target_accept_prob=0.9,
        init_strategy=init_to_value(values=start),
    )
    mcmc = MCMC(
        kernel,
        num_warmup=warmup,
        num_samples=draws,
        num_chains=chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(key, extra_fields=("diverging", "energy", "num_steps"))
    sites = mcmc.get_samples(group_by_chain=True)
    kept = {name: np.asarray(sites[name]) for name in (*fit.law.names, "scale")}
    stats = {k: np.asarray(v) for k, v in mcmc.get_extra_fields(group_by_chain=True).items()}
    data = arviz_base.from_dict({"posterior": kept, "sample_stats": stats})
    verdict, ok = _judge(data, int(stats["diverging"].sum()))
    flat = {name: values.reshape(-1) for name, values in kept.items()}
    return Posterior(
        fit=fit,
        params={name: flat[name] for name in fit.law.names},
        scale=flat["scale"],
        data=data,
        verdict=verdict,
        ok=ok,
    )


def _judge(data: Any, divergences: int) -> tuple[str, bool]:
    rhat = max(float(x) for x in arviz_stats.rhat(data).data_vars.values())
    ess = min(
        float(x)
        for method in ("bulk", "tail")
        for x in arviz_stats.ess(data, method=method).data_vars.values()
    )
    numbers = (
        f"R-hat at most {rhat:.3f}, effective draws at least {ess:,.0f}, {divergences} divergent"
    )
    problems = []
    if not rhat <= _MOST_RHAT:
        problems.append("the chains have not mixed")
    if not ess >= _LEAST_ESS:
        problems.append("there are too few effective draws")
    if divergences:
        problems.append("the sampler diverged")
    if problems:
        advice = "sample longer, or use stronger priors"
        return f"Do not use these draws: {' and '.join(problems)} ({numbers}); {advice}.", False
    return f"The sampler passed its checks: {numbers}.", True
