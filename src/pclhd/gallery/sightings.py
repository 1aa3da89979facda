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

# Frames of one passage are as similar to each other as to another image of the person, or more; noise takes its share.
_OWN_SHARE = 0.8
# Less than this is no likeness. The query may be an image of the gallery: then rows are as similar to the best row as
# to the query, however low that is.
_LEAST = 0.5


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

    Rows are taken best first. A row joins the first group of its camera and modality to whose best row it belongs:

    * if both are from tracks of one video or folder, if it is the same track;
    * otherwise, if its time is within the group's times or at most `gap` from them, and it is about as similar to the
      group's best row as to the query (at least 0.8 of that, and 0.5): two people who pass together stay apart, and no
      threshold of the model has to be known;
    * without times, or without a camera, if it is a near-duplicate of the group's best row.

    If there is no such group, it begins one.

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
            joins = _tracks_agree(row, best)
            if joins is None:
                alike = among[place, group.best]
                if row.time is None or group.first is None or row.camera is None:
                    joins = bool(alike >= near_duplicate)
                else:
                    least = max(_LEAST, min(near_duplicate, _OWN_SHARE * float(similarity[place])))
                    joins = _reaches(row.time, group, gap) and bool(alike >= least)
            if joins:
                group._include(place, row.time)
                break
        else:
            group = Group(place)
            group._include(place, row.time)
            groups.append(group)
    return groups


def _tracks_agree(one: GalleryRow, other: GalleryRow) -> bool | None:
    """Whether a tracker says that two rows show one passage; None if it says nothing.

    Trackers count from one in each video; so the video, or the folder of images, has to be the same.
    """
    if one.track is None or other.track is None:
        return None
    if one.digest == other.digest:
        return True
    known = None not in (one.source, other.source) and _place(one) == _place(other)
    return one.track == other.track if known else None


def _place(row: GalleryRow) -> str:
    assert row.source is not None
    return row.source if row.frame is not None else row.source.rpartition("/")[0]


def _reaches(time: datetime, group: Group, gap: timedelta) -> bool:
    assert group.first is not None
    assert group.last is not None
    return group.first - gap <= time <= group.last + gap
