"""Call the command line as a shell would, in this process."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer.main

from pclhd.cli import app, main


@dataclass(frozen=True)
class Outcome:
    """The exit code of a call, and what it printed."""

    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


def call(*words: object) -> Outcome:
    """Run ``pclhd`` with some words."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    arguments, sys.argv = sys.argv, ["pclhd", *map(str, words)]
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = arguments
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Outcome(code, out.getvalue(), err.getvalue())


def all_verbs() -> dict[str, Any]:
    """The commands by their words: ``check``, ``gallery``, ``gallery add``."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        found[name] = command
        found |= {f"{name} {inner}": one for inner, one in getattr(command, "commands", {}).items()}
    return found


def complaint(outcome: Outcome) -> str:
    """The one line on stderr about a user's mistake."""
    assert outcome.code == 2, outcome
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("pclhd: ")
    assert "Traceback" not in outcome.out + outcome.err
    return lines[0]
