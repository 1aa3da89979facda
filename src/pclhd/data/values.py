"""The values of pixels over a whole modality: their range, how much of it is used, and what is odd about it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pclhd.data.images import fit_image, is_wide, opened_image, to_rgb
from pclhd.data.near_copies import image_hashes
from pclhd.data.records import ImageRecord, Modality
from pclhd.data.stretch import Stretch
from pclhd.threads import usable_cpus

# The range of a modality is taken from at most this many images, spread evenly over it, and pixels of each.
SAMPLED_IMAGES = 1000
SAMPLED_PIXELS = 4096
# The darkest and the brightest thousandth of the pixels are cut off: dead pixels, reflections, time stamps.
TAIL = 0.001

# A level counts as used if one pixel in 100,000 has it.
_USED = 1e-5
# A modality with fewer levels has lost most of its grey values.
FEW_LEVELS = 64
# Grey images that went through JPEG are grey up to a few levels.
_GREY_SPREAD = 2.0
_SMALL_SIDE = 4
_UNEQUAL = 10
_STRIP_PIXELS = 1 << 20
# Height and width at which images are hashed.
_HASHED = (96, 48)
NAMED = 3


@dataclass(frozen=True)
class ImageValues:
    """What is worth knowing of the pixels of one image.

    Attributes:
        record: The image.
        width: Pixels.
        height: Pixels.
        wide: Whether it is grey with more than 8 bits.
        low: Least value, as stored.
        high: Greatest value, as stored.
        levels: (256,) share of pixels with each grey level, once the image has 8 bits.
        colour: Mean difference between the largest and the smallest of red, green and blue, in levels.
        hash: (32,) bytes of the shrunk image, see `pclhd.data.near_copies`.
    """

    record: ImageRecord
    width: int
    height: int
    wide: bool
    low: float
    high: float
    levels: NDArray[np.float64]
    colour: float
    hash: NDArray[np.uint8]


def measure_stretch(paths: Sequence[Path], *, workers: int = 0) -> Stretch | None:
    """The range of a modality whose images are grey with more than 8 bits (ours).

    Cameras with 10, 12 or 14 bits store them in files of 16, and thermal cameras store raw counts that lie close
    together. Read as 0 to 65535, such images become a few grey levels. So the range from the 0.1 to the 99.9 percentile
    of the pixels of all images together becomes 0 to 255: one rule for a whole modality, so that brightness can be
    compared between its images. The percentiles are those of up to `SAMPLED_IMAGES` images, evenly spread over the
    paths, and of `SAMPLED_PIXELS` pixels on a grid in each.

    Args:
        paths: The images of one modality. Another order may sample other images.
        workers: Threads; 0 takes one per usable processor.

    Returns:
        The range; None if no image has more than 8 bits, or all pixels are equal.

    Raises:
        UserError: An image cannot be decoded.
    """
    step = max(1, math.ceil(len(paths) / SAMPLED_IMAGES))
    with ThreadPoolExecutor(workers or usable_cpus()) as pool:
        values = [sample for sample in pool.map(_sample_of_wide, paths[::step]) if sample is not None and len(sample)]
    if not values:
        return None
    low, high = np.quantile(np.concatenate(values), [TAIL, 1 - TAIL], method="inverted_cdf").tolist()
    return Stretch(low, high) if low < high else None


def measure_stretches(images: Sequence[ImageRecord], *, workers: int = 0) -> dict[Modality, Stretch]:
    """`measure_stretch` of each modality that has images with more than 8 bits.

    Raises:
        UserError: An image cannot be decoded.
    """
    measured = {
        modality: measure_stretch([image.path for image in images if image.modality is modality], workers=workers)
        for modality in Modality
    }
    return {modality: stretch for modality, stretch in measured.items() if stretch is not None}


def look_at_values(record: ImageRecord) -> ImageValues:
    """Decode an image and measure its pixels.

    Raises:
        UserError: It cannot be decoded.
    """
    with opened_image(record.path) as image:
        wide = is_wide(image)
        rgb = to_rgb(image)
        low, high = _extremes(image if wide else rgb)
    counts = np.array(rgb.convert("L").histogram(), dtype=np.float64)
    pixels = _on_a_grid(np.asarray(rgb)).astype(np.int16)
    colour = float((pixels.max(axis=-1) - pixels.min(axis=-1)).mean())
    shrunk = fit_image(rgb, *_HASHED, resample="bicubic")
    return ImageValues(record, *rgb.size, wide, low, high, counts / counts.sum(), colour, image_hashes(shrunk[None])[0])


def odd_values(values: Sequence[ImageValues]) -> tuple[list[str], list[str]]:
    """What is odd about the pixels of a data set.

    Args:
        values: Of all its images.

    Returns:
        Problems, and notes, one line each.
    """
    by_modality = {modality: [value for value in values if value.record.modality is modality] for modality in Modality}
    notes = [line for modality, own in by_modality.items() for line in _range_notes(modality, own)]
    notes += _counted("constant image (all pixels equal)", (value for value in values if value.low == value.high))
    tiny = (value for value in values if min(value.width, value.height) < _SMALL_SIDE)
    notes += _counted(f"image with a side below {_SMALL_SIDE} pixels", tiny)
    problems, colour_notes = _colours(by_modality)
    return problems, notes + colour_notes + _balance(by_modality)


def _range_notes(modality: Modality, values: Sequence[ImageValues]) -> list[str]:
    wide = [value for value in values if value.wide]
    notes = []
    if wide and len(wide) < len(values):
        notes.append(
            f"{modality} images: {len(wide):,} of {len(values):,} have more than 8 bits, the others 8; store all alike"
        )
    levels = used_levels(values)
    if values and levels < FEW_LEVELS and not all(value.low == value.high for value in values):
        stored = ""
        if wide:
            low, high = min(value.low for value in wide), max(value.high for value in wide)
            stored = f": 16-bit files with values {low:g} to {high:g}, {max(1, int(high).bit_length())} of 16 bits"
        notes.append(f"{modality} images use {levels} of 255 levels{stored}")
    return notes


def used_levels(values: Sequence[ImageValues]) -> int:
    """How many grey levels the images use together, once they have 8 bits; every image counts the same."""
    if not values:
        return 0
    return int((np.mean([value.levels for value in values], axis=0) >= _USED).sum())


def _colours(by_modality: Mapping[Modality, Sequence[ImageValues]]) -> tuple[list[str], list[str]]:
    coloured = {
        modality: [value for value in values if value.colour > _GREY_SPREAD] for modality, values in by_modality.items()
    }
    grey = [value for value in by_modality[Modality.VISIBLE] if value.colour <= _GREY_SPREAD and value.low < value.high]
    visible, infrared = by_modality[Modality.VISIBLE], by_modality[Modality.INFRARED]
    if visible and not coloured[Modality.VISIBLE] and 2 * len(coloured[Modality.INFRARED]) > len(infrared):
        return [
            f"all {len(visible):,} visible images are grey, and {len(coloured[Modality.INFRARED]):,} of "
            f"{len(infrared):,} infrared ones are coloured: the two are probably swapped"
        ], []
    return [], _counted("grey image among the visible ones", grey)


def _balance(by_modality: Mapping[Modality, Sequence[ImageValues]]) -> list[str]:
    """Modalities of very unequal numbers of images."""
    numbers = {modality: len(values) for modality, values in by_modality.items()}
    if min(numbers.values()) and max(numbers.values()) > _UNEQUAL * min(numbers.values()):
        counts = " and ".join(f"{number:,} {modality}" for modality, number in numbers.items())
        return [f"very unequal modalities: {counts} images"]
    return []


def _counted(what: str, values: Iterable[ImageValues]) -> list[str]:
    """One line with the number of images and the first of them."""
    found = [value.record.path for value in values]
    if not found:
        return []
    examples = ", ".join(map(str, found[:NAMED])) + (", …" if len(found) > NAMED else "")
    return [f"{len(found):,} {what if len(found) == 1 else what.replace('image', 'images', 1)}: {examples}"]


def _sample_of_wide(path: Path) -> NDArray[np.float64] | None:
    with opened_image(path, pixels=False) as image:
        if not is_wide(image):
            return None
        image.load()
        # A grid of pixels, not a filter: shrinking would average the extremes away.
        step = max(1, math.isqrt(math.ceil(image.width * image.height / SAMPLED_PIXELS)))
        rows = [
            np.asarray(image.crop((0, top, image.width, top + 1)))[0, ::step] for top in range(0, image.height, step)
        ]
    with np.errstate(invalid="ignore"):  # some bits that are NaN in 32 bits raise a warning
        values = np.concatenate(rows).astype(np.float64)
    return values[np.isfinite(values)]


def _extremes(image: Image.Image) -> tuple[float, float]:
    """The least and the greatest value of all channels, a few rows at a time."""
    rows = max(1, _STRIP_PIXELS // image.width)
    extremes = []
    for top in range(0, image.height, rows):
        strip = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        extremes.append((float(strip.min()), float(strip.max())))
    return min(low for low, _ in extremes), max(high for _, high in extremes)


def _on_a_grid(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most a few thousand of the pixels (H, W, C), evenly spread."""
    step = max(1, math.isqrt(math.ceil(pixels.shape[0] * pixels.shape[1] / SAMPLED_PIXELS)))
    return pixels[::step, ::step]
