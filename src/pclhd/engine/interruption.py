"""Signals that end a training: at once where nothing can be lost, else as soon as the step in hand is whole.

A library does not take over signals unasked. The command line does, for the length of a training; without it, the
default actions of Python hold.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

HANDLED = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal asked for the end. Not an `Exception`, so that no handler of errors catches it.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that a signal ended: 128 and the signal's number."""
        return 128 + self.number


class Interruption:
    """Raises `Interrupted` in the main thread when a handled signal comes, but not within `deferred`."""

    def __init__(self) -> None:
        #: Given the own signal or 0, says on which signal all processes agree, 0 for none. All end after the same step.
        self.agree: Callable[[int], int] = lambda number: number
        self._deferring = 0
        self._pending = 0

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Handle the signals within the block; afterwards the previous handlers are back."""
        before = {number: signal.signal(number, self._handle) for number in HANDLED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A block that is finished first; a signal that came meanwhile counts at its end, unless it failed."""
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
