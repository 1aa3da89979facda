from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from pclhd.data.llcm import camera_from_path, llcm_folders_without_image, read_llcm
from pclhd.data.records import ImageRecord, Modality
from pclhd.errors import UserError
from tests.data.fake_layouts import write_image, write_llcm, write_text
from tests.golden.helpers import golden_files


@pytest.mark.parametrize(
    ("path", "camera"),
    [
        ("nir/0351/0351_c06_s200656_f4830_nir.jpg", 6),
        ("vis/0001/0001_c9.jpg", 9),
        ("test_vis/cam3/0351/a.jpg", 3),
        ("cam2/0351/0351_c06_x.jpg", 6),
        ("vis/0001/0001_s1.jpg", None),
        ("vis/0001_c06_x/a.jpg", None),
        ("webcam2/a.jpg", None),
        ("vis/0001/0001_colour.jpg", None),
    ],
)
def test_camera_is_told_by_the_name_else_the_folder(path: str, camera: int | None) -> None:
    assert camera_from_path(path) == camera


def test_train_and_test(tmp_path: Path) -> None:
    write_llcm(tmp_path)
    dataset = read_llcm(tmp_path)
    assert dataset.name == "llcm"
    assert dataset.train_identities is not None
    assert len(dataset.train) == 8
    for image, identity in zip(dataset.train.images, dataset.train_identities, strict=True):
        assert int(image.path.parent.name) == identity
        assert image.camera in (2, 9)
        assert image.path.name.endswith("_vis.jpg" if image.modality is Modality.VISIBLE else "_nir.jpg")
    assert dataset.test is not None
    found = [
        (i.modality.value, identity, i.camera)
        for i, identity in zip(dataset.test.images, dataset.test.identities, strict=True)
    ]
    assert found == [
        ("visible", 6, 1),
        ("visible", 6, 3),
        ("visible", 9, 1),
        ("visible", 9, 3),
        ("infrared", 6, 1),
        ("infrared", 9, 1),
    ]


def test_training_without_labels_is_the_same_training(tmp_path: Path) -> None:
    write_llcm(tmp_path / "a")
    write_llcm(tmp_path / "b", labelled=False)
    labelled, unlabelled = read_llcm(tmp_path / "a"), read_llcm(tmp_path / "b")
    assert unlabelled.train_identities is None
    assert unlabelled.train.checksum == labelled.train.checksum


def test_one_labelled_list_is_refused(tmp_path: Path) -> None:
    write_llcm(tmp_path)
    path = tmp_path / "idx" / "train_nir.txt"
    write_text(path, "\n".join(line.split()[0] for line in path.read_text().splitlines()))
    with pytest.raises(UserError, match="only one of the two training lists has labels"):
        read_llcm(tmp_path)


def test_cameras_for_all_or_none(tmp_path: Path) -> None:
    write_llcm(tmp_path, cameras=False)
    assert {image.camera for image in read_llcm(tmp_path).train.images} == {None}
    write_image(tmp_path / "nir" / "0008" / "0008_c02_nir.jpg", "new")
    path = tmp_path / "idx" / "train_nir.txt"
    write_text(path, "nir/0008/0008_c02_nir.jpg 8\n" + path.read_text())
    with pytest.raises(UserError, match=r"train_vis\.txt, line 1: .* does not encode a camera"):
        read_llcm(tmp_path)


@pytest.mark.parametrize("name", ["train_vis.txt", "train_nir.txt", "test_id.txt"])
def test_each_list_is_needed(tmp_path: Path, name: str) -> None:
    write_llcm(tmp_path)
    write_text(tmp_path / "idx" / name, "")
    with pytest.raises(UserError, match=f"{name}: the (list|first line) is empty"):
        read_llcm(tmp_path)
    (tmp_path / "idx" / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        read_llcm(tmp_path)


def test_missing_image_and_empty_modality(tmp_path: Path) -> None:
    write_llcm(tmp_path)
    (tmp_path / "vis" / "0004" / "0004_c02_s1_f4_vis.jpg").unlink()
    with pytest.raises(UserError, match=r"train_vis\.txt, line 3: no file"):
        read_llcm(tmp_path)
    shutil.rmtree(tmp_path / "test_nir")
    with pytest.raises(UserError, match="no infrared test image"):
        read_llcm(tmp_path)


def test_empty_folder_is_named(tmp_path: Path) -> None:
    write_llcm(tmp_path)
    (tmp_path / "test_vis" / "cam4" / "0009").mkdir(parents=True)
    (tmp_path / "test_nir" / "cam3" / "0001").mkdir(parents=True)
    assert llcm_folders_without_image(tmp_path) == [tmp_path / "test_vis" / "cam4" / "0009"]


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such file or folder; layout llcm expects"):
        read_llcm(tmp_path / "nowhere")


@pytest.mark.parametrize("path", golden_files("protocol_llcm*.json"), ids=lambda p: p.stem)
def test_recorded_protocol(path: Path, tmp_path: Path) -> None:
    recorded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    write_llcm(tmp_path)
    for folder in ("test_vis", "test_nir"):
        shutil.rmtree(tmp_path / folder)
    for folder, names in recorded["tree"].items():
        for name in names:
            write_image(tmp_path / folder / name, f"{folder}/{name}")
    write_text(tmp_path / "idx" / "test_id.txt", recorded["idx_test_id_txt"])
    test = read_llcm(tmp_path).test
    assert test is not None
    for modality in Modality:
        labelled = [
            (image, identity)
            for image, identity in zip(test.images, test.identities, strict=True)
            if image.modality is modality
        ]
        expected = recorded["query"][modality.value]
        assert [image.path.relative_to(tmp_path).as_posix() for image, _ in labelled] == expected["files"]
        assert [identity for _, identity in labelled] == expected["pids"]
        assert [image.camera for image, _ in labelled] == expected["camids"]
        for trial, gallery in recorded["gallery"][modality.value].items():
            groups: dict[tuple[int, int | None], list[ImageRecord]] = {}
            for image, identity in labelled:
                groups.setdefault((identity, image.camera), []).append(image)
            draw = random.Random(int(trial))
            drawn = [draw.choice(group).path.relative_to(tmp_path).as_posix() for group in groups.values()]
            assert drawn == gallery["files"]


def test_a_training_label_of_minus_one_is_of_no_person(tmp_path: Path) -> None:
    write_llcm(tmp_path)
    labelled = read_llcm(tmp_path)
    path = tmp_path / "idx" / "train_nir.txt"
    write_text(path, path.read_text().replace("_nir.jpg 4", "_nir.jpg -1"))
    dataset = read_llcm(tmp_path)
    assert dataset.train == labelled.train
    assert dataset.train_identities is None
