"""The log of a training: one JSON object per epoch and per logged step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pclhd.errors import UserError
from pclhd.files import write_durably
from pclhd.parsing import read_text
from pclhd.runs.records import FailureRecord, LogRecord, RestartRecord, StepRecord, log_line, parse_log_line


class MetricsLog:
    """Appends to the log of a run.

    Args:
        path: The log file.
        first_epoch: Lines of this epoch and later ones, left by an interrupted run, are removed first,
        first_step: except those of its steps before this one.
        restarts: Records of later restarts are removed too.

    Raises:
        UserError: A line is not a record, or the file cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        *,
        first_epoch: int = 0,
        first_step: int = 0,
        restarts: int = 0,
    ) -> None:
        self._path = path
        lines = [
            line
            for line, record in _lines(path)
            if _place(record) < (first_epoch, first_step)
            and _restarts(record) <= restarts
            and not isinstance(record, FailureRecord)  # it goes on
        ]
        write_durably(path, "".join(lines))

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, with the fields of one of the models of `pclhd.runs.records.LogRecord`.

        Raises:
            UserError: The file cannot be written.
            ValueError: A value is missing, unknown or out of range.
        """
        line = log_line(record)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be written ({error.strerror}); make room or repair the folder, then "
                "resume the run"
            ) from error


def _lines(path: Path) -> list[tuple[str, LogRecord]]:
    """The lines of a file, each as text and as a record."""
    if not path.exists():
        return []
    # Only line feeds separate lines: other line separators may be part of a name.
    lines = read_text(path, "make it readable, and remove damaged lines, to continue").split("\n")
    # A line truncated by a kill has no line feed and is dropped.
    records = [
        (f"{line}\n", parse_log_line(line, f"{path}, line {number}")) for number, line in enumerate(lines[:-1], start=1)
    ]
    return [(line, record) for line, record in records if record is not None]


def _place(record: LogRecord) -> tuple[int, float]:
    """Epoch and step of a record; a restart comes before the epoch's steps, the epoch's record after them."""
    if isinstance(record, RestartRecord):
        return record.epoch, -1
    return record.epoch, float(record.step) if isinstance(record, StepRecord) else math.inf


def _restarts(record: LogRecord) -> int:
    return record.restarts if isinstance(record, RestartRecord) else 0
