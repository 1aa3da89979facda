"""Output of the verbs."""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import Progress

from pclhd.errors import ArgumentError, UserError
from pclhd.text_tables import printable

_PRINTING_FAILED = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


class Console(RichConsole):
    """A console that leaves a closed pipe to `main`."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise the error that came."""
        raise


if TYPE_CHECKING:
    from pclhd.data.passed_over import PassedOver

# A width of 0, which some terminals set before they know theirs, would print nothing.
if os.environ.get("COLUMNS", "1").strip("0") == "":
    del os.environ["COLUMNS"]

console = Console()
errors = Console(stderr=True)
#: Console for progress and notes; `be_quiet` silences it.
progress = Console(stderr=True)


def be_quiet() -> None:
    """Switch off progress and notes."""
    console.quiet = progress.quiet = True


def speak() -> None:
    """The opposite of `be_quiet`, for the next call in the same process; what an encoding lacks will be escaped."""
    console.quiet = progress.quiet = False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print a note in one line, without colours for numbers or wrapping, which would break paths in a log.

    If several processes train together, only the first one prints.
    """
    if _is_first():
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def show(text: str) -> None:
    """Print the result of a verb, which may be many lines."""
    if sys.stdout is not None:
        sys.stdout.write(printable(text, keep="\n") + "\n")
        sys.stdout.flush()


def complain(message: str) -> None:
    """Print one line on stderr; where that cannot be written, the exit code has to do."""
    # Not by a console: it imports more when it prints, which fails once memory has run out.
    with suppress(OSError):
        sys.stderr.write(f"{printable(message)}\n")
        sys.stderr.flush()


def flush() -> OSError | None:
    """Write out what was printed. If that fails, the error; what is printed from then on is dropped."""
    if sys.stdout is None:
        return None
    try:
        sys.stdout.flush()
    except OSError as error:
        # Python would try again when it ends, and complain in lines of its own.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return error
    return None


def output_error(error: Exception) -> OSError | None:
    """The error if it says that printing failed. It names no file then, and the system's reason is one of a few."""
    if not isinstance(error, OSError) or error.filename is not None:
        return None
    flush()
    return error if error.errno in _PRINTING_FAILED else None


def save_traceback(error: BaseException) -> Path | None:
    """Save an error's traceback in the system's temporary folder; None if it cannot be written there."""
    try:
        number, name = tempfile.mkstemp(prefix="pclhd-", suffix=".traceback.txt")
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(traceback.format_exception(error))
    except OSError:
        return None
    return Path(name)


@contextmanager
def status(phase: str) -> Iterator[None]:
    """Show the current phase on a terminal, and nothing in a log."""
    if progress.is_terminal:
        with progress.status(escape(phase)):
            yield
    else:
        yield


@contextmanager
def embedding_progress(what: str = "embedding") -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left, on a terminal: yields a function of the number of images done and of all."""
    with Progress(console=progress, transient=True, disable=not progress.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning in one line."""
    complain(f"note: {message}")


def say_passed_over(passed_over: PassedOver) -> None:
    """Print what a reader passed over, in one line on stderr; nothing if there is nothing."""
    if passed_over and _is_first():
        print_warning(passed_over.summary())


def print_step(step: int, steps: int, loss: float) -> None:
    """Print every fiftieth step."""
    if step % 50 == 0 or step + 1 == steps:
        say(f"step {step + 1}/{steps}  loss {loss:.3f}")


def deprecated(old: str, new: str) -> None:
    """Print a note about a deprecated spelling."""
    complain(f"note: {old} is an old spelling; use {new}")


def output(named: Path | None, words: Sequence[str], *, metavar: str) -> Path:
    """The value of ``--out``, which used to be a positional argument and is still accepted as one.

    Args:
        named: Value of ``--out``, if given.
        words: The positional arguments; the verb has no others.
        metavar: Placeholder for the value in messages.

    Raises:
        UserError: Neither was given, or both.
    """
    if named is None and not words:
        raise UserError(f"--out is missing: name the output with --out {metavar}")
    if named is not None and not words:
        return named
    if named is not None or len(words) > 1:
        raise UserError(f"'{words[-1]}' is one argument too many; the output is named with --out {metavar}")
    deprecated(f"the argument {metavar}", f"--out {words[0]}")
    return Path(words[0])


def as_options(error: UserError) -> str:
    """The message of an error, with arguments replaced by command line options."""
    if not isinstance(error, ArgumentError):
        return str(error)
    given = _option(error.argument) + ("" if error.value is None else f" {error.value}")
    return f"{given}: {re.sub(r'`([a-z_0-9]+)`', lambda found: _option(found[1]), error.reason)}"


def _option(argument: str) -> str:
    return f"--{argument.replace('_', '-')}"
