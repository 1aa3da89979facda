"""Output of the verbs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from pclhd.errors import ArgumentError, UserError

console = Console()
errors = Console(stderr=True)
#: Console for progress and notes; `be_quiet` silences it.
progress = Console(stderr=True)


def be_quiet() -> None:
    """Switch off progress and notes."""
    console.quiet = progress.quiet = True


def speak() -> None:
    """Switch progress and notes on again, for the next call in the same process."""
    console.quiet = progress.quiet = False


def say(line: str) -> None:
    """Print a note in one line, without colours for numbers or wrapping, which would break paths in a log.

    If several processes train together, only the first one prints.
    """
    if os.environ.get("RANK", "0") == "0":
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def complain(message: str) -> None:
    """Print one line on stderr."""
    errors.print(message, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def status(phase: str) -> Iterator[None]:
    """Show the current phase on a terminal, and nothing in a log."""
    if progress.is_terminal:
        with progress.status(escape(phase)):
            yield
    else:
        yield


@contextmanager
def embedding_progress() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal: yields a function of the number of embedded images and the total."""
    with Progress(console=progress, transient=True, disable=not progress.is_terminal) as bar:
        task = bar.add_task("embedding", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning in one line."""
    complain(f"note: {message}")


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
