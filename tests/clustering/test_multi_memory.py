from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.clustering import multi_memory
from pclhd.clustering.matching import match_clusters, matching_costs
from pclhd.clustering.multi_memory import ROUNDS, match_by_memories, multi_memory_costs, split_clusters
from pclhd.clustering.pseudo_labels import cluster_centres

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def unit(rows: Floats) -> Floats:
    scaled: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def draw(number: int, seed: int, width: int = 4) -> Floats:
    return np.random.default_rng(seed).standard_normal((number, width))


def views(directions: list[list[float]], sizes: list[int], seed: int = 0, noise: float = 0.05) -> Floats:
    rows = np.repeat(np.array(directions), sizes, axis=0)
    return rows + noise * np.random.default_rng(seed).standard_normal(rows.shape)


def same_partition(first: Ints, second: Ints) -> bool:
    return np.array_equal(first[:, None] == first, second[:, None] == second)


# Slow twins.


def cosine(one: Floats, other: Floats) -> float:
    lengths = math.sqrt(sum(x * x for x in one)) * math.sqrt(sum(x * x for x in other))
    return float(sum(x * y for x, y in zip(one, other, strict=True))) / lengths


def slow_split(rows: list[Floats], most: int) -> list[int]:
    """Parts of the images of one cluster."""
    starts: list[int] = []
    while len(starts) < most:
        totals = [sum(max(cosine(row, rows[i]) for i in [*starts, new]) for row in rows) for new in range(len(rows))]
        if starts and max(totals) - sum(max(cosine(row, rows[i]) for i in starts) for row in rows) <= 1e-6:
            break
        starts.append(totals.index(max(totals)))
    centres, parts = [rows[i] for i in starts], [-1] * len(rows)
    for _ in range(ROUNDS):
        to_centres = [[cosine(row, centre) for centre in centres] for row in rows]
        nearest = [values.index(max(values)) for values in to_centres]
        numbers = {old: new for new, old in enumerate(sorted(set(nearest)))}
        nearest = [numbers[part] for part in nearest]
        if nearest == parts:
            break
        parts = nearest
        centres = []
        for part in range(max(parts) + 1):
            members = [row / math.sqrt(sum(row * row)) for row, own in zip(rows, parts, strict=True) if own == part]
            centres.append(sum(members, start=np.zeros(len(rows[0]))) / len(members))
    return parts


def slow_costs(visible: list[list[Floats]], infrared: list[list[Floats]]) -> Floats:
    """From the memories of each cluster."""
    costs = np.empty((len(visible), len(infrared)))
    for i, mine in enumerate(visible):
        for j, theirs in enumerate(infrared):
            forward = [min(math.exp(-cosine(a, b)) for b in theirs) for a in mine]
            backward = [min(math.exp(-cosine(a, b)) for a in mine) for b in theirs]
            costs[i, j] = (sum(forward) / len(forward) + sum(backward) / len(backward)) / 2
    return costs


# The split.

label_lists = st.lists(st.integers(-1, 2), min_size=1, max_size=20)


def compacted(labels: list[int]) -> Ints:
    present = sorted({label for label in labels if label >= 0})
    return np.array([present.index(label) if label >= 0 else -1 for label in labels], dtype=np.int64)


@given(labels=label_lists, most=st.integers(1, 6), seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_split_like_its_definition(labels: list[int], most: int, seed: int) -> None:
    pseudo, features = compacted(labels), draw(len(labels), seed)
    parts = split_clusters(features, pseudo, most)
    for cluster in range(pseudo.max() + 1):
        members = np.flatnonzero(pseudo == cluster)
        # The numbers of the parts may differ: of two images, rounding decides which one starts.
        assert same_partition(parts.labels[members], np.array(slow_split(list(features[members]), most)))


@pytest.mark.parametrize("seed", range(4))
def test_split_of_a_large_cluster_like_its_definition(seed: int) -> None:
    features = draw(60, seed, width=2)
    parts = split_clusters(features, np.zeros(60, dtype=np.int64), 5)
    assert same_partition(parts.labels, np.array(slow_split(list(features), 5)))


def test_a_part_that_loses_its_last_image_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    features = views([[1, 0, 0], [0, 1, 0]], [4, 4])
    # Of two equal starts the first gets the images.
    monkeypatch.setattr(multi_memory, "_starts", lambda rows, most: [0, 0, 5])
    parts = split_clusters(features, np.zeros(8, dtype=np.int64), 3)
    assert parts.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert parts.owners.tolist() == [0, 0]


@given(labels=label_lists, most=st.integers(1, 6), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_parts_split_clusters_and_hold_what_is_nearest(labels: list[int], most: int, seed: int) -> None:
    pseudo, features = compacted(labels), draw(len(labels), seed)
    parts = split_clusters(features, pseudo, most)
    assert np.array_equal(parts.labels == -1, pseudo == -1)
    clustered = pseudo >= 0
    assert np.array_equal(parts.owners[parts.labels[clustered]], pseudo[clustered])
    assert (np.diff(parts.owners) >= 0).all()
    sizes, counts = np.bincount(pseudo[clustered]), np.bincount(parts.owners)
    assert len(sizes) == len(counts)
    assert (counts >= 1).all()
    assert (counts <= np.minimum(sizes, most)).all()
    assert np.array_equal(np.unique(parts.labels[clustered]), np.arange(len(parts.owners)))
    cosines = unit(features) @ unit(cluster_centres(unit(features), parts.labels).astype(np.float64)).T
    for row in np.flatnonzero(clustered):
        own = np.flatnonzero(parts.owners == pseudo[row])
        assert cosines[row, parts.labels[row]] >= cosines[row, own].max() - 1e-6


def test_views_of_a_person_become_parts() -> None:
    features = views([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], [9, 2, 5, 4])
    labels = np.zeros(20, dtype=np.int64)
    parts = split_clusters(features, labels, 4)
    assert same_partition(parts.labels, np.repeat(np.arange(4), [9, 2, 5, 4]))
    # With fewer parts than views, the views that are nearest share one.
    assert len(split_clusters(features, labels, 3).owners) == 3


def test_a_stray_image_does_not_take_a_part_from_two_views() -> None:
    features = np.concatenate([views([[1, 0, 0, 0], [0, 1, 0, 0]], [8, 8]), [[-0.7, -0.7, 0.1, 0]]])
    parts = split_clusters(features, np.zeros(17, dtype=np.int64), 2)
    assert same_partition(parts.labels[:16], np.repeat([0, 1], 8))


def test_the_order_and_the_length_of_features_do_not_count() -> None:
    random = np.random.default_rng(3)
    features, labels = draw(40, 1), np.repeat([0, 1, 2, -1], 10)
    order = random.permutation(40)
    plain = split_clusters(features, labels, 3)
    shuffled = split_clusters((features * random.uniform(0.1, 9, (40, 1)))[order], labels[order], 3)
    assert same_partition(shuffled.labels, plain.labels[order])
    assert np.array_equal(shuffled.owners, plain.owners)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_what_cannot_be_split_stays_whole(most: int) -> None:
    alike = np.repeat(draw(1, 0), 6, axis=0).astype(np.float32) * np.linspace(1, 3, 6, dtype=np.float32)[:, None]
    nearly = alike * (1 + 1e-5 * draw(6, 1))
    for features in (alike, nearly, alike[:1], np.zeros((3, 4))):
        parts = split_clusters(features, np.zeros(len(features), dtype=np.int64), most)
        assert parts.labels.tolist() == [0] * len(features)
        assert parts.owners.tolist() == [0]


def test_more_parts_than_images() -> None:
    parts = split_clusters(np.eye(3), np.array([0, 0, 1]), 9)
    assert sorted(parts.labels[:2].tolist()) == [0, 1]
    assert parts.labels[2] == 2
    assert parts.owners.tolist() == [0, 0, 1]


def test_opposite_images_and_images_of_length_zero_give_no_nan() -> None:
    features = np.array([[1.0, 0], [-1.0, 0], [0.0, 0.0], [0.0, 0.0]])
    for most in (1, 2, 3, 4):
        parts = split_clusters(features, np.zeros(4, dtype=np.int64), most)
        assert parts.labels.min() == 0
        assert parts.labels[2] == parts.labels[3]
        assert len(parts.owners) <= 3


def test_nothing_to_split() -> None:
    for features in (draw(3, 0), draw(0, 0)):
        parts = split_clusters(features, np.full(len(features), -1), 4)
        assert parts.labels.tolist() == [-1] * len(features)
        assert parts.owners.shape == (0,)


def test_of_a_large_cluster_some_images_may_start(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = views([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [30, 30, 30]), np.zeros(90, dtype=np.int64)
    expected = split_clusters(features, labels, 3)
    monkeypatch.setattr(multi_memory, "START_CANDIDATES", 7)
    assert same_partition(split_clusters(features, labels, 3).labels, expected.labels)
    monkeypatch.setattr(multi_memory, "START_CANDIDATES", 2)  # the first and the last image: two views
    assert len(split_clusters(features, labels, 3).owners) == 2


@pytest.mark.parametrize(
    ("features", "labels", "most", "complaint"),
    [
        (np.eye(2), [0, 0], 0, "most must be at least 1, got 0"),
        (np.eye(2), [0], 2, r"got \(2, 2\) and \(1,\)"),
        (np.ones(2), [0, 0], 2, r"got \(2,\) and \(2,\)"),
        (np.array([[1.0, 0], [np.nan, 0]]), [0, 0], 2, "row 1 holds NaN or infinity"),
        (np.array([[np.inf, 0], [1.0, 0]]), [-1, 0], 2, "row 0 holds NaN or infinity"),
        (np.eye(2), [0, 2], 2, "cluster 1 of 3 has no image"),
        (np.eye(2), [0, -2], 2, "got -2"),
    ],
)
def test_wrong_arguments_are_refused(features: Floats, labels: list[int], most: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        split_clusters(features, np.array(labels), most)


# The costs.

owner_counts = st.lists(st.integers(1, 3), min_size=1, max_size=4)


@given(visible=owner_counts, infrared=owner_counts, seed=st.integers(0, 10_000), block=st.sampled_from([1, 20, 2**22]))
@settings(max_examples=50, deadline=None)
def test_costs_like_their_definition(visible: list[int], infrared: list[int], seed: int, block: int) -> None:
    rows = draw(sum(visible), seed), draw(sum(infrared), seed + 1)
    owners = [np.repeat(np.arange(len(counts)), counts) for counts in (visible, infrared)]
    lists = [
        [list(part[owner == cluster]) for cluster in range(owner.max() + 1)]
        for part, owner in zip(rows, owners, strict=True)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multi_memory, "_NUMBERS_PER_BLOCK", block)
        costs = multi_memory_costs(rows[0], owners[0], rows[1], owners[1])
        reversed_costs = multi_memory_costs(rows[1], owners[1], rows[0], owners[0])
    np.testing.assert_allclose(costs, slow_costs(lists[0], lists[1]), rtol=1e-12)
    np.testing.assert_allclose(costs, reversed_costs.T, rtol=1e-12)
    assert costs.min() >= math.exp(-1) - 1e-12
    assert costs.max() <= math.exp(1) + 1e-12


def test_with_one_memory_each_the_costs_are_those_of_centres() -> None:
    visible, infrared = draw(5, 0), draw(7, 1)
    costs = multi_memory_costs(visible, np.arange(5), infrared, np.arange(7))
    np.testing.assert_allclose(costs, matching_costs(visible, infrared), rtol=1e-12)


def test_a_copied_memory_counts_twice_on_its_own_side_alone() -> None:
    one, two = np.array([[1.0, 0], [0, 1.0]]), np.array([[1.0, 0], [1.0, 0], [0, 1.0]])
    other = np.array([[1.0, 0]])
    single = np.zeros(1, dtype=np.int64)
    once = multi_memory_costs(one, np.zeros(2, dtype=np.int64), other, single)[0, 0]
    twice = multi_memory_costs(two, np.zeros(3, dtype=np.int64), other, single)[0, 0]
    assert once == pytest.approx((math.exp(-1) + (math.exp(-1) + 1) / 2) / 2)
    assert twice == pytest.approx((math.exp(-1) + (2 * math.exp(-1) + 1) / 3) / 2)


def test_memories_of_other_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="of one width"):
        multi_memory_costs(draw(2, 0), np.arange(2), draw(2, 1, width=5), np.arange(2))


# The matching.


@given(visible=st.integers(1, 6), infrared=st.integers(1, 6), each=st.integers(1, 4), seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_with_one_memory_each_the_matching_is_the_progressive_one(
    visible: int, infrared: int, each: int, seed: int
) -> None:
    features = unit(draw(visible * each, seed)), unit(draw(infrared * each, seed + 1))
    labels = np.repeat(np.arange(visible), each), np.repeat(np.arange(infrared), each)
    found = match_by_memories(features[0], labels[0], features[1], labels[1], most=1)
    expected = match_clusters(cluster_centres(features[0], labels[0]), cluster_centres(features[1], labels[1]))
    assert np.array_equal(found.visible_to_infrared, expected.visible_to_infrared)
    assert np.array_equal(found.infrared_to_visible, expected.infrared_to_visible)


@pytest.mark.parametrize(("visible", "infrared"), [(3, 8), (8, 3), (5, 5), (1, 4), (1, 1)])
def test_everyone_finds_a_partner(visible: int, infrared: int) -> None:
    features = draw(visible * 3, 0), draw(infrared * 3, 1)
    labels = np.repeat(np.arange(visible), 3), np.repeat(np.arange(infrared), 3)
    one = match_by_memories(features[0], labels[0], features[1], labels[1], most=2)
    other = match_by_memories(features[1], labels[1], features[0], labels[0], most=2)
    for partners, count in ((one.visible_to_infrared, infrared), (one.infrared_to_visible, visible)):
        assert ((partners >= 0) & (partners < count)).all()
    # No modality is preferred.
    assert np.array_equal(one.visible_to_infrared, other.infrared_to_visible)
    assert np.array_equal(one.infrared_to_visible, other.visible_to_infrared)


def test_memories_find_what_centres_miss() -> None:
    # The first person is seen from the front and from behind, mostly from the front in visible light and mostly from
    # behind in infrared, so that both centres lie nearer to the second person's.
    half = math.sqrt(0.5)
    visible = views([[1, 0, 0], [0, 1, 0], [0, half, half]], [9, 1, 5], noise=0.01)
    infrared = views([[1, 0, 0], [0, 1, 0], [half, 0, half]], [1, 9, 5], seed=1, noise=0.01)
    labels = np.repeat([0, 1], [10, 5])
    by_centres = match_clusters(cluster_centres(visible, labels), cluster_centres(infrared, labels))
    assert by_centres.visible_to_infrared.tolist() == [1, 0]
    found = match_by_memories(visible, labels, infrared, labels, most=2)
    assert found.visible_to_infrared.tolist() == [0, 1]
    assert found.infrared_to_visible.tolist() == [0, 1]


def test_the_length_of_features_does_not_count_in_the_matching() -> None:
    labels, random = np.repeat(np.arange(6), 5), np.random.default_rng(5)
    # Short width, many images: lengths would move the memories a lot.
    features = draw(30, 20, width=3), draw(30, 21, width=3)
    longer = [part * random.uniform(0.05, 20, (30, 1)) for part in features]
    expected = match_by_memories(features[0], labels, features[1], labels, most=2)
    found = match_by_memories(longer[0], labels, longer[1], labels, most=2)
    assert np.array_equal(found.visible_to_infrared, expected.visible_to_infrared)


def test_noise_takes_no_part_in_the_matching() -> None:
    features, labels = draw(12, 0), np.repeat([0, 1, 2], 4)
    expected = match_by_memories(features, labels, features, labels, most=2)
    noisy, noisy_labels = np.concatenate([draw(5, 9), features]), np.concatenate([np.full(5, -1), labels])
    found = match_by_memories(noisy, noisy_labels, features, labels, most=2)
    assert found.visible_to_infrared.tolist() == expected.visible_to_infrared.tolist() == [0, 1, 2]


def test_a_modality_without_clusters_and_features_that_are_not_finite() -> None:
    features, labels, noise = draw(4, 0), np.array([0, 0, 1, 1]), np.full(3, -1)
    found = match_by_memories(features, labels, draw(3, 1), noise, most=2)
    assert found.visible_to_infrared.tolist() == [-1, -1]
    assert found.infrared_to_visible.tolist() == []
    broken = features.copy()
    broken[2, 1] = np.nan
    with pytest.raises(ValueError, match="row 2 holds NaN"):
        match_by_memories(features, labels, broken, labels, most=2)
