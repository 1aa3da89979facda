"""Signals that end a training: immediately where nothing can be lost, otherwise after the current step.

The library does not handle signals unless asked to. The command line does so during a training; otherwise, Python's
default actions apply.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: Ctrl-C, a request to end, and a terminal that was closed (which Windows does not know).
HANDLED = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


_HANG_UP = getattr(signal, "SIGHUP", None)


class Interrupted(BaseException):
    """A signal ended the training. Not an `Exception`, so that error handlers do not catch it.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """The exit code that shells use for a program ended by a signal: 128 plus the signal's number."""
        return 128 + self.number


class Interruption:
    """Raises `Interrupted` in the main thread when a handled signal arrives, but not within `deferred`."""

    def __init__(self) -> None:
        #: Maps this process's signal (0 for none) to the one that all processes agree on, so that all end after the
        #: same step.
        self.agree: Callable[[int], int] = lambda number: number
        self._deferring = 0
        self._pending = 0

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Handle the signals within the block; afterwards, the previous handlers are restored.

        SIGHUP stays ignored where it is, as `nohup` asks for.
        """
        handled = [number for number in HANDLED if signal.getsignal(number) is not signal.SIG_IGN or number != _HANG_UP]
        before = {number: signal.signal(number, self._handle) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A block that signals do not interrupt; a signal during it takes effect at its end, unless it failed."""
        self._deferring += 1
        try:
            yield
        finally:
            self._deferring -= 1
        if self._deferring:
            return
        number, self._pending = self.agree(self._pending), 0
        if number:
            raise Interrupted(number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._deferring:
            raise Interrupted(number)
        self._pending = number
