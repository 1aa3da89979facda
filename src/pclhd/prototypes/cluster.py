"""The memory of one centroid and one hard prototype per cluster."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pclhd.prototypes.grouping import check_batch, rank_by_value, rank_within_cluster, sums_by_label
from pclhd.prototypes.rows import normalise, similarities

CentroidUpdate = Literal["batch_mean", "sample_by_sample"]


class ClusterMemory(nn.Module):
    """One centroid and one hard prototype per cluster.

    Args:
        centroids: (C, D), scaled to unit length here.
        hard: (C, D), scaled likewise; None copies the centroids, as in the released code.
        momentum: Share of the *old* prototype in an update, 0…1 (released code: 0.1).
        centroid_update: "batch_mean" mixes in the mean of a class's queries (released hybrid memory),
            "sample_by_sample" mixes in the queries one by one, in batch order (released plain memory).
        hard_samples: How many queries of a class, those furthest from its centroid, are averaged to update its hard
            prototype (released code: 1; more is ours). A class with fewer in the batch uses all.

    Attributes:
        centroids: (C, D) buffer.
        hard: (C, D) buffer.

    Raises:
        ValueError: Shapes disagree, momentum is outside 0…1, the update is unknown, or hard_samples is below 1.
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
        hard_samples: int = 1,
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
        if hard_samples < 1:
            raise ValueError(f"hard_samples is {hard_samples}; an update needs at least one query")
        self.momentum = momentum
        self.hard_samples = hard_samples
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

        Call it after `backward`: autograd raises an error for a memory that changed since the forward pass.

        Args:
            queries: (B, D), unit length.
            labels: (B,) int64, 0…C−1. Classes that are not in the batch do not change.

        Raises:
            ValueError: The memory does not have a class, or shapes disagree.
        """
        check_batch(queries, labels, self.centroids)
        queries = queries.detach().to(self.centroids.dtype)
        # Both updates are computed before either is written: the hardest query is the one furthest from the *old*
        # centroid.
        own = (queries * self.centroids[labels]).sum(1)
        hardest = rank_by_value(own, labels, self.num_clusters) < self.hard_samples
        if self.centroid_update == "batch_mean":
            sums, counts = sums_by_label(queries, labels, self.num_clusters)
            present = counts.nonzero().squeeze(1)
            self._mix(self.centroids, present, sums[present] / counts[present, None])
        else:
            # Classes are independent, so the j-th queries of all classes can be mixed in at once without changing the
            # result.
            turns = rank_within_cluster(labels, self.num_clusters)
            for turn in range(int(turns.max()) + 1 if len(turns) else 0):
                now = turns == turn
                self._mix(self.centroids, labels[now], queries[now])
        if self.hard_samples == 1:
            self._mix(self.hard, labels[hardest], queries[hardest])
        else:
            sums, counts = sums_by_label(queries[hardest], labels[hardest], self.num_clusters)
            present = counts.nonzero().squeeze(1)
            self._mix(self.hard, present, sums[present] / counts[present, None])

    def _mix(self, prototypes: Tensor, classes: Tensor, rows: Tensor) -> None:
        """Mix one new row into each of the (distinct) classes, in place."""
        prototypes[classes] = normalise(self.momentum * prototypes[classes] + (1.0 - self.momentum) * rows)
