"""What the verbs print, and where."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

if TYPE_CHECKING:
    from pclhd.data.passed_over import PassedOver

console = Console()
errors = Console(stderr=True)


def say(line: str) -> None:
    """Print one line as it is: no colours for numbers, and no wrapping, which would break paths in a log.

    Of several processes that train together the first one speaks.
    """
    if os.environ.get("RANK", "0") == "0":
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def status(phase: str) -> Iterator[None]:
    """Show on a terminal what is going on, and nothing in a log."""
    if errors.is_terminal:
        with errors.status(escape(phase)):
            yield
    else:
        yield


@contextmanager
def embedding_progress() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal: yields what is called with the number of images embedded and of all."""
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("embedding", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def print_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning in one line."""
    errors.print(f"note: {message}", highlight=False, markup=False, soft_wrap=True)


def say_passed_over(passed_over: PassedOver) -> None:
    """Print what a reader passed over, in one line on stderr; nothing if there is nothing."""
    if passed_over and os.environ.get("RANK", "0") == "0":
        print_warning(passed_over.summary())


def print_step(step: int, steps: int, loss: float) -> None:
    """Print every fiftieth step."""
    if step % 50 == 0 or step + 1 == steps:
        say(f"step {step + 1}/{steps}  loss {loss:.3f}")
