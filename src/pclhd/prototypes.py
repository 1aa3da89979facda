"""Prototypes of clusters and the memories that hold them.

A prototype is a unit-length row that stands for a cluster: its centre (centroid), the centres of its parts (multi), the
members furthest from its centre (hard), or members drawn at random (dynamic). A memory keeps the rows in buffers.
Reading never writes; only `update` and `redraw` do, and the training step calls them, visibly, once the gradients are
known.

Letters: N samples, B queries of a batch, C clusters, K instances per cluster, M parts per cluster, D feature width.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CentroidUpdate = Literal["batch_mean", "sample_by_sample"]

_SMALLEST_LENGTH = 1e-12
_LONGEST_LIST_IN_AN_ERROR = 5


def normalise(features: Tensor) -> Tensor:
    """Scale rows to unit length, in float32 at least.

    Args:
        features: (…, D), any floating type.

    Returns:
        (…, D), float32 (float64 stays). A row of zeros stays zero.
    """
    return F.normalize(at_least_float32(features), dim=-1, eps=_SMALLEST_LENGTH)


def at_least_float32(values: Tensor) -> Tensor:
    """Half-precision values as float32; everything else unchanged."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def similarities(queries: Tensor, rows: Tensor) -> Tensor:
    """Dot products of queries and rows, never in half precision.

    Losses divide similarities by a temperature near 0.05, which would blow the rounding of bfloat16 up to the size of
    the differences that matter. So autocast is switched off here.

    Args:
        queries: (B, D).
        rows: (R, D).

    Returns:
        (B, R), in the type of `rows`.
    """
    with torch.autocast(device_type=queries.device.type, enabled=False):
        return queries.to(rows.dtype) @ rows.T


# ----------------------------------------------------------------------------------------- prototypes of an epoch


def cluster_means(features: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    """Mean feature of each cluster, not normalised (released code).

    Args:
        features: (N, D).
        labels: (N,) int64, −1 is noise and ignored.
        num_clusters: C.

    Returns:
        (C, D), row c the mean of cluster c.

    Raises:
        ValueError: A cluster is empty, a label is outside −1…C−1, or shapes disagree.
    """
    features, labels = _members(features, labels, num_clusters)
    sums, counts = _sums(features, labels, num_clusters)
    _refuse_empty(counts)
    return sums / counts[:, None]


def balanced_cluster_means(features: Tensor, labels: Tensor, modality: Tensor, num_clusters: int) -> Tensor:
    """Mean of the visible mean and the infrared mean of each cluster, whatever their sizes (released code).

    A cluster of one modality only has that modality's mean. Not normalised.

    Args:
        features: (N, D).
        labels: (N,) int64, −1 is noise and ignored.
        modality: (N,) int64, 0 visible, 1 infrared.
        num_clusters: C.

    Returns:
        (C, D).

    Raises:
        ValueError: A cluster is empty, a label or modality is out of range, or shapes disagree.
    """
    if modality.shape != labels.shape:
        raise ValueError(f"modality has shape {tuple(modality.shape)}, labels have {tuple(labels.shape)}")
    _check_range(modality, 0, 2, "modality")
    member = labels >= 0
    features, labels = _members(features, labels, num_clusters)
    sums, counts = _sums(features, 2 * labels + modality[member], 2 * num_clusters)
    _refuse_empty(counts.view(num_clusters, 2).sum(1))
    means = (sums / counts.clamp(min=1)[:, None]).view(num_clusters, 2, -1)
    present = (counts > 0).view(num_clusters, 2).sum(1, keepdim=True)
    # The mean of an absent modality is a row of zeros: it adds nothing to the sum.
    return means.sum(1) / present


def hard_prototypes(features: Tensor, labels: Tensor, centroids: Tensor, k: int) -> Tensor:
    """Normalised mean of the k members of each cluster least similar to its centroid.

    With k = 1 that is the one member furthest from the centre (paper); the mean of several is (ours).

    Args:
        features: (N, D), of any length: similarity is the cosine.
        labels: (N,) int64, −1 is noise and ignored.
        centroids: (C, D), unit length.
        k: Members per prototype; a cluster with fewer gives all it has.

    Returns:
        (C, D), unit length.

    Raises:
        ValueError: k < 1, a cluster is empty, a label is outside −1…C−1, or shapes disagree.
    """
    if k < 1:
        raise ValueError(f"k is {k}; at least one member must make a hard prototype")
    num_clusters = centroids.shape[0]
    features, labels = _members(features, labels, num_clusters)
    _check_width(features, centroids)
    _refuse_empty(torch.bincount(labels, minlength=num_clusters))
    cosine = (features * centroids[labels]).sum(1) / features.norm(dim=1).clamp(min=_SMALLEST_LENGTH)
    hardest = _rank_by_value(cosine, labels, num_clusters) < k
    sums, counts = _sums(normalise(features[hardest]), labels[hardest], num_clusters)
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
    _check_labels(labels, num_clusters, lowest=-1)
    sizes = torch.bincount(labels[labels >= 0], minlength=num_clusters)
    _refuse_empty(sizes)
    by_cluster = labels.argsort(stable=True)
    starts = (labels < 0).sum() + sizes.cumsum(0) - sizes
    # float64: its product with a size cannot round up to the size itself.
    uniform = torch.rand(num_clusters, count, generator=generator, dtype=torch.float64, device=generator.device)
    positions = (uniform.to(labels.device) * sizes[:, None]).long()
    return by_cluster[starts[:, None] + positions]


# ------------------------------------------------------------------------------------------------------- memories


class ClusterMemory(nn.Module):
    """One centroid and one hard prototype per cluster.

    Args:
        centroids: (C, D), scaled to unit length here.
        hard: (C, D), scaled likewise; None starts it at the centroids, as the released code does.
        momentum: Share of the *old* prototype in an update, 0…1 (released code: 0.1).
        centroid_update: "batch_mean" mixes in the mean of a class's queries (released hybrid memory),
            "sample_by_sample" mixes in one query after the other, in batch order (released plain memory).

    Attributes:
        centroids: (C, D) buffer.
        hard: (C, D) buffer.

    Raises:
        ValueError: Shapes disagree, momentum is outside 0…1, or the update is unknown.
    """

    centroids: Tensor
    hard: Tensor

    def __init__(
        self,
        centroids: Tensor,
        hard: Tensor | None = None,
        *,
        momentum: float = 0.1,
        centroid_update: CentroidUpdate = "batch_mean",
    ) -> None:
        super().__init__()
        if centroids.ndim != 2:
            raise ValueError(f"centroids have shape {tuple(centroids.shape)}, expected (C, D)")
        if hard is not None and hard.shape != centroids.shape:
            raise ValueError(f"hard has shape {tuple(hard.shape)}, centroids have {tuple(centroids.shape)}")
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"momentum is {momentum}, expected a share from 0 to 1")
        if centroid_update not in get_args(CentroidUpdate):
            raise ValueError(f"centroid_update is {centroid_update!r}, expected one of {get_args(CentroidUpdate)}")
        self.momentum = momentum
        self.centroid_update: CentroidUpdate = centroid_update
        self.register_buffer("centroids", normalise(centroids.detach().clone()))
        self.register_buffer("hard", normalise((centroids if hard is None else hard).detach().clone()))

    @property
    def num_clusters(self) -> int:
        """C."""
        return self.centroids.shape[0]

    def centroid_similarities(self, queries: Tensor) -> Tensor:
        """Similarity of each query and each centroid; the memory is a constant for the gradient.

        Args:
            queries: (B, D), unit length.

        Returns:
            (B, C).
        """
        return similarities(queries, self.centroids)

    def hard_similarities(self, queries: Tensor) -> Tensor:
        """Similarity of each query and each hard prototype; the memory is a constant for the gradient.

        Args:
            queries: (B, D), unit length.

        Returns:
            (B, C).
        """
        return similarities(queries, self.hard)

    @torch.no_grad()
    def update(self, queries: Tensor, labels: Tensor) -> None:
        """Move the prototypes of the classes in a batch towards its queries (released code).

        Call it after `backward`: autograd refuses a memory that changed between the forward and the backward pass.

        Args:
            queries: (B, D), unit length.
            labels: (B,) int64, 0…C−1. Classes that are not in the batch stay as they are.

        Raises:
            ValueError: A class is missing from the memory, or shapes disagree.
        """
        _check_batch(queries, labels, self.centroids)
        queries = queries.detach().to(self.centroids.dtype)
        # Both are found before either is written: the hardest query is the one furthest from the *old* centroid.
        own = (queries * self.centroids[labels]).sum(1)
        hardest = _rank_by_value(own, labels, self.num_clusters) == 0
        if self.centroid_update == "batch_mean":
            sums, counts = _sums(queries, labels, self.num_clusters)
            present = counts.nonzero().squeeze(1)
            self._mix(self.centroids, present, sums[present] / counts[present, None])
        else:
            # Classes do not meet, so the j-th queries of all classes can be taken at once without changing the result.
            turns = _rank_within_cluster(labels, self.num_clusters)
            for turn in range(int(turns.max()) + 1 if len(turns) else 0):
                now = turns == turn
                self._mix(self.centroids, labels[now], queries[now])
        self._mix(self.hard, labels[hardest], queries[hardest])

    def _mix(self, prototypes: Tensor, classes: Tensor, rows: Tensor) -> None:
        """Mix one new row into each of the (distinct) classes, in place."""
        prototypes[classes] = normalise(self.momentum * prototypes[classes] + (1.0 - self.momentum) * rows)


class MultiMemory(nn.Module):
    """Up to M prototypes per cluster, one for each of its parts (ours, after MMM's idea).

    Args:
        rows: (P, D) one row per part, scaled to unit length here.
        owners: (P,) int64, the cluster of each part; each of 0…C−1 owns at least one.
        momentum: Share of the *old* prototype in an update, 0…1.

    Attributes:
        prototypes: (C, M, D) buffer; M is what the cluster of most parts has. Where a cluster has fewer, zeros.
        present: (C, M) bool buffer, which of them there are.

    Raises:
        ValueError: Shapes disagree, a cluster owns no part, or momentum is outside 0…1.
    """

    prototypes: Tensor
    present: Tensor

    def __init__(self, rows: Tensor, owners: Tensor, *, momentum: float = 0.1) -> None:
        super().__init__()
        _check_rows(rows, owners)
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"momentum is {momentum}, expected a share from 0 to 1")
        num_clusters = int(owners.max()) + 1 if len(owners) else 0
        _check_labels(owners, num_clusters)
        counts = torch.bincount(owners, minlength=num_clusters)
        _refuse_empty(counts)
        rows = normalise(rows.detach())
        most = int(counts.max()) if num_clusters else 0
        prototypes = rows.new_zeros(num_clusters, most, rows.shape[1])
        prototypes[owners, _rank_within_cluster(owners, num_clusters)] = rows
        self.momentum = momentum
        self.register_buffer("prototypes", prototypes)
        self.register_buffer("present", torch.arange(most, device=owners.device) < counts[:, None])

    @property
    def num_clusters(self) -> int:
        """C."""
        return self.prototypes.shape[0]

    def similarities(self, queries: Tensor) -> Tensor:
        """Similarity of each query and each prototype; the memory is a constant for the gradient.

        Args:
            queries: (B, D), unit length.

        Returns:
            (B, C, M), −∞ where there is no prototype.
        """
        flat = similarities(queries, self.prototypes.flatten(0, 1))
        return flat.view(len(queries), *self.present.shape).masked_fill(~self.present, -torch.inf)

    def nearest_similarities(self, queries: Tensor) -> Tensor:
        """Similarity of each query and the nearest prototype of each cluster, its own as well as others.

        Args:
            queries: (B, D), unit length.

        Returns:
            (B, C).
        """
        return self.similarities(queries).amax(2)

    @torch.no_grad()
    def update(self, queries: Tensor, labels: Tensor) -> None:
        """Move each prototype to which queries of its cluster are nearer than to its others, towards their mean.

        Args:
            queries: (B, D), unit length.
            labels: (B,) int64, 0…C−1. Prototypes that are nearest to none stay as they are.

        Raises:
            ValueError: A class is missing from the memory, or shapes disagree.
        """
        _check_batch(queries, labels, self.prototypes)
        queries = queries.detach().to(self.prototypes.dtype)
        own = self.similarities(queries)[torch.arange(len(labels), device=labels.device), labels]
        flat = self.prototypes.view(-1, queries.shape[1])
        nearest = labels * self.present.shape[1] + own.argmax(1)
        sums, counts = _sums(queries, nearest, len(flat))
        met = counts.nonzero().squeeze(1)
        means = sums[met] / counts[met, None]
        flat[met] = normalise(self.momentum * flat[met] + (1.0 - self.momentum) * means)


class DynamicMemory(nn.Module):
    """K instances per cluster, drawn at random from its members.

    Args:
        instances: (C, K, D), scaled to unit length here.

    Attributes:
        instances: (C, K, D) buffer.

    Raises:
        ValueError: Not three dimensions, or K is 0.
    """

    instances: Tensor

    def __init__(self, instances: Tensor) -> None:
        super().__init__()
        if instances.ndim != 3 or instances.shape[1] == 0:
            raise ValueError(f"instances have shape {tuple(instances.shape)}, expected (C, K, D) with K of at least 1")
        self.register_buffer("instances", normalise(instances.detach().clone()))

    @classmethod
    def draw(
        cls, features: Tensor, labels: Tensor, num_clusters: int, count: int, generator: torch.Generator
    ) -> DynamicMemory:
        """A memory of `count` members of every cluster, drawn with replacement (released code).

        Args:
            features: (N, D), of any length.
            labels: (N,) int64, −1 is noise and never drawn.
            num_clusters: C.
            count: K.
            generator: Source of randomness.

        Raises:
            ValueError: A cluster is empty, a label is outside −1…C−1, or shapes disagree.
        """
        _check_rows(features, labels)
        return cls(features[draw_members(labels, num_clusters, count, generator)])

    @property
    def num_clusters(self) -> int:
        """C."""
        return self.instances.shape[0]

    @property
    def num_instances(self) -> int:
        """K."""
        return self.instances.shape[1]

    def similarities(self, queries: Tensor) -> Tensor:
        """Similarity of each query and each instance; the memory is a constant for the gradient.

        Args:
            queries: (B, D), unit length.

        Returns:
            (B, C, K).
        """
        flat = similarities(queries, self.instances.flatten(0, 1))
        return flat.view(len(queries), self.num_clusters, self.num_instances)

    @torch.no_grad()
    def replace(self, classes: Tensor, rows: Tensor) -> None:
        """Put new instances in place of all K of some classes.

        Args:
            classes: (P,) int64, distinct, 0…C−1.
            rows: (P, K, D), scaled to unit length here.

        Raises:
            ValueError: A class is missing from the memory, or shapes disagree.
        """
        expected = (len(classes), *self.instances.shape[1:])
        if tuple(rows.shape) != expected:
            raise ValueError(f"rows have shape {tuple(rows.shape)}, expected {expected}")
        _check_labels(classes, self.num_clusters)
        self.instances[classes] = normalise(rows.detach()).to(self.instances.dtype)

    @torch.no_grad()
    def update(self, queries: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        """Replace all instances of each class in the batch by queries of that class, drawn with replacement (ours).

        The released code draws without replacement from 16 queries on; and there, in training, it never gets this far.

        Args:
            queries: (B, D), unit length.
            labels: (B,) int64, 0…C−1. Classes that are not in the batch stay as they are.
            generator: Source of randomness.

        Raises:
            ValueError: A class is missing from the memory, or shapes disagree.
        """
        _check_batch(queries, labels, self.instances)
        classes, place = labels.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        self.replace(classes, queries[draw_members(place, len(classes), self.num_instances, generator)])

    @torch.no_grad()
    def redraw(self, features: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        """Draw every instance anew from all members of its cluster.

        Args:
            features: (N, D), of any length.
            labels: (N,) int64, −1 is noise and never drawn.
            generator: Source of randomness.

        Raises:
            ValueError: A cluster is empty, a class is missing from the memory, or shapes disagree.
        """
        _check_rows(features, labels)
        _check_width(features, self.instances)
        drawn = draw_members(labels, self.num_clusters, self.num_instances, generator)
        self.replace(torch.arange(self.num_clusters, device=labels.device), features[drawn])


# ---------------------------------------------------------------------------------------------- grouping by label


def _sums(features: Tensor, labels: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Sum (C, D) and count (C,) of the rows of each label; an absent label has zeros."""
    sums = features.new_zeros(num_clusters, features.shape[1])
    return sums.index_add_(0, labels, features), torch.bincount(labels, minlength=num_clusters)


def _rank_within_cluster(labels: Tensor, num_clusters: int) -> Tensor:
    """How many rows of the same label stand before each row: (N,) int64."""
    sizes = torch.bincount(labels, minlength=num_clusters)
    starts = sizes.cumsum(0) - sizes
    order = labels.argsort(stable=True)
    ranks = torch.empty_like(labels)
    ranks[order] = torch.arange(len(labels), device=labels.device) - starts[labels[order]]
    return ranks


def _rank_by_value(values: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    """Rank of each row's value in its cluster, 0 the smallest; of equals the earlier row comes first."""
    order = values.argsort(stable=True)
    ranks = torch.empty_like(labels)
    ranks[order] = _rank_within_cluster(labels[order], num_clusters)
    return ranks


# --------------------------------------------------------------------------------------------------------- checks


def _members(features: Tensor, labels: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """The rows that belong to a cluster, in float32 at least, and their labels; noise is left out."""
    _check_rows(features, labels)
    _check_labels(labels, num_clusters, lowest=-1)
    member = labels >= 0
    return at_least_float32(features[member]), labels[member]


def _check_rows(features: Tensor, labels: Tensor) -> None:
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"features of shape {tuple(features.shape)} and labels of shape {tuple(labels.shape)}, "
            "expected (N, D) and (N,)"
        )


def _check_width(features: Tensor, prototypes: Tensor) -> None:
    if features.shape[1] != prototypes.shape[-1]:
        raise ValueError(f"features of width {features.shape[1]}, prototypes of width {prototypes.shape[-1]}")


def _check_batch(queries: Tensor, labels: Tensor, prototypes: Tensor) -> None:
    _check_rows(queries, labels)
    _check_width(queries, prototypes)
    _check_labels(labels, len(prototypes))


def _check_labels(labels: Tensor, num_clusters: int, lowest: int = 0) -> None:
    _check_range(labels, lowest, num_clusters, "label")


def _check_range(values: Tensor, lowest: int, end: int, name: str) -> None:
    if values.dtype != torch.int64:
        raise ValueError(f"{name}s are {values.dtype}, expected torch.int64")
    outside = values[(values < lowest) | (values >= end)]
    if len(outside):
        raise ValueError(f"{name} {int(outside[0])} is out of range, expected {lowest} to {end - 1}")


def _refuse_empty(counts: Tensor) -> None:
    empty = (counts == 0).nonzero().flatten().tolist()
    if empty:
        named = ", ".join(str(cluster) for cluster in empty[:_LONGEST_LIST_IN_AN_ERROR])
        more = len(empty) - _LONGEST_LIST_IN_AN_ERROR
        raise ValueError(f"cluster {named}{f' and {more} more' if more > 0 else ''} of {len(counts)} has no member")
