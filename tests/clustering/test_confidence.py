from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.metrics import silhouette_samples

from pclhd.clustering.confidence import (
    cluster_stability,
    confidence,
    drop_outliers,
    global_confidence,
    label_confidence,
    local_confidence,
    rescue_outliers,
    separations,
    silhouettes,
    stability,
)
from pclhd.clustering.jaccard import jaccard_similarity
from tests.clustering.test_jaccard import people

Labels = NDArray[np.int64]
Values = NDArray[np.float64]

NOTHING = csr_matrix(np.empty((0, 0), dtype=np.float32))
NO_LABELS = np.empty(0, dtype=np.int64)


def graph(dense: list[list[float]]) -> csr_matrix:
    """A symmetric similarity from its upper triangle; zeros are not stored."""
    upper = np.triu(np.array(dense, dtype=np.float32), 1)
    return csr_matrix(upper + upper.T + np.eye(len(dense), dtype=np.float32))


def random_case(number: int, clusters: int, seed: int) -> tuple[csr_matrix, NDArray[np.float32], Labels]:
    """A similarity, its features, and labels that mostly agree with it; some samples are duplicates."""
    generator = np.random.default_rng(seed)
    features = people(number, 6, seed, spread=0.6)
    copies = generator.integers(0, number, number // 4)
    features[copies] = features[generator.integers(0, number, number // 4)]
    nearest = (features @ generator.standard_normal((6, clusters))).argmax(axis=1)
    labels = np.where(generator.random(number) < 0.2, generator.integers(-1, clusters, number), nearest)
    labels[generator.random(number) < 0.1] = -1
    labels = np.unique(np.append(labels, -1), return_inverse=True)[1][:-1] - 1
    return jaccard_similarity(features, 8, 3, max_distance=0.9), features, labels.astype(np.int64)


cases = given(number=st.integers(1, 50), clusters=st.integers(1, 8), seed=st.integers(0, 10_000))
few = settings(max_examples=40, deadline=None)


# silhouettes


def slow_silhouettes(similarity: csr_matrix, labels: Labels, *, divide: bool = True) -> Values:
    """The definition, over all pairs; without the division it is the separation."""
    distance = 1 - similarity.toarray().astype(np.float64)
    result = np.zeros(len(labels))
    for i, label in enumerate(labels):
        own = [j for j in range(len(labels)) if labels[j] == label and j != i]
        if label == -1 or not own:
            continue
        a = distance[i, own].mean()
        others = [distance[i, labels == other].mean() for other in set(labels.tolist()) - {-1, int(label)}]
        b = min(others, default=1.0)
        result[i] = b - a
        if divide and max(a, b) > 0:
            result[i] /= max(a, b)
    return result


@few
@cases
def test_silhouettes_are_those_of_the_definition(number: int, clusters: int, seed: int) -> None:
    similarity, _, labels = random_case(number, clusters, seed)
    found = silhouettes(similarity, labels)
    np.testing.assert_allclose(found, slow_silhouettes(similarity, labels), atol=1e-12)
    assert (np.abs(found) <= 1).all()
    gaps = separations(similarity, labels)
    np.testing.assert_allclose(gaps, slow_silhouettes(similarity, labels, divide=False), atol=1e-12)
    assert (np.abs(gaps) <= np.abs(found) + 1e-12).all()


@few
@given(number=st.integers(4, 50), clusters=st.integers(2, 8), seed=st.integers(0, 10_000))
def test_silhouettes_are_those_of_the_dense_matrix(number: int, clusters: int, seed: int) -> None:
    similarity, _, labels = random_case(number, clusters, seed)
    kept = labels >= 0
    assume(2 <= len(np.unique(labels[kept])) < kept.sum())  # undefined elsewhere
    distance = np.maximum(1 - similarity.toarray().astype(np.float64), 0)[np.ix_(kept, kept)]
    expected = silhouette_samples(distance, labels[kept], metric="precomputed")
    np.testing.assert_allclose(silhouettes(similarity, labels)[kept], expected, atol=1e-6)
    assert not silhouettes(similarity, labels)[~kept].any()


def test_silhouettes_by_hand() -> None:
    similarity = graph([[1, 0.8, 0.2, 0.0], [0, 1, 0.0, 0.0], [0, 0, 1, 0.4], [0, 0, 0, 1]])
    # Sample 0: a = 0.2, b = (0.8 + 1) / 2. Sample 2: a = 0.6, b = (0.8 + 1) / 2. Samples 1 and 3: b = 1.
    expected = [0.7 / 0.9, 0.8, 0.3 / 0.9, 0.4]
    labels = np.array([0, 0, 1, 1])
    np.testing.assert_allclose(silhouettes(similarity, labels), expected, atol=1e-6)
    np.testing.assert_allclose(separations(similarity, labels), [0.7, 0.8, 0.3, 0.4], atol=1e-6)


@pytest.mark.parametrize("labels", [[-1, -1, -1], [0, 1, 2], [-1, 0, -1]])
def test_silhouettes_of_noise_and_single_samples_are_zero(labels: list[int]) -> None:
    similarity = graph([[1, 0.9, 0.9], [0, 1, 0.9], [0, 0, 1]])
    np.testing.assert_array_equal(silhouettes(similarity, np.array(labels)), 0)


def test_silhouettes_of_one_cluster_measure_against_nothing_in_common() -> None:
    similarity = graph([[1, 0.5, 0.0], [0, 1, 0.0], [0, 0, 1]])
    np.testing.assert_allclose(silhouettes(similarity, np.array([0, 0, -1])), [0.5, 0.5, 0])


def test_silhouettes_of_duplicates() -> None:
    everywhere = csr_matrix(np.ones((4, 4), dtype=np.float32))
    np.testing.assert_array_equal(silhouettes(everywhere, np.array([0, 0, 1, 1])), 0)  # a = b = 0
    apart = csr_matrix(np.kron(np.eye(2), np.ones((2, 2))).astype(np.float32))
    np.testing.assert_array_equal(silhouettes(apart, np.array([0, 0, 1, 1])), 1)
    # Each sample's copy is in the other cluster: a = 1, b = (0 + 1) / 2.
    np.testing.assert_array_equal(silhouettes(apart, np.array([0, 1, 0, 1])), -0.5)


def test_noise_counts_neither_as_own_nor_as_another_cluster() -> None:
    near_noise = graph([[1, 0.5, 0.9], [0, 1, 0.9], [0, 0, 1]])
    far_noise = graph([[1, 0.5, 0.0], [0, 1, 0.0], [0, 0, 1]])
    labels = np.array([0, 0, -1])
    np.testing.assert_array_equal(silhouettes(near_noise, labels), silhouettes(far_noise, labels))


def test_no_samples() -> None:
    empty = np.empty((0, 3), dtype=np.float32)
    for result in (
        silhouettes(NOTHING, NO_LABELS),
        separations(NOTHING, NO_LABELS),
        cluster_stability(NO_LABELS, NO_LABELS),
        local_confidence(NOTHING, NO_LABELS),
        global_confidence(empty, NO_LABELS),
        confidence(np.empty(0), np.empty(0)),
        rescue_outliers(NOTHING, empty, NO_LABELS),
        drop_outliers(NO_LABELS, np.empty(0), 0.5),
    ):
        assert result.shape == (0,)
    assert stability(NO_LABELS, NO_LABELS) == 0


# stability


def slow_stability(labels: Labels, other: Labels) -> list[float]:
    best = []
    for cluster in range(labels.max(initial=-1) + 1):
        members = set(np.flatnonzero(labels == cluster).tolist())
        rivals = [set(np.flatnonzero(other == rival).tolist()) for rival in range(other.max(initial=-1) + 1)]
        best.append(max((len(members & rival) / len(members | rival) for rival in rivals), default=0.0))
    return best


@few
@given(
    labels=st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 5)), min_size=1, max_size=30),
)
def test_stability_is_the_best_overlap(labels: list[tuple[int, int]]) -> None:
    one, two = np.array(labels).T
    one = (np.unique(np.append(one, -1), return_inverse=True)[1] - 1)[:-1]
    two = (np.unique(np.append(two, -1), return_inverse=True)[1] - 1)[:-1]
    found = cluster_stability(one, two)
    np.testing.assert_allclose(found, slow_stability(one, two))
    assert ((found >= 0) & (found <= 1)).all()
    if len(found):
        assert stability(one, two) == pytest.approx(np.average(found, weights=np.bincount(one[one >= 0])))
        assert stability(one, one) == 1
    else:
        assert stability(one, two) == 0


def test_stability_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, -1])
    other = np.array([1, 1, 1, 0, 0, 0, -1, -1, 0])
    np.testing.assert_allclose(cluster_stability(labels, other), [3 / 4, 2 / 4, 0])
    assert stability(labels, other) == pytest.approx((4 * 3 / 4 + 2 * 2 / 4) / 8)


def test_nothing_is_stable_where_all_is_noise() -> None:
    np.testing.assert_array_equal(cluster_stability(np.array([0, 0, 1]), np.array([-1, -1, -1])), [0, 0])
    assert cluster_stability(np.array([-1, -1, -1]), np.array([0, 0, 1])).shape == (0,)
    assert stability(np.array([-1, -1]), np.array([0, 0])) == 0


# local confidence


def slow_local_confidence(similarity: csr_matrix, labels: Labels, k: int) -> Values:
    dense = similarity.toarray().astype(np.float64)
    result = np.zeros(len(labels))
    for i, label in enumerate(labels):
        others = sorted(((dense[i, j], j) for j in range(len(labels)) if j != i), reverse=True)
        asked = [(value, j) for value, j in others if len(others) < k or value >= others[k - 1][0]]
        total = sum(value for value, _ in asked)
        if label >= 0 and total > 0:
            result[i] = sum(value for value, j in asked if labels[j] == label) / total
    return result


@few
@given(number=st.integers(1, 50), clusters=st.integers(1, 8), k=st.integers(1, 60), seed=st.integers(0, 10_000))
def test_local_confidence_is_a_share_of_the_nearest(number: int, clusters: int, k: int, seed: int) -> None:
    similarity, _, labels = random_case(number, clusters, seed)
    found = local_confidence(similarity, labels, k)
    np.testing.assert_allclose(found, slow_local_confidence(similarity, labels, k), atol=1e-12)
    assert ((found >= 0) & (found <= 1)).all()


def test_local_confidence_by_hand() -> None:
    similarity = graph([[1, 0.5, 0.25, 0.25, 0.125], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0] * 5])
    labels = np.array([0, 0, 1, 0, -1])
    assert local_confidence(similarity, labels, 1)[0] == 1
    # The third is as near as the second.
    assert local_confidence(similarity, labels, 2)[0] == pytest.approx(0.75)
    assert local_confidence(similarity, labels, 4)[0] == pytest.approx(0.75 / 1.125)
    assert local_confidence(similarity, labels, 4)[4] == 0


def test_a_sample_without_neighbours_has_no_local_confidence() -> None:
    alone = csr_matrix(np.eye(3, dtype=np.float32))
    np.testing.assert_array_equal(local_confidence(alone, np.array([0, 0, -1])), 0)


# global confidence


def slow_global_confidence(features: NDArray[np.float32], labels: Labels, temperature: float) -> Values:
    unit = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    result = np.zeros(len(labels))
    for i, label in enumerate(labels):
        if label == -1 or (labels == label).sum() < 2:
            continue
        raised = {}
        for cluster in set(labels.tolist()) - {-1}:
            members = [j for j in range(len(labels)) if labels[j] == cluster and j != i]
            centre = unit[members].mean(axis=0)
            cosine = unit[i] @ centre / np.linalg.norm(centre)
            raised[cluster] = np.exp(cosine / temperature)
        result[i] = raised[int(label)] / sum(raised.values())
    return result


@few
@given(
    number=st.integers(1, 50),
    clusters=st.integers(1, 8),
    temperature=st.sampled_from([0.05, 0.2, 1.0]),
    block=st.sampled_from([1, 3, 100, None]),
    length=st.sampled_from([1e-12, 1.0, 1e6]),
    seed=st.integers(0, 10_000),
)
def test_global_confidence_is_a_softmax_over_prototypes(
    number: int, clusters: int, temperature: float, block: int | None, length: float, seed: int
) -> None:
    _, features, labels = random_case(number, clusters, seed)
    found = global_confidence(features * np.float32(length), labels, temperature, block=block)
    np.testing.assert_allclose(found, slow_global_confidence(features, labels, temperature), atol=2e-5)
    assert ((found >= 0) & (found <= 1)).all()


def test_a_sample_does_not_confirm_itself() -> None:
    features = np.eye(3, dtype=np.float32)
    labels = np.array([0, 0, 1])
    # The other member of cluster 0 is as unlike sample 0 as cluster 1 is.
    np.testing.assert_allclose(global_confidence(features, labels), [0.5, 0.5, 0])


def test_global_confidence_in_a_single_cluster_is_one() -> None:
    features = people(6, 4, 0)
    np.testing.assert_allclose(global_confidence(features, np.array([0, 0, 0, 0, -1, -1])), [1, 1, 1, 1, 0, 0])


def test_features_without_direction_resemble_nothing() -> None:
    features = np.array([[0, 0], [1, 0], [1, 0], [0, 1], [0, -1]], dtype=np.float32)
    # Sample 0 has no direction; cluster 1 as a whole has none.
    found = global_confidence(features, np.array([0, 0, 0, 1, 1]), 1.0)
    assert found[0] == pytest.approx(0.5)
    assert found[1] == pytest.approx(np.e / (np.e + 1))
    assert np.isfinite(found).all()


def test_low_temperatures_do_not_overflow() -> None:
    _, features, labels = random_case(40, 4, 0)
    found = global_confidence(features, labels, 1e-4)
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_sums_over_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    similarity, features, labels = random_case(50, 5, 3)
    whole = global_confidence(features, labels)
    rescued = rescue_outliers(similarity, features, labels, 0.2)
    monkeypatch.setattr("pclhd.clustering.confidence._VALUES_PER_BLOCK", 20)  # three samples
    np.testing.assert_allclose(global_confidence(features, labels), whole, atol=1e-6)
    np.testing.assert_array_equal(rescue_outliers(similarity, features, labels, 0.2), rescued)
    assert (rescued != labels).any()


def test_tensors_are_accepted() -> None:
    similarity, features, labels = random_case(30, 4, 1)
    tensor = torch.from_numpy(features)
    np.testing.assert_array_equal(global_confidence(tensor, labels), global_confidence(features, labels))
    np.testing.assert_array_equal(
        rescue_outliers(similarity, tensor, labels, 0.2), rescue_outliers(similarity, features, labels, 0.2)
    )


# both


def test_confidence_is_the_geometric_mean_of_both_parts() -> None:
    found = confidence(np.array([0.0, 1.0, 0.25, 1.0]), np.array([1.0, 0.0, 1.0, 1.0]))
    np.testing.assert_allclose(found, [0, 0, 0.5, 1])


# rescue and drop


def slow_rescue(similarity: csr_matrix, features: NDArray[np.float32], labels: Labels, threshold: float) -> Labels:
    dense = similarity.toarray().astype(np.float64)
    unit = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    number = labels.max(initial=-1) + 1
    centres = [unit[labels == cluster].mean(axis=0) for cluster in range(number)]
    result = labels.copy()
    for i in np.flatnonzero(labels == -1):
        total = dense[i].sum() - dense[i, i]
        if number == 0 or total == 0:
            continue
        shares = [dense[i, labels == cluster].sum() / total for cluster in range(number)]
        strongest = [cluster for cluster in range(number) if shares[cluster] == max(shares)]
        nearest = int(np.argmax([unit[i] @ centre / np.linalg.norm(centre) for centre in centres]))
        if max(shares) >= threshold and strongest == [nearest]:
            result[i] = nearest
    return result


@few
@given(
    number=st.integers(1, 50),
    clusters=st.integers(1, 5),
    threshold=st.sampled_from([0.05, 0.3, 0.5, 0.9]),
    seed=st.integers(0, 10_000),
)
def test_rescue_like_plain_loops(number: int, clusters: int, threshold: float, seed: int) -> None:
    similarity, features, labels = random_case(number, clusters, seed)
    before = labels.copy()
    found = rescue_outliers(similarity, features, labels, threshold)
    np.testing.assert_array_equal(found, slow_rescue(similarity, features, labels, threshold))
    np.testing.assert_array_equal(labels, before)
    np.testing.assert_array_equal(found[labels >= 0], labels[labels >= 0])


def test_rescue_by_hand() -> None:
    # Sample 4 is near cluster 0; its other neighbour is noise.
    similarity = graph(
        [[1, 0.9, 0, 0, 0.3, 0], [0, 1, 0, 0, 0.3, 0], [0, 0, 1, 0.9, 0, 0], [0] * 6, [0, 0, 0, 0, 1, 0.2], [0] * 6]
    )
    labels = np.array([0, 0, 1, 1, -1, -1])
    like_cluster_0 = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [2, 1], [0, 1]], dtype=np.float32)
    np.testing.assert_array_equal(rescue_outliers(similarity, like_cluster_0, labels, 0.7), [0, 0, 1, 1, 0, -1])
    np.testing.assert_array_equal(rescue_outliers(similarity, like_cluster_0, labels, 0.8), labels)
    like_cluster_1 = like_cluster_0.copy()
    like_cluster_1[4] = [1, 2]
    np.testing.assert_array_equal(rescue_outliers(similarity, like_cluster_1, labels, 0.7), labels)


def test_of_two_equal_claims_neither_is_taken() -> None:
    similarity = graph([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    features = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    np.testing.assert_array_equal(rescue_outliers(similarity, features, np.array([0, 1, -1]), 0.5), [0, 1, -1])


def test_rescued_samples_rescue_no_others() -> None:
    # A chain: sample 1 joins cluster 0, sample 2 knows only sample 1.
    similarity = graph([[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]])
    features = np.ones((3, 2), dtype=np.float32)
    np.testing.assert_array_equal(rescue_outliers(similarity, features, np.array([0, -1, -1]), 0.5), [0, 0, -1])


def test_rescue_without_noise_clusters_or_neighbours() -> None:
    similarity = graph([[1, 0.9], [0, 1]])
    features = np.ones((2, 3), dtype=np.float32)
    np.testing.assert_array_equal(rescue_outliers(similarity, features, np.array([-1, -1])), [-1, -1])
    np.testing.assert_array_equal(rescue_outliers(similarity, features, np.array([0, 0])), [0, 0])
    alone = csr_matrix(np.eye(3, dtype=np.float32))
    labels = np.array([0, 0, -1])
    np.testing.assert_array_equal(rescue_outliers(alone, np.ones((3, 2), dtype=np.float32), labels, 0.01), labels)


def test_drop_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 1, 2, 2, -1])
    trust = np.array([0.9, 0.1, 0.5, 0.9, 0.9, 0.9, 0.9, 0.9])
    np.testing.assert_array_equal(drop_outliers(labels, trust, 0.5, 2), [-1, -1, 0, 0, 0, 1, 1, -1])
    np.testing.assert_array_equal(drop_outliers(labels, trust, 0.6, 1), [0, -1, -1, 1, 1, 2, 2, -1])
    np.testing.assert_array_equal(drop_outliers(labels, trust, 0.0, 1), labels)
    np.testing.assert_array_equal(drop_outliers(labels, trust, 0.5, 4), [-1] * 8)


@few
@cases
def test_dropping_with_one_threshold_twice_changes_nothing_more(number: int, clusters: int, seed: int) -> None:
    similarity, _, labels = random_case(number, clusters, seed)
    trust = local_confidence(similarity, labels)
    once = drop_outliers(labels, trust, 0.4, 3)
    np.testing.assert_array_equal(drop_outliers(once, trust, 0.4, 3), once)
    held = once[once >= 0]
    assert (np.bincount(held) >= 3).all()
    assert (trust[once >= 0] >= 0.4).all()


# what all of them share


@few
@cases
def test_the_order_of_samples_does_not_matter(number: int, clusters: int, seed: int) -> None:
    similarity, features, labels = random_case(number, clusters, seed)
    order = np.random.default_rng(seed).permutation(number)
    turned = csr_matrix(similarity[order][:, order])
    np.testing.assert_allclose(silhouettes(turned, labels[order]), silhouettes(similarity, labels)[order], atol=1e-12)
    np.testing.assert_allclose(
        local_confidence(turned, labels[order], 5), local_confidence(similarity, labels, 5)[order], atol=1e-12
    )
    np.testing.assert_allclose(
        global_confidence(features[order], labels[order]), global_confidence(features, labels)[order], atol=1e-5
    )
    np.testing.assert_array_equal(
        rescue_outliers(turned, features[order], labels[order], 0.3),
        rescue_outliers(similarity, features, labels, 0.3)[order],
    )
    other = np.roll(labels, 3)
    np.testing.assert_array_equal(cluster_stability(labels[order], other[order]), cluster_stability(labels, other))


def test_the_order_of_stored_entries_does_not_matter() -> None:
    similarity, features, labels = random_case(40, 5, 2)
    entries = similarity.tocoo()
    order = np.lexsort((-entries.col, entries.row))
    turned = csr_matrix((entries.data[order], entries.col[order], similarity.indptr), shape=similarity.shape)
    assert not turned.has_sorted_indices
    np.testing.assert_allclose(silhouettes(turned, labels), silhouettes(similarity, labels), atol=1e-12)
    np.testing.assert_allclose(local_confidence(turned, labels), local_confidence(similarity, labels), atol=1e-12)
    np.testing.assert_array_equal(
        rescue_outliers(turned, features, labels, 0.3), rescue_outliers(similarity, features, labels, 0.3)
    )


SMALL = graph([[1, 0.5], [0, 1]])
TWO = np.array([0, 0])
FEATURES = np.ones((2, 3), dtype=np.float32)


def test_parts_must_fit() -> None:
    three = np.array([0, 0, 0])
    with pytest.raises(ValueError, match=r"similarity must be \(3, 3\)"):
        silhouettes(SMALL, three)
    with pytest.raises(ValueError, match=r"similarity must be \(3, 3\)"):
        local_confidence(SMALL, three)
    with pytest.raises(ValueError, match=r"similarity must be \(3, 3\)"):
        rescue_outliers(SMALL, FEATURES, three)
    with pytest.raises(ValueError, match="got 2 and 3"):
        global_confidence(FEATURES, three)
    with pytest.raises(ValueError, match="got 3 and 2"):
        rescue_outliers(SMALL, np.ones((3, 3), dtype=np.float32), TWO)
    with pytest.raises(ValueError, match="got 2 and 3"):
        cluster_stability(TWO, three)
    with pytest.raises(ValueError, match="one shape"):
        confidence(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        drop_outliers(TWO, np.ones(3), 0.5)


def test_values_out_of_range() -> None:
    with pytest.raises(ValueError, match="count from 0, got -2"):
        silhouettes(SMALL, np.array([0, -2]))
    with pytest.raises(ValueError, match="integers"):
        silhouettes(SMALL, np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="k must"):
        local_confidence(SMALL, TWO, 0)
    with pytest.raises(ValueError, match="temperature"):
        global_confidence(FEATURES, TWO, 0.0)
    with pytest.raises(ValueError, match="block"):
        global_confidence(FEATURES, TWO, block=0)
    with pytest.raises(ValueError, match="finite"):
        global_confidence(np.full((2, 3), np.nan, dtype=np.float32), TWO)
    for threshold in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="threshold"):
            rescue_outliers(SMALL, FEATURES, TWO, threshold)
    with pytest.raises(ValueError, match="local confidence"):
        confidence(np.array([1.1]), np.array([1.0]))
    with pytest.raises(ValueError, match="global confidence"):
        confidence(np.array([1.0]), np.array([np.nan]))
    with pytest.raises(ValueError, match="sample 1 has NaN"):
        drop_outliers(TWO, np.array([0.5, np.nan]), 0.5)
    with pytest.raises(ValueError, match="min_cluster_size"):
        drop_outliers(TWO, np.array([0.5, 0.5]), 0.5, 0)


# ---- label_confidence


def test_label_confidence__by_its_parts() -> None:
    features = people(60, 6, 2, 0.8)
    similarity = jaccard_similarity(features, 8, 3)
    labels = np.array(([0, 1, 2, -1] * 15), dtype=np.int64)
    found = label_confidence(similarity, features, labels)
    separated, resembling = silhouettes(similarity, labels), global_confidence(features, labels)
    expected = [max(s, 0.0) ** 0.5 * g**0.5 for s, g in zip(separated, resembling, strict=True)]
    np.testing.assert_allclose(found, expected)
    assert found[labels < 0].max() == 0
    assert found.min() == 0 < found.max() <= 1
