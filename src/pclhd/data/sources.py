"""Images in any form a user has them: paths, folders, patterns, PIL images, arrays, open files."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pclhd.data.image_folders import images_anywhere_in
from pclhd.data.image_formats import FORMAT_NAMES
from pclhd.data.images import MAX_PIXELS, Resample, decode_all, fit_image, open_rgb, to_rgb
from pclhd.data.records import ImageRecord
from pclhd.data.stretch import Stretch
from pclhd.errors import UserError

OneImage = str | os.PathLike[str] | ImageRecord | Image.Image | NDArray[np.generic] | BinaryIO | bytes
"""A path (a folder and a pattern stand for many), a record, a PIL image, an array, an open file, or a file's bytes."""

Images = OneImage | Iterable[OneImage]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageSource:
    """An image that can be decoded.

    Attributes:
        path: Its file, or None for one in memory.
        camera: Its camera number, where a record says so.
        content: A PIL image or a file's bytes; None if the file is to be read.
        upright: Whether the orientation in the EXIF data is followed.
    """

    path: Path | None
    camera: int | None = None
    content: Image.Image | bytes | None = None
    upright: bool = True

    @classmethod
    def of(cls, record: ImageRecord) -> ImageSource:
        """The file of a record."""
        return cls(record.path, record.camera, upright=record.upright)

    def decode(self, height: int, width: int, resample: Resample, stretch: Stretch | None = None) -> NDArray[np.uint8]:
        """The image at one size: (3, height, width), red, green, blue.

        Raises:
            UserError: It cannot be decoded.
        """
        return fit_image(self.open_rgb(stretch), height, width, resample=resample)

    def open_rgb(self, stretch: Stretch | None = None) -> Image.Image:
        """The image in its own size, 8-bit red, green, blue.

        Raises:
            UserError: It cannot be decoded.
        """
        if isinstance(self.content, Image.Image):
            try:
                return to_rgb(self.content, upright=self.upright, stretch=stretch)
            except (OSError, SyntaxError, ValueError) as error:  # PIL reads the pixels of an opened file here
                raise UserError(f"{self.path or 'image in memory'}: cannot be decoded ({error})") from error
        if self.content is not None:
            name = self.path or Path("image in memory")
            return open_rgb(name, io.BytesIO(self.content), upright=self.upright, stretch=stretch)
        if self.path is None:
            raise ValueError("an image without a path needs content")
        return open_rgb(self.path, upright=self.upright, stretch=stretch)


def gather_images(images: Images) -> list[ImageSource]:
    """List the images that a caller names.

    A folder stands for all images in it and below, sorted by path; a pattern with ``*``, ``?`` or ``[`` for the files
    that it matches, sorted. The orientation in EXIF data is followed, except for records that say otherwise.
    Arrays are (H, W) grey, (H, W, 3) or (H, W, 4) colour, or (N, H, W, 3), 8 bits; grey may have 16. Everything else
    that can be iterated is taken apart.

    Args:
        images: What to list.

    Returns:
        One source per image, in order; the same file twice is two images.

    Raises:
        UserError: There is no such file, a folder or a pattern holds no image, or an array is not an image.
        TypeError: Something that is no image at all.
    """
    if isinstance(images, ImageRecord):
        return [ImageSource.of(images)]
    if isinstance(images, bytes):
        return [ImageSource(None, content=images)]
    if isinstance(images, str | os.PathLike):
        return [ImageSource(path) for path in _files(Path(images))]
    if isinstance(images, Image.Image):
        return [_picture(images)]
    if isinstance(images, np.ndarray):
        return _arrays(images)
    if hasattr(images, "read"):
        return [_open_file(cast(BinaryIO, images))]
    if isinstance(images, Iterable):
        return [source for one in images for source in gather_images(one)]
    raise TypeError(f"expected images, found {type(images).__name__}")


def decode_sources(
    sources: list[ImageSource],
    height: int,
    width: int,
    *,
    resample: Resample,
    workers: int = 0,
    stretch: Stretch | None = None,
) -> NDArray[np.uint8]:
    """Decode many images into one array; the result does not depend on the number of workers.

    Args:
        sources: The images.
        height: Height in pixels.
        width: Width in pixels.
        resample: The filter.
        workers: Number of threads; 0 takes one per usable processor, 1 decodes in the calling thread.
        stretch: The range of values of grey with more than 8 bits that becomes 0 to 255.

    Returns:
        (N, 3, height, width).

    Raises:
        UserError: An image cannot be decoded; the message names the first.
    """
    decoders = [partial(source.decode, height, width, resample, stretch) for source in sources]
    return decode_all(decoders, height, width, workers=workers)


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        found = images_anywhere_in(place)
        if not found.paths:
            raise UserError(f"{place}: no image in it; expected {FORMAT_NAMES} files")
        if found.passed:
            _LOG.warning("%s: %s", place, found.passed_over.summary())
        return list(found.paths)
    if place.is_file():
        return [place]
    if place.exists():
        raise UserError(f"{place}: not a regular file; give an image, a folder of images or a pattern")
    if any(sign in str(place) for sign in "*?["):
        start = Path(place.anchor)
        paths = sorted(path for path in start.glob(str(place.relative_to(start))) if path.is_file())
        if paths:
            return paths
        raise UserError(f"{place}: no file matches this pattern")
    raise UserError(f"{place}: no such file or folder; expected an image, a folder of images or a pattern")


def _picture(image: Image.Image) -> ImageSource:
    if not 0 < image.width * image.height <= MAX_PIXELS:
        raise UserError(f"an image of {image.width} × {image.height} has no pixels or more than {MAX_PIXELS:,}")
    name = getattr(image, "filename", "")
    return ImageSource(Path(name) if isinstance(name, str) and name else None, content=image)


def _open_file(file: BinaryIO) -> ImageSource:
    content = file.read()
    if not isinstance(content, bytes):
        raise TypeError("an image file must be opened in binary mode, with open(path, 'rb')")
    name = getattr(file, "name", None)
    return ImageSource(Path(name) if isinstance(name, str) else None, content=content)


def _arrays(array: NDArray[np.generic]) -> list[ImageSource]:
    if array.ndim == 4:
        return [source for one in array for source in _arrays(one)]
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    shaped = grey or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not shaped or not (array.dtype == np.uint8 or (grey and array.dtype == np.uint16)):
        raise UserError(
            f"an array of shape {array.shape} and type {array.dtype} is not an image; expected 8-bit values, shape "
            "(height, width) or (height, width, 3), or 16-bit grey ones"
        )
    if not 0 < array.shape[0] * array.shape[1] <= MAX_PIXELS:
        raise UserError(f"an array of shape {array.shape} has no pixels or more than {MAX_PIXELS:,}; give crops")
    flat = array.reshape(array.shape[:2]) if grey else array
    return [ImageSource(None, content=Image.fromarray(np.ascontiguousarray(flat)))]
