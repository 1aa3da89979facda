"""What each part of a person sends back to a visible and to an infrared camera."""

from __future__ import annotations

from collections.abc import Mapping

from pclhd.data.records import Modality
from pclhd.synthetic.person import LIES_UPON, Material, Part, Person, Rgb

DEFAULT_GAP = 0.55
"""Chosen with the starter weights and a label-trained classifier alone, before any method was tried, then frozen."""

Palette = Mapping[Part, tuple[float, ...]]
"""Channel values in 0..1 for each part: three for visible, one for infrared."""


def luminance(rgb: Rgb) -> float:
    """Brightness of a colour on a grey photograph (ITU-R BT.601 weights)."""
    red, green, blue = rgb
    return 0.299 * red + 0.587 * green + 0.114 * blue


def infrared_brightness(material: Material, gap: float) -> float:
    """Brightness in infrared before contrasts are kept: ``(1 - gap) · luminance + gap · own infrared value`` (ours).

    Args:
        material: The material.
        gap: 0 copies the luminance, 1 knows nothing of the colour.
    """
    return (1 - gap) * luminance(material.rgb) + gap * material.infrared


def make_palette(person: Person, modality: Modality, gap: float) -> Palette:
    """Channel values of all parts of a person in one modality.

    In infrared, a part too close in brightness to the one it lies upon is moved away, so that most shapes stay visible.
    The move shrinks to nothing as `gap` goes to 0, where brightness is the luminance itself.

    Args:
        person: Whose parts.
        modality: Visible gives three channels, infrared one.
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
    # Further the way it already leans, unless that leaves the scale.
    if value >= under:
        return up if up <= 0.97 else down
    return down if down >= 0.03 else up
