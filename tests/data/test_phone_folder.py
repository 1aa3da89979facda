"""Your own images as they come from phones and cameras: the reader, `check` and decoding."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pclhd.data.check import check_dataset
from pclhd.data.datasets import load_training_images
from pclhd.data.image_formats import readable_formats
from pclhd.data.open import open_dataset
from pclhd.data.passed_over import Reason
from pclhd.data.records import Modality
from pclhd.data.values import measure_stretch
from pclhd.errors import UserError
from tests.data.fake_layouts import write_text

HEIGHT, WIDTH = 48, 24
HEIC = b"\0\0\0\x18ftypheic" + b"\0" * 40


def _stripes(seed: int) -> NDArray[np.uint8]:
    """An upright picture that is not the same upside down or on its side."""
    colours = np.random.default_rng(seed).integers(0, 256, (6, 3), dtype=np.uint8)
    return np.repeat(colours, HEIGHT // 6, axis=0)[:, None].repeat(WIDTH, axis=1)


def _photo(path: Path, seed: int, orientation: int, scale: int) -> None:
    """A photo held in some way: stored turned, with a note that says how to turn it back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    back = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]  # quarter turns against the clock that the camera had been given
    pixels = np.rot90(_stripes(seed).repeat(scale, axis=0).repeat(scale, axis=1), back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif, quality=95)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for number, (orientation, name) in enumerate(
        ((1, "DCIM/100APPLE/IMG_0001.JPG"), (6, "DCIM/100APPLE/IMG_0002.jpeg"), (3, "DCIM/101APPLE/IMG_0003.webp"))
    ):
        _photo(root / "visible" / name, number, orientation, 1 + number)
    shutil.copy(root / "visible/DCIM/100APPLE/IMG_0001.JPG", root / "visible/DCIM/100APPLE/IMG_0001 (1).JPG")
    write_text(root / "visible/DCIM/100APPLE/IMG_0001.AAE", "<plist/>")
    write_text(root / "visible/DCIM/100APPLE/IMG_0002.MOV", "a film")
    write_text(root / "visible/.DS_Store", "x")
    _photo(root / "visible/.thumbnails/IMG_0001.jpg", 0, 1, 1)
    for number in range(3):
        counts = np.random.default_rng(number).integers(29_000, 31_000, (HEIGHT, WIDTH)).astype(np.uint16)
        path = root / "infrared" / f"2024-05-1{number}" / f"FLIR{number:04d}"  # without an extension
        path.parent.mkdir(parents=True)
        Image.fromarray(counts).save(path, "TIFF")
    return root


def test_a_folder_from_a_phone(photos: Path) -> None:
    dataset = open_dataset("auto", photos)
    assert [image.modality for image in dataset.train.images].count(Modality.VISIBLE) == 3
    assert dataset.passed_over.counts == {Reason.HIDDEN: 2, Reason.NOT_AN_IMAGE: 2, Reason.DOUBLE: 1}
    report = check_dataset("auto", photos)
    assert report.ok, report.problems
    assert (
        report.notes[-1]
        == "infrared images use 9 of 255 levels: 16-bit files with values 29000 to 30999, 15 of 16 bits"
    )
    assert "passed over: 5 files (2 hidden, 2 not an image, 1 double)" in report.render().splitlines()


def test_its_pixels(photos: Path) -> None:
    dataset = open_dataset("auto", photos)
    infrared = [image.path for image in dataset.train.images if image.modality is Modality.INFRARED]
    stretch = measure_stretch(infrared)
    assert stretch is not None
    loaded = load_training_images(dataset.train, HEIGHT, WIDTH, stretches={Modality.INFRARED: stretch})
    upright = [_stripes(number).transpose(2, 0, 1).astype(int) for number in range(3)]
    for image in loaded.visible.images.numpy().astype(int):
        assert min(np.abs(image - stripes).mean() for stripes in upright) < 6
    levels = np.unique(loaded.infrared.images.numpy())
    assert len(levels) > 250


def test_heic_is_refused_in_one_line(photos: Path) -> None:
    if "HEIF" in readable_formats():
        pytest.skip("the plugin is installed")
    (photos / "visible" / "DCIM" / "IMG_0004.HEIC").write_bytes(HEIC)
    (photos / "visible" / "DCIM" / "IMG_0005").write_bytes(HEIC + b"another")
    report = check_dataset("auto", photos)
    assert [problem.partition(": ")[0].rpartition("/")[2] for problem in report.problems] == [
        "IMG_0004.HEIC",
        "IMG_0005",
    ]
    with pytest.raises(UserError, match=r"IMG_000\d.*: a HEIC image, which needs a plugin; pip install pillow-heif"):
        load_training_images(open_dataset("auto", photos).train, HEIGHT, WIDTH)
