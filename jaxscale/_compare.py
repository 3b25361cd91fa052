"""compare(): which law describes the runs best, and which one predicts those it has not seen."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd

from jaxscale import folds as make_folds
from jaxscale._comparison import SUPPORTED, Comparison, Part, judged
from jaxscale._criteria import akaike_weights, criteria, incomparable
from jaxscale._draws import as_draws, tails
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._held_out import by_holdout
from jaxscale._left_out import COLD_STARTS, LeftOut, predict_left_out, refit_parts
from jaxscale._nested import all_ratios
from jaxscale._progress import progress
from jaxscale._refit import single_fit
from jaxscale._runs import Runs
from jaxscale._sizes import counted
from jaxscale.folds import Folds
from jaxscale.scores import stacking_weights, standard_error, verdict

FoldKind = Literal["single", "random", "clusters", "future"]
_KINDS = ("single", "random", "clusters", "future")
_MANY = 100  # points from which the standard error of a difference can be relied on


def compare(
    fits: Mapping[str, Any],
    *,
    holdout: Runs | None = None,
    folds: FoldKind | Folds | None = None,
    by: Any = None,
    nested: Mapping[str, str] | Literal["detect"] | None = "detect",
    key: jax.Array | None = None,
    share: float = 0.4,
    blocks: int = 4,
    level: float = 0.95,
    show_progress: bool | None = None,
) -> Comparison:
    """AICc, BIC, elpd of left-out runs and error on held-out runs of several laws, side by side.

    Ranked by the error on `holdout` if it is given, else by elpd if `folds` are, else by AICc. A
    law is "tied" with the best if its AICc is higher by less than 4; its elpd lower by less than
    two standard errors of the difference or by less than 4 (`scores.verdict`); or the mean square
    of its held-out log errors higher by less than two standard errors or a fifth. Else it is
    "worse".

    Likelihoods are those of the objective's noise model at its maximum-likelihood scale. Only fits
    of the same runs with the same objective compare by them; others compare by held-out runs alone,
    whose densities are of the loss itself. Held-out runs that a fit has seen are taken out, and the
    law is fitted to the others anew, in one batch with all others; so are folds. These refits
    predict with point estimates and with the noise of their own residuals.

    Args:
        fits: fits of one data set each, their draws, or posteriors, by name.
        holdout: runs to predict, such as `top` gives.
        folds: which runs to leave out and predict, for elpd and stacking weights: one of
            ``"single"``, ``"random"`` (10 parts), ``"clusters"``, ``"future"`` (the largest runs
            from smaller ones), or what a function of `folds` returns.
        by: what makes a cluster, or what orders the runs for ``"future"``.
        nested: which law is contained in which: ``"detect"`` finds out by numbers; a mapping from
            the smaller to the larger; None for no test.
        key: JAX random key: of ``"random"`` folds, and of random starts of the refits, which
            otherwise start at the optimum of the fit only.
        share, blocks: of ``"future"``, see `folds.future`.
        level: confidence at which likelihood-ratio tests are read.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Raises:
        DataError: for fits whose likelihoods do not compare, without `holdout`; folds of fits of
            different runs; folds that leave fewer runs than parameters.
        LawError: if `nested` names a pair of which neither contains the other.

    Source: Burnham & Anderson 2002 (AICc and its weights); Buerkner, Gabry & Vehtari 2020 (leave
    future out); Yao et al. 2018 (stacking); Sivula et al. 2020, arXiv 2008.10296 (ties).

    Example:
        >>> compare({"chinchilla": fit, "kaplan": other}, holdout=top(runs, share=0.2), key=key)
    """
    tails(level)
    points = _point_fits(fits)
    reason = incomparable(points)
    if reason and holdout is None and (folds is None or _differ_in_runs(points)):
        raise DataError(f"{reason}; or give holdout= to compare them by runs that none has seen")
    parts: list[Part] = []
    tests: tuple[Any, ...] = ()
    notes = [*_doubts(points)]
    if reason:
        notes.append(f"No AICc, BIC or test: {reason}.")
    else:
        parts.append(_by_criteria(points))
        tests = all_ratios(points, nested)
    folds = None if folds is None else _made_folds(points, folds, by, share, blocks, key)
    work = (0 if folds is None else len(folds)) + (holdout is not None)
    starts = 1 + (COLD_STARTS if key is not None else 0)
    with progress("refitting", max(work * starts * len(points), 1), show_progress) as tick:
        if folds is not None:
            parts.append(_by_folds(points, folds, key, tick))
        if holdout is not None:
            parts.append(by_holdout(points, holdout, key, tick))
    return _comparison(fits, parts, tests, notes, level)


def _point_fits(fits: Mapping[str, Any]) -> dict[str, Fit]:
    if not isinstance(fits, Mapping) or not fits:
        raise DataError("give the fits by name: compare({'a': one, 'b': other})")
    found = {}
    for name, source in fits.items():
        draws = as_draws(source)
        found[str(name)] = source if draws is None else draws.fit
        single_fit(found[str(name)])
    return found


def _doubts(fits: Mapping[str, Fit]) -> list[str]:
    return [f"{name}: {fit.verdict}" for name, fit in fits.items() if not fit.verdict.ok]


def _differ_in_runs(fits: Mapping[str, Fit]) -> bool:
    first, *others = (single_fit(fit) for fit in fits.values())
    return any(
        not np.array_equal(np.asarray(getattr(first, what)), np.asarray(getattr(other, what)))
        for other in others
        for what in ("loss", "weight")
    )


def _by_criteria(fits: Mapping[str, Fit]) -> Part:
    found = [criteria(fit) for fit in fits.values()]
    aicc, bic = (np.array([getattr(x, name) for x in found]) for name in ("aicc", "bic"))
    weights = akaike_weights(aicc) if np.isfinite(aicc).any() else np.full(len(aicc), np.nan)
    columns = {
        "parameters": np.array([x.parameters for x in found]),
        "log_likelihood": np.array([x.log_likelihood for x in found]),
        "AICc": aicc,
        "delta_AICc": aicc - aicc.min(),
        "BIC": bic,
        "delta_BIC": bic - bic.min(),
        "akaike_weight": weights,
    }
    notes = []
    if not np.isfinite(aicc).all():
        lost = ", ".join(n for n, x in zip(fits, aicc, strict=True) if not np.isfinite(x))
        notes.append(f"{lost}: too few runs for so many parameters; AICc is infinite.")
    runs = single_fit(next(iter(fits.values())))
    real = np.asarray(runs.weight)[counted(runs)]
    first = next(iter(fits.values()))
    if np.ptp(real) > 0 and not first.objective.outcomes:
        notes.append(
            "The runs have unequal weights, so that the likelihood is one of weighted runs: AICc, "
            "BIC and tests are approximate."
        )
    tied = aicc - aicc.min() < SUPPORTED
    return Part("AICc", columns, aicc, tied, weights, "Akaike weights", notes=tuple(notes))


def _made_folds(
    fits: Mapping[str, Fit],
    folds: FoldKind | Folds,
    by: Any,
    share: float,
    blocks: int,
    key: jax.Array | None,
) -> Folds:
    if _differ_in_runs(fits):
        raise DataError("folds= leaves out the same runs of every fit: fit all to one table")
    runs = single_fit(next(iter(fits.values())))
    if isinstance(folds, Folds):
        made = folds
        if made.held.shape[1] != len(runs):
            raise DataError(f"these folds are of {made.held.shape[1]} runs, not of {len(runs)}")
    elif folds not in _KINDS:
        raise DataError(f"folds must be one of {', '.join(_KINDS)}, or Folds, not {folds!r}")
    elif folds == "random":
        if key is None:
            raise DataError("random folds need a key: compare(..., folds='random', key=key)")
        made = make_folds.random(runs, min(10, int(counted(runs).sum())), key=key)
    elif folds == "future":
        made = make_folds.future(runs, by, share=share, blocks=blocks)
    else:
        made = make_folds.clusters(runs, by) if folds == "clusters" else make_folds.single(runs)
    for fit in fits.values():
        make_folds.refuse_starved(fit.law, made)
    return made


def _by_folds(
    fits: Mapping[str, Fit],
    folds: Folds,
    key: jax.Array | None,
    tick: Callable[[int], None],
) -> Part:
    fold, run = np.nonzero(folds.held)
    runs = single_fit(next(iter(fits.values())))
    weight = np.asarray(runs.weight, float)[run]
    value = np.stack(
        [_left_out(fit, folds.seen, key, tick).log_density[fold, run] for fit in fits.values()],
        axis=1,
    )
    weighted = weight[:, None] * value
    elpd = weighted.sum(axis=0)
    best = int(np.argmax(elpd))
    lower = weighted - weighted[:, [best]]
    difference, error = elpd - elpd[best], standard_error(lower, fold)
    weights = stacking_weights(value, weight)
    tied = [verdict(d, e) == "tied" for d, e in zip(difference, error, strict=True)]
    columns = {
        "elpd": elpd,
        "elpd_se": standard_error(weighted, fold),
        "difference": difference,
        "difference_se": error,
        "stacking_weight": weights,
    }
    labels = {"row": np.asarray(runs.row)[run], "fold": np.array(folds.names)[fold]}
    points = pd.DataFrame({**labels, "weight": weight, **dict(zip(fits, value.T, strict=True))})
    notes: tuple[str, ...] = ()
    if len(fits) > 1 and len(np.unique(fold)) < _MANY:
        notes = (
            f"elpd rests on {len(value)} runs in {len(folds)} folds, whose runs share the error of "
            "one refit: standard errors of differences are rough.",
        )
    return Part("elpd", columns, -elpd, np.array(tied), weights, "stacking weights", points, notes)


def _left_out(
    fit: Fit, seen: np.ndarray, key: jax.Array | None, tick: Callable[[int], None]
) -> LeftOut:
    return predict_left_out(fit, seen, refit_parts(fit, seen, key=key, tick=tick))


def _comparison(
    sources: Mapping[str, Any],
    parts: list[Part],
    tests: tuple[Any, ...],
    notes: list[str],
    level: float,
) -> Comparison:
    by_kind = {part.kind: part for part in parts}
    ranking = parts[-1]  # held-out runs come last, before them folds
    weighing = by_kind.get("elpd") or by_kind.get("AICc") or by_kind["holdout"]
    columns = {name: x for part in parts for name, x in part.columns.items()}
    table = pd.DataFrame({"law": list(sources), **columns})
    table["verdict"] = judged(ranking.rank, ranking.tied)
    order = np.argsort(ranking.rank, kind="stable")
    weights = dict(zip(sources, map(float, weighing.weights), strict=True))
    return Comparison(
        sources=dict(sources),
        table=table.iloc[order].reset_index(drop=True),
        ranked_by=ranking.kind,
        weights=weights,
        weighting=weighing.weighting,
        tests=tests,
        pointwise=by_kind["elpd"].points if "elpd" in by_kind else None,
        held=by_kind["holdout"].points if "holdout" in by_kind else None,
        level=level,
        notes=(*notes, *(text for part in parts for text in part.notes)),
    )
