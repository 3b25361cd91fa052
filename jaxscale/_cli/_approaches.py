"""jaxscale approaches: the compute-optimal frontier in three ways, and whether they agree."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxscale._cli import _common as common
from jaxscale._cli._common import out as console
from jaxscale._errors import DataError, JaxscaleError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from jaxscale._agree import Agreement
    from jaxscale._approach import Approach
    from jaxscale._runs import Runs


def approaches(
    runs: common.RunsFile = None,
    law: common.LawName = "chinchilla",
    loss: common.LossColumn = None,
    N: common.NColumn = None,
    D: common.DColumn = None,
    weight: common.WeightColumn = None,
    drop_top: common.DropTop = 0,
    duplicates: common.Duplicates = "error",
    delta: common.Delta = 1e-3,
    restarts: common.RestartCount = 1024,
    budget: Annotated[
        str | None,
        typer.Option(help="Column of isoFLOP budgets. Default: runs of nearly equal 6 N D."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            help="Column that names the run of each row, if rows are checkpoints. The envelope "
            "uses them all, the other approaches the last of each run."
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(help="Curve through a budget's runs: parabola, cubic or akima.")
    ] = "parabola",
    best: Annotated[
        bool, typer.Option("--best", help="Use the lowest loss of each size at a budget only.")
    ] = False,
    flop: Annotated[
        str | None, typer.Option(help="Budgets for N*: 1e21,1e23. Default: some decades.")
    ] = None,
    level: Annotated[float, typer.Option(help="Content of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option(help="Resamples of every approach.")] = 2000,
    seed: common.Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for tables (CSV) and a picture.")] = None,
) -> None:
    """Envelope, isoFLOP minima and a fitted law: exponents, optimal sizes, and do they agree?

    Example: jaxscale approaches runs.csv --N params --D tokens --method akima
    """
    import jax

    from jaxscale import laws
    from jaxscale._agree import agree
    from jaxscale._draws import tails
    from jaxscale._runs import drop_top as without_top
    from jaxscale._valley import check_method

    tails(level)
    check_method(method)
    if out is not None:
        common.check_folder(out)
    budgets = common.numbers(flop, "--flop") if flop else None
    chosen = laws.get(law)
    if set(chosen.inputs) != {"N", "D"}:
        raise DataError(f"--law {law}: it is not one in N and D, so it has no optimal size")
    table = common.read_runs(
        runs, chosen, common.columns(None, N=N, D=D, loss=loss, weight=weight), duplicates
    )
    table = without_top(table, drop_top)
    labels = {name: _labels(runs, table, name) for name in (budget, run) if name is not None}
    last = _last(table, labels[run]) if run is not None else None
    ends = table if last is None else table.take(last)
    groups = None if budget is None else labels[budget]
    key = jax.random.key(seed)

    def joint() -> "Approach":
        from jaxscale._bootstrap import bootstrap
        from jaxscale._fit import fit
        from jaxscale._objective import LogHuber
        from jaxscale._surface import surface

        fitted = fit(chosen, ends, objective=LogHuber(delta), restarts=restarts, key=key)
        return surface(bootstrap(fitted, n=resamples, kind="residual", key=key))

    def minima() -> "Approach":
        from jaxscale._isoflop import isoflop

        which = groups if groups is None or last is None else groups[last]
        return isoflop(
            ends, budgets=which, method=method, best=best, n=resamples, key=key  # type: ignore[arg-type]
        )  # fmt: skip

    def lowest() -> "Approach":
        from jaxscale._envelope import envelope

        return envelope(table, run=None if run is None else labels[run], n=resamples, key=key)

    made = []
    for name, make in (("envelope", lowest), ("isoflop", minima), ("surface", joint)):
        try:
            made.append(make())
        except JaxscaleError as error:
            console.print(f"No {name}: {error}\n", style="yellow")
    if not made:
        raise DataError("none of the three approaches can be taken with these runs")
    at = _decades(made) if budgets is None else budgets
    agreement = agree(*made, flop=at, level=level) if len(made) > 1 else None
    _report(made, at, level, agreement)
    if out is not None:
        _write(made, at, level, agreement, out)


def _labels(path: Path | None, table: "Runs", column: str) -> "np.ndarray":
    """Values of a column of the file, for the rows that became runs."""
    import numpy as np

    frame = common.read_table(path)
    if column not in frame.columns:
        raise DataError(
            f"{table.source}: there is no column {column!r}; there are "
            f"{', '.join(map(str, frame.columns))}"
        )
    return np.asarray(frame[column].astype(str))[np.asarray(table.row) - 1]


def _last(table: "Runs", labels: "np.ndarray") -> "np.ndarray":
    """Position of the checkpoint with the most tokens of each run."""
    import numpy as np

    tokens = np.asarray(table.inputs["D"], float)
    order = np.lexsort((tokens, labels))
    ends = np.flatnonzero(np.append(labels[order][1:] != labels[order][:-1], True))
    return np.sort(order[ends])


def _decades(made: "list[Approach]") -> list[float]:
    """Powers of ten from the smallest budget of the runs to a hundred times the largest."""
    import numpy as np

    low = min(approach.ranges["flop"][0] for approach in made)
    high = max(approach.ranges["flop"][1] for approach in made)
    first, last = np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1
    return [float(x) for x in 10.0 ** np.arange(first, last + 1)]


def _exponents(made: "list[Approach]", level: float) -> "pd.DataFrame":
    import pandas as pd

    rows = []
    for approach in made:
        row: dict[str, Any] = {"approach": approach.name}
        for exponent in approach.exponents(level).to_dict("records"):
            name = exponent["exponent"]
            row |= {name: exponent["estimate"]}
            row |= {f"{name}_{end}": exponent[end] for end in ("low", "high") if end in exponent}
        row["budgets"] = int(approach.points["used"].sum())
        rows.append(row)
    return pd.DataFrame(rows)


def _sizes(made: "list[Approach]", flop: list[float], level: float) -> "pd.DataFrame":
    import pandas as pd

    parts = []
    for approach in made:
        frame = approach.frontier(flop, level).frame()
        frame.insert(0, "approach", approach.name)
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)


def _report(
    made: "list[Approach]", flop: list[float], level: float, agreement: "Agreement | None"
) -> None:
    import pandas as pd

    console.print("N* ~ C^a and D* ~ C^b under C = 6 N D\n", style="bold")
    for approach in made:
        console.print(f"{approach.name}: {approach.how}")
    console.print()
    common.print_table(_exponents(made, level), f"Exponents, {level:.0%} intervals", digits=4)
    console.print()
    sizes = _sizes(made, flop, level)
    columns: dict[str, Any] = {"flop": flop}
    for name, part in sizes.groupby("approach", sort=False):
        columns[str(name)] = [
            f"{x:.3g} ({low:.3g}:{high:.3g})"
            for x, low, high in zip(part["N"], part["N_low"], part["N_high"], strict=True)
        ]
    common.print_table(pd.DataFrame(columns), f"N*, {level:.0%} bands, low:high")
    console.print()
    if agreement is not None:
        for sentence in agreement.sentences:
            console.print(sentence[0].upper() + sentence[1:], style="bold")
    for approach in made:
        common.print_notes(tuple(f"{approach.name}: {note}" for note in approach.notes))


def _write(
    made: "list[Approach]",
    flop: list[float],
    level: float,
    agreement: "Agreement | None",
    folder: Path,
) -> None:
    import io

    import pandas as pd
    from matplotlib.figure import Figure

    from jaxscale import plot

    minima = next((approach for approach in made if approach.valleys), None)
    panels = 1 if minima is None else 2
    figure = Figure(figsize=(6.4 * panels, 4.8), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    if minima is not None:
        plot.isoflop_fits(minima, ax=axes[0])
    plot.agreement(agreement if agreement is not None else made, level=level, ax=axes[-1])
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    points = [approach.points.assign(approach=approach.name) for approach in made]
    tables = {
        "exponents": _exponents(made, level),
        "points": pd.concat(points, ignore_index=True),
        "frontier": _sizes(made, flop, level),
    }
    if agreement is not None:
        tables["agreement"] = agreement.frame()
    contents = {f"{name}.csv": table.to_csv(index=False).encode() for name, table in tables.items()}
    contents["approaches.png"] = image.getvalue()
    common.write_files(folder, contents, () if agreement is not None else ("agreement.csv",))
