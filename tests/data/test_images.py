from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pclhd.data.image_formats import readable_formats
from pclhd.data.images import decode_image, load_images, open_rgb
from pclhd.data.stretch import Stretch
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


def _noted(image: Image.Image, path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


def test_noted_orientation_is_followed_only_where_it_is_asked_for(tmp_path: Path) -> None:
    _noted(Image.new("RGB", (8, 16)), tmp_path / "a.jpg", 6)
    assert open_rgb(tmp_path / "a.jpg").size == (8, 16)
    assert open_rgb(tmp_path / "a.jpg", upright=True).size == (16, 8)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_followed_as_pillow_does(tmp_path: Path, kind: str, orientation: int) -> None:
    write_image(tmp_path / "plain.png", "a")
    path = tmp_path / f"a.{kind}"
    _noted(Image.open(tmp_path / "plain.png"), path, orientation)
    with Image.open(path) as opened:
        opened.load()
        expected = ImageOps.exif_transpose(opened).convert("RGB")
    np.testing.assert_array_equal(np.asarray(open_rgb(path, upright=True)), np.asarray(expected))


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0", b"Exif\0\0" + b"\xff" * 40, b"nothing"])
def test_damaged_notes_do_no_harm(tmp_path: Path, exif: bytes, recwarn: pytest.WarningsRecorder) -> None:
    Image.new("RGB", (8, 16)).save(tmp_path / "a.jpg", exif=exif)
    assert open_rgb(tmp_path / "a.jpg", upright=True).size == (8, 16)


def test_orientation_of_wide_grey(tmp_path: Path) -> None:
    wide = np.arange(32, dtype=np.uint16).reshape(4, 8) * 2000
    _noted(Image.fromarray(wide), tmp_path / "a.png", 6)
    turned = open_rgb(tmp_path / "a.png", upright=True)
    np.testing.assert_array_equal(np.asarray(turned), np.rot90(np.asarray(open_rgb(tmp_path / "a.png")), -1))


@pytest.mark.parametrize("kind", ["a.webp", "a.tif", "a.gif", "a.ppm", "a.jp2"])
def test_other_formats_are_read(tmp_path: Path, kind: str) -> None:
    image = Image.new("RGB", (8, 6), (200, 100, 0))
    image.save(tmp_path / kind)
    pixels = decode_image(tmp_path / kind, 6, 8, resample="bicubic")
    assert np.abs(pixels[:, 0, 0].astype(int) - [200, 100, 0]).max() <= 6


@pytest.mark.parametrize("kind", ["gif", "tif"])
def test_of_several_images_in_a_file_the_first_is_read(tmp_path: Path, kind: str) -> None:
    first, second = Image.new("RGB", (6, 6), (255, 0, 0)), Image.new("RGB", (6, 6), (0, 0, 255))
    first.save(tmp_path / f"a.{kind}", save_all=True, append_images=[second])
    assert decode_image(tmp_path / f"a.{kind}", 6, 6, resample="bicubic")[:, 3, 3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"hevc"])
def test_heic_names_its_plugin(tmp_path: Path, brand: bytes) -> None:
    if "HEIF" in readable_formats():
        pytest.skip("the plugin is installed")
    content = b"\0\0\0\x18ftyp" + brand + b"\0" * 40
    (tmp_path / "IMG_1.HEIC").write_bytes(content)
    for opened in (None, io.BytesIO(content)):
        with pytest.raises(UserError, match=r"IMG_1\.HEIC: a HEIC image, .* pip install pillow-heif") as caught:
            open_rgb(tmp_path / "IMG_1.HEIC", opened)
        assert "\n" not in str(caught.value)


def test_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path):
        with pytest.raises(UserError, match="not a regular file"):
            open_rgb(path)


def test_a_stretch_is_applied_to_wide_grey_only(tmp_path: Path) -> None:
    wide = np.array([[900, 1000, 1500, 2000, 65535]], dtype=np.uint16)
    Image.fromarray(wide).save(tmp_path / "a.png")
    Image.fromarray((wide // 257).astype(np.uint8)).save(tmp_path / "b.png")
    stretch = Stretch(1000, 2000)
    (image,) = load_images([tmp_path / "a.png"], 1, 5, resample="bicubic", stretch=stretch)
    assert image.tolist() == [[[0, 0, 128, 255, 255]]] * 3
    plain = load_images([tmp_path / "b.png"], 1, 5, resample="bicubic")
    assert np.array_equal(load_images([tmp_path / "b.png"], 1, 5, resample="bicubic", stretch=stretch), plain)


@pytest.mark.parametrize("kind", ["png", "tif", "pgm"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_wide_grey_in_strips_is_that_in_one(
    tmp_path: Path, kind: str, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = np.random.default_rng(0).integers(0, 65536, (37, 11)).astype(order)
    mode = "I;16B" if order == ">u2" and kind == "tif" else "I;16"
    stored = wide if mode == "I;16B" else wide.astype("<u2")
    Image.frombytes(mode, (11, 37), stored.tobytes()).save(tmp_path / f"a.{kind}")
    monkeypatch.setattr("pclhd.data.images._STRIP_PIXELS", 50)
    expected = (wide.astype(np.int64) * 255 + 32767) // 65535
    np.testing.assert_array_equal(np.asarray(open_rgb(tmp_path / f"a.{kind}"))[..., 0], expected)


def test_floating_point_images_need_a_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[20.0, 30.0, np.nan, 40.0]], dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: holds floating-point numbers"):
        open_rgb(tmp_path / "a.tif")
    pixels = np.asarray(open_rgb(tmp_path / "a.tif", stretch=Stretch(20, 40)))
    assert pixels[0, :, 0].tolist() == [0, 128, 0, 255]


_PEAK = """
import resource, sys
from pathlib import Path
from pclhd.data.images import open_rgb
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
open_rgb(Path(sys.argv[1]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024))
"""


def test_memory_of_a_large_wide_image_is_bounded(tmp_path: Path) -> None:
    side = 3000
    Image.fromarray(np.full((side, side), 4000, dtype=np.uint16)).save(tmp_path / "a.png")
    ran = subprocess.run(
        [sys.executable, "-c", _PEAK, str(tmp_path / "a.png")], capture_output=True, text=True, check=True
    )
    # The wide image, its 8-bit grey and its RGB (which Pillow keeps in four bytes) are 7 bytes a pixel; strips are
    # small beside it. With 64-bit temporaries it would be 24 more.
    assert int(ran.stdout) < 10 * side * side + 30_000_000


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


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000"]),
    position=st.integers(0, 400),
    value=st.integers(0, 255),
    cut=st.booleans(),
)
def test_a_damaged_byte_gives_an_image_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, position: int, value: int, cut: bool
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.png"
    write_image(path, "damaged")
    memory = io.BytesIO()
    Image.open(path).save(memory, kind)
    content = bytearray(memory.getvalue())
    content[position % len(content)] = value
    path.write_bytes(content[: position + 1 if cut else None])
    try:
        image = decode_image(path, 4, 4, resample="bicubic", upright=True)
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


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_metadata_do_not_travel_on(tmp_path: Path, mode: str) -> None:
    exif = Image.Exif()
    exif[270] = "where and when"
    Image.new(mode, (8, 16)).save(tmp_path / "a.jpg", comment=b"a secret", exif=exif, icc_profile=b"profile")
    target = io.BytesIO()
    open_rgb(tmp_path / "a.jpg").save(target, "JPEG")
    for part in (b"a secret", b"where and when", b"profile"):
        assert part in (tmp_path / "a.jpg").read_bytes()
        assert part not in target.getvalue()
