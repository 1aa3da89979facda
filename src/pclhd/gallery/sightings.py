"""Group found rows into sightings, so that fifty frames of one passage are one answer (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from pclhd.gallery.records import GalleryRow

#: Frames of one camera that are not further apart than this may belong to one sighting.
GAP = timedelta(seconds=60)
#: Without times, frames of one camera belong together from this cosine similarity on: they are near-duplicates.
NEAR_DUPLICATE = 0.97


@dataclass
class Group:
    """Found rows that belong together.

    Attributes:
        best: The row that is most similar to the query.
        members: All rows, best first.
        first: Earliest time; None where no row has one.
        last: Latest time.
    """

    best: int
    members: list[int] = field(default_factory=list)
    first: datetime | None = None
    last: datetime | None = None

    def _include(self, place: int, time: datetime | None) -> None:
        self.members.append(place)
        if time is not None:
            self.first = time if self.first is None else min(self.first, time)
            self.last = time if self.last is None else max(self.last, time)


def group_sightings(
    rows: Sequence[GalleryRow],
    embeddings: NDArray[np.float32],
    similarity: NDArray[np.float32],
    *,
    gap: timedelta = GAP,
    near_duplicate: float = NEAR_DUPLICATE,
) -> list[Group]:
    """Group rows that were found for one query.

    Rows are taken best first. A row joins the first group of its camera and modality

    * whose best row has the same track of the same video or folder, or
    * whose times it extends or leaves a gap of at most `gap`, if it is at least as similar to the group's best row as
      to the query: two people who pass together stay apart, and no threshold has to be known; or
    * if it or the group has no time, and it is a near-duplicate of the group's best row.

    Otherwise it begins a group. Rows of unknown cameras never share one, unless they are near-duplicates.

    Args:
        rows: N rows, best first.
        embeddings: (N, D) of unit length.
        similarity: (N,) to the query.
        gap: Longest time between neighbouring frames of a sighting.
        near_duplicate: Cosine similarity from which on rows without times belong together.

    Returns:
        Groups in the order of their best rows.
    """
    groups: list[Group] = []
    among = embeddings @ embeddings.T
    for place, row in enumerate(rows):
        for group in groups:
            best = rows[group.best]
            if (row.camera, row.modality) != (best.camera, best.modality):
                continue
            alike = among[place, group.best]
            if _same_track(row, best) or (
                alike >= near_duplicate
                if row.time is None or group.first is None or row.camera is None
                else _reaches(row.time, group, gap) and alike >= similarity[place]
            ):
                group._include(place, row.time)
                break
        else:
            group = Group(place)
            group._include(place, row.time)
            groups.append(group)
    return groups


def _same_track(one: GalleryRow, other: GalleryRow) -> bool:
    return one.track is not None and (one.track, one.source) == (other.track, other.source)


def _reaches(time: datetime, group: Group, gap: timedelta) -> bool:
    assert group.first is not None
    assert group.last is not None
    return group.first - gap <= time <= group.last + gap
