from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pclhd.clustering.matching import Matching
from pclhd.clustering.multi_memory import split_clusters
from pclhd.config import MemorySettings
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.memories import Memories, as_tensor, build_memories
from pclhd.pair import Pair
from pclhd.prototypes import ClusterMemory
from pclhd.recipes import RELEASED, Recipe
from tests.readings import ABRUPT

WIDTH = 6
VISIBLE = np.array([0, 1, 0, -1, 1, 0, 1, 0])
INFRARED = np.array([0, 0, 0, -1, 0])
JOINT = np.array([0, 1, 0, -1, 1, 0, 2, 0, 0, 0, 2, -1, 1])


def rows(count: int, seed: int, *, unit: bool = True) -> Tensor:
    drawn = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(drawn) if unit else drawn


def labels(*, joint: bool = True) -> EpochLabels:
    empty = np.zeros(0, dtype=np.int64)
    arrays = [VISIBLE.copy(), INFRARED.copy(), JOINT.copy()]
    for array in arrays:
        array.setflags(write=False)
    return EpochLabels(arrays[0], arrays[1], arrays[2] if joint else None, Matching(empty, empty))


def build(recipe: Recipe, *, momentum: Pair[Tensor] | None = None, joint: bool = True, seed: int = 0) -> Memories:
    return build_memories(
        Pair(rows(8, 1), rows(5, 2)),
        momentum,
        labels(joint=joint),
        recipe=recipe,
        settings=MemorySettings(momentum=0.4),
        generator=torch.Generator().manual_seed(seed),
        device=torch.device("cpu"),
    )


def joint_of(memories: Memories) -> ClusterMemory:
    assert memories.joint is not None
    assert memories.joint.split is None
    return memories.joint.held.clusters


def test_centroids_are_scaled_means() -> None:
    memories = build(ABRUPT)
    for memory, features, pseudo in (
        (memories.own.visible, rows(8, 1), VISIBLE),
        (memories.own.infrared, rows(5, 2), INFRARED),
    ):
        assert memory.clusters.num_clusters == pseudo.max() + 1
        assert memory.clusters.momentum == 0.4
        for cluster, centroid in enumerate(memory.clusters.centroids):
            mean = features[torch.from_numpy(pseudo == cluster)].mean(0)
            torch.testing.assert_close(centroid, mean / mean.norm())


@pytest.mark.parametrize("k", [1, 2, 3])
def test_hard_prototypes_are_the_furthest_members(k: int) -> None:
    memories = build(ABRUPT.model_copy(update={"hard_samples": k}))
    features = rows(8, 1)
    for cluster, hard in enumerate(memories.own.visible.clusters.hard):
        members = [features[row] for row in range(8) if VISIBLE[row] == cluster]
        centroid = memories.own.visible.clusters.centroids[cluster]
        furthest = sorted(members, key=lambda member: float(member @ centroid))[:k]
        mean = torch.stack(furthest).mean(0)
        torch.testing.assert_close(hard, mean / mean.norm())


def test_hard_prototypes_that_start_as_centroids() -> None:
    memories = build(RELEASED)
    for memory in (memories.own.visible.clusters, memories.own.infrared.clusters, joint_of(memories)):
        assert torch.equal(memory.hard, memory.centroids)
        assert memory.hard.data_ptr() != memory.centroids.data_ptr()


def test_the_joint_memory_has_the_shared_clusters_balanced() -> None:
    # The joint clusters 0, 1 and 2 all hold both modalities: see JOINT, whose first eight rows are visible.
    memories = build(ABRUPT)
    assert joint_of(memories).num_clusters == 3
    features = torch.cat([rows(8, 1), rows(5, 2)])
    for cluster, centroid in enumerate(joint_of(memories).centroids):
        member = torch.from_numpy(cluster == JOINT)
        first, second = features[:8][member[:8]].mean(0), features[8:][member[8:]].mean(0)
        mean = (first + second) / 2
        torch.testing.assert_close(centroid, mean / mean.norm())


def test_plain_joint_means_count_every_image_alike() -> None:
    plain = build(ABRUPT.model_copy(update={"joint_means": "plain"}))
    balanced = build(ABRUPT)
    features = torch.cat([rows(8, 1), rows(5, 2)])
    for cluster, centroid in enumerate(joint_of(plain).centroids):
        members = [features[row] for row in range(13) if JOINT[row] == cluster]
        mean = sum(members[1:], members[0]) / len(members)
        torch.testing.assert_close(centroid, mean / mean.norm())
        # Cluster 2 has one image of each modality, where both means are the same.
        sizes = int((JOINT[:8] == cluster).sum()), int((JOINT[8:] == cluster).sum())
        assert torch.allclose(centroid, joint_of(balanced).centroids[cluster]) == (sizes[0] == sizes[1])


def test_without_joint_labels_there_is_no_joint_memory() -> None:
    assert build(ABRUPT, joint=False).joint is None


def test_dynamic_prototypes_are_members_of_the_momentum_networks_features() -> None:
    slow = Pair(rows(8, 3, unit=False), rows(5, 4, unit=False))
    memories = build(ABRUPT.model_copy(update={"dynamic_samples": 9}), momentum=slow)
    for memory, features, pseudo in (
        (memories.own.visible, slow[0], VISIBLE),
        (memories.own.infrared, slow[1], INFRARED),
    ):
        assert memory.dynamic is not None
        instances = memory.dynamic.memory.instances
        assert instances.shape == (pseudo.max() + 1, 9, WIDTH)
        for cluster, drawn in enumerate(instances):
            members = functional.normalize(features[torch.from_numpy(pseudo == cluster)])
            nearest = torch.cdist(drawn, members).amin(1)
            assert float(nearest.max()) < 1e-3


def test_no_momentum_features_no_dynamic_prototypes() -> None:
    memories = build(ABRUPT)
    assert memories.own.visible.dynamic is None
    assert memories.own.infrared.dynamic is None


def test_the_generator_draws_the_dynamic_prototypes() -> None:
    slow = Pair(rows(8, 3), rows(5, 4))

    def drawn(seed: int) -> Tensor:
        source = build(ABRUPT, momentum=slow, seed=seed).own.visible.dynamic
        assert source is not None
        return source.memory.instances

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))


def test_redrawing_takes_other_members_of_the_same_clusters() -> None:
    source = build(ABRUPT, momentum=Pair(rows(8, 3), rows(5, 4))).own.visible.dynamic
    assert source is not None
    before = source.memory.instances.clone()
    source.redraw(torch.Generator().manual_seed(5))
    assert source.memory.instances.shape == before.shape
    assert not torch.equal(source.memory.instances, before)
    for cluster, drawn in enumerate(source.memory.instances):
        members = rows(8, 3)[torch.from_numpy(cluster == VISIBLE)]
        assert float(torch.cdist(drawn, members).amin(1).max()) < 1e-3


@pytest.mark.parametrize("most", [2, 4])
def test_several_prototypes_per_cluster_are_the_means_of_its_parts(most: int) -> None:
    # Lengths that differ: a part's prototype is the mean of directions.
    parts = Pair(rows(8, 1, unit=False), rows(5, 2, unit=False))
    memories = build_memories(
        parts,
        None,
        labels(),
        recipe=ABRUPT.model_copy(update={"sub_prototypes": most}),
        settings=MemorySettings(momentum=0.4),
        generator=torch.Generator(),
        device=torch.device("cpu"),
    )
    for memory, features, pseudo in (
        (memories.own.visible, parts[0], VISIBLE),
        (memories.own.infrared, parts[1], INFRARED),
    ):
        assert memory.multi is not None
        assert memory.multi.momentum == 0.4
        split = split_clusters(features.numpy(), pseudo, most)
        assert len(split.owners) > pseudo.max() + 1
        assert int(memory.multi.present.sum()) == len(split.owners)
        for cluster in range(int(pseudo.max()) + 1):
            for place, part in enumerate(np.flatnonzero(split.owners == cluster)):
                mean = functional.normalize(features[torch.from_numpy(split.labels == part)]).mean(0)
                torch.testing.assert_close(memory.multi.prototypes[cluster, place], mean / mean.norm())


def test_one_prototype_per_cluster_is_the_centroid() -> None:
    memories = build(ABRUPT)
    assert memories.own.visible.multi is None
    assert memories.own.infrared.multi is None


def test_labels_become_tensors_of_their_own() -> None:
    frozen = labels().visible
    tensor = as_tensor(frozen)
    tensor[0] = 7
    assert frozen[0] == 0
    assert tensor.dtype == torch.int64
