from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_matrix
from scipy.spatial.distance import squareform

from pclhd.clustering.density import number_clusters
from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.clustering.linkage import agglomerative_labels
from tests.clustering.test_density import blocks, random_similarity, same_partition
from tests.clustering.test_jaccard import people


def greedy(similarity: csr_matrix, eps: float) -> NDArray[np.int64]:
    """Merge the nearest two clusters, of equally near ones the first, as long as allowed; in exact fractions."""
    dense = similarity.toarray()
    clusters = [[i] for i in range(len(dense))]
    while len(clusters) > 1:
        means = {
            (a, b): sum(Fraction(float(dense[i, j])) for i in clusters[a] for j in clusters[b])
            / (len(clusters[a]) * len(clusters[b]))
            for a, b in combinations(range(len(clusters)), 2)
        }
        (a, b), mean = min(means.items(), key=lambda item: (-item[1], item[0]))
        if mean < Fraction(float(np.float32(1) - np.float32(eps))):
            break
        clusters[a] = sorted(clusters[a] + clusters.pop(b))
        clusters.sort()
    labels = np.empty(len(dense), dtype=np.int64)
    for label, cluster in enumerate(clusters):
        labels[cluster] = label
    return labels


@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(2, 60),
    density=st.sampled_from([0.05, 0.2, 0.5, 1.0]),
    eps=st.floats(0.05, 0.99),
    seed=st.integers(0, 10_000),
)
def test_the_clusters_are_those_of_scipy_on_the_dense_matrix(
    number: int, density: float, eps: float, seed: int
) -> None:
    similarity = random_similarity(number, density, seed)
    distance = squareform(1 - similarity.toarray().astype(np.float64), checks=False)
    expected = fcluster(linkage(distance, "average"), 1 - float(np.float32(1) - np.float32(eps)), "distance")
    np.testing.assert_array_equal(agglomerative_labels(similarity, eps, 1), number_clusters(expected))


@settings(max_examples=40, deadline=None)
@given(
    number=st.integers(1, 14),
    density=st.sampled_from([0.2, 0.5, 1.0]),
    steps=st.sampled_from([1, 2, 4, 8]),
    eps=st.floats(0.05, 0.95),
    seed=st.integers(0, 10_000),
)
def test_of_equally_near_clusters_the_first_merge_first(
    number: int, density: float, steps: int, eps: float, seed: int
) -> None:
    similarity = random_similarity(number, density, seed)
    similarity.data = np.ceil(similarity.data * steps).astype(np.float32) / np.float32(steps)
    for limit in (eps, 0.25, 0.5, 0.75):
        np.testing.assert_array_equal(agglomerative_labels(similarity, limit, 1), greedy(similarity, limit))


@settings(max_examples=25, deadline=None)
@given(
    number=st.integers(1, 80), spread=st.sampled_from([0.4, 0.7]), eps=st.floats(0.2, 0.95), seed=st.integers(0, 10_000)
)
def test_small_clusters_become_noise_and_the_others_are_numbered_in_order(
    number: int, spread: float, eps: float, seed: int
) -> None:
    similarity = jaccard_similarity(people(number, 6, seed, spread), 8, 3)
    everybody = agglomerative_labels(similarity, eps, 1)
    labels = agglomerative_labels(similarity, eps)
    sizes = np.bincount(everybody)[everybody]
    np.testing.assert_array_equal(labels < 0, sizes < 4)
    assert same_partition(labels[labels >= 0], everybody[labels >= 0])
    present, first = np.unique(labels[labels >= 0], return_index=True)
    np.testing.assert_array_equal(present, np.arange(len(present)))
    assert (np.diff(first) > 0).all()


@settings(max_examples=25, deadline=None)
@given(number=st.integers(2, 60), density=st.sampled_from([0.1, 0.5]), seed=st.integers(0, 10_000))
def test_the_order_of_the_samples_does_not_matter(number: int, density: float, seed: int) -> None:
    similarity = random_similarity(number, density, seed)
    order = np.random.default_rng(seed).permutation(number)
    labels = agglomerative_labels(similarity, 0.6, 1)
    shuffled = agglomerative_labels(csr_matrix(similarity[order][:, order]), 0.6, 1)
    assert same_partition(shuffled, labels[order])


def test_a_far_pair_counts_within_a_mean() -> None:
    # 0 and 1 join first. Their mean similarity to 2 is (0.75 + 0.125) / 2: within 0.6 just because the 0.125 counts.
    dense = np.array([[1, 0.9, 0.75], [0.9, 1, 0.125], [0.75, 0.125, 1]], dtype=np.float32)
    np.testing.assert_array_equal(agglomerative_labels(csr_matrix(dense), 0.6, 1), [0, 0, 0])
    dense[1, 2] = dense[2, 1] = 0
    np.testing.assert_array_equal(agglomerative_labels(csr_matrix(dense), 0.6, 1), [0, 0, 1])


def test_a_chain_does_not_become_one_cluster() -> None:
    # Single linkage, and DBSCAN, would join all.
    dense = np.eye(40, dtype=np.float32)
    for i in range(39):
        dense[i, i + 1] = dense[i + 1, i] = 0.6
    assert np.bincount(agglomerative_labels(csr_matrix(dense), 0.6, 1)).max() <= 3


def test_a_star_and_its_many_points() -> None:
    dense = np.eye(300, dtype=np.float32)
    dense[150, :] = dense[:, 150] = 0.9
    dense[150, 150] = 1
    labels = agglomerative_labels(csr_matrix(dense), 0.6, 1)
    # With one point the mean to the others is 0.45, with two it is 0.3. The first points come first.
    np.testing.assert_array_equal(np.flatnonzero(labels == labels[150]), [0, 1, 150])


def test_one_clique() -> None:
    np.testing.assert_array_equal(agglomerative_labels(blocks(200), 0.6), [0] * 200)
    np.testing.assert_array_equal(agglomerative_labels(blocks(200), 0.4), [-1] * 200)
    np.testing.assert_array_equal(agglomerative_labels(blocks(50, similarity=1.0), 0.01), [0] * 50)


def test_a_disconnected_graph() -> None:
    labels = agglomerative_labels(blocks(5, 1, 4, 3, 6), 0.6)
    np.testing.assert_array_equal(labels, [0] * 5 + [-1] + [1] * 4 + [-1] * 3 + [2] * 6)


@pytest.mark.parametrize("eps", [0.1, 0.3, 0.5, 0.6, 0.7])
def test_a_distance_of_just_eps_is_within_it(eps: float) -> None:
    similarity = blocks(2, similarity=float(np.float32(1) - np.float32(eps)))
    np.testing.assert_array_equal(agglomerative_labels(similarity, eps, 1), [0, 0])
    similarity = blocks(2, similarity=float(np.float32(1) - np.float32(eps)) - 1e-4)
    np.testing.assert_array_equal(agglomerative_labels(similarity, eps, 1), [0, 1])


def test_stored_zeros_are_like_absent_pairs() -> None:
    similarity = blocks(5, 5)
    full = csr_matrix(np.ones((10, 10), dtype=np.float32))
    full.data = similarity.toarray().reshape(-1)
    np.testing.assert_array_equal(agglomerative_labels(full, 0.6), [0] * 5 + [1] * 5)


@pytest.mark.parametrize("number", [0, 1, 3, 20])
def test_everything_is_noise(number: int) -> None:
    labels = agglomerative_labels(csr_matrix(np.eye(number, dtype=np.float32)), 0.6)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, [-1] * number)


def test_the_matrix_is_left_as_it_is() -> None:
    similarity = jaccard_similarity(people(60, 6, 0), 8, 3)
    before = similarity.copy()
    agglomerative_labels(similarity, 0.6)
    np.testing.assert_array_equal(similarity.data, before.data)
    np.testing.assert_array_equal(similarity.indices, before.indices)
    np.testing.assert_array_equal(similarity.indptr, before.indptr)


def test_wrong_arguments_are_refused() -> None:
    similarity = csr_matrix(np.eye(3, dtype=np.float32))
    for eps in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="eps"):
            agglomerative_labels(similarity, eps)
    with pytest.raises(ValueError, match="min_cluster_size must be at least 1, got 0"):
        agglomerative_labels(similarity, 0.5, 0)
    with pytest.raises(ValueError, match="square"):
        agglomerative_labels(csr_matrix(np.ones((2, 3), dtype=np.float32)), 0.5)
