from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pclhd.engine.duration import EpochPlan, Plan, TimeLeft
from pclhd.engine.observer import Silent
from pclhd.text_tables import duration
from tests.engine.runs import SmallData


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run_epoch(left: TimeLeft, clock: Clock, epoch: int, *, begin: float, steps: int, step: float) -> None:
    left.epoch_started(epoch)
    clock.now += begin
    for number in range(steps):
        clock.now += step
        left.stepped(number)


PLAN = Plan(0, (EpochPlan(10, 1, 5), EpochPlan(20, 2, 5), EpochPlan(20, 2, 5)), measured=True)


def test_the_plan_is_what_is_left_at_first() -> None:
    clock = Clock()
    left = TimeLeft(PLAN, clock)
    assert left.seconds() == PLAN.seconds == 15 + 30 + 30
    left.epoch_started(0)
    clock.now += 4
    assert left.seconds() == 75 - 4
    clock.now += 100  # a clustering that takes longer than planned does not eat up what comes after it
    assert left.seconds() == 65


def test_a_slow_machine_is_noticed_in_the_first_epoch() -> None:
    clock = Clock()
    left = TimeLeft(PLAN, clock)
    run_epoch(left, clock, 0, begin=40, steps=3, step=3)  # four and three times slower
    assert left.seconds() == pytest.approx(2 * 3 + 2 * (20 * 4 + 10 * 3))


def test_a_machine_that_becomes_faster() -> None:
    clock = Clock()
    left = TimeLeft(PLAN, clock)
    run_epoch(left, clock, 0, begin=100, steps=5, step=10)
    run_epoch(left, clock, 1, begin=10, steps=5, step=1)
    assert left.seconds() == pytest.approx(10 + 5)
    run_epoch(left, clock, 2, begin=10, steps=5, step=1)
    assert left.seconds() == 0


def test_after_an_interruption_within_an_epoch() -> None:
    clock = Clock()
    left = TimeLeft(Plan(1, PLAN.epochs[1:], measured=True), clock)
    left.epoch_started(1)
    for number in (3, 4):
        clock.now += 2
        left.stepped(number)
    assert left.seconds() == pytest.approx(10)  # nothing was embedded, so this is all that was seen of it


def test_an_epoch_that_begins_again_counts_again() -> None:
    clock = Clock()
    left = TimeLeft(PLAN, clock)
    run_epoch(left, clock, 0, begin=10, steps=4, step=1)
    left.epoch_started(0)
    assert left.seconds() == pytest.approx(75)


def test_nothing_is_said_before_anything_was_measured() -> None:
    clock = Clock()
    left = TimeLeft(Plan(0, (EpochPlan(2, 1, 3), EpochPlan(2, 1, 3)), measured=False), clock)
    left.epoch_started(0)
    assert left.seconds() is None
    clock.now += 20
    for number in range(3):
        clock.now += 1
        left.stepped(number)
    assert left.seconds() == pytest.approx(20 + 3)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (349, "5 min 49 s"),
        (601, "10 min"),
        (6_000, "1 h 40 min"),
        (36_000, "10 h"),
        (90_000, "1 d 1 h"),
        (3e6, "34 d"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


class Asking(Silent):
    """Asks for the plan, as the command line does."""

    plan: Plan | None = None

    def estimated(self, memory: int, plan: Callable[[], Plan]) -> None:
        self.memory, self.plan = memory, plan()


def test_measuring_changes_no_result(small: SmallData, tmp_path: Path) -> None:
    asking = Asking()
    state = torch.get_rng_state()
    asked = small.train(tmp_path / "asked", observer=asking)
    assert torch.equal(torch.get_rng_state(), state)
    assert asked == small.train(tmp_path / "silent")
    assert asking.plan is not None
    assert asking.plan.measured
    assert len(asking.plan.epochs) == 3
    first, second = asking.plan.epochs[0], asking.plan.epochs[1]
    assert 0 < first.step < second.step
    assert 0 < first.begin <= second.begin
    assert asking.memory > 2**20
