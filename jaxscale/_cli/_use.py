"""jaxscale laws and predict: what there is to fit, and what a saved fit predicts."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from jaxscale._cli._common import (
    numbers,
    out,
    pairs,
    print_notes,
    print_table,
)
from jaxscale._cli._describe import description

if TYPE_CHECKING:
    from jaxscale._law import Law

SavedFit = Annotated[
    Path,
    typer.Argument(metavar="FIT.json", help="A saved fit, or the draws.json of a bootstrap."),
]
Level = Annotated[
    float, typer.Option("--level", help="Content of the bands, if the file holds draws.")
]


def laws(
    name: Annotated[
        str | None, typer.Argument(help="A law, to read all about it. Default: list them all.")
    ] = None,
) -> None:
    """List the laws that can be fitted, by family; or show one with its published numbers."""
    from jaxscale import laws as catalogue

    if name is not None:
        _show_law(catalogue.get(name))
        return
    members = [catalogue.get(name) for name in catalogue.names()]
    for family, group in itertools.groupby(members, key=lambda law: law.family):
        tree = Tree(Text(family, style="bold"), guide_style="dim")
        for law in group:
            leaf = tree.add(Text(law.name, style="bold"))
            leaf.add(Text(law.formula))
            leaf.add(_about(law))
        out.print(tree)
    tree = Tree(Text("made to order", style="bold"), guide_style="dim")
    for call, formula in catalogue.made_to_order().items():
        tree.add(Text(call, style="bold")).add(Text(formula))
    out.print(tree)
    out.print("\n'jaxscale laws NAME' shows one law with its published parameters.")


def _about(law: "Law") -> Table:
    """Inputs and what they count, what is predicted, parameters, source and evidence."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for i, name in enumerate(law.inputs):
        grid.add_row("" if i else "inputs", Text(f"{name}: {law.about(name).counts}"))
    if law.predicts != "loss":
        grid.add_row("predicts", Text(law.predicts))
    grid.add_row("parameters", Text(", ".join(law.names)))
    grid.add_row("source", Text(law.source))
    grid.add_row("evidence", Text(law.evidence))
    return grid


def _show_law(law: "Law") -> None:
    from jaxscale import published

    out.print(f"{law.name} ({law.family}; predicts the {law.predicts})\n")
    out.print(description(law.fn, out.width) or law.formula)
    out.print()
    for name in law.inputs:
        about = law.about(name)
        out.print(f"  input {name}: {about.counts or 'any unit'}; must {about.must}")
    for name, param in law.params:
        unit = f", unit {param.unit.replace('**', '^')}" if param.unit else ""
        out.print(f"  parameter {name}: {param.support}{unit}")
    for name, _ in law.derived:
        out.print(f"  derived {name}")
    out.print(f"\nSource: {law.source}\nEvidence: {law.evidence}")
    found = published.table()
    found = found[found["law"] == law.name]
    if len(found):
        out.print("\nPublished parameters", style="bold")
        for row in found.itertuples():
            out.print(f"  {row.name}")
            out.print(Padding(Text(str(row.parameters), style="dim"), (0, 0, 0, 4)))


def predict(
    fit_file: SavedFit,
    N: Annotated[str | None, typer.Option("--N", help="Parameters: 70e9, 70B or 1B,7B")] = None,
    D: Annotated[str | None, typer.Option("--D", help="Tokens: 1.4e12 or 1.4T")] = None,
    x: Annotated[str | None, typer.Option("--x", help="Input of a law in one input.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=VALUES", help="Any other input of the law."),
    ] = None,
    level: Level = 0.9,
) -> None:
    """Predict the loss of runs from a saved fit; several values make a table of all pairs.

    From draws.json, with bands: law_low to law_high holds the law, run_low to run_high a new run.
    """
    import numpy as np

    from jaxscale._draws import tails
    from jaxscale._predict import predict as run_predict
    from jaxscale._save import load

    tails(level)
    given = {"N": N, "D": D, "x": x}
    values = {k: numbers(text, f"--{k}") for k, text in given.items() if text is not None}
    values |= {k: numbers(text, f"--input {k}") for k, text in pairs(inputs).items()}
    axes = np.meshgrid(*values.values(), indexing="ij")
    at = dict(zip(values, axes, strict=True))
    prediction = run_predict(load(fit_file), level=level, **at)
    bands = "" if prediction.level is None else f" ({level:.0%} bands)"
    print_table(prediction.frame(), "Predicted loss" + bands)
    print_notes(prediction.notes)
