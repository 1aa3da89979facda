"""A loss that is not finite: the training restarts by itself, and an interrupted one repeats the same restart."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pclhd.engine import trainer
from pclhd.engine.checkpoint import load_checkpoint, rewind_to_epoch
from pclhd.engine.diagnosis import NotFinite
from pclhd.engine.interruption import Interrupted, Interruption
from pclhd.engine.position import Position
from pclhd.engine.steps import Steps
from pclhd.engine.terms import Losses
from pclhd.engine.trainer import train
from pclhd.runs.folder import checkpoint_files
from pclhd.runs.listing import list_runs
from pclhd.runs.metrics_log import MetricsLog
from tests.engine.runs import SmallData, Watcher, digest, records

OVERRIDES = ("recipe=baseline", "schedule.iterations=2", "schedule.stage1_epochs=1", "schedule.stage2_epochs=2")
RATE = 0.001


def spoil(patch: pytest.MonkeyPatch, when: Callable[[Position, int], bool]) -> None:
    """Make the total loss NaN in the steps that are chosen by their position and number."""
    real = Steps.take

    def take(self: Steps, number: int) -> dict[str, float]:
        if not when(self.position, number):
            return real(self, number)
        with pytest.MonkeyPatch.context() as nan:
            nan.setattr(Losses, "total", torch.tensor(float("nan")))
            return real(self, number)

    patch.setattr(Steps, "take", take)


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loss of step 1 of epoch 1 is NaN if the rate is above a bound, as if the rate were too high."""
    bounds = [0.0006]
    spoil(
        monkeypatch,
        lambda position, number: (position.epoch, number) == (1, 1) and position.learning_rate > bounds[0],
    )
    return bounds


def test_without_restarts_the_last_checkpoint_stays(small: SmallData, bound: list[float], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(NotFinite, match=r"in epoch 2, step 2 \(.*learning rate 0\.001; embeddings finite; weights fin"):
        small.train(run, *OVERRIDES, "engine.checkpoint_minutes=0")
    newest = load_checkpoint(checkpoint_files(run / "checkpoints")[-1])
    assert newest.state is not None
    assert (newest.next_epoch, newest.state[1]["step"]) == (1, 1)
    assert records(run, "restart") == []


def test_an_error_is_logged_until_the_training_goes_on(small: SmallData, bound: list[float], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(NotFinite) as raised:
        small.train(run, *OVERRIDES)
    (failure,) = records(run, "failure")
    assert failure == {"kind": "failure", "epoch": 1, "reason": str(raised.value)}
    (listed,) = list_runs([run])
    assert (listed.state, listed.problem) == ("failed", str(raised.value))
    bound[0] = 1.0
    small.train(run, *OVERRIDES, resume=True)
    assert records(run, "failure") == []
    assert list_runs([run])[0].state == "finished"


def test_an_error_of_the_program_is_logged_with_its_kind(small: SmallData, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def fail(*_: object) -> None:
        raise RuntimeError("a fault\nin two lines")

    with pytest.raises(RuntimeError):
        small.train(run, *OVERRIDES, observer=Watcher(step=fail))
    assert records(run, "failure") == [{"kind": "failure", "epoch": 0, "reason": "RuntimeError: a fault"}]
    # A signal is no error.
    with pytest.raises(Interrupted):
        small.train(run, *OVERRIDES, resume=True, observer=Watcher(step=lambda *_: _interrupt()))
    assert records(run, "failure") == []
    assert list_runs([run])[0].state == "interrupted"


def _interrupt() -> None:
    raise Interrupted(signal.SIGTERM)


def test_a_restart_lowers_the_rate_for_good(small: SmallData, bound: list[float], tmp_path: Path) -> None:
    run, watcher = tmp_path / "run", Watcher()
    small.train(run, *OVERRIDES, "schedule.restarts=1", "engine.checkpoint_minutes=0", observer=watcher)
    assert [line["lr"] for line in records(run)] == pytest.approx([RATE, RATE / 2, RATE / 2])
    (restart,) = records(run, "restart")
    assert {key: restart[key] for key in ("epoch", "restarts", "lr")} == {"epoch": 1, "restarts": 1, "lr": RATE / 2}
    assert restart["reason"].startswith("the loss is no longer finite in epoch 2, step 2")
    (warning,) = (warning for warning in watcher.warnings if "near-copies" not in warning)
    assert "restart 1 of 1" in warning
    assert [line["global_step"] for line in records(run, "step")] == list(range(6))


def test_restarts_run_out(small: SmallData, bound: list[float], tmp_path: Path) -> None:
    bound[0] = 0.0
    with pytest.raises(NotFinite):
        small.train(tmp_path / "run", *OVERRIDES, "schedule.restarts=2")
    assert [line["restarts"] for line in records(tmp_path / "run", "restart")] == [1, 2]
    assert [line["lr"] for line in records(tmp_path / "run", "restart")] == pytest.approx([RATE / 2, RATE / 4])


def test_a_restart_in_the_first_epoch_begins_with_a_fresh_optimiser(
    small: SmallData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At the rate of the restart, an epoch that is repeated equals the first epoch of a new training."""
    short = ("recipe=baseline", "schedule.stage2_epochs=0", "schedule.iterations=2")
    expected = small.train(tmp_path / "low", *short, "schedule.learning_rate=0.0005")
    calls: list[float] = []

    def second(position: Position, number: int) -> bool:
        calls.append(position.learning_rate)
        return len(calls) == 2

    spoil(monkeypatch, second)
    found = small.train(tmp_path / "run", *short, "schedule.restarts=1", "engine.checkpoint_minutes=0")
    assert calls == pytest.approx([RATE, RATE, RATE / 2, RATE / 2])
    assert found == expected


def test_broken_weights_are_not_saved(small: SmallData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real, calls = torch.optim.Adam.step, []

    def step(self: torch.optim.Adam, *rest: Any, **more: Any) -> Any:
        result = real(self, *rest, **more)
        calls.append(0)
        if len(calls) == 4:  # the last step: no loss sees its weights
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("inf"))
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    run = tmp_path / "run"
    with pytest.raises(NotFinite, match=r"weights are no longer finite after epoch 2 \(first "):
        small.train(run, *OVERRIDES, "engine.checkpoint_minutes=0", "method.joint=0", "schedule.stage2_epochs=1")
    newest = load_checkpoint(checkpoint_files(run / "checkpoints")[-1])
    assert newest.state is not None
    assert (newest.next_epoch, newest.state[1]["step"]) == (1, 1)
    assert all(bool(torch.isfinite(tensor.float()).all()) for tensor in newest.online.values())
    assert len(records(run)) == 1, "the broken epoch is not logged as one that was made"


WITH_RESTART = (*OVERRIDES, "schedule.restarts=1")


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [0, 10])
def test_interrupted_at_each_step_and_resumed(
    small: SmallData, bound: list[float], tmp_path: Path, minutes: int
) -> None:
    overrides = (*WITH_RESTART, f"engine.checkpoint_minutes={minutes}")
    expected = small.train(tmp_path / "whole", *overrides)
    parts = tmp_path / "parts"

    def stop(position: Position, step: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    for number in range(7):
        interruption = Interruption()
        with pytest.raises(Interrupted), interruption.handling():
            train(
                small.settings(*overrides),
                small.training_set,
                parts,
                Watcher(step=stop),
                resume=number > 0,
                interruption=interruption,
            )
    path = train(small.settings(*overrides), small.training_set, parts, Watcher(), resume=True)
    assert digest(path) == expected
    for kind in ("epoch", "step", "restart"):
        assert records(parts, kind) == records(tmp_path / "whole", kind)


#: What a restart does, in this order: go back to a checkpoint, open the log, write a line of it, save.
PLACES: dict[str, tuple[Any, str]] = {
    "going back": (trainer, "rewind_to_epoch"),
    "opening the log": (trainer, "MetricsLog"),
    "writing a line": (MetricsLog, "write"),
    "saving": (trainer, "save_checkpoint"),
}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("before", [True, False])
def test_killed_within_the_restart(
    small: SmallData, bound: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, before: bool
) -> None:
    overrides = (*WITH_RESTART, "engine.checkpoint_minutes=0")
    expected = small.train(tmp_path / "whole", *overrides)
    owner, name = PLACES[place]
    real = getattr(owner, name)
    with monkeypatch.context() as patch:

        def dies(*arguments: Any, **options: Any) -> None:
            if not before:
                real(*arguments, **options)
            raise KeyboardInterrupt

        def begins(*arguments: Any, **options: Any) -> Any:
            patch.setattr(owner, name, dies)
            return (dies if name == "rewind_to_epoch" else rewind_to_epoch)(*arguments, **options)

        patch.setattr(trainer, "rewind_to_epoch", begins)
        with pytest.raises(KeyboardInterrupt):
            small.train(tmp_path / "parts", *overrides)
    assert small.train(tmp_path / "parts", *overrides, resume=True) == expected
    for kind in ("epoch", "step", "restart"):
        assert records(tmp_path / "parts", kind) == records(tmp_path / "whole", kind)
