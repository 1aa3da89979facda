from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.cluster import DBSCAN

from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.clustering.pseudo_labels import (
    Clusterer,
    JaccardDBSCAN,
    PseudoLabels,
    cluster_features,
    compact_labels,
    dbscan_labels,
)
from tests.clustering.test_jaccard import people


@settings(max_examples=30, deadline=None)
@given(
    number=st.integers(1, 60),
    spread=st.sampled_from([0.0, 0.4, 0.7, 1.5]),
    eps=st.floats(0.05, 0.95),
    min_samples=st.integers(1, 8),
    seed=st.integers(0, 10_000),
)
def test_same_labels_as_on_the_dense_matrix(
    number: int, spread: float, eps: float, min_samples: int, seed: int
) -> None:
    features = people(number, 6, seed, spread)
    complete = jaccard_similarity(features, 8, 3)
    near = jaccard_similarity(features, 8, 3, max_distance=eps)
    dense = np.float32(1) - complete.toarray()
    expected = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(dense).labels_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(dbscan_labels(complete, eps, min_samples), expected)
        np.testing.assert_array_equal(dbscan_labels(near, eps, min_samples), expected)


def test_the_matrix_is_left_as_it_is() -> None:
    similarity = jaccard_similarity(people(30, 6, 0), 8, 3)
    before = similarity.copy()
    dbscan_labels(similarity, 0.5)
    np.testing.assert_array_equal(similarity.data, before.data)
    np.testing.assert_array_equal(similarity.indices, before.indices)


def test_all_noise() -> None:
    labels = dbscan_labels(csr_matrix(np.eye(5, dtype=np.float32)), 0.6)
    np.testing.assert_array_equal(labels, [-1] * 5)
    found = PseudoLabels(labels)
    assert (found.num_clusters, found.noise_share, len(found.sizes), len(found)) == (0, 1.0, 0, 5)


def test_duplicates_are_one_cluster_though_their_distance_is_zero() -> None:
    found = cluster_features(np.ones((6, 3), dtype=np.float32), k1=20, k2=6, eps=0.3)
    np.testing.assert_array_equal(found.labels, [0] * 6)
    assert (found.num_clusters, found.noise_share, found.sizes.tolist()) == (1, 0.0, [6])


def test_no_samples() -> None:
    found = cluster_features(np.empty((0, 3), dtype=np.float32), k1=20, k2=6, eps=0.3)
    assert found.labels.dtype == np.int64
    assert (len(found), found.num_clusters, found.noise_share, len(found.sizes)) == (0, 0, 0.0, 0)


def test_far_groups_are_found() -> None:
    features = np.repeat(np.eye(4, dtype=np.float32), 6, axis=0)
    features += 0.01 * np.random.default_rng(0).standard_normal(features.shape).astype(np.float32)
    order = np.random.default_rng(1).permutation(24)
    found = cluster_features(features[order], k1=6, k2=3, eps=0.5)
    assert found.num_clusters == 4
    assert len(np.unique(np.stack([found.labels, order // 6]), axis=1).T) == 4


def test_the_clusterer_passes_every_setting_on() -> None:
    features, modality = people(80, 6, 5, 0.6), np.arange(80) % 2
    base = JaccardDBSCAN(k1=10, k2=4, eps=0.5)
    clusterer: Clusterer = base
    expected = cluster_features(features, k1=10, k2=4, eps=0.5)
    np.testing.assert_array_equal(clusterer(features).labels, expected.labels)
    others = [
        JaccardDBSCAN(k1=20, k2=4, eps=0.5)(features),
        JaccardDBSCAN(k1=10, k2=1, eps=0.5)(features),
        JaccardDBSCAN(k1=10, k2=4, eps=0.3)(features),
        JaccardDBSCAN(k1=10, k2=4, eps=0.5, min_samples=9)(features),
        JaccardDBSCAN(k1=10, k2=4, eps=0.5, neighbourhood="paper")(features),
        base(features, modality=modality),
    ]
    for other in others:
        assert not np.array_equal(other.labels, expected.labels)


def test_compact_labels() -> None:
    np.testing.assert_array_equal(compact_labels(np.array([7, -1, 3, 7, 12])), [1, -1, 0, 1, 2])
    np.testing.assert_array_equal(compact_labels(np.array([4, 4])), [0, 0])
    np.testing.assert_array_equal(compact_labels(np.array([-1, -1])), [-1, -1])
    assert len(compact_labels(np.empty(0, dtype=np.int64))) == 0


def test_wrong_arguments_are_refused() -> None:
    similarity = csr_matrix(np.eye(3, dtype=np.float32))
    for eps in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="eps"):
            dbscan_labels(similarity, eps)
        with pytest.raises(ValueError, match="eps"):
            cluster_features(np.ones((3, 2), dtype=np.float32), k1=2, k2=1, eps=eps)
    with pytest.raises(ValueError, match="got 0"):
        dbscan_labels(similarity, 0.5, 0)
    with pytest.raises(ValueError, match="square"):
        dbscan_labels(csr_matrix(np.ones((2, 3), dtype=np.float32)), 0.5)
    with pytest.raises(ValueError, match="without gaps"):
        PseudoLabels(np.array([0, 2]))
