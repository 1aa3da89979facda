"""Ranked strips: a query and the first gallery images under several sets of weights, as values for the template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pclhd.report.images import data_uri
from pclhd.report.tables import order_weights, weights_name
from pclhd.runs.records import QueryImage, RankedExample, RankedExamples, RankedImage

SHOWN_RANKS = 10
"""Gallery images per strip."""

_WIDTH, _HEIGHT = 96, 192


@dataclass(frozen=True)
class Shot:
    """One image.

    Attributes:
        path: Its path in the data's folder.
        about: Modality, identity and camera in words, as far as they are known.
        uri: The picture, or None if it was not found.
    """

    path: str
    about: str
    uri: str | None


@dataclass(frozen=True)
class RankedShot:
    """One gallery image in a strip; the distance is that to the query, if it was saved."""

    rank: int
    correct: bool
    distance: float | None
    shot: Shot


@dataclass(frozen=True)
class Strip:
    """The head of a ranked list under one set of weights; the rank is None if no gallery image is right."""

    weights: str
    first_correct_rank: int | None
    ranked: tuple[RankedShot, ...]


@dataclass(frozen=True)
class Example:
    """A query with one strip per set of weights."""

    query: Shot
    strips: tuple[Strip, ...]


def examples_of(examples: RankedExamples, root: Path | None, *, most: int = 12) -> list[Example]:
    """Every query with one strip per set of weights.

    Args:
        examples: Ranked lists of the same queries under each set of weights.
        root: The data's folder, or None if it is not known.
        most: Queries shown at most.
    """
    by_query: dict[str, dict[str, RankedExample]] = {}
    for weights in order_weights(list(examples.weights)):
        for example in examples.weights[weights]:
            by_query.setdefault(example.query.path, {})[weights] = example
    return [
        Example(
            _shot(next(iter(lists.values())).query, root),
            tuple(_strip(weights, example, root) for weights, example in lists.items()),
        )
        for lists in list(by_query.values())[:most]
    ]


def _strip(weights: str, example: RankedExample, root: Path | None) -> Strip:
    ranked = tuple(
        RankedShot(rank, image.correct, image.distance, _shot(image, root))
        for rank, image in enumerate(example.gallery[:SHOWN_RANKS], start=1)
    )
    return Strip(weights_name(weights), example.first_correct_rank, ranked)


def _shot(image: QueryImage | RankedImage, root: Path | None) -> Shot:
    uri = None if root is None else data_uri(root / image.path, width=_WIDTH, height=_HEIGHT)
    return Shot(image.path, _about(image), uri)


def _about(image: QueryImage | RankedImage) -> str:
    parts = [image.modality or ""]
    if image.identity is not None:
        parts.append(f"identity {image.identity}")
    if image.camera is not None:
        parts.append(f"camera {image.camera}")
    return ", ".join(part for part in parts if part) or "unnamed image"
