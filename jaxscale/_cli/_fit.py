"""jaxscale fit: from a table of runs to estimates, a verdict, tables and a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxscale._cli import _common as common
from jaxscale._cli._common import out as console
from jaxscale._errors import DataError, JaxscaleError

if TYPE_CHECKING:
    import pandas as pd

    from jaxscale._draws import Draws
    from jaxscale._fit import Fit

_OPTIONAL = (
    "frontier.csv",
    "draws.json",
    "intervals.csv",
    "intervals.png",
)  # what an earlier fit may have left in the folder


def fit(
    runs: common.RunsFile = None,
    law: common.LawName = "chinchilla",
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
    bootstrap: Annotated[
        int, typer.Option(help="Resamples for intervals and bands; 0 for none, 4000 is usual.")
    ] = 0,
    by: common.By = None,
    full: Annotated[
        bool | None,
        typer.Option(
            "--full/--quick",
            help="Add every kind of interval and the posterior, side by side. Default: in full for "
            "the shipped runs, quick for a file.",
        ),
    ] = None,
    level: Annotated[float, typer.Option(help="Content of the intervals.")] = 0.95,
    seed: common.Seed = 0,
    out: Annotated[
        Path, typer.Option(help="Folder for fit.json, tables (CSV) and fit.png.")
    ] = Path("jaxscale-fit"),
) -> None:
    """Fit a law to a table of runs; print the estimates, a verdict and the optimal sizes.

    Example: jaxscale fit runs.csv --loss loss --N params --D tokens --bootstrap 4000
    """
    from jaxscale._draws import tails

    common.check_folder(out)
    tails(level)
    full = runs is None if full is None else full
    bootstrap = 4000 if full and not bootstrap else bootstrap
    if bootstrap:
        common.check_count("--bootstrap", bootstrap, 2)
    if by is not None and not bootstrap:
        raise DataError("--by: clusters are for the bootstrap; add --bootstrap 4000")
    fitted, clusters = common.fit_file(
        runs,
        law=law,
        columns=common.columns(inputs, N=N, D=D, x=x, loss=loss, weight=weight),
        duplicates=duplicates,
        drop_top=drop_top,
        delta=delta,
        restarts=restarts,
        seed=seed,
        by=by,
    )
    draws = _resampled(fitted, bootstrap, clusters, by, seed) if bootstrap else None
    frontier = _frontier(draws or fitted, level)
    _report(fitted, draws, frontier, level)
    more = {}
    if full:
        from jaxscale._cli import _full

        assert draws is not None
        found = _full.side_by_side(draws, clusters, level, seed)
        _full.report(found, draws, level)
        more = _full.pictures(found)
    _write(fitted, draws, frontier, level, out, more)


def _resampled(fitted: "Fit", n: int, clusters: Any, by: str | None, seed: int) -> "Draws":
    import dataclasses

    import jax

    from jaxscale._bootstrap import bootstrap

    draws = bootstrap(fitted, n=n, by=clusters, key=jax.random.key(seed + 1))
    if clusters == "cluster":  # the user knows these clusters by the name of a column
        return dataclasses.replace(draws, method=f"cluster pairs bootstrap by {by}")
    return draws


def _estimates(fitted: "Fit", draws: "Draws | None", level: float) -> "pd.DataFrame":
    table = fitted.frame()
    if draws is None:
        return table
    spread = draws.frame(level)
    for column in ("se", "low", "high"):
        table.insert(table.shape[1] - 1, column, spread[column])
    return table


def _report(
    fitted: "Fit", draws: "Draws | None", frontier: "pd.DataFrame | str | None", level: float
) -> None:
    console.print(f"{fitted.law.name}: {fitted.law.formula}", style="bold")
    assert fitted.runs is not None
    console.print(
        f"{fitted.n_runs} runs from {fitted.runs.source}, {fitted.objective}, objective "
        f"{fitted.value:.7g}, rmse of log loss {fitted.rmse:.4f}\n",
    )
    title = "Estimates"
    if draws is not None:
        title += f", with {level:.0%} intervals: {draws.method}, {len(draws):,} resamples"
    common.print_table(_estimates(fitted, draws, level), title)
    console.print(f"\n{fitted.restarts}.")
    console.print(f"Verdict: {fitted.verdict}\n", style="green" if fitted.verdict.ok else "yellow")
    if draws is not None and draws.notes:
        common.print_notes(draws.notes)
        console.print()
    if isinstance(frontier, str):
        console.print(frontier)
    elif frontier is not None:
        title = "Compute-optimal sizes under C = 6 N D, and the loss predicted there"
        common.print_sizes(frontier, title, level)
        last = float(fitted.ranges["N"][1]), float(fitted.ranges["D"][1])
        console.print(
            f"The runs reach N = {last[0]:.3g} and D = {last[1]:.3g}; larger ones are "
            "extrapolation.\n",
        )


def _frontier(source: "Fit | Draws", level: float) -> "pd.DataFrame | str | None":
    from jaxscale._allocate import allocate

    if source.runs is None or set(source.law.inputs) != {"N", "D"}:
        return None
    try:
        return allocate(source, flop=common.decades(source), level=level).frame()
    except JaxscaleError as error:
        return f"No compute-optimal table: {error}\n"


def _write(
    fitted: "Fit",
    draws: "Draws | None",
    frontier: "pd.DataFrame | str | None",
    level: float,
    folder: Path,
    more: dict[str, bytes],
) -> None:
    import io

    from jaxscale import plot
    from jaxscale._save import to_json

    assert fitted.runs is not None
    image = io.BytesIO()
    plot.summary(draws or fitted).savefig(image, format="png", dpi=150)
    runs = fitted.runs.frame()
    runs["predicted"] = fitted.predicted()
    runs["residual"] = fitted.residuals()
    tables = {
        "parameters": _estimates(fitted, draws, level),
        "restarts": fitted.restarts.frame(),
        "runs": runs,
    }
    if frontier is not None and not isinstance(frontier, str):
        tables["frontier"] = frontier
    contents = {"fit.json": to_json(fitted).encode(), "fit.png": image.getvalue()}
    contents |= {
        f"{name}.csv": table.to_csv(index=False).encode() for name, table in tables.items()
    }
    if draws is not None:
        contents["draws.json"] = to_json(draws).encode()
    contents |= more
    stale = set(_OPTIONAL) - set(contents) if (folder / "fit.json").exists() else ()
    common.write_files(folder, contents, stale)  # nothing is written before everything is made
