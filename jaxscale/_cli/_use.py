"""jaxscale laws, predict and allocate: what there is to fit, and what a saved fit says."""

from pathlib import Path
from typing import Annotated

import typer

from jaxscale._cli._common import (
    numbers,
    print_notes,
    print_sizes,
    print_table,
)

SavedFit = Annotated[
    Path,
    typer.Argument(metavar="FIT.json", help="A saved fit, or the draws.json of a bootstrap."),
]
Level = Annotated[
    float, typer.Option("--level", help="Content of the bands, if the file holds draws.")
]


def laws() -> None:
    """List the laws that can be fitted."""
    from jaxscale import laws as catalogue

    print_table(catalogue.table()[["name", "formula", "source"]], "Laws")


def predict(
    fit_file: SavedFit,
    N: Annotated[str | None, typer.Option("--N", help="Parameters: 70e9, 70B or 1B,7B")] = None,
    D: Annotated[str | None, typer.Option("--D", help="Tokens: 1.4e12 or 1.4T")] = None,
    x: Annotated[str | None, typer.Option("--x", help="Input of a law in one input.")] = None,
    level: Level = 0.9,
) -> None:
    """Predict the loss of runs from a saved fit; several values make a table of all pairs.

    From draws.json, with bands: law_low to law_high holds the law, run_low to run_high a new run.
    """
    import numpy as np

    from jaxscale._predict import predict as run_predict
    from jaxscale._save import load

    given = {"N": N, "D": D, "x": x}
    values = {k: numbers(text, f"--{k}") for k, text in given.items() if text is not None}
    axes = np.meshgrid(*values.values(), indexing="ij")
    inputs = dict(zip(values, axes, strict=True))
    prediction = run_predict(load(fit_file), level=level, **inputs)
    bands = "" if prediction.level is None else f" ({level:.0%} bands)"
    print_table(prediction.frame(), "Predicted loss" + bands)
    print_notes(prediction.notes)


def allocate(
    fit_file: SavedFit,
    flop: Annotated[str, typer.Option(help="Budgets in FLOPs: 1e21,1e23")],
    level: Level = 0.9,
    out: Annotated[Path | None, typer.Option(help="CSV file for the table.")] = None,
) -> None:
    """Compute-optimal parameters and tokens at given budgets (C = 6 N D) from a saved fit."""
    from jaxscale._allocate import allocate as run_allocate
    from jaxscale._save import load, write_text

    budgets = numbers(flop, "--flop")
    frontier = run_allocate(load(fit_file), flop=budgets, level=level)
    if out is not None:
        write_text(out, frontier.frame().to_csv(index=False))
    print_sizes(frontier.frame(), "Compute-optimal sizes", frontier.level)
    print_notes(frontier.notes)
