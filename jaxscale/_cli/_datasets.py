"""jaxscale datasets: what tables there are, and one of them as a CSV file."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from rich.tree import Tree

from jaxscale._cli import _common as common
from jaxscale._cli._common import out as console
from jaxscale._cli._describe import description
from jaxscale._errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def datasets(
    name: Annotated[
        str | None, typer.Argument(help="A data set, to read all about it. Default: list them all.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="CSV file for its rows, which 'jaxscale fit' reads.")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="NAME=VALUE",
            help="How to clean it, as its description says; may be given several times.",
        ),
    ] = None,
) -> None:
    """List the tables of runs that ship or can be fetched; or write one to a CSV file.

    Example: jaxscale datasets chinchilla --option drop_top=5 --out chinchilla.csv
    """
    from jaxscale import datasets as catalogue

    if name is None:
        if out is not None or options:
            raise DataError(f"name a data set first: {', '.join(catalogue.names())}")
        _list(catalogue.table())
        return
    load = catalogue.get(name)
    given = _options(load, common.pairs(options, "--option"))
    if out is None:
        _show(name, load, catalogue.table())
        return
    common.check_file(out)
    _write(load(**given), out)


def _list(table: "pd.DataFrame") -> None:
    for row in table.itertuples():
        tree = Tree(Text(str(row.name), style="bold"), guide_style="dim")
        tree.add(Text(f"{row.rows:,} rows: {row.columns}"))
        tree.add(Text(f"{row.citation}; {row.source}"))
        tree.add(Text(f"{row.where}; license: {row.license}", style="dim"))
        console.print(tree)
    console.print("\n'jaxscale datasets NAME' shows one; with --out FILE.csv it writes its rows.")


def _show(name: str, load: Callable[..., Any], table: "pd.DataFrame") -> None:
    row = table.set_index("name").loc[name]
    text = description(load, console.width)
    console.print(text.replace("\nArgs:", "\nOptions, as --option NAME=VALUE:"))
    console.print(f"\nCite: {row['citation']}")
    console.print(f"License: {row['license']}")
    console.print(f"\n'jaxscale datasets {name} --out {name}.csv' writes its {row['rows']:,} rows.")


def _options(load: Callable[..., Any], given: dict[str, str]) -> dict[str, Any]:
    """Texts as what the loader takes: numbers where its default is one, several after commas."""
    known = inspect.signature(load).parameters
    for name in given.keys() - known.keys():
        raise DataError(f"--option {name}: this data set takes {', '.join(known) or 'no options'}")
    return {name: _value(name, text, known[name].default) for name, text in given.items()}


def _value(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise DataError(f"--option {name}={text}: write {name}=true or {name}=false")
        return text == "true"
    if isinstance(default, int):
        if not text.isdecimal():
            raise DataError(f"--option {name}={text}: {text!r} is not a whole number")
        return int(text)
    if isinstance(default, tuple) and text != "all":
        return [part.strip() for part in text.split(",")]
    return text


def _write(frame: "pd.DataFrame", path: Path) -> None:
    from jaxscale._save import write_text

    write_text(path, frame.to_csv(index=False))
    console.print(f"Wrote {path}: {len(frame):,} rows; columns {', '.join(frame.columns)}")
    for what in ("source", "citation", "license"):
        if what in frame.attrs:
            console.print(f"{what.capitalize()}: {frame.attrs[what]}")
