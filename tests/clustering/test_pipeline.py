from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from pclhd.clustering import pipeline
from pclhd.clustering.confidence import drop_outliers, label_confidence, rescue_outliers
from pclhd.clustering.density import dbscan_labels
from pclhd.clustering.eps import choose_eps
from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.clustering.linkage import agglomerative_labels
from pclhd.clustering.neighbours import Neighbours, nearest_neighbours
from pclhd.clustering.pipeline import ClusteringOptions, cluster_features, graph_labels
from pclhd.clustering.search import find_neighbours
from tests.clustering.test_jaccard import people

Features = NDArray[np.float32]
METHODS = ("dbscan", "hdbscan", "agglomerative", "community")


def groups(each: int, count: int, *, noise: float = 0.05, seed: int = 0) -> Features:
    random = np.random.default_rng(seed)
    rows = np.repeat(np.eye(count, 16), each, axis=0) + noise * random.standard_normal((count * each, 16))
    unit: Features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_hardly_any_samples(method: Any, number: int) -> None:
    found = cluster_features(np.ones((number, 3), dtype=np.float32), ClusteringOptions(clustering=method))
    assert found.labels.dtype == np.int64
    np.testing.assert_array_equal(found.labels, [-1] * number)
    assert found.similarity.shape == (number, number)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_well_separated_groups(method: Any) -> None:
    order = np.random.default_rng(1).permutation(48)
    found = cluster_features(groups(12, 4)[order], ClusteringOptions(clustering=method, k1=12, k2=3))
    assert adjusted_rand_score(order // 12, found.labels) == 1.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("outliers", ["keep", "rescue", "drop", "both"])
def test_noise_only(method: Any, outliers: Any) -> None:
    features = np.random.default_rng(0).standard_normal((40, 60)).astype(np.float32)
    options = ClusteringOptions(clustering=method, k1=2, k2=1, eps=0.05, min_samples=10, outliers=outliers)
    np.testing.assert_array_equal(cluster_features(features, options).labels, [-1] * 40)


def test_duplicates_are_one_cluster_though_their_distance_is_zero() -> None:
    found = cluster_features(np.ones((6, 3), dtype=np.float32), ClusteringOptions(k1=20, k2=6, eps=0.3))
    np.testing.assert_array_equal(found.labels, [0] * 6)


def test_each_option_is_used() -> None:
    features = people(120, 12, 3, 0.9)
    base = ClusteringOptions(k1=10, k2=4, eps=0.5)
    expected = dbscan_labels(jaccard_similarity(features, 10, 4, max_distance=0.5), 0.5, 4)
    np.testing.assert_array_equal(cluster_features(features, base).labels, expected)
    changes: list[dict[str, Any]] = [
        {"k1": 20},
        {"k2": 1},
        {"eps": 0.3},
        {"min_samples": 9},
        {"neighbourhood": "paper"},
        {"clustering": "hdbscan"},
        {"clustering": "agglomerative"},
        {"clustering": "community"},
    ]
    for change in changes:
        changed = ClusteringOptions(**{"k1": 10, "k2": 4, "eps": 0.5, **change})
        assert not np.array_equal(cluster_features(features, changed).labels, expected), change
    small, large = (
        cluster_features(features, ClusteringOptions(k1=10, k2=4, clustering="community", resolution=resolution)).labels
        for resolution in (0.1, 0.5)
    )
    assert not np.array_equal(small, large)


def test_options_of_two_modalities() -> None:
    features = people(120, 8, 3, 0.9)
    modality = np.repeat([0, 1], [80, 40])
    features[80:, 0] += 0.5

    def labels(*, given: bool = True, **options: Any) -> NDArray[np.int64]:
        chosen = ClusteringOptions(k1=10, k2=4, eps=0.5, **options)
        return cluster_features(features, chosen, modality=modality if given else None).labels

    plain = labels(given=False)
    np.testing.assert_array_equal(labels(given=False, balanced_neighbours=True), plain)
    np.testing.assert_array_equal(labels(modality_balance=False), plain)
    assert not np.array_equal(labels(), plain)
    assert not np.array_equal(labels(balanced_neighbours=True), labels())


def test_the_search_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    original = find_neighbours

    def watched(*arguments: Any, **options: Any) -> Any:
        seen.update(options, k=arguments[1])
        return original(*arguments, **options)

    monkeypatch.setattr(pipeline, "find_neighbours", watched)
    cluster_features(people(60, 6, 0), ClusteringOptions(k1=9, k2=12, search="approximate"))
    nearest = seen.pop("nearest")
    assert seen == {"k": 12, "method": "approximate", "modality": None}
    assert (nearest.func, nearest.keywords) == (nearest_neighbours, {"device": "cpu"})


def test_an_exact_search_may_be_handed_in() -> None:
    asked: list[int] = []

    def nearest(features: Any, k: int, **options: Any) -> Neighbours:
        asked.append(k)
        return nearest_neighbours(features, k, **options)

    features, modality = people(60, 6, 0), np.arange(60) % 2
    options = ClusteringOptions(k1=9, k2=12, balanced_neighbours=True)
    found = cluster_features(features, options, modality=modality, nearest=nearest)
    np.testing.assert_array_equal(found.labels, cluster_features(features, options, modality=modality).labels)
    assert asked == [6, 6, 6, 6]  # of each modality, in each modality


@pytest.mark.parametrize("method", ["dbscan", "agglomerative"])
def test_auto_is_what_choose_eps_says(method: Any) -> None:
    features = people(150, 10, 5, 0.8)
    found = cluster_features(features, ClusteringOptions(clustering=method, k1=10, k2=4, eps="auto"))
    cut = dbscan_labels if method == "dbscan" else agglomerative_labels
    choice = choose_eps(jaccard_similarity(features, 10, 4), cluster=cut)
    assert found.options.eps == choice.eps
    np.testing.assert_array_equal(found.labels, graph_labels(found.similarity, found.options))
    fixed = cluster_features(features, ClusteringOptions(clustering=method, k1=10, k2=4, eps=choice.eps))
    np.testing.assert_array_equal(found.labels, fixed.labels)


def test_outliers_by_their_parts() -> None:
    features = people(150, 10, 5, 1.1)
    kept = cluster_features(features, ClusteringOptions(k1=10, k2=4))
    complete = jaccard_similarity(features, 10, 4)
    trust = label_confidence(kept.similarity, features, kept.labels)
    dropped = drop_outliers(kept.labels, trust, 0.2, min_cluster_size=4)
    found = cluster_features(features, ClusteringOptions(k1=10, k2=4, outliers="drop"))
    np.testing.assert_array_equal(found.labels, dropped)
    rescued = cluster_features(features, ClusteringOptions(k1=10, k2=4, outliers="rescue"))
    np.testing.assert_array_equal(rescued.labels, rescue_outliers(complete, features, kept.labels))
    assert (rescued.labels < 0).sum() < (kept.labels < 0).sum()


def test_labels_do_not_depend_on_the_length_of_blocks_or_on_earlier_calls() -> None:
    features = people(90, 8, 1)
    first = cluster_features(features, ClusteringOptions(k1=8, k2=3))
    again = cluster_features(features.copy(), ClusteringOptions(k1=8, k2=3))
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.similarity.data, again.similarity.data)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"eps": 0.0}, "eps\n.*above 0 and below 1, or auto"),
        ({"eps": 1.0}, "eps\n.*above 0 and below 1, or auto"),
        ({"clustering": "kmeans"}, "clustering\n.*'dbscan', 'hdbscan'"),
        ({"outliers": "all"}, "outliers\n.*'keep', 'rescue'"),
        ({"min_samples": 0}, "min_samples\n.*greater than or equal to 1"),
        ({"method": "hdbscan"}, "method\n.*not permitted"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClusteringOptions(**wrong)


def test_an_eps_still_to_be_chosen_is_refused() -> None:
    similarity = jaccard_similarity(people(20, 4, 0), 5, 2)
    with pytest.raises(ValueError, match="still 'auto'"):
        graph_labels(similarity, ClusteringOptions(eps="auto"))


def test_features_that_are_not_finite_are_refused() -> None:
    features = people(20, 4, 0)
    features[7, 2] = np.nan
    with pytest.raises(ValueError, match="row 7"):
        cluster_features(features)
