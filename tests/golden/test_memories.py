"""Memories and losses against the released code's: loss, gradient and memory afterwards.

The arrays of a file show its family: two calls (`inputs_a`), instances (`num_instances`), hybrid (two rows per class),
plain (one row per class).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pclhd.losses import contrast, hardest_similarities, released_hybrid
from pclhd.prototypes import ClusterMemory, DynamicMemory, coupled_similarities
from tests.golden.helpers import golden_files

TOLERANCE = 1e-5
Family = Literal["plain", "hybrid", "instances", "plain, two calls", "hybrid, two calls"]


@dataclass(frozen=True)
class Recording:
    """One file and what its shapes show."""

    name: str
    arrays: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> Recording:
        with np.load(path, allow_pickle=False) as arrays:
            return cls(path.stem, {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files})

    def __getitem__(self, name: str) -> Tensor:
        return self.arrays[name]

    def number(self, name: str) -> float:
        return float(self.arrays[name])

    @property
    def num_clusters(self) -> int:
        return int(self["num_classes"])

    @property
    def family(self) -> Family:
        rows = len(self["features_before"])
        if "num_instances" in self.arrays:
            return "instances"
        hybrid = rows == 2 * self.num_clusters
        if not hybrid and rows != self.num_clusters:
            raise ValueError(f"{self.name}: {rows} rows for {self.num_clusters} classes belong to no known family")
        if "inputs_a" in self.arrays:
            return "hybrid, two calls" if hybrid else "plain, two calls"
        return "hybrid" if hybrid else "plain"

    @property
    def hybrid(self) -> bool:
        return self.family.startswith("hybrid")

    def cluster_memory(self) -> ClusterMemory:
        before = self["features_before"]
        return ClusterMemory(
            before[: self.num_clusters],
            before[self.num_clusters :] if self.hybrid else None,
            momentum=self.number("momentum"),
            centroid_update="batch_mean" if self.hybrid else "sample_by_sample",
        )

    def dynamic_memory(self) -> DynamicMemory:
        return DynamicMemory(self.slots(self["features_before"]))

    def slots(self, rows: Tensor) -> Tensor:
        """(K·C, D) with slot k of class c in row c + k·C, as (C, K, D)."""
        return rows.view(int(self["num_instances"]), self.num_clusters, -1).transpose(0, 1)

    def leaf(self, name: str) -> Tensor:
        return self[name].clone().requires_grad_()

    def stacked(self, memory: ClusterMemory) -> Tensor:
        return torch.cat([memory.centroids, memory.hard]) if self.hybrid else memory.centroids

    def coupled_loss(self, memory: ClusterMemory, queries: Tensor, labels: Tensor) -> Tensor:
        if self.hybrid:
            centroid, hard = coupled_similarities(memory, queries, labels, "hybrid")
            return released_hybrid(centroid, hard, labels, self.number("temp"))
        similarities = coupled_similarities(memory, queries, labels, "centroid")
        return contrast(similarities, labels, self.number("temp")).mean()

    def explicit_loss(self, memory: ClusterMemory, queries: Tensor, labels: Tensor) -> Tensor:
        centroid = memory.centroid_similarities(queries)
        if self.hybrid:
            return released_hybrid(centroid, memory.hard_similarities(queries), labels, self.number("temp"))
        return contrast(centroid, labels, self.number("temp")).mean()


RECORDINGS = [Recording.read(path) for path in golden_files("memory_*.npz")]


def of(*families: Family) -> list[Recording]:
    return [recording for recording in RECORDINGS if recording.family in families]


def each(*families: Family) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("recorded", of(*families), ids=lambda recorded: recorded.name)


def close(ours: Tensor, recorded: Tensor) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), recorded.numpy(), rtol=0, atol=TOLERANCE)


def gradient(leaf: Tensor) -> Tensor:
    if leaf.grad is None:
        raise AssertionError("no gradient reached the inputs")
    return leaf.grad


@each("plain", "hybrid")
def test_coupled(recorded: Recording) -> None:
    memory, inputs, labels = recorded.cluster_memory(), recorded.leaf("inputs"), recorded["targets"]
    loss = recorded.coupled_loss(memory, F.normalize(inputs, dim=1), labels)
    close(recorded.stacked(memory), recorded["features_before"])
    torch.autograd.backward(loss)
    close(loss, recorded["loss"])
    close(gradient(inputs), recorded["grad_inputs"])
    close(recorded.stacked(memory), recorded["features_after"])


@each("plain", "hybrid")
def test_explicit_update_after_backward_gives_the_same(recorded: Recording) -> None:
    memory, inputs, labels = recorded.cluster_memory(), recorded.leaf("inputs"), recorded["targets"]
    queries = F.normalize(inputs, dim=1)
    loss = recorded.explicit_loss(memory, queries, labels)
    torch.autograd.backward(loss)
    close(recorded.stacked(memory), recorded["features_before"])
    memory.update(queries, labels)
    close(loss, recorded["loss"])
    close(gradient(inputs), recorded["grad_inputs"])
    close(recorded.stacked(memory), recorded["features_after"])


@each("hybrid")
def test_both_cross_entropies(recorded: Recording) -> None:
    memory, labels, temperature = recorded.cluster_memory(), recorded["targets"], recorded.number("temp")
    queries = F.normalize(recorded["inputs"], dim=1)
    close(contrast(memory.centroid_similarities(queries), labels, temperature).mean(), recorded["ce_centroid"])
    close(contrast(memory.hard_similarities(queries), labels, temperature).mean(), recorded["ce_hard"])


@each("plain, two calls", "hybrid, two calls")
def test_two_coupled_calls_and_one_backward(recorded: Recording) -> None:
    memory = recorded.cluster_memory()
    inputs_a, inputs_b = recorded.leaf("inputs_a"), recorded.leaf("inputs_b")
    loss_a = recorded.coupled_loss(memory, F.normalize(inputs_a, dim=1), recorded["targets_a"])
    loss_b = recorded.coupled_loss(memory, F.normalize(inputs_b, dim=1), recorded["targets_b"])
    torch.autograd.backward(loss_a + recorded.number("weight_b") * loss_b)
    close(loss_a, recorded["loss_a"])
    close(loss_b, recorded["loss_b"])
    close(gradient(inputs_a), recorded["grad_inputs_a"])
    close(gradient(inputs_b), recorded["grad_inputs_b"])
    close(recorded.stacked(memory), recorded["features_after"])


@each("plain, two calls", "hybrid, two calls")
def test_two_explicit_calls_agree_except_for_the_first_gradient(recorded: Recording) -> None:
    """Losses, the second call's gradient and the memory agree; the first call's gradient is the true one here."""
    memory = recorded.cluster_memory()
    inputs_a, inputs_b = recorded.leaf("inputs_a"), recorded.leaf("inputs_b")
    queries_a, queries_b = F.normalize(inputs_a, dim=1), F.normalize(inputs_b, dim=1)
    loss_a = recorded.explicit_loss(memory, queries_a, recorded["targets_a"])
    loss_b = recorded.explicit_loss(memory, queries_b, recorded["targets_b"])
    torch.autograd.backward(loss_a + recorded.number("weight_b") * loss_b)
    memory.update(queries_b, recorded["targets_b"])
    memory.update(queries_a, recorded["targets_a"])
    close(loss_a, recorded["loss_a"])
    close(loss_b, recorded["loss_b"])
    close(gradient(inputs_b), recorded["grad_inputs_b"])
    close(recorded.stacked(memory), recorded["features_after"])


@each("instances")
def test_instances(recorded: Recording) -> None:
    """Loss and gradient; then, if draws were recorded, the same draws put the same rows in the same slots."""
    memory, inputs, labels = recorded.dynamic_memory(), recorded.leaf("inputs"), recorded["targets"]
    queries = F.normalize(inputs, dim=1)
    loss = contrast(hardest_similarities(memory.similarities(queries), labels), labels, recorded.number("temp")).mean()
    close(loss, recorded["loss"])
    if "drawn_position" in recorded.arrays:
        torch.autograd.backward(loss)
        close(gradient(inputs), recorded["grad_inputs"])
        rows = torch.stack(
            [
                queries.detach()[labels == drawn][positions]
                for drawn, positions in zip(recorded["drawn_class"], recorded["drawn_position"], strict=True)
            ]
        )
        memory.replace(recorded["drawn_class"], rows)
    close(memory.instances, recorded.slots(recorded["features_after"]))


@each("instances")
def test_instances_without_a_gradient_change_nothing(recorded: Recording) -> None:
    """The released stage two: queries of the averaged network carry no gradient, so nothing is trained or refreshed."""
    memory, labels = recorded.dynamic_memory(), recorded["targets"]
    similarities = memory.similarities(F.normalize(recorded["inputs"], dim=1))
    loss = contrast(hardest_similarities(similarities, labels), labels, recorded.number("temp")).mean()
    assert not loss.requires_grad
    close(loss, recorded["loss"])
    close(memory.instances, recorded.slots(recorded["features_before"]))
