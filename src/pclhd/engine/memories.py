"""The memories of one epoch, built from the features and pseudo labels it starts with."""

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
from pclhd.prototypes import (
    ClusterMemory,
    DynamicMemory,
    MultiMemory,
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
        memory: The prototypes now in use.
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
    """What one modality is contrasted against.

    Attributes:
        clusters: Centroid and hard prototypes.
        dynamic: Dynamic prototypes, where the stage uses them.
        multi: Several prototypes per cluster, which then stand in for the centroids; None where the recipe has one.
    """

    clusters: ClusterMemory
    dynamic: DynamicSource | None
    multi: MultiMemory | None = None


@dataclass(frozen=True)
class Memories:
    """All memories of an epoch.

    Attributes:
        visible: See `ModalityMemories`.
        infrared: See `ModalityMemories`.
        joint: Prototypes of the joint clusters; None where no cluster holds both modalities.
    """

    visible: ModalityMemories
    infrared: ModalityMemories
    joint: ClusterMemory | None


def build_memories(
    visible: Tensor,
    infrared: Tensor,
    momentum: tuple[Tensor, Tensor] | None,
    labels: EpochLabels,
    *,
    recipe: Recipe,
    settings: MemorySettings,
    generator: torch.Generator,
    device: torch.device,
) -> Memories:
    """Build the memories at the start of an epoch.

    Args:
        visible: Embeddings (Nv, D).
        infrared: Embeddings (Nr, D).
        momentum: The momentum network's embeddings of both, or None if no dynamic prototypes are wanted.
        labels: The epoch's pseudo labels.
        recipe: How prototypes start.
        settings: Momentum of the memories.
        generator: Draws the dynamic prototypes.
        device: Where the memories live.

    Returns:
        The memories.
    """
    parts = []
    for number, (features, pseudo) in enumerate(((visible, labels.visible), (infrared, labels.infrared))):
        source = None
        if momentum is not None:
            source = _dynamic(momentum[number], pseudo, recipe, generator, device)
        multi = _multi(features, pseudo, recipe, settings, device) if recipe.sub_prototypes > 1 else None
        parts.append(ModalityMemories(_clusters(features, pseudo, recipe, settings, device), source, multi))
    return Memories(parts[0], parts[1], _joint(visible, infrared, labels, recipe, settings, device))


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
    visible: Tensor,
    infrared: Tensor,
    labels: EpochLabels,
    recipe: Recipe,
    settings: MemorySettings,
    device: torch.device,
) -> ClusterMemory | None:
    if labels.joint is None or labels.joint_shared() is None:
        return None
    pseudo = as_tensor(labels.joint)
    features = torch.cat([visible, infrared])
    count = int(pseudo.max()) + 1
    if recipe.joint_means == "plain":
        means = cluster_means(features, pseudo, count)
    else:
        modality = torch.repeat_interleave(torch.tensor([0, 1]), torch.tensor([len(visible), len(infrared)]))
        means = balanced_cluster_means(features, pseudo, modality, count)
    return _memory(features, pseudo, functional.normalize(means), recipe, settings, device)


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
    return ClusterMemory(centroids, hard, momentum=settings.momentum).to(device)


def _dynamic(
    features: Tensor, labels: NDArray[np.int64], recipe: Recipe, generator: torch.Generator, device: torch.device
) -> DynamicSource:
    unit, pseudo = functional.normalize(features), as_tensor(labels)
    drawn = draw_members(pseudo, int(pseudo.max()) + 1, recipe.dynamic_samples, generator)
    return DynamicSource(DynamicMemory(unit[drawn]).to(device), unit, pseudo)


def as_tensor(labels: NDArray[np.int64]) -> Tensor:
    """A tensor of its own; labels are read-only arrays, which torch would rather not share."""
    return torch.tensor(labels, dtype=torch.int64)
