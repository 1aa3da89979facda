"""The bodies of requests and answers, which are also the OpenAPI document."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pclhd.gallery.records import GalleryFilter, GalleryHit, GalleryRow

Light = Literal["visible", "infrared"]
RowId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Problem(BaseModel):
    """Why a request was refused."""

    error: str


def error_body(reason: str) -> bytes:
    """The body of a refusal: one sentence."""
    return json.dumps({"error": " ".join(reason.split())}).encode()


class Row(BaseModel):
    """One image of the gallery; its embedding is not given out."""

    id: str
    number: int
    modality: Light
    camera: str | None
    time: datetime | None
    track: str | None
    file: str | None
    frame: int | None
    added: datetime

    @classmethod
    def of(cls, row: GalleryRow) -> Row:
        """A row without what only the server knows: of the path, the file's name is left."""
        file = None if row.source is None else row.source.rsplit("/", 1)[-1]
        return cls(
            id=row.id, number=row.number, modality=row.modality.value, camera=row.camera, time=row.time,
            track=row.track, file=file, frame=row.frame, added=row.added,
        )  # fmt: skip


class Frame(BaseModel):
    """A further frame of a sighting."""

    id: str
    similarity: float


class Hit(BaseModel):
    """An answer to a search: the best frame of a sighting, or a single frame."""

    rank: int
    similarity: float
    probability: float | None
    above_threshold: bool | None = None
    row: Row
    first: datetime | None = None
    last: datetime | None = None
    others: list[Frame] = []

    @classmethod
    def of(cls, hit: GalleryHit, above: bool | None = None) -> Hit:
        """A hit of the gallery, and whether it reaches the threshold."""
        sighting = hit.sighting
        others = () if sighting is None else sighting.others
        return cls(
            rank=hit.rank, similarity=hit.similarity, probability=hit.probability, above_threshold=above,
            row=Row.of(hit.row),
            first=None if sighting is None else sighting.first, last=None if sighting is None else sighting.last,
            others=[Frame(id=one.row.id, similarity=one.similarity) for one in others],
        )  # fmt: skip


class Query(BaseModel):
    """How the query was understood."""

    modality: Light
    guessed: bool
    digest: str


class Answer(BaseModel):
    """The result of a search.

    `no_one_here` is true if no hit reaches its threshold for the false match rate asked for, false if one does, and
    null where the gallery's model has no calibration. `thresholds` has those of the modalities among the hits that are
    known, `threshold` that of the first hit. Hits are ordered by `ordered_by`; `note` says what must be known about
    that order, and is empty otherwise.
    """

    query: Query
    hits: list[Hit]
    no_one_here: bool | None = None
    threshold: float | None = None
    thresholds: dict[Light, float] = {}
    ordered_by: Literal["probability", "similarity"] = "similarity"
    note: str = ""


class AddedRow(BaseModel):
    """What adding an image did."""

    added: int
    present: int
    modality: Light
    guessed: bool


class RowPage(BaseModel):
    """Rows in the order of adding; `next` is the `after` of the next page, null at the end."""

    rows: list[Row]
    next: int | None


class Camera(BaseModel):
    """A camera, and how many rows it has; null for rows without one."""

    camera: str | None
    rows: int


class Contents(BaseModel):
    """What is in the gallery."""

    rows: int
    visible: int
    infrared: int
    cameras: list[Camera]
    first: datetime | None
    last: datetime | None
    model: str
    calibrated: bool
    role: str


class Removal(BaseModel):
    """Which rows to remove; a row must satisfy all that is given, and something must be given."""

    model_config = ConfigDict(extra="forbid")

    cameras: list[Name] | None = None
    modality: Light | None = None
    since: datetime | None = None
    until: datetime | None = None
    track: Name | None = None
    ids: Annotated[list[RowId], Field(min_length=1, max_length=10_000)] | None = None

    def to_filter(self) -> GalleryFilter:
        """The filter of the gallery."""
        return GalleryFilter(
            camera=self.cameras, modality=self.modality, since=self.since, until=self.until, track=self.track,
            ids=self.ids,
        )  # fmt: skip


class RemovedRows(BaseModel):
    """How many rows were removed, and how many are left."""

    removed: int
    left: int
