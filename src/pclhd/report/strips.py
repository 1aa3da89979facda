"""Ranked strips: a query and the first gallery images under several sets of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pclhd.report.images import data_uri
from pclhd.report.tables import order_weights, weights_name
from pclhd.runs.records import QueryImage, RankedExample, RankedExamples, RankedImage

SHOWN_RANKS = 10
"""Gallery images per strip."""


@dataclass(frozen=True)
class Example:
    """A query and the beginning of its ranked list for each set of weights, in the order of training."""

    query: QueryImage
    lists: dict[str, RankedExample]


def examples_of(examples: RankedExamples, *, most: int = 12) -> list[Example]:
    """The saved lists by query, in the saved order; at most `most` queries."""
    by_query: dict[str, Example] = {}
    for weights in order_weights(list(examples.weights)):
        for saved in examples.weights[weights]:
            example = by_query.setdefault(saved.query.path, Example(saved.query, {}))
            head = saved.model_copy(update={"gallery": saved.gallery[:SHOWN_RANKS]})
            example.lists[weights_name(weights)] = head
    return list(by_query.values())[:most]


def pictures_of(examples: Sequence[Example], root: Path | None) -> dict[str, str | None]:
    """A thumbnail of each image by its path; None if there is no readable image in the data folder."""
    paths = [one.query.path for one in examples]
    paths += [image.path for one in examples for saved in one.lists.values() for image in saved.gallery]
    return {path: None if root is None else data_uri(root, path, width=96, height=192) for path in dict.fromkeys(paths)}


def about(image: QueryImage | RankedImage) -> str:
    """Modality, identity and camera of an image in words, as far as known."""
    parts = [image.modality or ""]
    if image.identity is not None:
        parts.append(f"identity {image.identity}")
    if image.camera is not None:
        parts.append(f"camera {image.camera}")
    return ", ".join(part for part in parts if part) or "unnamed image"
