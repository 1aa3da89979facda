from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from pclhd.clustering.centring import centred
from pclhd.clustering.confidence import silhouettes, stability
from pclhd.clustering.neighbourhoods import (
    NEAR_COPY,
    Neighbourhoods,
    has_direction,
    near_copy_chains,
    read_neighbourhoods,
    representatives,
    thin,
)
from pclhd.clustering.neighbours import nearest_neighbours
from pclhd.clustering.options import ClusteringOptions
from pclhd.clustering.pipeline import cluster_features, graph_labels

Features = NDArray[np.float32]


def unit(rows: NDArray[np.floating]) -> Features:
    scaled: Features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def video(*, people: int = 6, tracks: int = 6, frames: int = 31, seed: int = 0) -> tuple[Features, NDArray[np.int64]]:
    """Features of people in tracks of near-equal frames, and who is in each."""
    random = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), tracks)
    in_track = unit(
        unit(random.standard_normal((people, 32)))[person] + 0.07 * random.standard_normal((len(person), 32))
    )
    rows = np.repeat(in_track, frames, axis=0) + 0.004 * random.standard_normal((len(person) * frames, 32))
    return unit(rows), np.repeat(person, frames)


def slow_chains(features: Features, modality: NDArray[np.int64] | None, similarity: float) -> NDArray[np.int64]:
    """From row to row, by definition."""
    rows = unit(features.astype(np.float64)).astype(np.float64)
    chains = np.full(len(rows), -1)
    for first in range(len(rows)):
        if chains[first] >= 0:
            continue
        chains[first], waiting = chains.max() + 1, [first]
        while waiting:
            row = waiting.pop()
            for other in range(len(rows)):
                same = modality is None or modality[row] == modality[other]
                if chains[other] < 0 and same and float(rows[row] @ rows[other]) > similarity:
                    chains[other] = chains[first]
                    waiting.append(other)
    return chains


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("with_modality", [False, True])
def test_chains__slowly(seed: int, with_modality: bool) -> None:
    random = np.random.default_rng(seed)
    # Steps along a path: the ends of a chain need not be near each other. Lengths do not matter.
    path = np.cumsum(random.standard_normal((1500 if seed == 0 else 90, 5)) * 0.3, axis=0)
    features = (path * random.uniform(0.5, 2, (len(path), 1))).astype(np.float32)
    order = random.permutation(len(path))
    modality = random.integers(0, 2, len(path)) if with_modality else None
    similarity = 0.9995 if seed == 0 else 0.99
    found = near_copy_chains(features[order], modality, similarity=similarity)
    assert 1 < len(np.unique(found)) < len(path)
    assert np.array_equal(found, slow_chains(features[order], modality, similarity))


def test_representatives__slowly() -> None:
    features, _ = video(people=2, tracks=2, frames=5, seed=1)
    chains = near_copy_chains(features)
    assert chains.tolist() == np.repeat(np.arange(4), 5).tolist()
    for chain, row in enumerate(representatives(features, chains).tolist()):
        members = np.flatnonzero(chains == chain)
        mean = features[members].astype(np.float64).mean(axis=0)
        assert row == members[int(np.argmax(features[members] @ mean))]


def test_nothing_to_thin() -> None:
    empty = np.empty((0, 4), dtype=np.float32)
    assert len(near_copy_chains(empty)) == 0
    assert thin(empty, None, near_copies=True) is None
    apart = np.eye(4, dtype=np.float32)
    assert thin(apart, None, near_copies=True) is None
    copies = np.repeat(apart, 2, axis=0)
    assert thin(copies, None, near_copies=False) is None
    thinned = thin(copies, None, near_copies=True)
    assert thinned is not None
    assert thinned.rows.tolist() == [0, 2, 4, 6]
    assert thinned.labels(np.array([3, -1, 0, 1])).tolist() == [3, 3, -1, -1, 0, 0, 1, 1]
    # A visible image and its infrared twin are both needed.
    assert thin(copies, np.array([0, 1] * 4), near_copies=True) is None


def test_which_rows_have_a_direction() -> None:
    wide = np.zeros((4, 8), dtype=np.float32)
    wide[1] = 0.5
    wide[2, 3] = -1e-30
    wide[3] = np.arange(8)
    assert has_direction(wide).tolist() == [False, False, True, True]
    assert has_direction(np.array([[0, 0], [2, 2], [-1, 0]], dtype=np.float32)).tolist() == [False, True, True]
    assert has_direction(np.empty((2, 0), dtype=np.float32)).tolist() == [False, False]


@pytest.mark.parametrize("failed", [0.0, 0.25])
@pytest.mark.parametrize("near_copies", ["keep", "thin"])
def test_failed_crops_are_noise_and_neighbours_of_no_row(failed: float, near_copies: Any) -> None:
    features, person = video(frames=1)
    rows = np.insert(features, [0, 5, 5, 20, 36, 36, 36], failed, axis=0)
    options = ClusteringOptions(k1=6, k2=3, near_copies=near_copies)
    found = cluster_features(rows, options)
    is_failed = ~has_direction(rows)
    assert is_failed.sum() == 7
    assert (found.labels[is_failed] == -1).all()
    assert np.array_equal(found.labels[~is_failed], cluster_features(features, options).labels)
    assert adjusted_rand_score(person, found.labels[~is_failed]) == 1.0
    assert any(line.startswith("7 rows have no direction") for line in found.neighbourhoods.warnings())
    alone = cluster_features(np.zeros((5, 8), dtype=np.float32), options)
    assert alone.labels.tolist() == [-1] * 5


def test_the_share_of_near_copies__slowly() -> None:
    features, _ = video(people=3, tracks=2, frames=4, seed=2)
    features *= np.random.default_rng(0).uniform(0.9, 1.1, (len(features), 1)).astype(np.float32)
    for k1 in (1, 3, 6, 50):
        table = nearest_neighbours(features, k1)
        pairs = [
            float(unit(features)[row] @ unit(features)[other]) > NEAR_COPY
            for row in range(len(features))
            for other in table.index[row, 1:k1]
        ]
        seen = read_neighbourhoods(features, table, k1)
        assert seen.near_copies == pytest.approx(np.mean(pairs) if pairs else 0.0)
        assert (seen.rows, seen.k1) == (24, k1)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (Neighbourhoods(1000, 30, 0.4), None),
        (
            Neighbourhoods(1000, 30, 0.6),
            "60% of the neighbours within k1 (30) are near-copies (similarity above 0.998)",
        ),
        (Neighbourhoods(20, 30, 0.0), "k1 (30) takes in all 20 rows, so that neighbourhoods mean nothing"),
        (Neighbourhoods(20, 20, 0.0), "k1 (20) takes in all 20 rows"),
        (Neighbourhoods(72, 30, 0.0), "k1 (30) takes in more than a third of the 72 rows; .* auto (6 here)"),
        (Neighbourhoods(90, 30, 0.0), None),
        (Neighbourhoods(12, 6, 0.0), None),
        (Neighbourhoods(1, 6, 0.0), None),
        (Neighbourhoods(0, 6, 0.0), None),
        (Neighbourhoods(50, 6, 0.0, without_direction=3), "3 rows have no direction"),
    ],
)
def test_warnings(seen: Neighbourhoods, said: str | None) -> None:
    if said is None:
        assert seen.warnings() == []
        return
    (line,) = seen.warnings()
    for part in said.split(".*"):
        assert part in line


def test_frames_of_a_video_give_tracks_and_thinned_they_give_people() -> None:
    features, person = video()
    order = np.random.default_rng(1).permutation(len(person))
    features, person = features[order], person[order]
    kept = cluster_features(features, ClusteringOptions())
    assert kept.labels.max() + 1 == 36
    assert kept.neighbourhoods.near_copies > 0.9
    found = cluster_features(features, ClusteringOptions(near_copies="thin"))
    assert adjusted_rand_score(person, found.labels) == 1.0
    assert (found.options.k1, found.options.k2) == (6, 3)
    assert (found.neighbourhoods.thinned, found.neighbourhoods.rows) == (len(person) - 36, 36)
    assert found.neighbourhoods.warnings() == []


def test_measures_on_the_thinned_rows_do_not_praise_tracks() -> None:
    features, _ = video(frames=6)
    found = cluster_features(features, ClusteringOptions(near_copies="thin"))
    tracks = np.repeat(np.arange(36), 6)
    # One row per track is left, so a clustering into tracks is one of single images.
    own = found.clustered(tracks)
    assert silhouettes(found.similarity, own).tolist() == [0.0] * 36
    people = silhouettes(found.similarity, found.clustered(found.labels))
    assert people.mean() > 0.5
    again = graph_labels(found.similarity, found.options.changed(eps=0.54))
    assert stability(own, again) < 0.2 < stability(found.clustered(found.labels), again)
    assert np.array_equal(found.of_all(found.clustered(found.labels), -1), found.labels)


def test_thinning_keeps_both_modalities() -> None:
    features, person = video(frames=4)
    modality = np.tile([0, 1], len(person) // 2)
    found = cluster_features(features, ClusteringOptions(k1="auto", k2="auto", near_copies="thin"), modality=modality)
    assert found.neighbourhoods.rows == 72
    assert (found.options.k1, found.options.k2) == (12, 4)
    assert adjusted_rand_score(person, found.labels) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_small_sets_cluster_as_well_as_with_sizes_chosen_by_hand(seed: int) -> None:
    """12 people with 6 visible and 6 infrared images each."""
    random = np.random.default_rng(seed)
    person = np.repeat(np.arange(12), 6)
    centres = random.standard_normal((12, 64))
    parts = [unit(centres[person] + 0.9 * random.standard_normal((72, 64)) + shift) for shift in (0.0, 0.3)]
    for part in parts:
        found = cluster_features(part, ClusteringOptions(k1="auto", k2="auto"))
        assert np.array_equal(found.labels, cluster_features(part, ClusteringOptions(k1=6, k2=3)).labels)
        by_default = adjusted_rand_score(person, cluster_features(part, ClusteringOptions()).labels)
        assert adjusted_rand_score(person, found.labels) > 0.9 > by_default
    both, modality = np.concatenate(parts), np.repeat([0, 1], 72)
    found = cluster_features(both, ClusteringOptions(k1="auto", k2="auto"), modality=modality)
    by_hand = cluster_features(both, ClusteringOptions(k1=12, k2=6), modality=modality)
    assert np.array_equal(found.labels, by_hand.labels)


def test_near_copies_are_seen_before_a_mean_is_subtracted() -> None:
    random = np.random.default_rng(4)
    common = 3.0 * random.normal(size=16)
    shots = random.normal(size=(40, 16)).repeat(3, axis=0)
    rows = unit(common + shots + 0.1 * random.normal(size=shots.shape))
    moved = centred(rows, None)
    frames = np.arange(120) // 3
    assert np.array_equal(near_copy_chains(rows), frames)
    assert not np.array_equal(near_copy_chains(moved), frames)  # without what is common they are less alike
    thinned = thin(moved, None, near_copies=True, uncentred=rows)
    assert thinned is not None
    assert np.array_equal(thinned.speaker, frames)
    neighbours = nearest_neighbours(moved, 6)
    slowly = np.mean([rows[i] @ rows[j] > NEAR_COPY for i in range(120) for j in neighbours.index[i, 1:6]])
    assert read_neighbourhoods(moved, neighbours, 6, uncentred=rows).near_copies == pytest.approx(slowly)
    assert read_neighbourhoods(moved, neighbours, 6).near_copies < slowly
    found = cluster_features(moved, ClusteringOptions(k1=3, k2=1, near_copies="thin"), uncentred=rows)
    assert found.thinned is not None
    assert len(found.neighbours) == 40


def test_a_failed_crop_is_noise_also_where_a_mean_is_subtracted() -> None:
    rows = unit(np.random.default_rng(5).normal(size=(40, 16)) + 1.0)
    rows[[3, 17, 30]] = 0.0
    moved = centred(rows, None)
    assert has_direction(moved).all()
    thinned = thin(moved, None, near_copies=False, uncentred=rows)
    assert thinned is not None
    assert np.flatnonzero(thinned.speaker < 0).tolist() == [3, 17, 30]
    found = cluster_features(moved, ClusteringOptions(k1=6, k2=1), uncentred=rows)
    assert (found.labels[[3, 17, 30]] == -1).all()
