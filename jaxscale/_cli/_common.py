"""What the commands share: reading runs, printing tables, checking folders."""

import functools
import math
import os
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jaxscale._errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from jaxscale._draws import Draws
    from jaxscale._fit import Fit
    from jaxscale._law import Law
    from jaxscale._runs import Runs

out = Console(markup=False)

# The command samples in small steps: few runs leave curved posteriors, which larger ones miss.
ACCEPT = 0.99

# Column names tried, in order, when none is given on the command line.
_ALIASES = {"N": ("N", "params"), "D": ("D", "tokens"), "x": ("x",), "loss": ("loss",)}
_PAIRS = {
    "--input": "--input U=unique_tokens",
    "--option": "--option drop_top=5",
    "--say": "--say 'metric=nats per token'",
}
_SUFFIXES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}

RunsFile = Annotated[
    Path | None,
    typer.Argument(
        help="CSV file, one training run per line. Default: the runs shipped with jaxscale."
    ),
]
LawName = Annotated[str, typer.Option("--law", help="Name of the law; see 'jaxscale laws'.")]
LossColumn = Annotated[
    str | None, typer.Option("--loss", help="Column of the loss. Default: loss.")
]
NColumn = Annotated[
    str | None, typer.Option("--N", help="Column of the parameters. Default: N or params.")
]
DColumn = Annotated[
    str | None, typer.Option("--D", help="Column of the tokens. Default: D or tokens.")
]
XColumn = Annotated[
    str | None, typer.Option("--x", help="Column of the input of a law in one input.")
]
InputColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=COLUMN",
        help="Column of any other input of the law; may be given several times.",
    ),
]
WeightColumn = Annotated[str | None, typer.Option("--weight", help="Column of weights, if any.")]
DropTop = Annotated[int, typer.Option("--drop-top", help="Leave out the K highest losses.")]
Duplicates = Annotated[
    str, typer.Option("--duplicates", help="What to do with repeated rows: error, keep or drop.")
]
Delta = Annotated[float, typer.Option("--delta", help="Huber delta on log loss.")]
RestartCount = Annotated[int, typer.Option("--restarts", help="Number of random starts.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random, 0 or more.")]
By = Annotated[
    str | None,
    typer.Option(
        "--by",
        help="Column whose equal values make clusters of runs, resampled as wholes. N and D take "
        "runs within 1% as equal.",
    ),
]


def in_session(command: Callable[..., None]) -> Callable[..., None]:
    """The command, in double precision, on all devices, with compiled programs kept on disk."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        import jax
        import pooch

        from jaxscale._mesh import all_devices, use_mesh

        jax.config.update("jax_enable_x64", True)
        if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            jax.config.update("jax_compilation_cache_dir", str(pooch.os_cache("jaxscale") / "xla"))
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        _join_processes()
        try:
            with use_mesh(all_devices()):
                command(*arguments, **options)
        except KeyboardInterrupt:
            print("jaxscale: interrupted", file=sys.stderr)
            raise typer.Exit(130) from None

    return run


def _join_processes() -> None:
    """Share the work with other processes, if the environment names their coordinator.

    JAX finds the number of processes and the place of this one in the environment of SLURM, Open
    MPI or Kubernetes, or else in JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    """
    import jax

    if "JAX_COORDINATOR_ADDRESS" in os.environ and not jax.distributed.is_initialized():
        jax.distributed.initialize(
            num_processes=_count("JAX_NUM_PROCESSES"), process_id=_count("JAX_PROCESS_ID")
        )
        out.quiet = jax.process_index() > 0


def _count(variable: str) -> int | None:
    text = os.environ.get(variable)
    if text is None:
        return None
    if not text.isdecimal():
        raise DataError(f"the environment variable {variable} is {text!r}, which is no number")
    return int(text)


def pairs(texts: "list[str] | None", option: str = "--input") -> dict[str, str]:
    """``NAME=VALUE`` texts of an option by name."""
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name.strip() and equals and value.strip()):
            raise DataError(f"{option} {text!r}: write NAME=VALUE, such as {_PAIRS[option]}")
        if name.strip() in found:
            raise DataError(f"{option}: {name.strip()!r} is given twice")
        found[name.strip()] = value.strip()
    return found


def columns(inputs: "list[str] | None", **given: str | None) -> dict[str, str | None]:
    """Columns by name: those with options of their own, and those of ``--input``."""
    return {**given, **pairs(inputs)}


def numbers(text: str, option: str) -> list[float]:
    """``70B,1.4e12`` as numbers; K, M, B and T stand for thousands to trillions."""
    values = []
    for part in text.split(","):
        word = part.strip()
        factor = _SUFFIXES.get(word[-1:].upper(), 1.0)
        try:
            value = float(word[:-1] if factor > 1 else word) * factor
        except ValueError:
            value = math.nan
        values.append(value)
        if not math.isfinite(value):
            raise DataError(
                f"{option} {text!r}: {part.strip()!r} is not a number; write 70e9 or 70B, and "
                "several with commas between"
            )
    return values


def check_count(option: str, value: int, least: int = 1, most: int = 10**8) -> None:
    """Refuse a count that no computer gets done before the work, not after."""
    if not least <= value <= most:
        raise DataError(f"{option} {value}: give a whole number from {least} to {most:,}")


def print_table(frame: "pd.DataFrame", title: str, digits: int = 6) -> None:
    """A table with so many significant digits; integers below a million are written out."""
    out.print(title, style="italic")  # a title of the table itself would wrap at its width
    table = Table(header_style="bold", box=None, pad_edge=False)
    for column in frame.columns:
        numeric = frame[column].dtype.kind in "fi"
        table.add_column(str(column), justify="right" if numeric else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{x:.{digits}g}" if isinstance(x, float) else str(x) for x in row))
    out.print(table)


def brief(value: float) -> str:
    """Three digits, with k, M, B or T for thousands to trillions."""
    for suffix, factor in reversed(_SUFFIXES.items()):
        if factor <= value * (1 + 5e-4) < 1e15:
            return f"{value / factor:.3g}{'k' if suffix == 'K' else suffix}"
    return f"{value:.3g}"


def print_sizes(frame: "pd.DataFrame", title: str, level: float | None, key: str = "flop") -> None:
    """A frontier, and its bands in a second table that fits a terminal.

    Args:
        frame: sizes, and columns that end in ``_low`` and ``_high``.
        title: title of the first table.
        level: content of the bands.
        key: the column that says what a row is about.
    """
    import pandas as pd

    bands = [column.removesuffix("_low") for column in frame.columns if column.endswith("_low")]
    plain = frame[[c for c in frame.columns if not c.endswith(("_low", "_high"))]]
    print_table(plain, title)
    if not bands:
        return
    ends = {
        {"tokens_per_parameter": "D/N", "run": "loss of a run"}.get(name, name): [
            f"{brief(low)}:{brief(high)}"
            for low, high in zip(frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
        ]
        for name in bands
    }
    out.print()
    print_table(pd.DataFrame({key: frame[key], **ends}), f"{level:.0%} bands, low:high")


def decades(source: "Fit | Draws") -> "np.ndarray":
    """Budgets from the middle of the runs to a thousand times the largest, a decade apart."""
    import numpy as np

    assert source.runs is not None
    flop = 6 * source.runs.inputs["N"] * source.runs.inputs["D"]
    first, last = np.floor(np.log10(np.median(flop))), np.ceil(np.log10(flop.max())) + 2
    return np.asarray(10.0 ** np.arange(first, last + 1))


def print_notes(notes: tuple[Any, ...]) -> None:
    for note in notes:
        out.print(f"Note: {note}")


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written before the fit, not after."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: exists and is not a folder; choose another --out")
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise DataError(f"{folder}: cannot be written; choose another --out")


def check_file(path: Path) -> None:
    """Refuse a file that cannot be written before the work, not after."""
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file in it as --out")
    check_folder(path.parent)


def write_files(folder: Path, contents: Mapping[str, bytes], stale: Collection[str] = ()) -> None:
    """Write files whole or not at all and remove those of an earlier result.

    Of several processes, all with the same, the first does.
    """
    import jax

    from jaxscale._save import write_bytes

    if jax.process_index() == 0:
        for name, content in contents.items():
            write_bytes(folder / name, content)
        for name in stale:
            (folder / name).unlink(missing_ok=True)
    out.print(f"Wrote {folder}: {', '.join(contents)}")


def fit_file(
    path: Path | None,
    *,
    law: str,
    columns: dict[str, str | None],
    duplicates: str,
    drop_top: int,
    delta: float,
    restarts: int,
    seed: int,
    by: str | None = None,
) -> "tuple[Fit, Any]":
    """The fit of a file, and its clusters as `bootstrap` takes them."""
    import jax

    from jaxscale import laws
    from jaxscale._clusters import cluster_codes
    from jaxscale._fit import fit
    from jaxscale._objective import LogHuber
    from jaxscale._runs import drop_top as without_top

    check_count("--restarts", restarts)
    check_count("--seed", seed, 0, 2**31 - 2)
    chosen, objective = laws.get(law), LogHuber(delta)
    table, clusters = _read_runs(path, chosen, columns, duplicates, by)
    table = without_top(table, drop_top)
    if clusters is not None:
        cluster_codes(table, clusters)  # a bad --by is said before the fit, not after
    return (
        fit(chosen, table, objective=objective, restarts=restarts, key=jax.random.key(seed)),
        clusters,
    )


def read_table(path: Path | None) -> "pd.DataFrame":
    """The table of a file, or the one shipped."""
    from jaxscale import datasets
    from jaxscale._table import read_csv

    return datasets.load_tiny_lm() if path is None else read_csv(path)


def read_runs(
    path: Path | None, law: "Law", columns: dict[str, str | None], duplicates: str
) -> "Runs":
    """The runs of a file, or those shipped."""
    return _read_runs(path, law, columns, duplicates, None)[0]


def _read_runs(
    path: Path | None,
    law: "Law",
    columns: dict[str, str | None],
    duplicates: str,
    by: str | None,
) -> "tuple[Runs, str | None]":
    from jaxscale._runs import Runs

    frame, source = read_table(path), "the shipped runs" if path is None else str(path)
    chosen = {name: _column(name, columns.get(name), frame) for name in (*law.inputs, "loss")}
    for name in columns.keys() - {"loss", "weight", *law.inputs}:
        if columns[name] is not None:
            option = f"--{name}" if name in ("N", "D", "x") else f"--input {name}"
            raise DataError(
                f"{option}: law {law.name!r} has no input {name}; it takes {', '.join(law.inputs)}"
            )
    # An input, by its own name or its column's, is compared to 1%; any other column by equality.
    inputs = {column: name for name, column in chosen.items() if name != "loss"}
    derived = {"C", "flop"} & {by or ""} and {"N", "D"} <= set(law.inputs)
    near = by if by in law.inputs or (derived and by not in frame.columns) else inputs.get(by or "")
    runs = Runs.from_frame(
        frame,
        source=source,
        duplicates=duplicates,  # type: ignore[arg-type]
        weight=columns.get("weight"),
        cluster=by if near is None else None,
        **chosen,
    )
    return runs, "cluster" if by is not None and near is None else near


def _column(name: str, given: str | None, frame: "pd.DataFrame") -> str:
    if given is not None:
        return given
    aliases = _ALIASES.get(name, (name,))
    return next((alias for alias in aliases if alias in frame.columns), name)
