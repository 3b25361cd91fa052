"""sbc(): does the posterior contain the truth as often as it says, over truths from the prior?"""

import dataclasses
import functools
from collections.abc import Callable
from html import escape
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy.stats import chisquare

import jaxscale as js
from bayes._groups import sampled_prior
from bayes._many import Many, sample_many
from bayes._model import Model, Table, constrained, scalar_sites, terms
from bayes._posterior import Posterior
from bayes._sample import as_model
from bayes._target import describe_one, lanes_of
from bayes._uniform import envelope, uniform_p

_FACTOR = 10.0
_MOST_ROUNDS = 50
_EXPECTED = 5  # ranks per cell of the chi-square test, at least
_MOST_CELLS = 20
_LIKELIHOOD = "log likelihood"


class Sampler(Protocol):
    """A way to draw from posteriors of many tables at once.

    Given a law, tables with a leading axis of sets, starts (sets, p) in unconstrained coordinates
    of the law and a key, it returns unconstrained coordinates of all sites by name, like those of
    `Posterior.u`, each (sets, draws, ...).
    """

    def __call__(
        self, law: js.Law, tables: Table, theta: Any, key: jax.Array
    ) -> dict[str, np.ndarray]: ...


@dataclasses.dataclass(frozen=True)
class SBC:
    """Ranks of true values among draws from the posterior that belongs to them.

    Attributes:
        law: name of the law.
        sims: number of simulated tables.
        draws: draws per table that a truth is ranked among: ranks run from 0 to `draws`.
        alpha: how often a correct sampler fails in any quantity, at most.
        table: one row per quantity, see `frame`.
        ranks: ranks by quantity, each (sims,).
        truth: true values by quantity, each (sims,).
        kept: share of the tables drawn from the prior that looked like runs at all.
        diverged: share of the tables at which the sampler diverged.
    """

    law: str
    sims: int
    draws: int
    alpha: float
    table: pd.DataFrame
    ranks: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    kept: float
    diverged: float

    @property
    def ok(self) -> bool:
        """Whether the ranks of every quantity look uniform."""
        return bool(self.table["ok"].all())

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is wrong with the posterior, or that nothing is, and what was simulated."""
        failed = tuple(self.table.loc[~self.table["ok"], "sentence"])
        passed = (
            f"The ranks of all {len(self.table)} quantities over {self.sims} simulated tables are "
            f"uniform, as those of correct posteriors are in {1 - self.alpha:.0%} of such studies.",
        )
        notes = []
        if self.kept < 1:
            notes.append(
                f"{self.kept:.0%} of the tables that the prior expects have losses within a factor "
                f"of {_FACTOR:g} of the observed ones; only those were used."
            )
        if self.diverged > 0:
            notes.append(f"The sampler diverged at {self.diverged:.0%} of the tables.")
        return (*(failed or passed), *notes)

    def band(self, level: float = 0.95) -> tuple[np.ndarray, ...]:
        """Points, and lowest and highest share of ranks below them, if the ranks are uniform.

        The band holds all of the empirical distribution function at once with probability `level`.
        """
        return envelope(self.sims, self.draws + 1, level)

    def frame(self) -> pd.DataFrame:
        """One row per quantity.

        Columns: quantity; ecdf_p, of the largest departure of the ranks' distribution function;
        chi2_p, of their histogram; mean_rank, relative, 0.5 if right; spread, standard deviation of
        the ranks relative to that of uniform ones: above 1 if posteriors are too narrow; ok, by
        ecdf_p; sentence.
        """
        return self.table.copy()

    def __repr__(self) -> str:
        shown = self.table.drop(columns="sentence").to_string(
            index=False, float_format=lambda x: f"{x:.3g}"
        )
        head = f"{self.law}, simulation-based calibration over {self.sims} tables"
        return "\n".join([head, shown, *self.sentences])

    def _repr_html_(self) -> str:
        shown = self.table.to_html(index=False, float_format=lambda x: f"{x:.3g}")
        said = "<br>".join(map(escape, self.sentences))
        return f"<b>{escape(self.law)}</b>, simulation-based calibration{shown}<p>{said}</p>"


def sbc(
    source: js.Fit | Model | Posterior,
    *,
    key: jax.Array,
    sims: int = 200,
    draws: int = 99,
    thin: int = 4,
    warmup: int = 300,
    target_accept: float = 0.9,
    alpha: float = 0.05,
    sampler: Sampler | None = None,
    show_progress: bool | None = None,
    **options: Any,
) -> SBC:
    """rank = #{draws < truth}, uniform over truth ~ prior, runs ~ law(truth), draws ~ posterior.

    Truths are drawn from the prior, runs are simulated from them on the design of the runs, and the
    truth is ranked among draws from their posterior: law parameters, noise parameters, what the law
    derives, and the log likelihood, which sees a posterior that ignores its runs. The model, with
    its reference units and the center of its scale prior, is the same for all tables. Chains start
    around the truth, to save the search for it, and are then warmed up; they show bias and wrong
    width, not whether a sampler would have found the posterior from elsewhere.

    Tables with losses that are not within a factor of 10 of the observed ones, as wide priors make
    them, are drawn again. That is a condition on runs, not on parameters, so that ranks of a
    correct posterior stay uniform.

    Args:
        source: a fit of one data set, with its runs; a `model`; or a posterior, for its model.
        key: JAX random key.
        sims: number of simulated tables.
        draws: draws that are kept of each; with 99, ranks have 100 values.
        thin: one in so many draws is kept, so that they are about independent.
        warmup: iterations before.
        target_accept: acceptance probability that the step size is tuned to.
        alpha: how often a correct sampler fails in any quantity, at most; every quantity is held
            against its share.
        sampler: draws from posteriors, if it is not NUTS that is to be checked, see `Sampler`.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.
        **options: what `model` takes, for a fit: likelihood, priors, scale_by, effects, outliers,
            input_error. Weights of runs count as 0 or 1.

    Raises:
        DataError: for fewer than 20 tables or 9 draws, or a prior that hardly expects runs at all.

    Source: Talts et al. 2018, arXiv 1804.06788; Säilynoja et al. 2022 (the band of the ranks);
    Modrák et al. 2023, Bayesian Analysis 20(2) (the log likelihood as a quantity).

    Example:
        >>> sbc(fit, likelihood=StudentT(), sims=200, key=jax.random.key(0)).sentences
    """
    if sims < 20 or draws < 9 or thin < 1 or warmup < 1 or not 0 < alpha < 1:
        raise js.DataError(
            "calibration needs at least 20 tables, 9 draws of each, thin and warmup of 1 or more, "
            "and an alpha between 0 and 1"
        )
    first, second, third = jax.random.split(key, 3)
    given = source.model if isinstance(source, Posterior) else source
    made = _unweighted(as_model(given, None, third, options))
    values, loss, kept = _simulated(made, first, sims)
    tables = eqx.tree_at(lambda t: t.loss, lanes_of(made.table, sims), loss)
    theta = _free(made.law, made.table, values)
    diverged = 0.0
    if sampler is None:
        with js.progress("calibrating", sims * (warmup + draws * thin), show_progress) as tick:
            found = _nuts(
                made.law, tables, theta, second, warmup, draws * thin, target_accept, tick
            )
        diverged = float(found.stats["diverging"].any((1, 2)).mean())
        u = {name: x[:, 0, thin - 1 :: thin] for name, x in found.u.items()}
    else:
        u = {name: np.asarray(x) for name, x in sampler(made.law, tables, theta, second).items()}
    drawn = jax.device_get(_at_draws(made.law, tables, u))
    truth = jax.device_get(_at_truth(made.law, tables, values))
    derived = [name for name, _ in made.law.derived]
    names = (*made.law.names, *derived, *made.noise_sites, _LIKELIHOOD)
    ranks = {name: np.sum(drawn[name] < truth[name][:, None], axis=1) for name in names}
    count = int(u["main"].shape[1])
    return SBC(
        law=made.law.name,
        sims=sims,
        draws=count,
        alpha=alpha,
        table=pd.DataFrame(
            [_judged(name, x, count, alpha / len(ranks)) for name, x in ranks.items()]
        ),
        ranks=ranks,
        truth=truth,
        kept=kept,
        diverged=diverged,
    )


def _unweighted(model: Model) -> Model:
    """Weights of 0 and 1: a run of another importance is not one that is simulated otherwise."""
    weight = jnp.where(model.table.weight > 0, 1.0, 0.0)
    return dataclasses.replace(model, table=dataclasses.replace(model.table, weight=weight))


def _nuts(
    law: js.Law,
    tables: Table,
    theta: Any,
    key: jax.Array,
    warmup: int,
    draws: int,
    accept: float,
    tick: Callable[[int], None],
) -> Many:
    return sample_many(
        law, tables, theta, key, chains=1, warmup=warmup, draws=draws, accept=accept, tick=tick
    )


def _simulated(model: Model, key: jax.Array, sims: int) -> tuple[dict[str, Any], Any, float]:
    """Values of all sites from the prior, their tables of losses, and the share that was kept."""
    parts: list[tuple[dict[str, Any], Any]] = []
    tried = found = 0
    for turn in range(_MOST_ROUNDS):
        keys = jax.random.split(jax.random.fold_in(key, turn), sims)
        values, loss, possible = jax.device_get(_from_prior(model.law, model.table, keys))
        parts.append(jax.tree.map(lambda x, keep=possible: x[keep], (values, loss)))
        tried, found = tried + sims, found + int(possible.sum())
        if found >= sims:
            joined = jax.tree.map(lambda *x: jnp.asarray(np.concatenate(x)[:sims]), *parts)
            return *joined, found / tried
    raise js.DataError(
        f"only {found} of {tried:,} tables that the prior expects have losses within a factor of "
        f"{_FACTOR:g} of the observed ones; give priors that are nearer to the runs, priors={{...}}"
    )


@jax.jit(static_argnames="law")
def _from_prior(law: js.Law, table: Table, keys: Any) -> tuple[dict[str, Any], Any, Any]:
    """Values of all sites, losses (sims, runs), and whether they look like runs (sims,)."""
    real = table.weight > 0
    low = jnp.min(jnp.where(real, table.loss, jnp.inf)) / _FACTOR
    high = jnp.max(jnp.where(real, table.loss, 0.0)) * _FACTOR

    def one(key: jax.Array) -> tuple[dict[str, Any], Any, Any]:
        first, second = jax.random.split(key)
        values = sampled_prior(table, first)
        loss = describe_one(law, table, values, second).replicated
        possible = jnp.all(jnp.where(real, (loss >= low) & (loss <= high), True))
        return values, jnp.where(real, loss, table.loss), possible

    return jax.vmap(one)(keys)


@jax.jit(static_argnames="law")
def _free(law: js.Law, table: Table, values: dict[str, Any]) -> Any:
    """Unconstrained coordinates of the law at values of all sites, (sims, p)."""

    def one(at: dict[str, Any]) -> Any:
        reference = law.to_reference(terms(law, table, at).params, table.log_refs)
        return jnp.stack([param.to_free(reference[name]) for name, param in law.params])

    return jax.vmap(one)(values)


def _quantities(law: js.Law, table: Table, values: dict[str, Any]) -> dict[str, Any]:
    """What is ranked."""
    found = terms(law, table, values)
    derived = {name: jnp.asarray(fn(**found.params)) for name, fn in law.derived}
    sites = [name for name in scalar_sites(table) if not name.startswith("free_")]
    noise = {name: values[name] for name in sites if name not in law.names}
    total = jnp.sum(jnp.where(table.weight > 0, table.weight * found.log_prob, 0.0))
    params = {name: found.params[name] for name in law.names}
    return {**params, **derived, **noise, _LIKELIHOOD: total}


@functools.partial(jax.jit, static_argnames="law")
def _at_truth(law: js.Law, tables: Table, values: dict[str, Any]) -> dict[str, Any]:
    return jax.vmap(lambda table, v: _quantities(law, table, v))(tables, values)


@functools.partial(jax.jit, static_argnames="law")
def _at_draws(law: js.Law, tables: Table, u: dict[str, Any]) -> dict[str, Any]:
    def one(table: Table, at: dict[str, Any]) -> dict[str, Any]:
        return jax.vmap(lambda x: _quantities(law, table, constrained(table, x)))(at)

    return jax.vmap(one)(tables, u)


def _judged(name: str, ranks: np.ndarray, draws: int, alpha: float) -> dict[str, Any]:
    """One row of the table."""
    relative = (ranks + 0.5) / (draws + 1)
    cells = _cells(draws + 1, len(ranks))
    histogram = np.bincount(ranks * cells // (draws + 1), minlength=cells)
    ecdf_p = uniform_p(ranks / (draws + 1), draws + 1)
    mean, spread = relative.mean(), relative.std() * np.sqrt(12)
    bias, width = (mean - 0.5) * np.sqrt(12), (spread - 1) * np.sqrt(5 / 2)
    if abs(bias) > abs(width):
        shape = f"too {'low' if bias > 0 else 'high'}"
    else:
        shape = f"too {'narrow' if width > 0 else 'wide'}"
    ok = bool(ecdf_p >= alpha)
    sentence = (
        f"The ranks of {name} are uniform."
        if ok
        else f"Posteriors of {name} are {shape}: true values do not rank evenly among their draws "
        f"(p = {ecdf_p:.2g})."
    )
    return {
        "quantity": name,
        "ecdf_p": ecdf_p,
        "chi2_p": float(chisquare(histogram).pvalue),
        "mean_rank": mean,
        "spread": spread,
        "ok": ok,
        "sentence": sentence,
    }


def _cells(values: int, sims: int) -> int:
    """Cells of equal size for the chi-square test, enough ranks in each."""
    most = max(2, min(_MOST_CELLS, sims // _EXPECTED))
    return max((c for c in range(2, most + 1) if values % c == 0), default=values)
