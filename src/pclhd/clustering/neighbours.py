"""Exact nearest neighbours in Euclidean distance, in memory far below samples × samples.

Two steps. A blocked matrix product in float32 gives every squared distance with a small error; a bound on that error
tells which samples can be among the k nearest. Only for those few the distance is computed again, in float64, and
ranked. So the result does not depend on the block size, the device or the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray

from pclhd.clustering.compile import compiled

_PRODUCTS_PER_BLOCK = 2**25  # 128 MiB of float32
_UNIT_ROUNDOFF = 2.0**-24


@dataclass(frozen=True)
class Neighbours:
    """The nearest samples of each sample, nearest first.

    Attributes:
        index: (N, k) int32. Column 0 is the sample itself, also if it has exact duplicates; equal distances are
            ordered by index.
        squared_distance: (N, k) float64, squared Euclidean distance, in the order of `index`.
    """

    index: NDArray[np.int32]
    squared_distance: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.index)


def as_features(features: NDArray[np.floating] | torch.Tensor) -> NDArray[np.float32]:
    """Features as a contiguous (N, D) float32 array, checked to be finite.

    Raises:
        ValueError: Not two-dimensional, or a value is NaN or infinite (the message names its row).
    """
    array = features.detach().cpu().numpy() if isinstance(features, torch.Tensor) else features
    result = np.ascontiguousarray(array, dtype=np.float32)
    if result.ndim != 2:
        raise ValueError(f"features must be (samples, width), got shape {result.shape}")
    # A sum with NaN or infinity in it is not finite, so the sums tell which rows to look at.
    with np.errstate(invalid="ignore"):
        suspicious = np.flatnonzero(~np.isfinite(result.sum(axis=1, dtype=np.float64)))
    for row in suspicious:
        if not np.isfinite(result[row]).all():
            raise ValueError(f"features must be finite, but row {row} holds NaN or infinity")
    return result


def nearest_neighbours(
    features: NDArray[np.floating] | torch.Tensor,
    k: int,
    *,
    block_size: int | None = None,
    device: torch.device | str = "cpu",
) -> Neighbours:
    """The k nearest samples of each sample in Euclidean distance, itself included (ours).

    Args:
        features: (N, D); they need not have unit length.
        k: Number of neighbours, the sample itself counted. At most N columns are returned.
        block_size: Rows whose distances are held at a time; by default what fits into 128 MiB.
        device: Where the matrix products run. The result is the same everywhere.

    Raises:
        ValueError: k < 1, block_size < 1, or features that are not finite or not two-dimensional.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    samples = as_features(features)
    number, width = samples.shape
    columns = min(k, number)
    index = np.empty((number, columns), dtype=np.int32)
    squared_distance = np.empty((number, columns), dtype=np.float64)
    if number == 0:
        return Neighbours(index, squared_distance)

    prepared, lengths = _centred_and_scaled(samples)
    centred = torch.from_numpy(prepared).to(device)
    slack = _UNIT_ROUNDOFF * (4 * math.sqrt(width) + 8)
    upper = (lengths * (1 + slack)).astype(np.float32)
    lower = (lengths * (1 - slack)).astype(np.float32)
    own_slack = (2 * slack * lengths).astype(np.float32)
    rows = block_size or max(1, _PRODUCTS_PER_BLOCK // number)
    with _full_precision(centred.device.type), torch.no_grad():
        for start in range(0, number, rows):
            stop = min(start + rows, number)
            products = torch.matmul(centred[start:stop], centred.T).cpu().numpy()
            _rank_block(
                products, start, samples, upper, lower, own_slack, index[start:stop], squared_distance[start:stop]
            )
    return Neighbours(index, squared_distance)


def _centred_and_scaled(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A copy with mean zero and values within ±1, and the squared length of each row.

    The ranking is the same, the rounding error smaller, and nothing can overflow.
    """
    mean = samples.mean(axis=0, dtype=np.float64)
    blocks = [slice(start, start + 1024) for start in range(0, len(samples), 1024)]
    largest = max(float(np.abs(samples[block] - mean).max(initial=0.0)) for block in blocks)
    scale = 1.0 / largest if largest > 0 else 1.0
    centred = np.empty_like(samples)
    lengths = np.empty(len(samples), dtype=np.float64)
    for block in blocks:
        centred[block] = (samples[block] - mean) * scale
        lengths[block] = np.square(centred[block], dtype=np.float64).sum(axis=1)
    return centred, lengths


@contextmanager
def _full_precision(device_type: str) -> Iterator[None]:
    """No TF32, no bfloat16, no autocast: the error bound counts on float32 products."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


@compiled(parallel=True)
def _rank_block(
    products: NDArray[np.float32],
    first: int,
    samples: NDArray[np.float32],
    upper: NDArray[np.float32],
    lower: NDArray[np.float32],
    own_slack: NDArray[np.float32],
    index: NDArray[np.int32],
    squared_distance: NDArray[np.float64],
) -> None:
    """Rank all samples for the rows `first`, `first + 1`, …: itself, then the others by exact distance, then index.

    `upper[j] − 2·products[b, j]` and `lower[j] − 2·products[b, j]` bound the squared distance from above and below, up
    to a term of the row alone, which `own_slack` accounts for.
    """
    number = samples.shape[0]
    others = index.shape[1] - 1
    for b in prange(index.shape[0]):
        i = first + b
        index[b, 0] = i
        squared_distance[b, 0] = 0.0
        if others > 0:
            # The `others` smallest upper bounds, as a heap with the largest of them on top.
            heap = np.full(others, np.float32(np.inf), dtype=np.float32)
            for j in range(number):
                bound = upper[j] - np.float32(2.0) * products[b, j]
                if bound < heap[0] and j != i:
                    at = 0
                    while True:
                        child = 2 * at + 1
                        if child >= others:
                            break
                        if child + 1 < others and heap[child + 1] > heap[child]:
                            child += 1
                        if heap[child] <= bound:
                            break
                        heap[at] = heap[child]
                        at = child
                    heap[at] = bound
            limit = heap[0] + own_slack[i]
            found = 0
            for j in range(number):
                if lower[j] - np.float32(2.0) * products[b, j] <= limit and j != i:
                    found += 1
            candidates = np.empty(found, dtype=np.int32)
            distances = np.empty(found, dtype=np.float64)
            found = 0
            for j in range(number):
                if lower[j] - np.float32(2.0) * products[b, j] <= limit and j != i:
                    total = 0.0
                    for d in range(samples.shape[1]):
                        difference = np.float64(samples[i, d]) - np.float64(samples[j, d])
                        total += difference * difference
                    candidates[found] = j
                    distances[found] = total
                    found += 1
            # Candidates stand in the order of their index, and the sort keeps it where distances are equal.
            order = np.argsort(distances, kind="mergesort")
            for rank in range(others):
                index[b, rank + 1] = candidates[order[rank]]
                squared_distance[b, rank + 1] = distances[order[rank]]
