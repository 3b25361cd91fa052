"""jaxscale report and checklist: all that is known about a fit, and what nobody has said."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxscale._cli import _common as common
from jaxscale._cli._common import out as console
from jaxscale._errors import DataError, JaxscaleError

if TYPE_CHECKING:
    import jax

    from jaxscale._fit import Fit

Said = Annotated[
    list[str] | None,
    typer.Option(
        "--say",
        metavar="ITEM=TEXT",
        help="Answer an item of the checklist, such as 'metric=nats per token, C4 validation'; may "
        "be given several times.",
    ),
]


def report(
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
    level: Annotated[float, typer.Option(help="Content of intervals and bands.")] = 0.9,
    resamples: Annotated[int, typer.Option(help="Resamples of the bootstrap.")] = 2000,
    posterior: Annotated[
        bool, typer.Option("--posterior", help="Add the posterior, by NUTS.")
    ] = False,
    title: Annotated[str | None, typer.Option(help="Headline of the report.")] = None,
    say: Said = None,
    seed: common.Seed = 0,
    out: Annotated[Path, typer.Option(help="HTML file; it needs no network.")] = Path(
        "jaxscale-report.html"
    ),
) -> None:
    """All about a fit in one HTML file: certificate, intervals, frontier, backtest, checklist.

    Example: jaxscale report runs.csv --N params --D tokens --out report.html
    """
    from jaxscale._checklist import checklist
    from jaxscale._draws import tails

    tails(level)
    common.check_count("--resamples", resamples, 2)
    common.check_file(out)
    said = answers(say)
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

    from jaxscale._report import report as make
    from jaxscale._save import write_text

    key = jax.random.key(seed + 1)
    results = _results(fitted, clusters, key, level, resamples, posterior)
    table = common.read_table(runs)
    listed = checklist(fitted, *results, table=table, **said)
    made = make(fitted, *results, listed, title=title, reproduce=_command())
    if jax.process_index() == 0:
        write_text(out, made.html)
    console.print(str(fitted.verdict), style="green" if fitted.verdict.ok else "yellow")
    gaps = f"; open: {', '.join(listed.gaps)}" if listed.gaps else ""
    console.print(f"Checklist: {len(listed.answers) - len(listed.gaps)} answers{gaps}.")
    console.print(f"Wrote {out}")


def checklist(
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
    say: Said = None,
    seed: common.Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Markdown file for the list.")] = None,
) -> None:
    """What a reader must know to refit this law, filled in as far as the runs tell, as Markdown.

    Example: jaxscale checklist runs.csv --say 'metric=nats per token, C4 validation'
    """
    from jaxscale._checklist import checklist as make
    from jaxscale._save import write_text

    said = answers(say)
    if out is not None:
        common.check_file(out)
    fitted, _ = common.fit_file(
        runs,
        law=law,
        columns=common.columns(inputs, N=N, D=D, x=x, loss=loss, weight=weight),
        duplicates=duplicates,
        drop_top=drop_top,
        delta=delta,
        restarts=restarts,
        seed=seed,
    )
    text = make(fitted, table=common.read_table(runs), **said).markdown()
    if out is None:
        console.print(text, soft_wrap=True)
        return
    write_text(out, text)
    console.print(f"Wrote {out}")


def answers(texts: list[str] | None) -> dict[str, str]:
    """``ITEM=TEXT`` by item; an unknown item is said before the fit, not after."""
    from jaxscale._checklist import QUESTIONS

    said = common.pairs(texts, "--say")
    for item in said:
        if item not in QUESTIONS:
            raise DataError(f"--say {item}: the checklist has {', '.join(QUESTIONS)}")
    return said


def _results(
    fitted: "Fit", clusters: Any, key: "jax.Array", level: float, resamples: int, posterior: bool
) -> list[Any]:
    """What can be had of these runs; a text that says why for what cannot."""
    import jax

    from jaxscale._backtest import backtest
    from jaxscale._bootstrap import bootstrap
    from jaxscale._intervals import intervals

    boot = bootstrap(fitted, n=resamples, by=clusters, key=key)
    found: list[Any] = [boot]
    if posterior:
        from jaxscale import bayes

        noise = bayes.StudentT()
        found.append(bayes.sample(fitted, likelihood=noise, key=key, target_accept=common.ACCEPT))
    side = intervals(
        fitted, key=key, level=level, by=clusters, draws=found[1:], resamples=resamples
    )
    found.append(side)
    if set(fitted.law.inputs) == {"N", "D"}:
        found += _frontier(fitted, boot, key, level, resamples)
    try:
        found.append(backtest(fitted, key=jax.random.fold_in(key, 1), level=level))
    except JaxscaleError as error:
        found.append(f"No backtest: {error}")
    return found


def _frontier(
    fitted: "Fit", boot: Any, key: "jax.Array", level: float, resamples: int
) -> list[Any]:
    from jaxscale._agree import agree
    from jaxscale._allocate import allocate
    from jaxscale._bootstrap import bootstrap
    from jaxscale._isoflop import isoflop
    from jaxscale._refit import single_fit
    from jaxscale._surface import surface

    found: list[Any] = []
    try:
        found.append(allocate(boot, flop=common.decades(fitted), level=level))
        joint = surface(bootstrap(fitted, n=resamples, kind="residual", key=key), level=level)
        minima = isoflop(single_fit(fitted), key=key, n=resamples, level=level, law_fit=fitted)
        found += [minima, agree(minima, joint)]
    except JaxscaleError as error:
        found.append(f"No further frontier: {error}")
    return found


def _command() -> str:
    """The command line that is running, as it can be typed again."""
    return shlex.join(["jaxscale", *sys.argv[1:]])
