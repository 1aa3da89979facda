"""Cameras of generator version 2: what sets the images of one camera apart from those of another.

A site is a camera of version 1 with more of its own: how it renders colour, how high it hangs, how far people pass, and
where its light falls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pclhd.data.records import Modality
from pclhd.synthetic.cameras import Camera, make_camera
from pclhd.synthetic.seeds import Population, Stream, generator, modality_code

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
    random = generator(
        seed, population, Stream.CAMERA, modality_code(modality), number, _OWN_PROPERTIES, version=2
    )
    visible = modality is Modality.VISIBLE
    views = random.dirichlet([2.6, 2.2, 1.1, 1.1])
    camera = replace(camera, views=tuple(float(share) for share in views))
    return Site(
        camera=camera,
        response=_colour_response(random) if visible else np.ones((1, 1), dtype=np.float32),
        haze=float(random.uniform(0.0, 0.1 if visible else 0.06)),
        tilt=float(random.uniform(0.0, 0.42)),
        detail=float(random.uniform(0.42, 1.0) if visible else random.uniform(0.5, 0.9)),
        falloff=_falloff(random, size, 0.3 if visible else 0.45),
        clutter=float(random.uniform(0.05, 0.3)),
    )


def _colour_response(random: np.random.Generator) -> NDArray[np.float32]:
    """White balance, saturation and cross talk of a sensor."""
    saturation = random.uniform(0.6, 1.15)
    grey = np.full((3, 3), 1 / 3)
    balance = np.exp(random.normal(0, 0.11, 3))
    talk = random.uniform(0.0, 0.1, (3, 3))
    mixed = (saturation * np.eye(3) + (1 - saturation) * grey) * balance[:, None] + talk - np.diag(np.diag(talk))
    return (mixed / mixed.sum(axis=1).mean()).astype(np.float32)


def _falloff(random: np.random.Generator, size: tuple[int, int], most: float) -> NDArray[np.float32]:
    """A lamp or a dark corner: brightness falls off with the distance from a point of the image."""
    height, width = size
    strength = random.uniform(0.05, most)
    middle = random.uniform(0.2, 0.8), random.uniform(0.1, 0.9)
    rows = (np.arange(height) + 0.5) / height - middle[0]
    columns = ((np.arange(width) + 0.5) / width - middle[1]) / 2
    distance = rows[:, None] ** 2 + columns[None, :] ** 2
    return (1 + 0.4 * strength - strength * np.sqrt(distance) * 1.6).astype(np.float32)
