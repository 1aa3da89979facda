"""A run's own images, and what its final model makes of them, as the report shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pclhd.data.images import DecodingOptions
from pclhd.report.figures.maps import PeopleMaps
from pclhd.report.images import heated, jpeg_uri, shrunk, sprite
from pclhd.runs.survey import Survey

Name = int | str
"""What the data calls a person or a camera."""

_WIDTH, _HEIGHT = 64, 128
_LONGEST_NAME = 24


@dataclass(frozen=True)
class Picture:
    """An image of the data.

    Attributes:
        file: The file.
        path: Its name as shown, below the data's folder.
        modality: ``visible`` or ``infrared``.
        camera: The camera, if it is known.
        identity: The person, if that is known.
        options: How to decode it.
    """

    file: Path
    path: str
    modality: str
    camera: Name | None = None
    identity: Name | None = None
    options: DecodingOptions = field(default_factory=DecodingOptions)

    @property
    def about(self) -> str:
        """Modality, identity and camera in words, as far as known."""
        parts = [self.modality]
        parts += [] if self.identity is None else [f"identity {self.identity}"]
        parts += [] if self.camera is None else [f"camera {self.camera}"]
        return ", ".join(parts)

    def small(self, width: int = _WIDTH, height: int = _HEIGHT) -> Image.Image | None:
        """The picture, shrunk; None if the file is gone."""
        return shrunk(self.file, width=width, height=height, options=self.options)


@dataclass(frozen=True)
class Tile:
    """A picture on the page.

    Attributes:
        uri: The picture; None if it is not there.
        path: The file's name.
        about: What it shows, in words.
        note: What is written below it.
        verdict: ``right`` or ``wrong``, or nothing where that is not known.
    """

    uri: str | None
    path: str
    about: str
    note: str = ""
    verdict: str = ""

    @property
    def name(self) -> str:
        """The end of the file's name, by which files differ."""
        return short_name(self.path)


def short_name(path: str) -> str:
    """The end of a path, by which files differ."""
    return path if len(path) <= _LONGEST_NAME else f"…{path[-_LONGEST_NAME:]}"


def tile(picture: Picture, *, note: str = "", verdict: str = "", large: bool = False) -> Tile:
    """A picture, ready for the page."""
    image = picture.small(96, 192) if large else picture.small()
    return Tile(None if image is None else jpeg_uri(image, quality=78), picture.path, picture.about, note, verdict)


@dataclass(frozen=True)
class Search:
    """A query of one's choice and the nearest images of the other modality.

    Attributes:
        query: The query.
        hits: The nearest images and their cosines, the nearest first.
        searched: How many images were searched.
    """

    query: Picture
    hits: tuple[tuple[Picture, float], ...]
    searched: int


@dataclass(frozen=True, eq=False)
class Album:
    """A run's training images.

    Attributes:
        name: The data's name, by its layout.
        drawn: Whether the people are drawn.
        pictures: All of them, visible ones first, in the order of the training set; none if they were not found.
        survey: What the final model makes of them; None in older runs, or if these are other images.
        places: (S, 2) places of `survey.map_rows` on the map; None without a survey.
        searches: Queries of one's choice.
        has_test: Whether the data have labelled test images, so that `pclhd evaluate` can measure.
        stages: Maps of some test people by the start and by the final weights, and how far each separates them, or why
            there are none; None without labelled test images or without start weights.
    """

    name: str
    drawn: bool
    pictures: tuple[Picture, ...]
    survey: Survey | None
    places: NDArray[np.float32] | None = None
    searches: tuple[Search, ...] = ()
    has_test: bool = False
    stages: PeopleMaps | str | None = None

    def members(self, modality: str, cluster: int) -> list[Picture]:
        """The images of a cluster, the most typical first."""
        assert self.survey is not None
        return [self.pictures[row] for row in self.survey.members(modality, cluster).tolist()]

    def focus(self, place: int) -> str | None:
        """The picture of a row with an activation map, under that map."""
        assert self.survey is not None
        image = self.pictures[int(self.survey.focus_rows[place])].small(96, 192)
        return None if image is None else jpeg_uri(heated(image, self.survey.focus[place]), quality=82)

    def map_sprite(self, *, width: int, height: int, across: int) -> str:
        """The images of the map in one picture."""
        assert self.survey is not None
        small = [self.pictures[row].small(width, height) for row in self.survey.map_rows.tolist()]
        return jpeg_uri(sprite(small, width=width, height=height, across=across), quality=60)


def main_person(pictures: Sequence[Picture]) -> tuple[Name | None, float | None]:
    """The person with most of the pictures, and their share: the purity; None if an identity is unknown."""
    people = [picture.identity for picture in pictures]
    if not people or None in people:
        return None, None
    ((person, count),) = Counter(people).most_common(1)
    return person, count / len(people)
