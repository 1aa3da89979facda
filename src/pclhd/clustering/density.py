"""Clusters as dense regions: DBSCAN at one distance, HDBSCAN at all distances at once.

Both use only the stored pairs. All other pairs are at distance exactly 1, the maximum, so they cannot be neighbours at
any smaller distance, and leaving them out changes nothing.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from pclhd.clustering.compile import compiled

_NOISE = -1
_ROOT = 0  # the cluster of all samples, at distance 1


def dbscan_labels(similarity: csr_matrix, eps: float, min_samples: int = 4) -> NDArray[np.int64]:
    """DBSCAN on the distance 1 − similarity: the same labels as on the dense matrix (ours).

    Args:
        similarity: (N, N) symmetric, as `jaccard_similarity` returns it; absent pairs are at distance 1, but a sample
            is always at distance 0 from itself.
        eps: Largest distance of neighbours, 0 < eps < 1: absent pairs must be out of reach.
        min_samples: Neighbours within eps, itself counted, that make a sample a core of its cluster.

    Returns:
        (N,) labels: clusters numbered in the order of their first core sample, −1 for noise. A border sample within
        reach of several clusters goes to the first of them.

    Raises:
        ValueError: eps or min_samples out of range, or a matrix that is not square.
    """
    check_eps(eps)
    if min_samples < 1:
        raise ValueError(f"min_samples must be at least 1, got {min_samples}")
    indptr, columns, distance = _stored_distances(similarity)
    number = len(indptr) - 1
    near = distance <= np.float32(eps)
    rows, columns = np.repeat(np.arange(number), np.diff(indptr))[near], columns[near]
    is_core = np.bincount(rows, minlength=number) >= min_samples
    between_cores = is_core[rows] & is_core[columns]
    links = rows[between_cores], columns[between_cores]
    _, pieces = connected_components(coo_matrix((np.ones(len(links[0])), links), shape=(number, number)))
    labels = number_clusters(np.where(is_core, pieces, _NOISE))
    to_border = is_core[rows] & ~is_core[columns]
    first_cluster = np.full(number, number)
    np.minimum.at(first_cluster, columns[to_border], labels[rows[to_border]])
    return np.where(first_cluster < number, first_cluster, labels)


def hdbscan_labels(similarity: csr_matrix, min_samples: int = 4, min_cluster_size: int = 4) -> NDArray[np.int64]:
    """HDBSCAN on the distance 1 − similarity (Campello, Moulavi and Sander, 2013).

    1. A sample's core distance is that of its min_samples-th nearest sample, itself included. The mutual reachability
       of two samples is the largest of their distance and their core distances.
    2. Lower a threshold from 1 to 0. Pairs whose mutual reachability is below it are linked. Where a cluster splits
       into several parts of at least min_cluster_size, these are new clusters; smaller parts leave it.
    3. A cluster's stability is the sum over its samples of 1 / (threshold at which they left) − 1 / (threshold at which
       it appeared). Of all sets of disjoint clusters, the one with the largest total is selected.

    The set of all samples, at distance 1, is not a cluster. So if only a single connected piece is large enough, only
    its parts can be clusters; a data set of one cluster becomes all noise.

    Equal thresholds are handled together, as in the paper. Implementations that handle them one by one in some order
    (scikit-learn among them) put a sample that links two clusters into one of them; here it is in neither. At distance
    1, that of all absent pairs, this means: samples with fewer than min_samples stored neighbours, and pieces below
    min_cluster_size, are noise. They never form a cluster because they are equally far from each other. The labels do
    not depend on the order of the samples, except for their numbering.

    Args:
        similarity: (N, N) symmetric, as `jaccard_similarity` returns it; absent pairs are at distance 1.
        min_samples: Samples within the core distance, itself included.
        min_cluster_size: Size of the smallest cluster, at least 2.

    Returns:
        (N,) labels: clusters numbered in the order of their first sample, −1 for noise.

    Raises:
        ValueError: A parameter out of range, or a matrix that is not square.
    """
    if min_samples < 1:
        raise ValueError(f"min_samples must be at least 1, got {min_samples}")
    if min_cluster_size < 2:
        raise ValueError(f"min_cluster_size must be at least 2, got {min_cluster_size}")
    indptr, columns, distance = _stored_distances(similarity)
    number = len(indptr) - 1
    core = _core_distances(indptr, distance, min_samples)
    rows = np.repeat(np.arange(number, dtype=np.int32), np.diff(indptr))
    reach = np.maximum(np.maximum(core[rows], core[columns]), distance)
    linked = np.flatnonzero((rows < columns) & (reach < 1))
    linked = linked[np.argsort(reach[linked], kind="stable")]
    parents, heights, sizes = _merges(number, rows[linked], columns[linked], reach[linked])
    cluster, above, stability = _condensed_tree(number, parents, heights, sizes, min_cluster_size)
    return number_clusters(_most_stable(above, stability)[cluster])


def number_clusters(groups: NDArray[np.integer], min_cluster_size: int = 1) -> NDArray[np.int64]:
    """Groups as labels: 0, 1, … in the order of their first samples, −1 for groups that are too small (ours).

    Args:
        groups: (N,) any integers; negative means in no group.
        min_cluster_size: Size of the smallest group that is kept.
    """
    present, first, inverse, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    kept = np.flatnonzero((present >= 0) & (counts >= min_cluster_size))
    label = np.full(len(present), _NOISE, dtype=np.int64)
    label[kept[np.argsort(first[kept])]] = np.arange(len(kept))
    labels: NDArray[np.int64] = label[inverse.reshape(-1)]
    return labels


def check_eps(eps: float) -> None:
    """Refuse values that are not strictly between 0 and 1, NaN included."""
    if not 0 < eps < 1:
        raise ValueError(f"eps must be above 0 and below 1, the distance of pairs with nothing in common, got {eps}")


def _stored_distances(similarity: csr_matrix) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Row starts, columns and distances of the stored pairs. Zeros stay: they are duplicates, not absent pairs.

    Samples count themselves, at distance 0, also where the graph does not store that.
    """
    number = similarity.shape[0]
    if similarity.shape != (number, number):
        raise ValueError(f"similarity must be square, got shape {similarity.shape}")
    rows = np.repeat(np.arange(number), np.diff(similarity.indptr))
    alone = np.setdiff1d(np.arange(number), rows[rows == similarity.indices])
    if len(alone):
        themselves = csr_matrix((np.ones(len(alone), similarity.dtype), (alone, alone)), shape=similarity.shape)
        similarity = csr_matrix(similarity + themselves)
    distance = np.maximum(np.float32(1) - similarity.data.astype(np.float32, copy=False), np.float32(0))
    return similarity.indptr.astype(np.int64), similarity.indices.astype(np.int32, copy=False), distance


@compiled(parallel=True)
def _core_distances(indptr: NDArray[np.int64], distance: NDArray[np.float32], min_samples: int) -> NDArray[np.float32]:
    """Distance to the min_samples-th nearest sample, the sample itself included: (N,); 1 if fewer are stored."""
    number = len(indptr) - 1
    core = np.ones(number, dtype=np.float32)
    for i in prange(number):
        if indptr[i + 1] - indptr[i] >= min_samples:
            core[i] = np.sort(distance[indptr[i] : indptr[i + 1]])[min_samples - 1]
    return core


@compiled()
def _merges(
    number: int, left: NDArray[np.int32], right: NDArray[np.int32], reach: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """Single linkage over pairs sorted by distance: parent, height and size of every node.

    The first `number` nodes are the samples; then there is one node for each pair that joins two groups. Parents come
    after their children; −1 means no parent.
    """
    parents = np.full(2 * number, -1, dtype=np.int32)
    heights = np.zeros(2 * number, dtype=np.float32)
    sizes = np.ones(2 * number, dtype=np.int32)
    towards = np.arange(2 * number).astype(np.int32)  # a node on the way up; paths are shortened as they are walked
    nodes = number
    for at in range(len(reach)):
        a, b = _top(towards, left[at]), _top(towards, right[at])
        if a != b:
            parents[a] = parents[b] = nodes
            towards[a] = towards[b] = nodes
            heights[nodes] = reach[at]
            sizes[nodes] = sizes[a] + sizes[b]
            nodes += 1
    return parents[:nodes], heights[:nodes], sizes[:nodes]


@compiled()
def _top(towards: NDArray[np.int32], node: int) -> int:
    """The root above a node; the path to it is shortened."""
    while towards[node] != node:
        towards[node] = towards[towards[node]]
        node = towards[node]
    return node


@compiled()
def _splits(
    number: int, parents: NDArray[np.int32], heights: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Merges as splits, seen from the top; a merge at the height of the merge above it belongs to the same split.

    Returns:
        For each node, the split it comes from, identified by the split's highest node, or by the number of nodes for
        the split at distance 1; and whether it is a part that results from that split, or a merge within it.
    """
    nodes = len(parents)
    split = np.empty(nodes, dtype=np.int32)
    is_part = np.zeros(nodes, dtype=np.bool_)
    for v in range(nodes - 1, -1, -1):
        parent = parents[v]
        if parent < 0:
            split[v] = nodes
        elif is_part[parent]:
            split[v] = parent
        else:
            split[v] = split[parent]
        is_part[v] = parent < 0 or v < number or heights[v] < heights[parent]
    return split, is_part


@compiled()
def _condensed_tree(
    number: int,
    parents: NDArray[np.int32],
    heights: NDArray[np.float32],
    sizes: NDArray[np.int32],
    min_cluster_size: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Step 2, and the stabilities of step 3.

    Returns:
        The last cluster that each sample was in; for each cluster, the one above it and its stability. Clusters come
        after those above them.
    """
    nodes = len(parents)
    split, is_part = _splits(number, parents, heights)
    large_parts = np.zeros(nodes + 1, dtype=np.int32)
    for v in range(nodes):
        if is_part[v] and sizes[v] >= min_cluster_size:
            large_parts[split[v]] += 1

    cluster = np.full(nodes + 1, _ROOT, dtype=np.int32)
    has_left = np.zeros(nodes + 1, dtype=np.bool_)
    above = np.zeros(nodes + 1, dtype=np.int32)
    birth = np.zeros(nodes + 1)
    stability = np.zeros(nodes + 1)
    clusters = _ROOT + 1
    for v in range(nodes - 1, -1, -1):
        if not is_part[v]:
            continue
        event = split[v]
        old = cluster[event]
        cluster[v] = old
        has_left[v] = has_left[event]
        if has_left[event]:
            continue
        is_large = sizes[v] >= min_cluster_size
        if is_large and large_parts[event] == 1:
            continue
        # Duplicates are at distance 0; replacing it by a value far below any other distance keeps sums finite.
        density = 1.0 if event == nodes else 1.0 / max(np.float64(heights[event]), 2.0**-60)
        stability[old] += sizes[v] * (density - birth[old])
        if is_large:
            cluster[v] = clusters
            above[clusters] = old
            birth[clusters] = density
            clusters += 1
        else:
            has_left[v] = True
    return cluster[:number], above[:clusters], stability[:clusters]


@compiled()
def _most_stable(above: NDArray[np.int32], stability: NDArray[np.float64]) -> NDArray[np.int32]:
    """The selection of step 3: for each cluster of the tree, the selected cluster that contains it, or −1."""
    clusters = len(above)
    best_within = np.zeros(clusters)
    is_better = np.zeros(clusters, dtype=np.bool_)
    for k in range(clusters - 1, _ROOT, -1):
        is_better[k] = stability[k] >= best_within[k]
        best_within[above[k]] += max(stability[k], best_within[k])
    selected = np.full(clusters, _NOISE, dtype=np.int32)
    for k in range(_ROOT + 1, clusters):
        if selected[above[k]] != _NOISE:
            selected[k] = selected[above[k]]
        elif is_better[k]:
            selected[k] = k
    return selected
