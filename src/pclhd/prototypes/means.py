"""The initial prototypes of an epoch: centroids, hard prototypes, and the draws of dynamic ones.

Letters: N samples, C clusters, D feature width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pclhd.prototypes.grouping import (
    check_labels,
    check_range,
    check_width,
    members,
    rank_by_value,
    refuse_empty,
    sums_by_label,
)
from pclhd.prototypes.rows import SMALLEST_LENGTH, normalise


def cluster_means(features: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    """Mean feature of each cluster, not normalised (released code).

    Args:
        features: (N, D).
        labels: (N,) int64, −1 (noise) is ignored.
        num_clusters: C.

    Returns:
        (C, D); row c is the mean of cluster c.

    Raises:
        ValueError: A cluster is empty, a label is outside −1…C−1, or shapes disagree.
    """
    features, labels = members(features, labels, num_clusters)
    sums, counts = sums_by_label(features, labels, num_clusters)
    refuse_empty(counts)
    return sums / counts[:, None]


def balanced_cluster_means(features: Tensor, labels: Tensor, modality: Tensor, num_clusters: int) -> Tensor:
    """Mean of the visible mean and the infrared mean of each cluster, regardless of their sizes (released code).

    For a cluster of one modality, it is that modality's mean. Not normalised.

    Args:
        features: (N, D).
        labels: (N,) int64, −1 (noise) is ignored.
        modality: (N,) int64, 0 visible, 1 infrared.
        num_clusters: C.

    Returns:
        (C, D).

    Raises:
        ValueError: A cluster is empty, a label or modality is out of range, or shapes disagree.
    """
    if modality.shape != labels.shape:
        raise ValueError(f"modality has shape {tuple(modality.shape)}, labels have {tuple(labels.shape)}")
    check_range(modality, 0, 2, "modality")
    member = labels >= 0
    features, labels = members(features, labels, num_clusters)
    sums, counts = sums_by_label(features, 2 * labels + modality[member], 2 * num_clusters)
    refuse_empty(counts.view(num_clusters, 2).sum(1))
    means = (sums / counts.clamp(min=1)[:, None]).view(num_clusters, 2, features.shape[1])
    present = (counts > 0).view(num_clusters, 2).sum(1, keepdim=True)
    # The mean of an absent modality is a row of zeros: it adds nothing to the sum.
    return means.sum(1) / present


def hard_prototypes(features: Tensor, labels: Tensor, centroids: Tensor, k: int) -> Tensor:
    """Normalised mean of the k members of each cluster that are least similar to its centroid.

    With k = 1, this is the member furthest from the centre (paper); the mean of several is (ours).

    Args:
        features: (N, D), of any length: similarity is the cosine.
        labels: (N,) int64, −1 (noise) is ignored.
        centroids: (C, D), unit length.
        k: Members per prototype; smaller clusters use all their members.

    Returns:
        (C, D), unit length.

    Raises:
        ValueError: k < 1, a cluster is empty, a label is outside −1…C−1, or shapes disagree.
    """
    if k < 1:
        raise ValueError(f"k is {k}; a hard prototype needs at least one member")
    num_clusters = centroids.shape[0]
    features, labels = members(features, labels, num_clusters)
    check_width(features, centroids)
    refuse_empty(torch.bincount(labels, minlength=num_clusters))
    cosine = (features * centroids[labels]).sum(1) / features.norm(dim=1).clamp(min=SMALLEST_LENGTH)
    hardest = rank_by_value(cosine, labels, num_clusters) < k
    sums, counts = sums_by_label(normalise(features[hardest]), labels[hardest], num_clusters)
    return normalise(sums / counts[:, None])


def draw_members(labels: Tensor, num_clusters: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw members of every cluster, uniformly and with replacement (released code).

    Args:
        labels: (N,) int64, −1 is noise and never drawn.
        num_clusters: C.
        count: Draws per cluster.
        generator: Source of randomness; it may live on another device than `labels`.

    Returns:
        (C, count) int64 row numbers into `labels`.

    Raises:
        ValueError: A cluster is empty, a label is outside −1…C−1, or count is negative.
    """
    if count < 0:
        raise ValueError(f"count is {count}; it must not be negative")
    check_labels(labels, num_clusters, lowest=-1)
    sizes = torch.bincount(labels[labels >= 0], minlength=num_clusters)
    refuse_empty(sizes)
    by_cluster = labels.argsort(stable=True)
    starts = (labels < 0).sum() + sizes.cumsum(0) - sizes
    # float64: its product with a size cannot round up to the size itself.
    uniform = torch.rand(num_clusters, count, generator=generator, dtype=torch.float64, device=generator.device)
    positions = (uniform.to(labels.device) * sizes[:, None]).long()
    return by_cluster[starts[:, None] + positions]
