"""Exact nearest neighbours in Euclidean distance, in memory far below samples × samples.

There are two steps. A blocked matrix product, in bfloat16 where that is fast, gives each squared distance with a small
error; a bound on that error determines which samples can be among the k nearest. For those few, the distance is
computed again in float64 and ranked. So the result does not depend on the precision of the products, the block size,
the device or the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray

from pclhd.clustering.compile import compiled
from pclhd.devices import cpu_computes_bfloat16

_PRODUCTS_PER_BLOCK = 2**25  # 128 MiB of float32
_RANKED_TOGETHER = 2**22  # products: 16 MiB of float32
_UNIT_ROUNDOFF = 2.0**-24
_HALF_UNIT_ROUNDOFF_BFLOAT16 = 2.0**-9 * (1 + 2.0**-6)
_SAMPLES_PER_CANDIDATE = 64  # with fewer, checking the candidates costs more than bfloat16 saves
_NO_SAMPLE = -(2**40)  # index of a row that is not among the samples searched

Products = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Neighbours:
    """The nearest samples of each sample, nearest first; in a balanced table, within each modality.

    Attributes:
        index: (N, k) int32. Column 0 is the sample itself, even if it has exact duplicates (unless another set was
            searched); equal distances are ordered by index.
        squared_distance: (N, k) float64, squared Euclidean distance, in the order of `index`.
    """

    index: NDArray[np.int32]
    squared_distance: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.index)


class NearestSearch(Protocol):
    """A function that returns what `nearest_neighbours` returns: computed on a device, or by several processes."""

    def __call__(self, features: NDArray[np.float32], k: int, *, base: NDArray[np.float32] | None = None) -> Neighbours:
        """See `nearest_neighbours`."""


def as_features(features: NDArray[np.floating] | torch.Tensor) -> NDArray[np.float32]:
    """Features as a contiguous (N, D) float32 array, checked to be finite.

    Raises:
        ValueError: Not two-dimensional, or a value is NaN or infinite (the message names its row).
    """
    array = features.detach().cpu().numpy() if isinstance(features, torch.Tensor) else features
    result = np.ascontiguousarray(array, dtype=np.float32)
    if result.ndim != 2:
        raise ValueError(f"features must be (samples, width), got shape {result.shape}")
    # A sum that includes NaN or infinity is not finite, so only rows with such sums need checking.
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
    base: NDArray[np.floating] | torch.Tensor | None = None,
    rows: slice | None = None,
    block_size: int | None = None,
    device: torch.device | str = "cpu",
    products: Products = "auto",
) -> Neighbours:
    """The k nearest samples of each sample in Euclidean distance (ours).

    Args:
        features: (N, D); they need not have unit length.
        k: Number of neighbours. At most as many columns are returned as there are samples to find.
        base: (M, D) samples to search among. None searches among `features`: then the sample itself is its first
            neighbour and counts as one of the k. With a `base`, no sample counts as its own neighbour.
        rows: Search only for these consecutive rows of the features; the result is those rows of the whole table.
        block_size: Rows whose distances are in memory at a time; by default as many as fit into 128 MiB.
        device: For the matrix products. The result is the same on every device.
        products: Precision of the matrix products that select candidates: "bfloat16", "float32", or "auto", which uses
            bfloat16 on a CPU with bfloat16 instructions, and switches to float32 if too many candidates remain. The
            result is the same with each.

    Raises:
        ValueError: k < 1, block_size < 1, rows with steps, features that are not finite or not two-dimensional, or a
            base of a different width.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    if rows is not None and rows.step not in (None, 1):
        raise ValueError(f"rows must be consecutive, got {rows}")
    samples = as_features(features)
    others = samples if base is None else as_features(base)
    if others.shape[1] != samples.shape[1]:
        raise ValueError(f"base has width {others.shape[1]}, features have {samples.shape[1]}")
    columns = min(k, len(others))
    first, stop, _ = (rows or slice(None)).indices(len(samples))
    wanted = max(0, stop - first)
    table = Neighbours(np.empty((wanted, columns), dtype=np.int32), np.empty((wanted, columns), dtype=np.float64))
    if table.index.size == 0:
        return table

    mean, scale = centre_and_scale(others, samples)
    search = _Products(others, mean, scale, device, _first_choice(products, device))
    together = block_size or max(1, _PRODUCTS_PER_BLOCK // len(others))
    start = first
    while start < stop:
        block = slice(start, min(start + together, stop))
        bounded = search.bounds_within(block) if base is None else search.bounds(samples[block])
        own = start if base is None else _NO_SAMPLE
        place = slice(block.start - first, block.stop - first)
        part = Neighbours(table.index[place], table.squared_distance[place])
        checked = _rank(bounded, own, samples[block], others, part)
        if (
            products == "auto"
            and search.reduced
            and checked > len(others) * len(bounded.products) / _SAMPLES_PER_CANDIDATE
        ):
            search = _Products(others, mean, scale, device, torch.float32)
        start = block.stop
    return table


def _first_choice(products: Products, device: torch.device | str) -> torch.dtype:
    if products == "auto":
        return torch.bfloat16 if torch.device(device).type == "cpu" and cpu_computes_bfloat16() else torch.float32
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[products]


def centre_and_scale(samples: NDArray[np.float32], rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], np.float32]:
    """The offset and factor that give the samples mean zero, and samples and rows values within ±1.

    Exact up to rounding. The ranking stays the same, the error of products becomes smaller, and nothing can overflow.
    """
    mean = samples.mean(axis=0, dtype=np.float64).astype(np.float32)
    parts = (samples,) if rows is samples else (samples, rows)
    blocks = [part[start : start + 1024] for part in parts for start in range(0, len(part), 1024)]
    largest = max(float(np.abs(block - mean).max(initial=0.0)) for block in blocks)
    return mean, np.float32(min(1.0 / largest, 1e38) if largest > 0 else 1.0)


class _Bounded(NamedTuple):
    """Bounds on the squared distances of some rows to all samples.

    `upper[j] − 2·products[b, j]` and `lower[j] − 2·products[b, j]` bound the scaled squared distance from above and
    below, up to a term that depends only on the row. `own_slack[b]` accounts for that term.

    Attributes:
        products: (B, M).
        upper: (M,).
        lower: (M,).
        own_slack: (B,).
    """

    products: torch.Tensor
    upper: NDArray[np.float32]
    lower: NDArray[np.float32]
    own_slack: NDArray[np.float32]


class _Products:
    """Matrix products with a fixed set of samples, and bounds on the distances that follow from them.

    Args:
        samples: (M, D) samples to search among.
        mean: (D,) subtracted from every sample.
        scale: Every sample is multiplied by it.
        device: Where the products run.
        dtype: Type of the factors.
    """

    def __init__(
        self,
        samples: NDArray[np.float32],
        mean: NDArray[np.float32],
        scale: np.float32,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> None:
        self._mean, self._scale, self._device, self._dtype = mean, scale, device, dtype
        self._factors = torch.empty(samples.shape, dtype=dtype, device=device)
        self._lengths = np.empty(len(samples), dtype=np.float64)
        self._slack = np.empty(len(samples), dtype=np.float64)
        for start in range(0, len(samples), 1024):
            block = slice(start, min(start + 1024, len(samples)))
            self._factors[block], self._lengths[block], self._slack[block] = self._prepare(samples[block])

    @property
    def reduced(self) -> bool:
        """Whether the factors have fewer than 32 bits."""
        return self._dtype != torch.float32

    def bounds(self, rows: NDArray[np.float32]) -> _Bounded:
        """Bounds for some rows, which need not be among the samples.

        The error of a product of x and y is at most (s_x + s_y)·|x|·|y| ≤ ½(s_x + s_y)(|x|² + |y|²).
        """
        factors, lengths, slack = self._prepare(rows)
        return self._bounds(factors.to(self._device), lengths, slack)

    def bounds_within(self, block: slice) -> _Bounded:
        """Bounds for rows of the samples themselves."""
        return self._bounds(self._factors[block], self._lengths[block], self._slack[block])

    def _bounds(self, factors: torch.Tensor, lengths: NDArray[np.float64], slack: NDArray[np.float64]) -> _Bounded:
        with _full_precision(torch.device(self._device).type), torch.no_grad():
            products = torch.matmul(factors, self._factors.T)
        worst = self._slack.max() + slack.max()
        upper = (self._lengths * (1 + worst)).astype(np.float32)
        lower = (self._lengths * (1 - worst)).astype(np.float32)
        return _Bounded(products, upper, lower, (2 * worst * lengths).astype(np.float32))

    def _prepare(self, rows: NDArray[np.float32]) -> tuple[torch.Tensor, NDArray[np.float64], NDArray[np.float64]]:
        """Factors, squared lengths, and the error of each sample's products relative to its length."""
        moved = torch.from_numpy((rows - self._mean) * self._scale)
        factors = moved.to(self._dtype)
        lengths = torch.linalg.vector_norm(moved, dim=1, dtype=torch.float64).numpy()
        slack = np.full(len(rows), _UNIT_ROUNDOFF * (2 * math.sqrt(rows.shape[1]) + 8))
        if self.reduced:
            # The rounding error of the sample, and half the rounding error of the product.
            lost = torch.linalg.vector_norm(moved - factors.float(), dim=1, dtype=torch.float64).numpy()
            share = lost / np.where(lengths > 0, lengths, 1.0)
            slack += share * (1 + share) + _HALF_UNIT_ROUNDOFF_BFLOAT16
        return factors, lengths**2, slack


def _rank(
    bounded: _Bounded, first: int, rows: NDArray[np.float32], samples: NDArray[np.float32], table: Neighbours
) -> int:
    """Rank all samples for each row; see `_rank_block`."""
    few = max(1, _RANKED_TOGETHER // len(samples))
    checked = 0
    for start in range(0, len(rows), few):
        part = slice(start, start + few)
        checked += _rank_block(
            # Converted to float32 in portions that fit into the CPU cache.
            bounded.products[part].float().cpu().numpy(),
            bounded.upper,
            bounded.lower,
            bounded.own_slack[part],
            first + start,
            rows[part],
            samples,
            table.index[part],
            table.squared_distance[part],
        )
    return checked


@contextmanager
def _full_precision(device_type: str) -> Iterator[None]:
    """No TF32, no reduced-precision sums, no autocast: the error bound is valid only for unchanged factors."""
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
    upper: NDArray[np.float32],
    lower: NDArray[np.float32],
    own_slack: NDArray[np.float32],
    first: int,
    rows: NDArray[np.float32],
    samples: NDArray[np.float32],
    index: NDArray[np.int32],
    squared_distance: NDArray[np.float64],
) -> int:
    """Rank all samples for each row, by exact distance, then index; return how many distances were computed.

    Row b is sample `first + b` itself, which then comes first, unless that index is negative. For the bounds see
    `_Bounded`.
    """
    checked = np.zeros(index.shape[0], dtype=np.int64)
    for b in prange(index.shape[0]):
        i = first + b
        ahead = 0
        if i >= 0:
            index[b, 0] = i
            squared_distance[b, 0] = 0.0
            ahead = 1
        if index.shape[1] > ahead:
            others = index[b, ahead:], squared_distance[b, ahead:]
            checked[b] = _rank_row(products[b], upper, lower, own_slack[b], i, rows[b], samples, *others)
    total: int = checked.sum()
    return total


# A function of its own: on Python 3.12 numba takes variables of this loop for sums over the parallel loop around it.
@compiled()
def _rank_row(
    products: NDArray[np.float32],
    upper: NDArray[np.float32],
    lower: NDArray[np.float32],
    own_slack: np.float32,
    i: int,
    row: NDArray[np.float32],
    samples: NDArray[np.float32],
    index: NDArray[np.int32],
    squared_distance: NDArray[np.float64],
) -> int:
    """Rank all samples but i for one row; return how many distances were computed."""
    number, others = samples.shape[0], index.shape[0]
    # The `others` smallest upper bounds, as a heap with the largest on top.
    heap = np.full(others, np.float32(np.inf), dtype=np.float32)
    for j in range(number):
        bound = upper[j] - np.float32(2.0) * products[j]
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
    limit = heap[0] + own_slack
    count = 0
    for j in range(number):
        if lower[j] - np.float32(2.0) * products[j] <= limit and j != i:
            count += 1
    candidates = np.empty(count, dtype=np.int32)
    distances = np.empty(count, dtype=np.float64)
    count = 0
    for j in range(number):
        if lower[j] - np.float32(2.0) * products[j] <= limit and j != i:
            total = 0.0
            for d in range(samples.shape[1]):
                difference = np.float64(row[d]) - np.float64(samples[j, d])
                total += difference * difference
            candidates[count] = j
            distances[count] = total
            count += 1
    # Candidates are sorted by index, and the stable sort keeps that order where distances are equal.
    order = np.argsort(distances, kind="mergesort")
    for rank in range(others):
        index[rank] = candidates[order[rank]]
        squared_distance[rank] = distances[order[rank]]
    return count
