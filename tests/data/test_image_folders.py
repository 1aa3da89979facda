"""What the walk through folders takes, and what it passes over."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pclhd.data.folder import read_folders, read_own
from pclhd.data.image_folders import images_anywhere_in, images_directly_in
from pclhd.data.image_formats import readable_formats
from pclhd.data.llcm import read_llcm
from pclhd.data.passed_over import Passed, PassedOver, Reason, printable
from pclhd.data.regdb import read_regdb
from pclhd.data.sysu import read_sysu
from pclhd.errors import UserError
from tests.data.fake_layouts import write_image, write_llcm, write_regdb, write_sysu, write_text

FORMATS = {
    "JPEG": "a.jpg",
    "PNG": "b.png",
    "BMP": "c.bmp",
    "WEBP": "d.webp",
    "TIFF": "e.tif",
    "GIF": "f.gif",
    "PPM": "g.ppm",
    "JPEG2000": "h.jp2",
    "AVIF": "i.avif",
}


def _names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in images_anywhere_in(root).paths]


def _counts(passed: PassedOver) -> dict[str, int]:
    return {str(reason): count for reason, count in passed.counts.items()}


def _own(root: Path) -> Path:
    for folder in ("visible", "infrared"):
        for number in range(3):
            write_image(root / folder / f"{number}.png", f"{folder} {number}")
    return root


def _only_for_users() -> None:
    if os.name == "nt" or os.geteuid() == 0:
        pytest.skip("root may read everything")


@pytest.mark.parametrize(
    "hidden",
    [".thumbnails", "@eaDir", ".ipynb_checkpoints", ".Trash-1000", "__MACOSX", "#recycle", "@__thumb", "deep/.cache"],
)
def test_hidden_folders_are_no_data(tmp_path: Path, hidden: str) -> None:
    write_image(tmp_path / "0.png", "0")
    write_image(tmp_path / hidden / "more" / "0.png", "small")
    write_text(tmp_path / hidden / "index.txt", "x")
    assert _names(tmp_path) == ["0.png"]
    assert _counts(images_anywhere_in(tmp_path).passed_over) == {"hidden": 2}


def test_files_are_recognised_by_content(tmp_path: Path) -> None:
    kinds = {kind: name for kind, name in FORMATS.items() if kind in readable_formats()}
    assert len(kinds) >= 7
    for kind, name in kinds.items():
        image = Image.new("RGB", (8, 8), (40, 80, 120))
        image.save(tmp_path / name, format=kind)
        image.save(tmp_path / f"{name[0]}_without", format=kind)
    write_text(tmp_path / "notes.txt", "BM is how a bitmap begins")
    write_text(tmp_path / "P5", "P5 is a name")
    (tmp_path / "empty").write_bytes(b"")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.nef", format="TIFF")
    assert len(_names(tmp_path)) == 2 * len(kinds)
    assert _counts(images_anywhere_in(tmp_path).passed_over) == {"not an image": 4}


def test_a_file_named_like_an_image_is_never_passed_over(tmp_path: Path) -> None:
    write_text(tmp_path / "broken.jpg", "no image")
    assert _names(tmp_path) == ["broken.jpg"]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere" / "far" / "1.png", "1")
    write_image(tmp_path / "data" / "b" / "2.png", "2")
    (tmp_path / "data" / "a").symlink_to(tmp_path / "data" / "b", target_is_directory=True)
    (tmp_path / "data" / "c").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data" / "d").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data" / "e.png").symlink_to(tmp_path / "data" / "b" / "2.png")
    assert _names(tmp_path / "data") == ["b/2.png", "c/far/1.png", "e.png"]
    passed = images_anywhere_in(tmp_path / "data").passed
    assert {(one.reason, one.path.name) for one in passed} == {
        (Reason.LINKED_AGAIN, "a"),
        (Reason.LINKED_AGAIN, "d"),
    }


def test_loops_and_broken_links_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "visible"
    write_image(folder / "1.png", "1")
    (folder / "here").symlink_to(folder, target_is_directory=True)
    (folder / "up").symlink_to(tmp_path, target_is_directory=True)
    (folder / "x").symlink_to(folder / "y")
    (folder / "y").symlink_to(folder / "x")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = images_anywhere_in(folder)
    assert [path.name for path in found.paths] == ["1.png"]
    assert _counts(found.passed_over) == {"linked again or in a loop": 4, "broken link": 1}
    assert _counts(images_directly_in(folder).passed_over) == {"linked again or in a loop": 4, "broken link": 1}


def test_links_between_the_modalities_are_refused(tmp_path: Path) -> None:
    _own(tmp_path)
    (tmp_path / "visible" / "more").symlink_to(tmp_path / "infrared", target_is_directory=True)
    with pytest.raises(UserError, match=r"infrared: links lead to it from both"):
        read_own(tmp_path)


def test_pipes_are_passed_over_without_opening_them(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png", "1")
    os.mkfifo(tmp_path / "2.png")
    os.mkfifo(tmp_path / "3")
    (tmp_path / "4.png").symlink_to("/dev/zero")
    assert _names(tmp_path) == ["1.png"]
    assert _counts(images_anywhere_in(tmp_path).passed_over) == {"not a regular file": 3}


@pytest.mark.parametrize("mode", [0o000, 0o300])
def test_an_unreadable_folder_is_an_error(tmp_path: Path, mode: int) -> None:
    _only_for_users()
    _own(tmp_path)
    write_image(tmp_path / "visible" / "site" / "9.png", "9")
    (tmp_path / "visible" / "site").chmod(mode)
    try:
        with pytest.raises(UserError, match=r"visible/site: cannot be read \(Permission denied\)"):
            read_own(tmp_path)
    finally:
        (tmp_path / "visible" / "site").chmod(0o700)


def test_an_error_while_listing_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for root, who may read everything."""
    _own(tmp_path)
    write_image(tmp_path / "visible" / "site" / "9.png", "9")
    real = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "site":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(
        UserError, match=r"visible/site: cannot be read \(Permission denied\); make the folder readable"
    ):
        read_own(tmp_path)


def test_a_missing_path_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"someone\.jpg: no such file or folder"):
        images_anywhere_in(tmp_path / "someone.jpg")


def test_own_folders_return_what_they_passed_over(tmp_path: Path) -> None:
    _own(tmp_path)
    write_text(tmp_path / "visible" / "readme.txt", "x")
    write_image(tmp_path / "visible" / ".small.png", "small")
    write_image(tmp_path / "thermal" / "7.png", "7")
    write_image(tmp_path / "plan.png", "plan")
    shutil.copy(tmp_path / "visible" / "1.png", tmp_path / "visible" / "1 (copy).png")
    dataset = read_own(tmp_path)
    assert len(dataset.train) == 6
    assert len(dataset.train.digests) == 6
    assert _counts(dataset.passed_over) == {
        "hidden": 1,
        "not an image": 1,
        "outside visible and infrared": 2,
        "double": 1,
    }
    assert dataset.passed_over.examples[Reason.DOUBLE] == (tmp_path / "visible" / "1.png",)
    assert dataset.passed_over.summary() == (
        "passed over: 5 files (1 hidden, 1 not an image, 2 outside visible and infrared, 1 double)"
    )


def test_the_same_bytes_in_both_modalities_are_two_images(tmp_path: Path) -> None:
    _own(tmp_path)
    shutil.copy(tmp_path / "visible" / "1.png", tmp_path / "infrared" / "9.png")
    assert len(read_folders(tmp_path / "visible", tmp_path / "infrared").train) == 7


def test_sysu_returns_what_it_passed_over(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    whole = read_sysu(tmp_path)
    assert not whole.passed_over
    write_image(tmp_path / "cam7" / "0001" / "1.png", "7")
    write_image(tmp_path / "cam1" / "0099" / "1.png", "99")
    write_image(tmp_path / "cam1" / "-1" / "1.png", "junk")
    write_image(tmp_path / "cam1" / "0001" / "more" / "1.png", "more")
    write_text(tmp_path / "cam1" / "0005" / "Thumbs.db", "x")
    write_text(tmp_path / "cam1" / "list.txt", "x")
    write_image(tmp_path / "cam2" / "0012" / "._1.jpg", "x")
    dataset = read_sysu(tmp_path)
    assert (dataset.train, dataset.test) == (whole.train, whole.test)
    assert _counts(dataset.passed_over) == {
        "hidden": 1,
        "not an image": 2,
        "in a subfolder": 1,
        "in no list": 1,
        "of another camera": 1,
        "junk": 1,
    }


def test_regdb_returns_what_it_passed_over(tmp_path: Path) -> None:
    write_regdb(tmp_path)
    assert not read_regdb(tmp_path).passed_over
    write_image(tmp_path / "Visible" / "77" / "visible_0.bmp", "77")
    path = tmp_path / "idx" / "test_thermal_1.txt"
    write_text(path, path.read_text().replace("thermal_0.bmp 1", "thermal_0.bmp -1"))
    dataset = read_regdb(tmp_path)
    assert _counts(dataset.passed_over) == {"in no list": 1, "junk": 1}
    assert dataset.test is not None
    assert dataset.test.roles is not None
    assert dataset.test.roles.count("junk") == 1


def test_llcm_returns_what_it_passed_over(tmp_path: Path) -> None:
    write_llcm(tmp_path)
    assert _counts(read_llcm(tmp_path).passed_over) == {"of another camera": 2}  # its infrared camera 3
    write_image(tmp_path / "vis" / "0001" / "0001_c02_s9_f9_vis.jpg", "new")
    write_image(tmp_path / "test_vis" / "cam1" / "0077" / "0077_c01_s9_f9_vis.jpg", "77")
    assert _counts(read_llcm(tmp_path).passed_over) == {"in no list": 2, "of another camera": 2}


def test_csv_returns_what_it_passed_over(tmp_path: Path) -> None:
    _own(tmp_path)
    write_image(tmp_path / "unused" / "1.png", "unused")
    rows = ["path,modality", "visible/0.png,visible", "infrared/0.png,infrared", "visible/0.png,visible"]
    write_text(tmp_path / "images.csv", "\n".join(rows))
    dataset = read_own(tmp_path)
    assert len(dataset.train) == 2
    assert _counts(dataset.passed_over) == {"in no list": 4, "double": 1}


def test_counts_examples_and_words() -> None:
    passed = PassedOver.of(
        [*(Passed(Reason.NOT_AN_IMAGE, Path(f"{n}.txt")) for n in range(9)), Passed(Reason.HIDDEN, Path("h"), 1200)]
    )
    assert passed.summary() == "passed over: 1,209 files (1,200 hidden, 9 not an image)"
    assert passed.lines(Path("x")) == ["hidden: h, …", "not an image: 0.txt, 1.txt, 2.txt, …"]
    assert passed.to_dict() == {
        "files": 1209,
        "counts": {"hidden": 1200, "not an image": 9},
        "examples": {"hidden": ["h"], "not an image": ["0.txt", "1.txt", "2.txt"]},
    }
    assert PassedOver().summary() == "passed over: nothing"
    assert not PassedOver.of([Passed(Reason.HIDDEN, Path("h"), 0)])
    once = PassedOver.of([Passed(Reason.JUNK, Path("j"))])
    assert (once + once).counts == {Reason.JUNK: 2}
    assert once.summary() == "passed over: 1 file (1 junk)"


def test_names_that_are_not_utf8_can_be_printed() -> None:
    assert printable(Path(os.fsdecode(b"a/\xff.jpg"))) == "a/\\xff.jpg"
