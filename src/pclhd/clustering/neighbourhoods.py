"""What is seen in features and their neighbours before anything is clustered: rows that are no people, near-copies,
and neighbourhoods that take in everything.

The Jaccard similarity compares neighbourhoods. Where all neighbours of a row are copies of it, or all rows are
neighbours, that says nothing about people, and measures made from the same neighbourhoods do not notice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pclhd.clustering.compile import compiled
from pclhd.clustering.neighbours import Neighbours
from pclhd.clustering.options import AUTO_K1_LEAST, automatic_k1
from pclhd.clustering.pseudo_labels import NOISE

#: Cosine similarity above which two rows are near-copies (ours). With the starter weights, pictures of drawn people
#: with noise of three grey levels reach 0.999 with the original (median; 0.998 for the worst percent), pictures saved
#: again as JPEG of quality 90 0.998; the nearest *other* picture is at 0.75 (median), and at most at 0.92.
NEAR_COPY = 0.998

#: Share of near-copies among the neighbours, and share of all rows in a neighbourhood, above which a warning is due.
MOSTLY_COPIES = 0.5
_LARGE_PART = 1 / 3

#: From this width on, a row of equal numbers is a failed crop; in few dimensions it is a direction like any other.
_WIDE = 8
_ROWS_TOGETHER = 1024
#: Rows whose neighbours are looked at where the table does not have their similarities: in all, and at a time.
_ROWS_READ, _READ_TOGETHER = 2048, 256
_ROUNDING = 1e-5  # products in single precision are nearer to the true ones than this


@dataclass(frozen=True)
class Neighbourhoods:
    """What a neighbour table says about itself.

    Attributes:
        rows: Rows that were clustered.
        k1: As used.
        near_copies: Share of near-copies among the k1 − 1 nearest others of all rows.
        without_direction: Rows of zeros or of equal numbers, which were left out as noise.
        thinned: Rows that were left out because they have the label of a near-copy.
    """

    rows: int
    k1: int
    near_copies: float
    without_direction: int = 0
    thinned: int = 0

    def warnings(self) -> list[str]:
        """What speaks against the clusters, a line each."""
        lines = []
        if self.without_direction:
            lines.append(
                f"{self.without_direction:,} rows have no direction (all numbers are zero, or equal), as of failed "
                "crops; they are noise"
            )
        if self.rows and self.near_copies > MOSTLY_COPIES:
            lines.append(
                f"{self.near_copies:.0%} of the neighbours within k1 ({self.k1}) are near-copies (similarity above "
                f"{NEAR_COPY}), as in the frames of a video: clusters are then tracks rather than people, and "
                "silhouette and stability do not show it; set near_copies to thin"
            )
        if self.rows > 1 and self.k1 >= self.rows:
            lines.append(
                f"k1 ({self.k1}) takes in all {self.rows:,} rows, so that neighbourhoods mean nothing; lower it to "
                "about the number of images per person, or set it to auto"
            )
        elif self.k1 > AUTO_K1_LEAST and self.k1 > self.rows * _LARGE_PART:
            lines.append(
                f"k1 ({self.k1}) takes in more than a third of the {self.rows:,} rows; unless these are very few "
                f"people, several become one cluster; lower it to about the number of images per person, or set it to "
                f"auto ({automatic_k1(self.rows)} here)"
            )
        return lines


def read_neighbourhoods(
    features: NDArray[np.float32], neighbours: Neighbours, k1: int, *, uncentred: NDArray[np.float32] | None = None
) -> Neighbourhoods:
    """Look at a neighbour table (ours).

    Args:
        features: (N, D).
        neighbours: (N, k) with k ≥ min(k1, N), the row itself first.
        k1: Size of the neighbourhood, the row itself included.
        uncentred: (N, D) what near-copies are seen in, if not in the features; then at most 2,048 rows are looked at,
            spread evenly.
    """
    others = neighbours.index[:, 1:k1]
    if others.size == 0:
        return Neighbourhoods(len(features), k1, 0.0)
    if uncentred is not None:  # the table's distances are those of the features
        rows = np.unique(np.linspace(0, len(features) - 1, _ROWS_READ).round().astype(np.int64))
        blocks = np.array_split(rows, math.ceil(len(rows) / _READ_TOGETHER))
        copies = sum(int(_are_copies(uncentred, block, others[block]).sum()) for block in blocks)
        return Neighbourhoods(len(features), k1, copies / others[rows].size)
    lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    products = lengths[:, None] * lengths[others]
    squares = lengths[:, None] ** 2 + lengths[others] ** 2 - neighbours.squared_distance[:, 1:k1]
    near = squares > 2 * NEAR_COPY * products
    return Neighbourhoods(len(features), k1, float(near[products > 0].mean()) if (products > 0).any() else 0.0)


def _are_copies(features: NDArray[np.float32], rows: NDArray[np.int64], others: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which of some rows' neighbours, (R, k), are their near-copies."""
    neighbours = _unit(features[others.reshape(-1)]).reshape(*others.shape, -1)
    near: NDArray[np.bool_] = np.einsum("nd,nkd->nk", _unit(features[rows]), neighbours) > NEAR_COPY
    return near


def has_direction(features: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows say anything: not all zeros, and, from a width of eight on, not all equal (ours)."""
    largest, smallest = features.max(axis=1, initial=-np.inf), features.min(axis=1, initial=np.inf)
    is_zero = (largest <= 0) & (smallest >= 0)
    says_something: NDArray[np.bool_] = ~is_zero if features.shape[1] < _WIDE else largest > smallest
    return says_something


def near_copy_chains(
    features: NDArray[np.float32], modality: NDArray[np.integer] | None = None, *, similarity: float = NEAR_COPY
) -> NDArray[np.int64]:
    """Chains of near-copies: rows that are linked by pairs above a cosine similarity (ours).

    All pairs are looked at, a block at a time, so that memory does not grow with their number.

    Args:
        features: (N, D), rows of any length but zero.
        modality: (N,) codes; rows of different modalities are never linked.
        similarity: Pairs above it are linked.

    Returns:
        (N,) chains 0, 1, … in the order of their first rows.
    """
    unit = _unit(features)
    codes = np.zeros(len(unit), dtype=np.int64) if modality is None else np.asarray(modality, dtype=np.int64)
    towards = np.arange(len(unit))
    for start in range(0, len(unit), _ROWS_TOGETHER):
        products = unit[start : start + _ROWS_TOGETHER] @ unit[start:].T
        _link(products, start, unit, codes, similarity, towards)
    roots = np.array([_root(towards, row) for row in range(len(unit))], dtype=np.int64)
    _, first, inverse = np.unique(roots, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    chains: NDArray[np.int64] = order[inverse.reshape(-1)]
    return chains


def representatives(features: NDArray[np.float32], chains: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of each chain that is nearest to the mean of its unit rows, the first of several: (chains,) (ours)."""
    unit = _unit(features).astype(np.float64)
    means = np.zeros((int(chains.max(initial=-1)) + 1, features.shape[1]))
    np.add.at(means, chains, unit)
    nearness = np.einsum("nd,nd->n", unit, means[chains])
    order = np.lexsort((np.arange(len(chains)), -nearness, chains))
    first: NDArray[np.int64] = order[np.unique(chains[order], return_index=True)[1]]
    return first


@dataclass(frozen=True)
class Thinned:
    """Which rows are clustered, and which of them speaks for each row.

    Attributes:
        rows: (M,) the rows that are clustered, ascending.
        speaker: (N,) position in `rows` of the row whose label each row gets; −1 for rows without direction.
    """

    rows: NDArray[np.int64]
    speaker: NDArray[np.int64]

    def labels(self, found: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels of all rows (N,) from those of the clustered ones (M,)."""
        labels = np.full(len(self.speaker), NOISE, dtype=np.int64)
        labels[self.speaker >= 0] = found[self.speaker[self.speaker >= 0]]
        return labels


def thin(
    features: NDArray[np.float32],
    modality: NDArray[np.integer] | None,
    *,
    near_copies: bool,
    uncentred: NDArray[np.float32] | None = None,
) -> Thinned | None:
    """What to cluster: rows with a direction, and of each chain of near-copies one; None if that is all rows.

    Args:
        features: (N, D).
        modality: (N,) codes, or None.
        near_copies: Whether near-copies are thinned.
        uncentred: (N, D) what near-copies are seen in, if not in the features.
    """
    said = has_direction(features)
    if uncentred is not None:  # without the mean, a failed crop gets a direction
        said &= has_direction(uncentred)
    kept = np.flatnonzero(said)
    speaker = np.full(len(features), -1, dtype=np.int64)
    if near_copies and len(kept):
        seen = (features if uncentred is None else uncentred)[kept]
        chains = near_copy_chains(seen, None if modality is None else modality[kept])
        chosen = representatives(seen, chains)
        order = np.argsort(chosen)
        place = np.empty(len(chosen), dtype=np.int64)
        place[order] = np.arange(len(chosen))
        speaker[kept] = place[chains]
        rows = kept[chosen[order]]
    else:
        rows = kept
        speaker[kept] = np.arange(len(kept))
    return None if len(rows) == len(features) else Thinned(rows, speaker)


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    unit: NDArray[np.float32] = (features / np.where(lengths > 0, lengths, 1.0)[:, None]).astype(np.float32)
    return unit


@compiled()
def _link(
    products: NDArray[np.float32],
    start: int,
    unit: NDArray[np.float32],
    codes: NDArray[np.int64],
    similarity: float,
    towards: NDArray[np.int64],
) -> None:
    """Join the chains of all pairs above a similarity; products of rows from `start` with rows from `start`."""
    for i in range(products.shape[0]):
        for j in range(i + 1, products.shape[1]):
            if products[i, j] < similarity - _ROUNDING or codes[start + i] != codes[start + j]:
                continue
            is_near = products[i, j] > similarity + _ROUNDING
            if not is_near:
                exact = 0.0  # in double precision, so that the result does not depend on the threads
                for d in range(unit.shape[1]):
                    exact += np.float64(unit[start + i, d]) * np.float64(unit[start + j, d])
                is_near = exact > similarity
            if is_near:
                a, b = _root(towards, start + i), _root(towards, start + j)
                towards[max(a, b)] = min(a, b)


@compiled()
def _root(towards: NDArray[np.int64], row: int) -> int:
    """The first row of a chain; the way there is shortened."""
    while towards[row] != row:
        towards[row] = towards[towards[row]]
        row = towards[row]
    return row
