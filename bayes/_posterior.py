"""Posterior: draws, an ArviZ DataTree, and a verdict."""

import dataclasses
import functools
from html import escape
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import jaxscale as js
from bayes._diagnose import doubt
from bayes._groups import data_tree
from bayes._model import Model
from bayes._scatter import scatter, trials_note
from bayes._target import Described, describe


@dataclasses.dataclass(frozen=True)
class Posterior:
    """Draws from a posterior, or from an approximation of one.

    Attributes:
        model: the model: law, priors, noise and runs.
        u: draws of the unconstrained coordinates, by name, each (chains, draws, ...).
        stats: statistics of the sampler by name, each (chains, draws).
        method: how the draws were made, such as ``"NUTS"``.
        verdict: whether they can be trusted, in words.
        key: JAX random key of what is simulated from them.
    """

    model: Model
    u: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    method: str
    verdict: js.Verdict
    key: jax.Array

    @property
    def fit(self) -> js.Fit:
        """The fit that it belongs to."""
        return self.model.fit

    @property
    def law(self) -> js.Law:
        """The law."""
        return self.model.law

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against using it."""
        return self.verdict.ok

    @functools.cached_property
    def described(self) -> Described:
        """Everything that follows from the draws, with leading axes (chains, draws)."""
        u = {name: jnp.asarray(x) for name, x in self.u.items()}
        found = describe(self.law, self.model.table, u, jax.random.split(self.key, 3)[0])
        return Described(*jax.device_get(tuple(found)))

    @property
    def params(self) -> dict[str, np.ndarray]:
        """Draws of the parameters in the user's units, each (chains * draws,)."""
        return {name: np.ravel(self.described.params[name]) for name in self.law.names}

    @property
    def noise(self) -> dict[str, np.ndarray]:
        """Draws of the parameters of the noise, such as ``scale``, each (chains * draws,)."""
        return {name: np.ravel(self.described.values[name]) for name in self.model.noise_sites}

    @property
    def scale(self) -> np.ndarray:
        """Draws of the noise scale, (chains * draws,); NaN where the noise has none."""
        count = len(next(iter(self.params.values())))
        return self.noise.get("scale", np.full(count, np.nan))

    @functools.cached_property
    def draws(self) -> js.Draws:
        """The draws as `predict`, `allocate`, `intervals` and the plots take them."""
        count = len(self.scale)
        scale = self.scale if "scale" in self.noise else np.zeros(count)
        findings = [each for each in self.verdict.findings if each.code != "converged"]
        refusal = doubt(self.verdict)
        said = [each.sentence for each in findings if each.sentence != refusal]
        effects = [f"effects of {name}" for name in self.model.table.centering]
        return js.Draws(
            fit=self.fit,
            method=f"posterior ({', '.join([self.method, *effects])})",
            params=self.params,
            scale=scale,
            center="median",
            notes=(*said, *trials_note(self.model.table.likelihood)),
            noise=scatter(self.model, self.noise, count),
            doubt=refusal,
        )

    @functools.cached_property
    def data(self) -> Any:
        """ArviZ DataTree: posterior, sample_stats, log_likelihood, posterior_predictive, prior,
        prior_predictive, log_prior, observed_data and constant_data.

        Losses are called ``loss`` and have the dimension ``run``, with the numbers of the rows.
        """
        return data_tree(
            self.model, self.u, self.described, self.stats, jax.random.split(self.key, 3)[1]
        )

    def frame(self, level: float = 0.9, quantities: Any = None) -> pd.DataFrame:
        """Mean, median, standard deviation and equal-tailed interval, one row per quantity.

        Args:
            level: probability content of the intervals.
            quantities: names or `Quantity` objects; default the parameters, what the law derives
                from them, and the parameters of the noise.
        """
        wanted = quantities
        if wanted is None:
            wanted = [*self.law.names, *(name for name, _ in self.law.derived), *self.noise]
        wanted = [wanted] if isinstance(wanted, str | js.Quantity) else list(wanted)
        rows = []
        for what in wanted:
            of_noise = isinstance(what, str) and what in self.noise
            values = self.noise[what] if of_noise else self.draws[what]
            low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
            rows.append(
                {
                    "quantity": str(what),
                    "mean": values.mean(),
                    "median": np.median(values),
                    "sd": values.std(ddof=1),
                    "low": low,
                    "high": high,
                }
            )
        return pd.DataFrame(rows)

    def save(self, path: str | Path) -> None:
        """Write `data` as netCDF; ``xarray.open_datatree(path)`` reads it, as ArviZ does."""
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        try:
            self.data.to_netcdf(str(partial), engine="h5netcdf")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def __repr__(self) -> str:
        table = self.frame().to_string(index=False, float_format=lambda x: f"{x:.6g}")
        head = f"{self.law.name}, posterior by {self.method} (90% intervals)"
        return f"{head}\n{table}\n{self.verdict}"

    def _repr_html_(self) -> str:
        table = self.frame().to_html(index=False, float_format=lambda x: f"{x:.6g}")
        head = f"<b>{escape(self.law.name)}</b>, posterior by {escape(self.method)} (90% intervals)"
        return f"{head}{table}<p>{escape(str(self.verdict))}</p>"
