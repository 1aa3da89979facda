"""The memory that is written in the backward pass: where it equals the explicit one, and where it differs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pclhd.losses import contrast, released_hybrid
from pclhd.prototypes import CentroidUpdate, ClusterMemory, coupled_similarities, normalise

CLUSTERS, WIDTH, TEMPERATURE = 4, 6, 0.2
LABELS_A = torch.tensor([0, 1, 1, 2, 0])
LABELS_B = torch.tensor([1, 1, 3, 0, 0])

both_updates = pytest.mark.parametrize("centroid_update", ["batch_mean", "sample_by_sample"])


def rows(count: int, seed: int) -> Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def memory_of(centroid_update: CentroidUpdate = "batch_mean") -> ClusterMemory:
    return ClusterMemory(rows(CLUSTERS, 0), rows(CLUSTERS, 1), momentum=0.3, centroid_update=centroid_update)


def hybrid_loss(memory: ClusterMemory, queries: Tensor, labels: Tensor) -> Tensor:
    return released_hybrid(*coupled_similarities(memory, queries, labels, "hybrid"), labels, TEMPERATURE, margin=0.01)


def explicit_hybrid_loss(memory: ClusterMemory, queries: Tensor, labels: Tensor) -> Tensor:
    centroid, hard = memory.centroid_similarities(queries), memory.hard_similarities(queries)
    return released_hybrid(centroid, hard, labels, TEMPERATURE, margin=0.01)


def gradient(leaf: Tensor) -> Tensor:
    if leaf.grad is None:
        raise AssertionError("no gradient reached the queries")
    return leaf.grad


def queries_of(count: int, seed: int) -> Tensor:
    return normalise(rows(count, seed)).requires_grad_()


@both_updates
def test_single_use__equals_the_explicit_update(centroid_update: Any) -> None:
    coupled, explicit = memory_of(centroid_update), memory_of(centroid_update)
    ours, theirs = queries_of(5, 2), queries_of(5, 2)
    torch.autograd.backward(hybrid_loss(coupled, theirs, LABELS_A))
    torch.autograd.backward(explicit_hybrid_loss(explicit, ours, LABELS_A))
    torch.testing.assert_close(gradient(theirs), gradient(ours))
    assert not torch.equal(coupled.centroids, explicit.centroids)
    explicit.update(ours, LABELS_A)
    torch.testing.assert_close(coupled.centroids, explicit.centroids)
    torch.testing.assert_close(coupled.hard, explicit.hard)


def test_centroid_only__value_and_gradient() -> None:
    coupled, explicit = memory_of(), memory_of()
    ours, theirs = queries_of(5, 2), queries_of(5, 2)
    read = coupled_similarities(coupled, theirs, LABELS_A, "centroid")
    assert torch.equal(read, explicit.centroid_similarities(ours))
    torch.autograd.backward(contrast(read, LABELS_A, TEMPERATURE).mean())
    torch.autograd.backward(contrast(explicit.centroid_similarities(ours), LABELS_A, TEMPERATURE).mean())
    torch.testing.assert_close(gradient(theirs), gradient(ours))


def test_forward__writes_nothing() -> None:
    memory = memory_of()
    before = memory.centroids.clone(), memory.hard.clone()
    hybrid_loss(memory, queries_of(5, 2), LABELS_A)
    assert torch.equal(memory.centroids, before[0])
    assert torch.equal(memory.hard, before[1])


def test_queries_without_gradient__never_refresh_the_memory() -> None:
    memory = memory_of()
    before = memory.centroids.clone()
    loss = hybrid_loss(memory, queries_of(5, 2).detach(), LABELS_A)
    assert not loss.requires_grad
    assert torch.equal(memory.centroids, before)


def test_two_passes_one_backward__slow_twin() -> None:
    """The later pass first; the earlier one's score gradient is multiplied by rows that have already moved."""
    memory, twin = memory_of(), memory_of()
    a, b = queries_of(5, 2), queries_of(5, 3)
    torch.autograd.backward(hybrid_loss(memory, a, LABELS_A) + 0.25 * hybrid_loss(memory, b, LABELS_B))

    def score_gradients(queries: Tensor, labels: Tensor, weight: float) -> list[Tensor]:
        scores = [
            twin.centroid_similarities(queries).detach().requires_grad_(),
            twin.hard_similarities(queries).detach().requires_grad_(),
        ]
        torch.autograd.backward(weight * released_hybrid(scores[0], scores[1], labels, TEMPERATURE, margin=0.01))
        return [gradient(score) for score in scores]

    of_a, of_b = score_gradients(a, LABELS_A, 1.0), score_gradients(b, LABELS_B, 0.25)
    expected_b = of_b[0] @ twin.centroids + of_b[1] @ twin.hard
    twin.update(b, LABELS_B)
    expected_a = of_a[0] @ twin.centroids + of_a[1] @ twin.hard
    twin.update(a, LABELS_A)

    torch.testing.assert_close(gradient(b), expected_b)
    torch.testing.assert_close(gradient(a), expected_a)
    torch.testing.assert_close(memory.centroids, twin.centroids)
    torch.testing.assert_close(memory.hard, twin.hard)


def test_two_passes_one_backward__the_earlier_gradient_is_wrong_there_and_right_here() -> None:
    coupled, explicit = memory_of(), memory_of()
    theirs_a, ours_a = queries_of(5, 2), queries_of(5, 2)
    torch.autograd.backward(
        hybrid_loss(coupled, theirs_a, LABELS_A) + 0.25 * hybrid_loss(coupled, queries_of(5, 3), LABELS_B)
    )
    torch.autograd.backward(
        explicit_hybrid_loss(explicit, ours_a, LABELS_A)
        + 0.25 * explicit_hybrid_loss(explicit, queries_of(5, 3), LABELS_B)
    )
    assert (gradient(theirs_a) - gradient(ours_a)).norm() > 0.1 * gradient(ours_a).norm()

    def loss_of(queries: Tensor) -> Tensor:
        return explicit_hybrid_loss(explicit, queries, LABELS_A)

    assert torch.autograd.gradcheck(loss_of, ours_a)


def test_class_missing_from_the_memory__refused_in_backward() -> None:
    memory = memory_of()
    loss = coupled_similarities(memory, queries_of(1, 2), torch.tensor([CLUSTERS]), "centroid").sum()
    with pytest.raises(ValueError, match="label 4 is out of range"):
        torch.autograd.backward(loss)


def test_half_precision_queries__float32_similarities_and_a_gradient_of_their_type() -> None:
    memory = ClusterMemory(rows(CLUSTERS, 0).float())
    queries = queries_of(5, 2).detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = hybrid_loss(memory, queries, LABELS_A)
    assert loss.dtype == torch.float32
    torch.autograd.backward(loss)
    assert gradient(queries).dtype == torch.bfloat16
    assert memory.centroids.dtype == torch.float32


def test_an_optimiser_step__moves_a_weight() -> None:
    encoder = torch.nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.float64)
    encoder.load_state_dict({"weight": torch.eye(WIDTH)})
    before = encoder.weight.detach().clone()
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.1)
    torch.autograd.backward(hybrid_loss(memory_of(), normalise(encoder(rows(5, 2))), LABELS_A))
    optimiser.step()
    assert not torch.equal(encoder.weight, before)


def test_unknown_choice__refused() -> None:
    wrong: Any = "hard"
    with pytest.raises(ValueError, match="which is 'hard'"):
        coupled_similarities(memory_of(), queries_of(5, 2), LABELS_A, wrong)
