from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pclhd.errors import UserError
from pclhd.runs.folder import RunFolder
from pclhd.runs.records import SelectionRecord
from pclhd.study import running
from pclhd.study.folder import StudyFolder
from pclhd.study.running import selected_value
from pclhd.study.summary import read_study
from tests.engine.runs import SmallData
from tests.study.killing import DEADLY, STRIKES, TRIALS
from tests.study.trials import outcome, search, short


def test_a_trial_is_an_ordinary_run_and_its_value_the_criterion_of_its_weights(
    small: SmallData, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    summary = search(small, folder, 1, definition=short(small))
    (row,) = summary.rows
    run = RunFolder(folder / "trial-0000-seed-0")
    assert run.require_model()
    settings = run.settings()
    assert settings.clustering.eps == row.params["clustering.eps"]
    assert settings.clustering.k1 == row.params["clustering.k1"]
    assert settings.selection == "silhouette"
    (selection,) = [record for record in run.log() if isinstance(record, SelectionRecord)]
    # There is one candidate, the last epoch.
    assert row.value == selection.criteria["silhouette"] == selected_value(run)
    # Its weights stay, and the checkpoints that it cannot need any more do not.
    assert sorted(path.name for path in run.checkpoints_folder.iterdir()) == [
        "selected.safetensors",
        "stage1.safetensors",
        "start.safetensors",
    ]
    # Nothing of it is new when the study goes on.
    before = run.model_file.stat().st_mtime_ns
    assert outcome(search(small, folder, 1, definition=short(small))) == outcome(summary)
    assert run.model_file.stat().st_mtime_ns == before


def test_the_value_of_an_epoch_before_the_last(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    head = '{"kind": "epoch", "stage": 2, "loss": {}, '
    run.log_file.write_text(
        head + '"epoch": 0, "criteria": {"cycle": 0.1}}\n' + head + '"epoch": 1, "criteria": {"cycle": 0.7}}\n'
        '{"kind": "selection", "epoch": 2, "criteria": {"cycle": 0.5}, "selected": {"by": "cycle", "epoch": 1}}\n'
    )
    assert selected_value(run) == 0.7
    run.log_file.write_text(head + '"epoch": 0, "criteria": {"cycle": 0.1}}\n')
    with pytest.raises(UserError, match="says nothing about the selected epoch"):
        selected_value(run)


@pytest.mark.slow
def test_several_seeds_count_as_their_mean(small: SmallData, tmp_path: Path) -> None:
    (row,) = search(small, tmp_path / "study", 1, definition=short(small, seeds=[0, 5])).rows
    values = [selected_value(RunFolder(tmp_path / "study" / f"trial-0000-seed-{seed}")) for seed in (0, 5)]
    assert values[0] != values[1]
    assert row.value == pytest.approx(sum(values) / 2)


@pytest.mark.slow
def test_a_trial_below_the_median_ends_between_two_epochs(small: SmallData, tmp_path: Path) -> None:
    # eps decides over the criterion from the first epoch on: a good value comes first, then bad ones.
    space = {"clustering.eps": {"type": "categorical", "choices": [0.5, 0.95]}}
    pruning = {"pruner": "median", "pruner_trials": 1, "pruner_epochs": 0, "sampler": "random", "sampler_seed": 7}
    definition = short(small, space=space, **pruning)
    uncentred = {**definition.settings, "method.centre_features": "none"}
    summary = search(small, tmp_path / "study", 2, definition=definition.model_copy(update={"settings": uncentred}))
    assert [(row.params["clustering.eps"], row.state) for row in summary.rows] == [(0.5, "complete"), (0.95, "pruned")]
    assert summary.rows[1].value is None
    run = RunFolder(tmp_path / "study" / "trial-0001-seed-0")
    # Its first epoch is saved: it can be resumed by hand, as any run that was interrupted.
    assert not run.model_file.exists()
    assert [record.epoch for record in run.epochs()] == [0]
    assert summary.best == summary.rows[0]


def test_settings_that_cannot_be_trained_with_are_a_trial_with_a_reason(
    small: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UserError("all images are noise")

    monkeypatch.setattr(running, "train_run", refuse)
    with pytest.raises(UserError, match="3 trials in a row could not be trained, the last because: all images are"):
        search(small, tmp_path / "study", 9)
    summary = read_study(StudyFolder(tmp_path / "study"), None)[1]
    assert [(row.state, row.error) for row in summary.rows] == [("error", "all images are noise")] * 3

    def full(*_: object, **__: object) -> None:
        raise UserError("no space left") from OSError(28, "No space left on device")

    # A full disk says nothing about the settings: the trial stays open.
    monkeypatch.setattr(running, "train_run", full)
    with pytest.raises(UserError, match="no space left"):
        search(small, tmp_path / "study", 9)
    summary = read_study(StudyFolder(tmp_path / "study"), None)[1]
    assert [row.state for row in summary.rows] == ["error", "error", "error", "running"]


def test_other_folders_and_other_studies_are_refused(small: SmallData, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not the folder of a study, and not empty"):
        search(small, folder, 1)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    search(small, tmp_path / "one", 1, definition=short(small))
    with pytest.raises(UserError, match=r"differs in settings\.schedule\.iterations"):
        search(small, tmp_path / "one", 1)
    with pytest.raises(UserError, match="differs in seeds"):
        search(small, tmp_path / "one", 1, definition=short(small, seeds=[1]))


@pytest.mark.slow
def test_an_interrupted_study_ends_as_one_that_was_not(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.study.killing", str(tmp_path)]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert [row[1] for row in found["whole"]] == ["complete"] * TRIALS
    for deadly in DEADLY:
        lives = found[deadly.name]
        assert lives["statuses"] == [-deadly if deadly == signal.SIGKILL else 128 + deadly] * STRIKES
        assert lives["outcome"] == found["whole"]
        assert lives["folders"] == TRIALS
