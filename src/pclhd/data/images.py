"""From image files to arrays: safe decoding, one colour order, one size."""

from __future__ import annotations

import logging
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pclhd.data.image_formats import FORMAT_NAMES, is_heif, readable_formats
from pclhd.data.stretch import FULL_RANGE, Stretch
from pclhd.errors import UserError
from pclhd.threads import usable_cpus

MAX_PIXELS = 50_000_000
_STRIP_PIXELS = 1 << 20
_HEAD = 32

# The limit on pixels here is stricter than Pillow's, and EXIF data matter for the orientation alone.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
# Pillow logs what is wrong with a file before it raises; without a handler Python would print that.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Resample = Literal["bicubic", "lanczos"]


class DecodingOptions(TypedDict, total=False):
    """What `open_rgb` may be given beside the file."""

    upright: bool
    stretch: Stretch | None


RESAMPLING: dict[Resample, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def decode_image(
    path: Path,
    height: int,
    width: int,
    *,
    resample: Resample,
    **options: Unpack[DecodingOptions],
) -> NDArray[np.uint8]:
    """Decode an image file and bring it to one size.

    The released code resizes with the bicubic filter for training and clustering and with Lanczos for the test. An
    image that has the size already is not filtered. Colours: see `open_rgb`.

    Args:
        path: A file of a known format, whatever its name.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        resample: The filter.
        options: ``upright`` and ``stretch``, see `open_rgb`.

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
    return fit_image(open_rgb(path, **options), height, width, resample=resample)


def fit_image(image: Image.Image, height: int, width: int, *, resample: Resample) -> NDArray[np.uint8]:
    """Bring an RGB image to one size; one that has the size already is not filtered.

    Returns:
        Shape (3, height, width), values 0 to 255, channels red, green, blue.
    """
    if image.size != (width, height):
        image = image.resize((width, height), RESAMPLING[resample])
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


def load_images(
    paths: Sequence[Path],
    height: int,
    width: int,
    *,
    resample: Resample,
    workers: int = 0,
    **options: Unpack[DecodingOptions],
) -> NDArray[np.uint8]:
    """Decode many images into one array; the result does not depend on the number of workers.

    Args:
        paths: Image files; their order is the order of the rows.
        height: Height in pixels.
        width: Width in pixels.
        resample: The filter.
        workers: Number of threads; 0 takes one per usable processor, 1 decodes in the calling thread.
        options: ``upright`` and ``stretch``, see `open_rgb`.

    Returns:
        Shape (N, 3, height, width).

    Raises:
        UserError: Of the files that cannot be decoded, the message names the first in the order of `paths`.
        ValueError: A negative number of workers, or as `decode_image`.
    """
    return decode_all(
        [partial(decode_image, path, height, width, resample=resample, **options) for path in paths],
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
        workers: Number of threads; 0 takes one per usable processor, 1 decodes in the calling thread.

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

    threads = workers or usable_cpus()
    if threads == 1:
        for row in range(len(decoders)):
            decode_into(row)
        return images
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode_into, range(len(decoders))):
            pass
    return images


def open_rgb(
    path: Path, content: BinaryIO | None = None, *, upright: bool = False, stretch: Stretch | None = None
) -> Image.Image:
    """Decode an image file to 8-bit RGB in its own size.

    Grey is copied to three channels; 16-bit grey is scaled so that 65535 becomes 255, or by `stretch` (of 16-bit colour
    the high byte is kept); transparency is dropped without blending; palette and CMYK are converted. Of an animation or
    a stack the first image is taken.

    Args:
        path: The file, which the messages name.
        content: An open file to read instead.
        upright: Turn the image as the orientation in the file's EXIF data says. The released code ignores it, so the
            benchmarks are read without.
        stretch: The range of values that becomes 0 to 255, for grey of more than 8 bits; see
            `pclhd.data.values.measure_stretch`.

    Raises:
        UserError: The file is missing, empty, cut short, too large or no image, or holds floating-point numbers and
            there is no `stretch`; the message names it.
    """
    with opened_image(path, content) as image:
        return to_rgb(image, upright=upright, stretch=stretch)


@contextmanager
def opened_image(path: Path, content: BinaryIO | None = None, *, pixels: bool = True) -> Iterator[Image.Image]:
    """Open an image of a known format, in its own mode, for as long as the block lasts.

    Args:
        path: The file, which the messages name.
        content: An open file to read instead.
        pixels: Decode the pixels; otherwise only the header has been read when the block begins.

    Raises:
        UserError: As `open_rgb`; also for what goes wrong inside the block because of the file.
    """
    if content is None:
        _require_regular_file(path)
    try:
        with Image.open(content or path, formats=readable_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"{path}: {image.width} × {image.height} pixels are more than the {MAX_PIXELS:,} allowed; "
                    "give crops of single persons"
                )
            if pixels:
                # Opening reads the header only; the pixels are read, and their faults found, here.
                image.load()
            yield image
    except (UserError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise UserError(f"{path}: more than the {MAX_PIXELS:,} pixels allowed; give crops of single persons") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: {_not_an_image(path, content)}") from None
    except Exception as error:  # a damaged file can make a decoder raise anything
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be decoded ({reason}); {_advice(path)}") from error


def to_rgb(image: Image.Image, *, upright: bool = False, stretch: Stretch | None = None) -> Image.Image:
    """An image in 8-bit RGB, without metadata; see `open_rgb`.

    Raises:
        UserError: It holds floating-point numbers, and there is no `stretch`.
    """
    if is_wide(image):
        if stretch is None and image.mode == "F":
            raise UserError(
                f"{getattr(image, 'filename', None) or 'image in memory'}: holds floating-point numbers, whose range "
                "is not known; save it with 8 or 16 bits"
            )
        # Pillow would clip 16-bit values at 255 here, turning almost all of them white.
        rgb = _narrow(image, stretch or FULL_RANGE).convert("RGB")
    else:
        rgb = image.convert("RGB")
    # Comments, profiles and EXIF data would otherwise be written into every JPEG that is made of it.
    rgb.info.clear()
    turn = _TURNS.get(_orientation(image)) if upright else None
    return rgb if turn is None else rgb.transpose(turn)


def is_wide(image: Image.Image) -> bool:
    """Whether an image is grey with more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def _narrow(image: Image.Image, stretch: Stretch) -> Image.Image:
    """Grey of 8 bits, made in strips: the wide numbers of a large image would take several times its memory."""
    narrow = Image.new("L", image.size)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        narrow.paste(Image.fromarray(stretch.to_bytes(strip)), (0, top))
    return narrow


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # EXIF data are damaged more often than pixels, and there is nothing else in them that is needed
        return 1


def _require_regular_file(path: Path) -> None:
    """A pipe or a device would wait for a writer, or never end."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # opening it gives the error
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: not a regular file; give an image file")


def _not_an_image(path: Path, content: BinaryIO | None) -> str:
    if content is None:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    else:
        content.seek(0)
        head = content.read(_HEAD)
    if is_heif(head):
        return "a HEIC image, which needs a plugin; pip install pillow-heif, or convert the image to JPEG or PNG"
    return f"not an image of a known format ({FORMAT_NAMES}); {_advice(path)}"


def _advice(path: Path) -> str:
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty: restore it or drop it from the data"
    return "restore the file or drop it from the data"
