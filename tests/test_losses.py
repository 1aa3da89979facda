"""Losses against slow twins written from the formula, by value and by gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pclhd.losses import contrast, hardest_similarities, mean_over, released_hybrid


def random_values(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64) * 2 - 1


def slow_contrast(similarities: Tensor, labels: Tensor, temperature: float) -> list[float]:
    values = []
    for row, label in zip(similarities.tolist(), labels.tolist(), strict=True):
        total = sum(math.exp(value / temperature) for value in row)
        values.append(-math.log(math.exp(row[label] / temperature) / total))
    return values


def slow_hardest(similarities: Tensor, labels: Tensor) -> list[list[float]]:
    return [
        [min(slots) if cluster == label else max(slots) for cluster, slots in enumerate(row)]
        for row, label in zip(similarities.tolist(), labels.tolist(), strict=True)
    ]


# ---- mean_over


def test_mean_over__by_hand_whatever_the_scale() -> None:
    values, confidence = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.5, 0.25, 0.25])
    assert float(mean_over(values)) == 3.0
    assert float(mean_over(values, confidence)) == 2.5
    assert float(mean_over(values, 4 * confidence)) == 2.5
    assert float(mean_over(values, torch.ones(3))) == pytest.approx(3.0)


def test_mean_over__no_confidence_at_all_counts_all_alike() -> None:
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    mean = mean_over(values, torch.zeros(3))
    (gradient,) = torch.autograd.grad(mean, values)
    assert float(mean.detach()) == pytest.approx(3.0)
    assert gradient.tolist() == pytest.approx([1 / 3] * 3)


def test_mean_over__one_confidence_a_query() -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\), expected \(3,\)"):
        mean_over(torch.ones(3), torch.ones(2))


def test_released_hybrid__confidence_counts_in_both_means() -> None:
    centroid, hard = random_values(4, 3, seed=1), random_values(4, 3, seed=2)
    labels, confidence = torch.tensor([0, 1, 2, 0]), torch.tensor([0.0, 3.0, 1.0, 0.0], dtype=torch.float64)
    found = released_hybrid(centroid, hard, labels, 0.5, confidence=confidence)
    means = [
        (3 * values[1] + values[2]) / 4
        for values in (slow_contrast(similarities, labels, 0.5) for similarities in (centroid, hard))
    ]
    assert float(found) == pytest.approx(0.5 * (means[1] + max(means[0] - 0.2, 0)))


# ---- contrast


@given(
    labels=st.lists(st.integers(0, 4), min_size=0, max_size=12),
    temperature=st.sampled_from([0.05, 0.07, 0.5, 1.0]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=30, deadline=None)
def test_contrast__twin(labels: list[int], temperature: float, seed: int) -> None:
    similarities, classes = random_values(len(labels), 5, seed=seed), torch.tensor(labels, dtype=torch.int64)
    values = contrast(similarities, classes, temperature)
    assert values.shape == (len(labels),)
    assert values.tolist() == pytest.approx(slow_contrast(similarities, classes, temperature), rel=1e-6, abs=1e-9)


def test_contrast__by_hand() -> None:
    values = contrast(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([0, 1]), 1.0)
    assert values.tolist() == pytest.approx([math.log(2), 1 + math.log(1 + math.exp(-1))])


def test_contrast__one_cluster_costs_nothing() -> None:
    similarities = torch.tensor([[0.3], [-0.9]], requires_grad=True)
    values = contrast(similarities, torch.tensor([0, 0]), 0.05)
    assert values.tolist() == [0.0, 0.0]
    torch.autograd.backward(values.sum())
    assert similarities.grad is not None
    assert similarities.grad.abs().sum() == 0


def test_contrast__empty_batch() -> None:
    assert contrast(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 0.05).shape == (0,)


def test_contrast__extreme_similarities_stay_finite() -> None:
    values = contrast(torch.tensor([[-1.0, 1.0]]), torch.tensor([0]), 1e-3)
    assert values.tolist() == pytest.approx([2000.0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_contrast__half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    similarities, labels = random_values(6, 5).to(dtype), torch.tensor([0, 1, 2, 3, 4, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = contrast(similarities, labels, 0.05)
    assert values.dtype == torch.float32
    assert values.tolist() == pytest.approx(slow_contrast(similarities, labels, 0.05), rel=1e-5, abs=1e-6)


def test_contrast__gradient_is_softmax_minus_one_hot() -> None:
    similarities, labels, temperature = random_values(4, 5).requires_grad_(), torch.tensor([0, 3, 3, 4]), 0.1
    torch.autograd.backward(contrast(similarities, labels, temperature).sum())
    expected = (similarities.detach() / temperature).softmax(1)
    for row, label in enumerate(labels.tolist()):
        expected[row, label] -= 1.0
    torch.testing.assert_close(similarities.grad, expected / temperature)


def test_contrast__gradcheck() -> None:
    labels = torch.tensor([0, 2, 1])
    similarities = random_values(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: contrast(values, labels, 0.2), similarities)


def test_contrast__refusals() -> None:
    similarities, labels = torch.zeros(2, 3), torch.tensor([0, 1])
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="temperature"):
            contrast(similarities, labels, temperature)
    with pytest.raises(ValueError, match=r"labels of shape \(1,\)"):
        contrast(similarities, labels[:1], 0.05)
    with pytest.raises(ValueError, match=r"expected \(B, C\)"):
        contrast(similarities[0], labels, 0.05)


@pytest.mark.parametrize("bad", [-1, 3, -100])
def test_contrast__label_outside_is_never_ignored(bad: int) -> None:
    # torch's own cross-entropy gives 0 for a label of −100.
    with pytest.raises((RuntimeError, IndexError)):
        contrast(torch.zeros(1, 3), torch.tensor([bad]), 0.05)


# ---- hardest similarities


@given(
    labels=st.lists(st.integers(0, 3), min_size=0, max_size=8),
    instances=st.integers(1, 5),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=30, deadline=None)
def test_hardest__twin(labels: list[int], instances: int, seed: int) -> None:
    similarities, classes = random_values(len(labels), 4, instances, seed=seed), torch.tensor(labels, dtype=torch.int64)
    assert hardest_similarities(similarities, classes).tolist() == slow_hardest(similarities, classes)


def test_hardest__one_instance_is_the_plain_contrast() -> None:
    similarities, labels = random_values(3, 4, 1), torch.tensor([0, 3, 1])
    assert torch.equal(hardest_similarities(similarities, labels), similarities.squeeze(2))


def test_hardest__gradient_reaches_the_chosen_slots_only() -> None:
    similarities = torch.tensor([[[0.1, 0.7], [0.9, 0.2]]], requires_grad=True)
    torch.autograd.backward(hardest_similarities(similarities, torch.tensor([0])).sum())
    assert similarities.grad is not None
    assert similarities.grad.tolist() == [[[1.0, 0.0], [1.0, 0.0]]]


def test_hardest__never_easier_than_any_single_draw() -> None:
    similarities, labels = random_values(6, 4, 5), torch.tensor([0, 1, 2, 3, 0, 1])
    hardest = contrast(hardest_similarities(similarities, labels), labels, 0.1)
    for instance in range(5):
        assert (hardest >= contrast(similarities[:, :, instance], labels, 0.1) - 1e-12).all()


def test_hardest__refusals() -> None:
    with pytest.raises(ValueError, match=r"expected \(B, C, K\)"):
        hardest_similarities(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"labels of shape \(1,\)"):
        hardest_similarities(torch.zeros(2, 3, 4), torch.tensor([0]))


# ---- the released hybrid


def slow_hybrid(centroid: Tensor, hard: Tensor, labels: Tensor, temperature: float, margin: float) -> float:
    means = [sum(slow_contrast(values, labels, temperature)) / len(labels) for values in (hard, centroid)]
    return 0.5 * (means[0] + max(means[1] - margin, 0.0))


@pytest.mark.parametrize("margin", [0.0, 0.2, 50.0])
def test_released_hybrid__twin(margin: float) -> None:
    centroid, hard, labels = random_values(4, 5), random_values(4, 5, seed=1), torch.tensor([0, 1, 1, 4])
    value = float(released_hybrid(centroid, hard, labels, 0.1, margin))
    assert value == pytest.approx(slow_hybrid(centroid, hard, labels, 0.1, margin))


def test_released_hybrid__margin_is_0_2_and_taken_on_the_mean() -> None:
    # One easy and one difficult query: per sample the easy one would be cut off, but the mean is not.
    centroid = torch.tensor([[9.0, 0.0], [0.0, 1.0]])
    labels, hard = torch.tensor([0, 0]), torch.zeros(2, 2)
    mean = sum(slow_contrast(centroid, labels, 1.0)) / 2
    assert float(released_hybrid(centroid, hard, labels, 1.0)) == pytest.approx(0.5 * (math.log(2) + mean - 0.2))


def test_released_hybrid__no_centroid_gradient_below_the_margin() -> None:
    centroid = torch.tensor([[5.0, 0.0]], requires_grad=True)
    hard = torch.tensor([[0.5, 0.0]], requires_grad=True)
    torch.autograd.backward(released_hybrid(centroid, hard, torch.tensor([0]), 1.0))
    assert centroid.grad is not None
    assert hard.grad is not None
    assert centroid.grad.abs().sum() == 0
    assert hard.grad.abs().sum() > 0


def test_released_hybrid__empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="0 queries"):
        released_hybrid(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 0.05)
