"""Call the command line as a shell would, in this process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pclhd.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a call left: its exit code and what it printed."""

    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """A function that runs ``pclhd`` with some words."""

    def call(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["pclhd", *map(str, words)])
        before = signal.getsignal(signal.SIGTERM)
        code = 0
        capsys.readouterr()
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            signal.signal(signal.SIGTERM, before)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call


def complaint(outcome: Outcome) -> str:
    """The one line that a user's mistake is answered with."""
    assert outcome.code == 2, outcome
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("pclhd: ")
    assert "Traceback" not in outcome.out + outcome.err
    return lines[0]
