"""borrowing(): a new family with few models takes some of its parameters from another family."""

import dataclasses
import functools
import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale import _driver, _units
from jaxscale._errors import DataError, LawError
from jaxscale._evaluate import Rows
from jaxscale._fit import Fit, fit as fit_law
from jaxscale._law import Law, from_free_vector
from jaxscale._left_out import COLD_STARTS, predict_at, refit_parts
from jaxscale._levenberg_marquardt import levenberg_marquardt
from jaxscale._objective import Objective
from jaxscale._problem import Problem
from jaxscale._progress import progress
from jaxscale._refit import STOPPING, fit_rows, single_fit
from jaxscale._runs import Runs
from jaxscale._starts import sobol
from jaxscale._trajectories import Trajectories, determined, trajectories

_OWN = "none"  # what the table calls a family that borrows nothing


@dataclasses.dataclass(frozen=True)
class Borrowing:
    """Error of fits that borrow parameters, beside fits that do not; see `borrowing`.

    Attributes:
        table: one row per family, donor, parameters borrowed and number of models: family, donor,
            fixed, models, runs, are and bias on the last runs of the family's largest model. The
            donor is "none" for fits of the family's own; NaN where the runs cannot determine them.
        law: name of the law.
    """

    table: pd.DataFrame
    law: str

    def frame(self) -> pd.DataFrame:
        """One row per family, donor, parameters borrowed and number of models."""
        return self.table

    def summary(self) -> pd.DataFrame:
        """Mean error over families and donors, and how often borrowing was better.

        Returns:
            One row per number of models and parameters borrowed: models, fixed, own, borrowed (mean
            errors over the pairs where both are known), better (share of them), pairs.
        """
        own = self.table[self.table["donor"] == _OWN].set_index(["family", "models"])["are"]
        rows = []
        lent = self.table[self.table["donor"] != _OWN]
        for (models, fixed), part in lent.groupby(["models", "fixed"], sort=False):
            mine = own.reindex(list(zip(part["family"], part["models"], strict=True))).to_numpy()
            theirs = part["are"].to_numpy(float)
            known = np.isfinite(mine) & np.isfinite(theirs)
            rows.append(
                {
                    "models": models,
                    "fixed": fixed,
                    "own": float(mine[known].mean()) if known.any() else np.nan,
                    "borrowed": float(theirs[known].mean())
                    if known.any()
                    else float(np.nanmean(theirs)),
                    "better": float((theirs < mine)[known].mean()) if known.any() else np.nan,
                    "pairs": int(known.sum()),
                }
            )
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        table = self.summary().to_string(index=False, float_format=lambda x: f"{x:.4g}")
        return f"{self.law}: absolute relative error of own and of borrowed parameters\n{table}"

    def _repr_html_(self) -> str:
        table = self.summary().to_html(index=False, float_format=lambda x: f"{x:.4g}")
        return f"<b>{html.escape(self.law)}</b>: own and borrowed parameters{table}"


def borrowing(
    families: Mapping[str, Runs],
    law: Law,
    *,
    key: jax.Array,
    fixed: Sequence[str | tuple[str, ...]],
    size: str = "N",
    along: str = "D",
    models: Any = (1, 2, 3),
    target_share: float = 0.3,
    least: float = 0.0,
    objective: Objective | None = None,
    restarts: int = 256,
    show_progress: bool | None = None,
) -> Borrowing:
    """ARE of L(x; theta_fixed of another family, the others fitted) on a family's largest model.

    Every family is fitted to its smallest models, by itself and with some parameters held at what
    each other family's runs, all of them, say. All donors and numbers of models of one family and
    one choice of parameters run in one batch.

    Args:
        families: one table of checkpoints per family, by name.
        law: fitted to each.
        key: JAX random key.
        fixed: which parameters to hold: names, or tuples of names, each a choice of its own. A
            parameter whose unit has another one as an exponent, as A in loss N^alpha, can only be
            held together with that.
        size, along, target_share, least: as for `are_grid`.
        models: numbers of models of the family to use.
        objective: what to minimize; default ``LogHuber(1e-3)``.
        restarts: random starts of the fits to all runs of a family.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Raises:
        DataError: for fewer than two families.
        LawError: for parameters that cannot be held.
        IdentificationError: if all runs of a family cannot determine the law.

    Source: Choshen, Zhang & Andreas 2024, arXiv 2410.11840.

    Example:
        >>> borrowing(families, laws.chinchilla, fixed=[("alpha", "beta")], key=key).summary()
    """
    if not isinstance(families, Mapping) or len(families) < 2:
        raise DataError("give at least two families by name")
    choices = [(each,) if isinstance(each, str) else tuple(each) for each in fixed]
    laws = {choice: held_law(law, choice) for choice in choices}
    paths = {
        name: trajectories(runs, size=size, along=along, target_share=target_share, least=least)
        for name, runs in families.items()
    }
    fit_key, start_key = jax.random.split(key)
    stack = fit_law(
        law,
        Runs.stack(families),
        objective=objective,
        restarts=restarts,
        key=fit_key,
        show_progress=show_progress,
    )
    donors = {name: {k: float(v) for k, v in stack[name].params.items()} for name in families}
    rows = []
    work = len(families) * len(np.atleast_1d(models)) * (1 + len(choices) * (len(families) - 1))
    with progress("borrowing", work * (1 + COLD_STARTS), show_progress) as tick:
        for name in families:
            fit, way = stack[name], paths[name]
            counts = [m for m in np.atleast_1d(models) if 1 <= m < len(way.size)]
            seen = [way.seen(int(m), 1.0) for m in counts]
            rows += _own(name, law, fit, way, counts, seen, start_key, tick)
            for choice, held in laws.items():
                lent = {k: v for k, v in donors.items() if k != name}
                rows += _lent(name, held, choice, fit, way, counts, seen, lent, start_key, tick)
    return Borrowing(pd.DataFrame(rows), law.name)


@functools.lru_cache(maxsize=64)
def held_law(law: Law, fixed: tuple[str, ...]) -> Law:
    """The law in reference units with some parameters among its inputs, so that one program
    serves all their values.

    Raises:
        LawError: for parameters that the law does not have, all of them, or one that can only be
            held together with another.
    """
    for name in fixed:
        if name not in law.names:
            raise LawError(f"law {law.name!r} has no parameter {name!r}: {', '.join(law.names)}")
        needs = _units.names(dict(law.params)[name].unit) & (set(law.names) - set(fixed))
        if needs:
            raise LawError(
                f"{name} of law {law.name!r} has {', '.join(sorted(needs))} in its unit: hold it, "
                "too"
            )
    free = tuple((n, dataclasses.replace(p, unit="")) for n, p in law.params if n not in fixed)
    if not free or not fixed:
        raise LawError("hold at least one parameter, and leave at least one to fit")
    split = len(law.inputs)

    def fn(*values: Any, **params: Any) -> Any:
        return law.fn(*values[:split], **params, **dict(zip(fixed, values[split:], strict=True)))

    return Law(
        name=f"{law.name} with {', '.join(fixed)} held",
        fn=fn,
        params=free,
        inputs=(*law.inputs, *fixed),
    )


def _row(
    family: str, donor: str, fixed: str, models: int, used: np.ndarray, off: np.ndarray
) -> dict[str, Any]:
    return {
        "family": family,
        "donor": donor,
        "fixed": fixed,
        "models": int(models),
        "runs": int(used.sum()),
        "are": float(np.abs(off).mean()),
        "bias": float(off.mean()),
    }


def _own(
    name: str,
    law: Law,
    fit: Fit,
    way: Trajectories,
    counts: list[int],
    seen: list[np.ndarray],
    key: jax.Array,
    tick: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Errors of the family's own fits to its smallest models."""
    runs = single_fit(fit)
    truth = np.asarray(runs.loss, float)[way.target]
    able = [i for i, used in enumerate(seen) if used.any() and determined(law, runs.take(used))]
    off = np.full((len(counts), len(truth)), np.nan)
    if able:
        found = refit_parts(fit, np.stack([seen[i] for i in able]), key=key, tick=tick)
        off[able] = predict_at(fit, found.theta, runs)[:, way.target] / truth - 1
    return [_row(name, _OWN, "", m, seen[i], off[i]) for i, m in enumerate(counts)]


def _lent(
    name: str,
    held: Law,
    choice: tuple[str, ...],
    fit: Fit,
    way: Trajectories,
    counts: list[int],
    seen: list[np.ndarray],
    donors: Mapping[str, dict[str, float]],
    key: jax.Array,
    tick: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Errors of fits with parameters of every donor, all in one batch."""
    runs, rows, law = single_fit(fit), fit_rows(fit), fit.law
    truth = np.asarray(runs.loss, float)[way.target]
    sets = [
        (donor, m, used)
        for donor in donors
        for m, used in zip(counts, seen, strict=True)
        if used.sum() >= len(held.params)
    ]
    if not sets:
        return []
    reference = {d: law.to_reference(params, fit.log_refs) for d, params in donors.items()}
    values = {x: np.array([float(reference[d][x]) for d, _, _ in sets]) for x in choice}
    columns = [
        jnp.broadcast_to(jnp.asarray(v, rows.loss.dtype)[:, None], (len(sets), len(runs)))
        for v in values.values()
    ]
    weight = np.stack([used for _, _, used in sets]) * np.asarray(runs.weight, float)
    inputs = tuple(jnp.broadcast_to(x, (len(sets), len(runs))) for x in rows.inputs)
    given = Rows(
        (*inputs, *columns), rows.loss, jnp.asarray(weight, rows.loss.dtype), rows.log_loss_ref
    )
    points = sobol(held, _typical_rows(rows, values), 1 + COLD_STARTS, key)
    starts = np.broadcast_to(points, (len(sets), *points.shape)).astype(rows.loss.dtype)
    problem = Problem(held, fit.objective, given)
    out = _driver.run(problem, starts, levenberg_marquardt(), STOPPING, tick)
    value = np.where(np.isfinite(out.value), out.value, np.inf)
    theta = out.theta[np.arange(len(sets)), value.argmin(axis=1)]
    free = from_free_vector(held, jnp.asarray(theta))
    whole = {k: jnp.asarray(v) for k, v in (free | values).items()}
    params = law.to_physical({k: whole[k] for k in law.names}, fit.log_refs)
    at = [jnp.asarray(np.asarray(runs.inputs[x])[way.target]) for x in law.inputs]
    predicted = np.asarray(law(*at, **{k: v[:, None] for k, v in params.items()}))
    label = ", ".join(choice)
    return [
        _row(name, donor, label, m, used, predicted[i] / truth - 1)
        for i, (donor, m, used) in enumerate(sets)
    ]


def _typical_rows(rows: Rows, values: Mapping[str, np.ndarray]) -> Rows:
    """The rows with held parameters at a typical value, for the starts."""
    n = rows.loss.shape[0]
    columns = [jnp.full(n, float(np.median(v)), rows.loss.dtype) for v in values.values()]
    return Rows((*rows.inputs, *columns), rows.loss, rows.weight, rows.log_loss_ref)
