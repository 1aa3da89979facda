"""The order of hits of both modalities (ours).

Similarities of two directions cannot be compared: strangers of one modality can be as alike as a visible and an
infrared image of one person. So the images of each modality are searched by themselves, and the hits are ordered by the
probability that they show the query's person, where the calibration says what the similarities mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pclhd.answers.calibration import Calibration
from pclhd.data.records import Modality
from pclhd.gallery.records import GalleryHit

_INCOMPARABLE = (
    "ordered by similarity, which cannot be compared between visible and infrared images: look at one modality at a "
    "time, or make a calibration for both with: pclhd calibrate RUN --data DIR"
)


@dataclass(frozen=True)
class Order:
    """How the hits of a search are ordered.

    Attributes:
        by: ``probability``, or ``similarity`` where the probability is not known for all that is searched.
        modalities: Those that are searched and have rows.
        note: What a reader of the hits must know; empty where hits are of one modality or ordered by probability.
    """

    by: Literal["probability", "similarity"]
    modalities: tuple[Modality, ...]
    note: str = ""


def order_of(calibration: Calibration | None, query: Modality, searched: Sequence[Modality]) -> Order:
    """How to order hits of some modalities.

    Args:
        calibration: That of the gallery's model; None if there is none.
        query: Modality of the query.
        searched: Modalities that are searched and have rows.
    """
    modalities = tuple(searched)
    if calibration is not None and all(map(calibration.covers, [query] * len(modalities), modalities)):
        return Order("probability", modalities)
    return Order("similarity", modalities, _INCOMPARABLE if len(modalities) > 1 else "")


def with_probabilities(
    hits: Sequence[GalleryHit], calibration: Calibration, query: Modality, sizes: Mapping[Modality, int]
) -> list[GalleryHit]:
    """Hits with their probabilities; None stays for a direction that has no calibration.

    Args:
        hits: Hits of one query.
        calibration: That of the gallery's model.
        query: Modality of the query.
        sizes: Rows of the whole gallery by modality: the more, the rarer the query's person among them.
    """
    known = {modality: size for modality, size in sizes.items() if calibration.covers(query, modality)}
    if not known:
        return list(hits)
    prior = calibration.prior_among(query, known)
    found = list(hits)
    for modality in known:
        rows = [row for row, hit in enumerate(hits) if hit.row.modality is modality]
        similarity = np.array([hits[row].similarity for row in rows])
        probability = calibration.probability(similarity, query, modality, prior)
        for row, value in zip(rows, probability.tolist(), strict=True):
            found[row] = replace(hits[row], probability=value)
    return found


def merged(lists: Sequence[Sequence[GalleryHit]], top: int) -> list[GalleryHit]:
    """One list from those of several modalities, by probability; then by similarity, then by number.

    The order within a list stays, also where re-ranking has changed it. Which list the next hit is taken from follows
    from their probabilities, as if each list were in their order.

    Args:
        lists: Hits with probabilities, a list per modality.
        top: At most this many are returned.
    """
    places = sorted((_place(hit), row) for row, hits in enumerate(lists) for hit in hits)
    following = [iter(hits) for hits in lists]
    return [replace(next(following[row]), rank=rank) for rank, (_, row) in enumerate(places[:top], start=1)]


def _place(hit: GalleryHit) -> tuple[float, float, int]:
    assert hit.probability is not None
    return -hit.probability, -hit.similarity, hit.row.number
