"""Callbacks of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pclhd.data.datasets import TrainingImages
from pclhd.engine.duration import Plan
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.position import Position


class Observer(Protocol):
    """Methods that are called during a training. Each may do nothing."""

    def loaded(self, images: TrainingImages, epochs: int) -> None:
        """All images are decoded; `epochs` epochs will run."""

    def estimated(self, memory: int, plan: Callable[[], Plan]) -> None:
        """The training will need about `memory` bytes; `plan` measures the machine and says how long it will take."""

    def epoch_started(self, position: Position, steps: int) -> None:
        """An epoch begins; embedding and clustering follow."""

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        """A step was made."""

    def epoch_ended(self, position: Position, labels: EpochLabels, record: Mapping[str, object]) -> dict[str, float]:
        """An epoch is over. The result is logged as ``labels`` and does not affect training."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """A line was written to the log: one of the models of `pclhd.runs.records.LogRecord`."""

    def finished(self, model: Path) -> None:
        """The final model is saved."""

    def warned(self, message: str) -> None:
        """A problem occurred that training recovered from."""


class Silent:
    """An observer that does nothing."""

    def loaded(self, images: TrainingImages, epochs: int) -> None:
        """Do nothing."""

    def estimated(self, memory: int, plan: Callable[[], Plan]) -> None:
        """Do nothing."""

    def epoch_started(self, position: Position, steps: int) -> None:
        """Do nothing."""

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        """Do nothing."""

    def epoch_ended(self, position: Position, labels: EpochLabels, record: Mapping[str, object]) -> dict[str, float]:
        """Do nothing."""
        return {}

    def logged(self, record: Mapping[str, Any]) -> None:
        """Do nothing."""

    def finished(self, model: Path) -> None:
        """Do nothing."""

    def warned(self, message: str) -> None:
        """Do nothing."""
