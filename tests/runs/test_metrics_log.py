from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from pclhd.errors import UserError
from pclhd.runs.metrics_log import MetricsLog


def epoch(number: int, **more: Any) -> dict[str, Any]:
    """The fields that every record of an epoch has."""
    return {"kind": "epoch", "epoch": number, "stage": 1, **more}


def step(epoch: int, number: int) -> dict[str, Any]:
    """The fields that every record of a step has."""
    return {"kind": "step", "epoch": epoch, "step": number, "loss": {}}


EPOCH = json.dumps(epoch(0)) + "\n"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_records_are_appended_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    assert path.read_text() == ""
    records = [{**step(0, 0), "global_step": 0, "loss": {"ü": 1.5}}, epoch(0)]
    for number, record in enumerate(records, start=1):
        log.write(record)
        assert lines(path) == records[:number], "written at once, not when the program ends"


def test_epochs_that_are_repeated_are_dropped_first(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for number in range(4):
        log.write(step(number, 0))
        log.write(epoch(number))
    MetricsLog(path, first_epoch=2)
    assert [line["epoch"] for line in lines(path)] == [0, 0, 1, 1]
    MetricsLog(path, first_epoch=2).write(epoch(2))
    assert [line["epoch"] for line in lines(path)] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("rest", ['{"kind": "ep', '{"kind": "epoch", "epoch": 1}', "{"])
def test_half_a_line_is_dropped(tmp_path: Path, rest: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(EPOCH + rest)
    MetricsLog(path, first_epoch=5)
    assert lines(path) == [epoch(0)]


def test_a_restart_comes_before_the_steps_of_its_epoch(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    records: list[dict[str, Any]] = [
        epoch(0),
        {"kind": "restart", "epoch": 1, "restarts": 1, "lr": 0.5, "reason": "the loss is NaN"},
        {"kind": "restart", "epoch": 1, "restarts": 2, "lr": 0.2, "reason": "the loss is NaN"},
        step(1, 0),
    ]
    for line in records:
        log.write(line)
    # A checkpoint of the epoch's start knows how often it was started; later restarts will be repeated.
    for restarts, kept in ((2, records[:3]), (1, records[:2]), (0, records[:1])):
        MetricsLog(path, first_epoch=1, restarts=restarts)
        assert lines(path) == kept
    MetricsLog(path, first_epoch=1, restarts=5)
    assert lines(path) == records[:1], "removed lines do not come back"


def test_a_failure_is_forgotten_once_the_training_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for line in (epoch(0), {"kind": "failure", "epoch": 1, "reason": "the loss is NaN"}):
        log.write(line)
    MetricsLog(path, first_epoch=3)
    assert lines(path) == [epoch(0)]


@pytest.mark.parametrize(
    "line",
    ["{rubbish", "[]", "7", "null", '"text"', "", '{"kind": "epoch"}', '{"epoch": 0}', '{"kind": "step", "epoch": 0}'],
)
def test_a_damaged_line_is_named_and_nothing_is_lost(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(EPOCH + line + "\n")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"line 2.*delete the line"):
        MetricsLog(path, first_epoch=5)
    assert path.read_bytes() == before


def test_a_log_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match="not UTF-8 text"):
        MetricsLog(path)


def test_other_separators_do_not_end_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    record = epoch(0, loss={"a\u2028b\u0085c": 1.0})
    MetricsLog(path).write(record)
    MetricsLog(path, first_epoch=1)
    assert path.read_text("utf-8").count("\n") == 1
    assert json.loads(path.read_text("utf-8")) == record


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written \(No space left on device\)"):
        log.write(epoch(0))


def test_a_new_run_starts_empty(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(EPOCH)
    MetricsLog(path)
    assert lines(path) == []
