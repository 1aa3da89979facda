from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import block_diag, csr_matrix
from scipy.sparse.csgraph import connected_components

from pclhd.clustering.community import community_labels
from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.errors import UserError
from tests.clustering.test_density import blocks, random_similarity, same_partition
from tests.clustering.test_jaccard import people


def quality(similarity: csr_matrix, labels: NDArray[np.int64], resolution: float) -> float:
    """The quality that is maximised, pair by pair."""
    dense = similarity.toarray().astype(np.float64)
    pairs = [(i, j) for i in range(len(dense)) for j in range(i) if labels[i] == labels[j]]
    return float(sum(dense[i, j] - resolution for i, j in pairs))


def partitions(number: int) -> list[list[int]]:
    """All partitions of the samples into groups."""
    found = [[0]]
    for _ in range(number - 1):
        found = [[*labels, new] for labels in found for new in range(max(labels) + 2)]
    return found


def test_the_best_communities_of_small_graphs() -> None:
    candidates = [np.array(labels) for labels in partitions(7)]
    reached = []
    for seed in range(12):
        similarity = random_similarity(7, 0.6, seed)
        best = max(quality(similarity, labels, 0.3) for labels in candidates)
        reached.append(quality(similarity, community_labels(similarity, 0.3, 1), 0.3) / best)
    # The search is a heuristic: it mostly finds the optimum, and is never far from it.
    assert max(reached) <= 1 + 1e-9
    assert np.median(reached) > 1 - 1e-9
    assert min(reached) > 0.85


@settings(max_examples=40, deadline=None)
@given(
    number=st.integers(1, 60),
    density=st.sampled_from([0.05, 0.2, 0.6]),
    resolution=st.floats(0.02, 0.9),
    seed=st.integers(0, 10_000),
)
def test_communities_are_connected_and_dense_enough(number: int, density: float, resolution: float, seed: int) -> None:
    similarity = random_similarity(number, density, seed)
    labels = community_labels(similarity, resolution, 1)
    np.testing.assert_array_equal(community_labels(similarity, resolution, 1), labels)
    for label in range(labels.max() + 1):
        members = np.flatnonzero(labels == label)
        within = similarity[members][:, members].toarray()
        assert connected_components(within, directed=False)[0] == 1
        if len(members) > 1:
            mean = within[~np.eye(len(members), dtype=bool)].mean()
            assert mean >= resolution - 1e-6


@pytest.mark.parametrize("copies", [1, 30])
def test_the_resolution_means_the_same_at_every_size(copies: int) -> None:
    # Two cliques with 0.15 between them on average are one or two, whatever else there is.
    dense = blocks(6, 6, similarity=0.6).toarray()
    dense[:6, 6:] = dense[6:, :6] = 0.15
    similarity = csr_matrix(block_diag([dense] * copies))
    once = np.arange(12) // 6
    apart = np.concatenate([once + 2 * copy for copy in range(copies)])
    np.testing.assert_array_equal(community_labels(similarity, 0.2), apart)
    np.testing.assert_array_equal(community_labels(similarity, 0.1), apart // 2)
    np.testing.assert_array_equal(community_labels(similarity, 0.7), [-1] * 12 * copies)


def test_the_default_separates_people() -> None:
    generator = np.random.default_rng(0)
    person = np.repeat(np.arange(30), 12)
    features = generator.standard_normal((30, 64))[person] + 0.6 * generator.standard_normal((360, 64))
    order = generator.permutation(360)
    unit = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)[order]
    assert same_partition(community_labels(jaccard_similarity(unit, 12, 4)), person[order])


@settings(max_examples=25, deadline=None)
@given(number=st.integers(1, 80), spread=st.sampled_from([0.4, 0.7]), seed=st.integers(0, 10_000))
def test_small_communities_become_noise_and_the_others_are_numbered_in_order(
    number: int, spread: float, seed: int
) -> None:
    similarity = jaccard_similarity(people(number, 6, seed, spread), 8, 3)
    everything = community_labels(similarity, 0.3, 1)
    labels = community_labels(similarity, 0.3)
    sizes = np.bincount(everything)[everything]
    np.testing.assert_array_equal(labels < 0, sizes < 4)
    assert same_partition(labels[labels >= 0], everything[labels >= 0])
    present, first = np.unique(labels[labels >= 0], return_index=True)
    np.testing.assert_array_equal(present, np.arange(len(present)))
    assert (np.diff(first) > 0).all()


def test_one_clique() -> None:
    np.testing.assert_array_equal(community_labels(blocks(200)), [0] * 200)


def test_a_disconnected_graph() -> None:
    labels = community_labels(blocks(5, 1, 4, 3, 6))
    np.testing.assert_array_equal(labels, [0] * 5 + [-1] + [1] * 4 + [-1] * 3 + [2] * 6)


@pytest.mark.parametrize("number", [0, 1, 3, 20])
def test_everything_is_noise(number: int) -> None:
    labels = community_labels(csr_matrix(np.eye(number, dtype=np.float32)))
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, [-1] * number)


def test_the_diagonal_and_stored_zeros_count_for_nothing() -> None:
    dense = blocks(5, 5).toarray()
    full = csr_matrix(np.ones((10, 10), dtype=np.float32))
    full.data = dense.reshape(-1).copy()
    bare = csr_matrix(dense - np.eye(10, dtype=np.float32))
    for similarity in (full, bare):
        np.testing.assert_array_equal(community_labels(similarity, 0.45), [0] * 5 + [1] * 5)


def test_the_matrix_is_left_as_it_is() -> None:
    similarity = jaccard_similarity(people(60, 6, 0), 8, 3)
    before = similarity.copy()
    community_labels(similarity)
    np.testing.assert_array_equal(similarity.data, before.data)
    np.testing.assert_array_equal(similarity.indices, before.indices)


def test_nothing_is_drawn_from_global_generators() -> None:
    np.random.seed(3)  # noqa: NPY002
    similarity = random_similarity(40, 0.3, 1)
    labels = community_labels(similarity, 0.2, 1)
    drawn = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    assert drawn == np.random.random()  # noqa: NPY002
    np.testing.assert_array_equal(community_labels(similarity, 0.2, 1), labels)


def test_without_scikit_network_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sknetwork.clustering", None)
    with pytest.raises(UserError, match=r"pip install scikit-network"):
        community_labels(blocks(5, 5))


def test_wrong_arguments_are_refused() -> None:
    similarity = csr_matrix(np.eye(3, dtype=np.float32))
    for resolution in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="resolution"):
            community_labels(similarity, resolution)
    with pytest.raises(ValueError, match="min_cluster_size must be at least 1, got 0"):
        community_labels(similarity, 0.5, 0)
    with pytest.raises(ValueError, match="square"):
        community_labels(csr_matrix(np.ones((2, 3), dtype=np.float32)))
