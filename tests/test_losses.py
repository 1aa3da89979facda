"""Losses against slow twins written from the formula, by value and by gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pclhd.losses import (
    contrast,
    hardest_of_several,
    hardest_similarities,
    mean_over,
    prototype_distillation,
    released_hybrid,
    shared_contrast,
)
from pclhd.pair import Pair


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


# ---- shared_contrast


def slow_shared(similarities: Tensor, positives: Tensor, temperature: float, negatives: int | None) -> list[float]:
    values = []
    for row, mine in zip(similarities.tolist(), positives.tolist(), strict=True):
        own = [value for value, belongs in zip(row, mine, strict=True) if belongs]
        others = sorted((value for value, belongs in zip(row, mine, strict=True) if not belongs), reverse=True)
        counted = own + others[: len(others) if negatives is None else negatives]
        total = sum(math.exp(value / temperature) for value in counted)
        values.append(sum(-math.log(math.exp(value / temperature) / total) for value in own) / len(own))
    return values


@settings(max_examples=40, deadline=None)
@given(
    queries=st.integers(1, 6),
    clusters=st.integers(1, 7),
    negatives=st.one_of(st.none(), st.integers(1, 9)),
    seed=st.integers(0, 10_000),
)
def test_shared_contrast__twin_and_gradient(queries: int, clusters: int, negatives: int | None, seed: int) -> None:
    values = random_values(queries, clusters, seed=seed).requires_grad_()
    positives = random_values(queries, clusters, seed=seed + 1) > 0
    positives[torch.arange(queries), torch.arange(queries) % clusters] = True
    found = shared_contrast(values, positives, 0.3, negatives=negatives)
    assert found.tolist() == pytest.approx(slow_shared(values.detach(), positives, 0.3, negatives))
    assert bool((found.detach() >= positives.sum(1).double().log() - 1e-9).all())
    (gradient,) = torch.autograd.grad(found.sum(), [values])
    # Shares sum to one, so a query's gradients sum to zero; what is not counted has none.
    torch.testing.assert_close(gradient.sum(1), torch.zeros(queries, dtype=torch.float64))
    if negatives is not None:
        assert int(((gradient != 0) & ~positives).sum(1).max()) <= negatives


def test_shared_contrast__with_one_positive_is_the_contrast() -> None:
    values, labels = random_values(5, 4), torch.tensor([0, 3, 1, 1, 2])
    positives = torch.nn.functional.one_hot(labels, 4).bool()
    torch.testing.assert_close(shared_contrast(values, positives, 0.05), contrast(values, labels, 0.05))


def test_shared_contrast__all_positive_and_half_precision() -> None:
    equal = shared_contrast(torch.zeros(2, 4, dtype=torch.float16), torch.ones(2, 4, dtype=torch.bool), 0.05)
    assert equal.dtype == torch.float32
    assert equal.tolist() == pytest.approx([math.log(4)] * 2)


def test_shared_contrast__refusals() -> None:
    values, positives = random_values(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"expected \(B, C\) both"):
        shared_contrast(values, positives[:, :2], 0.1)
    with pytest.raises(ValueError, match="temperature is 0"):
        shared_contrast(values, positives, 0)
    with pytest.raises(ValueError, match="negatives is 0"):
        shared_contrast(values, positives, 0.1, negatives=0)


# ---- hardest_of_several


def test_hardest_of_several__twin() -> None:
    values, positives = random_values(4, 3, 5), random_values(4, 3, seed=1) > 0
    expected = [
        [min(slots) if belongs else max(slots) for slots, belongs in zip(row, mine, strict=True)]
        for row, mine in zip(values.tolist(), positives.tolist(), strict=True)
    ]
    assert hardest_of_several(values, positives).tolist() == expected
    labels = torch.tensor([0, 2, 1, 1])
    one = torch.nn.functional.one_hot(labels, 3).bool()
    assert torch.equal(hardest_of_several(values, one), hardest_similarities(values, labels))
    with pytest.raises(ValueError, match=r"expected \(B, C, K\) and \(B, C\)"):
        hardest_of_several(values, positives[:, :2])


# ---- prototype_distillation


@pytest.mark.parametrize(("visible", "infrared"), [(3, 2), (1, 1), (1, 4)])
def test_prototype_distillation__twin_and_gradient(visible: int, infrared: int) -> None:
    tau = 0.2
    queries = [random_values(5, count, seed=count).requires_grad_() for count in (visible, infrared)]
    prototypes = [random_values(5, count, seed=count + 9) for count in (visible, infrared)]
    found = prototype_distillation(Pair(*queries), Pair(*prototypes), tau)
    for row in range(5):
        teacher, scores = [], []
        for own, theirs in zip(queries, prototypes, strict=True):
            raised = [math.exp((a + b) / 2 / tau) for a, b in zip(own[row].tolist(), theirs[row].tolist(), strict=True)]
            teacher += [value / sum(raised) / 2 for value in raised]
            scores += [math.exp(value / tau) for value in own[row].tolist()]
        assert sum(teacher) == pytest.approx(1)
        expected = -sum(t * math.log(s / sum(scores)) for t, s in zip(teacher, scores, strict=True))
        assert float(found[row].detach()) == pytest.approx(expected)
    gradients = torch.autograd.grad(found.sum(), queries)
    # The teacher is a constant: the gradient is (student − teacher) / τ, whose sum is zero.
    both = torch.cat(gradients, dim=1)
    student = (torch.cat([part.detach() for part in queries], dim=1) / tau).softmax(1)
    halves = [
        ((own.detach() + theirs) / 2 / tau).softmax(1) / 2 for own, theirs in zip(queries, prototypes, strict=True)
    ]
    torch.testing.assert_close(both, (student - torch.cat(halves, dim=1)) / tau)


def test_prototype_distillation__refusals() -> None:
    pair = Pair(random_values(2, 3), random_values(2, 2))
    with pytest.raises(ValueError, match="expected the same"):
        prototype_distillation(pair, Pair(pair.visible, pair.visible), 0.1)
    with pytest.raises(ValueError, match="temperature is 0"):
        prototype_distillation(pair, pair, 0)
