from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_rand_score

from pclhd.clustering.density import dbscan_labels
from pclhd.clustering.eps import CANDIDATES, EpsChoice, choose_eps
from pclhd.clustering.jaccard import jaccard_similarity
from tests.clustering.test_jaccard import people

few = settings(max_examples=20, deadline=None)


def noisy_people(seed: int, spread: float, number: int = 400) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """About twenty images of each person, and their identities."""
    generator = np.random.default_rng(seed)
    identities = generator.integers(0, number // 20, number)
    features = generator.standard_normal((number // 20, 16))[identities]
    features += spread * generator.standard_normal(features.shape)
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), identities


def slow_score(similarity: csr_matrix, labels: NDArray[np.int64], largest: float) -> float:
    """The criterion as it is documented, over all pairs."""
    distance = 1 - similarity.toarray().astype(np.float64)
    distance[distance > np.float32(largest)] = 1
    clusters = set(labels.tolist()) - {-1}
    gaps = []
    for i, label in enumerate(labels):
        own = [j for j in range(len(labels)) if labels[j] == label and j != i]
        if label == -1 or not own:
            gaps.append(0.0)
            continue
        b = min((distance[i, labels == other].mean() for other in clusters - {int(label)}), default=1.0)
        gaps.append(b - distance[i, own].mean())
    return float(np.mean(gaps) * np.mean(labels != -1))


def assert_same(one: EpsChoice, two: EpsChoice) -> None:
    assert (one.eps, one.clustered, one.clusters, one.noise) == (two.eps, two.clustered, two.clusters, two.noise)
    assert one.scores == pytest.approx(two.scores)
    np.testing.assert_array_equal(one.labels, two.labels)


# awkward cases


def test_nothing_to_cluster() -> None:
    found = choose_eps(csr_matrix(np.empty((0, 0), dtype=np.float32)))
    assert (found.eps, found.clustered, found.labels.shape) == (0.7, False, (0,))
    assert found.noise == dict.fromkeys(CANDIDATES, 0.0)


@pytest.mark.parametrize("number", [1, 5])
def test_all_noise_at_every_candidate(number: int) -> None:
    found = choose_eps(csr_matrix(np.eye(number, dtype=np.float32)), candidates=(0.5, 0.3, 0.4))
    assert (found.eps, found.clustered) == (0.5, False)
    np.testing.assert_array_equal(found.labels, [-1] * number)
    assert found.scores == dict.fromkeys((0.3, 0.4, 0.5), 0.0)
    assert found.clusters == dict.fromkeys((0.3, 0.4, 0.5), 0)
    assert found.noise == dict.fromkeys((0.3, 0.4, 0.5), 1.0)


def test_duplicates_are_one_cluster_at_the_smallest_candidate() -> None:
    found = choose_eps(csr_matrix(np.ones((6, 6), dtype=np.float32)))
    assert (found.eps, found.clustered, found.scores[0.7]) == (0.3, True, 1.0)
    np.testing.assert_array_equal(found.labels, [0] * 6)


def test_a_bad_clustering_is_still_better_than_none() -> None:
    # Whatever the radius, a cluster runs through the middle of each pair of copies: all gaps are negative.
    similarity = csr_matrix(np.kron(np.eye(4), np.ones((2, 2))).astype(np.float32))
    halves = np.array([0, 1] * 4)

    def cluster(near: csr_matrix, eps: float, min_samples: int) -> NDArray[np.int64]:
        return halves if eps < 0.5 else np.full(near.shape[0], -1)

    found = choose_eps(similarity, candidates=(0.4, 0.6), cluster=cluster)
    assert found.scores[0.4] < 0 == found.scores[0.6]
    assert (found.eps, found.clustered) == (0.4, True)


# the criterion


@few
@given(number=st.integers(1, 40), spread=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 10_000))
def test_scores_are_those_of_the_definition(number: int, spread: float, seed: int) -> None:
    similarity = jaccard_similarity(people(number, 6, seed, spread), 8, 3)
    found = choose_eps(similarity, min_samples=3, candidates=(0.3, 0.5, 0.8))
    for eps, score in found.scores.items():
        labels = dbscan_labels(similarity, eps, 3)
        assert score == pytest.approx(slow_score(similarity, labels, 0.8), abs=1e-9)
        assert -1 <= score <= 1
        assert found.clusters[eps] == labels.max() + 1
        assert found.noise[eps] == pytest.approx(float(np.mean(labels == -1)))
    np.testing.assert_array_equal(found.labels, dbscan_labels(similarity, found.eps, 3))
    assert found.clustered == any(found.clusters.values())
    if found.clustered:
        best = max(score for eps, score in found.scores.items() if found.clusters[eps])
        assert found.scores[found.eps] == best


@few
@given(number=st.integers(1, 60), spread=st.sampled_from([0.5, 1.0]), seed=st.integers(0, 10_000))
def test_pairs_beyond_the_largest_candidate_do_not_matter(number: int, spread: float, seed: int) -> None:
    features = people(number, 6, seed, spread)
    whole = jaccard_similarity(features, 8, 3)
    before = whole.copy()
    near = jaccard_similarity(features, 8, 3, max_distance=0.7)
    assert_same(choose_eps(whole), choose_eps(near))
    np.testing.assert_array_equal(whole.data, before.data)
    np.testing.assert_array_equal(whole.indptr, before.indptr)


@few
@given(number=st.integers(1, 60), seed=st.integers(0, 10_000))
def test_the_order_of_samples_does_not_matter(number: int, seed: int) -> None:
    # With two samples a core, no sample lies between clusters, where DBSCAN lets the order decide.
    similarity = jaccard_similarity(people(number, 6, seed, 0.8), 8, 3)
    order = np.random.default_rng(seed).permutation(number)
    found = choose_eps(similarity, min_samples=2)
    turned = choose_eps(csr_matrix(similarity[order][:, order]), min_samples=2)
    assert turned.scores == pytest.approx(found.scores, abs=1e-9)
    assert turned.clusters == found.clusters


def test_the_order_of_candidates_does_not_matter() -> None:
    similarity = jaccard_similarity(people(60, 6, 0, 0.6), 8, 3)
    found = choose_eps(similarity, candidates=(0.6, 0.3, 0.45, 0.3))
    assert list(found.scores) == [0.3, 0.45, 0.6]
    assert_same(found, choose_eps(similarity, candidates=(0.3, 0.45, 0.6)))


def test_of_equal_scores_the_smallest_radius_is_taken() -> None:
    similarity = csr_matrix(np.kron(np.eye(3), np.ones((5, 5))).astype(np.float32))
    found = choose_eps(similarity, candidates=(0.5, 0.2, 0.9))
    assert found.scores == {0.2: 1.0, 0.5: 1.0, 0.9: 1.0}
    assert found.eps == 0.2


def test_another_clustering_can_be_asked() -> None:
    asked: list[tuple[float, int]] = []

    def cluster(similarity: csr_matrix, eps: float, min_samples: int) -> NDArray[np.int64]:
        asked.append((eps, min_samples))
        return np.arange(similarity.shape[0]) // 5 if eps == 0.4 else np.zeros(similarity.shape[0], dtype=np.int64)

    similarity = csr_matrix(np.kron(np.eye(3), np.ones((5, 5))).astype(np.float32))
    found = choose_eps(similarity, min_samples=7, candidates=(0.3, 0.4, 0.5), cluster=cluster)
    assert asked == [(0.3, 7), (0.4, 7), (0.5, 7)]
    assert (found.eps, found.clusters) == (0.4, {0.3: 1, 0.4: 3, 0.5: 1})


@pytest.mark.parametrize(("seed", "spread"), [(0, 0.8), (1, 0.9), (2, 1.2)])
def test_the_choice_is_near_the_best_of_the_candidates(seed: int, spread: float) -> None:
    features, identities = noisy_people(seed, spread)
    similarity = jaccard_similarity(features, 20, 6, max_distance=0.7)
    reached = {}
    for eps in CANDIDATES:
        labels = dbscan_labels(similarity, eps)
        labels = np.where(labels < 0, labels.max() + 1 + np.arange(len(labels)), labels)
        reached[eps] = adjusted_rand_score(identities, labels)
    chosen = reached[choose_eps(similarity).eps]
    assert max(reached.values()) - min(reached.values()) > 0.1  # there is something to choose
    assert chosen > max(reached.values()) - 0.1


def test_values_out_of_range() -> None:
    similarity = csr_matrix(np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match="at least one radius"):
        choose_eps(similarity, candidates=())
    for eps in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            choose_eps(similarity, candidates=(0.5, eps))
    with pytest.raises(ValueError, match=r"square, got shape \(2, 3\)"):
        choose_eps(csr_matrix(np.ones((2, 3), dtype=np.float32)))
    with pytest.raises(ValueError, match="min_samples"):
        choose_eps(similarity, min_samples=0)
