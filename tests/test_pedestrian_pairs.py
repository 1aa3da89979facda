"""Drawn frames in the formats of the pedestrian sets become crops and a list that pclhd reads."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scripts.pedestrian_pairs import Box, frames_of, read_kaist, read_voc, write_pairs

from pclhd.data.open import open_dataset
from pclhd.errors import UserError

ROOT = Path(__file__).parent.parent
VOC = ("Annotations/{frame}.xml", "visible/train/{frame}.jpg", "infrared/train/{frame}.jpg")
KAIST = ("annotations/{folder}/{frame}.txt", "images/{folder}/visible/{frame}.png", "images/{folder}/lwir/{frame}.png")
BOXES = (Box(10, 20, 42, 100), Box(60, 10, 100, 110))


def voc(boxes: tuple[Box, ...], name: str = "person", head: str = "") -> str:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{box.left}</xmin><ymin>{box.top}</ymin><xmax>{box.right}</xmax>"
        f"<ymax>{box.bottom}</ymax></bndbox></object>"
        for box in boxes
    )
    return f'<?xml version="1.0"?>{head}<annotation><size><width>120</width></size>{objects}</annotation>'


def kaist(boxes: tuple[Box, ...], occlusion: int = 0) -> str:
    lines = [
        f"person {box.left} {box.top} {box.right - box.left} {box.bottom - box.top} {occlusion} 0 0 0 0 0 0"
        for box in boxes
    ]
    return "\n".join(["% bbGt version=3", *lines, "people 0 0 9 9 0 0 0 0 0 0 0"]) + "\n"


def draw(path: Path, shade: int, size: tuple[int, int] = (120, 120)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), shade, np.uint8)
    for number, box in enumerate(BOXES):
        pixels[box.top : box.bottom, box.left : box.right] = shade + 20 * (number + 1)
    Image.fromarray(pixels).save(path, quality=95)


def voc_set(root: Path, frames: int = 4) -> Path:
    for number in range(frames):
        name = f"{number:06}"
        draw(root / f"visible/train/{name}.jpg", 10 * number)
        draw(root / f"infrared/train/{name}.jpg", 100 + 10 * number)
        annotation = root / f"Annotations/{name}.xml"
        annotation.parent.mkdir(exist_ok=True)
        annotation.write_text(voc(BOXES))
    return root


def test_voc_becomes_pairs_that_are_read_as_own_data(tmp_path: Path) -> None:
    frames = list(frames_of(voc_set(tmp_path / "set"), *VOC, names=["person"]))
    assert [frame.name for frame in frames] == ["000000", "000001", "000002", "000003"]
    assert write_pairs(frames, tmp_path / "mine", test=0.5) == 8
    data = open_dataset("own", tmp_path / "mine")
    assert len(data.train) == 8
    assert data.test is not None
    assert len(data.test) == 8
    with (tmp_path / "mine/images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted({row["identity"] for row in rows if row["split"] == "test"})[0] == "000002-0"
    for row in rows:
        number, place = row["identity"].split("-")
        with Image.open(tmp_path / "mine" / row["path"]) as crop:
            box = BOXES[int(place)]
            assert crop.size == (box.right - box.left, box.bottom - box.top)
            shade = 10 * int(number) + 20 * (int(place) + 1) + 100 * (row["modality"] == "infrared")
            centre = crop.getpixel((crop.width // 2, crop.height // 2))
        assert isinstance(centre, tuple)
        assert abs(centre[0] - shade) < 6


def test_kaist_becomes_pairs_by_sequence(tmp_path: Path) -> None:
    for folder in ("set00/V000", "set00/V001"):
        draw(tmp_path / f"images/{folder}/visible/I00000.png", 30)
        draw(tmp_path / f"images/{folder}/lwir/I00000.png", 60)
        annotation = tmp_path / f"annotations/{folder}/I00000.txt"
        annotation.parent.mkdir(parents=True)
        annotation.write_text(kaist(BOXES))
    frames = list(frames_of(tmp_path, *KAIST, names=["person"]))
    assert [frame.name for frame in frames] == ["set00-V000-I00000", "set00-V001-I00000"]
    assert all(frame.boxes == BOXES for frame in frames)
    assert write_pairs(frames, tmp_path / "mine", test=0) == 4


def test_kaist_leaves_out_heavily_occluded_people_and_groups(tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    for occlusion, expected in ((1, BOXES), (2, ())):
        path.write_text(kaist(BOXES, occlusion))
        assert read_kaist(path, ["person"]) == expected
    assert len(read_kaist(path, ["people"])) == 1


def test_small_boxes_are_left_out_and_the_others_are_cut_at_the_border(tmp_path: Path) -> None:
    frame = next(frames_of(voc_set(tmp_path / "set", 1), *VOC, names=["person"]))
    boxes = (Box(-20, 50, 30, 500), Box(0, 0, 30, 20))
    assert write_pairs([type(frame)(frame.name, frame.visible, frame.infrared, boxes)], tmp_path / "mine", test=0) == 1
    with Image.open(next((tmp_path / "mine/visible").iterdir())) as crop:
        assert crop.size == (30, 70)


BOMB = '<!DOCTYPE a [<!ENTITY b "person"><!ENTITY c "&b;&b;&b;&b;">]>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (voc(BOXES, "&c;", BOMB).encode(), "document type"),
        (voc(BOXES, "&b;", OUTSIDE).encode(), "document type"),
        (voc(BOXES, "&c;", BOMB).replace("?>", ' encoding="utf-16"?>', 1).encode("utf-16"), "document type"),
        (b"", "not XML"),
        (b"<annotation>", "not XML"),
        (b"\xff\x00\x00", "not XML"),
        (voc((Box(5, 5, 5, 9),)).encode(), "is empty"),
        (voc(BOXES).replace("10", "nan", 1).encode(), "not a number"),
        (voc(BOXES).replace("<xmin>10</xmin>", "").encode(), "not a number"),
        (b"<a>" + b" " * 2**20 + b"</a>", "1 MiB"),
    ],
)
def test_refuses_other_xml_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "one.xml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_voc(path, ["person"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "person 1 2 3 4 0", "% bbGt version=3\nperson 1 2\n", "% bbGt\nperson a b c d 0\n"]
)
def test_refuses_other_text_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "one.txt"
    path.write_text(text)
    with pytest.raises(UserError):
        read_kaist(path, ["person"])


def test_names_what_does_not_fit_and_leaves_nothing(tmp_path: Path) -> None:
    root = voc_set(tmp_path / "set", 2)
    with pytest.raises(UserError, match="no file fits"):
        list(frames_of(root, "labels/{frame}.xml", *VOC[1:], names=["person"]))
    for pattern in ("Annotations/*.xml", "../{frame}.xml"):
        with pytest.raises(UserError, match="--annotations"):
            list(frames_of(root, pattern, *VOC[1:], names=["person"]))
    frames = list(frames_of(root, *VOC, names=["person"]))
    with pytest.raises(UserError, match="no box is 300 pixels high"):
        write_pairs(frames, tmp_path / "mine", least_height=300)
    draw(root / "infrared/train/000001.jpg", 9, (60, 60))
    with pytest.raises(UserError, match="aligned"):
        write_pairs(frames, tmp_path / "mine")
    (root / "infrared/train/000001.jpg").unlink()
    with pytest.raises(UserError, match="no such image"):
        list(frames_of(root, *VOC, names=["person"]))
    assert not (tmp_path / "mine").exists()


def test_the_command(tmp_path: Path) -> None:
    root = voc_set(tmp_path / "set", 2)
    words = [sys.executable, "scripts/pedestrian_pairs.py", str(root), "--out", str(tmp_path / "mine")]
    words += ["--annotations", VOC[0], "--visible", VOC[1], "--infrared", VOC[2]]
    first = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert first.stdout.startswith("4 pairs from 2 frames")
    again = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "already exists" in again.stderr
