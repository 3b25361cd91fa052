"""The command line: jaxscale fit, laws, predict, allocate."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jaxscale._errors import DataError, JaxscaleError

if TYPE_CHECKING:
    import pandas as pd

    from jaxscale._fit import Fit
    from jaxscale._law import Law
    from jaxscale._runs import Runs

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Fit neural scaling laws to tables of training runs, and use the fits.",
)
_out = Console(markup=False)

# Column names tried, in order, when none is given on the command line.
_ALIASES = {"N": ("N", "params"), "D": ("D", "tokens"), "x": ("x",), "loss": ("loss",)}
_SUFFIXES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def main() -> None:
    """Run the command; a request that cannot be answered ends in one sentence and exit code 2."""
    try:
        app()
    except JaxscaleError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'file'}: {error.strerror or error}")


def _fail(message: str) -> None:
    print(f"jaxscale: {message}", file=sys.stderr)
    raise SystemExit(2)


def _prepare_jax() -> None:
    """Double precision, and compiled programs kept between runs of the command."""
    import jax
    import pooch

    jax.config.update("jax_enable_x64", True)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(pooch.os_cache("jaxscale") / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _numbers(text: str, option: str) -> list[float]:
    """``70B,1.4e12`` as numbers; K, M, B and T stand for thousands to trillions."""
    values = []
    for part in text.split(","):
        word = part.strip()
        factor = _SUFFIXES.get(word[-1:].upper(), 1.0)
        try:
            values.append(float(word[:-1] if factor > 1 else word) * factor)
        except ValueError:
            raise DataError(
                f"{option} {text!r}: {part.strip()!r} is not a number; write 70e9 or 70B, and "
                "several with commas between"
            ) from None
    return values


def _print_table(frame: "pd.DataFrame", title: str) -> None:
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in frame.columns:
        numeric = frame[column].dtype.kind in "fi"
        table.add_column(str(column), justify="right" if numeric else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in row))
    _out.print(table)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from jaxscale import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def fit(
    runs: Annotated[
        Path | None,
        typer.Argument(
            help="CSV file, one training run per line. Default: the runs shipped with jaxscale."
        ),
    ] = None,
    law: Annotated[str, typer.Option(help="Name of the law; see 'jaxscale laws'.")] = "chinchilla",
    loss: Annotated[str | None, typer.Option(help="Column of the loss. Default: loss.")] = None,
    N: Annotated[
        str | None, typer.Option("--N", help="Column of the parameters. Default: N or params.")
    ] = None,
    D: Annotated[
        str | None, typer.Option("--D", help="Column of the tokens. Default: D or tokens.")
    ] = None,
    x: Annotated[
        str | None, typer.Option("--x", help="Column of the input of a law in one input.")
    ] = None,
    weight: Annotated[str | None, typer.Option(help="Column of weights, if any.")] = None,
    drop_top: Annotated[int, typer.Option(help="Leave out the K highest losses.")] = 0,
    duplicates: Annotated[
        str, typer.Option(help="What to do with repeated rows: error, keep or drop.")
    ] = "error",
    delta: Annotated[float, typer.Option(help="Huber delta on log loss.")] = 1e-3,
    restarts: Annotated[int, typer.Option(help="Number of random starts.")] = 1024,
    seed: Annotated[int, typer.Option(help="Seed of the random starts.")] = 0,
    out: Annotated[
        Path, typer.Option(help="Folder for fit.json, tables (CSV) and fit.png.")
    ] = Path("jaxscale-fit"),
) -> None:
    """Fit a law to a table of runs; print the estimates, a verdict and the optimal sizes.

    Example: jaxscale fit runs.csv --law chinchilla --loss loss --N params --D tokens
    """
    _prepare_jax()
    import jax

    from jaxscale import laws
    from jaxscale._fit import fit as run_fit
    from jaxscale._objective import LogHuber
    from jaxscale._runs import drop_top as without_top

    chosen = laws.get(law)
    objective = LogHuber(delta)
    columns = {"N": N, "D": D, "x": x, "loss": loss, "weight": weight}
    table = without_top(_read_runs(runs, chosen, columns, duplicates), drop_top)
    _check_folder(out)
    fitted = run_fit(
        chosen, table, objective=objective, restarts=restarts, key=jax.random.key(seed)
    )
    frontier = _frontier(fitted)
    _report(fitted, frontier)
    _write(fitted, frontier, out)


def _check_folder(out: Path) -> None:
    """Refuse a folder that cannot be written before the fit, not after."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: exists and is not a folder; choose another --out")
    existing = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not os.access(existing, os.W_OK):
        raise DataError(f"{out}: cannot be written; choose another --out")


def _read_runs(
    path: Path | None, law: "Law", columns: dict[str, str | None], duplicates: str
) -> "Runs":
    from jaxscale import datasets
    from jaxscale._runs import Runs, read_csv

    if path is None:
        frame, source = datasets.tiny_lm(), "the shipped runs"
    else:
        frame, source = read_csv(path), str(path)
    chosen = {name: _column(name, columns.get(name), frame) for name in (*law.inputs, "loss")}
    for name in ("N", "D", "x"):
        if columns[name] is not None and name not in law.inputs:
            raise DataError(
                f"--{name}: law {law.name!r} has no input {name}; it takes {', '.join(law.inputs)}"
            )
    return Runs.from_frame(
        frame,
        source=source,
        duplicates=duplicates,  # type: ignore[arg-type]
        weight=columns["weight"],
        **chosen,
    )


def _column(name: str, given: str | None, frame: "pd.DataFrame") -> str:
    if given is not None:
        return given
    aliases = _ALIASES.get(name, (name,))
    return next((alias for alias in aliases if alias in frame.columns), name)


def _report(fitted: "Fit", frontier: "pd.DataFrame | str | None") -> None:
    _out.print(f"{fitted.law.name}: {fitted.law.formula}", style="bold")
    assert fitted.runs is not None
    _out.print(
        f"{fitted.n_runs} runs from {fitted.runs.source}, {fitted.objective}, objective "
        f"{fitted.value:.7g}, rmse of log loss {fitted.rmse:.4f}\n",
    )
    _print_table(fitted.frame(), "Estimates")
    _out.print(f"\n{fitted.restarts}.")
    _out.print(f"Verdict: {fitted.verdict}\n", style="green" if fitted.verdict.ok else "yellow")
    if isinstance(frontier, str):
        _out.print(frontier)
    elif frontier is not None:
        _print_table(
            frontier, "Compute-optimal sizes under C = 6 N D, and the loss predicted there"
        )
        last = float(fitted.ranges["N"][1]), float(fitted.ranges["D"][1])
        _out.print(
            f"The runs reach N = {last[0]:.3g} and D = {last[1]:.3g}; larger ones are "
            "extrapolation.\n",
        )


def _frontier(fitted: "Fit") -> "pd.DataFrame | str | None":
    """Budgets from the middle of the runs to a thousand times the largest, a decade apart."""
    import numpy as np

    from jaxscale._allocate import allocate

    if fitted.runs is None or set(fitted.law.inputs) != {"N", "D"}:
        return None
    flop = 6 * fitted.runs.inputs["N"] * fitted.runs.inputs["D"]
    first, last = np.floor(np.log10(np.median(flop))), np.ceil(np.log10(flop.max())) + 2
    try:
        return allocate(fitted, flop=10.0 ** np.arange(first, last + 1)).frame()
    except JaxscaleError as error:
        return f"No compute-optimal table: {error}\n"


def _write(fitted: "Fit", frontier: "pd.DataFrame | str | None", out: Path) -> None:
    import io

    from jaxscale import plot
    from jaxscale._save import to_json, write_bytes

    assert fitted.runs is not None
    image = io.BytesIO()
    plot.summary(fitted).savefig(image, format="png", dpi=150)
    runs = fitted.runs.frame()
    runs["predicted"] = fitted.predicted()
    runs["residual"] = fitted.residuals()
    tables = {"parameters": fitted.frame(), "restarts": fitted.restarts.frame(), "runs": runs}
    if frontier is not None and not isinstance(frontier, str):
        tables["frontier"] = frontier
    contents = {"fit.json": to_json(fitted).encode(), "fit.png": image.getvalue()}
    contents |= {
        f"{name}.csv": table.to_csv(index=False).encode() for name, table in tables.items()
    }
    for name, content in contents.items():  # nothing is written before everything is made
        write_bytes(out / name, content)
    if "frontier.csv" not in contents:  # of an earlier fit in the same folder
        (out / "frontier.csv").unlink(missing_ok=True)
    _out.print(f"Wrote {out}: {', '.join(contents)}")


@app.command()
def laws() -> None:
    """List the laws that can be fitted."""
    from jaxscale import laws as catalogue

    _print_table(catalogue.table()[["name", "formula", "source"]], "Laws")


@app.command()
def predict(
    fit_file: Annotated[Path, typer.Argument(metavar="FIT.json", help="A saved fit.")],
    N: Annotated[str | None, typer.Option("--N", help="Parameters: 70e9, 70B or 1B,7B")] = None,
    D: Annotated[str | None, typer.Option("--D", help="Tokens: 1.4e12 or 1.4T")] = None,
    x: Annotated[str | None, typer.Option("--x", help="Input of a law in one input.")] = None,
) -> None:
    """Predict the loss of runs from a saved fit; several values make a table of all pairs."""
    _prepare_jax()
    import numpy as np

    from jaxscale._predict import predict as run_predict
    from jaxscale._save import load

    given = {"N": N, "D": D, "x": x}
    values = {k: _numbers(text, f"--{k}") for k, text in given.items() if text is not None}
    axes = np.meshgrid(*values.values(), indexing="ij")
    prediction = run_predict(load(fit_file), **dict(zip(values, axes, strict=True)))
    _print_table(prediction.frame(), "Predicted loss")
    _print_notes(prediction.notes)


@app.command()
def allocate(
    fit_file: Annotated[Path, typer.Argument(metavar="FIT.json", help="A saved fit.")],
    flop: Annotated[str, typer.Option(help="Budgets in FLOPs: 1e21,1e23")],
    out: Annotated[Path | None, typer.Option(help="CSV file for the table.")] = None,
) -> None:
    """Compute-optimal parameters and tokens at given budgets (C = 6 N D) from a saved fit."""
    _prepare_jax()
    from jaxscale._allocate import allocate as run_allocate
    from jaxscale._save import load, write_text

    budgets = _numbers(flop, "--flop")
    frontier = run_allocate(load(fit_file), flop=budgets)
    if out is not None:
        write_text(out, frontier.frame().to_csv(index=False))
    _print_table(frontier.frame(), "Compute-optimal sizes")
    _print_notes(frontier.notes)


def _print_notes(notes: tuple[Any, ...]) -> None:
    for note in notes:
        _out.print(f"Note: {note}")
