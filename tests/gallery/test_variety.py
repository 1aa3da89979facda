from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.evaluation.retrieval import unit_length
from pclhd.gallery.variety import summarise


def farthest_points(embeddings: NDArray[np.float32], most: int, alike: float) -> list[int]:
    """The slow twin of the choice, except for the first, where two frames are equally similar to their mean."""
    chosen = [int(np.argmax(embeddings @ embeddings.mean(axis=0)))]
    while len(chosen) < most:
        nearest = [max(float(one @ embeddings[other]) for other in chosen) for one in embeddings]
        if min(nearest) >= alike:
            break
        chosen.append(int(np.argmin(nearest)))
    return chosen


@given(seed=st.integers(0, 10**6), number=st.integers(1, 12), most=st.integers(1, 5))
def test_the_choice_and_the_means(seed: int, number: int, most: int) -> None:
    embeddings = unit_length(np.random.default_rng(seed).standard_normal((number, 6)))
    found = summarise(embeddings, most)
    chosen = farthest_points(embeddings, min(most, number), 0.9)
    assert len(found.embeddings) == len(found.frames) == len(chosen) <= most
    assert np.linalg.norm(found.embeddings, axis=1) == pytest.approx(1, abs=1e-5)
    owner = (embeddings @ embeddings[chosen].T).argmax(axis=1)
    for group, vector in enumerate(found.embeddings):
        members = embeddings[owner == group]
        assert vector == pytest.approx(unit_length(members.mean(axis=0)[None])[0], abs=1e-4)
        assert owner[found.frames[group]] == group


def test_frames_that_look_alike_become_one() -> None:
    embeddings = unit_length(np.ones((50, 8)) + 0.01 * np.random.default_rng(0).standard_normal((50, 8)))
    assert len(summarise(embeddings, 4).embeddings) == 1
    assert len(summarise(np.concatenate([embeddings, -embeddings]), 4).embeddings) == 2


def test_opposite_frames_and_nothing() -> None:
    two = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    assert np.isfinite(summarise(two, 1).embeddings).all()
    for embeddings, most in ((two[:0], 1), (two, 0)):
        with pytest.raises(ValueError, match="cannot be averaged"):
            summarise(embeddings, most)
