"""are_grid(): how many small models, and how much of their training, predict a large one?"""

import dataclasses
import html
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxscale._errors import DataError
from jaxscale._fit import fit as fit_law
from jaxscale._law import Law
from jaxscale._left_out import predict_at, refit_parts
from jaxscale._objective import Objective
from jaxscale._progress import progress
from jaxscale._runs import Runs
from jaxscale._trajectories import determined, trajectories

_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclasses.dataclass(frozen=True)
class AREGrid:
    """Absolute relative error over a grid of what was used; see `are_grid`.

    Attributes:
        table: one row per cell: models (used), size (of the largest of them), scale_up (size of the
            model predicted over that), share (of training used), runs, are, bias (mean of
            (predicted - observed) / observed), and baseline: the error of saying that the loss
            stays the lowest one seen. NaN where the runs cannot determine the law.
        law: name of the law.
        target: size of the model that is predicted, and how many of its runs.
    """

    table: pd.DataFrame
    law: str
    target: tuple[float, int]

    def frame(self) -> pd.DataFrame:
        """One row per cell."""
        return self.table

    def pivot(self, column: str = "are") -> pd.DataFrame:
        """The grid: sizes down, shares across."""
        return self.table.set_index(["models", "size", "share"])[column].unstack("share")

    @property
    def sentences(self) -> tuple[str, ...]:
        """The best cell, and what it beats."""
        known = self.table.dropna(subset=["are"])
        if not len(known):
            return ("No part of the runs determines the law.",)
        row = known.loc[known["are"].idxmin()]
        return (
            f"Least error {row['are']:.2%}, from {int(row['models'])} models of up to "
            f"{row['size']:.3g} and {row['share']:.0%} of their training; the lowest loss seen is "
            f"off by {row['baseline']:.2%}.",
        )

    def __repr__(self) -> str:
        size, runs = self.target
        head = (
            f"{self.law}: absolute relative error on {runs} runs of the model of size {size:.4g}, "
            "by models used (down) and share of their training (across)"
        )
        grid = self.pivot().to_string(float_format=lambda x: f"{x:.2%}")
        return "\n".join([head, grid, *self.sentences])

    def _repr_html_(self) -> str:
        grid = self.pivot().to_html(float_format=lambda x: f"{x:.2%}")
        return f"<b>{html.escape(self.law)}</b>: absolute relative error{grid}"


def are_grid(
    law: Law,
    runs: Runs,
    *,
    key: jax.Array,
    size: str = "N",
    along: str = "D",
    models: Any = None,
    shares: Any = _SHARES,
    target_share: float = 0.3,
    least: float = 0.0,
    objective: Objective | None = None,
    restarts: int = 256,
    show_progress: bool | None = None,
) -> AREGrid:
    """ARE = mean |predicted - observed| / observed of the last runs of the largest model.

    The law is fitted to the runs of the smallest models, up to a share of their training: one fit
    for every number of models and every share, all in one batch. The largest model itself is never
    fitted.

    Args:
        law: the law.
        runs: checkpoints of several models. Runs of one cluster, if they carry clusters, or else
            of one size (to 1%), are one model.
        key: JAX random key.
        size: the input that makes a model large.
        along: the input that grows with training.
        models: numbers of models to use; default 1, 2, ... up to all but the largest.
        shares: of their training to use, in (0, 1].
        target_share: of the training of the largest model, counted from its end, to predict.
        least: smallest `along` to use or predict, to leave out early training.
        objective: what to minimize; default ``LogHuber(1e-3)``.
        restarts: random starts of the fit to all runs; every other one has 16, and its optimum.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Raises:
        DataError: for fewer than two models, or numbers and shares that cannot be.
        IdentificationError: if all smaller models together cannot determine the law.

    Source: Choshen, Zhang & Andreas 2024, arXiv 2410.11840.

    Example:
        >>> are_grid(laws.chinchilla, checkpoints, least=1e10, key=key).pivot()
    """
    paths = trajectories(runs, size=size, along=along, target_share=target_share, least=least)
    most = len(paths.size) - 1
    counts = np.arange(1, most + 1) if models is None else np.atleast_1d(np.asarray(models, int))
    parts = np.atleast_1d(np.asarray(shares, float))
    if not ((counts >= 1) & (counts <= most)).all():
        raise DataError(f"models= are numbers from 1 to {most}, all but the largest; got {models}")
    if not ((parts > 0) & (parts <= 1)).all():
        raise DataError(f"shares= lie above 0 and up to 1, got {shares}")
    fit_key, start_key = jax.random.split(key)
    everything = paths.seen(most, 1.0)
    train = dataclasses.replace(runs, weight=np.where(everything, np.asarray(runs.weight), 0.0))
    fit = fit_law(
        law,
        train,
        objective=objective,
        restarts=restarts,
        key=fit_key,
        show_progress=show_progress,
    )
    cells = [(int(m), float(f), paths.seen(int(m), float(f))) for m in counts for f in parts]
    able = [
        i for i, (_, _, seen) in enumerate(cells) if seen.any() and determined(law, runs.take(seen))
    ]
    loss = np.asarray(runs.loss, float)
    truth = loss[paths.target]
    predicted = np.full((len(cells), len(truth)), np.nan)
    if able:
        with progress("fitting the grid", 17 * len(able), show_progress) as tick:
            seen = np.stack([cells[i][2] for i in able])
            refits = refit_parts(fit, seen, key=start_key, tick=tick)
        predicted[able] = predict_at(fit, refits.theta, runs)[:, paths.target]
    rows = []
    for (m, f, used), guess in zip(cells, predicted, strict=True):
        off = guess / truth - 1
        lowest = loss[used].min() if used.any() else np.nan
        rows.append(
            {
                "models": m,
                "size": paths.size[m - 1],
                "scale_up": paths.size[-1] / paths.size[m - 1],
                "share": f,
                "runs": int(used.sum()),
                "are": float(np.abs(off).mean()),
                "bias": float(off.mean()),
                "baseline": float(np.abs(lowest / truth - 1).mean()),
            }
        )
    return AREGrid(pd.DataFrame(rows), law.name, (float(paths.size[-1]), len(truth)))
