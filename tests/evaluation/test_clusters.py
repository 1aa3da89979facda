from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pclhd.clustering.matching import Matching
from pclhd.data.records import Dataset, ImageRecord, Modality, make_training_set
from pclhd.engine.labelling import EpochLabels
from pclhd.evaluation.clusters import ClusterMeter
from pclhd.pair import Pair
from tests.data.fake_layouts import write_image

PEOPLE = 4


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    records, identities = [], []
    for person in range(PEOPLE):
        for modality, each in ((Modality.VISIBLE, 3), (Modality.INFRARED, 2)):
            for number in range(each):
                path = tmp_path / f"{person} {modality} {number}.png"
                write_image(path, path.name)
                records.append(ImageRecord(path, modality))
                identities.append(person + 70)
    training_set, known = make_training_set(records, identities)
    return Dataset("own", tmp_path, training_set, known, None)


def perfect(dataset: Dataset) -> EpochLabels:
    assert dataset.train_identities is not None
    people = np.array(dataset.train_identities) - 70
    visible = np.array([image.modality is Modality.VISIBLE for image in dataset.train.images])
    # Infrared clusters are numbered the other way round.
    partners = np.arange(PEOPLE)[::-1].copy()
    return EpochLabels(people[visible], partners[people[~visible]], people, Matching(partners, partners))


def test_perfect_labels(dataset: Dataset) -> None:
    measured = ClusterMeter(dataset).measure(perfect(dataset))
    assert measured == {
        **{
            name: pytest.approx(1.0)
            for name in (
                *("ari_visible", "nmi_visible", "ari_infrared", "nmi_infrared", "ari_joint", "nmi_joint"),
                *("match_precision", "match_right"),
            )
        },
        **dict.fromkeys(("match_wrong", "unmatched_right", "unmatched_wrong"), 0.0),
    }


def test_only_the_images_of_the_epoch_are_measured(dataset: Dataset) -> None:
    labels = perfect(dataset)
    rows = np.array([0, 1, 5, 7, 8, 9, 11])
    assert len(np.unique(labels.visible[rows])) == PEOPLE
    assert labels.joint is not None
    visible, joint = np.full(12, -1), labels.joint.copy()
    visible[rows] = labels.visible[rows]
    joint[:12][visible < 0] = -1
    left_out = replace(labels, visible=visible, joint=joint, drawn=Pair(rows, None))
    measured = ClusterMeter(dataset).measure(left_out)
    assert measured["ari_visible"] == measured["ari_joint"] == pytest.approx(1)
    assert ClusterMeter(dataset).measure(replace(left_out, drawn=Pair(None, None)))["ari_visible"] < 0.9


def test_without_a_joint_clustering(dataset: Dataset) -> None:
    measured = ClusterMeter(dataset).measure(replace(perfect(dataset), joint=None))
    assert "ari_joint" not in measured
    assert measured["ari_infrared"] == pytest.approx(1.0)


def test_each_figure_is_about_its_own_labels(dataset: Dataset) -> None:
    labels = perfect(dataset)
    meter = ClusterMeter(dataset)

    def spoilt(array: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same number of clusters of about the same sizes, regardless of identities."""
        return np.resize(np.arange(PEOPLE), len(array))

    measured = meter.measure(replace(labels, visible=spoilt(labels.visible)))
    assert measured["ari_visible"] < 0.6
    assert measured["ari_infrared"] == pytest.approx(1)
    measured = meter.measure(replace(labels, infrared=spoilt(labels.infrared)))
    assert measured["ari_infrared"] < 0.6
    assert measured["ari_visible"] == pytest.approx(1)
    straight = Matching(np.arange(PEOPLE), np.arange(PEOPLE))
    assert meter.measure(replace(labels, matching=straight))["match_precision"] == pytest.approx(0)


def test_identities_are_needed(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="own has no training identities"):
        ClusterMeter(replace(dataset, train_identities=None))
