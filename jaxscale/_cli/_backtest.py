"""jaxscale backtest: the larger runs, predicted from the smaller ones again and again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxscale._cli import _common as common
from jaxscale._cli._common import out as console
from jaxscale._errors import DataError

if TYPE_CHECKING:
    from jaxscale._backtest_result import Backtest


def backtest(
    runs: common.RunsFile = None,
    law: Annotated[
        list[str] | None, typer.Option("--law", help="A law; may be given several times.")
    ] = None,
    loss: common.LossColumn = None,
    N: common.NColumn = None,
    D: common.DColumn = None,
    x: common.XColumn = None,
    inputs: common.InputColumns = None,
    weight: common.WeightColumn = None,
    drop_top: common.DropTop = 0,
    duplicates: common.Duplicates = "error",
    delta: common.Delta = 1e-3,
    restarts: common.RestartCount = 512,
    along: Annotated[
        str | None,
        typer.Option(help="What makes a run large: flop (6 N D) or an input. Default: flop."),
    ] = None,
    by: common.By = None,
    method: Annotated[
        str,
        typer.Option(
            help="Methods of the bands: pairs, hessian, HC1, HC3, cluster, 'cluster pairs'; commas "
            "between, or none."
        ),
    ] = "pairs,hessian",
    level: Annotated[float, typer.Option(help="Content of the bands.")] = 0.9,
    resamples: Annotated[int, typer.Option(help="Resamples of each bootstrap.")] = 200,
    seed: common.Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for predictions.csv, coverage.csv, backtest.png.")
    ] = None,
) -> None:
    """Leave the largest runs out, predict them, and see how errors and bands do with distance.

    Example: jaxscale backtest runs.csv --law chinchilla --law kaplan_nd --N params --D tokens
    """
    from jaxscale._draws import tails

    tails(level)
    names = list(dict.fromkeys(law or ["chinchilla"]))
    methods = [] if method.strip() == "none" else [m.strip() for m in method.split(",")]
    _check_methods(methods, by)
    if out is not None:
        common.check_folder(out)
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

    from jaxscale._backtest import backtest as run_backtest

    found = run_backtest(
        fits,
        key=jax.random.key(seed + 1),
        by=along,
        methods=methods,
        level=level,
        clusters=clusters,
        resamples=resamples,
    )
    _print(found)
    if out is not None:
        _write(found, out)


def _check_methods(methods: list[str], by: str | None) -> None:
    """What cannot be is said before the fit, not after."""
    from jaxscale._rolling import CLUSTERED, METHODS

    for method in methods:
        if method not in METHODS:
            raise DataError(f"--method: there is no {method!r}; there are {', '.join(METHODS)}")
        if method in CLUSTERED and by is None:
            raise DataError(f"--method {method!r} needs --by, such as --by N")


def _print(found: "Backtest") -> None:
    common.print_table(found.errors(), found.head, digits=3)
    covered = found.coverage()
    if len(covered):
        console.print()
        columns = ["law", "method", "from", "to", "count", "coverage", "width"]
        title = f"Runs inside the {found.level:.0%} bands, by log10 distance"
        common.print_table(covered[columns], title, digits=3)
    console.print()
    for sentence in found.sentences:
        console.print(sentence)


def _write(found: "Backtest", folder: Path) -> None:
    import io

    from matplotlib.figure import Figure

    from jaxscale import plot

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    plot.backtest(found, ax=figure.subplots())
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    contents: dict[str, Any] = {
        "predictions.csv": found.predictions.to_csv(index=False).encode(),
        "coverage.csv": found.coverage().to_csv(index=False).encode(),
        "backtest.png": image.getvalue(),
    }
    common.write_files(folder, contents)
