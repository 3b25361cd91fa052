"""compare(): which model predicts runs best that it has not seen, and by how much."""

import dataclasses
import functools
from collections.abc import Mapping
from html import escape
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import pandas as pd

import jaxscale as js
from bayes._diagnose import MOST_KHAT, doubt
from bayes._folds import Sampling, predict_left_out
from bayes._likelihood import Counts
from bayes._posterior import Posterior
from bayes._scoring import Loo, psis_loo

Method = Literal["loo", "cluster", "future"]
_METHODS = ("loo", "cluster", "future")
_MOST_REFITS = 20
_MANY = 100  # points from which the standard error of a difference can be relied on


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Models ranked by how they predict what they have not seen.

    elpd is the sum over points of the log predictive density of the loss, in nats: of each run, or
    of all runs of a cluster together.

    Attributes:
        posteriors: what was compared, by name.
        method: ``"loo"``, ``"cluster"`` or ``"future"``.
        table: one row per model, best first: elpd, se, difference to the best and its standard
            error, weight, verdict, and what the method adds (p_loo, khat, refits, error: the
            Monte Carlo standard error of elpd).
        pointwise: one row per point: what it is, its weight in elpd, and the log density by model.
        weights: stacking weights by model, see `jaxscale.scores.stacking_weights`.
        notes: what to know before using the numbers.
    """

    posteriors: Mapping[str, Posterior]
    method: str
    table: pd.DataFrame
    pointwise: pd.DataFrame
    weights: Mapping[str, float]
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> str:
        """Name of the model of highest elpd."""
        return str(self.table["model"].iloc[0])

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the table says, and the notes."""
        unit = "clusters" if self.method == "cluster" else "runs"
        said = []
        for row in self.table.iloc[1:].itertuples():
            error = f"{row.difference_se:.1f} over {len(self.pointwise)} {unit}"
            numbers = f"elpd lower by {-row.difference:.1f} with a standard error of {error}"
            if row.verdict == "tied":
                said.append(f"{row.model} cannot be told from {self.best}: {numbers}.")
            else:
                said.append(f"{row.model} predicts worse than {self.best}: {numbers}.")
        return (*said, *self.notes)

    @functools.cached_property
    def draws(self) -> js.Draws:
        """The models averaged by their stacking weights, as `predict` and `allocate` take them.

        ``predict(comparison, ...)`` and ``allocate(comparison, ...)`` use it.

        Raises:
            LawError: for laws of different inputs.
        """
        return js.average(
            {name: each.draws for name, each in self.posteriors.items()}, self.weights
        )

    def frame(self) -> pd.DataFrame:
        """One row per model, best first."""
        return self.table

    def __repr__(self) -> str:
        table = self.table.to_string(index=False, float_format=lambda x: f"{x:.4g}")
        return "\n".join([_HEADS[self.method], table, *self.sentences])

    def _repr_html_(self) -> str:
        table = self.table.to_html(index=False, float_format=lambda x: f"{x:.4g}")
        said = "<br>".join(map(escape, self.sentences))
        return f"<b>{_HEADS[self.method]}</b>{table}<p>{said}</p>"


_HEADS = {
    "loo": "Leave one run out",
    "cluster": "Leave one cluster out",
    "future": "Leave the largest runs out",
}


class _Points(NamedTuple):
    """What every method finds: `labels` (points,) of what is left out, its `weight` in elpd, and
    the `block` whose runs share their error; `value` (points, models); columns of the table by
    name, each (models,)."""

    labels: dict[str, Any]
    weight: np.ndarray
    block: np.ndarray
    value: np.ndarray
    columns: dict[str, np.ndarray]


def compare(
    posteriors: Mapping[str, Posterior],
    *,
    method: Method = "loo",
    by: Any = None,
    key: jax.Array | None = None,
    share: float = 0.4,
    blocks: int = 4,
    chains: int = 2,
    warmup: int = 300,
    draws: int = 250,
    show_progress: bool | None = None,
) -> Comparison:
    """elpd = sum_i log p(y_i | runs without i), where i is a run, a cluster, or a larger run.

    Densities are of the loss itself, so that laws, objectives, raw and log residuals compare. A
    model is "tied" with the best if its elpd is lower by less than two standard errors of the
    difference, paired over points, or by less than 4: for so small a difference the normal
    approximation fails and the standard error is too small (Sivula et al. 2020); else "worse".

    Args:
        posteriors: posteriors of the same losses with the same weights, by name. The laws and what
            makes the runs scatter may differ.
        method: ``"loo"`` leaves out one run at a time, by importance sampling from the draws; runs
            whose Pareto k-hat is above 0.7 are left out by refits, if there are at most 20.
            ``"cluster"`` leaves out one cluster at a time, for runs that are alike; a model with
            effects predicts it with an effect that it has not seen. ``"future"`` predicts blocks
            of the largest runs from all smaller ones, run by run. The last two refit, in one batch.
        by: what makes a cluster, as `jaxscale.cluster_codes` takes it; for ``"future"`` what
            orders the runs: an input, ``"C"`` for 6 N D, or numbers, one per run.
        key: JAX random key of the refits; ``"loo"`` does without them if it is None.
        share: of the runs that ``"future"`` predicts.
        blocks: number of blocks that it predicts them in.
        chains, warmup, draws: of each refit; the warmup is twice as long for models with effects or
            errors of inputs.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Raises:
        DataError: for models of different losses or weights, folds that leave fewer runs than
            parameters, or refits without a key.

    Source: Vehtari, Gelman & Gabry 2017 (PSIS-LOO); Buerkner, Gabry & Vehtari 2020 (leave future
    out); Yao et al. 2018 (stacking); Sivula et al. 2020, arXiv 2008.10296 (ties).

    Example:
        >>> compare({"chinchilla": one, "kaplan": other}, method="cluster", by="N", key=key)
    """
    _refuse_incomparable(posteriors)
    if method not in _METHODS:
        raise js.DataError(f"method must be one of {', '.join(_METHODS)}, not {method!r}")
    sampling = Sampling(chains, warmup, draws)
    if method == "loo":
        points, notes = _by_loo(posteriors, sampling, key, show_progress)
    elif key is None:
        raise js.DataError(f"method {method!r} refits the models, which needs key=")
    else:
        runs = _runs(next(iter(posteriors.values())))
        folds = (
            js.folds.clusters(runs, by)
            if method == "cluster"
            else js.folds.future(runs, by, share=share, blocks=blocks)
        )
        points, notes = _by_refits(posteriors, folds, sampling, key, method, show_progress)
    return _comparison(posteriors, method, points, notes)


def _refuse_incomparable(posteriors: Mapping[str, Posterior]) -> None:
    if not isinstance(posteriors, Mapping) or not posteriors:
        raise js.DataError("give the posteriors by name: compare({'a': one, 'b': other})")
    for name, each in posteriors.items():
        if not isinstance(each, Posterior):
            raise js.DataError(f"{name} is no posterior but a {type(each).__name__}")
    names, tables = list(posteriors), [each.model.table for each in posteriors.values()]
    for name, table in zip(names[1:], tables[1:], strict=True):
        for what in ("loss", "weight"):
            one, other = np.asarray(getattr(tables[0], what)), np.asarray(getattr(table, what))
            if not np.array_equal(one, other):
                raise js.DataError(
                    f"{names[0]} and {name} are not about the same runs: the {what} of their "
                    f"{len(one)} and {len(other)} runs differs; fit both to one table of runs"
                )
        if isinstance(table.likelihood, Counts) != isinstance(tables[0].likelihood, Counts):
            raise js.DataError(
                f"{names[0]} and {name} do not compare: one gives probabilities of counts, the "
                "other densities of a loss"
            )


def _runs(posterior: Posterior) -> js.Runs:
    runs = posterior.fit.runs
    assert runs is not None  # a model has its runs
    return runs


def _by_loo(
    posteriors: Mapping[str, Posterior],
    sampling: Sampling,
    key: jax.Array | None,
    show_progress: bool | None,
) -> tuple[_Points, list[str]]:
    found = {name: psis_loo(each) for name, each in posteriors.items()}
    bad = {name: np.flatnonzero(each.khat > MOST_KHAT) for name, each in found.items()}
    notes = [_unreliable(name, found[name], rows, key) for name, rows in bad.items()]
    refits = {
        name: rows if key is not None and len(rows) <= _MOST_REFITS else rows[:0]
        for name, rows in bad.items()
    }
    work = sum(sampling.work(posteriors[name].model, len(rows)) for name, rows in refits.items())
    with js.progress("leaving runs out", max(work, 1), show_progress) as tick:
        for k, (name, rows) in enumerate(refits.items()):
            if not len(rows):
                continue
            assert key is not None
            model = posteriors[name].model
            scores = predict_left_out(
                model,
                js.folds.single(_runs(posteriors[name]), rows),
                sampling,
                jax.random.fold_in(key, k),
                jointly=False,
                tick=tick,
            )
            found[name].p_loo[rows] += found[name].elpd[rows] - scores.value
            found[name].elpd[rows] = scores.value
            notes += [f"{name}: {text}" for text in scores.notes]
    first = next(iter(posteriors.values()))
    weight = np.asarray(first.model.table.weight)
    real = weight > 0
    points = _Points(
        labels={"row": np.asarray(_runs(first).row)[real]},
        weight=weight[real],
        block=np.arange(real.sum()),
        value=np.stack([x.elpd[real] for x in found.values()], axis=1),
        columns={
            "p_loo": np.array([(weight * x.p_loo)[real].sum() for x in found.values()]),
            "khat": np.array([x.khat[real].max() for x in found.values()]),
            "refits": np.array([len(rows) for rows in refits.values()]),
        },
    )
    return points, [*filter(None, notes)]


def _unreliable(name: str, found: Loo, bad: np.ndarray, key: jax.Array | None) -> str:
    """What to say about runs that move the posterior too far to be weighted out."""
    few = len(bad) <= _MOST_REFITS
    if not len(bad) or (few and key is not None):
        return ""
    remedy = (
        "give key=, and they are left out by refits"
        if few
        else "use method='cluster', or a likelihood with heavier tails"
    )
    return (
        f"{name}: {len(bad)} runs move the posterior too far to be left out by importance sampling "
        f"(k-hat up to {np.nanmax(found.khat):.2f}), so that its elpd is likely too high: {remedy}."
    )


def _by_refits(
    posteriors: Mapping[str, Posterior],
    folds: js.folds.Folds,
    sampling: Sampling,
    key: jax.Array,
    method: str,
    show_progress: bool | None,
) -> tuple[_Points, list[str]]:
    jointly = method == "cluster"
    for each in posteriors.values():
        js.folds.refuse_starved(each.model.law, folds)
    notes, scores = [], []
    work = sum(sampling.work(each.model, len(folds)) for each in posteriors.values())
    with js.progress("refitting", work, show_progress) as tick:
        for k, (name, each) in enumerate(posteriors.items()):
            found = predict_left_out(
                each.model,
                folds,
                sampling,
                jax.random.fold_in(key, k),
                jointly=jointly,
                tick=tick,
            )
            scores.append(found)
            notes += [f"{name}: {text}" for text in found.notes]
    first = next(iter(posteriors.values()))
    fold, run = np.nonzero(folds.held)
    names = np.array(folds.names)
    weight = np.asarray(first.model.table.weight)
    if jointly:
        weight, fold = np.ones(len(folds)), np.arange(len(folds))
        labels = {"cluster": names, "runs": folds.held.sum(axis=1)}
    else:
        weight = weight[run]
        labels = {"row": np.asarray(_runs(first).row)[run], "block": names[fold]}
    error = [np.sqrt(((weight * each.error) ** 2).sum()) for each in scores]
    columns = {"error": np.array(error), "refits": np.full(len(scores), len(folds))}
    value = np.stack([each.value for each in scores], axis=1)
    return _Points(labels, weight, fold, value, columns), notes


def _comparison(
    posteriors: Mapping[str, Posterior], method: str, points: _Points, notes: list[str]
) -> Comparison:
    names = list(posteriors)
    weighted = points.weight[:, None] * points.value
    elpd = weighted.sum(axis=0)
    best = int(np.argmax(elpd))
    lower = weighted - weighted[:, [best]]
    weights = js.scores.stacking_weights(points.value, points.weight)
    table = pd.DataFrame(
        {
            "model": names,
            "elpd": elpd,
            "se": js.scores.standard_error(weighted, points.block),
            "difference": elpd - elpd[best],
            "difference_se": js.scores.standard_error(lower, points.block),
            **points.columns,
            "weight": weights,
        }
    )
    table["verdict"] = [
        "best" if i == best else js.scores.verdict(row.difference, row.difference_se)
        for i, row in enumerate(table.itertuples())
    ]
    failed = {name: doubt(each.verdict) for name, each in posteriors.items()}
    notes = [
        *(f"{name}: {text}" for name, text in failed.items() if text),
        *notes,
        *_few(points, method, len(names)),
    ]
    values = {name: points.value[:, k] for k, name in enumerate(names)}
    return Comparison(
        posteriors=dict(posteriors),
        method=method,
        table=table.sort_values("elpd", ascending=False, kind="stable").reset_index(drop=True),
        pointwise=pd.DataFrame({**points.labels, "weight": points.weight, **values}),
        weights=dict(zip(names, map(float, weights), strict=True)),
        notes=tuple(notes),
    )


def _few(points: _Points, method: str, models: int) -> list[str]:
    """Why standard errors of differences may be too small."""
    if models < 2:
        return []
    n = len(points.value)
    if method == "future":
        return [
            "Runs of one block share the error of extrapolating to it: the standard errors are the "
            f"larger of those over {n} runs and over {len(np.unique(points.block))} blocks, and "
            "still rough."
        ]
    if n >= _MANY:
        return []
    unit = "clusters" if method == "cluster" else "runs"
    return [f"With fewer than {_MANY} {unit}, standard errors of differences tend to be too small."]
