"""Cluster centres and start values of the memories against the released code's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pclhd.prototypes import ClusterMemory, DynamicMemory, balanced_cluster_means, cluster_means, draw_members
from tests.golden.helpers import golden_files

TOLERANCE = 1e-5


@pytest.fixture(params=golden_files("centers*.npz"), ids=lambda path: path.stem)
def recorded(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    path: Path = request.param
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


def close(ours: Tensor, recorded: Tensor) -> None:
    expected: NDArray[np.float32] = recorded.numpy()
    np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=TOLERANCE)


def test_cluster_means(recorded: dict[str, Tensor]) -> None:
    means = cluster_means(recorded["features"], recorded["labels"], int(recorded["num_clusters"]))
    close(means, recorded["cluster_centers"])


def test_balanced_cluster_means(recorded: dict[str, Tensor]) -> None:
    means = balanced_cluster_means(
        recorded["features"], recorded["labels"], recorded["modality"], int(recorded["num_clusters"])
    )
    close(means, recorded["modal_invariant_centers"])


def test_cluster_memory_starts_at_the_centres(recorded: dict[str, Tensor]) -> None:
    memory = ClusterMemory(recorded["cluster_centers"])
    close(memory.centroids, recorded["memory_cm"])
    close(torch.cat([memory.centroids, memory.hard]), recorded["memory_hybrid"])


def test_dynamic_memory_starts_at_the_drawn_members(recorded: dict[str, Tensor]) -> None:
    count, clusters = int(recorded["num_instances"]), int(recorded["num_clusters"])
    drawn = recorded["features"][recorded["drawn_index"]]
    slots = recorded["instance_memory"].view(count, clusters, -1).transpose(0, 1)
    close(drawn, slots)
    memory = DynamicMemory(drawn)
    close(memory.instances, slots / slots.norm(dim=2, keepdim=True))


def test_our_draws_come_from_the_same_clusters(recorded: dict[str, Tensor]) -> None:
    index = draw_members(
        recorded["labels"],
        int(recorded["num_clusters"]),
        int(recorded["num_instances"]),
        torch.Generator().manual_seed(0),
    )
    assert index.shape == recorded["drawn_index"].shape
    assert torch.equal(recorded["labels"][index], recorded["labels"][recorded["drawn_index"]])
