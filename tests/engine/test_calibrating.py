"""The calibration at the end of a training: from pseudo labels only, and without any effect on the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pclhd.clustering.matching import Matching
from pclhd.engine import trainer
from pclhd.engine.calibrating import common_labels
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.trainer import train
from pclhd.errors import UserError
from pclhd.models.encoder import Encoder
from pclhd.pair import Pair
from pclhd.runs.folder import RunFolder
from tests.engine.runs import SmallData, draw_people


def test_clusters_that_are_each_others_nearest_get_one_number() -> None:
    axes = np.eye(4, dtype=np.float32)
    # Visible cluster n is at axis n. The infrared ones: at axis 1, between axes 1 and 3, at axis 2.
    visible = np.repeat(axes[:3], 2, axis=0)
    between = (axes[1] + axes[3]) / np.sqrt(2)
    infrared = np.stack([axes[1], between, axes[2], axes[0]])
    labels = EpochLabels(
        np.array([0, 0, 1, 1, 2, -1]), np.array([0, 1, 2, -1]), None, Matching(np.zeros(3, int), np.zeros(3, int))
    )
    own, other = common_labels(Pair(visible, infrared), labels)
    assert own.tolist() == [0, 0, 1, 1, 2, -1]
    assert other[[0, 2, 3]].tolist() == [1, 2, -1]
    assert other[1] not in own  # its nearest visible cluster has a nearer one


def test_a_run_has_a_calibration_of_its_model(small: SmallData, tmp_path: Path) -> None:
    people = draw_people(tmp_path / "people", people=14)
    settings = small.settings("schedule.stage1_epochs=0", "schedule.stage2_epochs=1")
    train(settings, people, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    calibration = run.calibration()
    assert calibration is not None
    assert calibration.source == "pseudo labels"
    calibration.require_model(Encoder.load(run, device="cpu").model_id)
    assert calibration.direction("visible", "visible").same_pairs > 100
    model, saved = run.model_file.read_bytes(), run.calibration_file.read_bytes()
    # A finished run that is resumed makes it again, the same.
    run.calibration_file.unlink()
    train(settings, people, tmp_path / "run", resume=True)
    assert run.model_file.read_bytes() == model
    assert run.calibration_file.read_bytes() == saved


def test_without_one_the_model_is_still_saved(
    small: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError("no visible cluster")

    monkeypatch.setattr(trainer, "measure_calibration", fail)
    path = train(small.settings("schedule.stage1_epochs=1", "schedule.stage2_epochs=0"), small.training_set, tmp_path)
    assert path.is_file()
    assert RunFolder(tmp_path).calibration() is None
