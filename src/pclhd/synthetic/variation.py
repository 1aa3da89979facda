"""How much images of one person differ in generator version 2: all calibrated numbers, in one place.

They were chosen with the starter weights, the bound that trains with identities, and methods that are not ours, then
fixed (docs/benchmark.md). A test holds a digest of the drawings, so that they cannot change unnoticed.
"""

from __future__ import annotations

from dataclasses import dataclass

from pclhd.data.records import Modality

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Variation:
    """Variation of one modality. Ranges are of uniform draws; spreads are standard deviations of logarithms or slopes.

    Attributes:
        views: Concentration of front, back, left and right views over cameras: the smaller, the more a camera sees
            one side only.
        balance: Spread of the factors of a camera's channels.
        saturation: Saturation of a camera; below 1 it renders colours greyer.
        haze: Brightness that a camera records for black.
        tilt: How steeply a camera looks down.
        detail: Share of rows and columns that a camera's sensor resolves.
        falloff: Loss of brightness towards the corners.
        clutter: Share of a camera's passages with something in front of the person.
        exposure: Spread of the brightness between passages.
        warmth: Spread of the colour of the light between passages.
        contrast: Spread of the exponent of the tone curve between passages.
        slope: Spread of the change of brightness across the image.
    """

    views: tuple[float, float, float, float]
    balance: float
    saturation: Range
    haze: Range
    tilt: Range
    detail: Range
    falloff: Range
    clutter: Range
    exposure: float
    warmth: float
    contrast: float
    slope: float


VARIATION = {
    Modality.VISIBLE: Variation(
        views=(2.6, 2.2, 1.1, 1.1),
        balance=0.06,
        saturation=(0.75, 1.1),
        haze=(0.0, 0.06),
        tilt=(0.0, 0.2),
        detail=(0.75, 1.0),
        falloff=(0.05, 0.2),
        clutter=(0.05, 0.2),
        exposure=0.12,
        warmth=0.05,
        contrast=0.08,
        slope=0.12,
    ),
    Modality.INFRARED: Variation(
        views=(2.6, 2.2, 1.1, 1.1),
        balance=0.0,
        saturation=(1.0, 1.0),
        haze=(0.0, 0.04),
        tilt=(0.0, 0.15),
        detail=(0.75, 1.0),
        falloff=(0.05, 0.2),
        clutter=(0.02, 0.1),
        exposure=0.06,
        warmth=0.0,
        contrast=0.04,
        slope=0.06,
    ),
}

FRAMES: tuple[int, int] = (4, 6)
"""Fewest and most frames of a passage."""

WRONG_CROPS = 0.02
"""Share of images that a detector cut quite wrongly."""

PASSERS_BY = 0.06
"""Share of passages with another person at the edge."""

TWO_PATTERNS = 0.2
"""Share of patterned upper garments whose back has another pattern or none."""

CHANGES = 0.15
"""Share of passages with a jacket closed, and of those with a bag in the other hand."""
