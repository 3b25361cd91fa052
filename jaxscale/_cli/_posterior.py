"""jaxscale posterior: draws from the posterior, with a verdict, netCDF and pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxscale._cli import _common as common
from jaxscale._cli._common import out as console
from jaxscale._errors import DataError, JaxscaleError

if TYPE_CHECKING:
    import pandas as pd

    from jaxscale.bayes import Posterior

_LIKELIHOODS = ("student", "gaussian", "huber")


def posterior(
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
    likelihood: Annotated[
        str,
        typer.Option(
            help="Noise of log loss: student (degrees of freedom inferred), gaussian, or huber "
            "(what the fit minimizes)."
        ),
    ] = "student",
    by: Annotated[
        str | None,
        typer.Option(
            "--by", help="Column whose equal values make clusters of runs with an effect in common."
        ),
    ] = None,
    scale_by: Annotated[
        str | None,
        typer.Option(help="Let the noise depend on the size of a run: C (6 N D), N, D or x."),
    ] = None,
    outliers: Annotated[
        bool, typer.Option("--outliers", help="Let a share of the runs scatter more widely.")
    ] = False,
    draws: Annotated[int, typer.Option(help="Draws of every chain.")] = 1000,
    warmup: Annotated[int, typer.Option(help="Warmup steps of every chain.")] = 500,
    chains: Annotated[int, typer.Option(help="Number of chains.")] = 4,
    level: Annotated[float, typer.Option(help="Content of the intervals and bands.")] = 0.9,
    flop: Annotated[
        str | None, typer.Option(help="Budgets for which to print the optimal sizes: 5.76e23")
    ] = None,
    seed: common.Seed = 0,
    out: Annotated[
        Path, typer.Option(help="Folder for posterior.nc, tables (CSV) and pictures.")
    ] = Path("jaxscale-posterior"),
) -> None:
    """Sample the posterior of a law with NUTS; print intervals and whether to trust them.

    Example: jaxscale posterior runs.csv --N params --D tokens --by run --flop 1e24
    """
    from jaxscale._draws import tails

    common.check_folder(out)
    tails(level)
    if likelihood not in _LIKELIHOODS:
        raise DataError(f"--likelihood must be {', '.join(_LIKELIHOODS)}; got {likelihood!r}")
    for option, count in (("--draws", draws), ("--warmup", warmup)):
        common.check_count(option, count, most=10**7)
    common.check_count("--chains", chains, most=10**4)
    budgets = common.numbers(flop, "--flop") if flop else None
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
    if budgets is not None and set(fitted.law.inputs) != {"N", "D"}:
        raise DataError(f"--flop: law {law!r} is not one in N and D")
    import jax

    from jaxscale import bayes
    from jaxscale._objective import LogGaussian

    noise = {"student": bayes.StudentT(), "gaussian": LogGaussian(), "huber": None}[likelihood]
    found = bayes.sample(
        fitted,
        key=jax.random.key(seed + 1),
        draws=draws,
        warmup=warmup,
        chains=chains,
        target_accept=common.ACCEPT,
        likelihood=noise,
        effects=None if clusters is None else {"cluster": clusters},
        scale_by=scale_by,
        outliers=outliers,
    )
    frontier = _frontier(found, budgets, level)
    _report(found, frontier, level)
    _write(found, frontier, level, out)


def _frontier(
    found: "Posterior", budgets: list[float] | None, level: float
) -> "pd.DataFrame | str | None":
    from jaxscale._allocate import allocate

    if set(found.law.inputs) != {"N", "D"}:
        return None
    try:
        return allocate(found, flop=budgets or common.decades(found.fit), level=level).frame()
    except JaxscaleError as error:
        return f"No compute-optimal table: {error}\n"


def _report(found: "Posterior", frontier: "pd.DataFrame | str | None", level: float) -> None:
    console.print(f"{found.law.name}: {found.law.formula}", style="bold")
    assert found.fit.runs is not None
    console.print(f"{found.fit.n_runs} runs from {found.fit.runs.source}\n")
    common.print_table(found.frame(level), f"Posterior, {level:.0%} intervals", digits=5)
    style = "green" if found.ok else "yellow"
    console.print(f"\nVerdict: {found.verdict}\n", style=style)
    if isinstance(frontier, str):
        console.print(frontier)
    elif frontier is not None:
        title = "Compute-optimal sizes under C = 6 N D, and the loss predicted there"
        common.print_sizes(frontier, title, level)
        console.print()


def _write(
    found: "Posterior", frontier: "pd.DataFrame | str | None", level: float, folder: Path
) -> None:
    import jax

    from jaxscale import bayes
    from jaxscale._save import to_json

    contents: dict[str, bytes] = {
        "fit.json": to_json(found.fit).encode(),
        "parameters.csv": found.frame(level).to_csv(index=False).encode(),
        "predictive.png": _picture(bayes.plot_predictive(found)),
        "pair.png": _picture(bayes.plot_pair(found)),
        "prior_posterior.png": _picture(bayes.plot_prior_posterior(found)),
    }
    if frontier is not None and not isinstance(frontier, str):
        contents["frontier.csv"] = frontier.to_csv(index=False).encode()
        contents["frontier.png"] = _picture(bayes.plot_frontier(found))
    common.write_files(folder, contents)  # nothing is written before everything is made
    if jax.process_index() == 0:
        found.save(folder / "posterior.nc")
    console.print(f"Wrote {folder / 'posterior.nc'}")


def _picture(collection: Any) -> bytes:
    import io

    image = io.BytesIO()
    collection.viz["figure"].item().savefig(image, format="png", dpi=150)
    return image.getvalue()
