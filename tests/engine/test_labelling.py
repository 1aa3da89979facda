from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.clustering.centring import centred as centre
from pclhd.clustering.matching import Matching
from pclhd.clustering.neighbourhoods import thin
from pclhd.config import ClusteringSettings
from pclhd.engine.labelling import (
    EpochLabels,
    Grouping,
    LabelRequest,
    _merge_matched,
    cluster_modality,
    label_across_modalities,
    label_epoch,
    refuse_what_trains_nothing,
)
from pclhd.errors import UserError
from pclhd.pair import ModalityName, Pair
from pclhd.recipes import Recipe
from tests.readings import ABRUPT

Features = NDArray[np.float32]
Ints = NDArray[np.int64]
SETTINGS = ClusteringSettings(k1=5, k2=2, joint_k1=8, joint_k2=2, eps=0.6, min_samples=2)
PEOPLE, EACH, WIDTH = 4, 6, 16


def features(seed: int, *, noise: float = 0.1, shift: float = 0.0) -> Features:
    """Four people around the same four directions; `shift` moves all of them along another one."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(PEOPLE, WIDTH))
    rows = np.repeat(centres, EACH, axis=0) + noise * random.normal(size=(PEOPLE * EACH, WIDTH))
    rows += shift * np.random.default_rng(7).normal(size=WIDTH)
    unit: Features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


IDENTITIES = np.repeat(np.arange(PEOPLE), EACH)


def label(
    visible: Features,
    infrared: Features,
    *,
    recipe: Recipe = ABRUPT,
    settings_: ClusteringSettings = SETTINGS,
    cameras: tuple[Ints | None, Ints | None] = (None, None),
    joint: bool = True,
) -> EpochLabels:
    return label_epoch(LabelRequest(Pair(visible, infrared), settings_, recipe, joint, Pair(*cameras)))


def cluster(
    features_: Features,
    modality: ModalityName,
    settings_: ClusteringSettings,
    recipe: Recipe = ABRUPT,
    previous: Ints | None = None,
) -> Grouping:
    """Cluster one modality; the other one is empty."""
    nothing = np.zeros((0, WIDTH), dtype=np.float32)
    before = None if previous is None else Pair(previous, previous)
    parts = Pair(features_, nothing) if modality == "visible" else Pair(nothing, features_)
    return cluster_modality(LabelRequest(parts, settings_, recipe, joint=False, previous=before), modality)


def same_partition(first: Ints, second: Ints) -> bool:
    return np.array_equal(first[:, None] == first, second[:, None] == second)


def test_well_separated_people_are_found_and_matched() -> None:
    labels = label(features(1), features(2))
    assert same_partition(labels.visible, IDENTITIES)
    assert same_partition(labels.infrared, IDENTITIES)
    assert labels.joint is not None
    assert same_partition(labels.joint, np.tile(IDENTITIES, 2))
    person_of = {int(cluster): int(person) for cluster, person in zip(labels.infrared, IDENTITIES, strict=True)}
    for cluster, person in zip(labels.visible, IDENTITIES, strict=True):
        assert person_of[int(labels.matching.visible_to_infrared[cluster])] == person


def test_the_joint_clustering_is_made_only_on_request() -> None:
    assert label(features(1), features(2), joint=False).joint is None


def test_labels_cannot_be_written() -> None:
    labels = label(features(1), features(2))
    assert labels.joint is not None
    for array in (labels.visible, labels.infrared, labels.joint):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 3


@pytest.mark.parametrize(
    ("scattered", "settings_", "named"),
    [
        ("visible", SETTINGS, r"no visible cluster.* raise clustering\.eps or lower clustering\.min_samples"),
        ("infrared", SETTINGS, r"no infrared cluster.* raise clustering\.eps_infrared or lower"),
        ("infrared", SETTINGS.model_copy(update={"eps_infrared": 0.05}), r"at eps 0\.05"),
    ],
)
def test_all_noise_names_the_setting(scattered: str, settings_: ClusteringSettings, named: str) -> None:
    together, apart = features(1, noise=0), features(2, noise=9)
    parts = (apart, together) if scattered == "visible" else (together, apart)
    strict = settings_.model_copy(update={"min_samples": 4, "k1": EACH, "k2": 1, "eps": 0.1})
    with pytest.raises(UserError, match=named):
        label(*parts, settings_=strict)


STRICT = SETTINGS.model_copy(update={"min_samples": 4, "k1": EACH, "k2": 1, "eps": 0.1})


@pytest.mark.parametrize("scattered", ["visible", "infrared"])
def test_a_modality_of_noise_keeps_the_labels_of_the_epoch_before(scattered: str) -> None:
    together, apart = features(1, noise=0), features(2, noise=9)
    parts = Pair(apart, together) if scattered == "visible" else Pair(together, apart)
    before = Pair(np.roll(IDENTITIES, 3), np.array([-1, *IDENTITIES[1:]]))
    recipe = ABRUPT.model_copy(update={"confidence": "weight"})
    labels = label_epoch(LabelRequest(parts, STRICT, recipe, joint=True, previous=before))
    number = ("visible", "infrared").index(scattered)
    own = labels.own
    assert np.array_equal(own[number], before[number])
    assert not np.array_equal(own[1 - number], before[1 - number]), "the other modality is clustered"
    assert labels.kept() == [scattered]
    grouping = labels.groupings[scattered]
    assert grouping.eps is None
    assert grouping.confidence is not None
    assert np.array_equal(grouping.labels, before[number])
    assert labels.warnings() == [f"all 24 {scattered} images are noise; the labels of the previous epoch are kept"]
    with pytest.raises(ValueError, match="read-only"):
        own[number][0] = 1
    before[number][0] = 0  # the labels passed in are neither frozen nor shared
    # Without earlier labels it is an error.
    noise = np.full(len(IDENTITIES), -1)
    with pytest.raises(UserError, match=f"no {scattered} cluster"):
        label_epoch(LabelRequest(parts, STRICT, ABRUPT, joint=True, previous=Pair(noise, noise)))


def test_labels_that_are_found_are_not_kept() -> None:
    parts = features(1), features(2)
    usual = label(*parts)
    before = Pair(np.roll(IDENTITIES, 3), np.roll(IDENTITIES, 3))
    labels = label_epoch(LabelRequest(Pair(*parts), SETTINGS, ABRUPT, joint=True, previous=before))
    assert np.array_equal(labels.visible, usual.visible)
    assert labels.kept() == labels.warnings() == []


def test_a_radius_is_raised_no_further_than_needed() -> None:
    scattered = features(3, noise=1.2)
    strict = SETTINGS.model_copy(update={"min_samples": 4})
    found = {}
    for eps in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8):
        try:
            own = strict.model_copy(update={"eps": eps})
            found[eps] = cluster(scattered, "visible", own).labels
        except UserError:
            continue
    first = min(found)
    assert 0.2 < first < 0.8, "the data have to be noise at small radii, and not at large ones"
    loose = strict.model_copy(update={"eps": 0.1, "loosen": 0.8})
    grouping = cluster(scattered, "visible", loose)
    assert grouping.eps == pytest.approx(first)
    assert grouping.loosened
    assert np.array_equal(grouping.labels, found[first])
    # A lower limit does not suffice, nor does a limit for the other modality.
    tight = strict.model_copy(update={"eps": 0.1, "loosen": round(first - 0.03, 6)})
    with pytest.raises(UserError, match=rf"at eps {tight.loosen:g}; raise clustering.eps_infrared with clustering.loo"):
        cluster(scattered, "infrared", tight)
    kept = cluster(scattered, "visible", tight, previous=IDENTITIES)
    assert (kept.kept, kept.loosened) == (True, False)
    # The limit itself is tried, and a radius beyond the limit is left as it is.
    for limit in (first, first - 0.01):
        exact = strict.model_copy(update={"eps": round(first - 0.05, 6), "loosen": limit})
        assert cluster(scattered, "visible", exact).eps == limit
    beyond = strict.model_copy(update={"eps": 0.8, "loosen": 0.5})
    assert cluster(scattered, "visible", beyond).eps == 0.8


def of_clusters(visible: int, infrared: int, joint: list[int] | None) -> EpochLabels:
    own = [np.arange(count, dtype=np.int64).repeat(2) for count in (visible, infrared)]
    both = None if joint is None else np.array(joint, dtype=np.int64)
    empty = np.zeros(0, dtype=np.int64)
    return EpochLabels(own[0], own[1], both, Matching(empty, empty))


def test_one_cluster_is_a_warning_and_one_per_modality_ends_the_training() -> None:
    several = of_clusters(2, 1, None)
    refuse_what_trains_nothing(several, SETTINGS)
    assert several.warnings() == ["there is one infrared cluster; contrasts with infrared prototypes train nothing"]
    assert of_clusters(2, 2, None).warnings() == []
    for joint in (None, [0, 0, 0, 0], [-1, -1, -1, -1], [0, 0, 1, 1]):
        alone = of_clusters(1, 1, joint)
        assert len(alone.warnings()) == 2
        with pytest.raises(UserError, match=r"nothing to contrast.*lower clustering\.eps \(0\.6\)"):
            refuse_what_trains_nothing(alone, SETTINGS)
    # Several joint clusters can still be contrasted.
    refuse_what_trains_nothing(of_clusters(1, 1, [0, 1, 0, 1]), SETTINGS)


def test_thousands_of_clusters_and_far_more_of_one_modality() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(2000, 64))
    rows = np.repeat(centres, 2, axis=0) + 0.02 * random.normal(size=(4000, 64))
    visible: Features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    pairs = SETTINGS.model_copy(update={"k1": 2, "k2": 1, "joint_k1": 4, "joint_k2": 1})
    labels = label(visible, visible[:8].copy(), settings_=pairs)
    assert same_partition(labels.visible[:400], np.repeat(np.arange(200), 2))
    assert labels.visible.max() == 1999
    assert same_partition(labels.infrared, np.repeat(np.arange(4), 2))
    assert labels.matching.infrared_to_visible.tolist() == labels.visible[:8:2].tolist()
    assert labels.joint_shared() is not None


def test_radii_of_their_own() -> None:
    visible, infrared = features(1, noise=1.5), features(2, noise=1.5)
    usual = label(visible, infrared)
    tight = label(visible, infrared, settings_=SETTINGS.model_copy(update={"eps_infrared": 0.35}))
    assert np.array_equal(usual.visible, tight.visible)
    assert not np.array_equal(usual.infrared, tight.infrared)
    joint = label(visible, infrared, settings_=SETTINGS.model_copy(update={"eps_joint": 0.35}))
    assert np.array_equal(usual.infrared, joint.infrared)
    assert usual.joint is not None
    assert joint.joint is not None
    assert not np.array_equal(usual.joint, joint.joint)


def test_centring_takes_the_gap_between_the_modalities_away() -> None:
    visible, infrared = features(1), features(2, shift=3.0)
    plain = label(visible, infrared)
    centred = label(visible, infrared, recipe=ABRUPT.model_copy(update={"centre_features": "modality"}))
    assert plain.joint_shared() is None
    assert centred.joint is not None
    assert same_partition(centred.joint, np.tile(IDENTITIES, 2))


def test_centring_by_camera() -> None:
    by_camera = ABRUPT.model_copy(update={"centre_features": "camera"})
    many = SETTINGS.model_copy(update={"k1": 75, "k2": 6, "min_samples": 4})
    identities = np.tile(IDENTITIES, 25)
    cameras = np.tile([1, 2], len(identities) // 2)
    visible = np.concatenate([features(seed, noise=0.3) for seed in range(25)])
    visible[cameras == 2] += 0.8 * np.random.default_rng(5).normal(size=WIDTH).astype(np.float32)
    visible /= np.linalg.norm(visible, axis=1, keepdims=True)
    plain = label(visible, features(2), cameras=(cameras, None), settings_=many)
    centred = label(visible, features(2), cameras=(cameras, None), recipe=by_camera, settings_=many)
    assert not same_partition(plain.visible, identities)
    assert same_partition(centred.visible, identities)
    # If cameras are unknown, the modality's mean is subtracted.
    unknown = label(visible, features(2), recipe=by_camera, settings_=many)
    by_modality = label(
        visible, features(2), recipe=ABRUPT.model_copy(update={"centre_features": "modality"}), settings_=many
    )
    assert np.array_equal(unknown.visible, by_modality.visible)


def test_features_stay_as_they_are() -> None:
    visible, infrared = features(1), features(2)
    for choice in ("none", "modality"):
        label(visible, infrared, recipe=ABRUPT.model_copy(update={"centre_features": choice}))
    assert np.array_equal(visible, features(1))
    assert np.array_equal(infrared, features(2))


@pytest.mark.parametrize("clustering", ["hdbscan", "agglomerative", "community"])
def test_every_clustering_finds_well_separated_people(clustering: str) -> None:
    recipe = ABRUPT.model_copy(update={"clustering": clustering})
    labels = label(features(1), features(2), recipe=recipe, settings_=SETTINGS.model_copy(update={"min_samples": 4}))
    for found, people in ((labels.visible, IDENTITIES), (labels.infrared, IDENTITIES)):
        assert same_partition(found, people)
    assert labels.groupings["visible"].eps == (0.6 if clustering == "agglomerative" else None)


def test_all_noise_without_an_eps_names_the_setting() -> None:
    hdbscan = ABRUPT.model_copy(update={"clustering": "hdbscan"})
    strict = SETTINGS.model_copy(update={"min_samples": 30})
    with pytest.raises(UserError, match=r"no visible cluster: all 24 images are noise; lower clustering\.min_samples"):
        label(features(1), features(2), recipe=hdbscan, settings_=strict)


def test_a_chosen_eps_is_reported() -> None:
    labels = label(features(1), features(2), settings_=SETTINGS.model_copy(update={"eps": "auto"}))
    assert same_partition(labels.visible, IDENTITIES)
    for grouping in labels.groupings.values():
        assert grouping.eps is not None
        assert 0 < grouping.eps < 1
        assert grouping.silhouette > 0.2


def test_balanced_neighbours_join_what_the_gap_keeps_apart() -> None:
    visible, infrared = features(1), features(2, shift=2.0)
    plain = label(visible, infrared)
    balanced = label(visible, infrared, recipe=ABRUPT.model_copy(update={"balanced_neighbours": True}))
    assert plain.joint_shared() is None
    assert balanced.joint_shared() is not None
    assert np.array_equal(plain.visible, balanced.visible)


def test_an_approximate_search_reports_its_recall() -> None:
    visible, infrared = features(1), features(2)
    assert all(grouping.recall is None for grouping in label(visible, infrared).groupings.values())
    approximate = SETTINGS.model_copy(update={"search": "approximate"})
    balanced = ABRUPT.model_copy(update={"balanced_neighbours": True})
    for recipe in (ABRUPT, balanced):
        found = label(visible, infrared, recipe=recipe, settings_=approximate).groupings
        # This few images are in one list, so nothing is missed.
        assert [grouping.recall for grouping in found.values()] == [1.0, 1.0, 1.0]


def test_confidence_on_request() -> None:
    visible, infrared = features(1, noise=0.6), features(2, noise=0.6)
    plain = label(visible, infrared)
    assert plain.confidence() == plain.joint_confidence() == (None, None)
    weighed = label(visible, infrared, recipe=ABRUPT.model_copy(update={"confidence": "weight"}))
    for parts in (weighed.confidence(), weighed.joint_confidence()):
        for part, images in zip(parts, (visible, infrared), strict=True):
            assert part is not None
            assert part.shape == (len(images),)
            assert part.min() >= 0
            assert 0 < part.max() <= 1
    assert np.array_equal(plain.visible, weighed.visible)


# Its two parts: each modality by itself, then both.


def test_an_epochs_labels_are_those_of_each_modality() -> None:
    recipe = ABRUPT.model_copy(update={"confidence": "weight"})
    strict = SETTINGS.model_copy(update={"eps_infrared": 0.35})
    parts = features(1, noise=1.5), features(2, noise=1.5)
    whole = label(*parts, recipe=recipe, settings_=strict)
    visible = cluster(parts[0], "visible", strict, recipe)
    infrared = cluster(parts[1], "infrared", strict, recipe)
    assert (visible.eps, infrared.eps) == (0.6, 0.35)
    assert np.array_equal(whole.visible, visible.labels)
    assert np.array_equal(whole.infrared, infrared.labels)
    for alone, name in ((visible, "visible"), (infrared, "infrared")):
        assert alone.silhouette == whole.groupings[name].silhouette
        assert alone.confidence is not None
        assert np.array_equal(alone.confidence, np.asarray(whole.groupings[name].confidence))


def across(
    visible: list[int], infrared: list[int], parts: tuple[Features, Features], *, joint: bool = True, **choices: object
) -> EpochLabels:
    """Labels that do not come from clustering, used as they are."""
    groups = [Grouping(np.array(labels, dtype=np.int64)) for labels in (visible, infrared)]
    recipe = ABRUPT.model_copy(update=choices)
    return label_across_modalities(LabelRequest(Pair(*parts), SETTINGS, recipe, joint), Pair(*groups))


def axes(*numbers: int) -> Features:
    return np.eye(WIDTH, dtype=np.float32)[list(numbers)]


def test_given_clusters_are_taken_as_they_are() -> None:
    visible, infrared = [0, 0, -1, 1], [2, 0, 1, -1, 1]
    parts = axes(0, 0, 3, 1), axes(4, 0, 1, 5, 1)
    labels = across(visible, infrared, parts, joint=False, matching="mutual")
    assert labels.visible.tolist() == visible
    assert labels.infrared.tolist() == infrared
    assert labels.joint is None
    assert labels.matching.visible_to_infrared.tolist() == [0, 1]
    assert labels.matching.infrared_to_visible.tolist() == [0, 1, -1]
    assert set(labels.groupings) == {"visible", "infrared"}


def test_votes_reach_the_matching() -> None:
    # Both visible clusters look like infrared cluster 0, and none looks like infrared cluster 1.
    parts = np.concatenate([axes(0, 0), axes(0) + 0.9 * axes(1)]).astype(np.float32), axes(0, 3)
    assert across([0, 0, 1], [0, 1], parts).matching.visible_to_infrared.tolist() == [0, 1]
    voted = across([0, 0, 1], [0, 1], parts, matching="votes").matching
    assert voted.visible_to_infrared.tolist() == [0, -1]
    assert voted.infrared_to_visible.tolist() == [0, -1]


# Joint clusters that are matched ones.


def test_several_infrared_clusters_of_one_visible_partner_become_one() -> None:
    parts = axes(0, 0, 5), axes(0, 1, 2, 6)
    labels = across([0, 0, -1], [0, 1, 2, -1], parts, joint_labels="matching")
    assert labels.matching.infrared_to_visible.tolist() == [0, 0, 0]
    assert labels.joint is not None
    assert labels.joint.tolist() == [0, 0, -1, 0, 0, 0, -1]
    with pytest.raises(ValueError, match="read-only"):
        labels.joint[0] = 1


def test_clusters_without_a_partner_stay_alone() -> None:
    parts = axes(0, 1, 2, 5), axes(7, 1, 0, 6)
    labels = across([0, 1, 2, -1], [0, 1, 2, -1], parts, joint_labels="matching", matching="mutual")
    assert labels.matching.infrared_to_visible.tolist() == [-1, 1, 0]
    assert labels.joint is not None
    assert labels.joint.tolist() == [0, 1, 2, -1, 3, 1, 0, -1]
    dropped = labels.without_joint_clusters_of_one_modality().joint
    assert dropped is not None
    assert dropped.tolist() == [0, 1, -1, -1, -1, 1, 0, -1]


def test_merged_clusters_have_no_joint_clustering() -> None:
    parts = features(1), features(2)
    recipe = ABRUPT.model_copy(update={"joint_labels": "matching", "confidence": "weight"})
    merged = label(*parts, recipe=recipe)
    assert set(merged.groupings) == {"visible", "infrared"}
    # An image is in its joint cluster as surely as in its own.
    for joint, own in zip(merged.joint_confidence(), merged.confidence(), strict=True):
        assert joint is not None
        assert joint is own
    assert label(*parts, recipe=recipe, joint=False).joint_confidence() == (None, None)


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(1, 5))
def test_merging_by_the_definition(data: st.DataObject, visible: int, infrared: int) -> None:
    parts = [
        [*range(count), *data.draw(st.lists(st.integers(-1, count - 1), max_size=6))] for count in (visible, infrared)
    ]
    partners = data.draw(st.lists(st.integers(-1, visible - 1), min_size=infrared, max_size=infrared))
    forward = np.full(visible, -1, dtype=np.int64)  # plays no part
    arrays = [np.array(part, dtype=np.int64) for part in parts]
    merged = _merge_matched(Pair(arrays[0], arrays[1]), Matching(forward, np.array(partners, dtype=np.int64)))
    names = [
        *(("visible", cluster) for cluster in parts[0]),
        *(("visible", partners[cluster]) if partners[cluster] >= 0 else ("infrared", cluster) for cluster in parts[1]),
    ]
    clustered = [cluster >= 0 for cluster in (*parts[0], *parts[1])]
    assert (merged >= 0).tolist() == clustered
    for i, j in np.ndindex(len(merged), len(merged)):
        if clustered[i] and clustered[j]:
            assert (merged[i] == merged[j]) == (names[i] == names[j])
    assert set(merged[merged >= 0].tolist()) == set(range(merged.max() + 1)), "numbered without gaps"


# Parts of it.


def with_joint(visible: list[int], infrared: list[int]) -> EpochLabels:
    empty = np.zeros(0, dtype=np.int64)
    return EpochLabels(
        np.zeros(len(visible), dtype=np.int64),
        np.zeros(len(infrared), dtype=np.int64),
        np.array([*visible, *infrared], dtype=np.int64),
        Matching(empty, empty),
    )


def test_shared_clusters_keep_their_numbers_until_the_others_are_dropped() -> None:
    labels = with_joint([0, 2, -1, 5, 3], [2, 1, 5, -1])
    shared = labels.joint_shared()
    assert shared is not None
    assert shared[0].tolist() == [-1, 2, -1, 5, -1]
    assert shared[1].tolist() == [2, -1, 5, -1]
    dropped = labels.without_joint_clusters_of_one_modality()
    assert dropped.joint is not None
    assert dropped.joint.tolist() == [-1, 0, -1, 1, -1, 0, -1, 1, -1]
    assert labels.joint is not None
    assert labels.joint.tolist() == [0, 2, -1, 5, 3, 2, 1, 5, -1]
    with pytest.raises(ValueError, match="read-only"):
        dropped.joint[0] = 3


@pytest.mark.parametrize(
    ("visible", "infrared"), [([0, 1], [2, 3]), ([-1, -1], [-1, -1]), ([0, -1], [-1, -1]), ([], [0])]
)
def test_no_shared_cluster(visible: list[int], infrared: list[int]) -> None:
    labels = with_joint(visible, infrared)
    assert labels.joint_shared() is None
    assert labels.without_joint_clusters_of_one_modality() is labels


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-1, 5), max_size=12), st.lists(st.integers(-1, 5), max_size=12))
def test_shared_clusters_by_the_definition(visible: list[int], infrared: list[int]) -> None:
    both = sorted({label_ for label_ in visible if label_ >= 0 and label_ in infrared})
    labels = with_joint(visible, infrared)
    shared = labels.joint_shared()
    assume(both)  # for the others see the test before
    assert shared is not None
    assert shared[0].tolist() == [label_ if label_ in both else -1 for label_ in visible]
    assert shared[1].tolist() == [label_ if label_ in both else -1 for label_ in infrared]
    number = {label_: place for place, label_ in enumerate(both)}
    dropped = labels.without_joint_clusters_of_one_modality().joint
    assert dropped is not None
    assert dropped.tolist() == [number.get(label_, -1) for label_ in (*visible, *infrared)]


def test_near_copies_are_thinned_as_they_were_embedded() -> None:
    thinning = SETTINGS.model_copy(update={"near_copies": "thin"})
    by_modality = ABRUPT.model_copy(update={"centre_features": "modality"})
    # Frames of one shot are near-copies only with what all images have in common.
    shots = np.concatenate([features(seed, shift=3.0) for seed in range(2)])
    frames = np.random.default_rng(3).normal(size=(3, *shots.shape)) * 0.012
    visible: Features = (shots + frames).reshape(-1, WIDTH).astype(np.float32)
    visible /= np.linalg.norm(visible, axis=1, keepdims=True)
    plain = label(visible, features(2, shift=3.0), settings_=thinning)
    centred = label(visible, features(2, shift=3.0), settings_=thinning, recipe=by_modality)
    without = thin(centre(visible, None), None, near_copies=True)
    fewer = 0 if without is None else len(visible) - len(without.rows)
    for name in ("visible", "joint"):
        seen = [labels.groupings[name].neighbourhoods for labels in (plain, centred)]
        first, second = (0 if one is None else one.thinned for one in seen)
        assert first == second > fewer + 50, name
