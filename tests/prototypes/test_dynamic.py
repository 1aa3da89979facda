"""The memory of drawn instances."""

from __future__ import annotations

import pytest
import torch

from pclhd.prototypes import (
    DynamicMemory,
    draw_members,
    normalise,
)
from tests.prototypes.drawing import WIDTH, generator, random_rows, unit_rows


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
        memory.replace(torch.tensor([3]), unit_rows(2).view(1, 2, WIDTH))
    with pytest.raises(ValueError, match="label -1 is out of range"):
        memory.replace(torch.tensor([-1]), unit_rows(2).view(1, 2, WIDTH))
    with pytest.raises(ValueError, match="cluster 2 of 3 has no member"):
        memory.redraw(unit_rows(2), torch.tensor([0, 1]), generator())
    with pytest.raises(ValueError, match=r"rows have shape \(1, 6\), expected \(1, 2, 6\)"):
        memory.replace(torch.tensor([0]), unit_rows(1))
    with pytest.raises(ValueError, match=r"expected \(N, D\) and \(N,\)"):
        memory.redraw(unit_rows(2), torch.tensor([0]), generator())


def test_dynamic_refresh__from_the_batch_and_only_its_classes() -> None:
    memory = DynamicMemory(unit_rows(12).view(4, 3, WIDTH))
    before = memory.instances.clone()
    queries, labels = random_rows(7, 5), torch.tensor([3, 1, 1, 3, 3, 1, 1])
    memory.refresh(queries, labels, generator(1))
    assert torch.equal(memory.instances[[0, 2]], before[[0, 2]])
    for cluster in (1, 3):
        members = normalise(queries[labels == cluster])
        for instance in memory.instances[cluster]:
            assert min(float((instance - member).abs().max()) for member in members) < 1e-6
    again = DynamicMemory(before)
    again.refresh(queries, labels, generator(1))
    assert torch.equal(again.instances, memory.instances)
    again.refresh(queries, labels, generator(2))
    assert not torch.equal(again.instances, memory.instances)


def test_dynamic_refresh__nothing_and_refusals() -> None:
    memory = DynamicMemory(unit_rows(6).view(3, 2, WIDTH))
    before = memory.instances.clone()
    memory.refresh(random_rows(0), torch.zeros(0, dtype=torch.int64), generator())
    assert torch.equal(memory.instances, before)
    with pytest.raises(ValueError, match="label 3 is out of range"):
        memory.refresh(random_rows(1), torch.tensor([3]), generator())
