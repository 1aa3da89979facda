"""The memories of an epoch, built from its features and pseudo labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pclhd.clustering.multi_memory import split_clusters
from pclhd.config import MemorySettings
from pclhd.engine.labelling import EpochLabels
from pclhd.pair import Pair
from pclhd.prototypes import (
    ClusterMemory,
    DynamicMemory,
    MultiMemory,
    SplitRows,
    balanced_cluster_means,
    cluster_means,
    draw_members,
    hard_prototypes,
)
from pclhd.recipes import Recipe


@dataclass(frozen=True)
class DynamicSource:
    """Dynamic prototypes with the features they are drawn from.

    Attributes:
        memory: The current prototypes.
        features: (N, D) unit-length features of the momentum network.
        labels: (N,) pseudo labels.
    """

    memory: DynamicMemory
    features: Tensor
    labels: Tensor

    def redraw(self, generator: torch.Generator) -> None:
        """Draw other members of each cluster."""
        self.memory.redraw(self.features, self.labels, generator)


@dataclass(frozen=True)
class ModalityMemories:
    """The prototypes of one modality's clusters, or of the joint clusters.

    Attributes:
        clusters: Centroid and hard prototypes.
        dynamic: Dynamic prototypes, where the stage uses them.
        multi: Several prototypes per cluster, which then replace the centroids; None where the recipe has one.
    """

    clusters: ClusterMemory
    dynamic: DynamicSource | None = None
    multi: MultiMemory | None = None

    def centroid_similarities(self, queries: Tensor) -> Tensor:
        """(B, C) similarities to the centroids, or to the nearest of several prototypes of each cluster.

        Args:
            queries: (B, D), unit length.
        """
        if self.multi is not None:
            return self.multi.nearest_similarities(queries)
        return self.clusters.centroid_similarities(queries)

    def update(self, queries: Tensor, labels: Tensor) -> None:
        """Move the prototypes of the clusters in a batch towards its queries; dynamic prototypes do not change.

        Args:
            queries: (B, D), unit length, without a gradient.
            labels: (B,) int64.
        """
        self.clusters.update(queries, labels)
        if self.multi is not None:
            self.multi.update(queries, labels)


@dataclass(frozen=True)
class JointMemories:
    """The prototypes of the joint clusters.

    Attributes:
        held: The prototypes.
        split: Which of them belong to which joint cluster; None where each cluster has one of its number.
    """

    held: ModalityMemories
    split: SplitRows | None = None


@dataclass(frozen=True)
class Memories:
    """All memories of an epoch.

    Attributes:
        own: The memories of each modality's own clusters.
        joint: Those of the joint clusters; None where no cluster has both modalities.
    """

    own: Pair[ModalityMemories]
    joint: JointMemories | None

    def redraw(self, generator: torch.Generator) -> None:
        """Draw other members of each cluster for the dynamic prototypes, if there are any."""
        for memory in (*self.own, *([] if self.joint is None else [self.joint.held])):
            if memory.dynamic is not None:
                memory.dynamic.redraw(generator)


def build_memories(
    features: Pair[Tensor],
    momentum: Pair[Tensor] | None,
    labels: EpochLabels,
    *,
    recipe: Recipe,
    settings: MemorySettings,
    generator: torch.Generator,
    device: torch.device,
) -> Memories:
    """Build the memories at the start of an epoch.

    Args:
        features: Embeddings, (Nv, D) and (Nr, D).
        momentum: The momentum network's embeddings of both, or None without dynamic prototypes.
        labels: The epoch's pseudo labels.
        recipe: The method; it defines the initial prototypes.
        settings: For the momentum of the memories.
        generator: Draws the dynamic prototypes.
        device: Device of the memories.

    Returns:
        The memories.
    """

    def build(own: Tensor, slow: Tensor | None, pseudo: NDArray[np.int64]) -> ModalityMemories:
        dynamic = None if slow is None else _dynamic(slow, pseudo, recipe, generator, device)
        multi = _multi(own, pseudo, recipe, settings, device) if recipe.sub_prototypes > 1 else None
        return ModalityMemories(_clusters(own, pseudo, recipe, settings, device), dynamic, multi)

    own = Pair(*map(build, features, momentum or (None, None), labels.own))
    slow = momentum if recipe.joint_contrast == "own" and recipe.dynamic_gradient else None
    return Memories(own, _joint(features, slow, labels, recipe, settings, generator, device))


def _clusters(
    features: Tensor, labels: NDArray[np.int64], recipe: Recipe, settings: MemorySettings, device: torch.device
) -> ClusterMemory:
    pseudo = as_tensor(labels)
    count = int(pseudo.max()) + 1
    centroids = functional.normalize(cluster_means(features, pseudo, count))
    return _memory(features, pseudo, centroids, recipe, settings, device)


def _multi(
    features: Tensor, labels: NDArray[np.int64], recipe: Recipe, settings: MemorySettings, device: torch.device
) -> MultiMemory:
    parts = split_clusters(features.numpy(), labels, recipe.sub_prototypes)
    means = cluster_means(functional.normalize(features), as_tensor(parts.labels), len(parts.owners))
    return MultiMemory(means, as_tensor(parts.owners), momentum=settings.momentum).to(device)


def _joint(
    features: Pair[Tensor],
    momentum: Pair[Tensor] | None,
    labels: EpochLabels,
    recipe: Recipe,
    settings: MemorySettings,
    generator: torch.Generator,
    device: torch.device,
) -> JointMemories | None:
    if labels.joint is None or labels.joint_shared() is None:
        return None
    both, split = torch.cat(features), None
    pseudo = as_tensor(labels.joint)
    if recipe.joint_memory == "split":
        visible, infrared = torch.split(pseudo, [len(part) for part in features])
        split = SplitRows.from_labels(visible, infrared)
        pseudo = split.labels(visible, infrared)
    count = int(pseudo.max()) + 1
    if split is not None or recipe.joint_means == "plain":
        means = cluster_means(both, pseudo, count)
    else:
        modality = torch.repeat_interleave(torch.tensor([0, 1]), torch.tensor([len(part) for part in features]))
        means = balanced_cluster_means(both, pseudo, modality, count)
    clusters = _memory(both, pseudo, functional.normalize(means), recipe, settings, device)
    slow = None if momentum is None else torch.cat(momentum)
    dynamic = None if slow is None else _dynamic(slow, pseudo.numpy(), recipe, generator, device)
    if split is not None:
        split = SplitRows(split.of.map(lambda rows: rows.to(device)))
    return JointMemories(ModalityMemories(clusters, dynamic), split)


def _memory(
    features: Tensor,
    labels: Tensor,
    centroids: Tensor,
    recipe: Recipe,
    settings: MemorySettings,
    device: torch.device,
) -> ClusterMemory:
    hard = centroids
    if recipe.hard_start == "furthest":
        hard = hard_prototypes(features, labels, centroids, recipe.hard_samples)
    return ClusterMemory(centroids, hard, momentum=settings.momentum, hard_samples=recipe.hard_batch_samples).to(device)


def _dynamic(
    features: Tensor, labels: NDArray[np.int64], recipe: Recipe, generator: torch.Generator, device: torch.device
) -> DynamicSource:
    unit, pseudo = functional.normalize(features), as_tensor(labels)
    drawn = draw_members(pseudo, int(pseudo.max()) + 1, recipe.dynamic_samples, generator)
    return DynamicSource(DynamicMemory(unit[drawn]).to(device), unit, pseudo)


def as_tensor(labels: NDArray[np.int64]) -> Tensor:
    """A copy: torch warns about tensors that share read-only arrays."""
    return torch.tensor(labels, dtype=torch.int64)
