"""The memory of several prototypes per cluster against a slow twin."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pclhd.losses import contrast
from pclhd.prototypes import (
    ClusterMemory,
    MultiMemory,
    normalise,
)
from tests.prototypes.drawing import generator, random_rows, unit, unit_of, unit_rows


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
