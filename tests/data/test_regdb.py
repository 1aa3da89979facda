from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pclhd.data.records import Modality
from pclhd.data.regdb import read_regdb
from pclhd.errors import UserError
from tests.data.fake_layouts import write_image, write_regdb, write_sysu, write_text
from tests.golden.helpers import golden_files


def test_train_and_test_of_a_trial(tmp_path: Path) -> None:
    write_regdb(tmp_path)
    dataset = read_regdb(tmp_path)
    assert dataset.name == "regdb-1"
    assert dataset.train_identities is not None
    assert sorted(dataset.train_identities) == [0, 0, 0, 0, 1, 1, 1, 1]
    for image, identity in zip(dataset.train.images, dataset.train_identities, strict=True):
        assert image.path.parent.name == str(identity + 1)
        assert image.camera == (1 if image.modality is Modality.VISIBLE else 2)
        assert image.path.parent.parent.name == ("Visible" if image.modality is Modality.VISIBLE else "Thermal")
    assert dataset.test is not None
    assert [i.modality.value for i in dataset.test.images] == ["visible"] * 4 + ["infrared"] * 4
    assert dataset.test.identities == (0, 0, 1, 1, 0, 0, 1, 1)


def test_list_order_is_kept(tmp_path: Path) -> None:
    write_regdb(tmp_path)
    write_text(tmp_path / "idx" / "test_visible_1.txt", "Visible/4/visible_1.bmp 9\nVisible/3/visible_0.bmp 2\n")
    test = read_regdb(tmp_path).test
    assert test is not None
    assert [image.path.name for image in test.images[:2]] == ["visible_1.bmp", "visible_0.bmp"]
    assert test.identities[:2] == (9, 2)


def test_training_without_labels_is_the_same_training(tmp_path: Path) -> None:
    write_regdb(tmp_path / "a")
    write_regdb(tmp_path / "b", labelled=False)
    labelled, unlabelled = read_regdb(tmp_path / "a"), read_regdb(tmp_path / "b")
    assert unlabelled.train_identities is None
    assert unlabelled.train.checksum == labelled.train.checksum
    assert unlabelled.train.digests == labelled.train.digests
    assert unlabelled.test is not None


def test_other_trial(tmp_path: Path) -> None:
    write_regdb(tmp_path, trial=1)
    write_regdb(tmp_path, trial=3, images=1)
    dataset = read_regdb(tmp_path, 3)
    assert dataset.name == "regdb-3"
    assert len(dataset.train) == 4
    with pytest.raises(UserError, match=r"train_visible_2\.txt: no such file; trials .*: 1, 3$"):
        read_regdb(tmp_path, 2)


@pytest.mark.parametrize("name", ["train_visible_1", "train_thermal_1", "test_visible_1", "test_thermal_1"])
def test_each_list_is_needed_and_checked(tmp_path: Path, name: str) -> None:
    write_regdb(tmp_path)
    path = tmp_path / "idx" / f"{name}.txt"
    lines = path.read_text().splitlines()
    write_text(path, "\n".join([lines[0], "Visible/99/gone.bmp 1"]))
    with pytest.raises(UserError, match=f"{name}.txt, line 2: no file .*gone"):
        read_regdb(tmp_path)
    write_text(path, "")
    with pytest.raises(UserError, match=f"{name}.txt: the list is empty"):
        read_regdb(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=f"{name}.txt: no such file"):
        read_regdb(tmp_path)


def test_test_lists_need_labels(tmp_path: Path) -> None:
    write_regdb(tmp_path)
    write_text(tmp_path / "idx" / "test_thermal_1.txt", "Thermal/3/thermal_0.bmp\n")
    with pytest.raises(UserError, match=r"test_thermal_1\.txt: no labels"):
        read_regdb(tmp_path)
    write_text(tmp_path / "idx" / "test_visible_1.txt", "Visible/3/visible_0.bmp\n")
    with pytest.raises(UserError, match=r"test_visible_1\.txt: no labels"):
        read_regdb(tmp_path)


def test_sysu_given_as_regdb(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    with pytest.raises(UserError, match="looks like sysu"):
        read_regdb(tmp_path)


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such file or folder; layout regdb expects"):
        read_regdb(tmp_path / "nowhere")


@pytest.mark.parametrize("path", golden_files("protocol_regdb*.json"), ids=lambda p: p.stem)
def test_recorded_protocol(path: Path, tmp_path: Path) -> None:
    recorded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, content in recorded["idx"].items():
        write_text(tmp_path / "idx" / name, content)
        for line in content.splitlines():
            write_image(tmp_path / line.split(" ")[0], line)
    for trial, expected in recorded["directions"]["visible_to_thermal"].items():
        test = read_regdb(tmp_path, int(trial)).test
        assert test is not None
        for modality, role in ((Modality.VISIBLE, "query"), (Modality.INFRARED, "gallery")):
            rows = [i for i, image in enumerate(test.images) if image.modality is modality]
            files = [test.images[i].path.relative_to(tmp_path).as_posix() for i in rows]
            assert files == expected[role]["files"]
            assert [test.identities[i] for i in rows] == expected[role]["pids"]
