"""Invented people: traits that a person has in every image, for all cameras.

Shapes (cut, pattern, print, bag, hair …) are the same in both modalities. Each material has a colour and, separately, a
brightness in infrared light.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

from pclhd.synthetic.patterns import Pattern, PatternKind, Print, draw_pattern, draw_print
from pclhd.synthetic.seeds import Population, Stream, Version, generator
from pclhd.synthetic.traits import (
    LIES_UPON,
    Bag,
    BottomCut,
    Collar,
    Hair,
    Hat,
    Material,
    Part,
    Rgb,
    Shoes,
    Sleeve,
    TopCut,
)

Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Person:
    """All persistent traits of one invented person. Lengths are in body heights."""

    stature: float
    build: float
    hip: float
    head: float
    top: TopCut
    top_pattern: Pattern
    top_hem: float
    sleeve: Sleeve
    sleeve_width: float
    sleeve_accent: bool
    cuff: bool
    collar: Collar
    zip_line: bool
    opening: float
    chest_print: Print | None
    back_print: Print | None
    bottom: BottomCut
    bottom_pattern: Pattern
    bottom_hem: float
    side_stripe: bool
    tights: bool
    hair: Hair
    hat: Hat
    bag: Bag
    bag_side: int
    bag_width: float
    bag_height: float
    bag_pattern: Pattern
    shoes: Shoes
    scarf: bool
    glasses: bool
    materials: Mapping[Part, Material]


_STRONG_FLOOR = 0.16
_WEAK_FLOOR = 0.08
_WEAKLY_SET_OFF = {Part.BOTTOM, Part.TIGHTS, Part.SHOES, Part.HAIR, Part.HAT, Part.GLASSES}


def draw_person(seed: int, population: Population, identity: int, version: Version = 1) -> Person:
    """Draw the traits of a person.

    Args:
        seed: The data set's seed.
        population: Benchmark or starter; the same identity is a different person in each.
        identity: The person's number.
        version: Version of the generator.

    Returns:
        The person; the same arguments give the same traits.
    """
    random = generator(seed, population, Stream.PERSON, identity, version=version)
    top = _pick(random, TopCut, [0.34, 0.16, 0.14, 0.08, 0.08, 0.12, 0.08])
    bottom = _pick(random, BottomCut, [0.2, 0.18, 0.13, 0.1, 0.1, 0.12, 0.1, 0.07])
    sleeve = _pick(random, Sleeve, _sleeve_weights(top))
    top_pattern = draw_pattern(random, plain_share=0.3)
    printed = top_pattern.kind in _PRINTABLE and top not in (TopCut.OPEN_JACKET, TopCut.OPEN_COAT)
    front = draw_print(random)
    back = draw_print(random)
    same = random.random() < 0.4
    has_front, has_back = random.random(2) < 0.75
    return Person(
        stature=float(random.uniform(0.86, 1.0)),
        build=float(random.uniform(0.78, 1.3)),
        hip=float(random.uniform(0.46, 0.53)),
        head=float(random.uniform(0.9, 1.12)),
        top=top,
        top_pattern=top_pattern,
        top_hem=_top_hem(random, top),
        sleeve=sleeve,
        sleeve_width=float(random.uniform(0.042, 0.072)),
        sleeve_accent=bool(random.random() < 0.25),
        cuff=bool(random.random() < 0.3),
        collar=_pick(random, Collar, [0.35, 0.2, 0.2, 0.25]),
        zip_line=bool(random.random() < 0.5),
        opening=float(random.uniform(0.025, 0.055)),
        chest_print=front if printed and has_front else None,
        back_print=(front if same else back) if printed and has_back else None,
        bottom=bottom,
        bottom_pattern=draw_pattern(random, plain_share=0.5),
        bottom_hem=_bottom_hem(random, bottom),
        side_stripe=bool(random.random() < 0.25),
        tights=bool(random.random() < 0.4),
        hair=_pick(random, Hair, [0.07, 0.3, 0.15, 0.2, 0.1, 0.1, 0.08]),
        hat=_pick(random, Hat, [0.62, 0.14, 0.13, 0.11]),
        bag=_pick(random, Bag, [0.32, 0.25, 0.2, 0.13, 0.1]),
        bag_side=1 if random.random() < 0.5 else -1,
        bag_width=float(random.uniform(0.09, 0.15)),
        bag_height=float(random.uniform(0.1, 0.24)),
        bag_pattern=draw_pattern(random, plain_share=0.4),
        shoes=_pick(random, Shoes, [0.35, 0.3, 0.2, 0.15]),
        scarf=bool(random.random() < 0.15),
        glasses=bool(random.random() < 0.25),
        materials=_draw_materials(random),
    )


_DYE_SHARE = 0.9
"""Weight of the dye in a cloth's infrared brightness; the rest is random. A network can learn it."""

_BARE = {Part.SKIN: 0.84, Part.GLASSES: 0.1}

_PRINTABLE = {PatternKind.PLAIN, PatternKind.HEM, PatternKind.HALVES, PatternKind.PANEL}


def _pick(random: np.random.Generator, kinds: type[Choice], weights: Sequence[float]) -> Choice:
    """One member of an enum, with the given weights in its order."""
    share = np.asarray(weights, dtype=np.float64)
    return list(kinds)[int(random.choice(len(share), p=share / share.sum()))]


def _sleeve_weights(top: TopCut) -> list[float]:
    """Weights of sleeve lengths: jackets and coats have long sleeves, vests none."""
    if top is TopCut.VEST:
        return [0.6, 0.4, 0.0, 0.0]
    if top in (TopCut.SHIRT, TopCut.DRESS):
        return [0.12, 0.38, 0.2, 0.3]
    return [0.0, 0.0, 0.1, 0.9]


def _top_hem(random: np.random.Generator, top: TopCut) -> float:
    """Height at which the upper garment ends, measured down from the top of the head."""
    if top in (TopCut.COAT, TopCut.OPEN_COAT):
        return float(random.uniform(0.62, 0.8))
    if top is TopCut.DRESS:
        return float(random.uniform(0.64, 0.86))
    return float(random.uniform(0.44, 0.56))


def _bottom_hem(random: np.random.Generator, bottom: BottomCut) -> float:
    """Height at which the lower garment ends."""
    ranges = {
        BottomCut.CROPPED: (0.78, 0.86),
        BottomCut.SHORTS: (0.58, 0.7),
        BottomCut.SKIRT: (0.58, 0.7),
        BottomCut.LONG_SKIRT: (0.76, 0.9),
    }
    low, high = ranges.get(bottom, (0.93, 0.96))
    return float(random.uniform(low, high))


def _draw_materials(random: np.random.Generator) -> dict[Part, Material]:
    """A material for each part; accents differ in colour from the part below."""
    materials: dict[Part, Material] = {}
    for part in Part:
        rgb, chance = _colour(random), float(random.uniform(0.06, 0.96))
        if part is Part.SKIN:
            tone = float(random.uniform(0.35, 0.92))
            rgb = (tone, 0.78 * tone, 0.64 * tone)
        elif part is Part.HAIR:
            rgb = _hair_colour(random)
        elif part is Part.GLASSES:
            rgb = (0.06, 0.06, 0.08)
        elif part in LIES_UPON:
            under = materials[LIES_UPON[part]].rgb
            for _ in range(12):
                if float(np.abs(np.subtract(rgb, under)).sum()) > 0.7:
                    break
                rgb = _colour(random)
        infrared = _BARE.get(part, dye_brightness(rgb) * _DYE_SHARE + chance * (1 - _DYE_SHARE))
        strong = part in LIES_UPON and random.random() < 0.9
        floor = (_WEAK_FLOOR if part in _WEAKLY_SET_OFF else _STRONG_FLOOR) if strong else 0.0
        materials[part] = Material(rgb, infrared, floor)
    return materials


def dye_brightness(rgb: Rgb) -> float:
    """Infrared brightness of a dyed cloth: a fixed function of its hue, uncorrelated with luminance (ours).

    Real dyes are dark or bright in the near infrared regardless of their visible colour. Here, the brightness has one
    maximum and one minimum over the hue circle; it is closer to the middle for greyer cloth.

    Args:
        rgb: Colour in visible light, each 0..1.

    Returns:
        0.06..0.94.
    """
    hue, saturation, _ = colorsys.rgb_to_hsv(*rgb)
    return 0.5 + 0.44 * min(1.0, 1.5 * saturation) * math.sin(2 * math.pi * (hue - 1 / 6))


def _colour(random: np.random.Generator) -> Rgb:
    """A cloth colour: a third are near grey, the rest are spread over all hues."""
    if random.random() < 0.33:
        level = random.uniform(0.05, 0.95)
        tint = random.uniform(-0.03, 0.03, 3)
        red, green, blue = np.clip(level + tint, 0, 1)
        return float(red), float(green), float(blue)
    hue, saturation, value = random.random(), random.uniform(0.35, 0.95), random.uniform(0.2, 0.95)
    return colorsys.hsv_to_rgb(float(hue), float(saturation), float(value))


def _hair_colour(random: np.random.Generator) -> Rgb:
    """Black to fair, some grey, a few dyed."""
    kind = random.random()
    if kind < 0.8:
        level = float(random.uniform(0.06, 0.8))
        return level, 0.78 * level, 0.5 * level
    if kind < 0.92:
        level = float(random.uniform(0.5, 0.85))
        return level, level, level
    return _colour(random)
