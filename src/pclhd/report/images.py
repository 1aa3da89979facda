"""Images as data URIs, for a self-contained page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pclhd.data.images import DecodingOptions, open_rgb
from pclhd.errors import UserError

# A person crop has some kilobytes, a contact sheet some megabytes: more is a mistake or an attack.
_MOST_BYTES = 100_000_000
# Dark violet, blue, green, yellow: light and dark differ too, so colour is not needed (viridis at four places).
_HEAT = np.array([(68, 1, 84), (49, 104, 142), (53, 183, 121), (253, 231, 37)], dtype=np.float32)


def data_uri(root: Path, name: str, *, width: int, height: int, quality: int = 82) -> str | None:
    """An image file, shrunk to fit into `width` × `height` pixels, as a JPEG data URI.

    Reports are passed on, and run folders come from strangers: only files below `root` are opened, links followed, and
    only in the formats of the data readers. Others would start programs, such as Ghostscript.

    Args:
        root: The data's folder.
        name: The image's path below it.
        width: Largest width in pixels.
        height: Largest height in pixels.
        quality: Of the JPEG, up to 100.

    Returns:
        The URI, or None if there is no readable image of a sensible size at that place.
    """
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root.resolve()):
            return None
    except (OSError, ValueError):  # ValueError: a name with a null byte
        return None
    small = shrunk(path, width=width, height=height)
    return None if small is None else jpeg_uri(small, quality=quality)


def shrunk(path: Path, *, width: int, height: int, options: DecodingOptions | None = None) -> Image.Image | None:
    """An image file that fits into `width` × `height` pixels, without metadata; None if it is not readable."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        small = open_rgb(path, **(options or {}))
    except (OSError, ValueError, UserError):
        return None
    small.thumbnail((width, height), Image.Resampling.LANCZOS)
    return small


def jpeg_uri(image: Image.Image, *, quality: int = 82) -> str:
    """An image as a JPEG data URI."""
    target = io.BytesIO()
    image.save(target, format="JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode("ascii")


def heated(image: Image.Image, values: NDArray[np.float32], *, strength: float = 0.6) -> Image.Image:
    """An image under a map of values: dark violet is 0, yellow is 1.

    Args:
        image: RGB.
        values: (h, w) from 0 to 1, stretched over the image.
        strength: How much of the picture the colours hide, from 0 to 1.
    """
    grid = Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8))
    level = np.asarray(grid.resize(image.size, Image.Resampling.BICUBIC), dtype=np.float32) / 255
    place = np.linspace(0, 1, len(_HEAT))
    colours = np.stack([np.interp(level, place, _HEAT[:, channel]) for channel in range(3)], axis=2)
    mixed = (1 - strength) * np.asarray(image, dtype=np.float32) + strength * colours
    return Image.fromarray(mixed.round().astype(np.uint8))


def sprite(images: list[Image.Image | None], *, width: int, height: int, across: int) -> Image.Image:
    """Many small images side by side in one, `across` in a row, each in a cell of `width` × `height` pixels."""
    rows = max(1, -(-len(images) // across))
    sheet = Image.new("RGB", (across * width, rows * height), (128, 128, 128))
    for place, image in enumerate(images):
        if image is not None:
            row, column = divmod(place, across)
            left, top = (width - image.width) // 2, (height - image.height) // 2
            sheet.paste(image, (column * width + left, row * height + top))
    return sheet
