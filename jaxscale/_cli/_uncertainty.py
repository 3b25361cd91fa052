"""jaxscale intervals and audit: how sure one can be, and whether a claim is too sure."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxscale._cli import _common as common
from jaxscale._cli._common import out as console
from jaxscale._errors import DataError

if TYPE_CHECKING:
    from jaxscale._quantity import Quantity


def intervals(
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
    by: common.By = None,
    quantity: Annotated[
        str | None,
        typer.Option(help="Parameters or derived quantities: alpha,a. Default: all of them."),
    ] = None,
    flop: Annotated[
        str | None, typer.Option(help="Budgets whose optimal N and D to add: 1e24")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Methods: hessian, HC1, HC3, cluster, profile, pairs, 'cluster pairs', wild, "
            "'cluster wild', residual, parametric; commas between. Default: a choice of them."
        ),
    ] = None,
    level: Annotated[float, typer.Option(help="Content of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option(help="Resamples of each bootstrap.")] = 4000,
    seed: common.Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for intervals.csv and intervals.png.")
    ] = None,
) -> None:
    """Fit a law and set every method's intervals side by side.

    Example: jaxscale intervals runs.csv --N params --D tokens --quantity a --flop 1e24
    """
    from jaxscale._draws import tails

    tails(level)
    common.check_count("--resamples", resamples, 2)
    chosen = _quantities(quantity, flop)
    _check_names(law, chosen or [])
    if out is not None:
        common.check_folder(out)
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
    import jax

    from jaxscale._intervals import intervals as run_intervals

    found = run_intervals(
        fitted,
        chosen,
        key=jax.random.key(seed + 1),
        level=level,
        methods=None if method is None else [m.strip() for m in method.split(",")],
        by=clusters,
        resamples=resamples,
    )
    title = f"{level:.0%} intervals; ratio: width relative to {found.recommended}"
    common.print_table(found.frame().drop(columns="width"), title, digits=4)
    common.print_notes(found.notes)
    if out is not None:
        _write_intervals(found, out)


def _quantities(names: str | None, flop: str | None) -> "list[str | Quantity] | None":
    from jaxscale._quantity import optimal_D, optimal_N

    if names is None and flop is None:
        return None
    chosen: list[str | Quantity] = [name.strip() for name in (names or "").split(",") if name]
    for budget in common.numbers(flop, "--flop") if flop else []:
        chosen += [optimal_N(budget), optimal_D(budget)]
    return chosen


def _check_names(law: str, quantities: "list[str | Quantity]") -> None:
    """An unknown quantity is said before the fit, not after."""
    from jaxscale import laws

    chosen = laws.get(law)
    known = (*chosen.names, *(name for name, _ in chosen.derived))
    for quantity in quantities:
        if isinstance(quantity, str) and quantity not in known:
            raise DataError(f"law {law!r} has no quantity {quantity!r}; it has {', '.join(known)}")


def _write_intervals(found: Any, folder: Path) -> None:
    import io

    from matplotlib.figure import Figure

    from jaxscale import plot

    quantities = found.frame()["quantity"].nunique()
    figure = Figure(figsize=(2.2 + 2.2 * min(quantities, 6), 3.2), layout="constrained")
    plot.intervals(found, ax=figure.subplots())
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    contents = {
        "intervals.csv": found.frame().to_csv(index=False).encode(),
        "intervals.png": image.getvalue(),
    }
    common.write_files(folder, contents)


def audit(
    runs: common.RunsFile = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(help="A claimed interval, such as a=0.454:0.455; may be repeated."),
    ] = None,
    claim_level: Annotated[
        float, typer.Option(help="Probability content that the claim states.")
    ] = 0.95,
    published: Annotated[
        str | None,
        typer.Option(
            help="A published fit: a name, or every parameter as printed, such as "
            "'A=406.4, B=410.7, E=1.69, alpha=0.34, beta=0.28'."
        ),
    ] = None,
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
    by: common.By = None,
    resamples: Annotated[int, typer.Option(help="Resamples of the bootstrap.")] = 4000,
    seed: common.Seed = 0,
) -> None:
    """Hold a published interval or fit against what its runs can support.

    Example: jaxscale audit runs.csv --N params --D tokens --claim a=0.454:0.455 --claim-level 0.8
    """
    from jaxscale._draws import tails

    tails(claim_level)
    common.check_count("--resamples", resamples, 2)
    if not claim and published is None:
        raise DataError("audit needs --claim a=0.454:0.455, or --published")
    claimed = _claims(claim or [])
    _check_names(law, list(claimed))
    point = None if published is None else _point(published)
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
    import jax

    from jaxscale._audit import audit as run_audit
    from jaxscale._bootstrap import bootstrap

    draws = bootstrap(fitted, n=resamples, by=clusters, key=jax.random.key(seed + 1))
    found = run_audit(draws, claimed={**claimed, "level": claim_level}, published=point)
    if claimed:
        columns = ["quantity", "claimed_low", "claimed_high", "low", "high", "ratio"]
        common.print_table(
            found.frame()[columns], f"Claimed and own {claim_level:.0%} intervals", digits=4
        )
    for sentence in found.sentences:
        console.print(sentence)


def _claims(texts: list[str]) -> dict[str, Any]:
    claims: dict[str, Any] = {}
    for text in texts:
        name, _, interval = text.partition("=")
        low, colon, high = interval.partition(":")
        if not (name and colon):
            raise DataError(f"--claim {text!r}: write NAME=LOW:HIGH, such as a=0.454:0.455")
        if name.strip() in (*claims, "level"):
            raise DataError(f"--claim {text!r}: {name.strip()!r} is claimed twice, or no quantity")
        ends = (*common.numbers(low, "--claim"), *common.numbers(high, "--claim"))
        if len(ends) != 2 or not ends[0] < ends[1]:
            raise DataError(f"--claim {text!r}: the lower end comes first, then the higher")
        claims[name.strip()] = ends
    return claims


def _point(text: str) -> str | dict[str, str]:
    """The name of a published fit, or its parameters with their digits as printed."""
    from jaxscale import published as book

    if "=" not in text:
        return book.get(text).name  # an unknown name is said before the fit, not after
    pairs = [part.partition("=") for part in text.split(",")]
    for name, _, value in pairs:
        common.numbers(value, f"--published {name}")
    return {name.strip(): value.strip() for name, _, value in pairs}
