"""The command line: each verb parses, calls one function and prints. Heavy imports stay inside the verbs."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
import typer.main

from pclhd import __version__
from pclhd.cli import data, features, results, settings, terminal, training, weights
from pclhd.cli.options import verb
from pclhd.cli.terminal import complain, console
from pclhd.errors import UserError

app = typer.Typer(
    help="Unsupervised visible-infrared person re-identification: train, evaluate, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: The exception of the command line library for words that it cannot parse; only its subclasses are public.
_ParseError: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> None:
    """Run the command line; a user error is reported in one line with exit code 2."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    signal.signal(signal.SIGTERM, _terminate)
    terminal.speak()
    try:
        sys.exit(app(arguments or ["--help"], standalone_mode=False))
    except UserError as error:
        if debug:
            raise
        if not error.reported:
            complain(f"pclhd: {terminal.as_options(error)}")
        sys.exit(2)
    except OSError as error:
        # Most paths are checked where they are used. This covers errors that can occur with any path: a folder without
        # access permission, a name that is too long, a missing disk.
        if debug or error.filename is None:
            raise
        complain(f"pclhd: {error.filename}: {error.strerror}; check the path and its permissions")
        sys.exit(2)
    except _ParseError as error:
        if debug:
            raise
        # The program name may differ, as with `python -m pclhd`; a verb has a parent, pclhd has none.
        verb_name = f" {error.ctx.info_name}" if error.ctx is not None and error.ctx.parent is not None else ""
        message = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
        complain(f"pclhd: {message}; see pclhd{verb_name} --help")
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

    pclhd VERB --help explains a verb; pclhd settings lists all settings, and pclhd recipes the methods.
    """


@verb()
def show_help(
    name: Annotated[str | None, typer.Argument(metavar="VERB", help="The verb to explain.")] = None,
) -> None:
    """Explain pclhd, or one of its verbs; the same as --help."""
    app([*([] if name is None else [name]), "--help"], standalone_mode=False)


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
# Their output used to be a positional argument, which is not in the help any more; see `terminal.output`.
_OLD_ARGUMENT = {"allow_extra_args": True}
app.command(context_settings=_OLD_ARGUMENT)(data.synth)
app.command(context_settings=_OLD_ARGUMENT)(weights.starter)
app.command(name="fetch-imagenet", context_settings=_OLD_ARGUMENT)(weights.fetch_imagenet)
app.command()(settings.settings)
app.command()(settings.recipes)
app.command(name="help")(show_help)

_ANY_WORDS = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command(name="upper-bound", hidden=True, context_settings=_ANY_WORDS)(training.upper_bound)
