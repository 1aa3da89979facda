from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

import pclhd
from pclhd.config import load_preset
from pclhd.data.records import ImageRecord, Modality, make_training_set
from pclhd.engine.provenance import provenance_json
from tests.data.fake_layouts import write_image


def facts(tmp_path: Path) -> dict[str, object]:
    records = []
    for number, modality in enumerate((Modality.VISIBLE, Modality.INFRARED, Modality.INFRARED)):
        write_image(tmp_path / f"{number}.png", str(number))
        records.append(ImageRecord(tmp_path / f"{number}.png", modality))
    training_set, _ = make_training_set(records)
    loaded = json.loads(provenance_json(load_preset("tiny", ["seed=3"]), training_set, torch.device("cpu")))
    assert loaded["data"] == {
        "training_checksum": training_set.checksum,
        "training_images": {"visible": 1, "infrared": 2},
    }
    assert isinstance(loaded, dict)
    return loaded


def test_where_the_numbers_come_from(tmp_path: Path) -> None:
    found = facts(tmp_path)
    assert found["seed"] == 3
    assert found["pclhd"] == pclhd.__version__
    assert found["device"] == "cpu"
    assert found["threads"] == torch.get_num_threads()
    assert isinstance(found["libraries"], dict)
    assert found["libraries"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    # Runs are handed around: nothing in them should tell a user's name or folders.
    assert str(Path.home()) not in json.dumps(found)
    assert str(tmp_path) not in json.dumps(found)


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")])
def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert facts(tmp_path)["commit"] is None
