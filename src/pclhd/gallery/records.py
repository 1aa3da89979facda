"""What a gallery gives back: rows, hits, sightings, and what adding, removing and looking found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pclhd.data.records import Modality

Keep = Literal["path", "thumbnail", "both"]
"""What is kept of an image besides its embedding: where it lies, a small JPEG of it, or both."""

KEEPS: tuple[Keep, ...] = ("path", "thumbnail", "both")


@dataclass(frozen=True)
class GalleryRow:
    """One row of a gallery, without its embedding.

    Attributes:
        id: Id of the row, 32 hexadecimal digits; the same image of the same modality always gets the same one.
        number: Position in the order of adding, from 1; never used twice.
        modality: Visible or infrared.
        camera: What the user calls the camera; None where it is not known.
        time: When the image was taken, in UTC; None where it is not known.
        track: The tracker's name of the passage that the image belongs to.
        source: The image file, or the video; None if it was not kept, or for images in memory.
        frame: Number of the video's frame, from 0.
        digest: SHA-256 of the image, hexadecimal: of the file, or of the pixels for images in memory. For a track of
            a video, of the video and its boxes.
        added: When the row was added, in UTC.
    """

    id: str
    number: int
    modality: Modality
    camera: str | None
    time: datetime | None
    track: str | None
    source: str | None
    frame: int | None
    digest: str
    added: datetime

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON-compatible values; times in ISO 8601."""
        return {
            "id": self.id,
            "number": self.number,
            "modality": str(self.modality),
            "camera": self.camera,
            "time": _iso(self.time),
            "track": self.track,
            "source": self.source,
            "frame": self.frame,
            "digest": self.digest,
            "added": _iso(self.added),
        }


@dataclass(frozen=True)
class Sighting:
    """One passage of one person in front of one camera: hits that belong together.

    Attributes:
        first: Earliest time among the frames; None where no time is known.
        last: Latest time among the frames.
        others: The other frames that were found, best first. The best one is the hit that has this sighting.
    """

    first: datetime | None
    last: datetime | None
    others: tuple[GalleryHit, ...] = ()

    @property
    def frames(self) -> int:
        """How many frames of the sighting were found, the best one included."""
        return 1 + len(self.others)

    def to_dict(self) -> dict[str, Any]:
        """The sighting as JSON-compatible values; the other frames by id and similarity."""
        return {
            "first": _iso(self.first),
            "last": _iso(self.last),
            "frames": self.frames,
            "others": [{"id": one.row.id, "similarity": one.similarity} for one in self.others],
        }


@dataclass(frozen=True)
class GalleryHit:
    """A row that was found.

    Attributes:
        rank: From 1, in the order that `pclhd.Gallery.order` names.
        similarity: Cosine similarity to the query, −1 to 1. Not to be compared between visible and infrared rows.
        row: The row.
        probability: Probability that it shows the query's person, if that person is in the gallery; None without a
            calibration.
        sighting: The passage that it is the best frame of; None where frames are not grouped.
    """

    rank: int
    similarity: float
    row: GalleryRow
    probability: float | None = None
    sighting: Sighting | None = None

    def to_dict(self) -> dict[str, Any]:
        """The hit as JSON-compatible values, with those of its row."""
        known = {} if self.sighting is None else {"sighting": self.sighting.to_dict()}
        return {
            "rank": self.rank,
            "similarity": self.similarity,
            "probability": self.probability,
            **self.row.to_dict(),
            **known,
        }


@dataclass(frozen=True)
class Added:
    """What adding did.

    Attributes:
        added: Rows that are new.
        present: Images that were in the gallery before, or twice among those given.
        broken: Images that cannot be decoded, with the reason; they were left out.
    """

    added: int = 0
    present: int = 0
    broken: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON-compatible values."""
        return {"added": self.added, "present": self.present, "broken": list(self.broken)}


@dataclass(frozen=True)
class Removed:
    """What removing did.

    Attributes:
        removed: Rows that are gone, with their embeddings and thumbnails.
        left: Rows that are left.
    """

    removed: int
    left: int

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON-compatible values."""
        return {"removed": self.removed, "left": self.left}


#: Share of the rows that the filter leaves which the index is measured with.
FILTERED_SHARE = 1 / 20


@dataclass(frozen=True)
class IndexFacts:
    """The index of a gallery, and how well it finds what an exact search finds.

    Attributes:
        rows: Rows it was built for.
        partitions: Parts that the embeddings are divided into.
        probes: Parts that a search looks into.
        recall: Share of the ten nearest rows that it finds, mean of `queries` rows of the gallery drawn at random.
        queries: How many rows that was measured with.
        filtered_probes: Parts that a search with a filter looks into.
        filtered_recall: The same share with a filter that leaves a twentieth of the rows.
    """

    rows: int
    partitions: int
    probes: int
    recall: float
    queries: int
    filtered_probes: int | None = None  # None in galleries of older versions
    filtered_recall: float | None = None

    def probes_for(self, share: float | None) -> int:
        """Parts to look into with a filter (ours).

        Two numbers were measured: without a filter, and with one that leaves a twentieth of the rows. Between them the
        logarithm of the number of parts falls with the logarithm of the share.

        Args:
            share: Share of the rows that the filter leaves, above 0; 1 without a filter. None stands for a share that
                is not known, and is taken for a twentieth.
        """
        if self.filtered_probes is None:
            return self.probes
        way = 1.0 if share is None else min(1.0, math.log(share) / math.log(FILTERED_SHARE))
        return round(self.probes * math.pow(self.filtered_probes / self.probes, way))

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON-compatible values."""
        return vars(self).copy()


@dataclass(frozen=True)
class GalleryStats:
    """What is in a gallery.

    Attributes:
        rows: How many rows.
        modalities: Rows by modality.
        cameras: Rows by camera; None stands for rows without one.
        first: Earliest time of a row; None where no row has one.
        last: Latest time of a row.
        model_id: Id of the encoder.
        model: The model file that images were last added with.
        embedding_size: Width of the embeddings.
        bytes: Size of the gallery on disk.
        index: Facts about the index; None below the size where a search is exact.
        unfinished: Whether a removal was interrupted, so that bytes of removed rows may still be on the disk.
    """

    rows: int
    modalities: Mapping[str, int]
    cameras: Mapping[str | None, int]
    first: datetime | None
    last: datetime | None
    model_id: str
    model: str | None
    embedding_size: int
    bytes: int
    index: IndexFacts | None = None
    unfinished: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-compatible values; cameras as a list, since one of them may have no name."""
        return {
            "rows": self.rows,
            "modalities": dict(self.modalities),
            "cameras": [{"camera": name, "rows": count} for name, count in self.cameras.items()],
            "first": _iso(self.first),
            "last": _iso(self.last),
            "model_id": self.model_id,
            "model": self.model,
            "embedding_size": self.embedding_size,
            "bytes": self.bytes,
            "index": None if self.index is None else self.index.to_dict(),
            "unfinished": self.unfinished,
        }


@dataclass(frozen=True)
class GalleryFilter:
    """Which rows are meant; a row must satisfy all that is given.

    Attributes:
        camera: Name of a camera, or several names.
        modality: Visible or infrared.
        source: Path of the image or video, or a pattern of it with ``*``, ``?`` or ``[…]``, which also match ``/``.
        since: Earliest time.
        until: Latest time, included.
        track: Name of a track.
        ids: Ids of rows, or at least the first eight digits of each.
    """

    camera: str | Sequence[str] | None = None
    modality: Modality | Literal["visible", "infrared"] | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    track: str | None = None
    ids: Sequence[str] | None = field(default=None)

    def __bool__(self) -> bool:
        """Whether anything is asked for; without that, every row is meant."""
        return any(value is not None for value in vars(self).values())


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
