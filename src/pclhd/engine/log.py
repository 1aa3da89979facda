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
        tensorboard: Folder for TensorBoard events, or None.

    Raises:
        UserError: TensorBoard is wanted but not installed.
    """

    def __init__(
        self, path: Path, *, first_epoch: int = 0, first_step: int = 0, tensorboard: Path | None = None
    ) -> None:
        self._path = path
        kept = [line for line in _lines(path) if _place(json.loads(line)) < (first_epoch, first_step)]
        write_durably(path, "".join(kept))
        self._events = require_tensorboard()(str(tensorboard)) if tensorboard is not None else None

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; it must hold ``kind``, ``epoch`` and, for a step, ``global_step``."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
        if self._events is not None:
            # Flushed once an epoch: the writer's own thread is not waited for when the program ends.
            at = record.get("global_step", record["epoch"])
            for name, value in _flatten(record):
                self._events.add_scalar(f"{record['kind']}/{name}", value, at)
            if record["kind"] == "epoch":
                self._events.flush()


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    # A line cut short by a kill has no line feed and is dropped.
    return [line for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]


def _place(record: dict[str, Any]) -> tuple[int, float]:
    """Epoch and step that a line tells of; what tells of a whole epoch comes after its steps."""
    return record["epoch"], record["step"] if record["kind"] == "step" else math.inf


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
        raise UserError("engine.tensorboard=true needs TensorBoard: pip install 'pclhd[tensorboard]'") from error
    return SummaryWriter
