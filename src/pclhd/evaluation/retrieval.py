"""The nearest gallery images of each query, as one checked value: for pictures of results and for search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Similarities held at once: 64 MiB in single precision.
_BLOCK_ELEMENTS = 1 << 24


@dataclass(frozen=True, eq=False)
class RankedResults:
    """For each query, gallery images in order of distance.

    Attributes:
        index: (Q, n) gallery row at each position, or -1 where a query has fewer than n images to see.
        distance: (Q, n) cosine distance, 0 (same direction) to 2; infinite where the index is -1.

    Raises:
        ValueError: Shapes differ, a row is not sorted, a distance is NaN, or an empty place has a finite distance.
    """

    index: NDArray[np.int64]
    distance: NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        if self.index.ndim != 2 or self.index.shape != self.distance.shape:
            raise ValueError(f"index of shape {self.index.shape} but distance of shape {self.distance.shape}")
        if np.isnan(self.distance).any():
            raise ValueError("a distance is NaN")
        unsorted = np.flatnonzero((self.distance[:, 1:] < self.distance[:, :-1]).any(axis=1))
        if len(unsorted):
            raise ValueError(f"row {unsorted[0]} is not sorted by distance")
        if (self.index < -1).any() or not np.array_equal(self.index == -1, np.isinf(self.distance)):
            raise ValueError("an index of -1 and an infinite distance mark the same places, and only these")

    def __len__(self) -> int:
        return len(self.index)


def unit_length(embeddings: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Scale each row to length one, in single precision.

    Args:
        embeddings: (N, D).

    Returns:
        (N, D).

    Raises:
        ValueError: Not a table, or a row is zero or not finite and so has no direction.
    """
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings must be (N, D), not of shape {embeddings.shape}")
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(length[:, 0]) | (length[:, 0] == 0))
    if len(bad):
        raise ValueError(f"embedding {bad[0]} has length {length[bad[0], 0]}, so it points nowhere")
    return np.asarray(embeddings / length, dtype=np.float32)


def rank_gallery(
    query_embeddings: NDArray[np.floating[Any]],
    gallery_embeddings: NDArray[np.floating[Any]],
    *,
    top_n: int,
    excluded: NDArray[np.bool_] | None = None,
) -> RankedResults:
    """The `top_n` nearest gallery images of each query by cosine distance; equal distances go by gallery index (ours).

    For unit vectors this is the order of the negative dot product, by which the released code ranks. Memory is bounded
    by a block of queries.

    Args:
        query_embeddings: (Q, D), of any length but zero.
        gallery_embeddings: (G, D), of any length but zero.
        top_n: Number of images wanted per query; fewer come back if the gallery is smaller.
        excluded: (Q, G) True where a query must not see an image.

    Returns:
        (Q, min(top_n, G)) images and distances.

    Raises:
        ValueError: Shapes do not agree, `top_n` is not positive, or an embedding has no direction.
    """
    queries, gallery = unit_length(query_embeddings), unit_length(gallery_embeddings)
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} dimensions, the gallery {gallery.shape[1]}")
    if excluded is not None and excluded.shape != (len(queries), len(gallery)):
        raise ValueError(f"excluded has shape {excluded.shape}, not {(len(queries), len(gallery))}")
    if top_n < 1:
        raise ValueError(f"at least one image must be asked for, not {top_n}")
    width = min(top_n, len(gallery))
    index = np.empty((len(queries), width), dtype=np.int64)
    distance = np.empty((len(queries), width), dtype=np.float32)
    step = max(1, _BLOCK_ELEMENTS // max(1, len(gallery)))
    for first in range(0, len(queries), step):
        block = slice(first, first + step)
        table = 1 - queries[block] @ gallery.T
        # Rounding may leave a hair below zero, and a distance is not negative.
        np.maximum(table, 0, out=table)
        if excluded is not None:
            table[excluded[block]] = np.inf
        index[block] = _nearest(table, width)
        distance[block] = np.take_along_axis(table, index[block], axis=1)
    index[np.isinf(distance)] = -1
    return RankedResults(index, distance)


def _nearest(table: NDArray[np.float32], width: int) -> NDArray[np.int64]:
    """(B, width) columns of the smallest entries of each row, ascending, equal ones by column."""
    if width == table.shape[1]:
        return np.argsort(table, axis=1, kind="stable")
    # A partition finds the smallest entries without ordering the rest; columns ascend before the stable sort.
    chosen = np.sort(np.argpartition(table, width - 1, axis=1)[:, :width], axis=1)
    values = np.take_along_axis(table, chosen, axis=1)
    chosen = np.take_along_axis(chosen, np.argsort(values, axis=1, kind="stable"), axis=1)
    # It picks at random among entries equal to the last one taken, so such rows are sorted in full.
    cut_in_tie = np.sum(table <= values.max(axis=1, keepdims=True), axis=1) > width
    chosen[cut_in_tie] = np.argsort(table[cut_in_tie], axis=1, kind="stable")[:, :width]
    return chosen
