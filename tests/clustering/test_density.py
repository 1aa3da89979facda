from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.cluster import DBSCAN, HDBSCAN

from pclhd.clustering.density import dbscan_labels, hdbscan_labels, number_clusters
from pclhd.clustering.jaccard import jaccard_similarity
from tests.clustering.test_jaccard import people


def random_similarity(number: int, density: float, seed: int) -> csr_matrix:
    """Symmetric, diagonal one, the other stored values all different."""
    generator = np.random.default_rng(seed)
    pairs = number * (number - 1) // 2
    values = (generator.choice(2**22, pairs, replace=False) + 1) / 2**22 * (generator.random(pairs) < density)
    dense = np.zeros((number, number), dtype=np.float32)
    dense[np.triu_indices(number, 1)] = values
    return csr_matrix(dense + dense.T + np.eye(number, dtype=np.float32))


def blocks(*sizes: int, similarity: float = 0.5) -> csr_matrix:
    """Cliques that share nothing."""
    block = np.repeat(np.arange(len(sizes)), sizes)
    dense = np.where(block[:, None] == block, np.float32(similarity), np.float32(0))
    np.fill_diagonal(dense, 1)
    return csr_matrix(dense)


def same_partition(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    return np.array_equal(number_clusters(one), number_clusters(other))


# DBSCAN


def slow_dbscan(similarity: csr_matrix, eps: float, min_samples: int) -> NDArray[np.int64]:
    """Each cluster grows from its first core sample, through core samples, before the next one begins."""
    near = np.float32(1) - similarity.toarray() <= np.float32(eps)
    is_core = near.sum(axis=1) >= min_samples
    labels = np.full(len(near), -1, dtype=np.int64)
    for first in np.flatnonzero(is_core):
        if labels[first] != -1:
            continue
        labels[first] = label = labels.max() + 1
        waiting = [first]
        while waiting:
            for reached in np.flatnonzero(near[waiting.pop()] & (labels == -1)):
                labels[reached] = label
                if is_core[reached]:
                    waiting.append(reached)
    return labels


@settings(max_examples=30, deadline=None)
@given(
    number=st.integers(1, 60),
    spread=st.sampled_from([0.0, 0.4, 0.7, 1.5]),
    eps=st.floats(0.05, 0.95),
    min_samples=st.integers(1, 8),
    seed=st.integers(0, 10_000),
)
def test_dbscan_gives_the_labels_of_the_dense_matrix(
    number: int, spread: float, eps: float, min_samples: int, seed: int
) -> None:
    features = people(number, 6, seed, spread)
    complete = jaccard_similarity(features, 8, 3)
    near = jaccard_similarity(features, 8, 3, max_distance=eps)
    dense = np.maximum(np.float32(1) - complete.toarray(), 0)
    expected = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(dense).labels_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(dbscan_labels(complete, eps, min_samples), expected)
        np.testing.assert_array_equal(dbscan_labels(near, eps, min_samples), expected)


@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(0, 40),
    density=st.sampled_from([0.05, 0.1, 0.3, 1.0]),
    steps=st.integers(2, 9),
    eps=st.floats(0.05, 0.95),
    min_samples=st.integers(1, 6),
    seed=st.integers(0, 10_000),
)
def test_dbscan_follows_the_definition_on_any_graph_and_on_ties(
    number: int, density: float, steps: int, eps: float, min_samples: int, seed: int
) -> None:
    similarity = random_similarity(number, density, seed)
    similarity.data = np.ceil(similarity.data * steps).astype(np.float32) / np.float32(steps)
    for limit in (eps, 1 - 1 / steps):  # the second is the distance of many pairs
        expected = slow_dbscan(similarity, limit, min_samples)
        np.testing.assert_array_equal(dbscan_labels(similarity, limit, min_samples), expected)


def test_dbscan_gives_a_sample_between_two_clusters_to_the_first() -> None:
    dense = blocks(4, 1, 4).toarray()
    for neighbour in (3, 5):
        dense[4, neighbour] = dense[neighbour, 4] = 0.5
    np.testing.assert_array_equal(dbscan_labels(csr_matrix(dense), 0.6), [0, 0, 0, 0, 0, 1, 1, 1, 1])
    reverse = csr_matrix(dense[::-1, ::-1])
    np.testing.assert_array_equal(dbscan_labels(reverse, 0.6), [0, 0, 0, 0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stored", [0.0, 0.5])
def test_samples_count_themselves_without_a_stored_diagonal(seed: int, stored: float) -> None:
    whole = random_similarity(40, 0.2, seed)
    pairs = whole.tocoo()
    # Of some samples, or of none, the diagonal stays.
    kept = (pairs.row != pairs.col) | (pairs.row < 40 * stored)
    without = csr_matrix((pairs.data[kept], (pairs.row[kept], pairs.col[kept])), shape=whole.shape)
    assert without.nnz < whole.nnz
    for eps, min_samples in ((0.3, 1), (0.5, 3), (0.7, 4)):
        assert np.array_equal(dbscan_labels(without, eps, min_samples), dbscan_labels(whole, eps, min_samples))
    assert np.array_equal(hdbscan_labels(without, 3, 3), hdbscan_labels(whole, 3, 3))


def test_dbscan_of_two_triples_and_a_single_one() -> None:
    graph = csr_matrix(np.kron(np.eye(3)[:, :2] @ np.eye(3)[:2], np.ones((3, 3)) - np.eye(3))[:7, :7] * 0.8)
    assert dbscan_labels(graph, 0.5, 3).tolist() == [0, 0, 0, 1, 1, 1, -1]
    assert hdbscan_labels(graph, 3, 3).tolist() == [0, 0, 0, 1, 1, 1, -1]


def test_dbscan_where_everything_is_noise() -> None:
    np.testing.assert_array_equal(dbscan_labels(csr_matrix(np.eye(5, dtype=np.float32)), 0.6), [-1] * 5)


def test_dbscan_refuses_wrong_arguments() -> None:
    similarity = csr_matrix(np.eye(3, dtype=np.float32))
    for eps in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="eps"):
            dbscan_labels(similarity, eps)
    with pytest.raises(ValueError, match="got 0"):
        dbscan_labels(similarity, 0.5, 0)
    with pytest.raises(ValueError, match="square"):
        dbscan_labels(csr_matrix(np.ones((2, 3), dtype=np.float32)), 0.5)


# HDBSCAN


def slow_hdbscan(similarity: csr_matrix, min_samples: int, min_cluster_size: int) -> NDArray[np.int64]:
    """The definition, on the dense matrix: lower the threshold through every value that occurs."""
    distance = (np.float32(1) - similarity.toarray()).astype(np.float64)
    number = len(distance)
    ordered = np.sort(distance, axis=1)
    core = ordered[:, min_samples - 1] if min_samples <= number else np.ones(number)
    reach = np.maximum(np.maximum.outer(core, core), distance)

    def parts(members: list[int], threshold: float) -> list[list[int]]:
        found, left = [], set(members)
        while left:
            part, new = set(), {min(left)}
            while new:
                part |= new
                left -= new
                new = {j for j in left if any(reach[i, j] < threshold for i in new)}
            found.append(sorted(part))
        return found

    def best(members: list[int], birth: float) -> tuple[float, list[list[int]]]:
        """The largest stability within a cluster, and the clusters that have it."""
        current, stability = members, 0.0
        for threshold in sorted({1.0, *np.unique(reach)}, reverse=True):
            if threshold >= birth:
                continue
            density = 1 / max(threshold, 2.0**-60)
            large = [part for part in parts(current, threshold) if len(part) >= min_cluster_size]
            staying = large[0] if len(large) == 1 else []
            stability += (len(current) - len(staying)) * (density - 1 / birth)
            if len(large) > 1:
                within = [best(part, threshold) for part in large]
                total = sum(value for value, _ in within)
                if total > stability:
                    return total, [cluster for _, clusters in within for cluster in clusters]
            if not staying:
                return stability, [members]
            current = staying
        raise AssertionError("at distance 0 nothing stays")

    large = [part for part in parts(list(range(number)), 1.0) if len(part) >= min_cluster_size]
    threshold = 1.0
    for lower in sorted(np.unique(reach), reverse=True):
        if len(large) != 1:
            break
        if lower < 1:
            threshold = lower
            large = [part for part in parts(large[0], lower) if len(part) >= min_cluster_size]
    labels = np.full(number, -1, dtype=np.int64)
    clusters = [cluster for part in large for cluster in best(part, threshold)[1]] if len(large) > 1 else []
    for label, cluster in enumerate(sorted(clusters)):
        labels[cluster] = label
    return labels


@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(0, 22),
    density=st.sampled_from([0.1, 0.2, 0.4, 1.0]),
    steps=st.sampled_from([3, 8, 10_000]),
    min_samples=st.integers(1, 5),
    min_cluster_size=st.integers(2, 5),
    seed=st.integers(0, 10_000),
)
def test_hdbscan_follows_the_definition_also_on_ties(
    number: int, density: float, steps: int, min_samples: int, min_cluster_size: int, seed: int
) -> None:
    similarity = random_similarity(number, density, seed)
    similarity.data = np.ceil(similarity.data * steps).astype(np.float32) / np.float32(steps)
    np.testing.assert_array_equal(
        hdbscan_labels(similarity, min_samples, min_cluster_size),
        slow_hdbscan(similarity, min_samples, min_cluster_size),
    )


@settings(max_examples=40, deadline=None)
@given(number=st.integers(2, 60), min_cluster_size=st.integers(2, 6), seed=st.integers(0, 10_000))
def test_hdbscan_is_that_of_scikit_learn_where_thresholds_differ(number: int, min_cluster_size: int, seed: int) -> None:
    # All pairs stored, and no core distances: then no two pairs have the same mutual reachability.
    similarity = random_similarity(number, 1.0, seed)
    dense = (np.float32(1) - similarity.toarray()).astype(np.float64)
    method = HDBSCAN(min_cluster_size=min_cluster_size, min_samples=1, metric="precomputed", copy=True)
    assert same_partition(hdbscan_labels(similarity, 1, min_cluster_size), method.fit(dense).labels_)


@pytest.mark.parametrize("min_samples", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_hdbscan_is_that_of_scikit_learn_on_people_with_absent_pairs(seed: int, min_samples: int) -> None:
    generator = np.random.default_rng(seed)
    sizes = [12, 9, 15, 7]
    dense = np.zeros((43, 43), dtype=np.float32)
    start = 0
    for size in sizes:
        # Each is a line on which two groups lie; groups of different people share nothing.
        place = np.sort(generator.random(size)) + (np.arange(size) >= size // 2)
        gap = np.abs(place[:, None] - place)
        dense[start : start + size, start : start + size] = 1 - 0.45 * gap
        start += size
    np.fill_diagonal(dense, 1)
    similarity = csr_matrix(dense)
    assert similarity.nnz == sum(size**2 for size in sizes)
    method = HDBSCAN(min_cluster_size=4, min_samples=min_samples, metric="precomputed", copy=True)
    expected = method.fit(1 - dense.astype(np.float64)).labels_
    found = hdbscan_labels(similarity, min_samples, 4)
    # With core distances several pairs are reached at once; scikit-learn gives the sample between to one side.
    both = (found >= 0) & (expected >= 0)
    assert both.mean() > 0.75
    assert same_partition(found[both], expected[both])
    if min_samples == 1:
        assert same_partition(found, expected)


@settings(max_examples=25, deadline=None)
@given(
    number=st.integers(1, 80),
    spread=st.sampled_from([0.0, 0.3, 0.6]),
    min_samples=st.integers(1, 5),
    seed=st.integers(0, 10_000),
)
def test_hdbscan_labels_do_not_depend_on_the_order(number: int, spread: float, min_samples: int, seed: int) -> None:
    similarity = jaccard_similarity(people(number, 6, seed, spread), 8, 3)
    order = np.random.default_rng(seed).permutation(number)
    labels = hdbscan_labels(similarity, min_samples)
    shuffled = hdbscan_labels(csr_matrix(similarity[order][:, order]), min_samples)
    assert same_partition(shuffled, labels[order])
    present, first, counts = np.unique(labels[labels >= 0], return_index=True, return_counts=True)
    np.testing.assert_array_equal(present, np.arange(len(present)))
    assert (np.diff(first) > 0).all()
    assert (counts >= 4).all()


def test_hdbscan_where_everything_is_noise() -> None:
    for number in (0, 1, 2, 3, 20):
        labels = hdbscan_labels(csr_matrix(np.eye(number, dtype=np.float32)))
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, [-1] * number)


def test_hdbscan_finds_disconnected_groups_and_leaves_the_rest() -> None:
    labels = hdbscan_labels(blocks(5, 1, 4, 3, 6, 1))
    np.testing.assert_array_equal(labels, [0] * 5 + [-1] + [1] * 4 + [-1] * 3 + [2] * 6 + [-1])


def test_hdbscan_takes_no_single_cluster() -> None:
    np.testing.assert_array_equal(hdbscan_labels(blocks(9)), [-1] * 9)
    np.testing.assert_array_equal(hdbscan_labels(blocks(1, 9, 3)), [-1] * 13)


def test_hdbscan_of_duplicates() -> None:
    # Distance zero is the nearest there is, not an absent pair; duplicates do not fall apart.
    np.testing.assert_array_equal(hdbscan_labels(blocks(8, 5, similarity=1.0)), [0] * 8 + [1] * 5)
    dense = blocks(6, 6, similarity=1.0).toarray()
    dense[dense == 0] = 0.25
    labels = hdbscan_labels(csr_matrix(dense))
    np.testing.assert_array_equal(labels, [0] * 6 + [1] * 6)


def test_hdbscan_of_too_few_neighbours() -> None:
    # In a ring each sample has two neighbours and itself: with min_samples=4 none is a core sample below distance 1.
    dense = np.eye(12, dtype=np.float32)
    for i in range(12):
        dense[i, (i + 1) % 12] = dense[(i + 1) % 12, i] = 0.9
    ring = np.block([[dense, np.zeros_like(dense)], [np.zeros_like(dense), dense]])
    np.testing.assert_array_equal(hdbscan_labels(csr_matrix(ring), 4), [-1] * 24)
    np.testing.assert_array_equal(hdbscan_labels(csr_matrix(ring), 3), [0] * 12 + [1] * 12)


def test_hdbscan_finds_clusters_at_different_depths() -> None:
    # Two tight groups that are near each other, and a loose one. No eps of DBSCAN separates all three.
    dense = np.zeros((15, 15), dtype=np.float32)
    dense[:10, :10] = 0.5
    dense[:5, :5] = dense[5:10, 5:10] = 0.9
    dense[10:, 10:] = 0.3
    np.fill_diagonal(dense, 1)
    similarity = csr_matrix(dense)
    np.testing.assert_array_equal(hdbscan_labels(similarity), [0] * 5 + [1] * 5 + [2] * 5)
    for eps in (0.2, 0.6, 0.8):
        assert dbscan_labels(similarity, eps).max() < 2


def test_the_matrix_is_left_as_it_is() -> None:
    similarity = jaccard_similarity(people(30, 6, 0), 8, 3)
    before = similarity.copy()
    dbscan_labels(similarity, 0.5)
    hdbscan_labels(similarity)
    np.testing.assert_array_equal(similarity.data, before.data)
    np.testing.assert_array_equal(similarity.indices, before.indices)


def test_hdbscan_refuses_wrong_arguments() -> None:
    similarity = csr_matrix(np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match="min_samples must be at least 1, got 0"):
        hdbscan_labels(similarity, 0)
    with pytest.raises(ValueError, match="min_cluster_size must be at least 2, got 1"):
        hdbscan_labels(similarity, 4, 1)
    with pytest.raises(ValueError, match="square"):
        hdbscan_labels(csr_matrix(np.ones((2, 3), dtype=np.float32)))


def test_clusters_are_numbered_by_their_first_sample() -> None:
    np.testing.assert_array_equal(number_clusters(np.array([7, 3, -2, 7, 3, 5])), [0, 1, -1, 0, 1, 2])
    np.testing.assert_array_equal(number_clusters(np.array([7, 3, -2, 7, 3, 5]), 2), [0, 1, -1, 0, 1, -1])
    assert number_clusters(np.empty(0, dtype=np.int64)).dtype == np.int64
