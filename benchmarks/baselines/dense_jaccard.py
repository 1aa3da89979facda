"""The usual way to the Jaccard distance: samples × samples matrices, and Python loops over their rows.

Both versions are written by us, take a finished neighbour table and return the whole (N, N) distance.
`jaccard_as_the_field_does` follows, step by step, the routine that this field hands on from one project to the next.
`jaccard_in_lean_loops` is the best that we could make of dense matrices in numpy: no set operations where a mask will
do, columns searched once and in the order of memory, their values kept beside the inverted index.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    # Not needed any more, so its room can hold the result.
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


def _mutual(index: NDArray[np.integer[Any]], i: int) -> NDArray[np.integer[Any]]:
    forward = index[i]
    mutual: NDArray[np.integer[Any]] = forward[(index[forward] == i).any(axis=1)]
    return mutual


def _softmax(features: NDArray[np.float32], i: int, members: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    exponents = 2 * (features[members] @ features[i]) - 2
    raised = np.exp(exponents - exponents.max())
    softmax: NDArray[np.float32] = raised / raised.sum()
    return softmax
