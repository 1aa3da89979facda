"""Rows of a gallery as LanceDB stores them, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.data.records import Modality
from pclhd.gallery.filters import as_utc
from pclhd.gallery.records import GalleryRow

_NEVER_NULL = {"id", "number", "modality", "digest", "added", "embedding"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The first and the last moment of Python's calendar, in microseconds since 1970.
_FIRST, _LAST = (
    (moment.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1) for moment in (datetime.min, datetime.max)
)


@dataclass(frozen=True)
class NewRow:
    """A row to be added.

    Attributes:
        digest: See `GalleryRow`.
        modality: Visible or infrared.
        camera: Name of the camera.
        time: When it was taken.
        track: Name of the track.
        source: Path of the image or video, if it is kept.
        frame: Number of the video's frame.
        thumbnail: A small JPEG, if it is kept.
        part: Number of the embedding, where a track has several.
    """

    digest: str
    modality: Modality
    camera: str | None = None
    time: datetime | None = None
    track: str | None = None
    source: str | None = None
    frame: int | None = None
    thumbnail: bytes | None = None
    part: int = 0

    @property
    def id(self) -> str:
        """The row's name."""
        return row_id(self.digest, self.modality, self.part)


def row_id(digest: str, modality: Modality, part: int = 0) -> str:
    """The name of a row: the same image of the same modality has the same one."""
    return hashlib.sha256(f"{modality} {digest} {part}".encode()).hexdigest()[:32]


def schema(embedding_size: int) -> Any:
    """The columns of the table.

    Args:
        embedding_size: Width of the embeddings.
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("number", pa.int64()),
            ("id", pa.string()),
            ("modality", pa.string()),
            ("camera", pa.string()),
            ("time", pa.timestamp("us", tz="UTC")),
            ("track", pa.string()),
            ("source", pa.string()),
            ("frame", pa.int64()),
            ("digest", pa.string()),
            ("model_id", pa.string()),
            ("added", pa.timestamp("us", tz="UTC")),
            ("thumbnail", pa.binary()),
            ("embedding", pa.list_(pa.float32(), embedding_size)),
        ]
    )


def to_arrow(rows: Sequence[NewRow], embeddings: NDArray[np.float32], *, first_number: int, model_id: str) -> Any:
    """New rows as an Arrow table.

    Args:
        rows: N rows.
        embeddings: (N, D) of unit length.
        first_number: Number of the first row.
        model_id: Id of the encoder.
    """
    import pyarrow as pa

    now = datetime.now(UTC)
    width = embeddings.shape[1]
    flat = pa.array(np.ascontiguousarray(embeddings, dtype=np.float32).reshape(-1), pa.float32())
    columns: dict[str, Any] = {
        "number": range(first_number, first_number + len(rows)),
        "id": [row.id for row in rows],
        "modality": [str(row.modality) for row in rows],
        "camera": [row.camera for row in rows],
        "time": [None if row.time is None else as_utc(row.time) for row in rows],
        "track": [row.track for row in rows],
        "source": [row.source for row in rows],
        "frame": [row.frame for row in rows],
        "digest": [row.digest for row in rows],
        "model_id": [model_id] * len(rows),
        "added": [now] * len(rows),
        "thumbnail": [row.thumbnail for row in rows],
    }
    wanted = schema(width)
    arrays = [pa.array(values, wanted.field(name).type) for name, values in columns.items()]
    return pa.Table.from_arrays([*arrays, pa.FixedSizeListArray.from_arrays(flat, width)], schema=wanted)


def from_arrow(table: Any) -> list[GalleryRow]:
    """The rows of an Arrow table with the columns of `GalleryRow`; others are not looked at."""
    rows = table.select([one.name for one in fields(GalleryRow)]).to_pylist()
    return [GalleryRow(**{**row, "modality": Modality(row["modality"])}) for row in rows]


def embeddings_of(table: Any) -> NDArray[np.float32]:
    """(N, D) the embeddings of an Arrow table."""
    column = table["embedding"].combine_chunks()
    width = column.type.list_size
    values = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float32).reshape(-1, width)


def schema_problem(found: Any, embedding_size: int | None) -> str | None:
    """How the columns of a table differ from those of a gallery; None if they do not.

    Args:
        found: The schema.
        embedding_size: Width of the gallery's embeddings; None if it is not known.
    """
    import pyarrow as pa

    if "embedding" not in found.names or not pa.types.is_fixed_size_list(found.field("embedding").type):
        return "its rows have no embeddings"
    width = found.field("embedding").type.list_size
    if embedding_size not in (None, width):
        return f"its embeddings have {width} values, not {embedding_size}"
    wanted = schema(width)
    if sorted(found.names) != sorted(wanted.names):
        return f"its rows have other columns: {', '.join(sorted(set(found.names) ^ set(wanted.names)))}"
    wrong = [field.name for field in wanted if found.field(field.name).type != field.type]
    return f"its column {wrong[0]} is of another kind" if wrong else None


def rows_problem(table: Any) -> str | None:
    """What no gallery holds in some columns of its rows; None if there is nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for column in set(table.column_names) & _NEVER_NULL:
        if table[column].null_count:
            return f"a row has no {column}"
    if "modality" in table.column_names and not set(pc.unique(table["modality"]).to_pylist()) <= set(Modality):
        return "a row has a modality other than visible and infrared"
    for column in {"time", "added"} & set(table.column_names):
        ends = pc.min_max(table[column].cast(pa.int64())).as_py()
        if ends["min"] is not None and not (ends["min"] >= _FIRST and ends["max"] <= _LAST):
            return f"a row has a {column} beyond the calendar"
    if "embedding" in table.column_names and not np.isfinite(embeddings_of(table)).all():
        return "an embedding is not finite"
    return None
