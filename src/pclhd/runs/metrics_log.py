"""What a run writes down while it trains: one JSON object per epoch and per logged step, and TensorBoard if wanted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pclhd.errors import UserError
from pclhd.files import write_durably


class MetricsLog:
    """Appends to ``metrics.jsonl``.

    Args:
        path: The file.
        first_epoch: Lines of this epoch and later ones, left by an interrupted run, are dropped first,
        first_step: but not those of its steps before this one.
        restarts: Lines that tell of later restarts than this one are dropped, too.
        tensorboard: Folder for TensorBoard events, or None.

    Raises:
        UserError: A line is no record, the file cannot be read or written, or TensorBoard is wanted but not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        first_epoch: int = 0,
        first_step: int = 0,
        restarts: int = 0,
        tensorboard: Path | None = None,
    ) -> None:
        self._path = path
        kept = [
            line
            for line, record in _lines(path)
            if _place(record) < (first_epoch, first_step) and record.get("restarts", 0) <= restarts
        ]
        write_durably(path, "".join(kept))
        self._events = require_tensorboard()(str(tensorboard)) if tensorboard is not None else None

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; it must hold ``kind``, ``epoch`` and, for a step, ``global_step``.

        Raises:
            UserError: The file cannot be written.
        """
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be written ({error.strerror}); make room or mend the folder, then resume the run"
            ) from error
        if self._events is not None:
            # Flushed once an epoch: the writer's own thread is not waited for when the program ends.
            at = record.get("global_step", record["epoch"])
            for name, value in _flatten(record):
                self._events.add_scalar(f"{record['kind']}/{name}", value, at)
            if record["kind"] == "epoch":
                self._events.flush()


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a file, as they are and read."""
    if not path.exists():
        return []
    try:
        # Only a line feed ends a line: other separators may stand in a name.
        lines = path.read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable to go on") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text; remove the damaged lines to go on") from error
    # A line cut short by a kill has no line feed and is dropped.
    return [(f"{line}\n", _read(line, f"{path}, line {number}")) for number, line in enumerate(lines[:-1], start=1)]


def _read(line: str, where: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
        _place(record)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{where}: is no record of a training; remove the line to go on") from error
    return record


def _place(record: dict[str, Any]) -> tuple[int, float]:
    """Epoch and step that a line tells of; a restart comes before the steps, and what tells of a whole epoch after."""
    kind, epoch = record["kind"], int(record["epoch"])
    if kind == "restart":
        return epoch, -1
    return epoch, float(record["step"]) if kind == "step" else math.inf


def _flatten(record: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    flat: list[tuple[str, float]] = []
    for key, value in record.items():
        if isinstance(value, dict):
            flat.extend(_flatten(value, f"{prefix}{key}/"))
        elif isinstance(value, int | float) and key not in {"epoch", "step", "global_step"}:
            flat.append((prefix + key, float(value)))
    return flat


def require_tensorboard() -> type[Any]:
    """The class that writes events.

    Raises:
        UserError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("engine.tensorboard=true needs TensorBoard: pip install tensorboard") from error
    return SummaryWriter
