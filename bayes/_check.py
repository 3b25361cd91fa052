"""check(): are model or prior at odds with the runs, and are its predictions too sure?"""

import dataclasses
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import arviz_base
import arviz_stats
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from arviz_stats.base import array_stats
from scipy.stats import norm

import jaxscale as js
from bayes._discrepancy import quantities, residuals
from bayes._groups import prior_draws
from bayes._likelihood import Counts, extras
from bayes._model import Table, constrained, terms
from bayes._posterior import Posterior
from bayes._uniform import uniform_p

_DRAWS = 2000  # of the posterior, for replicated runs
_FACTOR = 10.0  # a prior loss this far outside the observed range is out of the question
_LEAST_SHARE = 0.5
_PRIOR_ALPHA = 0.01
_MOST_KHAT = 0.7
_MOST_BAD = 0.05
_SENSITIVE = 0.05  # Kallioinen et al., section 3.2
_CONFLICT, _STRONG = "prior-data conflict", "strong prior or weak likelihood"


@dataclasses.dataclass(frozen=True)
class Check:
    """What speaks against a posterior's model.

    Attributes:
        law: name of the law.
        alpha: how often a true model fails one of the posterior predictive checks or LOO-PIT, at
            most.
        table: one row per check, see `frame`.
        pit: leave-one-out probability integral transform of every run that counts, (runs,).
        khat: Pareto k-hat of its importance weights, (runs,).
        sensitivity: one row per parameter: quantity; prior and likelihood, how much its posterior
            moves when that is raised to a power near one; diagnosis; because_of, the prior that
            moves it most where there is a conflict.
        observed, replicated: draws of every posterior predictive test quantity, by check, each
            (draws,).
    """

    law: str
    alpha: float
    table: pd.DataFrame
    pit: np.ndarray
    khat: np.ndarray
    sensitivity: pd.DataFrame
    observed: dict[str, np.ndarray]
    replicated: dict[str, np.ndarray]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return bool(self.table["ok"].all())

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the failed checks say, or that there are none; and what only priors know."""
        failed = tuple(self.table.loc[~self.table["ok"], "sentence"])
        strong = self.sensitivity.loc[self.sensitivity["diagnosis"] == _STRONG, "quantity"]
        notes = () if strong.empty else (
            f"What the posterior says of {', '.join(strong)} is what the prior says: the runs know "
            "little of it.",
        )  # fmt: skip
        passed = f"All {len(self.table)} checks passed."
        return (*(failed or (passed,)), *notes)

    def frame(self) -> pd.DataFrame:
        """One row per check.

        Columns: kind, one of prior predictive, posterior predictive, LOO-PIT and power scaling;
        check; value, as observed; p (NaN where the value itself is judged); ok; sentence.
        """
        return self.table.copy()

    def __repr__(self) -> str:
        shown = self.table.drop(columns="sentence").to_string(
            index=False, float_format=lambda x: f"{x:.4g}"
        )
        return "\n".join([f"{self.law}, checks of a posterior", shown, *self.sentences])

    def _repr_html_(self) -> str:
        shown = self.table.to_html(index=False, float_format=lambda x: f"{x:.4g}")
        said = "<br>".join(map(escape, self.sentences))
        return f"<b>{escape(self.law)}</b>, checks of a posterior{shown}<p>{said}</p>"


def check(post: Posterior, *, key: jax.Array | None = None, alpha: float = 0.05) -> Check:
    """p = P(T(replicated runs, theta) >= T(runs, theta) | runs), and more, for what laws get wrong.

    - Prior predictive: losses from the prior lie in a sensible range, and the observed ones among
      them (central 99%).
    - Posterior predictive: the largest runs, trend and curvature of residuals with compute (or with
      the first input), minima of isoFLOP curves, the largest residual, and dependence between runs
      of one size. What the law absorbs by moving its parameters is taken out of the residuals of
      real and of replicated runs alike, so that a p below a bound is about as frequent as it says.
      Replicated runs stand in the same clusters, whose random effects are drawn anew.
    - LOO-PIT: where each run falls in its predictive distribution from the other runs. A location
      and a scale that were fitted make the values more even than independent ones, so that this
      check hardly ever fails a true model: it finds likelihoods of the wrong shape, and noise
      scales that were believed instead of inferred. The values of counts are randomized.
    - Power scaling: how much parameters move when prior or likelihood counts 1% more or less.

    Runs of weight zero are left out; other weights do not change how far a run scatters.

    Args:
        post: the posterior.
        key: JAX random key; default the posterior's own.
        alpha: how often a true model fails one of the posterior predictive checks or LOO-PIT, at
            most: each is held against its share.

    Raises:
        DataError: for an `alpha` outside 0 to 1, or runs that are too few for residuals: there must
            be more than parameters.

    Source: Gelman, Meng & Stern 1996 (posterior predictive); Gelfand, Dey & Chang 1992 and Vehtari
    et al. 2017 (LOO-PIT); Kallioinen et al. 2024, Statistics and Computing 34, 57 (power scaling).

    Example:
        >>> check(sample(fit, key=key)).sentences
    """
    if not 0 < alpha < 1:
        raise js.DataError(f"alpha must lie between 0 and 1, got {alpha}")
    counted = int((np.asarray(post.model.table.weight) > 0).sum())
    if counted <= len(post.law.names) + 1:
        raise js.DataError(
            f"{counted} runs leave no residuals beyond the {len(post.law.names)} parameters of "
            f"{post.law.name} to check"
        )
    keys = jax.random.split(jax.random.split(post.key, 3)[2] if key is None else key, 3)
    observed, replicated, predictive = _predictive(post, keys[1])
    pit, khat = loo_pit(post, keys[2])
    sensitivity = power_scaling(post)
    judged = [*predictive, _uniform_row(pit)]
    for row in judged:
        row["ok"] = row["p"] >= alpha / len(judged)
    rows = [*_prior_rows(post, keys[0]), *judged, _weights_row(khat), _scaling_row(sensitivity)]
    return Check(
        law=post.law.name,
        alpha=alpha,
        table=pd.DataFrame(rows)[["kind", "check", "value", "p", "ok", "sentence"]],
        pit=pit,
        khat=khat,
        sensitivity=sensitivity,
        observed=observed,
        replicated=replicated,
    )


# Prior predictive.


def _prior_rows(post: Posterior, key: jax.Array) -> list[dict[str, Any]]:
    real = np.asarray(post.model.table.weight) > 0
    loss = np.asarray(post.model.table.loss)[real]
    drawn = np.asarray(prior_draws(post.model, key).replicated)[0][:, real]
    usable = drawn[(np.isfinite(drawn) & (drawn > 0)).all(1)]
    typical, spread = (_median, "the median loss"), (_ratio, "the highest loss over the lowest")
    return [
        _share_row(loss, drawn),
        _summary_row("typical loss", *typical, loss, usable),
        _summary_row("range of losses", *spread, loss, usable),
    ]


def _median(loss: np.ndarray) -> np.ndarray:
    return np.asarray(np.median(loss, axis=-1))


def _ratio(loss: np.ndarray) -> np.ndarray:
    lowest = np.maximum(loss.min(-1), np.finfo(float).tiny)
    return np.exp(np.minimum(np.log(loss.max(-1)) - np.log(lowest), 690.0))  # short of overflow


def _share_row(loss: np.ndarray, drawn: np.ndarray) -> dict[str, Any]:
    possible = (drawn >= loss.min() / _FACTOR) & (drawn <= loss.max() * _FACTOR)
    share = float(possible.mean())
    ok = share >= _LEAST_SHARE
    return {
        "kind": "prior predictive",
        "check": "plausible share",
        "value": share,
        "p": np.nan,
        "ok": ok,
        "sentence": f"{share:.0%} of the losses that the prior expects lie within a factor of "
        f"{_FACTOR:g} of the observed ones{'.' if ok else ': it is absurdly wide, or elsewhere.'}",
    }


def _summary_row(
    name: str, of: Callable[[np.ndarray], Any], what: str, loss: np.ndarray, drawn: np.ndarray
) -> dict[str, Any]:
    """Whether a summary of the losses lies in the central 99% of what the prior expects."""
    here, expected = float(of(loss)), of(drawn)
    p = _p_value(np.asarray(here), expected, 2)
    low, high = np.quantile(expected, [0.005, 0.995]) if len(drawn) else (np.nan, np.nan)
    ok = p >= _PRIOR_ALPHA and len(drawn) > 0
    return {
        "kind": "prior predictive",
        "check": name,
        "value": here,
        "p": p,
        "ok": ok,
        "sentence": f"The prior expects {what} between {low:.3g} and {high:.3g} (99%), and it is "
        f"{here:.3g}{'.' if ok else ': the prior is at odds with the runs.'}",
    }


# Posterior predictive.


def _predictive(
    post: Posterior, key: jax.Array
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[dict[str, Any]]]:
    found = residuals(post.model, _thinned(post.u, _DRAWS), key)
    observed, replicated, rows = {}, {}, []
    for quantity in quantities(found):
        observed[quantity.name] = quantity.of(found.observed)
        replicated[quantity.name] = quantity.of(found.replicated)
        p = _p_value(observed[quantity.name], replicated[quantity.name], quantity.sides)
        value = float(np.median(observed[quantity.name]))
        said = quantity.sentence(value)
        rows.append(
            {
                "kind": "posterior predictive",
                "check": quantity.name,
                "value": value,
                "p": p,
                "sentence": f"{said[0].upper()}{said[1:]} (p = {p:.2g}).",
            }
        )
    return observed, replicated, rows


def _thinned(u: Mapping[str, np.ndarray], most: int) -> dict[str, np.ndarray]:
    """At most so many draws of all chains, evenly spread, each (draws, ...)."""
    flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in u.items()}
    count = len(flat["main"])
    chosen = np.linspace(0, count - 1, min(count, most)).astype(int)
    return {name: x[chosen] for name, x in flat.items()}


def _p_value(observed: np.ndarray, replicated: np.ndarray, sides: int) -> float:
    """Share of replications at least as extreme, counting the observation as one of them."""
    above = (1 + np.sum(replicated >= observed)) / (1 + len(replicated))
    if sides == 1:
        return float(above)
    below = (1 + np.sum(replicated <= observed)) / (1 + len(replicated))
    return float(min(1.0, 2 * min(above, below)))


# Leave-one-out.


def loo_pit(post: Posterior, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """P(a loss <= the observed one | the other runs) for the runs that count, and k-hat, (runs,).

    From the exact distribution function of the noise, averaged over draws with Pareto-smoothed
    importance weights.
    """
    real = np.asarray(post.model.table.weight) > 0
    table = post.model.table
    loss = table.loss
    if isinstance(table.likelihood, Counts):  # shares are multiples of 1 / trials
        shift = jax.random.uniform(key, loss.shape, minval=-0.5, maxval=0.5)
        loss = loss + shift / jnp.asarray(table.likelihood.trials)
    flat = {name: jnp.asarray(x.reshape(-1, *x.shape[2:])) for name, x in post.u.items()}
    below, density = (np.asarray(x)[:, real] for x in _cdf(post.law, table, flat, loss))
    weights, khat = array_stats.psislw(density, axis=0)
    weights = np.exp(weights - weights.max(-1, keepdims=True))  # (runs, draws)
    pit = np.sum(weights * below.T, axis=-1) / weights.sum(-1)
    return np.clip(pit, 0.0, 1.0), np.asarray(khat)


@jax.jit(static_argnames="law")
def _cdf(law: js.Law, table: Table, u: dict[str, Any], loss: Any) -> tuple[Any, Any]:
    """P(a run's loss <= `loss`) and weighted log density of the observed one, (draws, runs)."""

    def one(at: dict[str, Any]) -> tuple[Any, Any]:
        values = constrained(table, at)
        found, noise = terms(law, table, values), table.likelihood
        extra = extras(noise, values)
        core = noise.cdf(found.predicted, loss, found.scale, extra)
        if "outlier_share" in values:
            wide = found.scale * (1 + values["outlier_factor"])
            outside = noise.cdf(found.predicted, loss, wide, extra)
            core = core + values["outlier_share"] * (outside - core)
        return core, jnp.where(table.weight > 0, table.weight * found.log_prob, 0.0)

    return jax.lax.map(one, u, batch_size=256)


def _uniform_row(pit: np.ndarray) -> dict[str, Any]:
    p = uniform_p(pit)
    z = norm.ppf(np.clip(pit, 1e-9, 1 - 1e-9))
    outside = float(np.mean((pit < 0.05) | (pit > 0.95)))
    bias, spread = np.sqrt(len(z)) * z.mean(), np.sqrt(len(z) / 2) * (np.mean(z**2) - 1)
    if abs(bias) > abs(spread):
        shape = f"biased: runs lie {'above' if bias > 0 else 'below'} their prediction too often"
    elif spread > 0:
        shape = f"overconfident: {outside:.0%} of the runs fall outside their 90% intervals"
    else:
        shape = f"underconfident: {outside:.0%} of the runs fall outside their 90% intervals"
    return {
        "kind": "LOO-PIT",
        "check": "uniform",
        "value": outside,
        "p": p,
        "sentence": f"Predictions of runs from the others are {shape} (p = {p:.2g}).",
    }


def _weights_row(khat: np.ndarray) -> dict[str, Any]:
    bad = float(np.mean(~(khat <= _MOST_KHAT)))
    return {
        "kind": "LOO-PIT",
        "check": "k-hat",
        "value": float(np.max(khat)),
        "p": np.nan,
        "ok": bad <= _MOST_BAD,
        "sentence": f"{bad:.0%} of the runs decide the posterior too much to be left out by "
        f"weighting (k-hat above {_MOST_KHAT})"
        + ("." if bad <= _MOST_BAD else ": do not trust LOO-PIT, and look at these runs."),
    }


# Power scaling.


def power_scaling(post: Posterior) -> pd.DataFrame:
    """See `Check.sensitivity`."""
    table, described = post.model.table, post.described
    logged = {name for name, param in post.law.params if param.support == "positive"}
    values = {
        name: np.log(x) if name in logged else x
        for name, x in described.params.items()
        if name in post.law.names
    }
    values |= {name: described.values[name] for name in post.model.noise_sites}
    priors = {
        site: np.asarray(chosen.log_prob(jnp.asarray(described.values[site])))
        for site, chosen in table.priors.items()
    }
    data = arviz_base.from_dict(
        {
            "posterior": {name: np.asarray(x) for name, x in values.items()},
            "log_prior": priors,
            "log_likelihood": {"loss": described.log_likelihood},
        }
    )
    rows = []
    prior, likelihood = (_sensitivities(data, group) for group in ("prior", "likelihood"))
    for name in values:
        diagnosis = "ok"
        if prior[name] >= _SENSITIVE:
            diagnosis = _CONFLICT if likelihood[name] >= _SENSITIVE else _STRONG
        rows.append((name, prior[name], likelihood[name], diagnosis, ""))
    columns = ["quantity", "prior", "likelihood", "diagnosis", "because_of"]
    found = pd.DataFrame(rows, columns=columns)
    conflict = found["diagnosis"] == _CONFLICT
    if conflict.any():
        each = {site: _sensitivities(data, "prior", site) for site in priors}
        names = found.loc[conflict, "quantity"]
        found.loc[conflict, "because_of"] = [_strongest(each, name) for name in names]
    return found


def _strongest(each: Mapping[str, Mapping[str, float]], name: str) -> str:
    """The site whose prior moves a quantity most."""
    return max((values[name], site) for site, values in each.items())[1].removeprefix("free_")


def _sensitivities(data: Any, group: str, site: str | None = None) -> dict[str, float]:
    found = arviz_stats.psense(data, group=group, group_var_names=site)
    return {str(name): float(found[name]) for name in found.data_vars}


def _scaling_row(found: pd.DataFrame) -> dict[str, Any]:
    conflict = found[found["diagnosis"] == _CONFLICT]
    if conflict.empty:
        said = "No parameter is pulled one way by its prior and another way by the runs."
    else:
        causes = ", ".join(dict.fromkeys(conflict["because_of"]))
        said = (
            f"The runs and the prior of {causes} pull {', '.join(conflict['quantity'])} different "
            "ways: the posterior is a compromise that neither supports."
        )
    return {
        "kind": "power scaling",
        "check": "prior sensitivity",
        "value": float(found["prior"].max()),
        "p": np.nan,
        "ok": conflict.empty,
        "sentence": said,
    }
