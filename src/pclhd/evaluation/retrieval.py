"""The nearest gallery images of each query in one validated object, for metrics, reports and search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.data.records import ImageInfo
from pclhd.evaluation.metrics import CmcOver, ExclusionRule, Metrics, measure_ranking

# Similarities in memory at once: 64 MiB in single precision.
_BLOCK_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class Hit:
    """A gallery image in the ranked list of a query.

    Attributes:
        rank: From 1.
        row: The gallery row.
        distance: Cosine distance, 0 (same direction) to 2.
        image: Description of the image; None where the gallery was an array.
        correct: Whether it shows the query's person; None where an identity is unknown.
    """

    rank: int
    row: int
    distance: float
    image: ImageInfo | None = None
    correct: bool | None = None

    @property
    def similarity(self) -> float:
        """Cosine, −1 to 1."""
        return 1 - self.distance

    @property
    def path(self) -> Path | None:
        """Path of the image file, if known."""
        return None if self.image is None else self.image.path

    @property
    def camera(self) -> int | None:
        """Camera number, if known."""
        return None if self.image is None else self.image.camera

    def to_dict(self) -> dict[str, Any]:
        """The hit as JSON-compatible values."""
        known = {} if self.correct is None else {"correct": self.correct}
        return {"rank": self.rank, "row": self.row, "similarity": self.similarity, **_describe(self.image), **known}


@dataclass(frozen=True, eq=False)
class RankedResults:
    """For each query, gallery images in order of distance: for metrics, reports and search.

    Attributes:
        index: (Q, n) gallery row at each position, or -1 where a query has fewer than n images.
        distance: (Q, n) cosine distance, 0 (same direction) to 2; infinite where the index is -1.
        queries: Descriptions of the Q queries; None for arrays.
        gallery: Descriptions of the gallery images; None for arrays.

    Raises:
        ValueError: Shapes differ, a row is not sorted, a distance is NaN, an empty position has a finite distance, or
            there is not one description per image.
    """

    index: NDArray[np.int64]
    distance: NDArray[np.floating[Any]]
    queries: tuple[ImageInfo, ...] | None = None
    gallery: tuple[ImageInfo, ...] | None = None

    def __post_init__(self) -> None:
        if self.index.ndim != 2 or self.index.shape != self.distance.shape:
            raise ValueError(f"index of shape {self.index.shape} but distance of shape {self.distance.shape}")
        if np.isnan(self.distance).any():
            raise ValueError("a distance is NaN")
        unsorted = np.flatnonzero((self.distance[:, 1:] < self.distance[:, :-1]).any(axis=1))
        if len(unsorted):
            raise ValueError(f"row {unsorted[0]} is not sorted by distance")
        if (self.index < -1).any() or not np.array_equal(self.index == -1, np.isinf(self.distance)):
            raise ValueError("an index of -1 and an infinite distance must be at the same positions")
        if self.queries is not None and len(self.queries) != len(self.index):
            raise ValueError(f"{len(self.queries)} queries are described, but {len(self.index)} were ranked")
        if self.gallery is not None and self.index.max(initial=-1) >= len(self.gallery):
            raise ValueError(f"gallery row {self.index.max()} of {len(self.gallery)} described images")

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, query: int) -> list[Hit]:
        """The ranked list of one query."""
        places = zip(self.index[query].tolist(), self.distance[query].tolist(), strict=True)
        correct = self.correct
        return [
            Hit(
                rank,
                row,
                distance,
                None if self.gallery is None else self.gallery[row],
                None if correct is None else bool(correct[query, rank - 1]),
            )
            for rank, (row, distance) in enumerate(places, start=1)
            if row >= 0
        ]

    def __iter__(self) -> Iterator[list[Hit]]:
        return (self[query] for query in range(len(self)))

    @cached_property
    def correct(self) -> NDArray[np.bool_] | None:
        """(Q, n) whether each image shows its query's person; None where an identity is unknown."""
        queries, gallery = _identities(self.queries), _identities(self.gallery)
        if queries is None or gallery is None:
            return None
        correct: NDArray[np.bool_] = (self.index >= 0) & (gallery[self.index] == queries[:, None])
        return correct

    def metrics(
        self, *, rule: ExclusionRule = ExclusionRule.NONE, cmc_over: CmcOver = "images", max_rank: int = 20
    ) -> Metrics:
        """CMC, mAP and mINP of lists of the whole gallery, computed as in benchmarks.

        Args:
            rule: The exclusion rule; excluded images may be missing from the lists.
            cmc_over: Whether positions of the CMC are counted in identities (SYSU-MM01, LLCM) or images (RegDB).
            max_rank: Length to which the CMC is cut.

        Raises:
            UserError: No query has a correct gallery image left.
            ValueError: Identities or cameras are unknown, or the lists are shorter than the gallery.
        """
        if self.queries is None or self.gallery is None:
            raise ValueError("the results have no image descriptions, so there are no identities to measure with")
        if self.index.shape[1] < len(self.gallery):
            raise ValueError(
                f"the lists have {self.index.shape[1]} of {len(self.gallery)} images; measures need the whole gallery"
            )
        # Positions replace distances: the measures depend only on the order. Excluded images come last, and the meter
        # excludes them again.
        position = np.full((len(self), len(self.gallery)), float(len(self.gallery)))
        query, place = np.nonzero(self.index >= 0)
        position[query, self.index[query, place]] = place
        return measure_ranking(
            position,
            _column(self.queries, "identity"),
            _column(self.gallery, "identity"),
            _column(self.queries, "camera") if rule.needs_cameras else None,
            _column(self.gallery, "camera") if rule.needs_cameras else None,
            rule=rule,
            cmc_over=cmc_over,
            max_rank=max_rank,
        )

    def to_dict(self) -> list[dict[str, Any]]:
        """One entry per query as JSON-compatible values: its description and its ranked list."""
        return [
            {
                "query": {"row": row, **_describe(None if self.queries is None else self.queries[row])},
                "hits": [hit.to_dict() for hit in self[row]],
            }
            for row in range(len(self))
        ]

    def to_pandas(self) -> Any:
        """A pandas DataFrame with one row per query and hit.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas

        return pandas.DataFrame(
            [
                {**{f"query_{name}": value for name, value in entry["query"].items()}, **hit}
                for entry in self.to_dict()
                for hit in entry["hits"]
            ]
        )


def _describe(image: ImageInfo | None) -> dict[str, Any]:
    if image is None:
        return {}
    path = None if image.path is None else image.path.as_posix()
    known = {} if image.identity is None else {"identity": image.identity}
    return {"path": path, "modality": str(image.modality), "camera": image.camera, **known}


def _column(images: tuple[ImageInfo, ...], name: str) -> NDArray[np.int64]:
    values = [getattr(image, name) for image in images]
    if any(value is None for value in values):
        raise ValueError(f"the {name} of an image is unknown; the measures need all")
    return np.array(values, dtype=np.int64)


def _identities(images: tuple[ImageInfo, ...] | None) -> NDArray[np.int64] | None:
    if images is None or any(image.identity is None for image in images):
        return None
    return np.array([image.identity for image in images], dtype=np.int64)


def unit_length(embeddings: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Scale each row to length one, in single precision.

    Args:
        embeddings: (N, D).

    Returns:
        (N, D).

    Raises:
        ValueError: Not two-dimensional, or a row is zero or not finite.
    """
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings must be (N, D), not of shape {embeddings.shape}")
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(length[:, 0]) | (length[:, 0] == 0))
    if len(bad):
        raise ValueError(f"embedding {bad[0]} has length {length[bad[0], 0]}, so it has no direction")
    return np.asarray(embeddings / length, dtype=np.float32)


def rank_gallery(
    query_embeddings: NDArray[np.floating[Any]],
    gallery_embeddings: NDArray[np.floating[Any]],
    *,
    top_n: int,
    excluded: NDArray[np.bool_] | None = None,
    queries: tuple[ImageInfo, ...] | None = None,
    gallery: tuple[ImageInfo, ...] | None = None,
) -> RankedResults:
    """The `top_n` nearest gallery images of each query by cosine distance, then by gallery index (ours).

    For unit vectors, this is the order by negative dot product, as in the released code. Memory is bounded by a block
    of queries.

    Args:
        query_embeddings: (Q, D), of any length except zero.
        gallery_embeddings: (G, D), of any length except zero.
        top_n: Number of images per query; fewer are returned if the gallery is smaller.
        excluded: (Q, G) True where an image is excluded for a query.
        queries: Descriptions of the queries, for the results.
        gallery: Descriptions of the gallery images, for the results.

    Returns:
        (Q, min(top_n, G)) images and distances.

    Raises:
        ValueError: Shapes do not agree, `top_n` is not positive, or an embedding is zero or not finite.
    """
    asked, searched = unit_length(query_embeddings), unit_length(gallery_embeddings)
    if asked.shape[1] != searched.shape[1]:
        raise ValueError(f"queries have {asked.shape[1]} dimensions, the gallery {searched.shape[1]}")
    if excluded is not None and excluded.shape != (len(asked), len(searched)):
        raise ValueError(f"excluded has shape {excluded.shape}, not {(len(asked), len(searched))}")
    if top_n < 1:
        raise ValueError(f"top_n must be at least 1, not {top_n}")
    width = min(top_n, len(searched))
    index = np.empty((len(asked), width), dtype=np.int64)
    distance = np.empty((len(asked), width), dtype=np.float32)
    step = max(1, _BLOCK_ELEMENTS // max(1, len(searched)))
    for first in range(0, len(asked), step):
        block = slice(first, first + step)
        table = 1 - asked[block] @ searched.T
        # Rounding may give values slightly below zero.
        np.maximum(table, 0, out=table)
        if excluded is not None:
            table[excluded[block]] = np.inf
        index[block] = _nearest(table, width)
        distance[block] = np.take_along_axis(table, index[block], axis=1)
    index[np.isinf(distance)] = -1
    return RankedResults(index, distance, queries, gallery)


def _nearest(table: NDArray[np.float32], width: int) -> NDArray[np.int64]:
    """(B, width) columns of the smallest entries of each row, ascending, equal ones by column."""
    if width == table.shape[1]:
        return np.argsort(table, axis=1, kind="stable")
    # A partition finds the smallest entries without sorting the rest; columns are ascending before the stable sort.
    columns = np.sort(np.argpartition(table, width - 1, axis=1)[:, :width], axis=1)
    values = np.take_along_axis(table, columns, axis=1)
    columns = np.take_along_axis(columns, np.argsort(values, axis=1, kind="stable"), axis=1)
    # The partition picks arbitrary entries among those equal to the last one, so such rows are sorted in full.
    cut_in_tie = np.sum(table <= values.max(axis=1, keepdims=True), axis=1) > width
    columns[cut_in_tie] = np.argsort(table[cut_in_tie], axis=1, kind="stable")[:, :width]
    return columns
