"""Exact nearest neighbours in Euclidean distance, in memory far below samples × samples.

Two steps. A blocked matrix product, in bfloat16 where that is fast, gives every squared distance with a small error; a
bound on that error tells which samples can be among the k nearest. Only for those few the distance is computed again,
in float64, and ranked. So the result does not depend on the precision of the products, the block size, the device or
the number of threads.
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
_WORTH_IT = 64  # with more than this part of all samples as candidates, checking them costs what bfloat16 saves
_NOBODY = -(2**40)  # the number of a row that is not among the samples searched

Products = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Neighbours:
    """The nearest samples of each sample, nearest first; in a balanced table, within each modality.

    Attributes:
        index: (N, k) int32. Column 0 is the sample itself, also if it has exact duplicates (unless another set was
            searched); equal distances are ordered by index.
        squared_distance: (N, k) float64, squared Euclidean distance, in the order of `index`.
    """

    index: NDArray[np.int32]
    squared_distance: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.index)


class NearestSearch(Protocol):
    """Whatever finds what `nearest_neighbours` finds: on a device, or shared out between processes."""

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
            neighbour and counts as one of the k. With a `base`, no row is anybody's own.
        rows: Search for these consecutive rows of the features alone; what is found is those rows of the whole table.
        block_size: Rows whose distances are held at a time; by default what fits into 128 MiB.
        device: Where the matrix products run. The result is the same everywhere.
        products: Precision of the matrix products that single out candidates: "bfloat16", "float32", or "auto", which
            takes bfloat16 on a processor that computes with it, and returns to float32 if too many candidates are left.
            The result is the same with each.

    Raises:
        ValueError: k < 1, block_size < 1, rows with steps, features that are not finite or not two-dimensional, or a
            base of another width.
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
    found = Neighbours(np.empty((wanted, columns), dtype=np.int32), np.empty((wanted, columns), dtype=np.float64))
    if found.index.size == 0:
        return found

    mean, scale = centre_and_scale(others, samples)
    search = _Products(others, mean, scale, device, _first_choice(products, device))
    together = block_size or max(1, _PRODUCTS_PER_BLOCK // len(others))
    start = first
    while start < stop:
        block = slice(start, min(start + together, stop))
        bounded = search.bounds_within(block) if base is None else search.bounds(samples[block])
        own = start if base is None else _NOBODY
        place = slice(block.start - first, block.stop - first)
        part = Neighbours(found.index[place], found.squared_distance[place])
        checked = _rank(bounded, own, samples[block], others, part)
        if products == "auto" and search.reduced and checked > len(others) * len(bounded.products) / _WORTH_IT:
            search = _Products(others, mean, scale, device, torch.float32)
        start = block.stop
    return found


def _first_choice(products: Products, device: torch.device | str) -> torch.dtype:
    if products == "auto":
        return torch.bfloat16 if torch.device(device).type == "cpu" and cpu_computes_bfloat16() else torch.float32
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[products]


def centre_and_scale(samples: NDArray[np.float32], rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], np.float32]:
    """What to subtract and to multiply by, for samples of mean zero, and samples and rows with values within ±1.

    Up to rounding. The ranking stays the same, the error of products gets smaller, and nothing can overflow.
    """
    mean = samples.mean(axis=0, dtype=np.float64).astype(np.float32)
    parts = (samples,) if rows is samples else (samples, rows)
    blocks = [part[start : start + 1024] for part in parts for start in range(0, len(part), 1024)]
    largest = max(float(np.abs(block - mean).max(initial=0.0)) for block in blocks)
    return mean, np.float32(min(1.0 / largest, 1e38) if largest > 0 else 1.0)


class _Bounded(NamedTuple):
    """Bounds on the squared distances of some rows to all samples.

    `upper[j] − 2·products[b, j]` and `lower[j] − 2·products[b, j]` bound the squared distance, scaled, from above and
    below, up to a term of the row alone, for which `own_slack[b]` accounts.

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
        dtype: Of the factors.
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
        """Whether the factors are of less than 32 bits."""
        return self._dtype != torch.float32

    def bounds(self, rows: NDArray[np.float32]) -> _Bounded:
        """Of some rows, which need not be among the samples.

        A product of x and y is wrong by at most (s_x + s_y)·|x|·|y| ≤ ½(s_x + s_y)(|x|² + |y|²).
        """
        factors, lengths, slack = self._prepare(rows)
        return self._bounds(factors.to(self._device), lengths, slack)

    def bounds_within(self, block: slice) -> _Bounded:
        """Of rows of the samples themselves."""
        return self._bounds(self._factors[block], self._lengths[block], self._slack[block])

    def _bounds(self, factors: torch.Tensor, lengths: NDArray[np.float64], slack: NDArray[np.float64]) -> _Bounded:
        with _full_precision(torch.device(self._device).type), torch.no_grad():
            products = torch.matmul(factors, self._factors.T)
        worst = self._slack.max() + slack.max()
        upper = (self._lengths * (1 + worst)).astype(np.float32)
        lower = (self._lengths * (1 - worst)).astype(np.float32)
        return _Bounded(products, upper, lower, (2 * worst * lengths).astype(np.float32))

    def _prepare(self, rows: NDArray[np.float32]) -> tuple[torch.Tensor, NDArray[np.float64], NDArray[np.float64]]:
        """Factors, squared lengths, and the share of its length by which a sample's products may be wrong."""
        moved = torch.from_numpy((rows - self._mean) * self._scale)
        factors = moved.to(self._dtype)
        lengths = torch.linalg.vector_norm(moved, dim=1, dtype=torch.float64).numpy()
        slack = np.full(len(rows), _UNIT_ROUNDOFF * (2 * math.sqrt(rows.shape[1]) + 8))
        if self.reduced:
            # What rounding took from the sample, and half of what rounding takes from the product.
            lost = torch.linalg.vector_norm(moved - factors.float(), dim=1, dtype=torch.float64).numpy()
            share = lost / np.where(lengths > 0, lengths, 1.0)
            slack += share * (1 + share) + _HALF_UNIT_ROUNDOFF_BFLOAT16
        return factors, lengths**2, slack


def _rank(
    bounded: _Bounded, first: int, rows: NDArray[np.float32], samples: NDArray[np.float32], found: Neighbours
) -> int:
    """Rank all samples for each row; see `_rank_block`."""
    few = max(1, _RANKED_TOGETHER // len(samples))
    checked = 0
    for start in range(0, len(rows), few):
        part = slice(start, start + few)
        checked += _rank_block(
            # Raised to float32 in portions that the processor's cache can hold.
            bounded.products[part].float().cpu().numpy(),
            bounded.upper,
            bounded.lower,
            bounded.own_slack[part],
            first + start,
            rows[part],
            samples,
            found.index[part],
            found.squared_distance[part],
        )
    return checked


@contextmanager
def _full_precision(device_type: str) -> Iterator[None]:
    """No TF32, no lesser sums, no autocast: the error bound counts on factors multiplied as they are."""
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
    """Rank all samples for each row, by exact distance, then index; returns how many distances were computed.

    Row b is sample `first + b` itself, which then comes first; where that is no sample, all are alike. For the bounds
    see `_Bounded`.
    """
    number = samples.shape[0]
    checked = 0
    for b in prange(index.shape[0]):
        i = first + b
        ahead = 0
        if i >= 0:
            index[b, 0] = i
            squared_distance[b, 0] = 0.0
            ahead = 1
        others = index.shape[1] - ahead
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
            limit = heap[0] + own_slack[b]
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
                        difference = np.float64(rows[b, d]) - np.float64(samples[j, d])
                        total += difference * difference
                    candidates[found] = j
                    distances[found] = total
                    found += 1
            checked += found
            # Candidates stand in the order of their index, and the sort keeps it where distances are equal.
            order = np.argsort(distances, kind="mergesort")
            for rank in range(others):
                index[b, rank + ahead] = candidates[order[rank]]
                squared_distance[b, rank + ahead] = distances[order[rank]]
    return checked
