"""The method on one page, for a reader of the paper: recipe ``paper``, one process, nothing saved.

    pclhd synth DATA --scale tiny
    python examples/one_page.py DATA

The engine (`pclhd.engine`) computes the same losses; it adds the other recipes, checkpoints and several processes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from pclhd.clustering.matching import match_clusters
from pclhd.clustering.pipeline import ClusteringOptions, cluster_features
from pclhd.clustering.pseudo_labels import cluster_centres, compact_labels
from pclhd.config import Settings, load_preset
from pclhd.data.augment import infrared_view, visible_views
from pclhd.data.datasets import TrainingImages, load_training_images
from pclhd.data.open import open_dataset
from pclhd.data.records import Modality
from pclhd.data.samplers import cluster_batches
from pclhd.losses import contrast, hardest_similarities
from pclhd.models.backbones import build_network
from pclhd.models.embed import embed_images
from pclhd.models.momentum import MomentumNetwork
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.models.weights import initialise
from pclhd.pair import ModalityName, Pair
from pclhd.prototypes import (
    ClusterMemory,
    DynamicMemory,
    balanced_cluster_means,
    cluster_means,
    draw_members,
    hard_prototypes,
    normalise,
)
from pclhd.streams import Streams

Losses = dict[str, Tensor]


class Epoch(NamedTuple):
    """What an epoch trains against: pseudo labels (−1 is noise), partners across the modalities, and memories."""

    labels: Pair[Tensor]
    joint_labels: Pair[Tensor]
    partners: Pair[Tensor]
    clusters: Pair[ClusterMemory]
    instances: Pair[DynamicMemory]
    joint: ClusterMemory


def train(settings: Settings, images: TrainingImages) -> Iterator[dict[str, float]]:
    """Train a network in two stages; each step yields its losses by name."""
    schedule, streams = settings.schedule, Streams(settings.seed)
    first, *_, ema_decay = schedule.numbers()
    network = build_network(settings.model, generator=streams.torch("network"))
    initialise(network, settings.model.weights)
    momentum = MomentumNetwork(network, buffers="average")
    for number in range(settings.epochs):
        stage, of_stage = (1, number) if number < first else (2, number - first)
        if of_stage == 0:
            adam = torch.optim.Adam(network.parameters(), schedule.learning_rate, weight_decay=schedule.weight_decay)
        decay = schedule.decay_factor ** (of_stage // schedule.decay_every)
        adam.param_groups[0]["lr"] = schedule.learning_rate * decay

        # Embed all images, cluster, match clusters, build memories …
        epoch = begin(embed(network, images), embed(momentum.network, images), settings, streams, number)
        own_batches = draw(images, epoch.labels, settings, streams, "own", number)
        joint_batches = own_batches  # not used without joint clusters
        has_joint = stage == 2 and len(epoch.joint.centroids) > 0
        if has_joint:
            joint_batches = draw(images, epoch.joint_labels, settings, streams, "joint", number)
        augment = streams.torch("augment", number)
        network.train()
        for rows, joint_rows in zip(own_batches, joint_batches, strict=True):
            # … then train on batches: first on each modality's own clusters, …
            queries, labels = forward(network, images, rows, epoch.labels, augment)
            losses = own_losses(queries, labels, epoch, settings, stage, of_stage)
            minimise(losses, adam)
            for memory, part, label in zip(epoch.clusters, queries, labels, strict=True):
                memory.update(part.detach(), label)
            if has_joint:  # … then on the joint clusters.
                queries, labels = forward(network, images, joint_rows, epoch.joint_labels, augment)
                joint = joint_losses(queries, labels, epoch.joint, settings)
                minimise(joint, adam)
                epoch.joint.update(torch.cat(queries).detach(), torch.cat(labels))
                losses |= joint
            momentum.update(network, ema_decay)
            yield {name: loss.item() for name, loss in losses.items()}


def embed(network: TwoStreamNetwork, images: TrainingImages) -> Pair[Tensor]:
    """Unit-length features of all images, each averaged with its mirror image."""
    return Pair(*(embed_images(network, part.images, m) for part, m in zip(images, Modality, strict=True)))


def begin(features: Pair[Tensor], averaged: Pair[Tensor], settings: Settings, streams: Streams, number: int) -> Epoch:
    """Cluster each modality and both together, match the clusters, and build the memories."""
    method, sizes, kept = settings.method, settings.clustering, settings.memory.momentum
    alone = ClusteringOptions.of(sizes, method)
    clusters = features.map(lambda part: cluster_features(part, alone).labels)
    labels = clusters.map(torch.tensor)
    matching = match_clusters(*map(cluster_centres, features.map(Tensor.numpy), clusters), method="progressive")

    # The centroid of each cluster, its furthest member, and random members as the momentum network embeds them.
    random, memories, instances = streams.torch("prototypes", number), [], []
    for part, slow, label in zip(features, averaged, labels, strict=True):
        count = int(label.max()) + 1
        centroids = normalise(cluster_means(part, label, count))
        hard = hard_prototypes(part, label, centroids, method.hard_samples)
        memories.append(ClusterMemory(centroids, hard, momentum=kept))
        instances.append(DynamicMemory(slow[draw_members(label, count, method.dynamic_samples, random)]))

    # Joint clusters that hold both modalities (stage II needs them); their centroids weigh the modalities alike.
    both, counts = torch.cat(features), [len(part) for part in features]
    modality = torch.tensor([0, 1]).repeat_interleave(torch.tensor(counts))
    together = alone.changed(k1=sizes.joint_k1, k2=sizes.joint_k2)
    joint = cluster_features(both, together, modality=modality.numpy()).labels
    shared = np.intersect1d(joint[modality == 0], joint[modality == 1])
    joint_labels = torch.tensor(compact_labels(np.where(np.isin(joint, shared), joint, -1)))
    means = balanced_cluster_means(both, joint_labels, modality, int(joint_labels.max()) + 1)
    return Epoch(
        labels,
        Pair(*torch.split(joint_labels, counts)),
        Pair(*map(torch.tensor, (matching.visible_to_infrared, matching.infrared_to_visible))),
        Pair(*memories),
        Pair(*instances),
        ClusterMemory(means, momentum=kept),
    )


def draw(
    images: TrainingImages, labels: Pair[Tensor], settings: Settings, streams: Streams, purpose: str, number: int
) -> list[Pair[Tensor]]:
    """The rows of each batch: some clusters, some images of each, of different cameras if possible."""
    rows, batch = [], settings.batch.numbers()
    for (name, part), label in zip(images.items(), labels, strict=True):
        drawn = cluster_batches(
            label.numpy(),
            part.cameras,
            batches=settings.schedule.numbers().iterations,
            clusters=batch.clusters,
            instances=batch.instances,
            generator=streams.numpy("batches", purpose, name, number),
        )
        rows.append(torch.from_numpy(drawn))
    return [Pair(*of_batch) for of_batch in zip(*rows, strict=True)]


def forward(
    network: TwoStreamNetwork, images: TrainingImages, rows: Pair[Tensor], labels: Pair[Tensor], augment: Generator
) -> tuple[Pair[Tensor], Pair[Tensor]]:
    """Unit-length features of augmented images, two views of each visible one, and their labels."""
    visible = visible_views(images.visible.images[rows.visible], augment)
    infrared = infrared_view(images.infrared.images[rows.infrared], augment)
    features = torch.split(normalise(network(visible, infrared).embedding), [len(visible), len(infrared)])
    return Pair(*features), Pair(labels.visible[rows.visible].repeat(2), labels.infrared[rows.infrared])


def own_losses(
    queries: Pair[Tensor], labels: Pair[Tensor], epoch: Epoch, settings: Settings, stage: int, of_stage: int
) -> Losses:
    """Stage I: centroids. Stage II: hard and dynamic prototypes, and, in turns, the other modality's centroids."""
    share, tau, losses = settings.method.hard_share, settings.memory.temperature, {}
    for name, part in queries.items():
        memory, label = epoch.clusters.of(name), labels.of(name)
        if stage == 1:
            losses[f"{name}_centroid"] = contrast(memory.centroid_similarities(part), label, tau).mean()
        else:
            hardest = hardest_similarities(epoch.instances.of(name).similarities(part), label)
            losses[f"{name}_hard"] = share * contrast(memory.hard_similarities(part), label, tau).mean()
            losses[f"{name}_dynamic"] = (1 - share) * contrast(hardest, label, tau).mean()
    if stage == 2:
        turns: tuple[ModalityName, ModalityName] = ("visible", "infrared")
        mine, other = turns if of_stage % 2 == 0 else turns[::-1]
        similarities = epoch.clusters.of(other).centroid_similarities(queries.of(mine))
        label = epoch.partners.of(mine)[labels.of(mine)]
        losses[f"{mine}_cross"] = settings.method.cross * contrast(similarities, label, tau).mean()
    return losses


def joint_losses(queries: Pair[Tensor], labels: Pair[Tensor], memory: ClusterMemory, settings: Settings) -> Losses:
    """Each modality against the centroids of the joint clusters."""
    joint, tau = settings.method.joint, settings.memory.temperature
    return {
        f"{name}_joint": joint * contrast(memory.centroid_similarities(part), labels.of(name), tau).mean()
        for name, part in queries.items()
    }


def minimise(losses: Losses, adam: torch.optim.Adam) -> None:
    """One step on the sum of the losses."""
    adam.zero_grad()
    torch.autograd.backward(torch.stack([*losses.values()]).sum())
    adam.step()


if __name__ == "__main__":
    tiny = load_preset("tiny", ["recipe=paper"])
    people = open_dataset("auto", Path(sys.argv[1])).train
    for numbers in train(tiny, load_training_images(people, tiny.data.height, tiny.data.width)):
        print(", ".join(f"{name} {loss:.3f}" for name, loss in numbers.items()))
