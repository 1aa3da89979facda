"""Neighbour search for the clustering: exact or approximate, over all samples or balanced between the modalities."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from pclhd.clustering.approximate import approximate_neighbours
from pclhd.clustering.neighbours import NearestSearch, Neighbours, as_features, nearest_neighbours
from pclhd.clustering.options import SearchMethod

EXACT_UP_TO = 200_000
"""Samples up to which "auto" searches exactly."""

_ROUNDING = 1e-9  # largest relative difference between two sums of the same squares


def find_neighbours(
    features: NDArray[np.floating] | torch.Tensor,
    k: int,
    *,
    method: SearchMethod = "auto",
    modality: NDArray[np.integer] | None = None,
    nearest: NearestSearch = nearest_neighbours,
) -> Neighbours:
    """The k nearest samples of each sample, itself included and first (ours).

    Without `modality` these are the nearest of all, nearest first. With it they are balanced: the same number from each
    modality, nearest first within each, and the modalities alternate, starting with the sample's own: itself, the
    nearest of the other modality, the nearest of its own, the second of the other, … So the counts in every prefix of a
    row differ by at most one. Three or more modalities alternate in the order of their codes, starting with the
    sample's own. Where a modality has no more samples, the others fill the row.

    Args:
        features: (N, D); they need not have unit length.
        k: Number of neighbours, the sample itself included. At most N columns are returned.
        method: "exact", "approximate" (needs faiss), or "auto": exact for up to 200,000 samples, and also for more if
            faiss is not installed, with a warning.
        modality: (N,) integer codes; balances the table.
        nearest: Function for the exact search.

    Raises:
        UserError: "approximate" without faiss.
        ValueError: An unknown method, k < 1, a modality that does not fit, or features that are not finite or not
            two-dimensional.
    """
    if method not in get_args(SearchMethod):
        raise ValueError(f"method must be one of {', '.join(get_args(SearchMethod))}, got {method!r}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    samples = as_features(features)
    approximate = is_approximate(method, len(samples))
    if method == "auto" and not approximate and len(samples) > EXACT_UP_TO:
        warnings.warn(
            f"{len(samples)} samples are searched exactly, which is slow: `pip install faiss-cpu` makes it faster",
            stacklevel=2,
        )

    def search(rows: NDArray[np.float32], wanted: int, base: NDArray[np.float32] | None) -> Neighbours:
        if approximate:
            return approximate_neighbours(rows, wanted, base=base)
        return nearest(rows, wanted, base=base)

    code = _codes(modality, len(samples))
    if not code.any():
        return search(samples, k, None)
    columns = min(k, len(samples))
    index = np.empty((len(samples), columns), dtype=np.int32)
    squared_distance = np.empty((len(samples), columns), dtype=np.float64)
    members = [np.flatnonzero(code == own) for own in range(int(code.max()) + 1)]
    parts = [samples[rows] for rows in members]
    sizes = [len(rows) for rows in members]
    for own, rows in enumerate(members):
        turns = _turns(sizes, own, columns)
        for other in np.unique(turns):
            places = np.flatnonzero(turns == other)
            found = search(parts[own], len(places), None if other == own else parts[other])
            index[np.ix_(rows, places)] = members[other][found.index]
            squared_distance[np.ix_(rows, places)] = found.squared_distance
    return Neighbours(index, squared_distance)


def is_approximate(method: SearchMethod, number: int) -> bool:
    """Whether `find_neighbours` searches this many samples approximately."""
    return method == "approximate" or (method == "auto" and number > EXACT_UP_TO and find_spec("faiss") is not None)


def neighbour_recall(
    features: NDArray[np.floating] | torch.Tensor,
    found: Neighbours,
    *,
    modality: NDArray[np.integer] | None = None,
    sample: int = 1000,
    generator: np.random.Generator,
) -> float:
    """Share of the true neighbours that a table holds, measured on a random sample of its rows (ours).

    A sample does not count as its own neighbour, which is always right. Equally distant neighbours are interchangeable.

    Args:
        features: (N, D), the features that were searched.
        found: Their neighbours.
        modality: (N,) codes, if the table is balanced: then the true neighbours are balanced too.
        sample: How many rows are searched exactly; at most all.
        generator: Draws these rows.

    Returns:
        From 0 to 1; 1 if there is nothing to find.

    Raises:
        ValueError: sample < 1, a table or a modality that does not fit, or features that are not finite or not
            two-dimensional.
    """
    if sample < 1:
        raise ValueError(f"sample must be at least 1, got {sample}")
    samples = as_features(features)
    if len(found) != len(samples):
        raise ValueError(f"the table has {len(found)} rows, features have {len(samples)}")
    code = _codes(modality, len(samples))
    sizes = np.bincount(code).tolist()
    drawn = np.sort(generator.choice(len(samples), min(sample, len(samples)), replace=False))
    hits = wanted = 0
    for other in range(len(sizes)):
        part = samples[code == other] if len(sizes) > 1 else samples
        for own in range(len(sizes)):
            rows = drawn[code[drawn] == own]
            share = int((_turns(sizes, own, found.index.shape[1]) == other).sum())
            if share == 0:
                continue
            others = share - int(other == own)
            limits = nearest_neighbours(samples[rows], share, base=part).squared_distance[:, -1]
            for row, limit in zip(rows, limits, strict=True):
                named = np.unique(found.index[row])
                named = named[(code[named] == other) & (named != row)]
                distances = np.square(samples[named].astype(np.float64) - samples[row]).sum(axis=1)
                hits += min(others, int((distances <= limit * (1 + _ROUNDING)).sum()))
            wanted += others * len(rows)
    return hits / wanted if wanted else 1.0


def _codes(modality: NDArray[np.integer] | None, number: int) -> NDArray[np.int64]:
    """(N,) the modalities, numbered from 0; all 0 without modalities."""
    if modality is None:
        return np.zeros(number, dtype=np.int64)
    if modality.shape != (number,):
        raise ValueError(f"modality must have shape ({number},), got {modality.shape}")
    codes: NDArray[np.int64] = np.unique(modality, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return codes


def _turns(sizes: list[int], own: int, columns: int) -> NDArray[np.int64]:
    """(columns,): the modality of each neighbour of a sample of modality `own`."""
    order = [(own + step) % len(sizes) for step in range(len(sizes))]
    turns = [other for rank in range(columns) for other in order if rank < sizes[other]]
    return np.array(turns[:columns], dtype=np.int64)
