"""The kinds of clothes and other traits that a person can have, and the materials they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Rgb = tuple[float, float, float]


class Part(StrEnum):
    """The parts of a person; each has one material."""

    SKIN = "skin"
    HAIR = "hair"
    TOP = "top"
    TOP_ACCENT = "top accent"
    PRINT = "print"
    INNER = "inner"
    BOTTOM = "bottom"
    BOTTOM_ACCENT = "bottom accent"
    TIGHTS = "tights"
    SHOES = "shoes"
    HAT = "hat"
    HAT_ACCENT = "hat accent"
    BAG = "bag"
    BAG_ACCENT = "bag accent"
    STRAP = "strap"
    SCARF = "scarf"
    GLASSES = "glasses"


class TopCut(StrEnum):
    """Cut of the upper garment."""

    SHIRT = "shirt"
    JACKET = "jacket"
    OPEN_JACKET = "open jacket"
    COAT = "coat"
    OPEN_COAT = "open coat"
    DRESS = "dress"
    VEST = "vest"


class BottomCut(StrEnum):
    """Cut of the lower garment."""

    SLIM = "slim trousers"
    STRAIGHT = "straight trousers"
    WIDE = "wide trousers"
    FLARED = "flared trousers"
    CROPPED = "cropped trousers"
    SHORTS = "shorts"
    SKIRT = "skirt"
    LONG_SKIRT = "long skirt"


class Sleeve(StrEnum):
    """Length of the sleeve."""

    NONE = "none"
    SHORT = "short"
    HALF = "half"
    LONG = "long"


class Collar(StrEnum):
    """Shape of the neck opening."""

    ROUND = "round"
    V = "v"
    HIGH = "high"
    HOOD = "hood"


class Hair(StrEnum):
    """Shape of the hair."""

    BALD = "bald"
    SHORT = "short"
    BOB = "bob"
    LONG = "long"
    BUN = "bun"
    TAIL = "tail"
    AFRO = "afro"


class Hat(StrEnum):
    """Headwear."""

    NONE = "none"
    CAP = "cap"
    BEANIE = "beanie"
    BRIM = "brimmed hat"


class Bag(StrEnum):
    """Bag."""

    NONE = "none"
    BACKPACK = "backpack"
    SHOULDER = "shoulder bag"
    HANDBAG = "handbag"
    TROLLEY = "trolley"


class Shoes(StrEnum):
    """Footwear."""

    FLAT = "flat"
    CHUNKY = "chunky"
    BOOTS = "boots"
    HIGH_BOOTS = "high boots"


@dataclass(frozen=True, slots=True)
class Material:
    """Appearance of a part.

    Attributes:
        rgb: Colour in visible light, each 0..1.
        infrared: Own brightness in infrared light, 0..1: that of its dye (see `dye_brightness`) plus a random part.
        floor: Minimum contrast in infrared to the part below it.
    """

    rgb: Rgb
    infrared: float
    floor: float = 0.0


LIES_UPON: dict[Part, Part] = {
    Part.TOP_ACCENT: Part.TOP,
    Part.PRINT: Part.TOP,
    Part.INNER: Part.TOP,
    Part.BOTTOM: Part.TOP,
    Part.BOTTOM_ACCENT: Part.BOTTOM,
    Part.TIGHTS: Part.BOTTOM,
    Part.SHOES: Part.BOTTOM,
    Part.HAIR: Part.SKIN,
    Part.HAT: Part.SKIN,
    Part.HAT_ACCENT: Part.HAT,
    Part.BAG: Part.TOP,
    Part.BAG_ACCENT: Part.BAG,
    Part.STRAP: Part.TOP,
    Part.SCARF: Part.TOP,
    Part.GLASSES: Part.SKIN,
}
"""The part below each part, for the contrast; every part comes after the one below it."""
