"""Prototypes and memories against slow twins that loop over clusters and samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pclhd.losses import contrast, hardest_similarities
from pclhd.prototypes import (
    ClusterMemory,
    DynamicMemory,
    MultiMemory,
    balanced_cluster_means,
    cluster_means,
    draw_members,
    hard_prototypes,
    normalise,
)

WIDTH = 6
Memory = ClusterMemory | DynamicMemory | MultiMemory


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_rows(count: int, seed: int = 0, width: int = WIDTH) -> Tensor:
    return torch.randn(count, width, generator=generator(seed))


def unit_rows(count: int, seed: int = 0, width: int = WIDTH) -> Tensor:
    return normalise(random_rows(count, seed, width))


def lengths(rows: Tensor) -> Tensor:
    return rows.square().sum(-1).sqrt()


# ---- slow twins


def unit(row: Tensor) -> Tensor:
    length = row.square().sum().sqrt().clamp(min=1e-12)
    return row.div(length)


def unit_of(values: list[float]) -> Tensor:
    return unit(torch.tensor(values))


def slow_means(features: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    return torch.stack([features[labels == cluster].mean(0) for cluster in range(num_clusters)])


def slow_balanced_means(features: Tensor, labels: Tensor, modality: Tensor, num_clusters: int) -> Tensor:
    rows = []
    for cluster in range(num_clusters):
        groups = [features[(labels == cluster) & (modality == kind)] for kind in (0, 1)]
        rows.append(torch.stack([group.mean(0) for group in groups if len(group)]).mean(0))
    return torch.stack(rows)


def slow_hard_prototypes(features: Tensor, labels: Tensor, centroids: Tensor, k: int) -> Tensor:
    rows = []
    for cluster, centroid in enumerate(centroids):
        members = [unit(feature) for feature, label in zip(features, labels, strict=True) if label == cluster]
        members.sort(key=lambda member: float(member @ centroid))
        rows.append(unit(torch.stack(members[:k]).mean(0)))
    return torch.stack(rows)


def slow_update(
    centroids: Tensor, hard: Tensor, queries: Tensor, labels: Tensor, momentum: float, centroid_update: str
) -> tuple[Tensor, Tensor]:
    new_centroids, new_hard = centroids.clone(), hard.clone()
    for cluster in range(len(centroids)):
        rows = [query for query, label in zip(queries, labels, strict=True) if label == cluster]
        if not rows:
            continue
        furthest = min(rows, key=lambda row: float(row @ centroids[cluster]))
        new_hard[cluster] = unit(momentum * hard[cluster] + (1 - momentum) * furthest)
        if centroid_update == "batch_mean":
            mean = torch.stack(rows).mean(0)
            new_centroids[cluster] = unit(momentum * centroids[cluster] + (1 - momentum) * mean)
        else:
            for row in rows:
                new_centroids[cluster] = unit(momentum * new_centroids[cluster] + (1 - momentum) * row)
    return new_centroids, new_hard


def slow_nearest(parts: dict[int, list[Tensor]], query: Tensor) -> list[float]:
    return [max(float(query @ row) for row in parts[cluster]) for cluster in sorted(parts)]


def slow_multi_update(
    parts: dict[int, list[Tensor]], queries: Tensor, labels: Tensor, momentum: float
) -> dict[int, list[Tensor]]:
    met: dict[tuple[int, int], list[Tensor]] = {}
    for query, label in zip(queries, labels.tolist(), strict=True):
        to_parts = [float(query @ row) for row in parts[label]]
        met.setdefault((label, to_parts.index(max(to_parts))), []).append(query)
    return {
        cluster: [
            unit(momentum * row + (1 - momentum) * torch.stack(met[cluster, part]).mean(0))
            if (cluster, part) in met
            else row
            for part, row in enumerate(rows)
        ]
        for cluster, rows in parts.items()
    }


# ---- cluster means


def test_cluster_means__by_hand_noise_ignored() -> None:
    features = torch.tensor([[2.0, 0.0], [0.0, 4.0], [100.0, 100.0], [1.0, 1.0]])
    means = cluster_means(features, torch.tensor([1, 1, -1, 0]), 2)
    assert means.tolist() == [[1.0, 1.0], [1.0, 2.0]]


def test_cluster_means__twin() -> None:
    labels = torch.tensor([2, 0, -1, 1, 1, 2, 2, 0, -1, 2])
    features = random_rows(len(labels))
    torch.testing.assert_close(cluster_means(features, labels, 3), slow_means(features, labels, 3))


def test_cluster_means__half_precision_is_summed_in_float32() -> None:
    # In bfloat16 a running sum of ones stops at 256.
    means = cluster_means(torch.ones(2000, 1, dtype=torch.bfloat16), torch.zeros(2000, dtype=torch.int64), 1)
    assert means.dtype == torch.float32
    assert means.tolist() == [[1.0]]


def test_cluster_means__all_noise_and_no_cluster() -> None:
    assert cluster_means(random_rows(3), torch.full((3,), -1), 0).shape == (0, WIDTH)
    assert cluster_means(random_rows(0), torch.zeros(0, dtype=torch.int64), 0).shape == (0, WIDTH)


def test_cluster_means__caller_keeps_its_features() -> None:
    features = random_rows(4)
    before = features.clone()
    cluster_means(features, torch.tensor([0, 0, 1, 1]), 2)
    assert torch.equal(features, before)


@pytest.mark.parametrize(
    ("labels", "num_clusters", "message"),
    [
        ([0, 0, 2], 3, "cluster 1 of 3 has no member"),
        ([-1, -1, -1], 1, "cluster 0 of 1 has no member"),
        ([0, 0, 0], 9, "cluster 1, 2, 3, 4, 5 and 3 more of 9 has no member"),
        ([0, 1, 2], 2, "label 2 is out of range, expected -1 to 1"),
        ([0, 1, -2], 2, "label -2 is out of range, expected -1 to 1"),
        ([0, 1], 2, r"labels of shape \(2,\)"),
    ],
)
def test_cluster_means__refusals(labels: list[int], num_clusters: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_means(random_rows(3), torch.tensor(labels), num_clusters)


def test_cluster_means__labels_must_be_int64() -> None:
    with pytest.raises(ValueError, match=r"labels are torch\.float32"):
        cluster_means(random_rows(2), torch.zeros(2), 1)


# ---- balanced cluster means


def test_balanced_cluster_means__group_sizes_do_not_count() -> None:
    features = torch.tensor([[0.0], [0.0], [0.0], [1.0], [5.0], [7.0]])
    labels, modality = torch.tensor([0, 0, 0, 0, 1, 2]), torch.tensor([0, 0, 0, 1, 0, 1])
    assert balanced_cluster_means(features, labels, modality, 3).tolist() == [[0.5], [5.0], [7.0]]


def test_balanced_cluster_means__twin() -> None:
    labels = torch.randint(-1, 4, (40,), generator=generator(1))
    modality = torch.randint(0, 2, (40,), generator=generator(2))
    features = random_rows(40)
    torch.testing.assert_close(
        balanced_cluster_means(features, labels, modality, 4), slow_balanced_means(features, labels, modality, 4)
    )


def test_balanced_cluster_means__refusals() -> None:
    labels = torch.tensor([0, 0])
    with pytest.raises(ValueError, match="modality"):
        balanced_cluster_means(random_rows(2), labels, torch.tensor([0, 2]), 1)
    with pytest.raises(ValueError, match="modality has shape"):
        balanced_cluster_means(random_rows(2), labels, torch.tensor([0]), 1)
    with pytest.raises(ValueError, match="cluster 1 of 2 has no member"):
        balanced_cluster_means(random_rows(2), labels, labels, 2)


# ---- hard prototypes


def test_hard_prototypes__furthest_member_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 3.0], [0.0, 1.0]])
    centroids = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    hard = hard_prototypes(features, torch.tensor([0, 0, 1, -1]), centroids, 1)
    torch.testing.assert_close(hard, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))


def test_hard_prototypes__length_of_a_feature_does_not_count() -> None:
    # The dot product calls the second member nearer, the cosine calls it further.
    features = torch.tensor([[0.9, 0.1], [5.0, 5.0]])
    hard = hard_prototypes(features, torch.tensor([0, 0]), torch.tensor([[1.0, 0.0]]), 1)
    torch.testing.assert_close(hard, unit_of([1.0, 1.0])[None])


@given(
    labels=st.lists(st.integers(-1, 3), min_size=0, max_size=20),
    k=st.integers(1, 8),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=30, deadline=None)
def test_hard_prototypes__twin(labels: list[int], k: int, seed: int) -> None:
    every = torch.tensor([0, 1, 2, 3, *labels])  # no cluster is empty
    features, centroids = random_rows(len(every), seed).double(), unit_rows(4, seed + 1).double()
    hard = hard_prototypes(features, every, centroids, k)
    torch.testing.assert_close(hard, slow_hard_prototypes(features, every, centroids, k))


def test_hard_prototypes__k_beyond_the_cluster_takes_all_of_it() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    features = unit_rows(4)
    hard = hard_prototypes(features, labels, unit_rows(2, seed=5), 100)
    torch.testing.assert_close(hard, normalise(slow_means(features, labels, 2)))


def test_hard_prototypes__opposite_members_give_zeros_not_nan() -> None:
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    hard = hard_prototypes(features, torch.tensor([0, 0]), torch.tensor([[0.0, 1.0]]), 2)
    assert hard.tolist() == [[0.0, 0.0]]


def test_hard_prototypes__refusals() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        hard_prototypes(random_rows(1), torch.tensor([0]), unit_rows(1), 0)
    with pytest.raises(ValueError, match="cluster 1 of 2 has no member"):
        hard_prototypes(random_rows(1), torch.tensor([0]), unit_rows(2), 1)
    with pytest.raises(ValueError, match="width 6, prototypes of width 3"):
        hard_prototypes(random_rows(1), torch.tensor([0]), unit_rows(1, width=3), 1)


# ---- draws


@given(
    labels=st.lists(st.integers(-1, 3), min_size=0, max_size=20),
    count=st.integers(0, 9),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=30, deadline=None)
def test_draw_members__only_members_of_the_cluster(labels: list[int], count: int, seed: int) -> None:
    every = torch.tensor([*labels, 3, 1, 0, 2])
    drawn = draw_members(every, 4, count, generator(seed))
    assert drawn.shape == (4, count)
    assert drawn.dtype == torch.int64
    assert (every[drawn] == torch.arange(4)[:, None]).all()
    assert torch.equal(drawn, draw_members(every, 4, count, generator(seed)))


def test_draw_members__every_member_about_equally_often() -> None:
    labels = torch.tensor([1, -1, 0, 1, 1, -1, 1])
    counts = torch.bincount(draw_members(labels, 2, 4000, generator())[1], minlength=7)
    assert counts[[1, 2, 5]].tolist() == [0, 0, 0]
    assert (counts[[0, 3, 4, 6]] > 850).all()
    assert (counts[[0, 3, 4, 6]] < 1150).all()


def test_draw_members__global_random_state_untouched() -> None:
    before = torch.get_rng_state()
    draw_members(torch.tensor([0, 0, 1]), 2, 5, generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_draw_members__refusals() -> None:
    with pytest.raises(ValueError, match="cluster 1 of 3 has no member"):
        draw_members(torch.tensor([0, 2, -1]), 3, 4, generator())
    with pytest.raises(ValueError, match="label 3 is out of range"):
        draw_members(torch.tensor([0, 3]), 2, 4, generator())
    with pytest.raises(ValueError, match="count is -1"):
        draw_members(torch.tensor([0]), 1, -1, generator())


# ---- cluster memory


batches = st.lists(st.integers(0, 4), min_size=0, max_size=24)
both_updates = pytest.mark.parametrize("centroid_update", ["batch_mean", "sample_by_sample"])


@both_updates
@given(labels=batches, momentum=st.sampled_from([0.0, 0.1, 0.5, 1.0]), seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_update__twin_and_unit_length(centroid_update: Any, labels: list[int], momentum: float, seed: int) -> None:
    centroids, hard = normalise(unit_rows(5, seed).double()), normalise(unit_rows(5, seed + 1).double())
    queries, classes = unit_rows(len(labels), seed + 2).double(), torch.tensor(labels, dtype=torch.int64)
    memory = ClusterMemory(centroids, hard, momentum=momentum, centroid_update=centroid_update)
    memory.update(queries, classes)
    expected = slow_update(centroids, hard, queries, classes, momentum, centroid_update)
    torch.testing.assert_close(memory.centroids, expected[0])
    torch.testing.assert_close(memory.hard, expected[1])
    for rows in (memory.centroids, memory.hard):
        torch.testing.assert_close(lengths(rows), torch.ones(5, dtype=torch.float64))


@given(labels=batches, seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_update__batch_mean_does_not_depend_on_the_order(labels: list[int], seed: int) -> None:
    # float64, so that a mean close to zero does not magnify the rounding.
    queries, classes = unit_rows(len(labels), seed).double(), torch.tensor(labels, dtype=torch.int64)
    shuffled = torch.randperm(len(labels), generator=generator(seed))
    ordered, other = ClusterMemory(unit_rows(5).double()), ClusterMemory(unit_rows(5).double())
    ordered.update(queries, classes)
    other.update(queries[shuffled], classes[shuffled])
    torch.testing.assert_close(ordered.centroids, other.centroids, rtol=0, atol=1e-6)
    torch.testing.assert_close(ordered.hard, other.hard, rtol=0, atol=1e-6)


def test_update__sample_by_sample_depends_on_the_order() -> None:
    queries, classes = torch.eye(2), torch.tensor([0, 0])
    memories = [ClusterMemory(torch.tensor([[1.0, 1.0]]), centroid_update="sample_by_sample") for _ in range(2)]
    memories[0].update(queries, classes)
    memories[1].update(queries.flip(0), classes)
    assert (memories[0].centroids - memories[1].centroids).abs().max() > 0.5


def test_update__by_hand() -> None:
    memory = ClusterMemory(torch.eye(2), momentum=0.5)
    memory.update(torch.tensor([[0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 0]))
    # Mean of the queries (0.4, 0.8), mixed half and half with (1, 0): (0.7, 0.4). Furthest from (1, 0) is (0, 1).
    torch.testing.assert_close(memory.centroids, torch.stack([unit_of([0.7, 0.4]), unit_of([0.0, 1.0])]))
    torch.testing.assert_close(memory.hard, torch.stack([unit_of([0.5, 0.5]), unit_of([0.0, 1.0])]))


def test_update__furthest_is_told_by_the_centroid_before_its_update() -> None:
    # After the update the centroid is near the second axis, and the first query would be the furthest.
    memory = ClusterMemory(torch.tensor([[1.0, 0.0, 0.0]]), momentum=0.0)
    queries = normalise(torch.tensor([[0.9, 0.0, 0.1], [0.0, 1.0, 0.1], [0.05, 1.0, 0.0]]))
    memory.update(queries, torch.tensor([0, 0, 0]))
    torch.testing.assert_close(memory.hard, queries[1:2])


@both_updates
def test_update__equal_queries_count_once_for_the_hard_row(centroid_update: Any) -> None:
    memory = ClusterMemory(torch.eye(2)[:1], momentum=0.5, centroid_update=centroid_update)
    memory.update(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    torch.testing.assert_close(memory.hard, unit_of([1.0, 1.0])[None])


@both_updates
def test_update__empty_batch_changes_nothing(centroid_update: Any) -> None:
    memory = ClusterMemory(unit_rows(3), centroid_update=centroid_update)
    before = memory.centroids.clone(), memory.hard.clone()
    memory.update(torch.zeros(0, WIDTH), torch.zeros(0, dtype=torch.int64))
    assert torch.equal(memory.centroids, before[0])
    assert torch.equal(memory.hard, before[1])


@both_updates
def test_update__absent_classes_keep_their_rows_to_the_bit(centroid_update: Any) -> None:
    memory = ClusterMemory(unit_rows(4), unit_rows(4, seed=1), centroid_update=centroid_update)
    before = memory.centroids.clone(), memory.hard.clone()
    memory.update(unit_rows(3, seed=2), torch.tensor([2, 2, 2]))
    for row in (0, 1, 3):
        assert torch.equal(memory.centroids[row], before[0][row])
        assert torch.equal(memory.hard[row], before[1][row])
    assert not torch.equal(memory.centroids[2], before[0][2])


def test_update__rows_that_cancel_give_zeros_not_nan_and_recover() -> None:
    memory = ClusterMemory(torch.tensor([[1.0, 0.0]]), momentum=0.5)
    memory.update(torch.tensor([[-1.0, 0.0]]), torch.tensor([0]))
    assert memory.centroids.tolist() == [[0.0, 0.0]]
    memory.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    torch.testing.assert_close(memory.centroids, torch.tensor([[0.0, 1.0]]))


def test_cluster_memory__mean_of_exactly_zero() -> None:
    means = cluster_means(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([0, 0]), 1)
    assert ClusterMemory(means).centroids.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("bad", [-1, 3, -100])
def test_update__class_missing_from_the_memory(bad: int) -> None:
    memory = ClusterMemory(unit_rows(3))
    before = memory.centroids.clone()
    with pytest.raises(ValueError, match=f"label {bad} is out of range, expected 0 to 2"):
        memory.update(unit_rows(2), torch.tensor([0, bad]))
    assert torch.equal(memory.centroids, before)


def test_update__bad_shapes() -> None:
    memory = ClusterMemory(unit_rows(3))
    with pytest.raises(ValueError, match="width 4, prototypes of width 6"):
        memory.update(unit_rows(2, width=4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"expected \(N, D\) and \(N,\)"):
        memory.update(unit_rows(2), torch.tensor([0]))


def test_cluster_memory__starts_at_unit_length_in_its_own_storage() -> None:
    given_rows = random_rows(3).requires_grad_()
    memory = ClusterMemory(given_rows)
    torch.testing.assert_close(memory.centroids, normalise(given_rows).detach())
    assert torch.equal(memory.hard, memory.centroids)
    memory.centroids.zero_()
    assert memory.hard.abs().sum() > 0
    assert given_rows.abs().sum() > 0


def test_cluster_memory__refusals() -> None:
    with pytest.raises(ValueError, match=r"expected \(C, D\)"):
        ClusterMemory(torch.zeros(3))
    with pytest.raises(ValueError, match=r"hard has shape \(2, 6\)"):
        ClusterMemory(unit_rows(3), unit_rows(2))
    with pytest.raises(ValueError, match=r"momentum is 1\.1"):
        ClusterMemory(unit_rows(3), momentum=1.1)
    with pytest.raises(ValueError, match="momentum is nan"):
        ClusterMemory(unit_rows(3), momentum=float("nan"))
    wrong: Any = "mean"
    with pytest.raises(ValueError, match="centroid_update is 'mean'"):
        ClusterMemory(unit_rows(3), centroid_update=wrong)


def test_cluster_memory__state_round_trip() -> None:
    memory, other = ClusterMemory(unit_rows(3)), ClusterMemory(unit_rows(3, seed=7))
    memory.update(unit_rows(4, seed=1), torch.tensor([0, 1, 1, 2]))
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.centroids, memory.centroids)
    assert torch.equal(other.hard, memory.hard)
    assert set(memory.state_dict()) == {"centroids", "hard"}
    assert list(memory.parameters()) == []


# ---- reading, for every memory


def read_centroid(queries: Tensor) -> tuple[Memory, Tensor]:
    memory = ClusterMemory(unit_rows(4), unit_rows(4, seed=1))
    return memory, memory.centroid_similarities(queries)


def read_hard(queries: Tensor) -> tuple[Memory, Tensor]:
    memory = ClusterMemory(unit_rows(4), unit_rows(4, seed=1))
    return memory, memory.hard_similarities(queries)


def read_dynamic(queries: Tensor) -> tuple[Memory, Tensor]:
    memory = DynamicMemory(unit_rows(12).view(4, 3, WIDTH))
    return memory, hardest_similarities(memory.similarities(queries), torch.tensor([3, 0, 0]))


def read_multi(queries: Tensor) -> tuple[Memory, Tensor]:
    memory = MultiMemory(unit_rows(9), torch.tensor([0, 0, 1, 2, 2, 2, 3, 3, 3]))
    return memory, memory.nearest_similarities(queries)


readers = pytest.mark.parametrize("read", [read_centroid, read_hard, read_dynamic, read_multi])


@readers
def test_reading__writes_nothing_and_the_query_gets_a_gradient(
    read: Callable[[Tensor], tuple[Memory, Tensor]],
) -> None:
    queries = unit_rows(3, seed=9).requires_grad_()
    memory, read_similarities = read(queries)
    before = {name: value.clone() for name, value in memory.state_dict().items()}
    torch.autograd.backward(contrast(read_similarities, torch.tensor([3, 0, 0]), 0.05).mean())
    assert queries.grad is not None
    assert (queries.grad.abs().sum(1) > 0).all()
    for name, value in memory.state_dict().items():
        assert torch.equal(value, before[name])
        assert not value.requires_grad


@readers
def test_reading__one_optimiser_step_moves_the_weight(
    read: Callable[[Tensor], tuple[Memory, Tensor]],
) -> None:
    encoder = torch.nn.Linear(WIDTH, WIDTH, bias=False)
    encoder.load_state_dict({"weight": torch.eye(WIDTH)})
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.1)
    before = encoder.weight.detach().clone()
    _, read_similarities = read(normalise(encoder(random_rows(3, seed=9))))
    first = contrast(read_similarities, torch.tensor([3, 0, 0]), 0.5).mean()
    torch.autograd.backward(first)
    optimiser.step()
    assert not torch.equal(encoder.weight, before)
    _, read_similarities = read(normalise(encoder(random_rows(3, seed=9))))
    assert contrast(read_similarities, torch.tensor([3, 0, 0]), 0.5).mean() < first


def test_reading__values() -> None:
    memory, queries = ClusterMemory(unit_rows(4), unit_rows(4, seed=1)), unit_rows(3, seed=9)
    dynamic = DynamicMemory(unit_rows(12).view(4, 3, WIDTH))
    for row, query in enumerate(queries):
        for cluster in range(4):
            assert float(memory.centroid_similarities(queries)[row, cluster]) == pytest.approx(
                float(query @ memory.centroids[cluster]), abs=1e-6
            )
            assert float(memory.hard_similarities(queries)[row, cluster]) == pytest.approx(
                float(query @ memory.hard[cluster]), abs=1e-6
            )
            for instance in range(3):
                assert float(dynamic.similarities(queries)[row, cluster, instance]) == pytest.approx(
                    float(query @ dynamic.instances[cluster, instance]), abs=1e-6
                )


def test_reading__float32_under_autocast() -> None:
    memory, queries = ClusterMemory(unit_rows(4, width=64)), unit_rows(3, seed=9, width=64)
    memory_before = memory.centroids.clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (queries @ memory.centroids.T).dtype == torch.bfloat16  # autocast is on here
        inside = memory.centroid_similarities(queries)
        memory.update(queries.bfloat16(), torch.tensor([0, 1, 2]))
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, queries @ memory_before.T, rtol=0, atol=1e-6)
    assert memory.centroids.dtype == torch.float32


def test_update__autograd_does_not_follow() -> None:
    memory, dynamic = ClusterMemory(unit_rows(3)), DynamicMemory(unit_rows(6).view(3, 2, WIDTH))
    queries = unit_rows(3, seed=2).requires_grad_()
    memory.update(queries, torch.tensor([0, 1, 2]))
    dynamic.update(queries, torch.tensor([0, 1, 2]), generator())
    for value in (memory.centroids, memory.hard, dynamic.instances):
        assert not value.requires_grad


def test_update__between_forward_and_backward_is_refused_by_autograd() -> None:
    memory, queries = ClusterMemory(unit_rows(3)), unit_rows(2, seed=1).requires_grad_()
    loss = memory.centroid_similarities(queries).sum()
    memory.update(queries, torch.tensor([0, 1]))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.backward(loss)


# ---- dynamic memory


def test_dynamic_memory__draw() -> None:
    labels, features = torch.tensor([0, 1, -1, 1, 0]), random_rows(5)
    memory = DynamicMemory.draw(features, labels, 2, 7, generator(4))
    assert (memory.num_clusters, memory.num_instances) == (2, 7)
    expected = normalise(features)[draw_members(labels, 2, 7, generator(4))]
    torch.testing.assert_close(memory.instances, expected)


@given(labels=batches, seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_dynamic_update__every_slot_holds_a_query_of_its_class(labels: list[int], seed: int) -> None:
    memory = DynamicMemory(unit_rows(15, seed).view(5, 3, WIDTH))
    before = memory.instances.clone()
    queries, classes = unit_rows(len(labels), seed + 1), torch.tensor(labels, dtype=torch.int64)
    memory.update(queries, classes, generator(seed))
    for cluster in range(5):
        if cluster not in labels:
            assert torch.equal(memory.instances[cluster], before[cluster])
            continue
        for row in memory.instances[cluster]:
            nearest = (queries[classes == cluster] - row).abs().amax(1).min()
            assert nearest < 1e-6
    torch.testing.assert_close(lengths(memory.instances), torch.ones(5, 3), rtol=0, atol=1e-5)


def test_dynamic_update__all_members_are_drawn_in_time() -> None:
    memory, queries = DynamicMemory(unit_rows(64).view(1, 64, WIDTH)), unit_rows(4, seed=1)
    memory.update(queries, torch.zeros(4, dtype=torch.int64), generator())
    drawn = torch.cdist(memory.instances[0], queries).argmin(1)
    assert sorted(set(drawn.tolist())) == [0, 1, 2, 3]


def test_dynamic_redraw__from_all_members_and_differs_by_generator() -> None:
    labels, features = torch.tensor([0] * 20 + [-1] + [1] * 20), random_rows(41)
    memory = DynamicMemory(unit_rows(16).view(2, 8, WIDTH))
    memory.redraw(features, labels, generator(1))
    first = memory.instances.clone()
    torch.testing.assert_close(first, normalise(features)[draw_members(labels, 2, 8, generator(1))])
    memory.redraw(features, labels, generator(2))
    assert not torch.equal(memory.instances, first)


def test_dynamic_replace__by_hand() -> None:
    memory = DynamicMemory(torch.eye(2).repeat(3, 1, 1))
    memory.replace(torch.tensor([2, 0]), torch.tensor([[[3.0, 0.0], [3.0, 0.0]], [[0.0, 2.0], [0.0, 2.0]]]))
    assert memory.instances.tolist() == [[[0.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]]


def test_dynamic_memory__refusals() -> None:
    with pytest.raises(ValueError, match=r"expected \(C, K, D\)"):
        DynamicMemory(unit_rows(3))
    with pytest.raises(ValueError, match="K of at least 1"):
        DynamicMemory(torch.zeros(3, 0, WIDTH))
    memory = DynamicMemory(unit_rows(6).view(3, 2, WIDTH))
    with pytest.raises(ValueError, match="label 3 is out of range, expected 0 to 2"):
        memory.update(unit_rows(1), torch.tensor([3]), generator())
    with pytest.raises(ValueError, match="label -1 is out of range"):
        memory.update(unit_rows(1), torch.tensor([-1]), generator())
    with pytest.raises(ValueError, match="cluster 2 of 3 has no member"):
        memory.redraw(unit_rows(2), torch.tensor([0, 1]), generator())
    with pytest.raises(ValueError, match=r"rows have shape \(1, 6\), expected \(1, 2, 6\)"):
        memory.replace(torch.tensor([0]), unit_rows(1))
    with pytest.raises(ValueError, match=r"expected \(N, D\) and \(N,\)"):
        DynamicMemory.draw(unit_rows(2), torch.tensor([0]), 1, 2, generator())


# ---- multi memory

owner_lists = st.lists(st.integers(0, 3), min_size=0, max_size=8).map(lambda more: [*range(4), *more])


def by_owner(rows: Tensor, owners: list[int]) -> dict[int, list[Tensor]]:
    parts: dict[int, list[Tensor]] = {}
    for row, owner in zip(rows, owners, strict=True):
        parts.setdefault(owner, []).append(row)
    return parts


@given(
    owners=owner_lists,
    count=st.integers(0, 12),
    momentum=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    seed=st.integers(0, 999),
)
@settings(max_examples=40, deadline=None)
def test_multi_memory__twin(owners: list[int], count: int, momentum: float, seed: int) -> None:
    rows, queries = normalise(random_rows(len(owners), seed).double()), normalise(random_rows(count, seed + 1).double())
    labels = torch.randint(0, 4, (count,), generator=generator(seed))
    memory, parts = MultiMemory(rows, torch.tensor(owners), momentum=momentum), by_owner(rows, owners)
    assert memory.num_clusters == 4
    all_similarities = memory.similarities(queries)
    for row, query in enumerate(queries):
        for cluster, mine in parts.items():
            expected = [float(query @ part) for part in mine]
            found = all_similarities[row, cluster].tolist()
            assert found[: len(mine)] == pytest.approx(expected)
            assert found[len(mine) :] == [-float("inf")] * (len(found) - len(mine))
        assert memory.nearest_similarities(queries)[row].tolist() == pytest.approx(slow_nearest(parts, query))
    memory.update(queries, labels)
    for cluster, mine in slow_multi_update(parts, queries, labels, momentum).items():
        torch.testing.assert_close(memory.prototypes[cluster, : len(mine)], torch.stack(mine))
        assert not memory.prototypes[cluster, len(mine) :].any()


@given(count=st.integers(0, 12), seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_multi_memory__with_one_part_each_it_is_a_memory_of_centroids(count: int, seed: int) -> None:
    rows, queries = random_rows(4, seed), unit_rows(count, seed + 1)
    labels = torch.randint(0, 4, (count,), generator=generator(seed))
    multi, centroids = MultiMemory(rows, torch.arange(4), momentum=0.3), ClusterMemory(rows, momentum=0.3)
    for _ in range(2):
        assert torch.equal(multi.nearest_similarities(queries), centroids.centroid_similarities(queries))
        multi.update(queries, labels)
        centroids.update(queries, labels)
        assert torch.equal(multi.prototypes[:, 0], centroids.centroids)


def test_multi_memory__gradient_comes_from_the_nearest_parts_alone() -> None:
    rows, owners = unit_rows(5), [0, 0, 1, 1, 1]
    queries, labels = unit_rows(3, seed=9).requires_grad_(), torch.tensor([0, 1, 1])
    memory = MultiMemory(rows, torch.tensor(owners))
    torch.autograd.backward(contrast(memory.nearest_similarities(queries), labels, 0.2).sum())
    assert queries.grad is not None
    for query, label, gradient in zip(queries.detach(), labels.tolist(), queries.grad, strict=True):
        nearest = [max(mine, key=lambda part: float(query @ part)) for mine in by_owner(rows, owners).values()]
        shares = torch.stack([query @ part for part in nearest]).div(0.2).softmax(0)
        expected = sum((share * part for share, part in zip(shares, nearest, strict=True)), -nearest[label]) / 0.2
        torch.testing.assert_close(gradient, expected)


def test_multi_memory__by_hand_each_view_moves_its_own_part() -> None:
    memory = MultiMemory(torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]), torch.tensor([0, 0, 1]), momentum=0.5)
    memory.update(torch.tensor([[0.6, 0.0, 0.8], [0.8, 0.6, 0.0]]), torch.tensor([0, 0]))
    # Both are nearest to the first part, whatever the other cluster's; their mean is (0.7, 0.3, 0.4).
    expected = torch.stack([unit_of([0.85, 0.15, 0.2]), unit_of([0.0, 1.0, 0.0])])
    torch.testing.assert_close(memory.prototypes[0], expected)
    assert memory.prototypes[1].tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_multi_memory__equal_parts_a_batch_of_none_and_parts_that_cancel() -> None:
    memory = MultiMemory(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0]), momentum=0.5)
    memory.update(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    assert memory.prototypes.tolist() == [[[1.0, 0.0], [1.0, 0.0]]]
    memory.update(torch.tensor([[-1.0, 0.0]]), torch.tensor([0]))  # of equals the earlier one moves
    assert memory.prototypes.tolist() == [[[0.0, 0.0], [1.0, 0.0]]]


def test_multi_memory__owners_in_any_order_and_no_cluster_at_all() -> None:
    rows = unit_rows(4)
    memory = MultiMemory(rows, torch.tensor([1, 0, 1, 1]))
    torch.testing.assert_close(memory.prototypes[1], rows[[0, 2, 3]])
    assert memory.present.tolist() == [[True, False, False], [True, True, True]]
    empty = MultiMemory(rows[:0], torch.zeros(0, dtype=torch.int64))
    assert empty.num_clusters == 0


def test_multi_memory__float32_under_autocast() -> None:
    memory, queries = MultiMemory(unit_rows(4, width=64), torch.tensor([0, 0, 1, 2])), unit_rows(3, seed=9, width=64)
    outside = memory.nearest_similarities(queries)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = memory.nearest_similarities(queries)
        memory.update(queries.bfloat16(), torch.tensor([0, 1, 2]))
    assert inside.dtype == memory.prototypes.dtype == torch.float32
    torch.testing.assert_close(inside, outside, rtol=0, atol=1e-6)


def test_multi_memory__update_is_refused_between_forward_and_backward_and_not_followed() -> None:
    memory, queries = MultiMemory(unit_rows(3), torch.tensor([0, 0, 1])), unit_rows(2, seed=1).requires_grad_()
    loss = memory.nearest_similarities(queries).sum()
    memory.update(queries, torch.tensor([0, 1]))
    assert not memory.prototypes.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.backward(loss)


def test_multi_memory__refusals() -> None:
    with pytest.raises(ValueError, match="cluster 1 of 3 has no member"):
        MultiMemory(unit_rows(2), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="label -1 is out of range"):
        MultiMemory(unit_rows(2), torch.tensor([0, -1]))
    with pytest.raises(ValueError, match=r"expected \(N, D\) and \(N,\)"):
        MultiMemory(unit_rows(2), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"momentum is -0\.1"):
        MultiMemory(unit_rows(1), torch.tensor([0]), momentum=-0.1)
    memory = MultiMemory(unit_rows(3), torch.tensor([0, 0, 1]))
    with pytest.raises(ValueError, match="label 2 is out of range, expected 0 to 1"):
        memory.update(unit_rows(1), torch.tensor([2]))
    with pytest.raises(ValueError, match="width 4, prototypes of width 6"):
        memory.update(unit_rows(1, width=4), torch.tensor([0]))


def test_normalise__zero_row_and_half_precision() -> None:
    assert normalise(torch.zeros(1, 3)).tolist() == [[0.0, 0.0, 0.0]]
    assert normalise(torch.ones(1, 4, dtype=torch.bfloat16)).dtype == torch.float32
    assert normalise(torch.ones(1, 4, dtype=torch.float64)).tolist() == [[0.5, 0.5, 0.5, 0.5]]
