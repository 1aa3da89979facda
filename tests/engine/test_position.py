from __future__ import annotations

import pytest

from pclhd.engine.position import position_of
from tests.engine.runs import SmallData


def test_stage_progress_and_rate(small: SmallData) -> None:
    settings = small.settings(
        "schedule.stage1_epochs=3", "schedule.stage2_epochs=4", "schedule.decay_every=2", "schedule.decay_factor=0.5"
    )
    positions = [position_of(settings, epoch) for epoch in range(7)]
    assert [position.epoch for position in positions] == list(range(7))
    assert [position.stage for position in positions] == [1, 1, 1, 2, 2, 2, 2]
    assert [position.progress for position in positions] == pytest.approx([1 / 3, 2 / 3, 1, 1 / 4, 2 / 4, 3 / 4, 1])
    shares = [position.learning_rate / settings.schedule.learning_rate for position in positions]
    assert shares == pytest.approx([1, 1, 0.5, 1, 1, 0.5, 0.5])


def test_rates_after_restarts(small: SmallData) -> None:
    settings = small.settings("schedule.restart_factor=0.1", "schedule.decay_every=1", "schedule.decay_factor=0.5")
    assert position_of(settings, 2, restarts=2).learning_rate == pytest.approx(
        settings.schedule.learning_rate * 0.5 * 0.01
    )
    assert position_of(settings, 2, restarts=0) == position_of(settings, 2)
