"""What an image is drawn from: the parameters of a data set, and the name of the image."""

from __future__ import annotations

from dataclasses import dataclass

from pclhd.data.records import Modality
from pclhd.synthetic.seeds import Population, Version

VISIBLE_CAMERAS = (1, 2, 4, 5)
INFRARED_CAMERAS = (3, 6)


@dataclass(frozen=True, slots=True)
class World:
    """The parameters that all images of a data set share.

    Attributes:
        seed: The data set's seed.
        population: Population of people and cameras.
        gap: Independence of infrared brightness from colour, 0..1.
        height: Image height in pixels.
        width: Image width in pixels.
        version: Version of the generator.
    """

    seed: int
    population: Population
    gap: float
    height: int
    width: int
    version: Version = 1

    @property
    def shrink(self) -> int:
        """How many times larger images are drawn than they are kept, for smooth edges."""
        return max(2, round(288 / self.height))


@dataclass(frozen=True, slots=True)
class Shot:
    """One image to render.

    Attributes:
        identity: The person.
        modality: Visible or infrared.
        camera: Camera number.
        index: Number of the image among those of this person and camera.
    """

    identity: int
    modality: Modality
    camera: int
    index: int
