"""Reading is the same for every memory: nothing is written, and queries get a gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pclhd.losses import contrast, hardest_similarities
from pclhd.prototypes import (
    ClusterMemory,
    DynamicMemory,
    MultiMemory,
    normalise,
)
from tests.prototypes.drawing import WIDTH, random_rows, unit_rows

Memory = ClusterMemory | DynamicMemory | MultiMemory


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
    memory = ClusterMemory(unit_rows(3))
    queries = unit_rows(3, seed=2).requires_grad_()
    memory.update(queries, torch.tensor([0, 1, 2]))
    for value in (memory.centroids, memory.hard):
        assert not value.requires_grad


def test_update__between_forward_and_backward_is_refused_by_autograd() -> None:
    memory, queries = ClusterMemory(unit_rows(3)), unit_rows(2, seed=1).requires_grad_()
    loss = memory.centroid_similarities(queries).sum()
    memory.update(queries, torch.tensor([0, 1]))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.backward(loss)
