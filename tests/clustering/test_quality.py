from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pclhd.clustering.matching import Matching
from pclhd.clustering.quality import (
    clustering_quality,
    majority_identities,
    matching_outcomes,
    matching_precision,
)

labelled = st.lists(st.tuples(st.integers(-1, 3), st.integers(-2, 3)), max_size=12)


def slow_ari(pairs: list[tuple[int, int]]) -> float:
    """Hubert and Arabie's index, counted pair by pair."""
    both = clusters = people = total = 0
    for (c1, p1), (c2, p2) in combinations(pairs, 2):
        total += 1
        clusters += c1 == c2
        people += p1 == p2
        both += c1 == c2 and p1 == p2
    if total == 0 or clusters == people == both:
        return 1.0
    expected = clusters * people / total
    return (both - expected) / ((clusters + people) / 2 - expected)


@settings(max_examples=60, deadline=None)
@given(samples=labelled)
def test_like_counting_pairs(samples: list[tuple[int, int]]) -> None:
    labels = np.array([c for c, _ in samples], dtype=np.int64)
    people = [p for _, p in samples]
    found = clustering_quality(labels, people)
    singletons = [(c if c >= 0 else 100 + i, p) for i, (c, p) in enumerate(samples)]
    dropped = [(c, p) for c, p in samples if c >= 0]
    assert found["ari"] == pytest.approx(slow_ari(singletons) if samples else 0.0)
    assert clustering_quality(labels, people, noise="cluster")["ari"] == pytest.approx(
        slow_ari(samples) if samples else 0.0
    )
    assert clustering_quality(labels, people, noise="dropped")["ari"] == pytest.approx(
        slow_ari(dropped) if dropped else 0.0
    )
    together = [p == q for (c, p), (d, q) in combinations(dropped, 2) if c == d]
    same_person = [c == d and c >= 0 for (c, p), (d, q) in combinations(samples, 2) if p == q]
    assert found["pair_precision"] == pytest.approx(np.mean(together) if together else 0.0)
    assert found["pair_recall"] == pytest.approx(np.mean(same_person) if same_person else 0.0)
    clusters = {c for c, _ in dropped}
    most = sum(max([p for d, p in dropped if d == c].count(q) for q in people) for c in clusters)
    assert found["purity"] == pytest.approx(most / len(dropped) if dropped else 0.0)
    assert 0.0 <= found["nmi"] <= 1.0 + 1e-12


def test_perfect_labels() -> None:
    found = clustering_quality(np.array([2, 2, 0, 0, 1]), [5, 5, 9, 9, 7])
    assert found == pytest.approx({"ari": 1, "nmi": 1, "purity": 1, "pair_precision": 1, "pair_recall": 1})


def test_what_noise_counts_as() -> None:
    labels, people = np.array([0, 0, 1, 1, -1, -1]), [0, 0, 1, 1, 0, 1]
    dropped = clustering_quality(labels, people, noise="dropped")
    singletons = clustering_quality(labels, people, noise="singletons")
    cluster = clustering_quality(labels, people, noise="cluster")
    assert dropped["ari"] == dropped["nmi"] == 1.0
    assert 1.0 > singletons["ari"] > cluster["ari"]
    assert dropped["pair_recall"] == singletons["pair_recall"] == cluster["pair_recall"] == pytest.approx(2 / 6)


@pytest.mark.parametrize("labels", [[], [-1, -1, -1]])
def test_nothing_clustered(labels: list[int]) -> None:
    found = clustering_quality(np.array(labels, dtype=np.int64), [0] * len(labels))
    assert found["purity"] == found["pair_precision"] == found["pair_recall"] == 0.0
    assert all(np.isfinite(list(found.values())))


def test_majority_identities_with_ties_and_a_missing_cluster() -> None:
    labels = np.array([0, 0, 0, 1, 1, 3, -1])
    np.testing.assert_array_equal(majority_identities(labels, [4, 4, 1, 9, 2, -5, 8]), [4, 2, -1, -5])
    assert len(majority_identities(np.array([-1]), [3])) == 0


def test_matching_precision_counts_each_pair_once() -> None:
    matching = Matching(visible_to_infrared=np.array([0, 1, -1, 1]), infrared_to_visible=np.array([0, 2]))
    visible, infrared = np.array([0, 1, 2, 3, -1]), np.array([1, 0, -1])
    # Pairs (0,0) right, (1,1) wrong, (3,1) right, (2,1) wrong; (0,0) is in both maps.
    assert matching_precision(matching, visible, [10, 11, 12, 13, 13], infrared, [13, 10, 99]) == pytest.approx(2 / 4)


def test_matching_precision_without_pairs_is_zero() -> None:
    unmatched = Matching(np.array([-1]), np.array([-1]))
    assert matching_precision(unmatched, np.array([0]), [1], np.array([0]), [1]) == 0.0


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        clustering_quality(np.array([0, 1]), [0, 1, 2])
    with pytest.raises(ValueError, match="'ignored'"):
        clustering_quality(np.array([0]), [0], noise="ignored")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 and 1 clusters"):
        matching_precision(Matching(np.array([0]), np.array([0])), np.array([0, 1]), [0, 1], np.array([0]), [0])


clusterings = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 4)), min_size=1, max_size=12)


def dense(samples: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Labels without gaps, and identities."""
    known = sorted({label for label, _ in samples if label >= 0})
    return [known.index(label) if label >= 0 else -1 for label, _ in samples], [person for _, person in samples]


@settings(max_examples=60, deadline=None)
@given(visible=clusterings, infrared=clusterings, seed=st.integers(0, 1000))
def test_outcomes_of_a_matching_like_counting_clusters(
    visible: list[tuple[int, int]], infrared: list[tuple[int, int]], seed: int
) -> None:
    parts = [dense(visible), dense(infrared)]
    majorities = [majority_identities(np.array(labels), people).tolist() for labels, people in parts]
    generator = np.random.default_rng(seed)
    maps = [
        generator.integers(-1, max(len(other), 0), len(own)) if other else np.full(len(own), -1)
        for own, other in zip(majorities, majorities[::-1], strict=True)
    ]
    counts = dict.fromkeys(("match_right", "match_wrong", "unmatched_right", "unmatched_wrong"), 0)
    for side in (0, 1):
        for cluster, person in enumerate(majorities[side]):
            partner = int(maps[side][cluster])
            if partner >= 0:
                counts["match_right" if majorities[1 - side][partner] == person else "match_wrong"] += 1
            else:
                counts["unmatched_wrong" if person in parts[1 - side][1] else "unmatched_right"] += 1
    whole = sum(counts.values())
    found = matching_outcomes(Matching(*maps), np.array(parts[0][0]), parts[0][1], np.array(parts[1][0]), parts[1][1])
    assert found == pytest.approx({name: count / whole if whole else 0.0 for name, count in counts.items()})
    assert sum(found.values()) == pytest.approx(1 if whole else 0)


def test_leaving_a_person_of_one_modality_alone_is_right() -> None:
    # Visible clusters of the people 1, 2 and 3; infrared ones of 1 and 4. 2 is there, but only as noise.
    arguments = np.array([0, 1, 2]), [1, 2, 3], np.array([0, 1, -1]), [1, 4, 2]
    alone = Matching(np.array([0, -1, -1]), np.array([0, -1]))
    outcomes = matching_outcomes(alone, *arguments)
    assert outcomes == {"match_right": 0.4, "match_wrong": 0.0, "unmatched_right": 0.4, "unmatched_wrong": 0.2}
    forced = Matching(np.array([0, 1, 1]), np.array([0, 2]))
    assert matching_outcomes(forced, *arguments)["match_wrong"] == pytest.approx(0.6)
