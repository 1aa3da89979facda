from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pclhd.config import ClusteringSettings
from pclhd.data.records import Dataset, ImageRecord, Modality, TrainingSet
from pclhd.engine.labelling import EpochLabels, LabelRequest, label_epoch
from pclhd.engine.observer import Silent
from pclhd.engine.trainer import train
from pclhd.errors import UserError
from pclhd.pair import Pair
from pclhd.recipes import RECIPES, Recipe
from pclhd.supervised.labeller import IdentityLabeller
from tests.engine.runs import SmallData, Watcher, records
from tests.engine.test_labelling import IDENTITIES, SETTINGS, features, same_partition

Ints = NDArray[np.int64]

#: Any whole numbers; −1 is a person here, not noise. Person 7 is seen only in visible light, 12 and 2 in infrared.
VISIBLE = [-1, 40, 7, 40, -1, 3]
INFRARED = [40, 12, 3, 3, -1, 2, 40]


def dataset(visible: list[int] | Ints, infrared: list[int] | Ints, *, known: bool = True) -> Dataset:
    images = [
        ImageRecord(Path(f"{number}.png"), modality)
        for modality, people in ((Modality.VISIBLE, visible), (Modality.INFRARED, infrared))
        for number in range(len(people))
    ]
    training_set = TrainingSet(tuple(images), tuple("" for _ in images))
    people = tuple(int(person) for person in (*visible, *infrared))
    return Dataset("made up", Path("nowhere"), training_set, people if known else None, None)


def label(
    labeller: IdentityLabeller,
    visible: NDArray[np.float32],
    infrared: NDArray[np.float32],
    *,
    recipe: Recipe = RECIPES["supervised"],
    settings: ClusteringSettings = SETTINGS,
    joint: bool = True,
) -> EpochLabels:
    return labeller(LabelRequest(Pair(visible, infrared), settings, recipe, joint))


def noise(*counts: int) -> list[NDArray[np.float32]]:
    return [np.random.default_rng(n).standard_normal((n, 8)).astype(np.float32) for n in counts]


# All identities.


def test_labels_are_the_people() -> None:
    labels = label(IdentityLabeller(dataset(VISIBLE, INFRARED), visible_only=False), *noise(6, 7))
    for found, people in ((labels.visible, VISIBLE), (labels.infrared, INFRARED)):
        assert found.dtype == np.int64
        assert same_partition(found, np.array(people))
        assert set(found.tolist()) == set(range(len(set(people)))), "numbered without gaps, no noise"
    assert labels.joint is not None
    assert same_partition(labels.joint, np.array([*VISIBLE, *INFRARED]))
    assert set(labels.joint.tolist()) == set(range(6))


def test_partners_are_the_same_person() -> None:
    labels = label(IdentityLabeller(dataset(VISIBLE, INFRARED), visible_only=False), *noise(6, 7))
    person_of = [dict(zip(labels.visible.tolist(), VISIBLE, strict=True))]
    person_of.append(dict(zip(labels.infrared.tolist(), INFRARED, strict=True)))
    maps = labels.matching.visible_to_infrared, labels.matching.infrared_to_visible
    for number, partners in enumerate(maps):
        assert partners.dtype == np.int64
        mine, theirs = person_of[number], person_of[1 - number]
        assert len(partners) == len(mine)
        for cluster, partner in enumerate(partners.tolist()):
            if mine[cluster] in theirs.values():
                assert theirs[partner] == mine[cluster]
            else:
                assert partner == -1, "a person seen in one modality only has no partner"
    assert [person_of[0][c] for c in np.flatnonzero(maps[0] < 0)] == [7]
    assert sorted(person_of[1][c] for c in np.flatnonzero(maps[1] < 0)) == [2, 12]


def test_no_person_is_in_both_modalities() -> None:
    labels = label(IdentityLabeller(dataset([1, 1], [2, 3]), visible_only=False), *noise(2, 2))
    assert labels.matching.visible_to_infrared.tolist() == [-1]
    assert labels.matching.infrared_to_visible.tolist() == [-1, -1]
    assert labels.joint_shared() is None


def test_joint_labels_only_on_request() -> None:
    labeller = IdentityLabeller(dataset(VISIBLE, INFRARED), visible_only=False)
    assert label(labeller, *noise(6, 7), joint=False).joint is None


def test_features_play_no_part() -> None:
    labeller = IdentityLabeller(dataset(VISIBLE, INFRARED), visible_only=False)
    first, second = label(labeller, *noise(6, 7)), label(labeller, *(-part for part in noise(6, 7)))
    assert np.array_equal(first.visible, second.visible)
    assert np.array_equal(first.infrared, second.infrared)


def test_nothing_is_reported_of_clusterings_that_were_not_made() -> None:
    # A silhouette of 0 in the log would be a figure that was never measured.
    assert label(IdentityLabeller(dataset(VISIBLE, INFRARED), visible_only=False), *noise(6, 7)).groupings == {}


@pytest.mark.parametrize("visible_only", [True, False])
def test_labels_cannot_be_written(visible_only: bool) -> None:
    labeller = IdentityLabeller(dataset(IDENTITIES, IDENTITIES), visible_only=visible_only)
    labels = label(labeller, features(1), features(2))
    assert labels.joint is not None
    for array in (labels.visible, labels.infrared, labels.joint):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 3


# Those of the visible images.

SEMI = RECIPES["semi-supervised"].model_copy(update={"neighbourhood": "paper"})


def test_infrared_and_joint_labels_come_from_clustering() -> None:
    # Visible identities that do not match the features, so that the two sources give different labels.
    people = np.arange(len(IDENTITIES)) % 3
    labeller = IdentityLabeller(dataset(people, np.zeros_like(IDENTITIES)), visible_only=True)
    parts = features(1), features(2)
    labels = label(labeller, *parts, recipe=SEMI)
    assert same_partition(labels.visible, people)
    clustered = label_epoch(LabelRequest(Pair(*parts), SETTINGS, SEMI, joint=True))
    assert np.array_equal(labels.infrared, clustered.infrared)
    assert same_partition(labels.infrared, IDENTITIES)
    assert labels.joint is not None
    assert clustered.joint is not None
    assert np.array_equal(labels.joint, clustered.joint)
    assert set(labels.groupings) == {"infrared", "joint"}
    for name, grouping in labels.groupings.items():
        assert grouping.silhouette == clustered.groupings[name].silhouette


def test_visible_people_are_matched_with_infrared_clusters() -> None:
    labeller = IdentityLabeller(dataset(IDENTITIES + 100, np.zeros_like(IDENTITIES)), visible_only=True)
    labels = label(labeller, features(1), features(2), recipe=SEMI)
    person_of = dict(zip(labels.infrared.tolist(), IDENTITIES.tolist(), strict=True))
    assert [person_of[cluster] for cluster in labels.matching.visible_to_infrared.tolist()] == [0, 1, 2, 3]
    # Matches can make the joint clusters, too.
    merged = label(labeller, features(1), features(2), recipe=SEMI.model_copy(update={"joint_labels": "matching"}))
    assert merged.joint is not None
    assert same_partition(merged.joint, np.tile(IDENTITIES, 2))
    assert set(merged.groupings) == {"infrared"}


def test_confidence_weighs_what_was_clustered_only() -> None:
    labeller = IdentityLabeller(dataset(IDENTITIES, IDENTITIES), visible_only=True)
    labels = label(labeller, features(1), features(2), recipe=SEMI.model_copy(update={"confidence": "weight"}))
    visible, *clustered = labels.confidence() + labels.joint_confidence()
    assert visible is None, "identities are not doubted"
    for confidence in clustered:
        assert confidence is not None
        assert confidence.shape == IDENTITIES.shape


def test_an_infrared_modality_of_noise_is_refused() -> None:
    labeller = IdentityLabeller(dataset(IDENTITIES, IDENTITIES), visible_only=True)
    strict = SETTINGS.model_copy(update={"min_samples": 4, "k1": 6, "k2": 1, "eps": 0.1})
    with pytest.raises(UserError, match="no infrared cluster"):
        label(labeller, features(1), features(2, noise=9), recipe=SEMI, settings=strict)


def test_the_visible_labeller_holds_nothing_of_the_others() -> None:
    def contents(infrared: Ints) -> bytes:
        return pickle.dumps(vars(IdentityLabeller(dataset(IDENTITIES, infrared), visible_only=True)))

    assert contents(IDENTITIES) == contents(IDENTITIES[::-1] * 17 - 5) == contents(np.zeros_like(IDENTITIES))
    both = [
        pickle.dumps(vars(IdentityLabeller(dataset(IDENTITIES, infrared), visible_only=False)))
        for infrared in (IDENTITIES, IDENTITIES % 2)
    ]
    assert both[0] != both[1], "the comparison can fail"


# Without identities.


@pytest.mark.parametrize("visible_only", [True, False])
def test_data_without_identities(visible_only: bool) -> None:
    with pytest.raises(UserError, match=r"^nowhere: the training images have no identities.* recipe=pclhd$"):
        IdentityLabeller(dataset(VISIBLE, INFRARED, known=False), visible_only=visible_only)


# In training.

ONE_EACH = ("schedule.stage1_epochs=1", "schedule.stage2_epochs=1")


@pytest.mark.parametrize(
    ("recipe", "labelled", "said"),
    [
        ("pclhd", True, "method.labels=clusters with a labeller"),
        ("supervised", False, "method.labels=identities without a labeller"),
        ("semi-supervised", False, "method.labels=visible_identities without a labeller"),
    ],
)
def test_labels_and_recipe_must_agree(small: SmallData, tmp_path: Path, recipe: str, labelled: bool, said: str) -> None:
    labeller = IdentityLabeller(small.dataset(), visible_only=False) if labelled else None
    settings = small.settings(f"recipe={recipe}")
    with pytest.raises(ValueError, match=said):
        train(settings, small.training_set, tmp_path / "run", Silent(), labeller=labeller)
    assert not (tmp_path / "run").exists()


def shuffled(data: Dataset, modality: Modality, number: int) -> Dataset:
    """Identities of one modality, drawn at random from four people instead of six."""
    assert data.train_identities is not None
    random = np.random.default_rng(number)
    people = [
        int(random.integers(0, 4)) if image.modality is modality else person
        for image, person in zip(data.train.images, data.train_identities, strict=True)
    ]
    return replace(data, train_identities=tuple(people))


@pytest.fixture(scope="module")
def weights(small: SmallData, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Digest of the weights of a recipe, with some identities."""

    def digest_of(recipe: str, data: Dataset | None = None, *overrides: str) -> str:
        run = tmp_path_factory.mktemp("run") / "run"
        return small.train(run, f"recipe={recipe}", *ONE_EACH, *overrides, dataset=data)

    return digest_of


@pytest.mark.slow
def test_infrared_identities_do_not_reach_the_semi_supervised_weights(
    small: SmallData, weights: Callable[..., str]
) -> None:
    data = small.dataset()
    expected = weights("semi-supervised", data)
    assert weights("semi-supervised", shuffled(data, Modality.INFRARED, 1)) == expected
    assert weights("semi-supervised", shuffled(data, Modality.VISIBLE, 1)) != expected


@pytest.mark.slow
@pytest.mark.parametrize("modality", Modality)
def test_all_identities_reach_the_supervised_weights(
    small: SmallData, weights: Callable[..., str], modality: Modality
) -> None:
    data = small.dataset()
    assert weights("supervised", shuffled(data, modality, 1)) != weights("supervised", data)


@pytest.mark.slow
def test_where_labels_come_from_reaches_the_weights(small: SmallData, weights: Callable[..., str]) -> None:
    # Identities that differ from what clustering finds; otherwise both would give the same labels.
    data = shuffled(shuffled(small.dataset(), Modality.VISIBLE, 1), Modality.INFRARED, 2)
    digests = [
        weights("pclhd", data, f"method.labels={labels}", "method.joint_labels=matching")
        for labels in ("clusters", "visible_identities", "identities")
    ]
    assert len(set(digests)) == 3


@pytest.mark.slow
def test_people_may_have_any_whole_numbers(small: SmallData, weights: Callable[..., str]) -> None:
    data = small.dataset()
    assert data.train_identities is not None
    renamed = replace(data, train_identities=tuple(3 * person - 5 for person in data.train_identities))
    assert weights("supervised", renamed) == weights("supervised", data)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["supervised", "semi-supervised"])
def test_what_is_logged(small: SmallData, tmp_path: Path, recipe: str) -> None:
    seen: list[EpochLabels] = []

    def keep(position: object, labels: EpochLabels) -> dict[str, float]:
        seen.append(labels)
        return {}

    small.train(tmp_path / "run", f"recipe={recipe}", *ONE_EACH, observer=Watcher(epoch=keep))
    people = np.array(small.dataset().train_identities)
    for labels, line in zip(seen, records(tmp_path / "run"), strict=True):
        assert same_partition(labels.visible, people[: len(labels.visible)])
        assert line["visible"]["clusters"] == 6
        assert line["visible"]["noise"] == 0
        assert "silhouette" not in line["visible"]
        assert ("silhouette" in line["infrared"]) == (recipe == "semi-supervised")
    assert seen[0].joint is None
    assert seen[1].joint is not None
    if recipe == "supervised":
        assert same_partition(seen[1].joint, people)
