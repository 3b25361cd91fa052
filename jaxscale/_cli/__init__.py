"""The command line: a verb for each job, from tables of runs to saved fits and their use."""

import gc
import io
import sys
from typing import Annotated

import typer

from jaxscale._cli._allocate import allocate
from jaxscale._cli._approaches import approaches
from jaxscale._cli._backtest import backtest
from jaxscale._cli._common import in_session
from jaxscale._cli._compare import compare
from jaxscale._cli._datasets import datasets
from jaxscale._cli._demo import demo
from jaxscale._cli._fit import fit
from jaxscale._cli._plan import plan
from jaxscale._cli._posterior import posterior
from jaxscale._cli._report import checklist, report
from jaxscale._cli._uncertainty import audit, intervals
from jaxscale._cli._use import laws, predict
from jaxscale._errors import JaxscaleError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Fit neural scaling laws to tables of training runs, and use the fits.",
)
COMMANDS = (
    fit,
    intervals,
    posterior,
    audit,
    approaches,
    compare,
    backtest,
    laws,
    datasets,
    predict,
    allocate,
    plan,
    checklist,
    report,
    demo,
)
for command in COMMANDS:
    app.command()(in_session(command))


def main() -> None:
    """Run the command; a request that cannot be answered ends in one sentence and exit code 2."""
    gc.freeze()  # what was imported stays: looking through it for garbage takes a second a command
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except JaxscaleError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'file'}: {error.strerror or error}")
    except MemoryError:
        _fail("the memory does not suffice; ask for fewer restarts, resamples or runs")
    except KeyboardInterrupt:
        _fail("interrupted", 130)


def _fail(message: str, code: int = 2) -> None:
    """End with a message in one line, whatever characters a file or a column has in its name."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    print(f"jaxscale: {shown}", file=sys.stderr)
    raise SystemExit(code)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from jaxscale import __version__

        print(__version__)
        raise typer.Exit
