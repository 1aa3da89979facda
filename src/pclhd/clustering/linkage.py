"""Exact average linkage on the sparse similarity: an absent pair adds nothing to a sum of similarities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pclhd.clustering.compile import compiled
from pclhd.clustering.density import check_eps, number_clusters

# Similarities are converted to integer multiples of this unit. Integer sums are exact, so the sum between two clusters
# is the same from both sides and does not depend on the order of merges. Float32 similarities above 0.002 are multiples
# of the unit, the others are rounded to it. A sum does not overflow below 2 × 10⁹ stored pairs.
_UNIT = 2.0**-32


def agglomerative_labels(similarity: csr_matrix, eps: float, min_cluster_size: int = 4) -> NDArray[np.int64]:
    """Average linkage on the distance 1 − similarity: the two nearest clusters merge while they are within eps (ours).

    The distance of two clusters is the mean over all pairs between them, with absent pairs at distance 1: one minus the
    sum of stored similarities divided by the number of pairs. Of equally near pairs of clusters, the one with the
    smallest first sample merges first, then the one with the smallest other first sample.

    Clusters do not merge in the order of distance: a pair may merge once each is the nearest of the other (the
    nearest-neighbour chain of Benzécri and of Juan, 1982). A merged cluster is never nearer to a third one than the
    nearer of its parts, so the result is the same.

    Pairs beyond eps count too: they are part of the mean distances.

    Args:
        similarity: (N, N) symmetric, as `jaccard_similarity` returns it; absent pairs are at distance 1.
        eps: Largest mean distance at which clusters merge, 0 < eps < 1.
        min_cluster_size: Smaller clusters become noise.

    Returns:
        (N,) labels: clusters numbered in the order of their first sample, −1 for noise.

    Raises:
        ValueError: A parameter out of range, or a matrix that is not square.
    """
    check_eps(eps)
    if min_cluster_size < 1:
        raise ValueError(f"min_cluster_size must be at least 1, got {min_cluster_size}")
    number = similarity.shape[0]
    if similarity.shape != (number, number):
        raise ValueError(f"similarity must be square, got shape {similarity.shape}")
    # As in DBSCAN, distances are compared with eps in float32, so that 0.3 is within 0.3.
    least = float(np.float32(1) - np.float32(eps)) / _UNIT
    units = np.rint(similarity.data / np.float64(_UNIT)).astype(np.int64)
    columns = similarity.indices.astype(np.int32)  # a copy: it is overwritten
    return number_clusters(_merged(similarity.indptr.astype(np.int64), columns, units, least), min_cluster_size)


@compiled()
def _merged(
    indptr: NDArray[np.int64], columns: NDArray[np.int32], units: NDArray[np.int64], least: float
) -> NDArray[np.int32]:
    """The first sample of each sample's cluster: (N,). Overwrites `columns` and `units`.

    A cluster is identified by its first sample. Its neighbours are stored in the rows of its samples, which form a
    linked list; a merge joins two lists. Whenever a cluster is processed, its list is gathered (entries of merged
    clusters are added up) and written back, so no list is longer than necessary.
    """
    number = len(indptr) - 1
    towards = np.arange(number).astype(np.int32)  # a sample nearer to the first of its cluster
    sizes = np.ones(number, dtype=np.int64)
    next_row = np.full(number, -1, dtype=np.int32)
    last_row = np.arange(number).astype(np.int32)
    filled = indptr[1:] - indptr[:-1]  # entries of each row that are in use
    total = np.zeros(number, dtype=np.int64)
    neighbours = np.empty(number, dtype=np.int32)
    chain = np.empty(number, dtype=np.int32)  # each cluster is the nearest of the previous one
    place = np.full(number, -1, dtype=np.int32)  # in the chain
    length = 0
    start = 0
    while start < number:
        if length == 0:
            # A cluster without another cluster within eps never gets one later, so it is finished.
            if towards[start] != start:
                start += 1
                continue
            chain[0] = start
            place[start] = 0
            length = 1
        cluster = chain[length - 1]

        count = _gather(cluster, indptr, columns, units, filled, next_row, towards, neighbours, total)
        nearest = -1
        mean = 0.0
        for rank in range(count):
            other = neighbours[rank]
            other_mean = total[other] / (sizes[cluster] * sizes[other])
            if other_mean > mean or (other_mean == mean and other < nearest):
                nearest = other
                mean = other_mean
        last_row[cluster] = _write_back(cluster, indptr, columns, units, filled, next_row, neighbours[:count], total)

        if nearest < 0 or mean < least:
            # It is the only cluster in the chain: a previous one would be within eps.
            place[cluster] = -1
            length = 0
            start += 1
        elif place[nearest] < 0:
            chain[length] = nearest
            place[nearest] = length
            length += 1
        else:
            # The previous cluster. (Where two means differ only in the last bit, rounding may make it an earlier one.)
            length, end = place[nearest], length
            place[chain[length:end]] = -1
            first, second = min(cluster, nearest), max(cluster, nearest)
            towards[second] = first
            sizes[first] += sizes[second]
            next_row[last_row[first]] = second
            last_row[first] = last_row[second]
    return np.array([_first(towards, i) for i in range(number)], dtype=np.int32)


@compiled()
def _gather(
    cluster: int,
    indptr: NDArray[np.int64],
    columns: NDArray[np.int32],
    units: NDArray[np.int64],
    filled: NDArray[np.int64],
    next_row: NDArray[np.int32],
    towards: NDArray[np.int32],
    neighbours: NDArray[np.int32],
    total: NDArray[np.int64],
) -> int:
    """Write the clusters that have pairs with this one to `neighbours`, their sums to `total`; return their number."""
    count = 0
    row = cluster
    while row >= 0:
        for at in range(indptr[row], indptr[row] + filled[row]):
            other = _first(towards, columns[at])
            if other != cluster and units[at] > 0:
                if total[other] == 0:
                    neighbours[count] = other
                    count += 1
                total[other] += units[at]
        row = next_row[row]
    return count


@compiled()
def _write_back(
    cluster: int,
    indptr: NDArray[np.int64],
    columns: NDArray[np.int32],
    units: NDArray[np.int64],
    filled: NDArray[np.int64],
    next_row: NDArray[np.int32],
    neighbours: NDArray[np.int32],
    total: NDArray[np.int64],
) -> int:
    """Write the gathered entries to the rows of the list, and clear `total`. The list ends at the last row needed."""
    row = cluster
    filled[row] = 0
    for other in neighbours:
        while indptr[row] + filled[row] == indptr[row + 1]:
            row = next_row[row]
            filled[row] = 0
        columns[indptr[row] + filled[row]] = other
        units[indptr[row] + filled[row]] = total[other]
        filled[row] += 1
        total[other] = 0
    next_row[row] = -1
    return row


@compiled()
def _first(towards: NDArray[np.int32], sample: int) -> int:
    """The first sample of the cluster of a sample; the path to it is shortened."""
    while towards[sample] != sample:
        towards[sample] = towards[towards[sample]]
        sample = towards[sample]
    return sample
