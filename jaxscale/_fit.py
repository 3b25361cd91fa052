"""fit(): from a law and a table of runs to parameters, a certificate and a verdict."""

import dataclasses
import functools
from collections.abc import Iterator
from html import escape
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jax.sharding import Mesh

from jaxscale import _driver
from jaxscale._domain import refuse_missing, refuse_outside
from jaxscale._errors import DataError, FitError, LawError
from jaxscale._evaluate import Rows
from jaxscale._finish import Result, finish
from jaxscale._identify import refuse_unidentified
from jaxscale._lanes import Stopping, reports_convergence
from jaxscale._law import Law, check_units, physical_params
from jaxscale._levenberg_marquardt import levenberg_marquardt
from jaxscale._mesh import use_mesh
from jaxscale._objective import LogHuber, Objective
from jaxscale._problem import Problem
from jaxscale._progress import progress
from jaxscale._reference import log_references, reference_rows
from jaxscale._runs import Runs
from jaxscale._starts import Grid, sobol


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted law. For a stack of data sets every array has a leading axis of sets.

    Attributes:
        law, objective: what was fitted and what was minimized.
        params: estimates in the user's units, by name.
        value: the objective at the optimum (a sum over runs).
        verdict: whether the answer can be trusted, in words; a tuple of them for a stack.
        restarts: the restart certificate; a tuple for a stack.
        runs: the data, or None for a fit that was loaded without it.
        ranges: lowest and highest value of every input seen in the data.
        n_runs: number of runs (without padding).
        digest: SHA-256 of the data.
        free: the estimates as unconstrained coordinates in reference units.
        log_refs: log of the reference value of each scaled input and of the loss.
        rmse: root mean square residual, of log loss unless the objective has another residual.
    """

    law: Law
    objective: Objective
    params: dict[str, Any]
    value: Any
    verdict: Any
    restarts: Any
    runs: Runs | None
    ranges: dict[str, tuple[Any, Any]]
    n_runs: Any
    digest: str
    free: Any
    log_refs: dict[str, Any]
    rmse: Any

    @property
    def sets(self) -> tuple[str, ...] | None:
        """Names of the data sets of a batched fit, else None."""
        return self.runs.sets if self.runs is not None else None

    def __getitem__(self, name: str) -> "Fit":
        """The fit of one data set of a stack."""
        if self.sets is None or self.runs is None:
            raise DataError("this fit has one data set; there is nothing to choose from")
        runs = self.runs[name]
        i = self.sets.index(name)
        pick = functools.partial(jax.tree.map, lambda x: x[i])
        return dataclasses.replace(
            self,
            params=pick(self.params),
            value=self.value[i],
            verdict=self.verdict[i],
            restarts=self.restarts[i],
            runs=runs,
            ranges=_ranges(self.law, runs),
            n_runs=self.n_runs[i],
            digest=runs.digest(),
            free=self.free[i],
            log_refs=pick(self.log_refs),
            rmse=self.rmse[i],
        )

    def __iter__(self) -> Iterator["Fit"]:
        return iter([self] if self.sets is None else [self[name] for name in self.sets])

    @property
    def derived(self) -> dict[str, Any]:
        """Quantities that the law derives from its parameters, such as the exponent ``a``."""
        return {name: fn(**self.params) for name, fn in self.law.derived}

    def predicted(self) -> Any:
        """Predicted loss of every run, shape (runs,)."""
        runs = self._data()
        values = {name: jnp.asarray(v)[..., None] for name, v in self.params.items()}
        return self.law(*(jnp.asarray(runs.inputs[name]) for name in self.law.inputs), **values)

    def residuals(self) -> Any:
        """log(predicted) - log(loss) of every run (or as the objective defines it)."""
        return self.objective.residual(self.predicted(), jnp.asarray(self._data().loss))

    def noise_scale(self) -> float:
        """Maximum-likelihood scale of the objective's noise model."""
        if self.sets is not None:
            raise DataError("choose one data set first: fit[name].noise_scale()")
        return self.objective.noise_scale(np.asarray(self.residuals()), self._data().weight)

    def _data(self) -> Runs:
        if self.runs is None:
            raise DataError("this fit was loaded without its runs; use load(path, runs=runs)")
        return self.runs

    def frame(self) -> pd.DataFrame:
        """Parameters and derived quantities: one row each, or one row per data set for a stack."""
        if self.sets is not None:
            columns = {**self.params, **self.derived, "objective": self.value, "rmse": self.rmse}
            table = pd.DataFrame({k: np.asarray(v) for k, v in columns.items()}, index=self.sets)
            table["hit_share"] = [r.hit_share for r in self.restarts]
            table["ok"] = [v.ok for v in self.verdict]
            return table.rename_axis("set").reset_index()
        rows = [
            {"quantity": name, "estimate": float(self.params[name]), "unit": _unit_text(p.unit)}
            for name, p in self.law.params
        ]
        rows += [
            {"quantity": name, "estimate": float(value), "unit": "derived"}
            for name, value in self.derived.items()
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        head = f"{self.law.name}: {self.law.formula}" if self.law.formula else self.law.name
        if self.sets is not None:
            return f"{head}\n{len(self.sets)} data sets\n{self.frame().to_string(index=False)}"
        lines = [
            head,
            f"{self.n_runs} runs, {self.objective}, objective {float(self.value):.7g}, "
            f"rmse of {'log loss' if self.objective.log else 'residuals'} {float(self.rmse):.4f}",
            self.frame().to_string(index=False, float_format=lambda x: f"{x:.6g}"),
            str(self.restarts),
            str(self.verdict),
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if self.sets is not None:
            return str(self.frame().to_html(index=False))
        table = self.frame().to_html(index=False, float_format=lambda x: f"{x:.6g}")
        return (
            f"<b>{escape(self.law.name)}</b>: {escape(self.law.formula)}<br>{self.n_runs} runs, "
            f"{escape(str(self.objective))}, objective {float(self.value):.7g}{table}"
            f"<p>{escape(str(self.restarts))}.<br>{escape(str(self.verdict))}</p>"
        )


def _unit_text(unit: str) -> str:
    return unit.replace("**", "^").replace(" ", "")


def _ranges(law: Law, runs: Runs) -> dict[str, tuple[Any, Any]]:
    real = np.asarray(runs.weight) > 0
    low = {k: np.where(real, runs.inputs[k], np.inf).min(axis=-1) for k in law.inputs}
    high = {k: np.where(real, runs.inputs[k], -np.inf).max(axis=-1) for k in law.inputs}
    return {name: (low[name], high[name]) for name in law.inputs}


def fit(
    law: Law,
    runs: Runs,
    *,
    objective: Objective | None = None,
    restarts: int = 1024,
    starts: Grid | None = None,
    optimizer: optax.GradientTransformation | None = None,
    key: jax.Array | None = None,
    max_steps: int | None = None,
    patience: int = 200,
    throw: bool = False,
    mesh: Mesh | None = None,
    show_progress: bool | None = None,
) -> Fit:
    """Fit a law to runs from many starts at once, and say how far to trust the result.

    Minimizes ``sum_i weight_i * rho(residual_i)`` in reference units. Every restart runs until its
    own convergence test; the best one is refined by Newton steps down to round-off.

    Args:
        law: the law.
        runs: the data, or a `Runs.stack` of data sets, which are all fitted together.
        objective: what to minimize; default ``LogHuber(1e-3)``, Hoffmann's choice.
        restarts: number of scaled Sobol starts.
        starts: explicit starts instead, such as `hoffmann_grid()`.
        optimizer: any Optax optimizer; default `levenberg_marquardt()`. Build it once and reuse
            it: each new object is compiled anew.
        key: JAX random key for the starts; required unless `starts` is given.
        max_steps: steps per restart at most; default 300, or 5,000 for optimizers that do not
            report convergence.
        patience: such optimizers stop a restart after this many steps without gain.
        throw: raise if the verdict is not ok.
        mesh: devices to share the work, see `use_mesh`.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Returns:
        A `Fit`; batched along the sets for a stack.

    Raises:
        IdentificationError: if the runs cannot determine the law.
        LawError: if the runs lack an input of the law.
        FitError: if no start gives a finite objective, or if ``throw`` and the verdict is not ok.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, section 3.3; pitfalls in Besiroglu et al. 2024,
    arXiv 2404.10102.

    Example:
        >>> fit(laws.chinchilla, runs, objective=LogHuber(1e-3), key=jax.random.key(0))
    """
    objective = LogHuber(1e-3) if objective is None else objective
    check_units(law)
    refuse_missing(law, runs)
    refuse_outside(law, objective, runs)
    log_refs = log_references(law, runs)
    rows = reference_rows(law, runs, log_refs)
    for name in runs.sets or (None,):
        refuse_unidentified(law, runs if name is None else runs[name])

    begin = _starting_points(law, rows, log_refs, starts, restarts, key)
    chosen = (
        levenberg_marquardt() if optimizer is None else optax.with_extra_args_support(optimizer)
    )
    own_test = reports_convergence(chosen)
    stopping = Stopping(
        max_steps=max_steps or (300 if own_test else 5000),
        patience=np.iinfo(np.int32).max if own_test else patience,
        rtol=1e-9,
    )
    count = begin.shape[0] * begin.shape[1]
    with use_mesh(mesh), progress(f"fitting {law.name}", count, show_progress) as tick:
        out = _driver.run(Problem(law, objective, rows), begin, chosen, stopping, tick)
    if not np.isfinite(out.value).any():
        raise FitError(
            f"the objective of {law.name!r} is not finite at any of {begin.shape[1]:,} starts; "
            "check that the law is positive and finite over the range of the runs"
        )

    results = finish(law, objective, rows, log_refs, out, own_test)
    fitted = _assemble(law, objective, runs, log_refs, results)
    if throw:
        for single in fitted:
            if not single.verdict.ok:
                raise FitError(str(single.verdict))
    return fitted


def _starting_points(
    law: Law,
    rows: Rows,
    log_refs: dict[str, Any],
    starts: Grid | None,
    restarts: int,
    key: jax.Array | None,
) -> np.ndarray:
    """Unconstrained vectors, shape (sets, restarts, p)."""
    if starts is not None:
        points = starts.free(law, log_refs)
    elif key is None:
        raise LawError("random starts need a key: fit(..., key=jax.random.key(0))")
    elif restarts < 1:
        raise LawError(f"restarts must be at least 1, got {restarts}")
    else:
        points = sobol(law, rows, restarts, key)
    sets = len(rows.loss) if rows.loss.ndim == 2 else 1
    return np.broadcast_to(points, (sets, *points.shape[-2:])).astype(rows.loss.dtype)


def _assemble(
    law: Law,
    objective: Objective,
    runs: Runs,
    log_refs: dict[str, Any],
    results: list[Result],
) -> Fit:
    batch = runs.sets is not None
    free = np.stack([result.free for result in results])
    free = free if batch else free[0]

    def gather(name: str) -> Any:
        values = [getattr(result, name) for result in results]
        return np.asarray(values) if batch else values[0]

    def tuple_of(name: str) -> Any:
        values = tuple(getattr(result, name) for result in results)
        return values if batch else values[0]

    params = physical_params(law, free, log_refs)
    counts = (np.asarray(runs.weight) > 0).sum(axis=-1)
    return Fit(
        law=law,
        objective=objective,
        params=params,
        value=gather("value"),
        verdict=tuple_of("verdict"),
        restarts=tuple_of("restarts"),
        runs=runs,
        ranges=_ranges(law, runs),
        n_runs=counts if batch else int(counts),
        digest=runs.digest(),
        free=free,
        log_refs=log_refs,
        rmse=gather("rmse"),
    )
