from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pclhd.data import values as module
from pclhd.data.check import check_dataset
from pclhd.data.images import open_rgb
from pclhd.data.records import ImageRecord, Modality
from pclhd.data.stretch import Stretch
from pclhd.data.values import look_at_values, measure_stretch, used_levels
from pclhd.errors import UserError

RANDOM = np.random.default_rng(0)


def _save(path: Path, pixels: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def _colour(height: int = 24, width: int = 12) -> NDArray[np.uint8]:
    return RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)


def _grey(height: int = 24, width: int = 12) -> NDArray[np.uint8]:
    return RANDOM.integers(0, 256, (height, width), dtype=np.uint8)


def _own(root: Path, visible: list[NDArray[np.generic]], infrared: list[NDArray[np.generic]]) -> Path:
    for folder, images in (("visible", visible), ("infrared", infrared)):
        for number, pixels in enumerate(images):
            _save(root / folder / f"{number}.png", pixels)
    return root


def _plenty(number: int = 4) -> tuple[list[NDArray[np.generic]], list[NDArray[np.generic]]]:
    return [_colour() for _ in range(number)], [_grey() for _ in range(number)]


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_sensors_of_few_bits_fill_the_range(tmp_path: Path, bits: int) -> None:
    images = [RANDOM.integers(0, 2**bits, (40, 20)).astype(np.uint16) for _ in range(5)]
    paths = [_save(tmp_path / f"{number}.png", pixels) for number, pixels in enumerate(images)]
    stretch = measure_stretch(paths)
    assert stretch is not None
    assert 0 <= stretch.low < 2**bits / 100
    assert 0.99 * 2**bits < stretch.high < 2**bits
    plain = {level for path in paths for level in np.asarray(open_rgb(path)).flatten().tolist()}
    spread = {level for path in paths for level in np.asarray(open_rgb(path, stretch=stretch)).flatten().tolist()}
    assert len(plain) <= 2 ** (bits - 8) + 1
    assert len(spread) > 250


def test_raw_thermal_counts_with_a_dead_pixel(tmp_path: Path) -> None:
    images = [RANDOM.integers(29_000, 31_000, (40, 50)).astype(np.uint16) for _ in range(4)]
    images[0][0, 0], images[1][0, 0] = 0, 65535
    paths = [_save(tmp_path / f"{number}.tif", pixels) for number, pixels in enumerate(images)]
    stretch = measure_stretch(paths)
    assert stretch is not None
    assert 29_000 <= stretch.low < 29_100
    assert 30_900 < stretch.high < 31_000


def test_floating_point_temperatures(tmp_path: Path) -> None:
    pixels = RANDOM.uniform(20, 40, (40, 50)).astype(np.float32)
    pixels[3, 3] = np.nan
    stretch = measure_stretch([_save(tmp_path / "a.tif", pixels)])
    assert stretch is not None
    assert 20 <= stretch.low < stretch.high <= 40


def test_the_range_is_that_of_all_images_together(tmp_path: Path) -> None:
    dark = _save(tmp_path / "dark.png", RANDOM.integers(0, 100, (40, 20)).astype(np.uint16))
    bright = _save(tmp_path / "bright.png", RANDOM.integers(3000, 4000, (40, 20)).astype(np.uint16))
    stretch = measure_stretch([dark, bright])
    assert stretch is not None
    assert np.asarray(open_rgb(dark, stretch=stretch)).max() < 10
    assert np.asarray(open_rgb(bright, stretch=stretch)).min() > 180


def test_the_sample_is_bounded_and_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [_save(tmp_path / f"{n}.png", np.full((9, 9), n, dtype=np.uint16) * 100) for n in range(10)]
    monkeypatch.setattr(module, "SAMPLED_IMAGES", 5)
    monkeypatch.setattr(module, "SAMPLED_PIXELS", 16)
    assert measure_stretch(paths, workers=1) == measure_stretch(paths, workers=3) == Stretch(0, 800)


def test_nothing_to_stretch(tmp_path: Path) -> None:
    assert measure_stretch([]) is None
    assert measure_stretch([_save(tmp_path / "a.png", _grey()), _save(tmp_path / "b.png", _colour())]) is None
    assert measure_stretch([_save(tmp_path / "c.png", np.full((4, 4), 700, dtype=np.uint16))]) is None


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.png"):
        measure_stretch([tmp_path / "a.png"])


def test_values_of_an_image(tmp_path: Path) -> None:
    pixels = np.zeros((10, 10, 3), dtype=np.uint8)
    pixels[:5] = (90, 40, 10)
    found = look_at_values(ImageRecord(_save(tmp_path / "a.png", pixels), Modality.VISIBLE))
    assert (found.width, found.height, found.wide, found.low, found.high) == (10, 10, False, 0, 90)
    assert found.colour == 40
    assert used_levels([found]) == 2
    assert used_levels([]) == 0


def test_sound_images_give_no_note(tmp_path: Path) -> None:
    report = check_dataset("own", _own(tmp_path, *_plenty()))
    assert (report.problems, report.notes) == ((), ())


@pytest.mark.parametrize("bits", [10, 12])
def test_few_levels_are_said(tmp_path: Path, bits: int) -> None:
    visible, infrared = _plenty()
    infrared = [RANDOM.integers(0, 2**bits, (24, 12)).astype(np.uint16) for _ in infrared]
    (note,) = check_dataset("own", _own(tmp_path, visible, infrared)).notes
    assert note.startswith("infrared images use ")
    assert note.endswith(f"{bits} of 16 bits")
    assert int(note.split()[3]) <= 2 ** (bits - 8) + 1


def test_a_dark_modality_of_eight_bits_is_said(tmp_path: Path) -> None:
    visible, infrared = _plenty()
    _own(tmp_path, visible, [(pixels // 8).astype(np.uint8) for pixels in infrared])
    assert check_dataset("own", tmp_path).notes == ("infrared images use 32 of 255 levels",)


def test_mixed_depths_are_said(tmp_path: Path) -> None:
    visible, infrared = _plenty()
    _own(tmp_path, visible, [*infrared, RANDOM.integers(0, 65536, (24, 12)).astype(np.uint16)])
    assert check_dataset("own", tmp_path).notes == (
        "infrared images: 1 of 5 have more than 8 bits, the others 8; store all alike",
    )


def test_constant_tiny_and_grey_images_are_said(tmp_path: Path) -> None:
    visible, infrared = _plenty()
    _own(tmp_path, [*visible, _grey()], [*infrared, np.full((9, 9), 7, dtype=np.uint8), _grey(1, 5)])
    assert check_dataset("own", tmp_path).notes == (
        f"1 constant image (all pixels equal): {tmp_path}/infrared/4.png",
        f"1 image with a side below 4 pixels: {tmp_path}/infrared/5.png",
        f"1 grey image among the visible ones: {tmp_path}/visible/4.png",
    )


def test_swapped_folders_are_a_problem(tmp_path: Path) -> None:
    visible, infrared = _plenty()
    report = check_dataset("own", _own(tmp_path, infrared, visible))
    assert not report.ok
    assert report.problems == (
        "all 4 visible images are grey, and 4 of 4 infrared ones are coloured: the two are probably swapped",
    )


def test_grey_images_of_both_kinds_are_no_swap(tmp_path: Path) -> None:
    _, infrared = _plenty()
    report = check_dataset("own", _own(tmp_path, [_grey() for _ in range(4)], infrared))
    assert report.ok
    assert report.notes[0].startswith("4 grey images among the visible ones: ")
    assert report.notes[0].endswith(", …")


def test_very_unequal_modalities_are_said(tmp_path: Path) -> None:
    visible, infrared = _plenty(11)
    report = check_dataset("own", _own(tmp_path, visible, infrared[:1]))
    assert report.notes == ("very unequal modalities: 11 visible and 1 infrared images",)


def test_nothing_is_said_of_pixels_that_were_not_read(tmp_path: Path) -> None:
    visible, infrared = _plenty()
    assert check_dataset("own", _own(tmp_path, infrared, visible), decode=False).ok
