from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pclhd.data.records import Modality
from pclhd.errors import UserError
from pclhd.service.uploads import accept, redrawn
from tests.service.conftest import image_bytes


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header promises a size, with hardly any pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


HOSTILE = {
    "empty": b"",
    "text": b"hello",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "html": b"<!doctype html><script>alert(1)</script>",
    "bomb": png_header(60_000, 60_000),
    "long": png_header(1, 100_000),
    "truncated": image_bytes(0)[:-40],
    "truncated jpeg": image_bytes(0, kind="JPEG")[:300],
    "pdf": b"%PDF-1.4\n",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "zip": b"PK\x03\x04" + b"\0" * 60,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_image_of_a_person_is_refused_in_one_sentence(kind: str) -> None:
    with pytest.raises(UserError) as refused:
        accept(HOSTILE[kind], most_pixels=25_000_000)
    assert str(refused.value).startswith("the image: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_usual_formats_are_taken(kind: str) -> None:
    upload = accept(image_bytes(1, kind=kind), most_pixels=25_000_000)
    assert upload.guessed is Modality.VISIBLE


def test_cmyk_and_16_bit_images_are_taken() -> None:
    target = io.BytesIO()
    Image.open(io.BytesIO(image_bytes(1))).convert("CMYK").save(target, "JPEG")
    assert accept(target.getvalue(), most_pixels=10_000).guessed is Modality.VISIBLE
    target = io.BytesIO()
    Image.fromarray(np.arange(1800, dtype=np.uint16).reshape(60, 30) * 30).save(target, "PNG")
    assert accept(target.getvalue(), most_pixels=10_000).guessed is Modality.INFRARED


def test_the_number_of_pixels_is_bounded_before_they_are_decoded() -> None:
    accept(image_bytes(1), most_pixels=1800)
    with pytest.raises(UserError, match="30 × 60 pixels are more than"):
        accept(image_bytes(1), most_pixels=1799)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_is_guessed_to_be_infrared(kind: str) -> None:
    for seed in range(5):
        assert accept(image_bytes(seed, kind=kind, grey=True), most_pixels=10_000).guessed is Modality.INFRARED
        assert accept(image_bytes(seed, kind=kind), most_pixels=10_000).guessed is Modality.VISIBLE


def test_what_is_shown_is_drawn_again() -> None:
    # A picture that is a script as well, and carries a comment with another.
    target = io.BytesIO()
    Image.open(io.BytesIO(image_bytes(1))).save(target, "JPEG", comment=b"<script>alert(1)</script>")
    polyglot = target.getvalue() + b"<script>alert(2)</script>"
    accept(polyglot, most_pixels=10_000)
    shown = redrawn(polyglot)
    assert b"script" not in shown
    assert Image.open(io.BytesIO(shown)).size == (30, 60)
