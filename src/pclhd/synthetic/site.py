"""Cameras of generator version 2: what sets the images of one camera apart from those of another.

A site is a camera of version 1 with more of its own: how it renders colour, how high it hangs, how far people pass, and
where its light falls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pclhd.data.records import Modality
from pclhd.synthetic.cameras import Camera, make_camera
from pclhd.synthetic.seeds import Population, Stream, generator, modality_code
from pclhd.synthetic.variation import VARIATION, Variation

_OWN_PROPERTIES = 1
"""Further key of the generator of what version 1 does not have."""


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A camera of version 2.

    Attributes:
        camera: Scenery, tone curve, blur, noise and shares of views, as in version 1.
        response: (3, 3) visible or (1, 1) infrared: recorded channels from true ones.
        haze: Brightness of black, 0..1.
        tilt: How steeply the camera looks down, 0 (from eye level) to about 0.5.
        detail: Usual share of the file's rows and columns that the sensor resolves; far people have fewer.
        falloff: (H, W) brightness over the image at its final size, about 1 in the middle.
        clutter: Share of passages with something in front of the person.
    """

    camera: Camera
    response: NDArray[np.float32]
    haze: float
    tilt: float
    detail: float
    falloff: NDArray[np.float32]
    clutter: float


@lru_cache(maxsize=64)
def make_site(
    seed: int, population: Population, modality: Modality, number: int, size: tuple[int, int], drawing: tuple[int, int]
) -> Site:
    """Draw the properties of a camera; the same arguments give the same camera.

    Args:
        seed: The data set's seed.
        population: Benchmark and starter have different cameras.
        modality: Visible or infrared.
        number: The camera's number.
        size: Height and width of its images.
        drawing: Height and width before shrinking.
    """
    camera = make_camera(seed, population, modality, number, *drawing, version=2)
    random = generator(seed, population, Stream.CAMERA, modality_code(modality), number, _OWN_PROPERTIES, version=2)
    choice = VARIATION[modality]
    views = random.dirichlet(choice.views)
    return Site(
        camera=replace(camera, views=tuple(float(share) for share in views)),
        response=_response(random, choice, 3 if modality is Modality.VISIBLE else 1),
        haze=float(random.uniform(*choice.haze)),
        tilt=float(random.uniform(*choice.tilt)),
        detail=float(random.uniform(*choice.detail)),
        falloff=_falloff(random, size, float(random.uniform(*choice.falloff))),
        clutter=float(random.uniform(*choice.clutter)),
    )


def _response(random: np.random.Generator, choice: Variation, channels: int) -> NDArray[np.float32]:
    """White balance and saturation of a sensor with that many channels."""
    saturation = random.uniform(*choice.saturation)
    grey = np.full((channels, channels), 1 / channels)
    balance = np.array([math.exp(shift) for shift in random.normal(0, choice.balance, channels)])
    mixed: NDArray[np.float64] = (saturation * np.eye(channels) + (1 - saturation) * grey) * balance[:, None]
    return mixed.astype(np.float32)


def _falloff(random: np.random.Generator, size: tuple[int, int], strength: float) -> NDArray[np.float32]:
    """A lamp or a dark corner: brightness falls off with the distance from a point of the image."""
    height, width = size
    middle = random.uniform(0.2, 0.8), random.uniform(0.1, 0.9)
    rows = (np.arange(height) + 0.5) / height - middle[0]
    columns = ((np.arange(width) + 0.5) / width - middle[1]) / 2
    distance = rows[:, None] ** 2 + columns[None, :] ** 2
    return (1 + 0.4 * strength - strength * np.sqrt(distance) * 1.6).astype(np.float32)
