from __future__ import annotations

from dataclasses import replace

import numpy as np

from pclhd.clustering.matching import Matching
from pclhd.engine.epoch_record import describe_labels
from pclhd.engine.labelling import EpochLabels, Grouping


def test_labels_described() -> None:
    labels = EpochLabels(
        np.array([0, 0, 1, -1]),
        np.array([0, -1]),
        np.array([0, 0, 1, -1, 0, -1]),
        Matching(np.array([0, -1]), np.array([0])),
    )
    described = describe_labels(labels)
    assert described["visible"] == {
        "images": 4,
        "clusters": 2,
        "noise": 0.25,
        "size_min": 1,
        "size_median": 1.5,
        "size_max": 2,
    }
    assert described["infrared"]["noise"] == 0.5
    assert described["joint"]["shared_clusters"] == 1
    assert described["matched"] == {"visible": 0.5, "infrared": 1.0}
    nothing = EpochLabels(labels.visible, labels.infrared, np.full(6, -1), labels.matching)
    assert describe_labels(nothing)["joint"] == {
        "images": 6,
        "clusters": 0,
        "noise": 1.0,
        "size_min": 0,
        "size_median": 0.0,
        "size_max": 0,
        "shared_clusters": 0,
    }
    grouped = replace(
        labels,
        groupings={
            "visible": Grouping(labels.visible, np.array([1.0, 0.5, 0.0, 0.9]), 0.4, 0.3),
            "infrared": Grouping(labels.infrared, recall=0.9),
        },
    )
    described = describe_labels(grouped)
    assert {name: described["visible"][name] for name in ("eps", "silhouette", "confidence")} == {
        "eps": 0.4,
        "silhouette": 0.3,
        "confidence": 0.5,
    }
    assert "recall" not in described["visible"]
    assert described["infrared"]["recall"] == 0.9
    assert described["infrared"].keys().isdisjoint({"eps", "confidence"})
    assert "joint" not in describe_labels(EpochLabels(labels.visible, labels.infrared, None, labels.matching))
