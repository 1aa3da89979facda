from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pclhd.engine.interruption import Interrupted, Interruption
from pclhd.engine.position import Position
from pclhd.engine.trainer import train
from tests.engine.runs import TOGETHER, SmallData, Watcher, digest, records


def interrupt(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def ended_by(block: Callable[[Interruption], None]) -> BaseException | None:
    """The exception that a block raises while signals are handled."""
    interruption = Interruption()
    try:
        with interruption.handling():
            block(interruption)
    except BaseException as raised:
        return raised
    return None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_at_once_outside_of_a_step(number: int, code: int) -> None:
    done = []

    def block(interruption: Interruption) -> None:
        interrupt(number)
        done.append("never")

    raised = ended_by(block)
    assert isinstance(raised, Interrupted)
    assert (raised.exit_code, done) == (code, [])


def test_later_within_a_step() -> None:
    done = []

    def block(interruption: Interruption) -> None:
        with interruption.deferred():
            with interruption.deferred():
                interrupt()
                interrupt(signal.SIGINT)
                done.append("inner")
            done.append("outer")
        done.append("never")

    assert isinstance(ended_by(block), Interrupted)
    assert done == ["inner", "outer"]


def test_a_step_that_fails_keeps_its_own_error() -> None:
    def block(interruption: Interruption) -> None:
        with interruption.deferred():
            interrupt()
            raise ZeroDivisionError

    assert isinstance(ended_by(block), ZeroDivisionError)


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interruption().handling():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_handlers_of_errors_do_not_catch_it() -> None:
    assert not issubclass(Interrupted, Exception)


# Each of the steps is interrupted once, in both stages, and the rest must not differ in a bit.
OVERRIDES = ("schedule.iterations=2", "schedule.stage1_epochs=1", "schedule.stage2_epochs=2")
EVERYTHING = ("recipe=paper", "method.dynamic_redraw=step", "method.confidence=weight", "selection=cycle")


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [(), EVERYTHING, ("recipe=released",), ("recipe=mmm",), ("engine.precision=16-mixed",), *TOGETHER.values()],
    ids=["default", "everything", "released", "mmm", "16-mixed", *(f"ideas on {name}" for name in TOGETHER)],
)
def test_stopped_at_each_step_and_resumed(small: SmallData, tmp_path: Path, choices: tuple[str, ...]) -> None:
    overrides = (*OVERRIDES, *choices)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = small.train(whole, *overrides)
    made: list[tuple[int, int]] = []

    def stop(position: Position, step: int) -> None:
        made.append((position.epoch, step))
        interrupt()

    settings = small.settings(*overrides)
    for number in range(6):
        interruption = Interruption()
        with pytest.raises(Interrupted), interruption.handling():
            train(
                settings,
                small.training_set,
                parts,
                Watcher(step=stop),
                resume=number > 0,
                interruption=interruption,
            )
    assert made == [(epoch, step) for epoch in range(3) for step in range(2)]
    path = train(settings, small.training_set, parts, Watcher(), resume=True)
    assert digest(path) == expected
    assert records(parts) == records(whole)
    assert records(parts, "step") == records(whole, "step")
