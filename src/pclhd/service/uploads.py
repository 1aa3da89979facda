"""Images from strangers: looked at before they are decoded, and drawn again before they are shown."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pclhd.data.images import opened_image, to_rgb
from pclhd.data.records import Modality
from pclhd.errors import UserError

_NAME = Path("the image")
_QUALITY = 88
_LONGEST_SIDE = 20_000
# Grey images that went through JPEG differ between their channels by a few levels.
_GREY_SPREAD = 6.0


@dataclass(frozen=True)
class Upload:
    """An image that was received and can be decoded.

    Attributes:
        content: The bytes as they came.
        digest: Their SHA-256, hexadecimal.
        guessed: Infrared if the image is grey, visible if it has colours.
    """

    content: bytes
    digest: str
    guessed: Modality


def accept(content: bytes, *, most_pixels: int) -> Upload:
    """Check an image from elsewhere: its format by its content, its size before its pixels are read.

    Args:
        content: The file.
        most_pixels: Largest number of pixels.

    Raises:
        UserError: It is empty, no image of a known format, too large, or damaged.
    """
    if not content:
        raise UserError(f"{_NAME}: is empty; send the bytes of an image file")
    with opened_image(_NAME, io.BytesIO(content), pixels=False) as image:
        width, height = image.size
        if width * height > most_pixels or max(width, height) > _LONGEST_SIDE:
            raise UserError(
                f"{_NAME}: {width} × {height} pixels are more than the {most_pixels:,} (longest side "
                f"{_LONGEST_SIDE:,}) allowed; send a crop of one person"
            )
        image.load()
        return Upload(content, hashlib.sha256(content).hexdigest(), guess_modality(image))


def guess_modality(image: Image.Image) -> Modality:
    """Infrared for a grey image, visible for one with colours. A guess: night-time visible cameras are grey, too."""
    small = np.asarray(to_rgb_or_grey(image).resize((32, 64)), dtype=np.float32)
    spread = float((small.max(axis=2) - small.min(axis=2)).mean())
    return Modality.INFRARED if spread <= _GREY_SPREAD else Modality.VISIBLE


def to_rgb_or_grey(image: Image.Image) -> Image.Image:
    """The image in RGB; floating-point grey, whose range is not known, becomes black."""
    return Image.new("RGB", image.size) if image.mode == "F" else to_rgb(image)


def redrawn(content: bytes) -> bytes:
    """An image as a fresh JPEG without metadata: what the page shows is never a byte that came from elsewhere.

    Raises:
        UserError: It cannot be decoded.
    """
    with opened_image(_NAME, io.BytesIO(content)) as image:
        target = io.BytesIO()
        to_rgb(image).save(target, "JPEG", quality=_QUALITY)
    return target.getvalue()
