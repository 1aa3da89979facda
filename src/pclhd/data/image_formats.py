"""Which image formats are read. Files are recognised by their content; extensions only say what must be an image.

The list is explicit: Pillow knows formats whose decoding runs another program (EPS runs Ghostscript) or that hold
documents (PDF), and none of these is ever tried.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from PIL import Image

# Names as Pillow has them. MPO is what many phones write as .jpg; of animations and stacks the first image is read.
FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
FORMAT_NAMES = "JPEG, PNG, BMP, WebP, TIFF, GIF, PPM, JPEG 2000 or AVIF"

# A file with such a name must be an image: if it cannot be decoded, that is an error, and it is never passed over.
IMAGE_EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".avif", ".heic", ".heif"),
)

# Raw files of cameras begin like TIFF; what Pillow would find in them is a thumbnail.
_RAW_EXTENSIONS = (".arw", ".cr2", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw")

_HEAD = 32
_SIGNATURES = re.compile(
    rb"\xff\xd8\xff"
    rb"|\x89PNG\r\n\x1a\n"
    rb"|GIF8[79]a"
    rb"|RIFF....WEBP"
    rb"|II\*\x00|MM\x00\*|II\+\x00|MM\x00\+"
    rb"|P[1-6fF]\s+(?:#|\d)"
    rb"|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00"
    rb"|\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"
    rb"|....ftyp(?:avif|avis|heic|heix|heim|heis|hevc|hevx|mif1|msf1)",
    re.DOTALL,
)
_HEIF = re.compile(rb"....ftyp(?:heic|heix|heim|heis|hevc|hevx|mif1|msf1)", re.DOTALL)


def has_image_extension(name: str) -> bool:
    """Whether a file of this name must be an image."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def begins_like_an_image(path: Path) -> bool:
    """Whether the first bytes of a file are those of a format in the list, or of HEIC.

    Raises:
        OSError: The file cannot be read.
    """
    if path.name.lower().endswith(_RAW_EXTENSIONS):
        return False
    with path.open("rb") as file:
        return _SIGNATURES.match(file.read(_HEAD)) is not None


def is_heif(head: bytes) -> bool:
    """Whether a file that begins so is HEIC or HEIF, which Pillow reads with a plugin only."""
    return _HEIF.match(head) is not None


@cache
def readable_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow was built with, and HEIF if its plugin is installed."""
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return tuple(formats)
    register_heif_opener()
    return (*formats, "HEIF")
