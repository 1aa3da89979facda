"""The memory of instances drawn at random from each cluster."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pclhd.prototypes.grouping import check_batch, check_labels, check_rows, check_width
from pclhd.prototypes.means import draw_members
from pclhd.prototypes.rows import normalise, similarities


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
        """Replace all K instances of some classes.

        Args:
            classes: (P,) int64, distinct, 0…C−1.
            rows: (P, K, D), scaled to unit length here.

        Raises:
            ValueError: A class is not in the memory, or shapes disagree.
        """
        expected = (len(classes), *self.instances.shape[1:])
        if tuple(rows.shape) != expected:
            raise ValueError(f"rows have shape {tuple(rows.shape)}, expected {expected}")
        check_labels(classes, self.num_clusters)
        self.instances[classes] = normalise(rows.detach()).to(self.instances.dtype)

    @torch.no_grad()
    def redraw(self, features: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        """Draw all instances again from the members of their clusters.

        Args:
            features: (N, D), of any length.
            labels: (N,) int64, −1 is noise and never drawn.
            generator: Source of randomness.

        Raises:
            ValueError: A cluster is empty, a class is not in the memory, or shapes disagree.
        """
        check_rows(features, labels)
        check_width(features, self.instances)
        drawn = draw_members(labels, self.num_clusters, self.num_instances, generator)
        self.replace(torch.arange(self.num_clusters, device=labels.device), features[drawn])

    @torch.no_grad()
    def refresh(self, queries: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        """Draw the instances of the classes in a batch again, from the batch (what the released code means to do).

        Args:
            queries: (B, D), of any length.
            labels: (B,) int64, 0…C−1. Classes that are not in the batch do not change.
            generator: Source of randomness.

        Raises:
            ValueError: A class is not in the memory, or shapes disagree.
        """
        check_batch(queries, labels, self.instances)
        classes, numbered = torch.unique(labels, return_inverse=True)
        drawn = draw_members(numbered, len(classes), self.num_instances, generator)
        self.replace(classes, queries.detach()[drawn])
