from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from pclhd.data.records import ImageRecord, Modality
from pclhd.data.sysu import read_sysu, sysu_folders_without_image
from pclhd.errors import UserError
from tests.data.fake_layouts import VISIBLE_CAMERAS, write_image, write_sysu, write_text
from tests.golden.helpers import golden_files


def _relative(images: tuple[ImageRecord, ...], root: Path) -> list[str]:
    return [image.path.relative_to(root).as_posix() for image in images]


def _lose_names(root: Path, people: tuple[int, ...]) -> None:
    """Move training people's images directly below their camera, under names without an identity."""
    for camera in range(1, 7):
        folders = [root / f"cam{camera}" / f"{person:04d}" for person in people]
        files = [file for folder in folders for file in sorted(folder.iterdir())]
        for number, file in enumerate(reversed(files)):
            file.rename(root / f"cam{camera}" / f"{number:06d}.jpg")
        for folder in folders:
            folder.rmdir()


def test_train_is_train_and_val_people_of_all_cameras(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    dataset = read_sysu(tmp_path)
    expected = {f"cam{c}/{i:04d}/{n:04d}.jpg" for c in range(1, 7) for i in (1, 3, 7) for n in (1, 2)}
    assert set(_relative(dataset.train.images, tmp_path)) == expected
    assert len(dataset.train) == 36
    assert dataset.name == "sysu"
    assert dataset.train_identities is not None
    for image, identity in zip(dataset.train.images, dataset.train_identities, strict=True):
        assert image.path.parent.name == f"{identity:04d}"
        assert image.path.parent.parent.name == f"cam{image.camera}"
        assert image.modality == (Modality.VISIBLE if image.camera in VISIBLE_CAMERAS else Modality.INFRARED)


def test_test_is_identity_then_camera_then_name(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    test = read_sysu(tmp_path).test
    assert test is not None
    expected = [f"cam{c}/{i:04d}/{n:04d}.jpg" for i in (5, 12) for c in range(1, 7) for n in (1, 2)]
    assert _relative(test.images, tmp_path) == expected
    assert test.identities == tuple([5] * 12 + [12] * 12)
    assert test.roles is None


def test_missing_cameras_and_people_are_fine(tmp_path: Path) -> None:
    write_sysu(tmp_path, test=(5, 12, 400))
    for folder in ("cam1/0012", "cam3/0005", "cam6/0001", *(f"cam{c}/0400" for c in range(1, 7))):
        shutil.rmtree(tmp_path / folder)
    dataset = read_sysu(tmp_path)
    assert dataset.test is not None
    assert len(dataset.test) == 20
    assert len(dataset.train) == 34


def test_extensions_in_both_cases_and_no_other_files(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    folder = tmp_path / "cam1" / "0005"
    for name in ("0003.JPG", "0004.png", "0005.jpeg", "0006.Bmp"):
        write_image(folder / name, name)
    for name in ("Thumbs.db", "._0001.jpg", "readme.txt"):
        write_text(folder / name, "x")
    test = read_sysu(tmp_path).test
    assert test is not None
    names = [image.path.name for image in test.images if image.path.parent == folder]
    assert names == ["0001.jpg", "0002.jpg", "0003.JPG", "0004.png", "0005.jpeg", "0006.Bmp"]


def test_renaming_people_leaves_training_unchanged(tmp_path: Path) -> None:
    write_sysu(tmp_path / "a", train=(1, 2, 3), val=(4,), test=(9,))
    write_sysu(tmp_path / "b", train=(1, 2, 3), val=(4,), test=(9,), looks=(3, 4, 1, 2, 9))
    first, second = read_sysu(tmp_path / "a"), read_sysu(tmp_path / "b")
    assert first.train.digests == second.train.digests
    assert first.train.checksum == second.train.checksum
    assert [i.camera for i in first.train.images] == [i.camera for i in second.train.images]
    renamed = {3: 1, 4: 2, 1: 3, 2: 4}
    assert first.train_identities is not None
    assert second.train_identities is not None
    assert second.train_identities == tuple(renamed[identity] for identity in first.train_identities)
    assert first.train_identities != second.train_identities


@pytest.mark.parametrize("keep_lists", [True, False])
def test_training_without_names_is_the_same_training(tmp_path: Path, keep_lists: bool) -> None:
    write_sysu(tmp_path)
    named = read_sysu(tmp_path)
    _lose_names(tmp_path, (1, 3, 7))
    if not keep_lists:
        (tmp_path / "exp" / "train_id.txt").unlink()
        (tmp_path / "exp" / "val_id.txt").unlink()
    nameless = read_sysu(tmp_path)
    assert nameless.train_identities is None
    assert nameless.train.digests == named.train.digests
    assert nameless.train.checksum == named.train.checksum
    assert nameless.test == named.test


def test_both_kinds_of_training_images_are_refused(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    write_image(tmp_path / "cam2" / "stray.jpg", "stray")
    with pytest.raises(UserError, match=r"stray\.jpg.*keep one kind"):
        read_sysu(tmp_path)


def test_empty_folder_is_skipped_and_named(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    (tmp_path / "cam4" / "0005" / "0001.jpg").unlink()
    (tmp_path / "cam4" / "0005" / "0002.jpg").unlink()
    test = read_sysu(tmp_path).test
    assert test is not None
    assert len(test) == 22
    assert sysu_folders_without_image(tmp_path) == [tmp_path / "cam4" / "0005"]


@pytest.mark.parametrize("text", ["12\n5\n", " 12, 12\n5\n", "\n5,\r\n12,\r\n", "5.0,12.0"])
def test_every_line_of_a_list_counts(tmp_path: Path, text: str) -> None:
    write_sysu(tmp_path)
    write_text(tmp_path / "exp" / "test_id.txt", text)
    test = read_sysu(tmp_path).test
    assert test is not None
    assert test.identities == tuple([5] * 12 + [12] * 12)


@pytest.mark.parametrize("name", ["train_id.txt", "val_id.txt", "test_id.txt"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("1,2\nthree\n", "line 2: 'three' is not a whole number"),
        ("1;2\n", "has a semicolon in it"),
        ("1\t2\n", "has a tab in it"),
        ("1_2\n", "'1_2' is not a whole number"),
        ("٣\n", "'٣' is not a whole number"),
        ("12345678901234567890\n", "has more than 18 digits"),
        ("1,x2,3\n", "'x2'"),
        ("1,,3", "''"),
        ("-1", "-1"),
    ],
)
def test_list_faults_name_the_file(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    write_sysu(tmp_path)
    if content is None:
        (tmp_path / "exp" / name).unlink()
    else:
        write_text(tmp_path / "exp" / name, content)
    with pytest.raises(UserError, match=f"{name}.*{message}") as caught:
        read_sysu(tmp_path)
    assert "\n" not in str(caught.value)


def test_nobody_is_both_trained_and_tested(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    write_text(tmp_path / "exp" / "val_id.txt", "7,12\n")
    with pytest.raises(UserError, match=r"val_id\.txt: identity 12 is in test_id\.txt too"):
        read_sysu(tmp_path)


@pytest.mark.parametrize("name", ["test_id.txt", "train_id.txt"])
def test_listed_people_without_any_image(tmp_path: Path, name: str) -> None:
    write_sysu(tmp_path)
    write_text(tmp_path / "exp" / name, "400,401\n")
    if name == "train_id.txt":
        write_text(tmp_path / "exp" / "val_id.txt", "402\n")
    with pytest.raises(UserError, match=f"{name}: no person"):
        read_sysu(tmp_path)


@pytest.mark.parametrize(
    ("cameras", "people", "message"),
    [
        ((3, 6), (1, 3, 7), "no infrared training image"),
        (VISIBLE_CAMERAS, (1, 3, 7), "no visible training image"),
        ((3, 6), (5, 12), "no infrared test image"),
    ],
)
def test_empty_modality(tmp_path: Path, cameras: tuple[int, ...], people: tuple[int, ...], message: str) -> None:
    write_sysu(tmp_path)
    for camera in cameras:
        for person in people:
            shutil.rmtree(tmp_path / f"cam{camera}" / f"{person:04d}")
    with pytest.raises(UserError, match=message):
        read_sysu(tmp_path)


def test_missing_root_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no such file or folder.*cam1 to cam6"):
        read_sysu(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not layout sysu"):
        read_sysu(tmp_path)


@pytest.mark.parametrize("path", golden_files("protocol_sysu*.json"), ids=lambda p: p.stem)
def test_recorded_protocol(path: Path, tmp_path: Path) -> None:
    recorded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for folder, names in recorded["tree"].items():
        for name in names:
            write_image(tmp_path / folder / name, f"{folder}/{name}")
    write_sysu(tmp_path, train=(9001,), val=(9002,), test=())
    write_text(tmp_path / "exp" / "test_id.txt", recorded["exp_test_id_txt"])
    test = read_sysu(tmp_path).test
    assert test is not None
    labelled = list(zip(test.images, test.identities, strict=True))

    queries = [(image, identity) for image, identity in labelled if image.modality is Modality.INFRARED]
    for expected in recorded["query"].values():
        assert _relative(tuple(image for image, _ in queries), tmp_path) == expected["files"]
        assert [identity for _, identity in queries] == expected["pids"]
        assert [image.camera for image, _ in queries] == expected["camids"]

    cameras = {"all": (1, 2, 4, 5), "indoor": (1, 2)}
    for mode, trials in recorded["gallery"].items():
        for trial, expected in trials.items():
            groups: dict[tuple[int, int | None], list[ImageRecord]] = {}
            for image, identity in labelled:
                if image.camera in cameras[mode]:
                    groups.setdefault((identity, image.camera), []).append(image)
            draw = random.Random(int(trial))
            drawn = tuple(draw.choice(group) for group in groups.values())
            assert _relative(drawn, tmp_path) == expected["files"]
            assert [identity for identity, _ in groups] == expected["pids"]
