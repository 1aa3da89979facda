from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.evaluation import retrieval
from pclhd.evaluation.retrieval import RankedResults, rank_gallery, unit_length


def rank_slowly(
    queries: NDArray[np.float64], gallery: NDArray[np.float64], top_n: int, excluded: NDArray[np.bool_]
) -> list[list[int]]:
    """Grid vectors keep equal cosines equal in whole numbers, so the twin can order them without rounding."""
    ranked = []
    for q, query in enumerate(queries):

        def key(g: int, query: NDArray[np.float64] = query) -> tuple[float, int]:
            cosine = float(query @ gallery[g]) / float(np.linalg.norm(query) * np.linalg.norm(gallery[g]))
            return (round(1 - cosine, 5), g)

        seen = sorted((g for g in range(len(gallery)) if not excluded[q, g]), key=key)[:top_n]
        ranked.append(seen + [-1] * (min(top_n, len(gallery)) - len(seen)))
    return ranked


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    queries=st.integers(1, 5),
    gallery=st.integers(1, 12),
    top_n=st.integers(1, 14),
    share=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_rank_gallery__equals_the_loop(seed: int, queries: int, gallery: int, top_n: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    # Axis directions: many exact ties, and cosines of exactly -1, 0 and 1.
    directions = np.concatenate([np.eye(3), -np.eye(3)])
    asking, answering = directions[rng.integers(0, 6, queries)], directions[rng.integers(0, 6, gallery)]
    excluded = rng.random((queries, gallery)) < share
    ranked = rank_gallery(asking, answering, top_n=top_n, excluded=excluded)
    assert ranked.index.tolist() == rank_slowly(asking, answering, top_n, excluded)
    assert len(ranked) == queries


def test_rank_gallery__distance_is_one_minus_cosine() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.standard_normal((4, 8)), rng.standard_normal((9, 8))
    ranked = rank_gallery(queries, gallery, top_n=5)
    cosine = (queries @ gallery.T) / np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(gallery, axis=1))
    np.testing.assert_allclose(ranked.distance, np.sort(1 - cosine, axis=1)[:, :5], atol=1e-6)
    np.testing.assert_array_equal(ranked.index, np.argsort(1 - cosine, axis=1)[:, :5])


def test_rank_gallery__does_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    queries, gallery = rng.standard_normal((7, 5)), rng.standard_normal((11, 5))
    excluded = rng.random((7, 11)) < 0.3
    whole = rank_gallery(queries, gallery, top_n=4, excluded=excluded)
    monkeypatch.setattr(retrieval, "_BLOCK_ELEMENTS", 23)
    blocks = rank_gallery(queries, gallery, top_n=4, excluded=excluded)
    np.testing.assert_array_equal(blocks.index, whole.index)
    np.testing.assert_allclose(blocks.distance, whole.distance, atol=1e-6)


def test_rank_gallery__an_image_finds_itself_at_distance_zero_or_more() -> None:
    images = np.random.default_rng(2).standard_normal((50, 64))
    ranked = rank_gallery(images, images, top_n=1)
    np.testing.assert_array_equal(ranked.index[:, 0], np.arange(50))
    assert np.all(ranked.distance >= 0)
    np.testing.assert_allclose(ranked.distance, 0, atol=1e-6)


def test_rank_gallery__refuses_what_does_not_fit() -> None:
    one = np.ones((2, 3))
    with pytest.raises(ValueError, match="3 dimensions, the gallery 4"):
        rank_gallery(one, np.ones((2, 4)), top_n=1)
    with pytest.raises(ValueError, match="not 0"):
        rank_gallery(one, one, top_n=0)
    with pytest.raises(ValueError, match=r"not \(2, 2\)"):
        rank_gallery(one, one, top_n=1, excluded=np.zeros((1, 2), dtype=np.bool_))


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_unit_length__refuses_a_row_without_direction(bad: float) -> None:
    with pytest.raises(ValueError, match="embedding 1 "):
        unit_length(np.array([[1.0, 2.0], [bad, 0.0]]))


def test_unit_length__refuses_a_single_vector() -> None:
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        unit_length(np.ones(3))


@pytest.mark.parametrize(
    ("index", "distance", "message"),
    [
        ([[0, 1]], [[0.2, 0.1]], "row 0 is not sorted"),
        ([[0, 1], [2, 1]], [[0.1, 0.2], [0.3, 0.1]], "row 1 is not sorted"),
        ([[0, 1]], [[0.1]], "shape"),
        ([[0, 1]], [[0.1, np.nan]], "NaN"),
        ([[0, -1]], [[0.1, 0.2]], "same places"),
        ([[0, 1]], [[0.1, np.inf]], "same places"),
        ([[0, -2]], [[0.1, np.inf]], "same places"),
    ],
)
def test_ranked_results__refuses(index: list[list[int]], distance: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RankedResults(np.array(index), np.array(distance))


def test_ranked_results__takes_equal_distances_and_empty_places() -> None:
    assert len(RankedResults(np.array([[3, 1, -1]]), np.array([[0.5, 0.5, np.inf]]))) == 1
