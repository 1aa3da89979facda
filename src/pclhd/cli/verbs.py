"""The command line: each verb parses, calls one function and prints. Heavy imports stay inside the verbs."""

from __future__ import annotations

import signal
import sys
import warnings
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
import typer.main

from pclhd import __version__
from pclhd.cli import (
    ablation,
    answers,
    data,
    features,
    gallery,
    results,
    serving,
    settings,
    studies,
    terminal,
    training,
    weights,
)
from pclhd.cli.environment import check_environment
from pclhd.cli.options import verb
from pclhd.cli.terminal import complain, console
from pclhd.errors import UserError, ran_out_of_memory
from pclhd.threads import set_up_threads

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: The exception of the command line library for words that it cannot parse; only its subclasses are public.
_ParseError: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

_CLOSED_PIPE = 141
_INTERNAL = 70
_LONGEST_REASON = 200


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2, anything unforeseen in one and 70."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    signal.signal(signal.SIGTERM, _terminate)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup asks for
        signal.signal(signal.SIGHUP, _terminate)
    terminal.speak()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = terminal.print_warning
            check_environment()
            set_up_threads()
            code = _run(arguments)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        code = _complain_of(error, debug=debug)
    failed = terminal.flush()
    if isinstance(failed, BrokenPipeError):
        code = _CLOSED_PIPE
    elif failed is not None:
        complain(f"pclhd: {_unwritten(failed)}")
        code = code or 2
    sys.exit(code)


def _run(arguments: list[str]) -> Any:
    """Run the words of a command line; returns an exit code, as `sys.exit` takes it."""
    try:
        return app(arguments or ["--help"], standalone_mode=False)
    except SystemExit as end:
        # The command line library ends a program with 1 if the reader of its output has gone.
        return _CLOSED_PIPE if isinstance(end.__context__, BrokenPipeError) else end.code


def _complain_of(error: Exception, *, debug: bool) -> int:
    """Say in one line what went wrong.

    Args:
        error: What was raised.
        debug: Raise it again instead.

    Returns:
        The exit code.
    """
    unwritten = terminal.output_error(error)
    if isinstance(unwritten, BrokenPipeError):
        return _CLOSED_PIPE  # the reader has seen enough; usual tools are ended by a signal then, without a word
    if debug:
        raise error
    if isinstance(error, UserError):
        message = None if error.reported else terminal.as_options(error)
    elif isinstance(error, _ParseError):
        words = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
        message = f"{words}; see pclhd{_verb_of(error.ctx)} --help"
    elif ran_out_of_memory(error):
        reason = str(error).partition("\n")[0] or "no details"
        message = f"this machine ran out of memory ({reason}); close other programs, or ask for less"
    elif isinstance(error, OSError) and error.filename is not None:
        # Most paths are looked at where they are used. This is for what any look can meet: a folder that may not be
        # entered, a name that is too long, a disk that is gone.
        message = f"{error.filename}: {error.strerror}; check the path and its permissions"
    elif unwritten is not None:
        message = _unwritten(unwritten)
    else:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        shown = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"
        saved = terminal.save_traceback(error)
        where = "--debug shows where" if saved is None else f"report it with {saved}, which shows where"
        complain(f"pclhd: internal error ({shown}); {where}")
        return _INTERNAL
    if message is not None:
        complain(f"pclhd: {' '.join(message.split())}")
    return 2


def _verb_of(context: Any) -> str:
    """The verb's words, each after a space. pclhd itself may be called by another name, such as `python -m pclhd`."""
    return "" if context is None or context.parent is None else f"{_verb_of(context.parent)} {context.info_name}"


def _unwritten(error: OSError) -> str:
    return f"the output cannot be written ({error.strerror}); make room, or send it elsewhere"


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


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
    """Find the same person across visible and infrared cameras, trained without labels.

    Begin with your own images: pclhd check DIR, then pclhd train own-laptop --data DIR, then pclhd report RUN.
    Without images: pclhd synth draws some. pclhd VERB --help explains a verb.
    """


@verb()
def show_help(
    words: Annotated[list[str] | None, typer.Argument(metavar="VERB", help="The verb to explain.")] = None,
) -> None:
    """Explain pclhd, or one of its verbs; the same as --help."""
    app([*(words or ()), "--help"], standalone_mode=False)


#: The verbs under their headings in the help of `pclhd`.
_TRAIN, _SEARCH, _DATA = "Train and look", "Search", "Data"
_SEVERAL, _MODELS, _HELP = "Several runs", "Features and weights", "Help"
# Their output used to be a positional argument, which is not in the help any more; see `terminal.output`.
_OLD_ARGUMENT = {"allow_extra_args": True}

app.command(rich_help_panel=_TRAIN)(training.train)
app.command(rich_help_panel=_TRAIN)(results.evaluate)
app.command(rich_help_panel=_TRAIN)(results.report)
app.command(rich_help_panel=_TRAIN)(results.runs)
app.command(rich_help_panel=_TRAIN)(training.verify)
app.command(rich_help_panel=_SEARCH)(answers.search)
app.command(rich_help_panel=_SEARCH)(answers.calibrate)
app.add_typer(gallery.app, name="gallery", rich_help_panel=_SEARCH)
app.command(rich_help_panel=_SEARCH)(serving.serve)
app.add_typer(serving.token_app, name="token", rich_help_panel=_SEARCH)
app.add_typer(serving.audit_app, name="audit", rich_help_panel=_SEARCH)
app.command(rich_help_panel=_DATA)(data.check)
app.command(context_settings=_OLD_ARGUMENT, rich_help_panel=_DATA)(data.synth)
app.command(rich_help_panel=_SEVERAL)(results.compare)
app.command(rich_help_panel=_SEVERAL)(results.combine)
app.command(rich_help_panel=_SEVERAL)(ablation.ablate)
app.command(rich_help_panel=_SEVERAL)(ablation.figures)
app.add_typer(studies.app, name="study", rich_help_panel=_SEVERAL)
app.command(rich_help_panel=_MODELS)(features.embed)
app.command(rich_help_panel=_MODELS)(features.cluster)
app.command(name="import", rich_help_panel=_MODELS)(weights.import_weights)
app.command(rich_help_panel=_MODELS)(weights.export)
app.command(name="fetch-imagenet", context_settings=_OLD_ARGUMENT, rich_help_panel=_MODELS)(weights.fetch_imagenet)
app.command(context_settings=_OLD_ARGUMENT, rich_help_panel=_MODELS)(weights.starter)
app.command(rich_help_panel=_HELP)(settings.settings)
app.command(rich_help_panel=_HELP)(settings.recipes)
app.command(name="help", rich_help_panel=_HELP)(show_help)

_ANY_WORDS = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command(name="upper-bound", hidden=True, context_settings=_ANY_WORDS)(training.upper_bound)
