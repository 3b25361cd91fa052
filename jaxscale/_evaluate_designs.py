"""evaluate_designs(): does a plan really beat other designs of the same cost? By simulation."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy

from jaxscale._belief import Belief, Guess, belief_of, law_of
from jaxscale._calibrate import wald_errors
from jaxscale._candidates import read_candidates
from jaxscale._curvature import dispersion
from jaxscale._design_noise import (
    DesignNoise,
    cell_codes,
    measured_noise,
    shared_in_cells,
)
from jaxscale._draws import tails
from jaxscale._errors import DataError, IdentificationError
from jaxscale._evaluate import Rows, predict_reference
from jaxscale._fit import Fit
from jaxscale._identify import refuse_unidentified
from jaxscale._plan import Plan
from jaxscale._problem import Problem
from jaxscale._progress import progress
from jaxscale._quantity import Quantity, resolve_all
from jaxscale._refit import Refits, residual_pool, solve_sets
from jaxscale._runs import Runs
from jaxscale._starts import sobol
from jaxscale.published import Published

_AGREES = 2.5  # Monte Carlo errors


@dataclasses.dataclass(frozen=True)
class DesignStudy:
    """What designs are worth, measured by simulation; see `evaluate_designs`.

    Attributes:
        table: one row per design and target: runs, cost, ``predicted`` standard error by
            derivatives, ``simulated`` standard deviation over the tables with its Monte Carlo
            ``error``, ``bias``, ``rmse``, median absolute error ``typical``, ``coverage`` of Wald
            intervals and their median ``width``, and how many refits ``failed``. All of them for
            the log of what is positive by nature, so that 0.01 is 1%.
        tables: simulated tables of each design.
        level: probability content of the intervals.
        notes: designs that cannot determine the law, and why.
    """

    table: pd.DataFrame
    tables: int
    level: float
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """One row per design and target."""
        return self.table

    @property
    def sentences(self) -> tuple[str, ...]:
        """Which design is best for each target, and whether predictions hold."""
        said = []
        for target, part in self.table.groupby("target", sort=False):
            known = part[np.isfinite(part["rmse"])].sort_values("rmse")
            if known.empty:
                said.append(f"No design determines {target}.")
                continue
            best, others = known.iloc[0], known.iloc[1:]
            against = ", ".join(f"{x.rmse:.3g} ({x.design})" for x in others.itertuples())
            said.append(
                f"{target}: lowest root mean square error {best.rmse:.3g} ({best.design})"
                + (f", against {against}." if against else ".")
            )
            off = known[(known["predicted"] - known["simulated"]).abs() > _AGREES * known["error"]]
            for x in off.itertuples():
                said.append(
                    f"{x.design}: predicted {x.predicted:.3g} for {target}, simulated "
                    f"{x.simulated:.3g} +- {x.error:.2g}."
                )
        return tuple(said)

    def __repr__(self) -> str:
        table = self.table.to_string(index=False, float_format="{:.4g}".format)
        head = f"{self.tables} simulated tables of each design ({self.level:.0%} intervals)"
        return "\n".join([head, table, *self.sentences, *self.notes])


def evaluate_designs(
    designs: Mapping[str, Any],
    source: Any,
    *,
    target: str | Quantity | Iterable[str | Quantity],
    key: jax.Array,
    noise: float | DesignNoise | None = None,
    tables: int = 400,
    restarts: int = 4,
    level: float = 0.9,
    show_progress: bool | None = None,
) -> DesignStudy:
    """Error of targets after training the runs of each design, from simulated tables.

    The source is the truth. For each design, tables of losses are simulated, of its runs and those
    of the source, and fitted again. Runs of a cell get the weights that their noise deserves.

    Args:
        designs: by name, a `Plan`, or a table of runs with the inputs of the law, their cost, and
            perhaps ``times``, see `isoflop_design` and `ray_design`.
        source: a fit, whose runs are simulated again, too; or a `Guess` or an entry of `published`,
            for the designs alone.
        target: name of a parameter or derived quantity, `loss_at`, `optimal_N`, `optimal_D`, or
            several.
        key: JAX random key.
        noise: normal noise of the runs, a `DesignNoise` or the standard deviation of a run.
            Default: drawn from the residuals of the fit.
        tables: simulated tables of each design.
        restarts: starts of every refit: the truth, and random ones.
        level: probability content of the intervals.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Raises:
        DataError: for unusable designs or options.
        LawError: for an unknown target.

    Example:
        >>> evaluate_designs({"plan": plan, "ray": ray_design(1e21)}, fit, target="a", key=key)
    """
    if not designs:
        raise DataError("give at least one design")
    if tables < 2 or restarts < 1:
        raise DataError("a study needs at least 2 tables and 1 start of each refit")
    tails(level)
    law = law_of(source)
    read = {name: _read(law, design) for name, design in designs.items()}
    everything = {
        name: np.concatenate([design.inputs[name] for design in read.values()])
        for name in law.inputs
    }
    truth = _truth(source, everything, noise)
    targets = resolve_all(truth.belief, target)
    longest = max(len(design) for design in read.values()) + len(truth.base_weight)
    rows, notes = [], []
    with progress("evaluating designs", tables * restarts * len(read), show_progress) as tick:
        for i, (name, design) in enumerate(read.items()):
            study = _Study(truth, design, targets, level, longest)
            try:
                refuse_unidentified(law, study.runs)
            except IdentificationError as error:
                notes.append(f"{name}: {str(error).removeprefix(study.runs.source + ': ')}")
                rows += study.table(name, None)
                continue
            found = study.measure(jax.random.fold_in(key, i), tables, restarts, tick)
            rows += study.table(name, found)
    return DesignStudy(pd.DataFrame(rows), tables, level, tuple(notes))


class _Design(NamedTuple):
    """Inputs of every run, seeds written out, and the cost of all."""

    inputs: dict[str, np.ndarray]
    cost: float

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def _read(law: Any, design: Any) -> _Design:
    table = design.frame() if isinstance(design, Plan) else design
    inputs, cost = read_candidates(law, table)
    times = np.ones(len(cost), int)
    if "times" in table.columns:
        given = np.asarray(table["times"], float)
        if not ((given >= 1) & (given == given.round())).all():
            raise DataError("the times that a run is trained must be whole numbers from 1")
        times = given.astype(int)
    return _Design({k: np.repeat(x, times) for k, x in inputs.items()}, float(cost @ times))


@dataclasses.dataclass(frozen=True)
class _Truth:
    """What is simulated: the law and its noise, and the runs so far.

    `run`, `cell` are variances as least squares would see them. The noise of a run and of a cell is
    drawn from the residuals `pool`, or from the normal distribution, times `scales`.
    """

    belief: Belief
    base: dict[str, np.ndarray]
    base_weight: np.ndarray
    run: float
    cell: float
    pool: np.ndarray | None
    scales: tuple[float, float]


def _truth(source: Any, inputs: dict[str, np.ndarray], noise: Any) -> _Truth:
    if not isinstance(source, Fit | Guess | Published):
        raise DataError("the truth must be a fit, a Guess or an entry of published, not draws")
    belief = belief_of(source, inputs, noise=noise)
    if belief.objective.outcomes:
        raise DataError(f"designs are evaluated for losses, not for {belief.objective}")
    base, weight = {name: np.empty(0) for name in belief.law.inputs}, np.empty(0)
    runs = belief.runs
    if runs is not None:
        real = np.asarray(runs.weight) > 0
        base = {name: np.asarray(runs.inputs[name], float)[real] for name in belief.law.inputs}
        weight = np.asarray(runs.weight, float)[real]
        weight = weight / weight.mean()
    pool, scales, known = None, (0.0, 0.0), belief.noise
    if noise is None:
        assert isinstance(source, Fit)
        pool = residual_pool(source)
        share = shared_in_cells(source)[0]
        scales = (float(np.sqrt(1 - share)), float(np.sqrt(share)))
        known = measured_noise(source, "HC1")  # whatever the residuals are
    else:
        given = noise if isinstance(noise, DesignNoise) else DesignNoise(noise)
        scales = (given.run, given.cell)
    return _Truth(belief, base, weight, float(known.run), float(known.cell), pool, scales)


class _Measured(NamedTuple):
    """Values, standard errors and degrees of freedom: (tables, targets), and which are usable."""

    value: np.ndarray
    se: np.ndarray
    df: int
    usable: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Study:
    """One design, with the runs so far, padded to a common length."""

    truth: _Truth
    design: _Design
    targets: tuple[Quantity, ...]
    level: float
    longest: int

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """Inputs of the runs so far and of the design."""
        return {k: np.concatenate([x, self.design.inputs[k]]) for k, x in self.truth.base.items()}

    @property
    def count(self) -> int:
        return len(self.truth.base_weight) + len(self.design)

    @property
    def weight(self) -> np.ndarray:
        """Weight of every run: less for those that share their noise with others."""
        codes = cell_codes(self.inputs)
        n = np.bincount(codes)[codes]
        run, cell = self.truth.run, self.truth.cell
        own = np.concatenate([self.truth.base_weight, np.ones(len(self.design))])
        return own * (run + cell) / (run + n * cell)

    @property
    def runs(self) -> Runs:
        """The runs with their true losses, padded with weight zero."""
        belief, more = self.truth.belief, self.longest - self.count
        padded = {name: np.pad(x, (0, more), mode="edge") for name, x in self.inputs.items()}
        scaled = belief.scaled(padded)
        unit = float(np.exp(belief.log_refs.get("loss", 0.0)))
        return Runs(
            inputs=padded,
            loss=unit * np.asarray(_predicted(belief.law, jnp.asarray(belief.center), scaled)),
            weight=np.pad(self.weight, (0, more)),
            row=np.arange(self.longest) + 1,
            source="the design",
        )

    def losses(self, key: jax.Array, tables: int) -> np.ndarray:
        """Simulated tables, shape (tables, runs), padding included."""
        rng = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), "uint32")))
        codes, shape = cell_codes(self.inputs), (tables, self.count)
        run, cell = self.truth.scales
        cells = (tables, int(codes.max()) + 1)
        pool = self.truth.pool
        own, shared = (
            rng.normal(size=size) if pool is None else rng.choice(pool, size)
            for size in (shape, cells)
        )
        shared = shared[:, codes]
        r = np.pad(run * own + cell * shared, ((0, 0), (0, self.longest - self.count)))
        loss = np.asarray(self.runs.loss)
        return np.asarray(loss * np.exp(-r) if self.truth.belief.objective.log else loss - r)

    def measure(
        self, key: jax.Array, tables: int, restarts: int, tick: Callable[[int], None]
    ) -> _Measured:
        """Simulate, refit, and form Wald intervals."""
        belief, runs = self.truth.belief, self.runs
        noise_key, start_key = jax.random.split(key)
        loss = self.losses(noise_key, tables)
        rows = Rows(
            belief.scaled(runs.inputs),
            jnp.asarray(loss),
            jnp.asarray(runs.weight, float),
            jnp.asarray(belief.log_refs.get("loss", 0.0), float),
        )
        starts = np.broadcast_to(belief.center, (tables, 1, len(belief.center)))
        if restarts > 1:
            once = Rows(rows.inputs, jnp.asarray(runs.loss), rows.weight, rows.log_loss_ref)
            more = sobol(belief.law, once, restarts - 1, start_key)
            more = np.broadcast_to(more, (tables, *more.shape))
            starts = np.concatenate([starts, more], axis=1)
        found = solve_sets(
            Problem(belief.law, belief.objective, rows), starts, cold=restarts > 1, tick=tick
        )
        return self._measured(rows, loss, found)

    def _measured(self, rows: Rows, loss: np.ndarray, found: Refits) -> _Measured:
        belief = self.truth.belief
        total = float(np.asarray(rows.weight).sum())
        spread = dispersion(belief.objective, belief.objective.scale_at(found.value / total))
        value, se = wald_errors(
            belief.law, belief.objective, self.targets, belief.log_refs, "hessian", 0, None,
            Rows(rows.inputs, jnp.asarray(loss[0]), rows.weight, rows.log_loss_ref),
            jnp.asarray(loss), jnp.asarray(found.theta), spread,
        )  # fmt: skip
        value, se = np.asarray(value), np.asarray(se)
        usable = np.isfinite(value).all(axis=1) & np.isfinite(found.value)
        return _Measured(value, se, max(self.count - len(belief.center), 1), usable)

    def predicted(self) -> tuple[np.ndarray, np.ndarray]:
        """Value of every target at the truth, and standard error by derivatives alone."""
        belief, inputs = self.truth.belief, self.inputs
        at = dataclasses.replace(belief, theta=np.asarray(belief.center)[None])
        codes, first = np.unique(cell_codes(inputs), return_index=True)[:2]
        n = np.bincount(cell_codes(inputs))[codes]
        J = at.jacobian({name: x[first] for name, x in inputs.items()})[0]
        information = (J / (self.truth.cell + self.truth.run / n)) @ J.T
        value, aims = at.aims(self.targets)
        scale = np.sqrt(np.diag(information))
        with np.errstate(invalid="ignore", divide="ignore"):
            unit = information / np.outer(scale, scale)
        if not np.isfinite(unit).all() or np.linalg.cond(unit) > 1e14:
            return value, np.full(len(value), np.inf)
        solved = np.linalg.solve(unit, (aims[0] / scale).T)
        return value, np.sqrt(np.einsum("ki,ik->k", aims[0] / scale, solved))

    def table(self, name: str, found: _Measured | None) -> list[dict[str, Any]]:
        """One row per target."""
        truth, predicted = self.predicted()
        rows = []
        for k, quantity in enumerate(self.targets):
            row: dict[str, Any] = {
                "design": name,
                "target": quantity.label,
                "runs": len(self.design),
                "cost": self.design.cost,
                "predicted": predicted[k] if found is not None else np.inf,
            }
            rows.append(row | _summary(found, k, truth[k], self.level))
        return rows


def _summary(found: _Measured | None, k: int, truth: float, level: float) -> dict[str, float]:
    names = ("simulated", "error", "bias", "rmse", "typical", "coverage", "width")
    if found is None or found.usable.sum() < 2:
        lost = 0 if found is None else int((~found.usable).sum())
        return {**dict.fromkeys(names, np.nan), "failed": lost}
    miss, se = found.value[found.usable, k] - truth, found.se[found.usable, k]
    sd = float(miss.std(ddof=1))
    kurtosis = float(np.mean((miss - miss.mean()) ** 4)) / max(sd**4, 1e-300)
    reach = scipy.stats.t.ppf(tails(level)[1], found.df) * se
    values = (
        sd,
        sd * np.sqrt(max(kurtosis - 1, 0.0) / (4 * len(miss))),
        float(miss.mean()),
        float(np.sqrt(np.mean(miss**2))),
        float(np.median(np.abs(miss))),
        float(np.mean(np.abs(miss) <= reach)),
        float(np.nanmedian(2 * reach)),
    )
    return {**dict(zip(names, values, strict=True)), "failed": int((~found.usable).sum())}


@jax.jit(static_argnames="law")
def _predicted(law: Any, theta: Any, inputs: Any) -> Any:
    return predict_reference(law, theta, inputs)
