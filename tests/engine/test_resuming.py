"""A training goes on only as what it was; what changed meanwhile is recorded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pclhd.config import load_preset
from pclhd.engine.checkpoint import Checkpoint, load_checkpoint, load_latest_checkpoint, save_checkpoint
from pclhd.engine.resuming import changed_settings, recorded_settings
from pclhd.engine.selection import Selection
from pclhd.errors import UserError
from pclhd.runs.folder import RunFolder, checkpoint_files, trained_labels
from pclhd.runs.saved import read_run
from tests.engine.runs import SmallData

PASSED = "schedule.stage1_epochs=2", "schedule.stage2_epochs=3"
SHORT = "schedule.stage1_epochs=1", "schedule.stage2_epochs=1", "schedule.iterations=1"


def compare(*words: str, next_epoch: int = 3, within_epoch: bool = False) -> dict[str, Any]:
    saved = json.loads(json.dumps(recorded_settings(load_preset("tiny", [*PASSED]))))
    return changed_settings(
        saved, load_preset("tiny", [*PASSED, *words]), next_epoch=next_epoch, within_epoch=within_epoch
    )


def test_nothing_changed() -> None:
    assert compare() == {}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("schedule.learning_rate", 1e-5),
        ("schedule.stage2_epochs", 9),
        ("batch.clusters", 2),
        ("clustering.k1", 7),
        ("data.workers", 3),
        ("data.height", 64),
        ("engine.log_every", 3),
        ("schedule.iterations", 7),
    ],
)
def test_what_may_change_is_returned(word: str, value: object) -> None:
    assert compare(f"{word}={value}") == {word: value}


@pytest.mark.parametrize("word", ["data.root=elsewhere", "data.cache=elsewhere", "model.weights=elsewhere.safetensors"])
def test_files_may_move(word: str) -> None:
    assert compare(word) == {}


@pytest.mark.parametrize(
    "word",
    [
        "seed=1",
        "recipe=supervised",
        "method.labels=identities",
        "method.cross=2",
        "method.dynamic_redraw=step",
        "selection=cycle",
        "model.architecture=resnet50",
        "data.layout=own",
        "data.trial=2",
        "schedule.stage1_epochs=3",
        "schedule.stage1_epochs=1",
        "schedule.stage2_epochs=0",
    ],
)
def test_what_makes_another_run_is_refused(word: str) -> None:
    with pytest.raises(UserError, match=r" in the run's settings, but its checkpoint was trained with ") as caught:
        compare(word)
    assert word.partition("=")[0].split(".")[0] in str(caught.value)


def test_the_epoch_under_way_keeps_its_length() -> None:
    with pytest.raises(UserError, match="epoch 4 is under way"):
        compare("schedule.iterations=7", within_epoch=True)


def test_a_stage_to_come_may_change_its_length() -> None:
    assert compare("schedule.stage1_epochs=5", next_epoch=1) == {"schedule.stage1_epochs": 5}
    assert compare("schedule.stage1_epochs=1", next_epoch=1) == {"schedule.stage1_epochs": 1}
    with pytest.raises(UserError, match="2 epochs are behind it"):
        compare("schedule.stage1_epochs=1", next_epoch=1, within_epoch=True)


def test_the_end_of_the_run_is_not_moved_before_what_is_done() -> None:
    assert compare("schedule.stage2_epochs=1") == {"schedule.stage2_epochs": 1}
    with pytest.raises(UserError, match=r"schedule\.stage2_epochs is 1 .* 4 epochs are behind it"):
        compare("schedule.stage2_epochs=1", within_epoch=True)


def files(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_run_that_was_edited_into_another_is_left_alone(small: SmallData, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small.train(run, *SHORT, "recipe=supervised")
    before = files(run)
    with pytest.raises(UserError, match="recipe is pclhd in the run's settings"):
        small.train(run, *SHORT, "recipe=pclhd", resume=True)
    assert files(run) == before


def test_labels_are_those_that_were_used_whatever_the_settings_say(small: SmallData, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    small.train(run.path, *SHORT, "recipe=supervised")
    assert (trained_labels(run), read_run(run).labels) == ("identities", "identities")
    edited = yaml.safe_load(run.settings_file.read_text("utf-8"))
    edited["method"]["labels"] = "clusters"
    run.settings_file.write_text(yaml.safe_dump(edited), "utf-8")
    assert read_run(run).labels == "identities"
    for path in checkpoint_files(run.checkpoints_folder):
        path.write_bytes(b"damaged")
    assert trained_labels(run) is None


def test_changes_are_recorded(small: SmallData, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small.train(run, *SHORT)
    small.train(run, *SHORT, "schedule.learning_rate=0.0001", "schedule.stage2_epochs=2", resume=True)
    (session,) = json.loads((run / "provenance.json").read_text("utf-8"))["resumed"]
    assert session["settings"] == {"schedule.learning_rate": 0.0001, "schedule.stage2_epochs": 2}


def test_weights_that_are_not_finite_are_not_taken_up(small: SmallData, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small.train(run, *SHORT)
    checkpoints = RunFolder(run).checkpoints_folder
    saved = load_latest_checkpoint(checkpoints, warn=print)
    for part in ("online", "momentum"):
        network: dict[str, Any] = {part: {**getattr(saved, part), "neck.weight": torch.full((256,), torch.nan)}}
        save_checkpoint(checkpoints, dataclasses.replace(saved, **network))
        before = files(run)
        with pytest.raises(UserError, match=r"the checkpoint's weights are not finite \(first neck\.weight\)"):
            small.train(run, *SHORT, resume=True)
        assert files(run) == before


@pytest.mark.parametrize(
    "change",
    [
        {"online": {}},
        {"online": {"neck.weight": torch.zeros(3)}},
        {"momentum": {}},
        {"optimiser": {99_999: {"exp_avg": torch.zeros(1)}}},
        {"state": ({}, {"step": 1})},
        {"state": ({"augmentation": torch.zeros(3)}, {"step": 1, "groupings": {"visible": 3}})},
    ],
)
def test_a_checkpoint_of_something_else(small: SmallData, tmp_path: Path, change: dict[str, Any]) -> None:
    run = tmp_path / "run"
    small.train(run, *SHORT)
    checkpoints = RunFolder(run).checkpoints_folder
    saved = load_latest_checkpoint(checkpoints, warn=print)
    for path in checkpoint_files(checkpoints):
        path.unlink()
    save_checkpoint(checkpoints, dataclasses.replace(saved, settings={}, **change))
    before = files(run)
    with pytest.raises(UserError, match="does not fit this run") as caught:
        small.train(run, *SHORT, resume=True)
    assert len(str(caught.value)) < 300
    assert files(run) == before


@pytest.mark.parametrize(
    "change",
    [{"data_checksum": 5}, {"loss_scale": [1]}, {"loss_scale": {"a": "x"}}, {"restarts": None}, {"settings": 3}],
)
def test_facts_of_another_form(tmp_path: Path, change: dict[str, Any]) -> None:
    whole = Checkpoint(0, {}, {}, None, None, Selection("last"), "")
    path = save_checkpoint(tmp_path, whole)
    load_checkpoint(path)
    with pytest.raises(UserError, match="holds no state of a training"):
        load_checkpoint(save_checkpoint(tmp_path, dataclasses.replace(whole, **change)))
