"""Small networks under the names of the real ones, so that a case takes milliseconds.

`python -m tests.fuzz.small WORDS` is `pclhd WORDS` with them, for cases in a process of their own.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from pclhd.cli import main
from pclhd.models.architecture import ARCHITECTURES
from pclhd.workflows import exchange, trainings
from tests.models.small import SMALL_BASIC, SMALL_BOTTLENECK


def use_small_networks() -> None:
    """Let ``narrow`` be a network of 20 thousand weights, and the released code's one of as many."""
    ARCHITECTURES["narrow"] = SMALL_BASIC
    setattr(exchange, "RELEASED_ARCHITECTURE", SMALL_BOTTLENECK)  # noqa: B010
    defaults = trainings.work.__kwdefaults__
    assert defaults is not None
    defaults["start"] = Forked


class Forked:
    """A training of an ablation, in a process that has all libraries: see `pclhd.workflows.trainings.Process`."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._code: int | None = None
        self._child = os.fork()
        if self._child == 0:
            code = 99
            try:
                code = _run(words, log)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        if self._code is None:
            ended, status = os.waitpid(self._child, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if ended else None
        return self._code

    def terminate(self) -> None:
        """Ask it to end."""
        if self.poll() is None:
            os.kill(self._child, signal.SIGTERM)

    def wait(self) -> int:
        """Wait for its end."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        return self._code


def _run(words: Sequence[str], log: Path) -> int:
    """Run `pclhd` in this process; its exit code. What it prints is added to a file."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for name, number in (("stdout", 1), ("stderr", 2)):
        os.dup2(target, number)
        setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
    sys.argv = ["pclhd", *words]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    use_small_networks()
    main()
