from __future__ import annotations

import numpy as np
import pytest

from pclhd.clustering.pseudo_labels import PseudoLabels, cluster_centres, compact_labels


def test_all_noise() -> None:
    found = PseudoLabels(np.full(5, -1))
    assert (found.num_clusters, found.noise_share, len(found.sizes), len(found)) == (0, 1.0, 0, 5)


def test_no_samples() -> None:
    found = PseudoLabels(np.empty(0, dtype=np.int64))
    assert (len(found), found.num_clusters, found.noise_share, len(found.sizes)) == (0, 0, 0.0, 0)


def test_clusters_and_noise() -> None:
    found = PseudoLabels(np.array([1, 0, -1, 1]))
    assert (found.num_clusters, found.noise_share, found.sizes.tolist()) == (2, 0.25, [1, 2])


def test_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="without gaps"):
        PseudoLabels(np.array([0, 2]))


def test_compact_labels() -> None:
    np.testing.assert_array_equal(compact_labels(np.array([7, -1, 3, 7, 12])), [1, -1, 0, 1, 2])
    np.testing.assert_array_equal(compact_labels(np.array([4, 4])), [0, 0])
    np.testing.assert_array_equal(compact_labels(np.array([-1, -1])), [-1, -1])
    assert len(compact_labels(np.empty(0, dtype=np.int64))) == 0


def test_centres_are_means_without_the_noise() -> None:
    rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    labels = np.array([1, 0, -1, 1, 1, 0, -1])
    centres = cluster_centres(rows, labels)
    assert centres.dtype == np.float32
    for cluster in (0, 1):
        np.testing.assert_allclose(centres[cluster], rows[labels == cluster].mean(0), rtol=1e-5)


def test_no_centres() -> None:
    rows = np.ones((3, 2), dtype=np.float32)
    assert cluster_centres(rows, np.full(3, -1)).shape == (0, 2)
    assert cluster_centres(rows[:0], np.empty(0, dtype=np.int64)).shape == (0, 2)
