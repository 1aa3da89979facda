"""All rows from a similarity on, by comparing the whole gallery with one embedding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pclhd.gallery.records import GalleryHit, GalleryRow
from pclhd.gallery.rows import embeddings_of, from_arrow
from pclhd.gallery.store import NARROW_COLUMNS, Store


def all_alike(store: Store, vector: NDArray[np.float32], least: float, where: str | None) -> list[GalleryHit]:
    """Rows whose cosine similarity is at least `least`, most similar first.

    Args:
        store: The gallery.
        vector: (D,) of unit length.
        least: The similarity.
        where: A condition; only rows that satisfy it are compared.
    """
    found: list[tuple[float, GalleryRow]] = []
    for page in store.pages([*NARROW_COLUMNS, "embedding"], where):
        alike = embeddings_of(page) @ vector
        rows = np.flatnonzero(alike >= least)
        found += zip(alike[rows].tolist(), from_arrow(page.take(rows)), strict=True)
    found.sort(key=lambda one: (-one[0], one[1].number))
    return [GalleryHit(rank, value, row) for rank, (value, row) in enumerate(found, start=1)]
