"""The usual way to the Jaccard distance: samples × samples matrices, and Python loops over their rows.

Everything here is written by us. Two searches find the neighbours: `search_as_the_field_does` uses faiss's exact index,
`search_in_blocks` multiplies blocks of rows in float32 and keeps the nearest of each row. Two routines take a neighbour
table and return the whole (N, N) distance: `jaccard_as_the_field_does` follows, step by step, the routine that projects
in this field copy from each other; `jaccard_in_lean_loops` is the best that we could make of dense matrices in numpy:
masks instead of set operations, columns searched once and in the order of memory, their values kept with the inverted
index.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_PRODUCTS_PER_BLOCK = 2**25  # 128 MiB of float32


def search_as_the_field_does(features: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The k nearest samples of each sample, itself among them, by faiss's exact index; (N, k).

    Raises:
        ImportError: faiss is not installed.
    """
    import faiss

    index = faiss.IndexFlatL2(features.shape[1])
    index.add(features)
    found: NDArray[np.int64] = index.search(features, k)[1]
    return found


def search_in_blocks(features: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The k nearest samples of each sample, itself among them, to float32 precision; (N, k)."""
    samples = torch.from_numpy(features)
    lengths = samples.square().sum(dim=1)
    found = torch.empty(len(samples), k, dtype=torch.int64)
    rows = max(1, _PRODUCTS_PER_BLOCK // len(samples))
    for start in range(0, len(samples), rows):
        # The length of the row itself is the same for all its distances.
        distance = torch.addmm(lengths, samples[start : start + rows], samples.T, alpha=-2)
        found[start : start + rows] = distance.topk(k, dim=1, largest=False).indices
    return found.numpy()


def jaccard_as_the_field_does(
    features: NDArray[np.float32], index: NDArray[np.integer[Any]], k1: int, k2: int
) -> NDArray[np.float32]:
    """Jaccard distance from a table of at least k1 nearest samples, itself first."""
    number = len(features)
    near = [_mutual(index[:, :k1], i) for i in range(number)]
    near_half = [_mutual(index[:, : round(k1 / 2) + 1], i) for i in range(number)]
    weights = np.zeros((number, number), dtype=np.float32)
    for i in range(number):
        expanded = near[i]
        for j in near[i]:
            if len(np.intersect1d(near_half[j], near[i])) > 2 / 3 * len(near_half[j]):
                expanded = np.append(expanded, near_half[j])
        expanded = np.unique(expanded)
        weights[i, expanded] = _softmax(features, i, expanded)
    if k2 > 1:
        mixed = np.zeros_like(weights)
        for i in range(number):
            mixed[i] = np.mean(weights[index[i, :k2]], axis=0)
        weights = mixed
    users = [np.where(weights[:, column] != 0)[0] for column in range(number)]
    distance = np.zeros((number, number), dtype=np.float32)
    for i in range(number):
        shared = np.zeros(number, dtype=np.float32)
        for column in np.where(weights[i] != 0)[0]:
            rows = users[column]
            shared[rows] += np.minimum(weights[i, column], weights[rows, column])
        distance[i] = 1 - shared / (2 - shared)
    distance[distance < 0] = 0.0
    return distance


def jaccard_in_lean_loops(
    features: NDArray[np.float32], index: NDArray[np.integer[Any]], k1: int, k2: int
) -> NDArray[np.float32]:
    """Jaccard distance from a table of at least k1 nearest samples, itself first."""
    number = len(features)
    near = [_mutual(index[:, :k1], i) for i in range(number)]
    near_half = [_mutual(index[:, : round(k1 / 2) + 1], i) for i in range(number)]
    weights = np.zeros((number, number), dtype=np.float32)
    is_near = np.zeros(number, dtype=bool)
    for i in range(number):
        is_near[near[i]] = True
        added = [near_half[j] for j in near[i] if 3 * np.count_nonzero(is_near[near_half[j]]) > 2 * len(near_half[j])]
        is_near[near[i]] = False
        expanded = np.unique(np.concatenate([near[i], *added]))
        weights[i, expanded] = _softmax(features, i, expanded)
    if k2 > 1:
        mixed = np.empty_like(weights)
        for i in range(number):
            weights[index[i, :k2]].mean(axis=0, out=mixed[i])
        weights = mixed
    rows_of, columns_of = np.nonzero(weights)
    values = weights[rows_of, columns_of]
    order = np.argsort(columns_of, kind="stable")
    column_ends = np.cumsum(np.bincount(columns_of, minlength=number))[:-1]
    users = np.split(rows_of[order], column_ends)
    users_weights = np.split(values[order], column_ends)
    row_ends = np.cumsum(np.bincount(rows_of, minlength=number))
    # Not needed any more, so its memory can hold the result.
    distance = weights
    start = 0
    for i in range(number):
        shared = np.zeros(number, dtype=np.float32)
        for at in range(start, row_ends[i]):
            column = columns_of[at]
            shared[users[column]] += np.minimum(values[at], users_weights[column])
        start = row_ends[i]
        np.subtract(1, shared / (2 - shared), out=distance[i])
    return np.maximum(distance, 0, out=distance)


def distance_by_definition(
    features: NDArray[np.float32], index: NDArray[np.integer[Any]], k1: int, k2: int, i: int, j: int
) -> float:
    """The Jaccard distance of one pair in float64, for pairs where the routines above differ by rounding."""
    shared = np.minimum(_exact_weights(features, index, k1, k2, i), _exact_weights(features, index, k1, k2, j)).sum()
    return float(1 - shared / (2 - shared))


def _exact_weights(
    features: NDArray[np.float32], index: NDArray[np.integer[Any]], k1: int, k2: int, i: int
) -> NDArray[np.float64]:
    weights = np.zeros(len(features))
    for j in index[i, :k2]:
        near = set(_mutual(index[:, :k1], j).tolist())
        expanded = set(near)
        for other in near:
            half = set(_mutual(index[:, : round(k1 / 2) + 1], other).tolist())
            if 3 * len(half & near) > 2 * len(half):
                expanded |= half
        members = sorted(expanded)
        raised = np.exp(2 * (features[members].astype(np.float64) @ features[j].astype(np.float64)) - 2)
        weights[members] += raised / raised.sum() / k2
    return weights


def _mutual(index: NDArray[np.integer[Any]], i: int) -> NDArray[np.integer[Any]]:
    forward = index[i]
    mutual: NDArray[np.integer[Any]] = forward[(index[forward] == i).any(axis=1)]
    return mutual


def _softmax(features: NDArray[np.float32], i: int, members: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    exponents = 2 * (features[members] @ features[i]) - 2
    raised = np.exp(exponents - exponents.max())
    softmax: NDArray[np.float32] = raised / raised.sum()
    return softmax
