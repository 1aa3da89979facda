"""The memory of centroids and hard prototypes against a slow twin."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pclhd.prototypes import (
    ClusterMemory,
    cluster_means,
    normalise,
)
from tests.prototypes.drawing import WIDTH, generator, lengths, random_rows, unit, unit_of, unit_rows


def slow_update(
    centroids: Tensor, hard: Tensor, queries: Tensor, labels: Tensor, momentum: float, centroid_update: str, k: int = 1
) -> tuple[Tensor, Tensor]:
    new_centroids, new_hard = centroids.clone(), hard.clone()
    for cluster in range(len(centroids)):
        rows = [query for query, label in zip(queries, labels, strict=True) if label == cluster]
        if not rows:
            continue
        furthest = sorted(rows, key=lambda row: float(row @ centroids[cluster]))[:k]
        new_hard[cluster] = unit(momentum * hard[cluster] + (1 - momentum) * torch.stack(furthest).mean(0))
        if centroid_update == "batch_mean":
            mean = torch.stack(rows).mean(0)
            new_centroids[cluster] = unit(momentum * centroids[cluster] + (1 - momentum) * mean)
        else:
            for row in rows:
                new_centroids[cluster] = unit(momentum * new_centroids[cluster] + (1 - momentum) * row)
    return new_centroids, new_hard


batches = st.lists(st.integers(0, 4), min_size=0, max_size=24)
both_updates = pytest.mark.parametrize("centroid_update", ["batch_mean", "sample_by_sample"])


@both_updates
@given(
    labels=batches,
    momentum=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    k=st.sampled_from([1, 1, 2, 3, 50]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=30, deadline=None)
def test_update__twin_and_unit_length(
    centroid_update: Any, labels: list[int], momentum: float, k: int, seed: int
) -> None:
    centroids, hard = normalise(unit_rows(5, seed).double()), normalise(unit_rows(5, seed + 1).double())
    queries, classes = unit_rows(len(labels), seed + 2).double(), torch.tensor(labels, dtype=torch.int64)
    memory = ClusterMemory(centroids, hard, momentum=momentum, centroid_update=centroid_update, hard_samples=k)
    memory.update(queries, classes)
    expected = slow_update(centroids, hard, queries, classes, momentum, centroid_update, k)
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


def test_update__furthest_is_chosen_by_the_centroid_before_its_update() -> None:
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


def test_an_update_needs_a_query() -> None:
    with pytest.raises(ValueError, match="hard_samples is 0"):
        ClusterMemory(unit_rows(2), hard_samples=0)
