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
from pclhd.losses import contrast
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
    normalise,
)
from pclhd.streams import Streams

Losses = dict[str, Tensor]


class Prototypes(NamedTuple):
    """Prototypes of some clusters: centroids and hard ones, and random members."""

    clusters: ClusterMemory
    instances: DynamicMemory


class Epoch(NamedTuple):
    """What an epoch trains against: pseudo labels (−1 is noise), partners across the modalities, and memories."""

    labels: Pair[Tensor]
    joint_labels: Pair[Tensor]
    partners: Pair[Tensor]
    own: Pair[Prototypes]
    joint: Prototypes


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
        has_joint = stage == 2 and len(epoch.joint.clusters.centroids) > 0
        if has_joint:
            joint_batches = draw(images, epoch.joint_labels, settings, streams, "joint", number)
        augment = streams.torch("augment", number)
        network.train()
        progress = 0.0 if stage == 1 else (of_stage + 1) / (settings.epochs - first)
        for rows, joint_rows in zip(own_batches, joint_batches, strict=True):
            # … then train on batches: first on each modality's own clusters, …
            queries, labels = forward(network, images, rows, epoch.labels, augment)
            losses = own_losses(queries, labels, epoch, settings, progress, of_stage)
            minimise(losses, adam)
            for memory, part, label in zip(epoch.own, queries, labels, strict=True):
                memory.clusters.update(part.detach(), label)
            if has_joint:  # … then on the joint clusters.
                queries, labels = forward(network, images, joint_rows, epoch.joint_labels, augment)
                joint = joint_losses(queries, labels, epoch.joint, settings, progress)
                minimise(joint, adam)
                epoch.joint.clusters.update(torch.cat(queries).detach(), torch.cat(labels))
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

    # The centroid of each cluster, where its hard prototype starts, and a random member from the momentum network.
    random = streams.torch("prototypes", number)

    def prototypes(means: Tensor, slow: Tensor, label: Tensor) -> Prototypes:
        members = draw_members(label, len(means), method.dynamic_samples, random)
        return Prototypes(ClusterMemory(normalise(means), momentum=kept), DynamicMemory(slow[members]))

    means = [cluster_means(part, label, int(label.max()) + 1) for part, label in zip(features, labels, strict=True)]
    own = Pair(*map(prototypes, means, averaged, labels))

    # Joint clusters that hold both modalities (stage II needs them); their centroids weigh the modalities alike.
    both, counts = torch.cat(features), [len(part) for part in features]
    modality = torch.tensor([0, 1]).repeat_interleave(torch.tensor(counts))
    together = alone.changed(k1=sizes.joint_k1, k2=sizes.joint_k2)
    joint = cluster_features(both, together, modality=modality.numpy()).labels
    shared = np.intersect1d(joint[modality == 0], joint[modality == 1])
    joint_labels = torch.tensor(compact_labels(np.where(np.isin(joint, shared), joint, -1)))
    balanced = balanced_cluster_means(both, joint_labels, modality, int(joint_labels.max()) + 1)
    return Epoch(
        labels,
        Pair(*torch.split(joint_labels, counts)),
        Pair(*map(torch.tensor, (matching.visible_to_infrared, matching.infrared_to_visible))),
        own,
        prototypes(balanced, torch.cat(averaged), joint_labels),
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


def mixed(name: str, part: Tensor, label: Tensor, memory: Prototypes, settings: Settings, progress: float) -> Losses:
    """Centroids at first; then hard and dynamic prototypes grow next to them (progressively)."""
    method, tau = settings.method, settings.memory.temperature
    others = progress * (1 - method.centroid_share)
    weights = {"centroid": 1 - others, "hard": others * method.hard_share, "dynamic": others * (1 - method.hard_share)}
    to = {
        "centroid": memory.clusters.centroid_similarities(part),
        "hard": memory.clusters.hard_similarities(part),
        "dynamic": memory.instances.similarities(part)[:, :, 0],  # one random member for each cluster
    }
    kept = label >= 0  # a cluster may have no partner
    return {
        f"{name}_{kind}": weight * contrast(to[kind][kept], label[kept], tau).mean()
        for kind, weight in weights.items()
        if weight
    }


def own_losses(
    queries: Pair[Tensor], labels: Pair[Tensor], epoch: Epoch, settings: Settings, progress: float, of_stage: int
) -> Losses:
    """Each modality against its own prototypes and, in stage II in turns, against the other modality's."""
    losses: Losses = {}
    for name, part in queries.items():
        losses |= mixed(name, part, labels.of(name), epoch.own.of(name), settings, progress)
    if progress:
        turns: tuple[ModalityName, ModalityName] = ("visible", "infrared")
        mine, other = turns if of_stage % 2 == 0 else turns[::-1]
        label = epoch.partners.of(mine)[labels.of(mine)]
        across = mixed(f"{mine}_cross", queries.of(mine), label, epoch.own.of(other), settings, progress)
        losses |= {name: settings.method.cross * loss for name, loss in across.items()}
    return losses


def joint_losses(
    queries: Pair[Tensor], labels: Pair[Tensor], memory: Prototypes, settings: Settings, progress: float
) -> Losses:
    """Each modality against the prototypes of the joint clusters."""
    losses: Losses = {}
    for name, part in queries.items():
        losses |= mixed(f"{name}_joint", part, labels.of(name), memory, settings, progress)
    return {name: settings.method.joint * loss for name, loss in losses.items()}


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
