"""jaxscale plan: which runs to train next."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxscale._cli import _common as common
from jaxscale._cli._common import out as console
from jaxscale._errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from jaxscale._draws import Draws
    from jaxscale._fit import Fit
    from jaxscale._plan import Plan
    from jaxscale._quantity import Quantity

_POINTS = 24
_SHOWN = {"flop": "flop", "times": "seeds", "cumulative": "total"}


def plan(
    fit_file: Annotated[
        Path,
        typer.Argument(
            metavar="FIT.json",
            help="A saved fit with the runs.csv beside it, or the draws.json of a bootstrap.",
        ),
    ],
    budget: Annotated[str, typer.Option(help="FLOPs for all runs together: 1e21")],
    target: Annotated[
        str,
        typer.Option(
            help="What to know better: loss@N=70B,D=1.4T or N*@5.76e23 or D*@1e24 or alpha."
        ),
    ],
    max_run_flop: Annotated[
        str | None, typer.Option(help="FLOPs of the largest run. Default: the budget.")
    ] = None,
    min_run_flop: Annotated[
        str | None,
        typer.Option(help="FLOPs of the smallest run. Default: any."),
    ] = None,
    N: Annotated[str | None, typer.Option("--N", help="Sizes to choose from: 10M:2B")] = None,
    D: Annotated[str | None, typer.Option("--D", help="Tokens to choose from: 1B:300B")] = None,
    candidates: Annotated[
        Path | None,
        typer.Option(help="CSV file of the runs to choose from, with their cost, instead."),
    ] = None,
    criterion: Annotated[
        str, typer.Option(help="c: variance of the target; information; D: all parameters.")
    ] = "c",
    method: Annotated[str, typer.Option(help="exchange, greedy or exact.")] = "exchange",
    noise: Annotated[
        str | None,
        typer.Option(
            help="Standard deviation of log loss of a run, and of what seeds share: 0.004,0.012. "
            "Default: as in the fit."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Most seeds of one run.")] = 3,
    most: Annotated[int, typer.Option(help="Most runs in all.")] = 32,
    level: Annotated[float, typer.Option(help="Content of the intervals.")] = 0.95,
    out: Annotated[Path | None, typer.Option(help="CSV file for the runs to train.")] = None,
    figure: Annotated[Path | None, typer.Option(help="PNG file for a picture.")] = None,
) -> None:
    """Choose the runs to train next, under a budget, to know a target better.

    Example: jaxscale plan my-fit/draws.json --budget 1e21 --target loss@N=70B,D=1.4T --out plan.csv
    """
    from jaxscale._plan import plan as run_plan
    from jaxscale._save import write_text

    total = _number(budget, "--budget")
    quantity = _target(target)
    source = _source(fit_file)
    found = run_plan(
        source,
        candidates=_table(source, candidates, N, D, min_run_flop, max_run_flop, total),
        budget=total,
        target=quantity,
        criterion=criterion,  # type: ignore[arg-type]  # it checks the name
        method=method,  # type: ignore[arg-type]
        noise=_noise(noise),
        seeds=seeds,
        most=most,
        level=level,
    )
    image = _picture(found) if figure is not None else b""
    if out is not None:
        write_text(out, found.frame().to_csv(index=False))
    if figure is not None:
        from jaxscale._save import write_bytes

        write_bytes(figure, image)
    _report(found)
    for path in (out, figure):
        if path is not None:
            console.print(f"Wrote {path}")


def _number(text: str, option: str) -> float:
    values = common.numbers(text, option)
    if len(values) != 1:
        raise DataError(f"{option} {text!r}: give one number")
    return values[0]


def _target(text: str) -> "str | Quantity":
    """``loss@N=70B,D=1.4T``, ``N*@5.76e23``, or the name of a parameter."""
    from jaxscale._quantity import loss_at, optimal_D, optimal_N

    what, at, where = text.partition("@")
    if not at:
        return text
    if what == "loss":
        given = common.pairs(where.split(","))
        return loss_at(**{name: _number(x, "--target") for name, x in given.items()})
    if what in ("N*", "D*"):
        return {"N*": optimal_N, "D*": optimal_D}[what](_number(where, "--target"))
    raise DataError(
        f"--target {text!r}: write loss@N=70B,D=1.4T or N*@5.76e23 or the name of a parameter"
    )


def _noise(text: str | None) -> Any:
    from jaxscale._design_noise import DesignNoise

    if text is None:
        return None
    values = common.numbers(text, "--noise")
    if len(values) > 2:
        raise DataError(f"--noise {text!r}: give one or two standard deviations")
    return DesignNoise(*values)


def _source(path: Path) -> "Fit | Draws":
    """The file, with the runs beside it: a fit without them does not know how sure it is."""
    import pandas as pd

    from jaxscale._draws import Draws
    from jaxscale._runs import Runs
    from jaxscale._save import load

    source = load(path)
    beside = path.parent / "runs.csv"
    if not beside.is_file():
        if isinstance(source, Draws):
            return source
        raise DataError(
            f"{path}: a plan needs the runs of the fit, but there is no runs.csv beside it; give "
            "draws.json instead"
        )
    # Read as text, so that every number is converted exactly: their hash is checked.
    table = pd.read_csv(beside, dtype=str)
    columns = {name: name for name in source.law.inputs}
    try:
        runs = Runs.from_frame(
            table, weight="weight", duplicates="keep", source=str(beside), **columns
        )
        return load(path, runs=runs)
    except DataError:
        if isinstance(source, Draws):
            return source
        raise


def _table(
    source: "Fit | Draws",
    path: Path | None,
    N: str | None,
    D: str | None,
    least: str | None,
    largest: str | None,
    budget: float,
) -> "pd.DataFrame":
    """The candidates of a file, or a grid around the runs so far."""
    import numpy as np

    from jaxscale._candidates import candidates
    from jaxscale._table import read_csv

    if path is not None:
        if any(x is not None for x in (N, D, least, largest)):
            raise DataError("--candidates names the runs; leave out --N, --D and --*-run-flop")
        return read_csv(path)
    if set(source.law.inputs) != {"N", "D"}:
        raise DataError(
            f"law {source.law.name!r} is in {', '.join(source.law.inputs)}; give --candidates"
        )
    ends = {name: np.asarray(source.ranges[name], float) for name in ("N", "D")}
    seen = 6 * ends["N"][1] * ends["D"][1]
    top = budget if largest is None else _number(largest, "--max-run-flop")
    low = 0.0 if least is None else _number(least, "--min-run-flop")
    # As much larger than the runs so far as the largest run may be.
    reach = max(1.0, float(np.sqrt(top / seen)))
    axes: dict[str, Any] = {}
    for name, text in (("N", N), ("D", D)):
        first, last = ends[name][0], ends[name][1] * reach
        if text is not None:
            parts = common.numbers(text.replace(":", ","), f"--{name}")
            if len(parts) != 2 or not 0 < parts[0] <= parts[1]:
                raise DataError(f"--{name} {text!r}: write a range such as 10M:2B")
            first, last = parts
        axes[name] = np.geomspace(first, last, _POINTS)
    return candidates(min_flop=low, max_flop=min(top, budget), **axes)


def _picture(found: "Plan") -> bytes:
    import io

    from matplotlib.figure import Figure

    from jaxscale import plot

    figure, image = Figure(figsize=(7, 5), layout="constrained"), io.BytesIO()
    plot.plan(found, ax=figure.subplots())
    figure.savefig(image, format="png", dpi=150)
    return image.getvalue()


def _report(found: "Plan") -> None:
    console.print("\n".join(found.sentences) + "\n")
    table = found.frame().rename(columns=_SHOWN).drop(columns="weight", errors="ignore")
    common.print_table(table, "Runs to train, the most telling per FLOP first", digits=4)
    console.print()
    spread = found.uncertainty.rename(columns=lambda name: name.replace("_", " "))
    for when in ("before", "after"):
        ends = zip(spread.pop(f"low {when}"), spread.pop(f"high {when}"), strict=True)
        spread[when] = [f"{low:.3g}:{high:.3g}" for low, high in ends]
    common.print_table(spread, f"Standard errors and {found.level:.0%} intervals", digits=4)
    console.print()
    common.print_notes(found.notes)
