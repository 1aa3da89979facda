"""The audit log: every search, change and refusal, one JSON line each, in a chain of digests.

Each line holds the digest of the line before. So a line that was changed, removed or inserted breaks the chain, and
`verify_log` names it. Someone who may write the file could still rewrite all of it, or cut off its end; the digest of
the last line, kept elsewhere, shows that too.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from pclhd.errors import UserError
from pclhd.files import claiming
from pclhd.parsing import parse_json

FIRST = "0" * 64
_LONGEST_LINE = 1 << 16


@dataclass(frozen=True)
class Verified:
    """A log whose chain holds.

    Attributes:
        entries: How many lines.
        head: Digest of the last line; of an empty log, zeros.
    """

    entries: int
    head: str


class AuditLog:
    """Appends to a log. One process writes it at a time; threads of that process may share this object.

    Args:
        path: The file; it is made, readable by its owner only, if it does not exist.

    Raises:
        UserError: It cannot be written, another process is writing it, or its chain is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._owned = ExitStack()
        self._owned.enter_context(claiming(path))
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
            file = os.fdopen(os.open(path, flags, 0o600), "a+b", buffering=0)
            self._file: BinaryIO = self._owned.enter_context(file)
            _require_regular(path)
            verified, place = _followed(path, unfinished=True)
            self._file.truncate(place)
        except OSError as error:
            self._owned.close()
            raise UserError(f"{path}: cannot be written ({error.strerror}); choose a writable folder") from error
        except BaseException:
            self._owned.close()
            raise
        self._number, self._head = verified.entries, verified.head

    @property
    def head(self) -> str:
        """Digest of the last line."""
        return self._head

    def append(self, who: str, action: str, **details: Any) -> None:
        """Write one line to the disk.

        Args:
            who: Name of the token, or ``local`` where none is asked for.
            action: What was done or refused.
            details: JSON-compatible values. Images are named by their digests.

        Raises:
            UserError: The disk is full; the caller must not go on as if the line were there.
        """
        with self._lock:
            entry = {"number": self._number + 1, "time": datetime.now(UTC).isoformat(), "who": who, "action": action}
            line = _line({**entry, "details": details, "previous": self._head})
            place = self._file.seek(0, os.SEEK_END)
            try:
                if self._file.write(line) != len(line):
                    raise OSError(28, os.strerror(28))
                os.fsync(self._file.fileno())
            except OSError as error:
                self._file.truncate(place)
                raise UserError(f"{self.path}: cannot be written ({error.strerror}); make room on the disk") from error
            self._number, self._head = self._number + 1, hashlib.sha256(line).hexdigest()

    def close(self) -> None:
        """Close the file; another process may write it then. A log without a line is removed: nothing was logged."""
        if not self._file.closed and self._number == 0:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
        self._owned.close()


def verify_log(path: Path, head: str | None = None) -> Verified:
    """Check the chain of a log.

    Args:
        path: The file.
        head: Digest that some line must have, as an earlier check printed it: all that was logged by then is there.

    Raises:
        UserError: The chain is broken, at the line named; no line has the digest `head`; or the file cannot be read.
    """
    verified, _ = _followed(path, head)
    return verified


def _followed(path: Path, head: str | None = None, *, unfinished: bool = False) -> tuple[Verified, int]:
    """A log whose chain holds, and where its last whole line ends.

    Args:
        path: The file.
        head: As `verify_log` takes it.
        unfinished: Whether the part of a line may stand at the end, which a kill or a power cut left: it was never
            acknowledged.

    Raises:
        UserError: As `verify_log`.
    """
    previous, number, place, seen = FIRST, 0, 0, head is None or head == FIRST
    for line in _lines(path):
        if unfinished and _begins(line, number + 1):
            break
        number += 1
        try:
            entry = parse_json(line.decode("ascii"))
        except ValueError:
            entry = None
        if not isinstance(entry, Mapping) or not line.endswith(b"\n"):
            raise UserError(f"{path}:{number}: is not a complete line of the log; the log was changed or cut here")
        if entry.get("previous") != previous or entry.get("number") != number:
            raise UserError(
                f"{path}:{number}: does not follow from the line before; lines were changed, removed or added here"
            )
        previous = hashlib.sha256(line).hexdigest()
        seen = seen or previous == head
        place += len(line)
    if not seen:
        raise UserError(f"{path}: no line has the digest {head}; the end of the log was cut off or rewritten")
    return Verified(number, previous), place


def _begins(line: bytes, number: int) -> bool:
    """Whether this is the beginning of a line of the log, and not the end of some other file."""
    start = f'{{"number":{number},"time":"'.encode()
    return not line.endswith(b"\n") and line[: len(start)] == start[: len(line)]


def _lines(path: Path) -> Iterator[bytes]:
    try:
        _require_regular(path)
        with path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                yield line
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name the file of the audit log") from error


def _require_regular(path: Path) -> None:
    if path.exists() and not path.is_file():  # a named pipe would wait for a writer
        raise UserError(f"{path}: is no regular file; name the file of the audit log")


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"
