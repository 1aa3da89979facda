"""What can watch a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pclhd.data.datasets import TrainingImages
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.position import Position


class Observer(Protocol):
    """Gets called as a training proceeds. Every method may do nothing."""

    def loaded(self, images: TrainingImages, epochs: int) -> None:
        """All images are decoded; `epochs` epochs will run."""

    def epoch_started(self, position: Position, steps: int) -> None:
        """An epoch begins, with the embedding and the clustering."""

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        """A step was made."""

    def epoch_ended(self, position: Position, labels: EpochLabels, record: Mapping[str, object]) -> dict[str, float]:
        """An epoch is over. What is returned is logged as ``labels``, and has no influence on training."""

    def warned(self, message: str) -> None:
        """Something went wrong that training recovered from."""


class Silent:
    """An observer that does nothing."""

    def loaded(self, images: TrainingImages, epochs: int) -> None:
        """Nothing."""

    def epoch_started(self, position: Position, steps: int) -> None:
        """Nothing."""

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        """Nothing."""

    def epoch_ended(self, position: Position, labels: EpochLabels, record: Mapping[str, object]) -> dict[str, float]:
        """Nothing."""
        return {}

    def warned(self, message: str) -> None:
        """Nothing."""
