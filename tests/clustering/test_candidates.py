from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix

from pclhd.clustering.candidates import (
    assign_candidates,
    candidate_costs,
    candidate_pairs,
    nearest_across,
    pair_cosines,
    share_candidates,
    unit_length,
)

counts = st.integers(0, 6)


def directions(number: int, seed: int, width: int = 4) -> NDArray[np.float64]:
    return unit_length(np.random.default_rng(seed).standard_normal((number, width)))


def slow_nearest(ours: NDArray[np.float64], theirs: NDArray[np.float64], number: int) -> list[list[int]]:
    return [sorted(range(len(theirs)), key=lambda j: (-(row @ theirs[j]), j))[:number] for row in ours]


@settings(max_examples=25, deadline=None)
@given(visible=st.integers(1, 6), infrared=st.integers(1, 6), number=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_nearest_and_pairs_like_sorting_all(visible: int, infrared: int, number: int, seed: int) -> None:
    a, b = directions(visible, seed), directions(infrared, seed + 1)
    forward, backward = nearest_across(a, b, number)
    assert forward.tolist() == slow_nearest(a, b, number)
    assert backward.tolist() == slow_nearest(b, a, number)
    rows, columns = candidate_pairs(a, b, number)
    expected = {(i, j) for i, near in enumerate(forward.tolist()) for j in near}
    expected |= {(i, j) for j, near in enumerate(backward.tolist()) for i in near}
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == sorted(expected)
    np.testing.assert_allclose(pair_cosines(a, b, rows, columns), (a @ b.T)[rows, columns], rtol=1e-12)


def test_a_centre_of_length_zero_has_cosine_zero_with_all() -> None:
    a, b = np.zeros((2, 3)), np.zeros((4, 3))
    a[1], b[1], b[2], b[3] = [1, 0, 0], [-1, 0, 0], [0, 1, 0], [1, 0, 0]
    forward, backward = nearest_across(a, b, 4)
    assert forward.tolist() == [[0, 1, 2, 3], [3, 0, 2, 1]]
    assert backward.tolist() == [[0, 1], [0, 1], [0, 1], [1, 0]]


def test_rows_of_unit_length() -> None:
    rows = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    rows[2], rows[4] = 0, 1e-12
    expected = [row / max(np.linalg.norm(row), 1e-300) for row in rows.astype(np.float64)]
    np.testing.assert_allclose(unit_length(rows), expected, rtol=1e-15)
    expected[4] = np.zeros(4)
    np.testing.assert_allclose(unit_length(rows, 1e-9), expected, rtol=1e-15)
    rows[1, 1] = np.nan
    assert np.isnan(unit_length(rows, 1e-9)).any(axis=1).tolist() == [row == 1 for row in range(6)]


def test_costs_of_candidates_and_none_above_the_highest() -> None:
    a, b = directions(7, 0), directions(9, 1)
    everything = np.exp(-(a @ b.T))
    np.testing.assert_allclose(candidate_costs(a, b, 9).toarray(), everything, rtol=1e-12)
    found = candidate_costs(a, b, 2, max_cost=0.8)
    rows, columns = candidate_pairs(a, b, 2)
    kept = everything[rows, columns] <= 0.8
    assert 0 < kept.sum() < len(rows)
    np.testing.assert_allclose(found[rows[kept], columns[kept]].A1, everything[rows[kept], columns[kept]])
    assert found.nnz == kept.sum()


@pytest.mark.parametrize(("visible", "infrared"), [(0, 0), (0, 3), (3, 0)])
def test_no_clusters_no_candidates(visible: int, infrared: int) -> None:
    costs = candidate_costs(directions(visible, 0), directions(infrared, 1), 5)
    assert costs.shape == (visible, infrared)
    assert costs.nnz == 0
    rows, columns = assign_candidates(costs)
    assert len(rows) == len(columns) == 0


@settings(max_examples=50, deadline=None)
@given(rows=counts, columns=counts, share=st.floats(0, 1), seed=st.integers(0, 10_000))
def test_most_pairs_then_least_cost_like_the_dense_solver(rows: int, columns: int, share: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    costs = generator.uniform(0.37, 2.7, (rows, columns))
    allowed = generator.random((rows, columns)) < share
    priced = np.where(allowed, costs, 1000.0)
    expected = [(i, j) for i, j in zip(*linear_sum_assignment(priced), strict=True) if allowed[i, j]]
    found = assign_candidates(csr_matrix(np.where(allowed, costs, 0.0)))
    assert list(zip(*(side.tolist() for side in found), strict=True)) == expected


def test_a_price_above_all_pairs_together() -> None:
    """Two expensive pairs are better than one cheap pair."""
    costs = csr_matrix(np.array([[0.37, 2.7], [2.7, 0.0]]))
    rows, columns = assign_candidates(costs)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 0)]


@pytest.mark.parametrize("infrared", [1, 2, 5])
def test_few_candidates_are_shared_evenly(infrared: int) -> None:
    costs = csr_matrix(np.random.default_rng(2).uniform(1, 2, (40, infrared)))
    partners = np.full(40, -1, dtype=np.int64)
    partners[3] = 0
    share_candidates(partners, costs)
    assert (partners >= 0).all()
    assert partners[3] == 0
    shared = np.bincount(partners, minlength=infrared)
    assert shared.max() - shared.min() <= 1 + 1


def test_without_a_candidate_there_is_no_partner() -> None:
    costs = csr_matrix(np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.5, 0.0]]))
    partners = np.full(3, -1, dtype=np.int64)
    share_candidates(partners, costs)
    assert partners.tolist() == [-1, 1, 1]
