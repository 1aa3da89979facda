"""Confidence in a clustering, measured without identities, and what to do with samples that do not fit.

There are two measures per sample. The local one uses the graph: is the sample nearer to its own cluster than to the
next one? The global one uses the features: is the sample most similar to the prototype of its own cluster, computed
without the sample? Their geometric mean is high only if both are high.

All functions work on the sparse similarity, in which an absent pair is at distance 1. None uses identities.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pclhd.clustering.candidates import unit_length
from pclhd.clustering.compile import compiled
from pclhd.clustering.neighbours import as_features
from pclhd.clustering.pseudo_labels import NOISE, compact_labels

_TASKS = 16  # pieces of work for the threads; each has an array with one value per cluster
_VALUES_PER_BLOCK = 2**25  # 128 MiB of float32
_NO_LENGTH = 1e-9  # sums of unit vectors that are shorter have no direction


def silhouettes(similarity: csr_matrix, labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Silhouette of each sample on the sparse graph (ours; definition by Rousseeuw).

    With a = mean distance to the other members of its cluster and b = smallest mean distance to another cluster,
    s = (b − a) / max(a, b). Noise belongs to no cluster: it is excluded from both a and b.

    A pair that is not stored is at distance 1. In a matrix computed with `max_distance`, pairs beyond it also count as
    distance 1, so these silhouettes differ from those of the complete matrix.

    Args:
        similarity: (N, N) symmetric, as `jaccard_similarity` returns it.
        labels: (N,) clusters from 0, −1 for noise.

    Returns:
        (N,) from −1 to 1; 0 for noise, for clusters of one sample, and where a = b = 0. With a single cluster, b is 1,
        as if there were another cluster that shares no pair with it.

    Raises:
        ValueError: A matrix that is not square, or labels that do not fit.
    """
    clustered, a, b = _mean_distances(similarity, labels)
    larger = np.maximum(a, b)
    result = np.zeros(len(labels), dtype=np.float64)
    result[clustered] = np.divide(b - a, larger, out=np.zeros_like(a), where=larger > 0)
    return result


def separations(similarity: csr_matrix, labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """b − a of each sample: how much nearer it is to its own cluster than to the next one (ours).

    `silhouettes` divides this by the larger of the two, mostly b, so it penalises clusters that lie close together
    less. Parameters, results and errors are those of `silhouettes`.
    """
    clustered, a, b = _mean_distances(similarity, labels)
    result = np.zeros(len(labels), dtype=np.float64)
    result[clustered] = b - a
    return result


def cluster_stability(labels: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.float64]:
    """How much of each cluster is found again by a second clustering of the same samples (ours).

    Args:
        labels: (N,) clusters from 0, −1 for noise.
        other: (N,) a second clustering, for example at a different eps. Its noise is not a cluster.

    Returns:
        (C,): for each cluster of `labels` the largest intersection over union with a cluster of `other`; 1 if it is
        found unchanged, 0 if all its samples are noise there.

    Raises:
        ValueError: Labels that are not (N,) integers from −1, or two lengths.
    """
    ours, theirs = _checked_labels(labels), _checked_labels(other)
    if len(ours) != len(theirs):
        raise ValueError(f"both clusterings must label the same samples, got {len(ours)} and {len(theirs)} labels")
    our_sizes, their_sizes = _sizes(ours), _sizes(theirs)
    best = np.zeros(len(our_sizes), dtype=np.float64)
    both = (ours != NOISE) & (theirs != NOISE)
    if both.any():
        pairs, shared = np.unique(ours[both] * len(their_sizes) + theirs[both], return_counts=True)
        our, their = np.divmod(pairs, len(their_sizes))
        np.maximum.at(best, our, shared / (our_sizes[our] + their_sizes[their] - shared))
    return best


def stability(labels: NDArray[np.integer], other: NDArray[np.integer]) -> float:
    """Mean of `cluster_stability`, each cluster weighted by its size; 0 if there are no clusters (ours)."""
    sizes = _sizes(_checked_labels(labels))
    stable = cluster_stability(labels, other)
    return float(stable @ sizes / sizes.sum()) if len(sizes) else 0.0


def local_confidence(similarity: csr_matrix, labels: NDArray[np.integer], k: int = 10) -> NDArray[np.float64]:
    """Share of a sample's similarity to its nearest neighbours that belongs to its own cluster (ours).

    It finds samples at the border of a split cluster. It cannot detect clusters that were merged by mistake: DBSCAN
    links nearest neighbours, so they are in the sample's cluster, rightly or wrongly. To find wrong members,
    `silhouettes` is far better.

    Args:
        similarity: (N, N) symmetric, as `jaccard_similarity` returns it.
        labels: (N,) clusters from 0, −1 for noise.
        k: How many of the nearest stored samples count, the sample itself excluded. Samples as near as the k-th count
            too, so that the result does not depend on the order of samples. Neighbours that are noise lower the share.

    Returns:
        (N,) from 0 to 1; 0 for noise and for samples with no similarity to any other.

    Raises:
        ValueError: k below 1, a matrix that is not square, or labels that do not fit.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    clusters = _checked_labels(labels)
    _check_similarity(similarity, len(clusters))
    if len(clusters) == 0:
        return np.empty(0, dtype=np.float64)
    shares: NDArray[np.float64] = _share_of_nearest(similarity.indptr, similarity.indices, similarity.data, clusters, k)
    return shares


def global_confidence(
    features: NDArray[np.floating] | torch.Tensor,
    labels: NDArray[np.integer],
    temperature: float = 0.05,
    *,
    block: int | None = None,
    device: torch.device | str = "cpu",
) -> NDArray[np.float64]:
    """How clearly a sample is more similar to its own prototype than to the others (ours).

    Softmax of cosine / temperature over all prototypes, evaluated at the sample's own. A prototype is the mean of its
    cluster's unit-length features. The sample is left out of its own cluster's prototype, so that it does not confirm
    itself.

    Memory: one block of samples × clusters at a time, and the sums of the clusters (C × D float64).

    Args:
        features: (N, D), any length; rows of zeros have cosine 0 to all prototypes.
        labels: (N,) clusters from 0, −1 for noise.
        temperature: Of the softmax. With many clusters it must be low; otherwise the many dissimilar prototypes
            outweigh the similar one.
        block: Samples at a time; by default as many as fit into 128 MiB.
        device: Where the cosines are computed.

    Returns:
        (N,) from 0 to 1; 0 for noise and for clusters of one sample, which have no other member. With a single cluster
        of several samples, all of them have 1: there is no other prototype.

    Raises:
        ValueError: temperature not above 0, block below 1, features that are not finite, or labels that do not fit.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    clusters = _checked_labels(labels)
    samples = _checked_features(features, len(clusters))
    sizes = _sizes(clusters)
    result = np.zeros(len(clusters), dtype=np.float64)
    rows = _rows_of_a_block(block, max(len(sizes), samples.shape[1]))
    clustered = np.flatnonzero(clusters != NOISE)
    clustered = clustered[sizes[clusters[clustered]] > 1]
    if len(clustered) == 0:
        return result
    sums = _cluster_sums(samples, clusters, len(sizes))
    prototypes = torch.from_numpy(unit_length(sums, _NO_LENGTH).astype(np.float32)).to(device)
    for start in range(0, len(clustered), rows):
        rows_of_block = clustered[start : start + rows]
        unit = unit_length(samples[rows_of_block])
        own = (unit * unit_length(sums[clusters[rows_of_block]] - unit, _NO_LENGTH)).sum(axis=1)
        own_cluster = torch.from_numpy(clusters[rows_of_block]).to(device)[:, None]
        cosines = torch.from_numpy(unit.astype(np.float32)).to(device) @ prototypes.T
        cosines.scatter_(1, own_cluster, torch.from_numpy(own.astype(np.float32)).to(device)[:, None])
        chances = torch.softmax(cosines.div_(temperature), dim=1).gather(1, own_cluster)
        result[rows_of_block] = chances[:, 0].cpu().numpy()
    return result


def confidence(locally: NDArray[np.floating], globally: NDArray[np.floating]) -> NDArray[np.float64]:
    """Geometric mean of local and global confidence: √(local · global), so 0 if either is 0 (ours).

    Args:
        locally: (N,) from 0 to 1, from the graph: `silhouettes` with negative values raised to 0, which finds wrong
            members best, or `local_confidence`.
        globally: (N,) from 0 to 1, see `global_confidence`.

    Returns:
        (N,) from 0 to 1.

    Raises:
        ValueError: Different shapes, or values outside 0 to 1.
    """
    if locally.shape != globally.shape:
        raise ValueError(f"both confidences must have one shape, got {locally.shape} and {globally.shape}")
    for name, values in (("local", locally), ("global", globally)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{name} confidence must be within 0 and 1, got {values.min()} to {values.max()}")
    mean: NDArray[np.float64] = np.sqrt(locally.astype(np.float64) * globally.astype(np.float64))
    return mean


def label_confidence(
    similarity: csr_matrix,
    features: NDArray[np.floating] | torch.Tensor,
    labels: NDArray[np.integer],
    *,
    device: torch.device | str = "cpu",
) -> NDArray[np.float64]:
    """Confidence in each label, from its silhouette (0 where negative) and from the prototypes (ours).

    On synthetic data (`benchmarks/without_labels.py`) this separates wrong cluster members from right ones about as
    well as the better of its two parts. `local_confidence` cannot: DBSCAN links nearest neighbours, so they agree,
    right or wrong.

    Args:
        similarity: (N, N) symmetric, as `jaccard_similarity` returns it.
        features: (N, D), from which the similarity was computed.
        labels: (N,) clusters from 0, −1 for noise.
        device: Where the matrix products with the prototypes run.

    Returns:
        (N,) from 0 to 1; 0 for noise and for clusters of one sample.
    """
    separated = np.maximum(silhouettes(similarity, labels), 0.0)
    return confidence(separated, global_confidence(features, labels, device=device))


def rescue_outliers(
    similarity: csr_matrix,
    features: NDArray[np.floating] | torch.Tensor,
    labels: NDArray[np.integer],
    threshold: float = 0.5,
    *,
    device: torch.device | str = "cpu",
) -> NDArray[np.int64]:
    """Assign noise samples to the cluster that the graph and the prototypes agree on (ours).

    A noise sample joins the cluster that has the greatest share of its similarity to all other samples (noise
    included), if that share is at least `threshold` and the same cluster's prototype is the nearest by cosine. If two
    clusters have equal shares, it joins neither. Only the given labels are used, so the order of samples does not
    matter, and a rescued sample does not help to rescue another.

    Args:
        similarity: (N, N) symmetric, as `jaccard_similarity` returns it.
        features: (N, D), any length.
        labels: (N,) clusters from 0, −1 for noise.
        threshold: Smallest share, above 0 and at most 1.
        device: Where the cosines are computed.

    Returns:
        (N,) labels; those of clustered samples do not change.

    Raises:
        ValueError: threshold out of range, features that are not finite, or parts that do not fit together.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    clusters = _checked_labels(labels)
    _check_similarity(similarity, len(clusters))
    samples = _checked_features(features, len(clusters))
    rescued = clusters.copy()
    number = len(_sizes(clusters))
    if number == 0:
        return rescued
    strongest, share = _strongest_cluster(similarity.indptr, similarity.indices, similarity.data, clusters, number)
    candidates = np.flatnonzero((clusters == NOISE) & (strongest != NOISE) & (share >= threshold))
    if len(candidates) == 0:
        return rescued
    prototypes = torch.from_numpy(
        unit_length(_cluster_sums(samples, clusters, number), _NO_LENGTH).astype(np.float32)
    ).to(device)
    rows = _rows_of_a_block(None, max(number, samples.shape[1]))
    for start in range(0, len(candidates), rows):
        rows_of_block = candidates[start : start + rows]
        unit = torch.from_numpy(unit_length(samples[rows_of_block]).astype(np.float32)).to(device)
        nearest = (unit @ prototypes.T).argmax(dim=1).cpu().numpy()
        agreed = nearest == strongest[rows_of_block]
        rescued[rows_of_block[agreed]] = nearest[agreed]
    return rescued


def drop_outliers(
    labels: NDArray[np.integer],
    confidence: NDArray[np.floating],
    threshold: float,
    min_cluster_size: int = 4,
) -> NDArray[np.int64]:
    """Turn members of low confidence into noise, and also clusters that become too small (ours).

    Args:
        labels: (N,) clusters from 0, −1 for noise.
        confidence: (N,) of each sample in its cluster.
        threshold: Smallest confidence that is kept.
        min_cluster_size: Clusters left with fewer samples become noise too.

    Returns:
        (N,) labels, renumbered without gaps in the old order.

    Raises:
        ValueError: Different lengths, a confidence that is NaN, or min_cluster_size below 1.
    """
    clusters = _checked_labels(labels)
    if confidence.shape != clusters.shape:
        raise ValueError(f"confidence must have shape {clusters.shape}, got {confidence.shape}")
    if np.isnan(confidence).any():
        raise ValueError(f"confidence must be a number, but sample {int(np.isnan(confidence).argmax())} has NaN")
    if min_cluster_size < 1:
        raise ValueError(f"min_cluster_size must be at least 1, got {min_cluster_size}")
    labels_left = np.where(confidence >= threshold, clusters, NOISE)
    sizes = _sizes(labels_left)
    clustered = np.flatnonzero(labels_left != NOISE)
    labels_left[clustered[sizes[labels_left[clustered]] < min_cluster_size]] = NOISE
    return compact_labels(labels_left)


def _mean_distances(
    similarity: csr_matrix, labels: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The samples in clusters of two or more, and their mean distances a and b (see `silhouettes`)."""
    clusters = _checked_labels(labels)
    _check_similarity(similarity, len(clusters))
    sizes = _sizes(clusters)
    clustered = np.flatnonzero(clusters != NOISE)
    clustered = clustered[sizes[clusters[clustered]] > 1]
    if len(clustered) == 0:
        return clustered, np.empty(0, dtype=np.float64), np.empty(0, dtype=np.float64)
    # The mean of 1 − similarity is one minus the mean similarity, and absent pairs add nothing to the latter.
    inside, elsewhere = _inside_and_best_mean_elsewhere(
        similarity.indptr, similarity.indices, similarity.data, clusters, 1.0 / np.maximum(sizes, 1)
    )
    return clustered, 1.0 - inside[clustered] / (sizes[clusters[clustered]] - 1), 1.0 - elsewhere[clustered]


def _checked_labels(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be (N,) integers, got {labels.dtype} of shape {labels.shape}")
    if labels.min(initial=NOISE) < NOISE:
        raise ValueError(f"labels must be −1 or count from 0, got {labels.min()}")
    return np.ascontiguousarray(labels, dtype=np.int64)


def _check_similarity(similarity: csr_matrix, number: int) -> None:
    if similarity.shape != (number, number):
        raise ValueError(f"similarity must be ({number}, {number}) for {number} labels, got {similarity.shape}")


def _checked_features(features: NDArray[np.floating] | torch.Tensor, number: int) -> NDArray[np.float32]:
    samples = as_features(features)
    if len(samples) != number:
        raise ValueError(f"features and labels must be of the same samples, got {len(samples)} and {number}")
    return samples


def _sizes(clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Samples per cluster, noise left out."""
    return np.bincount(clusters[clusters != NOISE]).astype(np.int64)


def _rows_of_a_block(block: int | None, width: int) -> int:
    if block is not None and block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    return block or max(1, _VALUES_PER_BLOCK // max(width, 1))


def _cluster_sums(samples: NDArray[np.float32], clusters: NDArray[np.int64], number: int) -> NDArray[np.float64]:
    """Sum of the unit-length features of each cluster: (C, D)."""
    sums = np.zeros((number, samples.shape[1]), dtype=np.float64)
    order = np.argsort(clusters, kind="stable")
    order = order[np.searchsorted(clusters[order], 0) :]
    rows = _rows_of_a_block(None, samples.shape[1])
    for start in range(0, len(order), rows):
        rows_of_block = order[start : start + rows]
        own_cluster = clusters[rows_of_block]
        begins = np.flatnonzero(np.diff(own_cluster, prepend=NOISE))
        sums[own_cluster[begins]] += np.add.reduceat(unit_length(samples[rows_of_block]), begins, axis=0)
    return sums


@compiled(parallel=True)
def _inside_and_best_mean_elsewhere(
    indptr: NDArray[np.integer],
    indices: NDArray[np.integer],
    data: NDArray[np.floating],
    clusters: NDArray[np.int64],
    share_of_a_member: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each sample: the summed similarity to its own cluster, and the largest mean similarity to another one."""
    number = len(clusters)
    inside = np.zeros(number, dtype=np.float64)
    elsewhere = np.zeros(number, dtype=np.float64)
    tasks = min(_TASKS, number)
    for task in prange(tasks):
        sums = np.zeros(len(share_of_a_member), dtype=np.float64)
        for i in range(task * number // tasks, (task + 1) * number // tasks):
            if clusters[i] >= 0:
                for at in range(indptr[i], indptr[i + 1]):
                    j = indices[at]
                    if j != i and clusters[j] >= 0:
                        sums[clusters[j]] += data[at]
                inside[i] = sums[clusters[i]]
                sums[clusters[i]] = 0.0
                best = 0.0
                for at in range(indptr[i], indptr[i + 1]):
                    cluster = clusters[indices[at]]
                    if cluster >= 0:
                        best = max(best, sums[cluster] * share_of_a_member[cluster])
                        sums[cluster] = 0.0
                elsewhere[i] = best
    return inside, elsewhere


@compiled(parallel=True)
def _share_of_nearest(
    indptr: NDArray[np.integer],
    indices: NDArray[np.integer],
    data: NDArray[np.floating],
    clusters: NDArray[np.int64],
    k: int,
) -> NDArray[np.float64]:
    """For each clustered sample: the share of its similarity to its k nearest samples that belongs to its cluster."""
    number = len(clusters)
    shares = np.zeros(number, dtype=np.float64)
    for i in prange(number):
        if clusters[i] >= 0:
            # The k largest similarities, ascending; the first of them is the limit for samples to count.
            largest = np.zeros(max(1, min(k, indptr[i + 1] - indptr[i])), dtype=np.float64)
            for at in range(indptr[i], indptr[i + 1]):
                value = data[at]
                if indices[at] != i and value > largest[0]:
                    place = 0
                    while place + 1 < len(largest) and largest[place + 1] < value:
                        largest[place] = largest[place + 1]
                        place += 1
                    largest[place] = value
            inside = 0.0
            total = 0.0
            for at in range(indptr[i], indptr[i + 1]):
                j = indices[at]
                if j != i and data[at] >= largest[0]:
                    total += data[at]
                    if clusters[j] == clusters[i]:
                        inside += data[at]
            if total > 0.0:
                shares[i] = inside / total
    return shares


@compiled(parallel=True)
def _strongest_cluster(
    indptr: NDArray[np.integer],
    indices: NDArray[np.integer],
    data: NDArray[np.floating],
    clusters: NDArray[np.int64],
    number_of_clusters: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each noise sample: the cluster with the largest share of its similarity (−1: none or tied), and the share."""
    number = len(clusters)
    strongest = np.full(number, -1, dtype=np.int64)
    share = np.zeros(number, dtype=np.float64)
    tasks = min(_TASKS, number)
    for task in prange(tasks):
        sums = np.zeros(number_of_clusters, dtype=np.float64)
        for i in range(task * number // tasks, (task + 1) * number // tasks):
            if clusters[i] < 0:
                total = 0.0
                for at in range(indptr[i], indptr[i + 1]):
                    j = indices[at]
                    if j != i:
                        total += data[at]
                        if clusters[j] >= 0:
                            sums[clusters[j]] += data[at]
                best = 0.0
                for at in range(indptr[i], indptr[i + 1]):
                    cluster = clusters[indices[at]]
                    if cluster >= 0 and sums[cluster] > 0.0:
                        if sums[cluster] > best:
                            best = sums[cluster]
                            strongest[i] = cluster
                        elif sums[cluster] == best:
                            strongest[i] = -1
                        sums[cluster] = 0.0
                if best > 0.0:
                    share[i] = best / total
    return strongest, share
