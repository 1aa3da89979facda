from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.clustering import votes as votes_module
from pclhd.clustering.matching import Matching
from pclhd.clustering.votes import match_by_votes

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
WIDTH = 4


def rows(count: int, seed: int) -> Features:
    return np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)


def axes(*numbers: int) -> Features:
    """One row along each of the named axes."""
    return np.eye(WIDTH, dtype=np.float32)[list(numbers)]


def labels_of(*numbers: int) -> Labels:
    return np.array(numbers, dtype=np.int64)


def slow_choice(image: Features, features: Features, labels: Labels) -> int:
    """The cluster whose centre has the highest cosine with an image."""
    cosines = []
    for cluster in range(int(labels.max()) + 1):
        members = [row.astype(np.float64) for row, label in zip(features, labels, strict=True) if label == cluster]
        centre = (sum(members[1:], members[0]) / len(members)).astype(np.float32).astype(np.float64)
        query = image.astype(np.float64)
        lengths = np.sqrt(centre @ centre) * np.sqrt(query @ query)
        cosines.append(centre @ query / lengths if lengths > 0 else 0.0)
    return int(np.argmax(cosines))


def slow_votes(visible: Features, visible_labels: Labels, infrared: Features, infrared_labels: Labels) -> Matching:
    """Image by image, then pair by pair, with shares as fractions."""
    counts = int(visible_labels.max()) + 1, int(infrared_labels.max()) + 1
    share = {(v, r): Fraction(0) for v in range(counts[0]) for r in range(counts[1])}
    for image, label in zip(visible, visible_labels, strict=True):
        if label >= 0:
            pair = int(label), slow_choice(image, infrared, infrared_labels)
            share[pair] += Fraction(1, int(np.sum(visible_labels == label)))
    for image, label in zip(infrared, infrared_labels, strict=True):
        if label >= 0:
            pair = slow_choice(image, visible, visible_labels), int(label)
            share[pair] += Fraction(1, int(np.sum(infrared_labels == label)))
    forward, backward = [-1] * counts[0], [-1] * counts[1]
    while True:
        free = {pair: votes for pair, votes in share.items() if forward[pair[0]] < 0 and backward[pair[1]] < 0}
        if not free or max(free.values()) == 0:
            return Matching(np.array(forward), np.array(backward))
        most = max(free.values())
        first = min(pair for pair, votes in free.items() if votes == most)
        forward[first[0]], backward[first[1]] = first[1], first[0]


@st.composite
def labellings(draw: st.DrawFn) -> Labels:
    clusters = draw(st.integers(1, 5))
    more = draw(st.lists(st.integers(-1, clusters - 1), max_size=12))
    return np.array(draw(st.permutations([*range(clusters), *more])), dtype=np.int64)


@settings(max_examples=80, deadline=None)
@given(visible=labellings(), infrared=labellings(), seed=st.integers(0, 10_000))
def test_like_counting_image_by_image(visible: Labels, infrared: Labels, seed: int) -> None:
    given_ = rows(len(visible), seed), visible, rows(len(infrared), seed + 1), infrared
    found, expected = match_by_votes(*given_), slow_votes(*given_)
    np.testing.assert_array_equal(found.visible_to_infrared, expected.visible_to_infrared)
    np.testing.assert_array_equal(found.infrared_to_visible, expected.infrared_to_visible)
    # One to one, and either map is the other's inverse.
    for forward, backward in (
        (found.visible_to_infrared, found.infrared_to_visible),
        (found.infrared_to_visible, found.visible_to_infrared),
    ):
        assert forward.dtype == np.int64
        paired = np.flatnonzero(forward >= 0)
        assert len(set(forward[paired].tolist())) == len(paired)
        np.testing.assert_array_equal(backward[forward[paired]], paired)
    assert (found.visible_to_infrared >= 0).any(), "the pair with the most votes of all is always made"


@settings(max_examples=30, deadline=None)
@given(visible=labellings(), infrared=labellings(), seed=st.integers(0, 10_000))
def test_the_order_of_the_images_does_not_matter(visible: Labels, infrared: Labels, seed: int) -> None:
    features = rows(len(visible), seed), rows(len(infrared), seed + 1)
    order = np.random.default_rng(seed).permutation(len(visible))
    plain = match_by_votes(features[0], visible, features[1], infrared)
    mixed = match_by_votes(features[0][order], visible[order], features[1], infrared)
    np.testing.assert_array_equal(plain.visible_to_infrared, mixed.visible_to_infrared)
    np.testing.assert_array_equal(plain.infrared_to_visible, mixed.infrared_to_visible)


def test_in_blocks_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(50) % 7 - 1
    given_ = rows(50, 0), labels, rows(50, 1), labels[::-1].copy()
    whole = match_by_votes(*given_)
    monkeypatch.setattr(votes_module, "_NUMBERS_PER_BLOCK", 20)
    blocks = match_by_votes(*given_)
    np.testing.assert_array_equal(whole.visible_to_infrared, blocks.visible_to_infrared)


def test_a_cluster_whose_candidates_are_taken_stays_alone() -> None:
    # Visible clusters 0 and 1 both look like infrared cluster 0, the first more so; none looks like infrared 1.
    visible = np.concatenate([axes(0, 0), [[1, 0.9, 0, 0], [1, 0.9, 0, 0]]]).astype(np.float32)
    infrared = np.concatenate([axes(0), axes(3)])
    found = match_by_votes(visible, labels_of(0, 0, 1, 1), infrared, labels_of(0, 1))
    assert found.visible_to_infrared.tolist() == [0, -1]
    assert found.infrared_to_visible.tolist() == [0, -1]


def test_shares_of_votes_count_not_numbers_of_votes() -> None:
    # Nine of the twenty images of visible cluster 0 vote for infrared 0, eleven for infrared 1; both of cluster 1 vote
    # for infrared 0. By heads, infrared 0 would go to visible 0.
    visible = np.concatenate([axes(*[0] * 9), axes(*[1] * 11), axes(2, 2) + axes(0, 0)])
    visible_labels = np.repeat([0, 1], [20, 2])
    infrared = np.concatenate([axes(0), axes(1) + 0.2 * axes(2)])
    found = match_by_votes(visible, visible_labels, infrared, labels_of(0, 1))
    assert found.visible_to_infrared.tolist() == [1, 0]


def test_noise_does_not_vote() -> None:
    visible, infrared = axes(0, 0, 1), axes(0, 1)
    without = match_by_votes(visible, labels_of(0, 0, 1), infrared, labels_of(0, 1))
    crowd = np.concatenate([visible, axes(*[1] * 30)])
    noisy = match_by_votes(crowd, np.concatenate([labels_of(0, 0, 1), np.full(30, -1)]), infrared, labels_of(0, 1))
    assert noisy.visible_to_infrared.tolist() == without.visible_to_infrared.tolist() == [0, 1]
    # Not even if it is NaN.
    broken = np.concatenate([visible, np.full((1, WIDTH), np.nan, dtype=np.float32)])
    unharmed = match_by_votes(broken, labels_of(0, 0, 1, -1), infrared, labels_of(0, 1))
    assert unharmed.visible_to_infrared.tolist() == [0, 1]


def test_more_infrared_than_visible_clusters() -> None:
    found = match_by_votes(axes(0, 2), labels_of(0, 1), axes(2, 1, 0, 3), labels_of(0, 1, 2, 3))
    assert found.visible_to_infrared.tolist() == [2, 0]
    assert found.infrared_to_visible.tolist() == [1, -1, 0, -1]


@pytest.mark.parametrize("infrared", [axes(1), -axes(0), np.zeros((1, WIDTH), dtype=np.float32)])
def test_one_cluster_each_are_partners_however_far_apart(infrared: Features) -> None:
    found = match_by_votes(axes(0, 0), labels_of(0, 0), infrared, labels_of(0))
    assert found.visible_to_infrared.tolist() == found.infrared_to_visible.tolist() == [0]


def test_of_equal_pairs_the_lower_numbers_are_made() -> None:
    # All four centres are alike: every image votes for the first, and the pairs (0, 1) and (1, 0) tie.
    same = axes(0, 0)
    found = match_by_votes(same, labels_of(0, 1), same, labels_of(0, 1))
    assert found.visible_to_infrared.tolist() == [0, -1]
    # Two clusters that are each other's nearest, twice over: the lower visible number first, with the same outcome.
    found = match_by_votes(axes(0, 1), labels_of(0, 1), axes(1, 0), labels_of(0, 1))
    assert found.visible_to_infrared.tolist() == [1, 0]


def test_shares_that_are_equal_as_fractions_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    # In floating point, 1/10 + 2/10 is a little more than 3/10.
    tables = iter([np.array([[3 / 10], [1 / 10]]), np.array([[0, 2 / 10]])])
    monkeypatch.setattr(votes_module, "_votes", lambda *_: next(tables))
    found = match_by_votes(axes(0, 1), labels_of(0, 1), axes(0), labels_of(0))
    assert found.visible_to_infrared.tolist() == [0, -1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_embeddings_that_are_not_finite(value: float, modality: str) -> None:
    broken = rows(3, 0)
    broken[1, 2] = value
    parts = (broken, rows(3, 1)) if modality == "visible" else (rows(3, 1), broken)
    with pytest.raises(ValueError, match=f"{modality} embeddings must be finite, but cluster 1 holds NaN or infinity"):
        match_by_votes(parts[0], labels_of(0, 1, 1), parts[1], labels_of(0, 1, 1))


@pytest.mark.parametrize("labels", [labels_of(), labels_of(-1, -1)])
@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_a_modality_without_clusters(labels: Labels, modality: str) -> None:
    empty, filled = (rows(len(labels), 0), labels), (rows(2, 1), labels_of(0, 0))
    parts = (empty, filled) if modality == "visible" else (filled, empty)
    with pytest.raises(ValueError, match=f"there is no {modality} cluster to vote for"):
        match_by_votes(*parts[0], *parts[1])


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="3 infrared embeddings but 2 labels"):
        match_by_votes(rows(2, 0), labels_of(0, 0), rows(3, 1), labels_of(0, 0))
    with pytest.raises(ValueError, match="without gaps"):
        match_by_votes(rows(2, 0), labels_of(0, 2), rows(2, 1), labels_of(0, 0))


def test_read_only_arrays_are_accepted() -> None:
    given_ = rows(4, 0), labels_of(0, 1, -1, 1), rows(3, 1), labels_of(0, -1, 1)
    expected = match_by_votes(*given_)
    for array in given_:
        array.setflags(write=False)
    found = match_by_votes(*given_)
    np.testing.assert_array_equal(found.visible_to_infrared, expected.visible_to_infrared)
    np.testing.assert_array_equal(found.infrared_to_visible, expected.infrared_to_visible)
