from __future__ import annotations

from typing import Literal

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.clustering.jaccard import jaccard_similarity, table_size
from pclhd.clustering.neighbours import nearest_neighbours
from pclhd.clustering.search import find_neighbours

TOLERANCE = 1e-6


def slow_distance(
    features: NDArray[np.float32],
    k1: int,
    k2: int,
    modality: NDArray[np.int64] | None = None,
    neighbourhood: Literal["released", "paper"] = "released",
    balanced: Literal["no", "alternate", "similarity"] = "no",
) -> NDArray[np.float64]:
    """The definition, step by step, with sets and dense float64 matrices."""
    x = features.astype(np.float64)
    number = len(x)
    squared = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    ranking = [sorted(range(number), key=lambda j, i=i: (j != i, squared[i, j], j)) for i in range(number)]  # type: ignore[misc]
    columns = k1 if neighbourhood == "released" else k1 + 1
    if balanced != "no":
        assert modality is not None
        ranking = [alternating(row, modality, i) for i, row in enumerate(ranking)]
    sorted_half = [
        sorted(row[:columns], key=lambda j, i=i: (j != i, squared[i, j], row.index(j)))  # type: ignore[misc]
        if balanced == "similarity"
        else row
        for i, row in enumerate(ranking)
    ]

    def mutual(i: int, size: int, rows: list[list[int]] = ranking) -> set[int]:
        return {j for j in rows[i][:size] if i in rows[j][:size]}

    weights = np.zeros((number, number))
    for i in range(number):
        near = mutual(i, columns)
        expanded = set(near)
        for j in near:
            half = mutual(j, min(columns, round(k1 / 2) + 1), sorted_half)
            if 3 * len(half & near) > 2 * len(half):
                expanded |= half
        members = sorted(expanded)
        raised = np.exp(-(2 - 2 * x[members] @ x[i]) - max(-(2 - 2 * x[members] @ x[i])))
        weights[i, members] = raised / raised.sum()

    mixed = np.empty_like(weights)
    for i in range(number):
        nearest = ranking[i][:k2]
        groups: dict[int, list[int]] = {}
        for j in nearest:
            groups.setdefault(0 if modality is None else int(modality[j]), []).append(j)
        mixed[i] = np.mean([weights[group].mean(axis=0) for group in groups.values()], axis=0)

    shared = np.array([[np.minimum(a, b).sum() for b in mixed] for a in mixed])
    distance: NDArray[np.float64] = np.maximum(1 - shared / (2 - shared), 0)
    return distance


def alternating(row: list[int], modality: NDArray[np.int64], own: int) -> list[int]:
    """A ranking in which the two modalities take turns, the sample's own first; one that ends leaves the rest."""
    mine = [j for j in row if modality[j] == modality[own]]
    others = [j for j in row if modality[j] != modality[own]]
    turns = []
    while mine or others:
        turns += [part.pop(0) for part in (mine, others) if part]
    return turns


def people(number: int, width: int, seed: int, spread: float = 0.5) -> NDArray[np.float32]:
    """Groups of about five, unit length."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((max(1, number // 5), width))
    features = centres[generator.integers(0, len(centres), number)]
    features = features + spread * generator.standard_normal((number, width))
    unit: NDArray[np.float32] = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    return unit


@settings(max_examples=30, deadline=None)
@given(
    number=st.integers(1, 40),
    k1=st.integers(1, 45),
    k2=st.integers(1, 45),
    length=st.sampled_from([0.9, 1.0, 3.0]),
    duplicates=st.integers(0, 20),
    modalities=st.integers(0, 3),
    neighbourhood=st.sampled_from(["released", "paper"]),
    seed=st.integers(0, 10_000),
)
def test_like_the_dense_definition(
    number: int,
    k1: int,
    k2: int,
    length: float,
    duplicates: int,
    modalities: int,
    neighbourhood: Literal["released", "paper"],
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    features = people(number, 8, seed) * np.float32(length)
    features[generator.integers(0, number, duplicates)] = features[0]
    modality = 7 * generator.integers(0, modalities, number) if modalities else None
    similarity = jaccard_similarity(features, k1, k2, modality=modality, neighbourhood=neighbourhood)
    expected = slow_distance(features, k1, k2, modality, neighbourhood)
    found = 1 - similarity.toarray()
    assert np.abs(found - expected).max() < TOLERANCE
    np.testing.assert_array_equal(found, found.T)
    assert not found.diagonal().any()
    assert similarity.dtype == np.float32
    assert similarity.has_canonical_format
    assert (similarity.data > 0).all()


@settings(max_examples=25, deadline=None)
@given(
    number=st.integers(2, 40),
    k1=st.integers(1, 25),
    k2=st.integers(1, 12),
    by_similarity=st.booleans(),
    neighbourhood=st.sampled_from(["released", "paper"]),
    seed=st.integers(0, 10_000),
)
def test_balanced_neighbours_in_both_orders_like_the_dense_definition(
    number: int, k1: int, k2: int, by_similarity: bool, neighbourhood: Literal["released", "paper"], seed: int
) -> None:
    modality = np.random.default_rng(seed).integers(0, 2, number)
    features = people(number, 8, seed) + 0.3 * modality[:, None].astype(np.float32)
    table = find_neighbours(features, table_size(k1, k2, neighbourhood), modality=modality)
    found = jaccard_similarity(
        features,
        k1,
        k2,
        modality=modality,
        neighbours=table,
        neighbourhood=neighbourhood,
        half_by_similarity=by_similarity,
    )
    order: Literal["similarity", "alternate"] = "similarity" if by_similarity else "alternate"
    expected = slow_distance(features, k1, k2, modality, neighbourhood, order)
    assert np.abs(1 - found.toarray() - expected).max() < TOLERANCE


def test_the_order_of_balanced_neighbours_reaches_the_result() -> None:
    features = people(60, 8, 0)
    modality = np.arange(60) % 2
    features[modality == 1] += 0.5
    table = find_neighbours(features, 12, modality=modality)
    alternate, similar = (
        jaccard_similarity(features, 12, 6, modality=modality, neighbours=table, half_by_similarity=choice).toarray()
        for choice in (False, True)
    )
    assert np.abs(alternate - similar).max() > 1e-3
    # A table that is in the order of similarity stays as it is.
    plain, same = (jaccard_similarity(features, 12, 6, half_by_similarity=choice).toarray() for choice in (False, True))
    np.testing.assert_array_equal(plain, same)


def test_options_reach_the_result() -> None:
    features = people(60, 8, 0)
    modality = np.arange(60) % 2
    plain = jaccard_similarity(features, 12, 6).toarray()
    assert np.abs(jaccard_similarity(features, 12, 6, neighbourhood="paper").toarray() - plain).max() > 1e-3
    assert np.abs(jaccard_similarity(features, 12, 6, modality=modality).toarray() - plain).max() > 1e-3
    assert np.abs(jaccard_similarity(features, 12, 1).toarray() - plain).max() > 1e-3
    table = nearest_neighbours(features[::-1], 12)
    assert np.abs(jaccard_similarity(features, 12, 6, neighbours=table).toarray() - plain).max() > 1e-3


def test_a_ready_neighbour_table_changes_nothing_however_wide() -> None:
    features = people(50, 8, 1)
    expected = jaccard_similarity(features, 9, 4)
    found = jaccard_similarity(features, 9, 4, neighbours=nearest_neighbours(features, 20))
    np.testing.assert_array_equal(found.toarray(), expected.toarray())


def test_far_pairs_are_left_out() -> None:
    features = people(80, 8, 2, spread=0.8)
    complete = jaccard_similarity(features, 10, 3).toarray()
    near = jaccard_similarity(features, 10, 3, max_distance=0.6)
    kept = np.float32(1) - complete <= np.float32(0.6)
    assert 80 < kept.sum() < (complete > 0).sum()
    np.testing.assert_array_equal(near.toarray(), np.where(kept, complete, 0))
    assert near.nnz == kept.sum()


def test_many_blocks_and_any_number_of_threads_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features = people(150, 8, 3)
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    expected = jaccard_similarity(features, 15, 6)
    numba.set_num_threads(1)
    monkeypatch.setattr("pclhd.clustering.jaccard._PAIRS_PER_BLOCK", 7 * 150)
    monkeypatch.setattr("pclhd.clustering.jaccard._ROWS_PER_BLOCK", 1)
    found = jaccard_similarity(features, 15, 6)
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.data, expected.data)


def test_weights_that_vanish_are_no_overlap() -> None:
    # Softmax without temperature on long features puts everything on one sample.
    features = 40 * people(60, 8, 4)
    found = 1 - jaccard_similarity(features, 12, 6).toarray()
    assert np.abs(found - slow_distance(features, 12, 6)).max() < TOLERANCE


def test_identical_samples_are_at_distance_zero() -> None:
    similarity = jaccard_similarity(np.ones((7, 3), dtype=np.float32), 10, 6)
    np.testing.assert_allclose(similarity.toarray(), 1, atol=TOLERANCE)


def test_no_data() -> None:
    assert jaccard_similarity(np.empty((0, 8), dtype=np.float32), 30, 6).shape == (0, 0)


def test_wrong_arguments_are_refused() -> None:
    features = people(20, 4, 0)
    with pytest.raises(ValueError, match="got 0 and 6"):
        jaccard_similarity(features, 0, 6)
    with pytest.raises(ValueError, match="got 6 and 0"):
        jaccard_similarity(features, 6, 0)
    with pytest.raises(ValueError, match="'papers'"):
        jaccard_similarity(features, 6, 3, neighbourhood="papers")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(20,\), got \(19,\)"):
        jaccard_similarity(features, 6, 3, modality=np.zeros(19, dtype=np.int64))
    with pytest.raises(ValueError, match=r"at least 6\), got \(20, 5\)"):
        jaccard_similarity(features, 6, 3, neighbours=nearest_neighbours(features, 5))
