"""jaxscale compare: several laws fitted to one table, side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxscale._cli import _common as common
from jaxscale._cli._common import out as console
from jaxscale._errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from jaxscale._comparison import Comparison

Laws = Annotated[
    list[str] | None,
    typer.Option(
        "--law", help="A law; give two or more. Default: chinchilla, coupled_power and kaplan_nd."
    ),
]
_DEFAULT = ("chinchilla", "coupled_power", "kaplan_nd")
_FOLDS = ("single", "random", "clusters", "future")


def compare(
    runs: common.RunsFile = None,
    law: Laws = None,
    loss: common.LossColumn = None,
    N: common.NColumn = None,
    D: common.DColumn = None,
    x: common.XColumn = None,
    inputs: common.InputColumns = None,
    weight: common.WeightColumn = None,
    drop_top: common.DropTop = 0,
    duplicates: common.Duplicates = "error",
    delta: common.Delta = 1e-3,
    restarts: common.RestartCount = 1024,
    by: common.By = None,
    holdout: Annotated[
        float | None,
        typer.Option(help="Share of the largest runs to hold out and predict, such as 0.2."),
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            help="Runs to leave out and predict: single, random, clusters (with --by) or future."
        ),
    ] = None,
    seed: common.Seed = 0,
    out: Annotated[Path | None, typer.Option(help="CSV file for the table.")] = None,
) -> None:
    """Fit several laws and rank them: AICc, BIC, likelihood ratios, left-out and held-out runs.

    Example: jaxscale compare runs.csv --law chinchilla --law kaplan_nd --holdout 0.2
    """
    names = list(dict.fromkeys(law or _DEFAULT))
    if len(names) < 2:
        raise DataError("compare needs two laws or more: --law chinchilla --law kaplan_nd")
    if folds is not None and folds not in _FOLDS:
        raise DataError(f"--folds must be one of {', '.join(_FOLDS)}, not {folds!r}")
    if holdout is not None and not 0 < holdout < 1:
        raise DataError(f"--holdout is a share between 0 and 1, got {holdout}")
    fits, clusters = {}, None
    for name in names:
        fits[name], clusters = common.fit_file(
            runs,
            law=name,
            columns=common.columns(inputs, N=N, D=D, x=x, loss=loss, weight=weight),
            duplicates=duplicates,
            drop_top=drop_top,
            delta=delta,
            restarts=restarts,
            seed=seed,
            by=by,
        )
    import jax

    from jaxscale._compare import compare as run_compare
    from jaxscale._refit import single_fit
    from jaxscale._split import top

    table = single_fit(fits[names[0]])
    found = run_compare(
        fits,
        holdout=None if holdout is None else top(table, share=holdout),
        folds=folds,  # type: ignore[arg-type]
        by=clusters if folds == "clusters" else None,
        key=jax.random.key(seed + 1),
    )
    _print(found)
    if out is not None:
        from jaxscale._save import write_text

        write_text(out, found.frame().to_csv(index=False))
        console.print(f"Wrote {out}")


def _print(found: "Comparison") -> None:
    table = found.frame()
    common.print_table(_of_fits(table), found.head, digits=4)
    if "elpd" in table:
        console.print()
        columns = ["law", "elpd", "elpd_se", "difference", "difference_se", "stacking_weight"]
        left = table[columns].rename(
            columns={"difference_se": "its_se", "stacking_weight": "weight"}
        )
        common.print_table(left, "Runs left out, log density in nats", digits=4)
    if "holdout_rms" in table:
        console.print()
        columns = ["law", "holdout_rms", "holdout_bias", "holdout_score"]
        names = {"holdout_rms": "rms", "holdout_bias": "bias", "holdout_score": "log_score"}
        far = table[columns].rename(columns=names)
        common.print_table(far, "Largest runs held out, errors of log loss", digits=4)
    console.print()
    for sentence in found.sentences:
        console.print(sentence)


def _of_fits(table: "pd.DataFrame") -> "pd.DataFrame":
    names: dict[str, Any] = {
        "law": "law",
        "parameters": "k",
        "log_likelihood": "log_lik",
        "delta_AICc": "dAICc",
        "delta_BIC": "dBIC",
        "akaike_weight": "weight",
        "verdict": "verdict",
    }
    kept = [name for name in names if name in table]
    return table[kept].rename(columns=names)
