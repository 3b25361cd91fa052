"""backtest(): fitted to the smaller runs, how well would the law have predicted the larger ones?"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from jaxscale._backtest_result import Backtest
from jaxscale._draws import tails
from jaxscale._errors import DataError
from jaxscale._fit import Fit, fit as fit_law
from jaxscale._interval_method import IntervalMethod, method_key, split_methods
from jaxscale._law import Law
from jaxscale._mesh import use_mesh
from jaxscale._objective import Objective
from jaxscale._progress import progress
from jaxscale._refit import single_fit
from jaxscale._rolling import CLUSTERED, METHODS, Asked, Rolled, roll
from jaxscale._runs import Runs
from jaxscale._sizes import RUNS_PER_PARAMETER, kept_below, sizes


def backtest(
    laws: Any,
    runs: Runs | None = None,
    *,
    key: jax.Array,
    by: str | None = None,
    cuts: Any = None,
    methods: Iterable[str | IntervalMethod] = ("pairs", "hessian"),
    level: float = 0.9,
    objective: Objective | None = None,
    clusters: Any = None,
    resamples: int = 200,
    restarts: int = 512,
    mesh: Mesh | None = None,
    show_progress: bool | None = None,
) -> Backtest:
    """r = log predicted - log observed of runs above a cut, by the fit to the runs below it.

    For each cut the largest runs are left out, the law is fitted to the others, and predicts them.
    All refits of a law run in one batch: runs above a cut get weight zero, so that one compiled
    program serves every cut. Each starts at the optimum of all runs and at 16 random points. Every
    interval method forms the band of a new run for each run above the cut, as `predict` does.

    Args:
        laws: a law or a fit, or several by name. Fits bring their objective and, unless `runs` are
            given, their runs.
        runs: one table of runs.
        key: JAX random key.
        by: the scale along which runs are left out: ``"flop"`` for 6 N D, or an input; default
            ``"flop"`` for laws in N and D, else the first input.
        cuts: largest values kept, in the unit of `by`; default up to 8 between the runs, even in
            rank. Each must leave three runs per parameter of every law.
        methods: of the bands: some of ``"pairs"``, ``"cluster pairs"`` (bootstraps),
            ``"hessian"``, ``"HC1"``, ``"HC3"``, ``"cluster"`` (Laplace), and methods of your own,
            such as ``bayes.posterior_method()``. None at all for errors alone.
        level: probability content of the bands.
        objective: of laws that come without a fit; default ``LogHuber(1e-3)``.
        clusters: what makes a cluster, for the methods that need one, see `cluster_codes`.
        resamples: of each bootstrap, and draws of every other method.
        restarts: random starts of the fits to all runs.
        mesh: devices to share the work, see `use_mesh`.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Raises:
        DataError: if no cut leaves enough runs below it and one above it, for laws without runs,
            or fits of different runs.
        IdentificationError: if the runs cannot determine a law.
        FitError: if a law has no finite optimum below some cut.

    Source: rolling-origin evaluation, Tashman 2000, doi 10.1016/S0169-2070(00)00065-0; leaving the
    largest out, Choshen, Zhang & Andreas 2024, arXiv 2410.11840.

    Example:
        >>> backtest({"chinchilla": laws.chinchilla, "kaplan": laws.kaplan_nd}, runs, key=key)
    """
    tails(level)
    chosen = list(methods)
    names, own = split_methods(chosen, METHODS) if chosen else ((), {})
    fit_key, roll_key = jax.random.split(key)
    with use_mesh(mesh):
        fits = _fits(laws, runs, objective, restarts, fit_key, show_progress)
        first = next(iter(fits.values()))
        table = single_fit(first)
        by = by or ("flop" if {"N", "D"} <= set(table.inputs) else first.law.inputs[0])
        size = sizes(table, by)
        least = RUNS_PER_PARAMETER * max(len(fit.law.params) for fit in fits.values())
        kept = kept_below(size, np.asarray(table.weight, float), least, cuts, by)
        if clusters is None and any(name in CLUSTERED for name in names) and table.cluster is None:
            raise DataError("cluster methods need clusters=, such as clusters='N'")
        asked = Asked(names, own, level, resamples, clusters, roll_key)
        with progress("backtesting", asked.work(len(kept)) * len(fits), show_progress) as tick:
            found = {
                name: roll(
                    name, fit, size, kept, asked._replace(key=method_key(roll_key, name)), tick
                )
                for name, fit in fits.items()
            }
    return Backtest(
        fits=fits,
        predictions=pd.concat([each.errors for each in found.values()], ignore_index=True),
        bands=pd.concat([each.bands for each in found.values()], ignore_index=True),
        methods=names,
        level=level,
        by=by,
        notes=_notes(fits, found, kept),
    )


def _fits(
    laws: Any,
    runs: Runs | None,
    objective: Objective | None,
    restarts: int,
    key: jax.Array,
    show_progress: bool | None,
) -> dict[str, Fit]:
    """The fits to all runs, by name."""
    if isinstance(laws, Fit):
        laws = {laws.law.name: laws}
    elif isinstance(laws, Law):
        laws = {laws.name: laws}
    if not isinstance(laws, Mapping) or not laws:
        raise DataError("give a law or a fit, or several by name: backtest({'a': ..., 'b': ...})")
    found: dict[str, Fit] = {}
    for name, each in laws.items():
        if isinstance(each, Law) and runs is None:
            raise DataError(f"{name} is a law without runs: backtest({name}, runs, key=key)")
        if isinstance(each, Fit) and runs is None:
            found[name] = each
        elif isinstance(each, Law | Fit):
            assert runs is not None
            law = each.law if isinstance(each, Fit) else each
            loss = each.objective if isinstance(each, Fit) else objective
            found[name] = fit_law(
                law, runs, objective=loss, restarts=restarts, key=key, show_progress=show_progress
            )
        else:
            raise DataError(f"{name} is neither a law nor a fit but a {type(each).__name__}")
    _refuse_other_runs(found)
    return found


def _refuse_other_runs(fits: Mapping[str, Fit]) -> None:
    (first, one), *others = fits.items()
    for name, other in others:
        mine, theirs = single_fit(one), single_fit(other)
        if not np.array_equal(np.asarray(mine.loss), np.asarray(theirs.loss)):
            raise DataError(f"{first} and {name} are fits of different runs; give runs= to both")


def _notes(
    fits: Mapping[str, Fit], found: Mapping[str, Rolled], kept: np.ndarray
) -> tuple[str, ...]:
    doubts = [f"{name}: {fit.verdict}" for name, fit in fits.items() if not fit.verdict.ok]
    own = [text for each in found.values() for text in each.notes]
    few = [
        f"The errors above one cut share those of one fit: {len(kept)} cuts count as little more "
        f"than {len(kept)} observations, and less, as their runs overlap."
    ]
    return (*doubts, *own, *few)
