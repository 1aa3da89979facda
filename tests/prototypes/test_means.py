"""Prototypes of an epoch against slow twins that loop over clusters and samples."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pclhd.prototypes import (
    balanced_cluster_means,
    cluster_means,
    draw_members,
    hard_prototypes,
    normalise,
)
from tests.prototypes.drawing import WIDTH, generator, random_rows, slow_means, unit, unit_of, unit_rows


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


def test_means_without_clusters_are_empty() -> None:
    # Every sample is noise, or no joint cluster holds both modalities.
    features, noise = random_rows(3), torch.tensor([-1, -1, -1])
    width = features.shape[1]
    assert cluster_means(features, noise, 0).shape == (0, width)
    assert balanced_cluster_means(features, noise, torch.tensor([0, 1, 1]), 0).shape == (0, width)
    assert hard_prototypes(features, noise, torch.empty(0, width), 2).shape == (0, width)


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


def test_normalise__zero_row_and_half_precision() -> None:
    assert normalise(torch.zeros(1, 3)).tolist() == [[0.0, 0.0, 0.0]]
    assert normalise(torch.ones(1, 4, dtype=torch.bfloat16)).dtype == torch.float32
    assert normalise(torch.ones(1, 4, dtype=torch.float64)).tolist() == [[0.5, 0.5, 0.5, 0.5]]
