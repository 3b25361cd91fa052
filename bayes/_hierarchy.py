"""Hierarchy: what partial pooling found about the population, every set, and a new one."""

import dataclasses
import functools
from collections.abc import Mapping
from html import escape
from typing import Any

import arviz_base
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import jaxscale as js
from bayes._diagnose import chains_finding, doubt
from bayes._likelihood import extras
from bayes._pooling import Pool, predicted
from bayes._scatter import scatter_of

_METHOD = "posterior (NUTS, partial pooling)"
# A population parameter this uncertain, relative to its prior, is known from the prior.
_PRIOR_SHARE = 0.75


@dataclasses.dataclass(frozen=True)
class Member:
    """One set of a `Hierarchy`, as `predict`, `allocate`, `intervals` and the plots take it.

    Attributes:
        name: name of the set.
        draws: draws of its parameters.
    """

    name: str
    draws: js.Draws

    @property
    def fit(self) -> js.Fit:
        """The fit that the draws belong to: its own, or the posterior medians if it has none."""
        return self.draws.fit

    @property
    def verdict(self) -> js.Verdict:
        """Whether the set determines the law on its own."""
        return self.fit.verdict

    def frame(self, level: float = 0.9) -> pd.DataFrame:
        """Estimate, standard error and equal-tailed interval, one row per quantity."""
        return self.draws.frame(level)

    def __repr__(self) -> str:
        return f"{self.name}\n{self.draws}"


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """Posterior of a law's parameters in many data sets, and of the population they come from.

    Attributes:
        law: the law.
        objective: the objective of the fits.
        runs: the stack of data sets.
        pooled: names of the pooled parameters.
        table: everything the model is conditioned on, with its priors.
        values: draws by name: population parameters ``mu_alpha``, ``tau_alpha`` ..., (chains,
            draws); parameters of the law in the user's units and ``scale``, (chains, draws, sets).
        stats: statistics of the sampler by name, each (chains, draws).
        fits: fits of the sets that determine the law on their own, by name.
        replaced: population parameters whose prior was given by the user.
        key: JAX random key of what is simulated from the draws.
    """

    law: js.Law
    objective: js.Objective
    runs: js.Runs
    pooled: tuple[str, ...]
    table: Pool
    values: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    fits: Mapping[str, js.Fit]
    replaced: frozenset[str]
    key: jax.Array

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the data sets."""
        return self.runs.sets or ()

    @property
    def population(self) -> dict[str, np.ndarray]:
        """Draws of the population parameters by name, each (chains * draws,)."""
        return {site: self.values[site].ravel() for site in self.table.sites}

    @functools.cached_property
    def verdict(self) -> js.Verdict:
        """Whether the draws can be trusted, and what only the priors know."""
        numbers = {site: self.values[site] for site in self.table.sites}
        for name in self._member_names:
            each = np.moveaxis(self.values[name], -1, 0)
            # A DataTree takes a slash for a path.
            labels = [f"{name} of {s}".replace("/", "|") for s in self.sets]
            numbers |= dict(zip(labels, each, strict=True))
        found = [chains_finding(numbers, self.stats)]
        names = [site for site in self.table.sites if self._from_prior(site)]
        if names:
            sentence = (
                f"{len(self.sets)} sets say next to nothing about {', '.join(names)}: the "
                "posterior is about as wide as the prior, and so is what is said of a new set."
            )
            found.append(js.Finding("prior_dominated", sentence))
        return js.Verdict(tuple(found))

    def _from_prior(self, site: str) -> bool:
        if site in self.replaced or site.partition("_")[2] not in self.pooled:
            return False
        width = float(self.table.priors[site].variance) ** 0.5
        return float(self.values[site].std()) > _PRIOR_SHARE * width

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against using it."""
        return self.verdict.ok

    @property
    def _member_names(self) -> tuple[str, ...]:
        return (*self.law.names, *(["scale"] if self.table.likelihood.has_scale else []))

    def __getitem__(self, name: str) -> Member:
        """One data set, with draws that `predict`, `allocate` and `intervals` take."""
        if name not in self.sets:
            raise js.DataError(f"there is no data set {name!r}; there are {', '.join(self.sets)}")
        i = self.sets.index(name)
        values = {k: self.values[k][..., i].ravel() for k in self._member_names}
        return Member(name, self._draws(self._fit(name, values), values, ()))

    def new(self, *, key: jax.Array, from_prior: bool = False) -> js.Draws:
        """theta_new ~ Normal(mu, tau): parameters of a set that has not been seen.

        Args:
            key: JAX random key.
            from_prior: draw parameters that are not pooled from their prior at the common
                reference point, which says little about them, instead of refusing.

        Raises:
            DataError: if some parameters are not pooled, naming them.

        Example:
            >>> js.predict(hier.new(key=jax.random.key(1)), N=70e9, D=1.4e12)
        """
        alone = tuple(self.table.each)
        if alone and not from_prior:
            raise js.DataError(
                f"nothing is known about {', '.join(alone)} of a new set, because they are not "
                "pooled: pool them, or say from_prior=True to draw them from their priors"
            )
        names = (*self.law.names, "scale")
        keys = jax.random.split(key, len(names))
        free = {n: self._new_coordinate(n, k) for n, k in zip(names, keys, strict=True)}
        reference = {name: param.from_free(free[name]) for name, param in self.law.params}
        physical = self.law.to_physical(reference, self.table.common)
        values = {name: np.asarray(x) for name, x in physical.items()}
        if self.table.likelihood.has_scale:
            values["scale"] = np.exp(free["scale"])
        note = f"{', '.join(alone)} of the new set come from their priors." if alone else ""
        sentence = f"No run of this set was seen: it is one more like the {len(self.sets)} sets."
        return self._draws(self._new_fit(values, sentence), values, (note,) if note else ())

    def _new_coordinate(self, name: str, key: jax.Array) -> np.ndarray:
        deviation = np.asarray(jax.random.normal(key, (self.values[self.table.sites[0]].size,)))
        if name in self.table.each:
            chosen = self.table.each[name]
            return np.asarray(chosen.mean) + np.asarray(chosen.variance) ** 0.5 * deviation
        if f"mu_{name}" not in self.table.priors:
            return deviation
        population = self.population
        return population[f"mu_{name}"] + population[f"tau_{name}"] * deviation

    def _draws(
        self, fit: js.Fit, values: Mapping[str, np.ndarray], notes: tuple[str, ...]
    ) -> js.Draws:
        count = len(values[self.law.names[0]])
        scale = values.get("scale", np.zeros(count))
        extra = extras(self.table.likelihood, self.population)
        refusal = doubt(self.verdict)
        findings = [f.sentence for f in self.verdict.findings if f.code != "converged"]
        return js.Draws(
            fit=fit,
            method=_METHOD,
            params={name: values[name] for name in self.law.names},
            scale=scale,
            center="median",
            notes=(*(s for s in findings if s != refusal), *notes),
            noise=scatter_of(self.table.likelihood, {"scale": scale, **extra}, count),
            doubt=refusal,
        )

    def _fit(self, name: str, values: Mapping[str, np.ndarray]) -> js.Fit:
        """The set's own fit if it is a good one, else its posterior medians as a fit."""
        own = self.fits.get(name)
        if own is not None and own.verdict.ok:
            return own
        runs, i = self.runs[name], self.sets.index(name)
        refs = {k: float(x[i]) for k, x in self.table.own.items()}
        count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        alone = (
            f"{count} of {name!r} cannot determine the {len(self.law.names)} parameters of "
            f"{self.law.name!r}"
            if own is None
            else f"on its own, {name!r} has no good fit ({own.verdict})"
        )
        sentence = f"Estimated with the help of the other sets: {alone}"
        return _fit_at(self, runs, refs, values, sentence.rstrip(".") + ".")

    def _new_fit(self, values: Mapping[str, np.ndarray], sentence: str) -> js.Fit:
        refs = {name: float(x) for name, x in self.table.common.items()}
        return _fit_at(self, None, refs, values, sentence)

    @functools.cached_property
    def data(self) -> Any:
        """ArviZ DataTree: posterior, sample_stats, log_likelihood, posterior_predictive,
        observed_data and constant_data.

        Parameters of the sets have the dimension ``set``; losses have the dimension ``run``, with
        labels such as ``"family:3"``, the number being that of the row.
        """
        return _data_tree(self)

    def frame(self, level: float = 0.9) -> pd.DataFrame:
        """Median, mean, standard deviation and interval: the population, then every set.

        ``mu_`` and ``tau_`` are the mean and standard deviation of unconstrained coordinates (the
        log of a positive parameter) at the common reference point.

        Args:
            level: probability content of the equal-tailed intervals.
        """
        rows = [("population", name, draws) for name, draws in self.population.items()]
        rows += [
            (s, name, self.values[name][..., i].ravel())
            for i, s in enumerate(self.sets)
            for name in self._member_names
        ]
        return pd.DataFrame([_row(*row, level) for row in rows])

    def __repr__(self) -> str:
        table = self.frame().to_string(index=False, float_format=lambda x: f"{x:.6g}")
        return f"{self._head}\n{table}\n{self.verdict}"

    def _repr_html_(self) -> str:
        table = self.frame().to_html(index=False, float_format=lambda x: f"{x:.6g}")
        return f"<b>{escape(self._head)}</b>{table}<p>{escape(str(self.verdict))}</p>"

    @property
    def _head(self) -> str:
        return (
            f"{self.law.name}, {len(self.sets)} sets, {', '.join(self.pooled)} pooled (90% "
            "intervals)"
        )


def _row(of: str, name: str, draws: np.ndarray, level: float) -> dict[str, Any]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return {
        "set": of,
        "quantity": name,
        "median": float(np.median(draws)),
        "mean": float(draws.mean()),
        "sd": float(draws.std(ddof=1)),
        "low": float(low),
        "high": float(high),
    }


def _fit_at(
    hierarchy: Hierarchy,
    runs: js.Runs | None,
    refs: dict[str, float],
    values: Mapping[str, np.ndarray],
    sentence: str,
) -> js.Fit:
    """Posterior medians as a `Fit`, with a verdict that says where they come from."""
    law, objective = hierarchy.law, hierarchy.objective
    params = {name: float(np.median(values[name])) for name in law.names}
    reference = law.to_reference(params, refs)
    seen = hierarchy.runs if runs is None else runs
    real = np.asarray(seen.weight) > 0
    value, rmse = np.nan, np.nan
    if runs is not None:
        at = np.asarray(law(*(runs.inputs[name] for name in law.inputs), **params))
        r = np.asarray(objective.residual(jnp.asarray(at), jnp.asarray(runs.loss)))
        value = float(np.sum(runs.weight * np.asarray(objective.rho(jnp.asarray(r)))))
        logs = np.log(at) - np.log(runs.loss)
        rmse = float(np.sqrt(np.average(logs**2, weights=runs.weight)))
    basins = pd.DataFrame(
        [{"kind": "optimum", "objective": value, "excess": 0.0, "restarts": 1, "share": 1.0}]
    ).assign(dead="", **params)
    return js.Fit(
        law=law,
        objective=objective,
        params=params,
        value=value,
        verdict=js.Verdict((js.Finding("borrowed", sentence),)),
        restarts=js.Restarts(np.array([value]), np.array([0]), value, basins),
        runs=runs,
        ranges={
            name: (float(seen.inputs[name][real].min()), float(seen.inputs[name][real].max()))
            for name in law.inputs
        },
        n_runs=0 if runs is None else len(runs),
        digest="" if runs is None else runs.digest(),
        free=np.array([float(param.to_free(reference[name])) for name, param in law.params]),
        log_refs=refs,
        rmse=rmse,
    )


def _data_tree(hierarchy: Hierarchy) -> Any:
    table, runs = hierarchy.table, hierarchy.runs
    real = np.asarray(runs.weight) > 0
    names = np.asarray(hierarchy.sets, dtype=str)[np.nonzero(real)[0]]
    log_likelihood, replicated = _runs_of(
        hierarchy.law, table, {k: jnp.asarray(v) for k, v in hierarchy.values.items()},
        hierarchy.key,
    )  # fmt: skip
    known = {"num_steps": "n_steps", "accept_prob": "acceptance_rate"}
    inputs = {name: np.asarray(runs.inputs[name])[real] for name in hierarchy.law.inputs}
    groups = {
        "posterior": dict(hierarchy.values),
        "sample_stats": {known.get(k, k): v for k, v in hierarchy.stats.items()},
        "log_likelihood": {"loss": np.asarray(log_likelihood)[..., real]},
        "posterior_predictive": {"loss": np.asarray(replicated)[..., real]},
        "observed_data": {"loss": np.asarray(runs.loss)[real]},
        "constant_data": {**inputs, "weight": np.asarray(table.weight)[real], "set_of_run": names},
    }
    labels = [f"{s}:{row}" for s, row in zip(names, np.asarray(runs.row)[real], strict=True)]
    dims = {name: ["run"] for name in ("loss", "weight", "set_of_run", *inputs)}
    dims |= {name: ["set"] for name in hierarchy._member_names}
    return arviz_base.from_dict(
        groups, dims=dims, coords={"run": labels, "set": list(hierarchy.sets)}
    )


@jax.jit(static_argnames="law")
def _runs_of(law: js.Law, pool: Pool, values: Mapping[str, Any], key: jax.Array) -> tuple[Any, Any]:
    """Weighted log density of every run and one new loss for it, (chains, draws, sets, runs)."""

    def one(at: Mapping[str, Any], key: jax.Array) -> tuple[Any, Any]:
        mean = predicted(law, pool, {name: at[name] for name in law.names})
        scale = at.get("scale", jnp.ones(len(mean)))[:, None]
        extra = extras(pool.likelihood, at)
        density = pool.weight * pool.likelihood.log_prob(mean, pool.loss, scale, extra)
        return density, pool.likelihood.draw(key, mean, scale, extra)

    shape = values[pool.sites[0]].shape
    return jax.vmap(jax.vmap(one))(dict(values), jax.random.split(key, shape))
