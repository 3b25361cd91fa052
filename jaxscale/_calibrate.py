"""calibrate(): does a 95% interval cover 95% of the time, on this design and with this noise?"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy
from jax.sharding import Mesh

from jaxscale._bootstrap import pairs_weights
from jaxscale._checkpoint import Arrays, Checkpoint, digest_of, fit_digest
from jaxscale._clusters import real_codes
from jaxscale._curvature import covariance, dispersion, local
from jaxscale._draws import tails
from jaxscale._errors import DataError
from jaxscale._evaluate import Rows
from jaxscale._fit import Fit
from jaxscale._interval_method import (
    MOST_TABLES,
    IntervalMethod,
    method_key,
    quantile_ends,
    split_methods,
)
from jaxscale._law import Law
from jaxscale._mesh import use_mesh
from jaxscale._objective import Objective
from jaxscale._profile import held_deviance
from jaxscale._progress import progress
from jaxscale._quantity import Quantity, at_free, resolve_all
from jaxscale._refit import Refits, count_runs, fit_rows, refit_sets, single_fit
from jaxscale._simulate import Noise, Simulator, simulator

METHODS = ("hessian", "HC1", "HC3", "cluster", "pairs", "cluster pairs", "profile")
_WALD = ("hessian", "HC1", "HC3", "cluster")
_CLUSTERED = ("cluster", "cluster pairs")
_BOOTSTRAPS = ("pairs", "cluster pairs")
# Refits, and their runs, in flight at once: this bounds the memory of a study of any size.
_MOST_REFITS = 10_000
_MOST_CELLS = 10_000_000
# Below this many tables, a coverage is not told apart from its nominal level.
_FEW_SIMS = 50
_APART = 2.5  # Monte Carlo errors


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Measured coverage of nominal intervals.

    Attributes:
        fit: the fit whose law is the truth of the simulations.
        noise: the simulated noise, in words.
        sims, resamples: simulated tables, and bootstrap resamples of each.
        table: one row per method, quantity and level: coverage, its Monte Carlo standard error,
            median width (on the log scale for positive quantities; NaN for profiles, of which only
            the truth is asked), and the number of tables whose interval could not be computed.
    """

    fit: Fit
    noise: str
    sims: int
    resamples: int
    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """One row per method, quantity and level."""
        return self.table

    @property
    def sentences(self) -> tuple[str, ...]:
        """What each method's intervals really cover, at the quantity where they miss most."""
        said = []
        for (method, level), part in self.table.groupby(["method", "level"], sort=False):
            known = part[np.isfinite(part["coverage"])]
            if known.empty:
                said.append(f"No {level:.0%} {method} interval could be computed.")
                continue
            worst = known.loc[known["coverage"].idxmin()]
            said.append(
                f"Your {level:.0%} {method} interval of {worst.quantity} covers "
                f"{worst.coverage:.0%}: {self._judged(worst.coverage, level)}."
            )
        return tuple(said)

    def _judged(self, coverage: float, level: float) -> str:
        error = np.sqrt(level * (1 - level) / self.sims)
        if self.sims < _FEW_SIMS:
            return f"{self.sims} tables are too few to say more"
        if abs(coverage - level) <= _APART * error:
            return f"as it should, to within the Monte Carlo error of {error:.1%}"
        return "it is too narrow" if coverage < level else "it is wider than it need be"

    def __repr__(self) -> str:
        wide = self.table.pivot_table(
            index=["method", "level"], columns="quantity", values="coverage", sort=False
        )
        head = f"Coverage over {self.sims} simulated tables with {self.noise}"
        return "\n".join([head, wide.to_string(float_format="{:.3f}".format), *self.sentences])


def calibrate(
    fit: Fit,
    *,
    key: jax.Array,
    methods: Iterable[str | IntervalMethod] = ("hessian", "HC1", "pairs"),
    quantities: Any = None,
    levels: Iterable[float] = (0.8, 0.95),
    sims: int = 200,
    resamples: int = 400,
    noise: Noise = "iid",
    icc: float | None = None,
    by: Any = None,
    checkpoint: str | Path | None = None,
    mesh: Mesh | None = None,
    show_progress: bool | None = None,
) -> Calibration:
    """Share of simulated tables whose interval contains the truth, method by method.

    Tables are simulated from the fitted law on the design of its runs, every one is fitted again,
    and every method forms its intervals as it would for real.

    Args:
        fit: a fit of one data set, with its runs.
        key: JAX random key.
        methods: some of ``"hessian"``, ``"HC1"``, ``"HC3"``, ``"cluster"`` (delta-method intervals
            from those covariances), ``"pairs"``, ``"cluster pairs"`` (percentile bootstraps) and
            ``"profile"``; and methods of your own, such as a posterior, see `IntervalMethod`,
            whose equal-tailed intervals are formed from the draws that they give.
        quantities: names or `Quantity` objects; default every parameter and derived quantity.
        levels: nominal levels.
        sims: number of simulated tables. The Monte Carlo error of a coverage near 95% is 1.5
            points with 200.
        resamples: bootstrap resamples of every table.
        noise: ``"iid"``, ``"student"`` or ``"clustered"``, see `simulator`.
        icc: intra-cluster correlation of clustered noise; default the measured one.
        by: clusters of the noise and of the cluster methods, see `cluster_codes`.
        checkpoint: file that keeps finished tables, rewritten every few seconds. A later call with
            the same arguments goes on from there; `sims` may differ.
        mesh: devices to share the work, see `use_mesh`.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Raises:
        DataError: for an unknown method, two of one name, draws of the wrong shape, clusters that
            are missing, or a checkpoint of another study.

    Example:
        >>> calibrate(fit, noise="clustered", by="N", methods=["pairs", "cluster"], key=key)
    """
    names, own = split_methods(methods, METHODS)
    levels = tuple(dict.fromkeys(levels))
    for level in levels:
        tails(level)
    if sims < 1 or resamples < 2:
        raise DataError("a study needs at least 1 simulated table and 2 resamples of each")
    study = _Study(
        fit=fit,
        chosen=resolve_all(fit, quantities),
        methods=names,
        own=own,
        levels=levels,
        resamples=resamples,
        source=simulator(fit, noise, by=by, icc=icc),
        codes=_needed_codes(fit, names, by),
        key=key,
        sims=sims,
    )
    with use_mesh(mesh):
        results = _run(study, sims, checkpoint, show_progress)
    return Calibration(fit, study.source.sentence, sims, resamples, _table(study, *results))


def _is_frozen(method: Any) -> bool:
    """Whether a method's text is its settings; of others than frozen dataclasses it may change."""
    params = getattr(method, "__dataclass_params__", None)
    return params is not None and bool(params.frozen)


def _needed_codes(fit: Fit, methods: tuple[str, ...], by: Any) -> np.ndarray | None:
    if not set(methods) & set(_CLUSTERED):
        return None
    return real_codes(single_fit(fit), by)


@dataclasses.dataclass(frozen=True)
class _Study:
    """One study; `simulate` gives for each table whether every interval covers, and its width."""

    fit: Fit
    chosen: tuple[Quantity, ...]
    methods: tuple[str, ...]
    own: dict[str, IntervalMethod]
    levels: tuple[float, ...]
    resamples: int
    source: Simulator
    codes: np.ndarray | None
    key: jax.Array
    sims: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.methods), len(self.chosen), len(self.levels))

    @property
    def chunk(self) -> int:
        """Tables simulated at once."""
        bootstraps = any(method in _BOOTSTRAPS for method in self.methods)
        each = self.resamples if bootstraps else len(self.chosen)
        runs = len(single_fit(self.fit))
        most = max(1, min(_MOST_REFITS, _MOST_CELLS // runs, 64 * each) // each)
        # One's own methods may be slow: no tables beyond those asked for.
        return min(most, MOST_TABLES, self.sims) if self.own else most

    @property
    def refits_per_table(self) -> int:
        bootstraps = sum(method in _BOOTSTRAPS for method in self.methods)
        profiles = len(self.chosen) if "profile" in self.methods else 0
        return 1 + bootstraps * self.resamples + profiles + len(self.own)

    def digest(self) -> str:
        """What a checkpoint must agree with."""
        return digest_of(
            fit_digest(self.fit), self.methods, np.asarray(self.levels), self.resamples,
            [q.label for q in self.chosen], self.codes, self.key,
            self.source.sentence, self.source.icc, self.source.codes,
            [repr(m) for _, m in sorted(self.own.items()) if _is_frozen(m)],
        )  # fmt: skip

    def simulate(self, first: int, tick: Callable[[int], None]) -> Arrays:
        """One chunk of tables: covered (NaN if undecided) and width, (tables, *shape)."""
        table_key, common_key = jax.random.split(self.key)
        keys = [jax.random.fold_in(table_key, first + i) for i in range(self.chunk)]
        loss = np.stack([self.source.losses(key) for key in keys])
        truth = _at(self.fit, self.chosen, np.asarray(self.fit.free)[None])[0]
        found = refit_sets(self.fit, loss=loss, tick=tick)
        covered, width = [], []
        for method in self.methods:
            key = (
                method_key(common_key, method)
                if method in self.own
                else jax.random.fold_in(common_key, METHODS.index(method))
            )
            key = jax.random.fold_in(key, first)
            if method == "profile":
                inside = self._profile(loss, found, truth, tick)
                covered.append(inside)
                width.append(np.full(inside.shape, np.nan))
                continue
            if method in self.own:
                low, high = quantile_ends(
                    self.own[method], self.fit, self.chosen, self.levels, loss, key
                )
                tick(len(loss))
            elif method in _WALD:
                low, high = self._wald(loss, found, method)
            else:
                low, high = self._percentiles(loss, found, method, key, tick)
            t = truth[:, None]
            known = np.isfinite(low) & np.isfinite(high)
            covered.append(np.where(known, (low <= t) & (t <= high), np.nan))
            width.append(np.where(known, high - low, np.nan))
        return {"covered": np.stack(covered, axis=1), "width": np.stack(width, axis=1)}

    def _wald(self, loss: np.ndarray, found: Refits, method: str) -> tuple[np.ndarray, np.ndarray]:
        rows, n = fit_rows(self.fit), count_runs(self.fit)
        objective, p = self.fit.objective, len(self.fit.law.params)
        total = float(np.asarray(single_fit(self.fit).weight).sum())
        spread = dispersion(objective, objective.scale_at(found.value / total))
        groups = 0 if self.codes is None else int(self.codes.max()) + 1
        center, se = wald_errors(
            self.fit.law, objective, self.chosen, self.fit.log_refs,
            "CR3" if method == "cluster" else method, groups, self.codes,
            rows, jnp.asarray(loss), jnp.asarray(found.theta), spread,
        )  # fmt: skip
        df = groups - 1 if method == "cluster" else n - p
        reach = scipy.stats.t.ppf([tails(level)[1] for level in self.levels], df)
        center, se = np.asarray(center)[..., None], np.asarray(se)[..., None]
        return center - reach * se, center + reach * se

    def _percentiles(
        self,
        loss: np.ndarray,
        found: Refits,
        method: str,
        key: jax.Array,
        tick: Callable[[int], None],
    ) -> tuple[np.ndarray, np.ndarray]:
        sets = len(loss)
        codes = self.codes if method in _CLUSTERED else None
        base = np.asarray(single_fit(self.fit).weight)
        again = refit_sets(
            self.fit,
            weight=pairs_weights(base, codes, sets * self.resamples, key),
            loss=np.repeat(loss, self.resamples, axis=0),
            starts=np.repeat(found.theta, self.resamples, axis=0)[:, None],
            tick=tick,
        )
        draws = _at(self.fit, self.chosen, again.theta)
        draws = draws.reshape(sets, self.resamples, len(self.chosen))
        ends = np.array([tails(level) for level in self.levels])
        low, high = np.quantile(draws, ends.T, axis=1)  # (levels, sets, quantities) each
        return np.moveaxis(low, 0, -1), np.moveaxis(high, 0, -1)

    def _profile(
        self, loss: np.ndarray, found: Refits, truth: np.ndarray, tick: Callable[[int], None]
    ) -> np.ndarray:
        deviance = held_deviance(self.fit, self.chosen, truth, loss, found, tick)
        limit = scipy.stats.chi2.ppf(self.levels, 1)
        inside = deviance[..., None] <= limit
        return np.where(np.isfinite(deviance)[..., None], inside, np.nan)


@functools.partial(jax.jit, static_argnames=("law", "kind", "groups"))
def wald_errors(
    law: Law,
    objective: Objective,
    chosen: tuple[Quantity, ...],
    log_refs: Any,
    kind: str,
    groups: int,
    codes: Any,
    rows: Rows,
    loss: Any,
    theta: Any,
    spread: Any,
) -> tuple[Any, Any]:
    """Values and standard errors of every table, each (tables, quantities).

    Args:
        law, objective: what was fitted.
        chosen: quantities, on the scale on which intervals are formed.
        log_refs: reference values of the inputs and the loss.
        kind, groups, codes: estimator of the covariance, see `covariance`.
        rows: the runs, whose losses are not looked at.
        loss: losses of every table, shape (tables, runs).
        theta: optimum of every table, shape (tables, p).
        spread: dispersion of every table, shape (tables,).
    """

    def one(loss: Any, theta: Any, spread: Any) -> tuple[Any, Any]:
        near = local(law, objective, theta, Rows(rows.inputs, loss, rows.weight, rows.log_loss_ref))
        # As in laplace(): the scale of Student noise is known, not estimated.
        corrected = not (kind == "hessian" and objective.known)
        cov = covariance(
            near,
            kind,
            dispersion=spread,
            observations=objective.observations(near.weight),
            codes=codes,
            groups=groups,
            correction=corrected,
        )

        def values(at: Any) -> Any:
            return at_free(law, chosen, at, log_refs)

        slopes = jax.jacfwd(values)(theta)
        return values(theta), jnp.sqrt(
            jnp.einsum("qi,ij,qj->q", slopes, cov, slopes, precision="highest")
        )

    return jax.vmap(one)(loss, theta, spread)


@functools.partial(jax.jit, static_argnames="law")
def _many(law: Law, chosen: tuple[Quantity, ...], theta: Any, log_refs: Any) -> Any:
    return jax.vmap(lambda at: at_free(law, chosen, at, log_refs))(theta)


def _at(fit: Fit, chosen: tuple[Quantity, ...], theta: np.ndarray) -> np.ndarray:
    return np.asarray(_many(fit.law, chosen, jnp.asarray(theta), fit.log_refs))


def _run(
    study: _Study, sims: int, checkpoint: str | Path | None, show_progress: bool | None
) -> tuple[np.ndarray, np.ndarray]:
    """All chunks, named by their first tables; a longer study goes on behind the last that is kept.

    Methods of one's own get smaller chunks in small studies, so a kept chunk knows its own size.
    """
    parts: list[Arrays] = []
    with Checkpoint(checkpoint, study.digest(), "a coverage study") as kept:
        first = 0
        while str(first) in kept:
            first += len(kept[str(first)]["covered"])
        each = study.refits_per_table
        with progress("calibrating", sims * each, show_progress, min(first, sims) * each) as tick:
            first = 0
            while first < sims:
                parts.append(kept.chunk(str(first), functools.partial(study.simulate, first, tick)))
                first += len(parts[-1]["covered"])
    covered, width = (np.concatenate([part[x] for part in parts]) for x in ("covered", "width"))
    return covered[:sims], width[:sims]


def _table(study: _Study, covered: np.ndarray, width: np.ndarray) -> pd.DataFrame:
    rows = []
    for i, method in enumerate(study.methods):
        for j, quantity in enumerate(study.chosen):
            for k, level in enumerate(study.levels):
                hits, wide = covered[:, i, j, k], width[:, i, j, k]
                known = np.isfinite(hits)
                share = float(hits[known].mean()) if known.any() else np.nan
                count = max(int(known.sum()), 1)
                rows.append(
                    {
                        "method": method,
                        "quantity": quantity.label,
                        "level": level,
                        "coverage": share,
                        "error": float(np.sqrt(share * (1 - share) / count)),
                        "width": float(np.nanmedian(wide)) if np.isfinite(wide).any() else np.nan,
                        "failed": int((~known).sum()),
                    }
                )
    return pd.DataFrame(rows)
