"""The memory of several prototypes per cluster, one for each of its parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pclhd.prototypes.grouping import (
    check_batch,
    check_labels,
    check_rows,
    rank_within_cluster,
    refuse_empty,
    sums_by_label,
)
from pclhd.prototypes.rows import normalise, similarities


class MultiMemory(nn.Module):
    """Up to M prototypes per cluster, one for each of its parts (ours, after an idea of MMM).

    Args:
        rows: (P, D) one row per part, scaled to unit length here.
        owners: (P,) int64, the cluster of each part; each of 0…C−1 has at least one.
        momentum: Share of the *old* prototype in an update, 0…1.

    Attributes:
        prototypes: (C, M, D) buffer; M is the largest number of parts of a cluster. Zeros where a cluster has fewer.
        present: (C, M) bool buffer, true where there is a prototype.

    Raises:
        ValueError: Shapes disagree, a cluster has no part, or momentum is outside 0…1.
    """

    prototypes: Tensor
    present: Tensor

    def __init__(self, rows: Tensor, owners: Tensor, *, momentum: float = 0.1) -> None:
        super().__init__()
        check_rows(rows, owners)
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"momentum is {momentum}, expected a share from 0 to 1")
        num_clusters = int(owners.max()) + 1 if len(owners) else 0
        check_labels(owners, num_clusters)
        counts = torch.bincount(owners, minlength=num_clusters)
        refuse_empty(counts)
        rows = normalise(rows.detach())
        most = int(counts.max()) if num_clusters else 0
        prototypes = rows.new_zeros(num_clusters, most, rows.shape[1])
        prototypes[owners, rank_within_cluster(owners, num_clusters)] = rows
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
        """Similarity of each query and the nearest prototype of each cluster.

        Args:
            queries: (B, D), unit length.

        Returns:
            (B, C).
        """
        return self.similarities(queries).amax(2)

    @torch.no_grad()
    def update(self, queries: Tensor, labels: Tensor) -> None:
        """Move each prototype towards the mean of the queries of its cluster to which it is the nearest one.

        Args:
            queries: (B, D), unit length.
            labels: (B,) int64, 0…C−1. Prototypes that are nearest to no query do not change.

        Raises:
            ValueError: A class is missing from the memory, or shapes disagree.
        """
        check_batch(queries, labels, self.prototypes)
        queries = queries.detach().to(self.prototypes.dtype)
        own = self.similarities(queries)[torch.arange(len(labels), device=labels.device), labels]
        flat = self.prototypes.view(-1, queries.shape[1])
        nearest = labels * self.present.shape[1] + own.argmax(1)
        sums, counts = sums_by_label(queries, nearest, len(flat))
        met = counts.nonzero().squeeze(1)
        means = sums[met] / counts[met, None]
        flat[met] = normalise(self.momentum * flat[met] + (1.0 - self.momentum) * means)
