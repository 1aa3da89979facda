"""How many rows a gallery has: by modality, by camera, and between which times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from pclhd.data.records import Modality
from pclhd.gallery.filters import sql_filter
from pclhd.gallery.records import GalleryFilter
from pclhd.gallery.store import Store


@dataclass(frozen=True)
class Counts:
    """Counts of rows; see `pclhd.gallery.records.GalleryStats`."""

    modalities: Mapping[str, int]
    cameras: Mapping[str | None, int]
    first: datetime | None
    last: datetime | None


def count_rows(store: Store) -> Counts:
    """Count all rows by modality and camera, and find the earliest and latest time."""
    if not store.count():
        return Counts({}, {}, None, None)
    import pyarrow.compute as pc

    table = store.select(["modality", "camera", "time"])
    modalities, cameras = (
        {one["values"]: one["counts"] for one in pc.value_counts(table[name]).to_pylist()}
        for name in ("modality", "camera")
    )
    ends = pc.min_max(table["time"]).as_py()
    return Counts(
        dict(sorted(modalities.items())),
        dict(sorted(cameras.items(), key=lambda one: (one[0] is None, one[0] or ""))),
        ends["min"],
        ends["max"],
    )


def sizes_of(store: Store) -> dict[Modality, int]:
    """How many rows of each modality there are; a modality without rows is absent."""
    counted = {modality: store.count(sql_filter(GalleryFilter(modality=modality))) for modality in Modality}
    return {modality: size for modality, size in counted.items() if size}


def modalities_among(sizes: Mapping[Modality, int], where: GalleryFilter) -> list[Modality]:
    """Modalities that have rows and that a filter does not exclude by name."""
    return [modality for modality in sizes if where.modality in (None, modality)]


def share_left(sizes: Mapping[Modality, int], where: GalleryFilter) -> float | None:
    """Share of the rows that a filter leaves; None if it leaves none, or asks for more than a modality."""
    left = sum(sizes[modality] for modality in modalities_among(sizes, where))
    return None if not left or replace(where, modality=None) else left / sum(sizes.values())
