from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pclhd.data.images import decode_image, load_images, open_rgb
from pclhd.errors import UserError
from tests.data.fake_layouts import write_image


def _png_header_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels: what a decompression bomb looks like from outside."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_shape_dtype_and_channel_order(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (5, 7), (200, 100, 0)).save(path)
    image = decode_image(path, 12, 6, resample="bicubic")
    assert image.shape == (3, 12, 6)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert [int(channel.min()) for channel in image] == [200, 100, 0]
    assert [int(channel.max()) for channel in image] == [200, 100, 0]


def test_right_size_is_left_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.bmp")
    for resample in ("bicubic", "lanczos"):
        image = decode_image(tmp_path / "a.bmp", 9, 4, resample=resample)
        np.testing.assert_array_equal(image, pixels.transpose(2, 0, 1))


@settings(max_examples=20, deadline=None)
@given(value=st.integers(0, 255), height=st.integers(1, 20), width=st.integers(1, 20))
def test_flat_images_stay_flat_at_any_size(
    tmp_path_factory: pytest.TempPathFactory, value: int, height: int, width: int
) -> None:
    path = tmp_path_factory.mktemp("flat") / "a.png"
    Image.new("RGB", (6, 5), (value, value, value)).save(path)
    image = decode_image(path, height, width, resample="lanczos")
    assert image.shape == (3, height, width)
    assert set(image.flatten().tolist()) == {value}


def test_the_filter_is_the_one_asked_for(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", "a")
    plain = Image.open(tmp_path / "a.png")
    for resample, twin in (("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)):
        image = decode_image(tmp_path / "a.png", 5, 3, resample=resample)  # type: ignore[arg-type]
        np.testing.assert_array_equal(image, np.asarray(plain.resize((3, 5), twin)).transpose(2, 0, 1))
    bicubic = decode_image(tmp_path / "a.png", 5, 3, resample="bicubic")
    assert (bicubic != decode_image(tmp_path / "a.png", 5, 3, resample="lanczos")).any()


def test_grey_is_copied_to_three_channels(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(4, 3) * 20
    Image.fromarray(grey).save(tmp_path / "a.png")
    image = decode_image(tmp_path / "a.png", 4, 3, resample="bicubic")
    np.testing.assert_array_equal(image, np.stack([grey] * 3))


def test_sixteen_bit_grey_is_scaled(tmp_path: Path) -> None:
    wide = np.array([[0, 128, 129, 257], [30000, 65534, 65535, 300]], dtype=np.uint16)
    Image.fromarray(wide).save(tmp_path / "a.png")
    image = decode_image(tmp_path / "a.png", 2, 4, resample="bicubic")
    expected = [[round(int(value) * 255 / 65535) for value in row] for row in wide]
    np.testing.assert_array_equal(image, np.array([expected] * 3))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (3, 4), (255, 255, 255)).convert(mode).save(tmp_path / "a.png")
    image = decode_image(tmp_path / "a.png", 4, 3, resample="bicubic")
    assert set(image.flatten().tolist()) == {255}


def test_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([9, 9, 9, 10, 20, 30])
    image.save(tmp_path / "a.png", transparency=bytes([255, 0]))
    assert decode_image(tmp_path / "a.png", 2, 2, resample="bicubic")[:, 0, 0].tolist() == [10, 20, 30]


def test_transparency_is_dropped_without_blending(tmp_path: Path) -> None:
    Image.new("RGBA", (3, 4), (10, 20, 30, 0)).save(tmp_path / "a.png")
    image = decode_image(tmp_path / "a.png", 4, 3, resample="bicubic")
    assert image[:, 0, 0].tolist() == [10, 20, 30]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert decode_image(tmp_path / "a.jpg", 16, 16, resample="bicubic").min() > 250


def test_noted_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 16)).save(tmp_path / "a.jpg", exif=exif)
    assert open_rgb(tmp_path / "a.jpg").size == (8, 16)


def test_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty\.jpg: .*the file is empty"):
        decode_image(tmp_path / "empty.jpg", 4, 4, resample="bicubic")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.jpg: cannot be decoded \(No such file"):
        decode_image(tmp_path / "gone.jpg", 4, 4, resample="bicubic")


@pytest.mark.parametrize("kind", ["jpg", "png", "bmp"])
def test_truncated_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"cut.{kind}"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"cut\.{kind}: cannot be decoded"):
        decode_image(path, 8, 8, resample="bicubic")


@settings(max_examples=30, deadline=None)
@given(position=st.integers(0, 400), value=st.integers(0, 255))
def test_a_damaged_byte_gives_an_image_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.png"
    write_image(path, "damaged")
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content)
    try:
        image = decode_image(path, 4, 4, resample="bicubic")
    except UserError as error:
        outcome = str(error)
    else:
        outcome = f"{path} {image.shape}"
    assert outcome.startswith(str(path))


def test_text_and_foreign_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.jpg", format="EPS")
    Image.new("RGB", (4, 4)).save(tmp_path / "c.jpg", format="PDF")
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        with pytest.raises(UserError, match=f"{name}: not an image of a known format"):
            decode_image(tmp_path / name, 4, 4, resample="bicubic")


@pytest.mark.parametrize("side", [7_100, 50_000])
def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(_png_header_of_size(side, side))
    with pytest.raises(UserError, match=r"bomb\.png: .*50,000,000 "):
        decode_image(tmp_path / "bomb.png", 4, 4, resample="bicubic")


def test_wrong_arguments(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", "a")
    with pytest.raises(ValueError, match="got 0 and 4"):
        decode_image(tmp_path / "a.png", 0, 4, resample="bicubic")
    wrong: Any = "nearest"
    with pytest.raises(ValueError, match="nearest"):
        decode_image(tmp_path / "a.png", 4, 4, resample=wrong)
    with pytest.raises(ValueError, match="-1"):
        load_images([], 4, 4, resample="bicubic", workers=-1)


@pytest.mark.parametrize("resample", ["bicubic", "lanczos"])
def test_rows_in_order_for_any_number_of_workers(tmp_path: Path, resample: Literal["bicubic", "lanczos"]) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(25)]
    for path in paths:
        write_image(path, path.name)
    expected = np.stack([decode_image(path, 6, 5, resample=resample) for path in paths])
    for workers in (0, 1, 4):
        np.testing.assert_array_equal(load_images(paths, 6, 5, resample=resample, workers=workers), expected)


def test_no_images_and_one_image(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", "a")
    for workers in (0, 2):
        assert load_images([], 6, 5, resample="bicubic", workers=workers).shape == (0, 3, 6, 5)
        assert load_images([tmp_path / "a.png"], 6, 5, resample="bicubic", workers=workers).shape == (1, 3, 6, 5)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_first_broken_file_is_named(tmp_path: Path, workers: int) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    for number, path in enumerate(paths):
        if number in (5, 9):
            path.write_bytes(b"")
        else:
            write_image(path, path.name)
    with pytest.raises(UserError, match=r"5\.png"):
        load_images(paths, 6, 5, resample="bicubic", workers=workers)
