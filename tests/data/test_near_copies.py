from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pclhd.data.images import fit_image, open_rgb
from pclhd.data.near_copies import NEAR_COPY_BITS, image_hashes, nearest_hashes

HEIGHT, WIDTH = 96, 48


def slow_hash(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cell by cell, from the definition."""
    grey = np.tensordot([0.299, 0.587, 0.114], image.astype(np.float64), axes=1)

    def mean(row: int, column: int, rows: int, columns: int) -> float:
        y = [round(HEIGHT * (row + step) / rows) for step in (0, 1)]
        x = [round(WIDTH * (column + step) / columns) for step in (0, 1)]
        return float(grey[y[0] : y[1], x[0] : x[1]].mean())

    right = [mean(r, c + 1, 16, 9) > mean(r, c, 16, 9) for r in range(16) for c in range(8)]
    down = [mean(r + 1, c, 17, 8) > mean(r, c, 17, 8) for r in range(16) for c in range(8)]
    return np.packbits(right + down)


@pytest.fixture(scope="module")
def people(tiny_sysu: Path) -> list[Path]:
    return sorted(tiny_sysu.glob("cam*/*/*.jpg"))


def decode(image: Image.Image) -> NDArray[np.uint8]:
    return fit_image(image, HEIGHT, WIDTH, resample="bicubic")


def saved_again(image: Image.Image) -> Image.Image:
    memory = io.BytesIO()
    image.resize((2 * image.width, 2 * image.height)).save(memory, "JPEG", quality=70)
    return Image.open(memory).convert("RGB")


def test_nearly_every_picture_saved_again_is_near_and_no_other_is(people: list[Path]) -> None:
    images = [open_rgb(path) for path in people]
    hashes = image_hashes(np.stack([decode(image) for image in images]))
    copies = image_hashes(np.stack([decode(saved_again(image)) for image in images]))
    nearest, bits = nearest_hashes(copies, hashes)
    assert nearest.tolist() == list(range(len(people)))
    assert np.mean(bits <= NEAR_COPY_BITS) > 0.98
    for row in range(len(people)):
        _, others = nearest_hashes(hashes[[row]], np.delete(hashes, row, axis=0))
        assert others[0] > NEAR_COPY_BITS


def test_hashes_and_their_distances__slowly() -> None:
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 256, (7, 3, HEIGHT, WIDTH), dtype=np.uint8)
    hashes = image_hashes(pixels)
    assert np.array_equal(hashes, np.stack([slow_hash(image) for image in pixels]))
    rows, bits = nearest_hashes(hashes[:3], hashes[3:])
    distances = np.unpackbits(hashes[:3, None] ^ hashes[None, 3:], axis=2).sum(axis=2)
    assert np.array_equal(rows, distances.argmin(axis=1))
    assert np.array_equal(bits, distances.min(axis=1))


def test_images_smaller_than_the_grid_none_and_plain_ones() -> None:
    assert image_hashes(np.zeros((0, 3, 16, 8), dtype=np.uint8)).shape == (0, 32)
    small = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 8), dtype=np.uint8)
    hashes = image_hashes(small)
    assert nearest_hashes(hashes, hashes)[1].tolist() == [0, 0]
    assert not image_hashes(np.full((1, 3, 16, 8), 9, dtype=np.uint8)).any()
