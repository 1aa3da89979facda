from __future__ import annotations

import numpy as np
import pytest

from pclhd.report.similarities import overlap, similarity_figure
from pclhd.runs.records import PairSimilarities


def test_overlap_is_the_share_of_comparisons_that_are_right() -> None:
    random = np.random.default_rng(0)
    same, different = random.integers(0, 9, 12).tolist(), random.integers(0, 9, 12).tolist()
    right = sum(
        s * d * (1 if i > j else 0.5 if i == j else 0) for i, s in enumerate(same) for j, d in enumerate(different)
    )
    found = overlap(PairSimilarities(same=same, different=different))
    assert found == pytest.approx(right / (sum(same) * sum(different)))
    assert overlap(PairSimilarities(same=[0, 0, 3], different=[4, 0, 0])) == 1
    assert overlap(PairSimilarities(same=[0, 0], different=[4, 0])) is None


def test_without_pairs_there_is_no_figure() -> None:
    assert similarity_figure({"final": PairSimilarities(same=[0] * 80, different=[1] * 80)}) is None
    figure = similarity_figure({"final": PairSimilarities(same=[1] * 80, different=[1] * 80)})
    assert figure is not None
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["final"]
