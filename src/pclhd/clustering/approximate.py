"""Approximate nearest neighbours, for sets in which comparing all pairs takes too long.

An inverted file. The samples are split into lists, each around a centre found by k-means, and a row is compared with
the members of the few lists whose centres are nearest to it. Lists are processed one after the other: all rows that
probe a list are compared with it in one matrix product, which is many times faster than row by row.

The products only choose candidates. As in the exact search, their distances are computed again in float64. The only
neighbours that can be missing are those in lists that were not probed.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray

from pclhd.clustering.compile import compiled
from pclhd.clustering.neighbours import Neighbours, as_features, centre_and_scale, nearest_neighbours
from pclhd.errors import UserError

_MEMBERS_PER_LIST = 39  # on average, at least; with fewer, k-means has too little data
_TRAINED_ON = 64  # samples per list that k-means is trained on
_ROUNDS = 10  # of k-means
_ROWS_PER_SEARCH = 2**14  # rows whose nearest centres are searched at a time
_ROWS_PER_BLOCK = 2**17  # rows processed together, unless that exceeds the next limit
_PROBES_PER_BLOCK = 2**25  # rows × probes: 128 MiB of list numbers, twice
_PRODUCTS_PER_BLOCK = 2**24  # 64 MiB of float32
_NO_SAMPLE = -1


class _Lists(NamedTuple):
    """The samples to search among, sorted by list.

    Attributes:
        samples: (M, D) float32, centred and scaled, list after list.
        lengths: (M,) float32, their squared lengths.
        numbers: (M,) int32, the original index of each sample; ascending within a list.
        starts: (L + 1,) int64, where each list starts.
    """

    samples: NDArray[np.float32]
    lengths: NDArray[np.float32]
    numbers: NDArray[np.int32]
    starts: NDArray[np.int64]


def default_lists(number: int) -> int:
    """Into how many lists samples are split: 4 √M, but at least 39 samples a list; 1 for small sets (ours)."""
    return max(1, min(round(4 * math.sqrt(number)), number // _MEMBERS_PER_LIST))


def default_probes(number: int, lists: int, k: int) -> int:
    """How many lists a row probes: a sixteenth of them, at least 16, and enough to compare it with 4 k samples.

    The share is constant because the images of a person spread over several lists: with a constant number of lists,
    recall falls as the set grows. On synthetic features with 40 images per person and k = 30, `benchmarks/scale.py`
    measured a recall of 99.6 % at 3,000 samples and 97.5 % at 1,000,000 (ours).
    """
    return min(lists, max(16, math.ceil(lists / 16), math.ceil(4 * k * lists / max(number, 1))))


def approximate_neighbours(
    features: NDArray[np.floating] | torch.Tensor,
    k: int,
    *,
    base: NDArray[np.floating] | torch.Tensor | None = None,
    lists: int | None = None,
    probes: int | None = None,
    seed: int = 0,
) -> Neighbours:
    """Most of the k nearest samples of each sample in Euclidean distance (ours; k-means by faiss).

    The table has the format of `nearest_neighbours`: the same number of columns, the sample itself first, exact
    distances, equal distances ordered by index. `search.neighbour_recall` measures how much of it is right. A row that
    is compared with fewer than k samples is searched exactly; so are all rows if all lists are probed.

    Besides the features, this needs memory for one copy of the `base` (two if some rows are searched exactly), the
    table, and about 1 GiB.

    The same seed gives the same table. In principle, a different number of threads or a different processor may round
    the matrix products of k-means differently, and so assign samples to lists differently.

    Args:
        features: (N, D); they need not have unit length.
        k: Number of neighbours. At most as many columns are returned as there are samples to find.
        base: (M, D) samples to search among. None searches among `features`: then the sample itself is its first
            neighbour and counts as one of the k. With a `base`, no sample counts as its own neighbour.
        lists: Number of lists that the base is split into; by default `default_lists`. At most the number of samples.
        probes: How many lists each row probes; by default `default_probes`. More is slower and finds more.
        seed: For the samples that k-means is trained on, and its initial centres.

    Raises:
        UserError: faiss is not installed.
        ValueError: k, lists or probes below 1, features that are not finite or not two-dimensional, or a base of a
            different width.
    """
    for name, value in (("k", k), ("lists", lists), ("probes", probes)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    faiss = _import_faiss()
    samples = as_features(features)
    others = samples if base is None else as_features(base)
    if others.shape[1] != samples.shape[1]:
        raise ValueError(f"base has width {others.shape[1]}, features have {samples.shape[1]}")
    number = len(others)
    lists = default_lists(number) if lists is None else min(lists, number)
    probes = default_probes(number, lists, k) if probes is None else probes
    if probes >= lists or samples.size == 0:
        return nearest_neighbours(samples, k, base=None if base is None else others)

    columns = min(k, number)
    found = Neighbours(
        np.empty((len(samples), columns), dtype=np.int32), np.empty((len(samples), columns), dtype=np.float64)
    )
    mean, scale = centre_and_scale(others, samples)
    generator = np.random.default_rng(seed)
    centres = _train(faiss, others, mean, scale, lists, generator)
    inverted = _fill_lists(centres, others, mean, scale, lists)
    rows = max(1, min(_ROWS_PER_BLOCK, _PROBES_PER_BLOCK // probes))
    for start in range(0, len(samples), rows):
        block = samples[start : start + rows]
        own = np.arange(start, start + len(block)) if base is None else np.full(len(block), _NO_SAMPLE)
        candidates = _candidates(_moved(block, mean, scale), centres, inverted, probes, columns)
        short = np.flatnonzero((candidates == _NO_SAMPLE).any(axis=1))
        if len(short):
            candidates[short] = nearest_neighbours(block[short], columns, base=others).index
        index, squared_distance = found.index[start : start + rows], found.squared_distance[start : start + rows]
        _rank_candidates(candidates, own, block, others, index, squared_distance)
    return found


def _import_faiss() -> ModuleType:
    try:
        import faiss
    except ImportError:
        raise UserError(
            "approximate neighbour search needs faiss, which is not installed: run `pip install faiss-cpu`, or "
            "search exactly"
        ) from None
    module: ModuleType = faiss
    return module


def _moved(samples: NDArray[np.float32], mean: NDArray[np.float32], scale: np.float32) -> NDArray[np.float32]:
    moved = np.empty_like(samples)
    for start in range(0, len(samples), 1024):
        moved[start : start + 1024] = (samples[start : start + 1024] - mean) * scale
    return moved


def _train(
    faiss: ModuleType,
    samples: NDArray[np.float32],
    mean: NDArray[np.float32],
    scale: np.float32,
    lists: int,
    generator: np.random.Generator,
) -> Any:
    """K-means on some of the samples; returns faiss's index of the centres."""
    seen = min(len(samples), _TRAINED_ON * lists)
    rows = np.sort(generator.choice(len(samples), seen, replace=False))
    kmeans = faiss.Kmeans(
        samples.shape[1],
        lists,
        niter=_ROUNDS,
        seed=int(generator.integers(2**31 - 1)),
        min_points_per_centroid=1,  # otherwise it prints warnings
        max_points_per_centroid=_TRAINED_ON + 1,  # otherwise it draws a sample itself
    )
    kmeans.train(_moved(samples[rows], mean, scale))
    return kmeans.index


def _nearest_centres(centres: Any, moved: NDArray[np.float32], probes: int) -> NDArray[np.int32]:
    """(N, probes): the numbers of the nearest lists of each row."""
    nearest = np.empty((len(moved), probes), dtype=np.int32)
    for start in range(0, len(moved), _ROWS_PER_SEARCH):
        rows = slice(start, start + _ROWS_PER_SEARCH)
        nearest[rows] = centres.search(moved[rows], probes)[1]
    return nearest


def _fill_lists(
    centres: Any, samples: NDArray[np.float32], mean: NDArray[np.float32], scale: np.float32, lists: int
) -> _Lists:
    members = np.empty(len(samples), dtype=np.int32)
    for start in range(0, len(samples), _ROWS_PER_SEARCH):
        rows = slice(start, start + _ROWS_PER_SEARCH)
        members[rows] = _nearest_centres(centres, _moved(samples[rows], mean, scale), 1)[:, 0]
    starts, numbers = _invert(members[:, None], lists)
    sorted_samples = np.empty_like(samples)
    lengths = np.empty(len(samples), dtype=np.float32)
    for start in range(0, len(samples), _ROWS_PER_SEARCH):
        rows = slice(start, start + _ROWS_PER_SEARCH)
        sorted_samples[rows] = _moved(samples[numbers[rows]], mean, scale)
        lengths[rows] = np.einsum("nd,nd->n", sorted_samples[rows], sorted_samples[rows])
    return _Lists(sorted_samples, lengths, numbers, starts)


def _candidates(
    moved: NDArray[np.float32], centres: Any, inverted: _Lists, probes: int, kept: int
) -> NDArray[np.int32]:
    """(B, kept): the nearest samples of each row in the lists it probes, unordered; −1 where there are no more."""
    numbers = np.full((len(moved), kept), _NO_SAMPLE, dtype=np.int32)
    distances = np.full((len(moved), kept), np.inf, dtype=np.float32)
    starts, probing = _invert(_nearest_centres(centres, moved, probes), len(inverted.starts) - 1)
    for at in range(len(inverted.starts) - 1):
        members = slice(int(inverted.starts[at]), int(inverted.starts[at + 1]))
        size = members.stop - members.start
        if size == 0:
            continue
        step = max(1, _PRODUCTS_PER_BLOCK // size)
        for start in range(int(starts[at]), int(starts[at + 1]), step):
            probing_rows = probing[start : min(start + step, int(starts[at + 1]))]
            products = moved[probing_rows] @ inverted.samples[members].T
            _keep_nearest(
                products, inverted.lengths[members], inverted.numbers[members], probing_rows, distances, numbers
            )
    return numbers


@compiled()
def _invert(lists: NDArray[np.int32], count: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """From the lists of each row to the rows of each list: starts (count + 1,), and rows, ascending within a list."""
    starts = np.zeros(count + 1, dtype=np.int64)
    for row in range(lists.shape[0]):
        for probe in range(lists.shape[1]):
            starts[lists[row, probe] + 1] += 1
    for at in range(count):
        starts[at + 1] += starts[at]
    free = starts[:-1].copy()
    rows = np.empty(starts[count], dtype=np.int32)
    for row in range(lists.shape[0]):
        for probe in range(lists.shape[1]):
            at = lists[row, probe]
            rows[free[at]] = row
            free[at] += 1
    return starts, rows


@compiled(parallel=True)
def _keep_nearest(
    products: NDArray[np.float32],
    lengths: NDArray[np.float32],
    members: NDArray[np.int32],
    probing_rows: NDArray[np.int32],
    distances: NDArray[np.float32],
    numbers: NDArray[np.int32],
) -> None:
    """Compare the members of a list with the rows that probe it.

    Each row of `distances` and `numbers` is a heap of the nearest samples so far, the farthest of them on top.
    Distances omit the squared length of the row itself, which does not change their order.
    """
    kept = distances.shape[1]
    for b in prange(len(probing_rows)):
        row = probing_rows[b]
        heap = distances[row]
        who = numbers[row]
        for j in range(len(members)):
            distance = lengths[j] - np.float32(2.0) * products[b, j]
            if distance < heap[0]:
                at = 0
                while True:
                    child = 2 * at + 1
                    if child >= kept:
                        break
                    if child + 1 < kept and heap[child + 1] > heap[child]:
                        child += 1
                    if heap[child] <= distance:
                        break
                    heap[at] = heap[child]
                    who[at] = who[child]
                    at = child
                heap[at] = distance
                who[at] = members[j]


@compiled(parallel=True)
def _rank_candidates(
    candidates: NDArray[np.int32],
    own: NDArray[np.int64],
    rows: NDArray[np.float32],
    samples: NDArray[np.float32],
    index: NDArray[np.int32],
    squared_distance: NDArray[np.float64],
) -> None:
    """Rank the candidates of each row by exact distance, then index; a row that is itself a sample comes first."""
    for b in prange(len(candidates)):
        ahead = 0
        if own[b] >= 0:
            index[b, 0] = own[b]
            squared_distance[b, 0] = 0.0
            ahead = 1
        numbers = np.sort(candidates[b])
        distances = np.empty(len(numbers), dtype=np.float64)
        for at in range(len(numbers)):
            if numbers[at] == own[b]:
                distances[at] = np.inf
            else:
                total = 0.0
                for d in range(rows.shape[1]):
                    difference = np.float64(rows[b, d]) - np.float64(samples[numbers[at], d])
                    total += difference * difference
                distances[at] = total
        # The candidates are sorted by index, and the stable sort keeps that order where distances are equal.
        order = np.argsort(distances, kind="mergesort")
        for rank in range(index.shape[1] - ahead):
            index[b, rank + ahead] = numbers[order[rank]]
            squared_distance[b, rank + ahead] = distances[order[rank]]
