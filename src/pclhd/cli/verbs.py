"""The command line: each verb parses, calls one function and prints. Heavy imports stay inside the verbs."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.markup import escape

from pclhd import __version__
from pclhd.cli import data, features, results, training, weights
from pclhd.cli.terminal import console, errors
from pclhd.errors import UserError

app = typer.Typer(
    help="Unsupervised visible-infrared person re-identification: train, evaluate, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(arguments)
    except UserError as error:
        if debug:
            raise
        if not error.told:
            errors.print(f"pclhd: {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except OSError as error:
        # Most paths are looked at where they are used. This is for what any look can meet: a folder that may not be
        # entered, a name that is too long, a disk that is gone.
        if debug or error.filename is None:
            raise
        told = f"pclhd: {error.filename}: {error.strerror}; check the path and its permissions"
        errors.print(escape(told), soft_wrap=True, highlight=False)
        sys.exit(2)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(143)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"pclhd {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Unsupervised visible-infrared person re-identification: train, evaluate, report.

    Any verb takes --debug, which shows where in the program an error arose.
    """


app.command()(training.train)
app.command()(results.evaluate)
app.command()(results.combine)
app.command()(results.compare)
app.command()(training.verify)
app.command()(results.report)
app.command()(features.cluster)
app.command(name="import")(weights.import_weights)
app.command()(weights.export)
app.command()(features.embed)
app.command()(data.check)
app.command()(data.synth)
app.command()(weights.starter)
app.command(name="fetch-imagenet")(weights.fetch_imagenet)

_ANY_WORDS = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command(name="upper-bound", hidden=True, context_settings=_ANY_WORDS)(training.upper_bound)
