"""Position of a training in its schedule."""

from __future__ import annotations

from dataclasses import dataclass

from pclhd.config import Settings


@dataclass(frozen=True)
class Position:
    """Position in the schedule: epoch, stage, and values that depend on them.

    Attributes:
        epoch: Counted from 0 over both stages.
        stage: 1 or 2.
        progress: Share of the stage that is over after this epoch, 0..1.
        learning_rate: Learning rate of this epoch.
        epoch_of_stage: Counted from 0 within the stage.
    """

    epoch: int
    stage: int
    progress: float
    learning_rate: float
    epoch_of_stage: int


def position_of(settings: Settings, epoch: int, *, restarts: int = 0) -> Position:
    """Stage, progress and learning rate of an epoch; progress and rate start again with each stage.

    Args:
        settings: Settings of the run.
        epoch: Counted from 0 over both stages.
        restarts: Number of restarts because of a loss that was not finite.
    """
    schedule, lengths = settings.schedule, settings.schedule.numbers()
    stage = 1 if epoch < lengths.stage1_epochs else 2
    within = epoch if stage == 1 else epoch - lengths.stage1_epochs
    length = lengths.stage1_epochs if stage == 1 else lengths.stage2_epochs
    rate = schedule.learning_rate * schedule.decay_factor ** (within // schedule.decay_every)
    rate *= schedule.restart_factor**restarts
    return Position(epoch=epoch, stage=stage, progress=(within + 1) / length, learning_rate=rate, epoch_of_stage=within)
