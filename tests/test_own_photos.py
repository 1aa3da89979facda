"""Your own images from a phone's photo folders and a thermal camera, from the check to the report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pclhd.data.records import Modality
from pclhd.synthetic import draw_population
from tests.commands import Call

PEOPLE, EACH = 6, 6
#: How a phone holds pictures: some turned, each with a note that says how to turn it back.
TURNS = {1: 0, 6: 1, 3: 2, 8: 3}
PLACES = ("DCIM/100APPLE/IMG_{:04}.JPG", "Camera/20240501_{:06}.jpg", "WhatsApp Images/IMG-{:04}.webp", "misc/{}.png")
SHORT = ["schedule.iterations=2", "schedule.stage1_epochs=1", "schedule.stage2_epochs=1"]


def _save(pixels: NDArray[np.uint8], path: Path, number: int) -> None:
    """One photo: of one of several sizes, turned in one of four ways."""
    orientation = list(TURNS)[number % 4]
    scale = 1 + number % 3
    turned = np.rot90(pixels.transpose(1, 2, 0).repeat(scale, axis=0).repeat(scale, axis=1), TURNS[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(turned)).save(path, exif=exif, quality=92)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos in two folders, with all that lies among them."""
    root = tmp_path / "My photos"
    for modality in Modality:
        pixels, _ = draw_population(PEOPLE, EACH, modality=modality, seed=5, population="starter", height=96, width=48)
        for number, image in enumerate(pixels):
            _save(image, root / modality / PLACES[number % 4].format(number), number)
    phone = root / "visible" / "DCIM" / "100APPLE"
    shutil.copy(phone / "IMG_0000.JPG", phone / "IMG_0000 (1).JPG")
    shutil.copy(phone / "IMG_0004.JPG", root / "visible" / "WhatsApp Images" / "IMG-20240501-WA0001.jpg")
    (phone / "IMG_0000.AAE").write_text("<plist/>")
    (phone / "IMG_0001.MOV").write_bytes(b"\0\0\0\x14ftypqt  " + bytes(100))
    (root / "visible" / "Camera" / "VID_1.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    (root / "visible" / "Camera" / "notes.txt").write_text("x")
    thumbnails = root / "visible" / ".thumbnails"
    thumbnails.mkdir()
    Image.new("RGB", (8, 16)).save(thumbnails / "1.jpg")
    (root / "infrared" / ".nomedia").touch()
    return root


@pytest.mark.slow
def test_photos_of_a_phone_from_the_check_to_the_report(pclhd: Call, photos: Path, tmp_path: Path) -> None:
    heic = photos / "visible" / "DCIM" / "100APPLE" / "IMG_0009.HEIC"
    heic.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    run = tmp_path / "run"
    small = [
        "model.architecture=narrow",
        "model.weights=starter",
        "data.height=96",
        "data.width=48",
        "batch.clusters=4",
    ]
    train = ["train", "own", *small, "batch.instances=4", *SHORT, "--data", photos, "--out", run]
    found = pclhd("check", photos)
    if found.code != 0:  # no plugin for HEIC here
        assert f"problem: {heic}: a HEIC image, which needs a plugin; pip install pillow-heif" in found.out
        refused = pclhd(*train)
        note, line = refused.err.splitlines()
        assert refused.code == 2
        assert note == "note: passed over: 8 files (2 hidden, 4 not an image, 2 double)"
        assert line.startswith(f"pclhd: {heic}: a HEIC image, which needs a plugin; pip install pillow-heif")
        assert not run.exists()
    heic.unlink()

    found = pclhd("check", photos, "--json")
    assert found.code == 0, found.out
    report = json.loads(found.out)
    assert {row["modality"]: row["images"] for row in report["counts"] if row["camera"] == "all"} == {
        "visible": PEOPLE * EACH,
        "infrared": PEOPLE * EACH,
    }
    counts = report["passed_over"]["counts"]
    assert counts == {"hidden": 2, "not an image": 4, "double": 2}

    trained = pclhd(*train)
    assert trained.code == 0, trained.err
    assert "passed over: 8 files (2 hidden, 4 not an image, 2 double)" in trained.err
    assert f"{PEOPLE * EACH} visible and {PEOPLE * EACH} infrared images" in trained.out

    # The same pictures, stored upright: an embedding does not depend on how a phone was held.
    upright = tmp_path / "upright"
    upright.mkdir()
    for path in sorted((photos / "visible" / "misc").iterdir()):
        with Image.open(path) as image:
            turn = image.getexif()[0x0112]
            pixels = np.rot90(np.asarray(image), -TURNS[turn])
        Image.fromarray(np.ascontiguousarray(pixels)).save(upright / path.name)
    embedded = []
    for folder in (photos / "visible" / "misc", upright):
        out = tmp_path / f"{folder.name}.npy"
        done = pclhd("embed", run, "--images", folder, "--modality", "visible", "--out", out)
        assert done.code == 0, done.err
        embedded.append(np.load(out))
    np.testing.assert_array_equal(*embedded)

    unmeasured = pclhd("evaluate", run)
    assert unmeasured.code == 2
    assert "has no labelled test images to evaluate on" in unmeasured.err
    assert unmeasured.err.endswith(f"pclhd report {run}\n")
    reported = pclhd("report", run)
    assert reported.code == 0, reported.err
    page = (run / "report" / "index.html").read_text("utf-8")
    assert "pclhd evaluate" not in page  # it would refuse
    assert "No identity label of this data was used in training" in page
