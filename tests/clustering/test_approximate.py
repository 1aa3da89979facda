from __future__ import annotations

import sys

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.clustering import approximate
from pclhd.clustering.approximate import approximate_neighbours, default_lists, default_probes
from pclhd.clustering.neighbours import Neighbours, nearest_neighbours
from pclhd.clustering.search import neighbour_recall
from pclhd.errors import UserError

faiss = pytest.importorskip("faiss")


def people(number: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Features of people who are seen about 40 times each, and who are hard to distinguish."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((max(1, number // 40), 16))
    latent = centres[generator.integers(0, len(centres), number)] + 0.6 * generator.standard_normal((number, 16))
    features = latent @ generator.standard_normal((16, width))
    unit: NDArray[np.float32] = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    return unit


def slow_distances(rows: NDArray[np.float32], base: NDArray[np.float32]) -> NDArray[np.float64]:
    differences = rows[:, None, :].astype(np.float64) - base[None, :, :].astype(np.float64)
    squared: NDArray[np.float64] = np.square(differences).sum(axis=2)
    return squared


def assert_keeps_the_contract(
    found: Neighbours, features: NDArray[np.float32], k: int, base: NDArray[np.float32] | None = None
) -> None:
    """As many columns as possible, no duplicates, true distances in order; a searched sample comes first itself."""
    squared = slow_distances(features, features if base is None else base)
    assert found.index.dtype == np.int32
    assert found.squared_distance.dtype == np.float64
    assert found.index.shape == found.squared_distance.shape == (len(features), min(k, squared.shape[1]))
    np.testing.assert_allclose(
        found.squared_distance, np.take_along_axis(squared, found.index.astype(np.int64), axis=1), rtol=1e-12
    )
    first = 0
    if base is None:
        np.testing.assert_array_equal(found.index[:, 0], np.arange(len(features)))
        assert not found.squared_distance[:, 0].any()
        first = 1
    for index, distance in zip(found.index, found.squared_distance, strict=True):
        assert len(set(index)) == len(index)
        ranked = list(zip(distance[first:], index[first:], strict=True))
        assert ranked == sorted(ranked)


@settings(max_examples=30, deadline=None)
@given(
    number=st.integers(1, 60),
    distinct=st.integers(1, 60),
    width=st.integers(1, 6),
    k=st.integers(1, 65),
    lists=st.integers(1, 20),
    probes=st.integers(1, 20),
    other_set=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_the_table_is_complete_exact_and_ordered(
    number: int, distinct: int, width: int, k: int, lists: int, probes: int, other_set: bool, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    originals = generator.standard_normal((distinct, width)).astype(np.float32)
    features = originals[generator.integers(0, distinct, number)]
    base = originals[generator.integers(0, distinct, 30)] if other_set else None
    found = approximate_neighbours(features, k, base=base, lists=lists, probes=probes, seed=seed)
    assert_keeps_the_contract(found, features, k, base)


@pytest.mark.parametrize("other_set", [False, True])
def test_nearly_all_lists_find_nearly_all_neighbours(other_set: bool) -> None:
    features = people(600, 8)
    base = people(500, 8, seed=1) if other_set else None
    found = approximate_neighbours(features, 10, base=base, lists=12, probes=11)
    expected = nearest_neighbours(features, 10, base=base)
    assert_keeps_the_contract(found, features, 10, base)
    assert (found.index == expected.index).mean() > 0.999


def test_neighbours_in_a_list_that_is_not_probed_are_missed() -> None:
    features = people(600, 8)
    recall = [
        neighbour_recall(
            features,
            approximate_neighbours(features, 10, lists=24, probes=probes),
            generator=np.random.default_rng(0),
        )
        for probes in (1, 4, 16)
    ]
    assert 0.1 < recall[0] < recall[1] < recall[2]
    assert recall[2] > 0.98


def test_the_defaults_find_almost_all_neighbours() -> None:
    features = people(4000, 32)
    assert default_probes(4000, default_lists(4000), 20) < default_lists(4000) / 2
    found = approximate_neighbours(features, 20)
    assert neighbour_recall(features, found, sample=500, generator=np.random.default_rng(0)) > 0.97


@pytest.mark.parametrize(("number", "lists"), [(0, 1), (1, 1), (77, 1), (78, 2), (20_000, 512), (1_000_000, 4000)])
def test_number_of_lists(number: int, lists: int) -> None:
    assert default_lists(number) == lists


def test_number_of_probes() -> None:
    assert default_probes(1_000_000, 4000, 30) == 250
    assert default_probes(20_000, 256, 30) == 16
    assert default_probes(100, 2, 30) == 2
    # With many neighbours wanted, enough lists to find four times as many.
    assert default_probes(20_000, 512, 500) == 52
    assert default_probes(0, 1, 5) == 1


def test_rows_that_find_too_few_are_searched_exactly() -> None:
    features = people(300, 5)
    found = approximate_neighbours(features, 120, lists=30, probes=2)
    np.testing.assert_array_equal(found.index, nearest_neighbours(features, 120).index)


def test_some_rows_find_enough_and_others_do_not() -> None:
    generator = np.random.default_rng(0)
    crowd, few = generator.standard_normal((200, 4)), 100 + generator.standard_normal((5, 4))
    features = np.concatenate([few, crowd]).astype(np.float32)
    found = approximate_neighbours(features, 8, lists=2, probes=1)
    np.testing.assert_array_equal(found.index, nearest_neighbours(features, 8).index)


def test_all_lists_are_an_exact_search_and_so_is_a_small_set() -> None:
    features = people(200, 6)
    expected = nearest_neighbours(features, 9)
    np.testing.assert_array_equal(approximate_neighbours(features, 9, lists=7, probes=7).index, expected.index)
    np.testing.assert_array_equal(approximate_neighbours(features, 9).index, expected.index)


def test_a_sample_with_more_duplicates_than_neighbours_still_comes_first() -> None:
    features = np.repeat(np.eye(6, dtype=np.float32), 50, axis=0)
    found = approximate_neighbours(features, 8, lists=6, probes=2)
    assert_keeps_the_contract(found, features, 8)
    assert not found.squared_distance.any()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e30, 1e-30])
def test_constant_features(value: float) -> None:
    features = np.full((120, 3), value, dtype=np.float32)
    found = approximate_neighbours(features, 7, lists=4, probes=1)
    assert_keeps_the_contract(found, features, 7)
    assert not found.squared_distance.any()


@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_extreme_lengths(scale: float) -> None:
    features = (people(400, 6) * scale).astype(np.float32)
    assert_keeps_the_contract(approximate_neighbours(features, 5, lists=10, probes=6), features, 5)
    recall = neighbour_recall(
        features,
        approximate_neighbours(features, 5, lists=10, probes=6),
        generator=np.random.default_rng(0),
    )
    assert recall > 0.95


def test_a_base_far_away_and_tiny() -> None:
    generator = np.random.default_rng(0)
    base = (1e-20 * generator.standard_normal((90, 3))).astype(np.float32)
    features = (1e20 + 1e19 * generator.standard_normal((10, 3))).astype(np.float32)
    assert_keeps_the_contract(approximate_neighbours(features, 4, base=base, lists=5, probes=2), features, 4, base)


@pytest.mark.parametrize(("number", "width"), [(0, 4), (1, 4), (3, 0)])
def test_hardly_any_data(number: int, width: int) -> None:
    features = np.zeros((number, width), dtype=np.float32)
    found = approximate_neighbours(features, 5)
    assert found.index.shape == (number, number)
    found = approximate_neighbours(features, 5, lists=3, probes=1)
    assert found.index.shape == (number, number)
    assert approximate_neighbours(features, 5, base=features[:0], lists=3).index.shape == (number, 0)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    features = people(700, 16)
    expected = approximate_neighbours(features, 9, lists=20, probes=5)
    monkeypatch.setattr(approximate, "_ROWS_PER_BLOCK", 97)
    monkeypatch.setattr(approximate, "_ROWS_PER_SEARCH", 41)
    monkeypatch.setattr(approximate, "_PRODUCTS_PER_BLOCK", 333)
    found = approximate_neighbours(features, 9, lists=20, probes=5)
    assert (found.index == expected.index).mean() > 0.999  # the borders of lists may be rounded differently
    assert_keeps_the_contract(found, features, 9)


def test_threads_do_not_matter() -> None:
    features = people(3000, 24)
    faiss_threads = faiss.omp_get_max_threads()
    found = []
    try:
        for threads in (1, 2):
            faiss.omp_set_num_threads(threads)
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
            found.append(approximate_neighbours(features, 12, lists=60, probes=8))
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(faiss_threads)
    np.testing.assert_array_equal(found[0].index, found[1].index)
    np.testing.assert_array_equal(found[0].squared_distance, found[1].squared_distance)


def test_the_seed_and_nothing_else_decides() -> None:
    features = people(2000, 16)
    first = approximate_neighbours(features, 10, lists=40, probes=2, seed=3)
    np.random.seed(5)  # noqa: NPY002  (the global generator must not matter)
    again = approximate_neighbours(torch.from_numpy(features), 10, lists=40, probes=2, seed=3)
    other = approximate_neighbours(features, 10, lists=40, probes=2, seed=4)
    np.testing.assert_array_equal(first.index, again.index)
    assert (first.index != other.index).any()


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    approximate_neighbours(people(300, 8), 5, lists=100, probes=3)
    approximate_neighbours(np.zeros((100, 3), dtype=np.float32), 5, lists=10, probes=3)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_without_faiss_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"pip install faiss-cpu"):
        approximate_neighbours(people(100, 4), 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_with_their_row(bad: float) -> None:
    features = np.zeros((50, 3), dtype=np.float32)
    broken = features.copy()
    broken[31, 1] = bad
    with pytest.raises(ValueError, match="row 31"):
        approximate_neighbours(broken, 2)
    with pytest.raises(ValueError, match="row 31"):
        approximate_neighbours(features, 2, base=broken)


def test_wrong_arguments_are_refused() -> None:
    features = np.zeros((50, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        approximate_neighbours(features, 0)
    with pytest.raises(ValueError, match="lists must be at least 1, got 0"):
        approximate_neighbours(features, 2, lists=0)
    with pytest.raises(ValueError, match="probes must be at least 1, got -1"):
        approximate_neighbours(features, 2, probes=-1)
    with pytest.raises(ValueError, match="base has width 2, features have 3"):
        approximate_neighbours(features, 2, base=features[:, :2])
    with pytest.raises(ValueError, match=r"got shape \(150,\)"):
        approximate_neighbours(features.reshape(-1), 2)
