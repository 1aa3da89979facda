"""The k-reciprocal Jaccard distance of re-ranking, computed with sparse matrices throughout.

Each sample is described by weights on its mutual neighbours. Two samples are near if their descriptions overlap
(weighted Jaccard distance). Almost all pairs have no overlap; they are at distance 1 and are never stored.

Dense implementations keep samples × samples matrices in memory. Here a description is a sparse row, and the overlaps of
a row are found through the columns it uses (an inverted index). No step needs more than a block of rows at full width.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, identity

from pclhd.clustering.compile import compiled
from pclhd.clustering.neighbours import Neighbours, as_features, nearest_neighbours
from pclhd.clustering.options import Neighbourhood

_Value = TypeVar("_Value", np.int32, np.float32)

_PAIRS_PER_BLOCK = 2**22  # 32 MiB of near pairs
_ROWS_PER_BLOCK = 32  # at least; with fewer, starting the threads takes longer than their work
_TASKS = 16  # pieces of work for the threads; each has separate scratch arrays


def jaccard_similarity(
    features: NDArray[np.floating] | torch.Tensor,
    k1: int,
    k2: int,
    *,
    modality: NDArray[np.integer] | None = None,
    neighbours: Neighbours | None = None,
    max_distance: float = 1.0,
    neighbourhood: Neighbourhood = "released",
    half_by_similarity: bool = False,
    device: torch.device | str = "cpu",
) -> csr_matrix:
    """One minus the k-reciprocal Jaccard distance, as a symmetric sparse matrix (released code).

    1. Two samples are mutual neighbours if each is in the other's neighbourhood of k1 samples.
    2. A sample's set of mutual neighbours is expanded: for each of them, its mutual neighbours in neighbourhoods of
       half the size are added if more than two thirds of them are in the set already.
    3. The sample's weights on this set are the softmax of −(2 − 2 x·y), also for features below unit length.
    4. Query expansion: the weights are averaged over the k2 nearest samples (itself included; k2 = 1 changes nothing).
       With `modality`, they are averaged over each modality's samples first; then these means are averaged.
    5. m = Σ min over the weights of two samples; distance = 1 − m / (2 − m).

    Args:
        features: (N, D), any length. If N is smaller than k1 or k2, all samples are neighbours.
        k1: Size of the neighbourhood.
        k2: Samples in the query expansion.
        modality: (N,) integer codes; balances the query expansion between the modalities.
        neighbours: The neighbour table of these features, if it has been computed already; computed by default.
        max_distance: Pairs further apart are not stored, so they count as distance 1.
        neighbourhood: "released": k1 samples including the sample itself, as in the released code. "paper": k1 other
            samples, as in the re-ranking paper. Half-size neighbourhoods are the same in both.
        half_by_similarity: For a table that is not in the order of similarity, such as a balanced one: half-size
            neighbourhoods hold the most similar of the k1 samples (BMIL), not the first in the table.
        device: Device for the neighbour search.

    Returns:
        (N, N) float32 with sorted columns; absent means distance 1. The diagonal is always present.

    Raises:
        ValueError: k1 or k2 below 1, a modality or neighbour table that does not fit, or features that are not finite.
    """
    if k1 < 1 or k2 < 1:
        raise ValueError(f"k1 and k2 must be at least 1, got {k1} and {k2}")
    if neighbourhood not in ("released", "paper"):
        raise ValueError(f"neighbourhood must be 'released' or 'paper', got {neighbourhood!r}")
    samples = as_features(features)
    number = len(samples)
    if modality is not None and modality.shape != (number,):
        raise ValueError(f"modality must have shape ({number},), got {modality.shape}")
    if number == 0:
        return csr_matrix(np.empty((0, 0), dtype=np.float32))

    full = min(number, table_size(k1, 1, neighbourhood))
    half = min(full, round(k1 / 2) + 1)  # halves are rounded to even, as the released code does
    expansion = min(number, k2)
    size = min(number, table_size(k1, k2, neighbourhood))
    table = nearest_neighbours(samples, size, device=device) if neighbours is None else neighbours
    index = np.ascontiguousarray(table.index, dtype=np.int32)
    if index.shape[0] != number or index.shape[1] < size:
        raise ValueError(f"neighbours must be ({number}, at least {size}), got {index.shape}")

    squared_distance = np.ascontiguousarray(table.squared_distance, dtype=np.float64)
    nearest = _most_similar(index[:, :full], squared_distance[:, :full], half) if half_by_similarity else index
    indptr, columns = _expanded_sets(*_mutual_neighbours(index, full), *_mutual_neighbours(nearest, half))
    weights = _softmax_weights(samples, index, squared_distance, indptr, columns)
    if expansion > 1:
        shares = _expansion_shares(index[:, :expansion], modality)
        indptr, columns, weights = _mix_rows(index, shares, indptr, columns, weights)
    return _overlaps(indptr, columns, weights, max_distance)


def table_size(k1: int, k2: int, neighbourhood: Neighbourhood) -> int:
    """Columns of the neighbour table that `jaccard_similarity` needs, the sample itself included."""
    return max(k1 if neighbourhood == "released" else k1 + 1, k2)


def _most_similar(index: NDArray[np.int32], squared_distance: NDArray[np.float64], number: int) -> NDArray[np.int32]:
    """The nearest samples of each row of a table, nearest first, equal ones in the table's order: (N, number)."""
    order = np.argsort(squared_distance, axis=1, kind="stable")[:, :number]
    return np.ascontiguousarray(np.take_along_axis(index, order, axis=1))


def _expansion_shares(index: NDArray[np.int32], modality: NDArray[np.integer] | None) -> NDArray[np.float64]:
    """The weight of each of the nearest samples in the query expansion: (N, k2), rows sum to one."""
    number, expansion = index.shape
    if modality is None:
        return np.full((number, expansion), 1.0 / expansion)
    codes = np.unique(modality, return_inverse=True)[1].reshape(-1)[index]
    shares = np.zeros((number, expansion))
    present = np.zeros((number, 1))
    for code in range(int(codes.max()) + 1):
        members = codes == code
        count = members.sum(axis=1, keepdims=True)
        shares += members / np.maximum(count, 1)
        present += count > 0
    return shares / present


def _overlaps(
    indptr: NDArray[np.int64], columns: NDArray[np.int32], weights: NDArray[np.float32], max_distance: float
) -> csr_matrix:
    """Jaccard similarity of all pairs of rows that overlap and are within the distance limit."""
    number = len(indptr) - 1
    inverted = _inverted_index(indptr, columns, weights)
    block = min(number, max(_ROWS_PER_BLOCK, _PAIRS_PER_BLOCK // number))
    overlap = np.zeros((_TASKS, number), dtype=np.float64)
    touched = np.empty((_TASKS, number), dtype=np.int32)
    near_columns = np.empty((block, number), dtype=np.int32)
    near_values = np.empty((block, number), dtype=np.float32)
    counts, kept_columns, kept_values = [np.zeros(1, dtype=np.int64)], [], []
    for start in range(0, number, block):
        stop = min(start + block, number)
        limit = np.float32(max_distance)
        near = _near_pairs(
            start, stop, indptr, columns, weights, *inverted, limit, overlap, touched, near_columns, near_values
        )
        counts.append(near)
        kept_columns.append(_first_of_each_row(near_columns, near))
        kept_values.append(_first_of_each_row(near_values, near))
    upper = csr_matrix(
        (np.concatenate(kept_values), np.concatenate(kept_columns), np.cumsum(np.concatenate(counts))),
        shape=(number, number),
    )
    # Each pair was computed once, and each sample's similarity with itself is one.
    both = csr_matrix(upper + upper.T + identity(number, dtype=np.float32, format="csr"))
    both.sort_indices()
    return both


def _first_of_each_row(values: NDArray[_Value], counts: NDArray[np.int64]) -> NDArray[_Value]:
    return np.concatenate([row[:count] for row, count in zip(values, counts, strict=False)])


@compiled(parallel=True)
def _mutual_neighbours(index: NDArray[np.int32], size: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """For each sample, those of its `size` nearest that also have it among their `size` nearest, and their number."""
    number = index.shape[0]
    members = np.empty((number, size), dtype=np.int32)
    counts = np.zeros(number, dtype=np.int64)
    for i in prange(number):
        for rank in range(size):
            j = index[i, rank]
            for back in range(size):
                if index[j, back] == i:
                    members[i, counts[i]] = j
                    counts[i] += 1
                    break
    return members, counts


@compiled(parallel=True)
def _expanded_sets(
    members: NDArray[np.int32],
    counts: NDArray[np.int64],
    half_members: NDArray[np.int32],
    half_counts: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Step 2 for every sample: row starts (N + 1,) and sorted members of the expanded sets."""
    number = members.shape[0]
    tasks = min(_TASKS, number)
    # An upper bound for each set; the true sizes are known only afterwards.
    starts = np.zeros(number + 1, dtype=np.int64)
    for i in range(number):
        bound = counts[i]
        for rank in range(counts[i]):
            bound += half_counts[members[i, rank]]
        starts[i + 1] = starts[i] + bound
    expanded = np.empty(starts[number], dtype=np.int32)
    sizes = np.zeros(number, dtype=np.int64)
    for task in prange(tasks):
        is_mutual = np.full(number, -1, dtype=np.int32)  # the row for which a sample was last marked
        is_member = np.full(number, -1, dtype=np.int32)
        for i in range(task * number // tasks, (task + 1) * number // tasks):
            start = starts[i]
            size = counts[i]
            for rank in range(size):
                j = members[i, rank]
                is_mutual[j] = i
                is_member[j] = i
                expanded[start + rank] = j
            for rank in range(counts[i]):
                j = members[i, rank]
                shared = 0
                for other in range(half_counts[j]):
                    if is_mutual[half_members[j, other]] == i:
                        shared += 1
                if 3 * shared > 2 * half_counts[j]:
                    for other in range(half_counts[j]):
                        candidate = half_members[j, other]
                        if is_member[candidate] != i:
                            is_member[candidate] = i
                            expanded[start + size] = candidate
                            size += 1
            expanded[start : start + size].sort()
            sizes[i] = size
    indptr = np.zeros(number + 1, dtype=np.int64)
    for i in range(number):
        indptr[i + 1] = indptr[i] + sizes[i]
    columns = np.empty(indptr[number], dtype=np.int32)
    for i in prange(number):
        columns[indptr[i] : indptr[i + 1]] = expanded[starts[i] : starts[i] + sizes[i]]
    return indptr, columns


@compiled(parallel=True)
def _softmax_weights(
    samples: NDArray[np.float32],
    index: NDArray[np.int32],
    squared_distance: NDArray[np.float64],
    indptr: NDArray[np.int64],
    columns: NDArray[np.int32],
) -> NDArray[np.float32]:
    """Step 3: softmax of −(2 − 2 x·y) over each expanded set, computed in float64, stored as float32.

    Most members are neighbours, whose distance is known: 2 x·y = |x|² + |y|² − |x − y|². For the others, the product is
    computed.
    """
    number, width = samples.shape
    tasks = min(_TASKS, number)
    lengths = np.empty(number, dtype=np.float64)
    for i in prange(number):
        total = 0.0
        for d in range(width):
            total += np.float64(samples[i, d]) * np.float64(samples[i, d])
        lengths[i] = total
    weights = np.empty(len(columns), dtype=np.float32)
    for task in prange(tasks):
        known_for = np.full(number, -1, dtype=np.int32)
        rank_of = np.empty(number, dtype=np.int32)
        for i in range(task * number // tasks, (task + 1) * number // tasks):
            for rank in range(index.shape[1]):
                known_for[index[i, rank]] = i
                rank_of[index[i, rank]] = rank
            start, stop = indptr[i], indptr[i + 1]
            exponents = np.empty(stop - start, dtype=np.float64)
            for at in range(start, stop):
                j = columns[at]
                if known_for[j] == i:
                    twice_product = lengths[i] + lengths[j] - squared_distance[i, rank_of[j]]
                else:
                    product = 0.0
                    for d in range(width):
                        product += np.float64(samples[i, d]) * np.float64(samples[j, d])
                    twice_product = 2.0 * product
                exponents[at - start] = twice_product - 2.0
            raised = np.exp(exponents - exponents.max())
            weights[start:stop] = raised / raised.sum()
    return weights


@compiled(parallel=True)
def _mix_rows(
    index: NDArray[np.int32],
    shares: NDArray[np.float64],
    indptr: NDArray[np.int64],
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Step 4: row i becomes Σ_r shares[i, r] · row index[i, r]. Two passes: sizes first, then values."""
    number, expansion = shares.shape
    tasks = min(_TASKS, number)
    sizes = np.zeros(number, dtype=np.int64)
    for task in prange(tasks):
        seen = np.full(number, -1, dtype=np.int32)
        for i in range(task * number // tasks, (task + 1) * number // tasks):
            size = 0
            for rank in range(expansion):
                j = index[i, rank]
                for at in range(indptr[j], indptr[j + 1]):
                    if seen[columns[at]] != i:
                        seen[columns[at]] = i
                        size += 1
            sizes[i] = size
    mixed_indptr = np.zeros(number + 1, dtype=np.int64)
    for i in range(number):
        mixed_indptr[i + 1] = mixed_indptr[i] + sizes[i]
    mixed_columns = np.empty(mixed_indptr[number], dtype=np.int32)
    mixed_weights = np.empty(mixed_indptr[number], dtype=np.float32)
    for task in prange(tasks):
        filled = np.full(number, -1, dtype=np.int32)
        totals = np.zeros(number, dtype=np.float64)
        for i in range(task * number // tasks, (task + 1) * number // tasks):
            end = mixed_indptr[i]
            for rank in range(expansion):
                j = index[i, rank]
                for at in range(indptr[j], indptr[j + 1]):
                    column = columns[at]
                    if filled[column] != i:
                        filled[column] = i
                        totals[column] = 0.0
                        mixed_columns[end] = column
                        end += 1
                    totals[column] += shares[i, rank] * weights[at]
            mixed_columns[mixed_indptr[i] : end].sort()
            for at in range(mixed_indptr[i], end):
                mixed_weights[at] = totals[mixed_columns[at]]
    return mixed_indptr, mixed_columns, mixed_weights


@compiled()
def _inverted_index(
    indptr: NDArray[np.int64], columns: NDArray[np.int32], weights: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]:
    """The rows that use each column: starts, rows (ascending) and weights; and the new position of each entry."""
    number = len(indptr) - 1
    starts = np.zeros(number + 1, dtype=np.int64)
    for column in columns:
        starts[column + 1] += 1
    for column in range(number):
        starts[column + 1] += starts[column]
    free = starts[:-1].copy()
    users = np.empty(len(columns), dtype=np.int32)
    users_weights = np.empty(len(columns), dtype=np.float32)
    place = np.empty(len(columns), dtype=np.int64)
    for i in range(number):
        for at in range(indptr[i], indptr[i + 1]):
            column = columns[at]
            place[at] = free[column]
            users[free[column]] = i
            users_weights[free[column]] = weights[at]
            free[column] += 1
    return starts, users, users_weights, place


@compiled(parallel=True)
def _near_pairs(
    first: int,
    stop: int,
    indptr: NDArray[np.int64],
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
    users_starts: NDArray[np.int64],
    users: NDArray[np.int32],
    users_weights: NDArray[np.float32],
    place: NDArray[np.int64],
    max_distance: np.float32,
    overlaps: NDArray[np.float64],
    touched_lists: NDArray[np.int32],
    near_columns: NDArray[np.int32],
    near_values: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Step 5 for rows `first` to `stop`: write the near samples j > i and their similarities, and return the counts.

    `overlaps` and `touched_lists` have a scratch row for each task; `overlaps` is zero before and after.
    """
    rows = stop - first
    tasks = len(overlaps)
    counts = np.zeros(rows, dtype=np.int64)
    for task in prange(tasks):
        overlap = overlaps[task]
        touched = touched_lists[task]
        for b in range(task, rows, tasks):
            i = first + b
            size = 0
            for at in range(indptr[i], indptr[i + 1]):
                weight = weights[at]
                # The rows after row i follow its own entry in the column.
                for other in range(place[at] + 1, users_starts[columns[at] + 1]):
                    shared = min(weight, users_weights[other])
                    if shared > 0.0:  # weights of long features may have underflowed
                        j = users[other]
                        if overlap[j] == 0.0:
                            touched[size] = j
                            size += 1
                        overlap[j] += shared
            count = 0
            for at in range(size):
                j = touched[at]
                total = min(overlap[j], 1.0)  # rows sum to one only up to rounding
                similarity = np.float32(total / (2.0 - total))
                if np.float32(1.0) - similarity <= max_distance:
                    near_columns[b, count] = j
                    overlap[j] = similarity
                    count += 1
                else:
                    overlap[j] = 0.0
            near_columns[b, :count].sort()
            for at in range(count):
                j = near_columns[b, at]
                near_values[b, at] = overlap[j]
                overlap[j] = 0.0
            counts[b] = count
    return counts
