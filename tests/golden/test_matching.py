"""Cluster matching against index arrays recorded from the released code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pclhd.clustering.matching import match_clusters
from tests.golden.helpers import golden_files


@pytest.mark.parametrize("path", golden_files("pgm_*.npz"), ids=lambda path: path.stem)
def test_released_matchings_as_recorded(path: Path) -> None:
    with np.load(path, allow_pickle=False) as recorded:
        visible, infrared = recorded["features_a"], recorded["features_b"]
        if path.stem.startswith("pgm_sysu"):
            matching = match_clusters(visible, infrared, method="released_sysu")
        else:
            matching = match_clusters(visible, infrared, method="released_regdb")
        np.testing.assert_array_equal(matching.visible_to_infrared, recorded["a2b"])
        np.testing.assert_array_equal(matching.infrared_to_visible, recorded["b2a"])
