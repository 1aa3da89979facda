"""What the similarities of hits mean in a gallery of this size, and whether the query's person is in it at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.answers.calibration import Calibration
from pclhd.data.records import Modality
from pclhd.errors import UserError
from pclhd.gallery.gallery import Gallery
from pclhd.gallery.records import GalleryFilter, GalleryHit


class ByGallery:
    """A calibration with the prior of a gallery: the larger the gallery, the rarer the query's person in it.

    Args:
        calibration: That of the gallery's model.
        gallery: The gallery.
    """

    def __init__(self, calibration: Calibration, gallery: Gallery) -> None:
        self._calibration, self._gallery = calibration, gallery

    def probability(
        self, similarity: NDArray[np.float32], query: Modality, gallery: Sequence[Modality]
    ) -> NDArray[np.floating[Any]]:
        """See `pclhd.gallery.records.Calibration`; NaN for a direction that has no calibration."""
        found = np.full(len(similarity), np.nan)
        for modality in set(gallery):
            rows = np.array([one is modality for one in gallery])
            size = max(1, self._gallery.count(GalleryFilter(modality=modality)))
            try:
                prior = self._calibration.prior(query, modality, size)
                found[rows] = self._calibration.probability(similarity[rows], query, modality, prior)
            except UserError:  # the direction had too few pairs
                continue
        return found


@dataclass(frozen=True)
class Verdict:
    """The answer to "is this person here?".

    Attributes:
        no_one_here: No hit reaches the threshold of its direction; None without a calibration for it.
        threshold: The threshold of the best hit's direction.
    """

    no_one_here: bool | None
    threshold: float | None


def judge(
    hits: Sequence[GalleryHit],
    calibration: Calibration | None,
    query: Modality,
    *,
    false_match_rate: float,
    size_of: Callable[[Modality], int],
) -> Verdict:
    """Compare hits with the thresholds of a calibration.

    Args:
        hits: Best first.
        calibration: That of the gallery's model; None if there is none.
        query: Modality of the query.
        false_match_rate: Share of searches for people who are not in the gallery that may give an answer.
        size_of: How many rows of a modality were searched.

    Returns:
        The verdict. Without hits no one is here, whatever the calibration.
    """
    if not hits:
        return Verdict(True, None)
    if calibration is None:
        return Verdict(None, None)
    thresholds: dict[Modality, float] = {}
    for modality in {hit.row.modality for hit in hits}:
        try:
            thresholds[modality] = calibration.threshold(
                false_match_rate, query, modality, gallery_size=max(1, size_of(modality))
            )
        except UserError:  # this direction had too few pairs, or the rate is beyond what they can measure
            return Verdict(None, None)
    found = any(hit.similarity >= thresholds[hit.row.modality] for hit in hits)
    return Verdict(not found, thresholds[hits[0].row.modality])
