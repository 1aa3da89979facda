"""The sparse Jaccard distance against matrices and labels recorded from the released code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pclhd.clustering.density import dbscan_labels
from pclhd.clustering.jaccard import jaccard_similarity
from tests.golden.helpers import golden_files

TOLERANCE = 5e-6


@pytest.mark.parametrize("path", golden_files("jaccard_*.npz"), ids=lambda path: path.stem)
def test_distance_and_labels_as_recorded(path: Path) -> None:
    with np.load(path, allow_pickle=False) as recorded:
        modality = recorded.get("modality")
        k1, k2, min_samples = int(recorded["k1"]), int(recorded["k2"]), int(recorded["min_samples"])
        similarity = jaccard_similarity(recorded["features"], k1, k2, modality=modality)
        assert np.abs((1 - similarity.toarray()) - recorded["distance"]).max() < TOLERANCE
        for name in (name for name in recorded.files if name.startswith("labels_eps")):
            eps = int(name.removeprefix("labels_eps")) / 10
            np.testing.assert_array_equal(dbscan_labels(similarity, eps, min_samples), recorded[name])
            near = jaccard_similarity(recorded["features"], k1, k2, modality=modality, max_distance=eps)
            np.testing.assert_array_equal(dbscan_labels(near, eps, min_samples), recorded[name])
