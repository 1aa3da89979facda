"""Search a gallery: candidates from the table, in exact order, re-ranked and grouped if asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.errors import ArgumentError
from pclhd.gallery.records import GalleryHit, GalleryRow, Sighting
from pclhd.gallery.rows import embeddings_of, from_arrow
from pclhd.gallery.sightings import Group, group_sightings
from pclhd.gallery.store import Store

# Candidates at first, for each hit that is wanted: a passage has many frames.
_FRAMES = 8
_LEAST_CANDIDATES = 50
# Rows that an index is asked for, for each hit: it compares rounded embeddings, and the best are chosen by whole ones.
INDEXED_CANDIDATES = 2
# With fewer candidates, sightings beyond the first thousands of frames are not looked for.
_MOST_CANDIDATES = 4096
_RERANKED = 200
# Sizes of the neighbourhoods and weight of the first ranking, as in the re-ranking paper (Zhong et al., CVPR 2017).
_K1, _K2, _FIRST_SHARE = 20, 6, 0.3


def search_store(
    store: Store,
    vector: NDArray[np.floating[Any]],
    *,
    top: int,
    where: str | None,
    probes: int | None,
    group: bool,
    gap: timedelta,
    rerank: bool,
) -> list[GalleryHit]:
    """The hits of one query; see `pclhd.gallery.gallery.Gallery.search`.

    Args:
        store: The gallery.
        vector: (D,) the query's embedding.
        top: Number of hits.
        where: Only rows that satisfy this are searched.
        probes: Parts of the index to look into; None searches all rows.
        group: Whether a hit is a sighting.
        gap: Longest time between neighbouring frames of a sighting.
        rerank: Whether candidates are ordered by k-reciprocal neighbours, too.

    Raises:
        ArgumentError: `top` is not positive, or `gap` negative.
        ValueError: The vector has no direction.
    """
    if top < 1:
        raise ArgumentError("top", "must be at least 1", value=top)
    if gap < timedelta(0):
        raise ArgumentError("gap", "must not be negative", value=gap)
    length = float(np.linalg.norm(vector))
    if vector.ndim != 1 or not np.isfinite(length) or length == 0:
        raise ValueError(f"a query is one vector of finite length, not {vector.shape} of length {length}")
    query = np.asarray(vector / length, dtype=np.float32)
    wanted = max(_LEAST_CANDIDATES, _FRAMES * top) if group else top
    if probes is not None:
        wanted = max(wanted, INDEXED_CANDIDATES * top)
    if rerank:
        wanted = max(wanted, _RERANKED)
    while True:
        table = store.nearest(query, wanted, where, probes=probes)
        if not len(table):
            return []
        rows, embeddings, similarity = _in_order(table, query)
        if rerank:
            order = reranked(query, embeddings)
            rows, embeddings, similarity = [rows[row] for row in order], embeddings[order], similarity[order]
        if not group:
            return [GalleryHit(rank, float(similarity[rank - 1]), row) for rank, row in enumerate(rows[:top], start=1)]
        groups = group_sightings(rows, embeddings, similarity, gap=gap)
        if len(groups) >= top or len(rows) < wanted or wanted >= _MOST_CANDIDATES:
            return [_hit(rank, one, rows, similarity) for rank, one in enumerate(groups[:top], start=1)]
        wanted = min(4 * wanted, _MOST_CANDIDATES)


def _in_order(
    table: Any, query: NDArray[np.float32]
) -> tuple[list[GalleryRow], NDArray[np.float32], NDArray[np.float32]]:
    """Rows by exact similarity, equal ones in the order of adding."""
    embeddings = embeddings_of(table)
    similarity = np.clip(embeddings @ query, -1, 1)
    order = np.lexsort((table["number"].to_numpy(), -similarity))
    return from_arrow(table.take(order)), embeddings[order], similarity[order]


def reranked(query: NDArray[np.float32], embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
    """The order of candidates by k-reciprocal re-ranking (Zhong et al., CVPR 2017) among themselves and the query.

    Args:
        query: (D,) of unit length.
        embeddings: (N, D) of unit length, in order of similarity.

    Returns:
        (N,) rows, best first.
    """
    from pclhd.clustering.jaccard import jaccard_similarity

    if len(embeddings) < 2:
        return np.arange(len(embeddings))
    together = np.concatenate([query[None], embeddings])
    jaccard = 1 - np.asarray(jaccard_similarity(together, _K1, _K2)[0].todense()).reshape(-1)[1:]
    distance = (1 - _FIRST_SHARE) * jaccard + _FIRST_SHARE * (1 - embeddings @ query)
    return np.argsort(distance, kind="stable")


def _hit(rank: int, group: Group, rows: Sequence[GalleryRow], similarity: NDArray[np.float32]) -> GalleryHit:
    others = tuple(
        GalleryHit(place, float(similarity[member]), rows[member])
        for place, member in enumerate(group.members[1:], start=2)
    )
    sighting = Sighting(group.first, group.last, others)
    return GalleryHit(rank, float(similarity[group.best]), rows[group.best], sighting=sighting)
