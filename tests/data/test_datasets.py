from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pclhd.data.datasets import ModalityImages, load_training_images
from pclhd.data.images import decode_image
from pclhd.data.records import ImageRecord, Modality, TrainingSet, make_training_set
from pclhd.data.stretch import Stretch
from pclhd.errors import UserError
from pclhd.pair import Pair
from tests.data.fake_layouts import write_image

CAMERAS = {Modality.VISIBLE: (1, 2), Modality.INFRARED: (3,)}


def make_set(root: Path, *, no_camera: Modality | None = None) -> TrainingSet:
    records = []
    for modality, cameras in CAMERAS.items():
        for camera in cameras:
            for number in range(3):
                path = root / f"{camera}-{number}.png"
                write_image(path, path.name)
                unknown = modality is no_camera and number == 1
                records.append(ImageRecord(path, modality, None if unknown else camera))
    return make_training_set(records)[0]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_rows_are_those_of_the_training_set(tmp_path: Path, workers: int) -> None:
    training_set = make_set(tmp_path)
    images = load_training_images(training_set, 16, 8, workers=workers)
    for part, modality in ((images.visible, Modality.VISIBLE), (images.infrared, Modality.INFRARED)):
        records = [record for record in training_set.images if record.modality is modality]
        assert len(part) == len(records)
        assert part.cameras is not None
        assert part.cameras.tolist() == [record.camera for record in records]
        for row, record in zip(part.images, records, strict=True):
            np.testing.assert_array_equal(row.numpy(), decode_image(record.path, 16, 8, resample="bicubic"))


def test_cameras_are_known_for_all_or_not_at_all(tmp_path: Path) -> None:
    images = load_training_images(make_set(tmp_path, no_camera=Modality.VISIBLE), 8, 4)
    assert images.visible.cameras is None
    assert images.infrared.cameras is not None


def test_both_modalities_are_needed(tmp_path: Path) -> None:
    whole = make_set(tmp_path)
    kept = [record for record in whole.images if record.modality is Modality.VISIBLE]
    with pytest.raises(UserError, match="no infrared image"):
        load_training_images(make_training_set(kept)[0], 8, 4)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    training_set = make_set(tmp_path)
    training_set.images[2].path.write_bytes(b"")
    with pytest.raises(UserError, match=training_set.images[2].path.name):
        load_training_images(training_set, 8, 4)


def test_there_is_no_place_for_an_identity() -> None:
    assert {field.name for field in dataclasses.fields(ModalityImages)} == {"images", "cameras"}
    assert Pair._fields == ("visible", "infrared")


def test_your_own_images_are_turned_and_wide_grey_is_stretched(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    pixels = np.random.default_rng(0).integers(0, 256, (9, 5, 3), dtype=np.uint8)
    wide = np.random.default_rng(0).integers(1000, 2000, (9, 5)).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "v.png", exif=exif)
    Image.fromarray(wide).save(tmp_path / "i.png")
    for upright in (False, True):
        records = [
            ImageRecord(tmp_path / "v.png", Modality.VISIBLE, upright=upright),
            ImageRecord(tmp_path / "i.png", Modality.INFRARED, upright=upright),
        ]
        stretch = Stretch(1000, 2000)
        loaded = load_training_images(make_training_set(records)[0], 9, 5, stretches={Modality.INFRARED: stretch})
        turned = pixels[::-1, ::-1] if upright else pixels
        assert np.array_equal(loaded.visible.images[0], turned.transpose(2, 0, 1))
        assert np.array_equal(loaded.infrared.images[0, 0], stretch.to_bytes(wide))
