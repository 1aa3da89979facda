"""From image files to arrays: safe decoding, one colour order, one size."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pclhd.errors import UserError

MAX_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "BMP")

Resample = Literal["bicubic", "lanczos"]
RESAMPLING: dict[Resample, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def decode_image(path: Path, height: int, width: int, *, resample: Resample) -> NDArray[np.uint8]:
    """Decode an image file and bring it to one size.

    The released code resizes with the bicubic filter for training and clustering and with Lanczos for the test. An
    image that has the size already is not filtered. Colours: see `open_rgb`.

    Args:
        path: A JPEG, PNG or BMP file, whatever its name.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        resample: The filter.

    Returns:
        Shape (3, height, width), values 0 to 255, channels red, green, blue.

    Raises:
        UserError: The file is missing, empty, cut short, too large or no image; the message names it.
        ValueError: A size below one, or an unknown filter.
    """
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be positive, got {height} and {width}")
    if resample not in RESAMPLING:
        raise ValueError(f"resample must be one of {tuple(RESAMPLING)}, got {resample!r}")
    return fit_image(open_rgb(path), height, width, resample=resample)


def fit_image(image: Image.Image, height: int, width: int, *, resample: Resample) -> NDArray[np.uint8]:
    """Bring an RGB image to one size; one that has the size already is not filtered.

    Returns:
        Shape (3, height, width), values 0 to 255, channels red, green, blue.
    """
    if image.size != (width, height):
        image = image.resize((width, height), RESAMPLING[resample])
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


def load_images(
    paths: Sequence[Path], height: int, width: int, *, resample: Resample, workers: int = 0
) -> NDArray[np.uint8]:
    """Decode many images into one array; the result does not depend on the number of workers.

    Args:
        paths: Image files; their order is the order of the rows.
        height: Height in pixels.
        width: Width in pixels.
        resample: The filter.
        workers: Number of threads; 0 takes one per core, 1 decodes in the calling thread.

    Returns:
        Shape (N, 3, height, width).

    Raises:
        UserError: Of the files that cannot be decoded, the message names the first in the order of `paths`.
        ValueError: A negative number of workers, or as `decode_image`.
    """
    return decode_all(
        [partial(decode_image, path, height, width, resample=resample) for path in paths],
        height,
        width,
        workers=workers,
    )


def decode_all(
    decoders: Sequence[Callable[[], NDArray[np.uint8]]], height: int, width: int, *, workers: int = 0
) -> NDArray[np.uint8]:
    """Call decoders in threads, and put what each returns into its row of one array.

    Args:
        decoders: Each returns an image of shape (3, height, width).
        height: Height in pixels.
        width: Width in pixels.
        workers: Number of threads; 0 takes one per core, 1 decodes in the calling thread.

    Returns:
        Shape (N, 3, height, width), rows in the order of the decoders.

    Raises:
        UserError: Of the images that cannot be decoded, the message names the first.
        ValueError: A negative number of workers.
    """
    if workers < 0:
        raise ValueError(f"workers must not be negative, got {workers}")
    images = np.empty((len(decoders), 3, height, width), dtype=np.uint8)

    def decode_into(row: int) -> None:
        images[row] = decoders[row]()

    threads = workers or os.cpu_count() or 1
    if threads == 1:
        for row in range(len(decoders)):
            decode_into(row)
        return images
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode_into, range(len(decoders))):
            pass
    return images


def open_rgb(path: Path, content: BinaryIO | None = None) -> Image.Image:
    """Decode an image file to 8-bit RGB in its own size.

    Grey is copied to three channels; 16-bit grey is scaled so that 65535 becomes 255 (of 16-bit colour the high byte is
    kept); transparency is dropped without blending; palette and CMYK are converted. The orientation that a camera may
    note in the file is not applied: the released code ignores it, and person crops do not have it.

    Args:
        path: The file, which the messages name.
        content: An open file to read instead.

    Raises:
        UserError: The file is missing, empty, cut short, too large or no image; the message names it.
    """
    try:
        with Image.open(content or path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"{path}: {image.width} × {image.height} pixels are more than the {MAX_PIXELS:,} allowed; "
                    "give crops of single persons"
                )
            # Opening reads the header only; the pixels are read, and their faults found, here.
            image.load()
            return to_rgb(image)
    except Image.DecompressionBombError:
        raise UserError(f"{path}: more than the {MAX_PIXELS:,} pixels allowed; give crops of single persons") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: not a JPEG, PNG or BMP image; {_how_to_mend(path)}") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be decoded ({reason}); {_how_to_mend(path)}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """An image in 8-bit RGB; see `open_rgb`."""
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit values at 255 here, turning almost all of them white.
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _how_to_mend(path: Path) -> str:
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty: restore it or drop it from the data"
    return "restore the file or drop it from the data"
