"""Brightness of each part of a person for visible and infrared cameras."""

from __future__ import annotations

from collections.abc import Mapping

from pclhd.data.records import Modality
from pclhd.synthetic.person import Person
from pclhd.synthetic.seeds import Version
from pclhd.synthetic.traits import LIES_UPON, Material, Part, Rgb

DEFAULT_GAP: dict[Version, float] = {1: 0.55, 2: 0.2}
"""By version of the generator. That of version 1 was chosen with the starter weights and a supervised classifier, that
of version 2 with the start weights and the bound that trains with identities (docs/benchmark.md), then fixed."""

Palette = Mapping[Part, tuple[float, ...]]
"""Channel values in 0..1 for each part: three for visible, one for infrared."""


def luminance(rgb: Rgb) -> float:
    """Brightness of a colour on a grey photograph (ITU-R BT.601 weights)."""
    red, green, blue = rgb
    return 0.299 * red + 0.587 * green + 0.114 * blue


def infrared_brightness(material: Material, gap: float) -> float:
    """Infrared brightness before contrasts are ensured: ``(1 - gap) · luminance + gap · own infrared value`` (ours).

    Args:
        material: The material.
        gap: 0 gives the luminance, 1 is independent of it.
    """
    return (1 - gap) * luminance(material.rgb) + gap * material.infrared


def make_palette(person: Person, modality: Modality, gap: float) -> Palette:
    """Channel values of all parts of a person in one modality.

    In infrared, the brightness of a part that is too close to that of the part below it is changed, so that most shapes
    stay visible. The change is proportional to `gap`: at 0, brightness is the luminance.

    Args:
        person: The person.
        modality: Three channels for visible, one for infrared.
        gap: Independence of infrared from colour, 0..1; visible ignores it.
    """
    if modality is Modality.VISIBLE:
        return {part: material.rgb for part, material in person.materials.items()}
    brightness: dict[Part, float] = {}
    for part, material in person.materials.items():
        value = infrared_brightness(material, gap)
        if part in LIES_UPON:
            value = _set_off(value, brightness[LIES_UPON[part]], material, min(1.0, 2 * gap))
        brightness[part] = value
    return {part: (value,) for part, value in brightness.items()}


def _set_off(value: float, under: float, material: Material, strength: float) -> float:
    """Move `value` away from `under` until they differ by the material's floor."""
    floor = material.floor * strength
    if abs(value - under) >= floor:
        return value
    up, down = under + floor, under - floor
    # In the direction of the existing difference, unless that leaves the range.
    if value >= under:
        return up if up <= 0.97 else down
    return down if down >= 0.03 else up
