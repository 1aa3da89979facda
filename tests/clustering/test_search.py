from __future__ import annotations

import sys
import warnings
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.clustering import search
from pclhd.clustering.neighbours import Neighbours, nearest_neighbours
from pclhd.clustering.options import SearchMethod
from pclhd.clustering.search import find_neighbours, neighbour_recall
from pclhd.errors import UserError


def slow_distances(features: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = features.astype(np.float64)
    squared: NDArray[np.float64] = ((wide[:, None, :] - wide[None, :, :]) ** 2).sum(axis=2)
    return squared


def slow_balanced(features: NDArray[np.float32], k: int, modality: NDArray[np.int64]) -> NDArray[np.int64]:
    """The modalities take turns giving their nearest remaining sample, until there are k or none is left."""
    squared = slow_distances(features)
    codes = sorted(set(modality.tolist()))
    table = []
    for i in range(len(features)):
        at = codes.index(int(modality[i]))
        decks = []
        for code in codes[at:] + codes[:at]:
            members = [j for j in range(len(features)) if modality[j] == code and j != i]
            members.sort(key=lambda j: (squared[i, j], j))
            decks.append([i, *members] if code == modality[i] else members)
        dealt: list[int] = []
        while any(decks):
            dealt += [deck.pop(0) for deck in decks if deck]
        table.append(dealt[:k])
    return np.array(table, dtype=np.int64).reshape(len(features), -1)


def slow_recall(features: NDArray[np.float32], table: NDArray[np.int32], true: NDArray[np.int64]) -> float:
    """Without ties: the share of true neighbours, without the sample itself, that are in the table."""
    rows = zip(table.tolist(), true.tolist(), strict=True)
    return float(np.mean([len(set(found) & set(right[1:])) / len(right[1:]) for found, right in rows]))


@settings(max_examples=40, deadline=None)
@given(
    number=st.integers(1, 30),
    distinct=st.integers(1, 30),
    codes=st.integers(1, 4),
    k=st.integers(1, 33),
    seed=st.integers(0, 10_000),
)
def test_balanced_like_dealing_cards(number: int, distinct: int, codes: int, k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    originals = generator.standard_normal((distinct, 3)).astype(np.float32)
    features = originals[generator.integers(0, distinct, number)]
    modality = 7 * generator.integers(0, codes, number) - 3
    found = find_neighbours(features, k, modality=modality)
    expected = slow_balanced(features, k, modality)
    assert found.index.shape == (number, min(k, number))
    assert found.index.dtype == np.int32
    np.testing.assert_array_equal(found.index, expected)
    squared = slow_distances(features)
    np.testing.assert_allclose(found.squared_distance, np.take_along_axis(squared, expected, axis=1), rtol=1e-12)
    assert neighbour_recall(features, found, modality=modality, generator=generator) == 1.0


def test_every_prefix_is_balanced() -> None:
    generator = np.random.default_rng(0)
    modality = np.repeat([0, 1], [70, 30])
    features = generator.standard_normal((100, 5)).astype(np.float32) + 3 * modality[:, None].astype(np.float32)
    own = modality[find_neighbours(features, 20, modality=modality).index] == modality[:, None]
    for columns in range(1, 21):
        assert (own[:, :columns].sum(axis=1) == (columns + 1) // 2).all()
    plain = modality[find_neighbours(features, 20).index] == modality[:, None]
    assert plain.mean() > 0.9  # which is what balancing is for


def test_the_others_fill_up_where_a_modality_has_too_few() -> None:
    features = np.array([[0.0], [1.0], [2.0], [3.0], [10.0]], dtype=np.float32)
    found = find_neighbours(features, 4, modality=np.array([0, 0, 0, 0, 1]))
    np.testing.assert_array_equal(found.index[0], [0, 4, 1, 2])
    np.testing.assert_array_equal(found.index[4], [4, 3, 2, 1])


@pytest.mark.parametrize("modality", [None, np.full(60, 5)])
def test_one_modality_is_the_plain_table(modality: NDArray[np.int64] | None) -> None:
    features = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    found, expected = find_neighbours(features, 9, modality=modality), nearest_neighbours(features, 9)
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal(found.squared_distance, expected.squared_distance)


@pytest.mark.parametrize("number", [0, 1])
def test_hardly_any_data(number: int) -> None:
    features = np.zeros((number, 4), dtype=np.float32)
    for modality in (None, np.zeros(number, dtype=np.int64)):
        found = find_neighbours(features, 5, modality=modality)
        assert found.index.shape == (number, number)
        assert neighbour_recall(features, found, modality=modality, generator=np.random.default_rng(0)) == 1.0


@pytest.mark.parametrize("balanced", [False, True])
def test_approximate_on_request(balanced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    generator = np.random.default_rng(0)
    features = generator.standard_normal((3000, 10)).astype(np.float32)
    modality = generator.integers(0, 2, 3000) if balanced else None
    exact = find_neighbours(features, 10, method="exact", modality=modality)
    approximate = find_neighbours(features, 10, method="approximate", modality=modality)
    assert 0.8 < (approximate.index == exact.index).mean() < 1.0
    recall = neighbour_recall(features, approximate, modality=modality, generator=generator)
    assert 0.9 < recall < 1.0
    # Auto takes the exact one up to the limit, and the other one above.
    np.testing.assert_array_equal(find_neighbours(features, 10, modality=modality).index, exact.index)
    monkeypatch.setattr(search, "EXACT_UP_TO", 2999)
    np.testing.assert_array_equal(find_neighbours(features, 10, modality=modality).index, approximate.index)


def test_without_faiss_auto_is_exact_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    features = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = find_neighbours(features, 5)
    monkeypatch.setattr(search, "EXACT_UP_TO", 49)
    with pytest.warns(UserWarning, match=r"50 samples are searched exactly.*pip install faiss-cpu") as caught:
        found = find_neighbours(features, 5, modality=np.arange(50) % 2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="slow"):
        np.testing.assert_array_equal(find_neighbours(features, 5).index, expected.index)
    assert found.index.shape == (50, 5)
    with pytest.raises(UserError, match=r"pip install faiss-cpu"):
        find_neighbours(features, 5, method="approximate")


@settings(max_examples=20, deadline=None)
@given(number=st.integers(2, 40), k=st.integers(2, 20), balanced=st.booleans(), seed=st.integers(0, 10_000))
def test_recall_of_a_random_table(number: int, k: int, balanced: bool, seed: int) -> None:
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((number, 3)).astype(np.float32)
    modality = generator.integers(0, 2, number) if balanced else None
    columns = min(k, number)
    table = np.array(
        [[i, *generator.permutation(np.delete(np.arange(number), i))[: columns - 1]] for i in range(number)]
    )
    found = Neighbours(table.astype(np.int32), np.zeros(table.shape))
    true = slow_balanced(features, k, np.zeros(number, dtype=np.int64) if modality is None else modality)
    recall = neighbour_recall(features, found, modality=modality, generator=generator)
    assert recall == pytest.approx(slow_recall(features, found.index, true))


def test_recall_by_hand() -> None:
    features = np.array([[0.0], [1.0], [3.0], [7.0]], dtype=np.float32)
    table = np.array([[0, 3, 2], [1, 0, 3], [2, 1, 1], [3, 2, 1]], dtype=np.int32)  # 1, 1, 1 (named twice), 2 of 2
    found = Neighbours(table, np.zeros((4, 3)))
    generator = np.random.default_rng(0)
    assert neighbour_recall(features, found, generator=generator) == 5 / 8
    assert neighbour_recall(features, found, sample=4, generator=generator) == 5 / 8
    assert neighbour_recall(features, found, sample=1, generator=generator) in (0.5, 1.0)


def test_equally_distant_neighbours_are_all_right() -> None:
    features = np.array([[0.0], [1.0], [-1.0], [0.0]], dtype=np.float32)
    for neighbour in (1, 2):
        table = np.array([[0, 3, neighbour], [1, 3, 0], [2, 0, 3], [3, 0, neighbour]], dtype=np.int32)
        assert (
            neighbour_recall(features, Neighbours(table, np.zeros((4, 3))), generator=np.random.default_rng(0)) == 1.0
        )


def test_more_of_one_modality_does_not_make_up_for_the_other() -> None:
    features = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]], dtype=np.float32)
    modality = np.array([0, 0, 0, 1, 1, 1])
    found = nearest_neighbours(features, 4)
    generator = np.random.default_rng(0)
    assert neighbour_recall(features, found, generator=generator) == 1.0
    # Balanced, sample 0 wants 1 and 3, 4; it has 1, 2 and 3. The others also have two of three, but sample 3 has all.
    assert neighbour_recall(features, found, modality=modality, generator=generator) == 13 / 18


def test_wrong_arguments_are_refused() -> None:
    features = np.zeros((5, 3), dtype=np.float32)
    found = nearest_neighbours(features, 2)
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match="auto, exact, approximate, got 'fast'"):
        find_neighbours(features, 2, method=cast(SearchMethod, "fast"))
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        find_neighbours(features, 0, modality=np.array([0, 0, 1, 1, 1]))
    with pytest.raises(ValueError, match=r"modality must have shape \(5,\), got \(4,\)"):
        find_neighbours(features, 2, modality=np.zeros(4, dtype=np.int64))
    with pytest.raises(ValueError, match="sample must be at least 1, got 0"):
        neighbour_recall(features, found, sample=0, generator=generator)
    with pytest.raises(ValueError, match="the table has 5 rows, features have 4"):
        neighbour_recall(features[:4], found, generator=generator)
    features[2, 1] = np.nan
    with pytest.raises(ValueError, match="row 2"):
        find_neighbours(features, 2)
