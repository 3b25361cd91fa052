"""The command line: jaxscale fit, intervals, posterior, audit, laws, predict, allocate."""

import sys
from typing import Annotated

import typer

from jaxscale._cli._allocate import allocate
from jaxscale._cli._common import in_session
from jaxscale._cli._fit import fit
from jaxscale._cli._posterior import posterior
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
for command in (fit, intervals, posterior, audit, laws, predict, allocate):
    app.command()(in_session(command))


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


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from jaxscale import __version__

        print(__version__)
        raise typer.Exit
