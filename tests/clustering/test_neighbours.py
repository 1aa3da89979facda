from __future__ import annotations

from typing import Any, get_args

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.clustering import neighbours
from pclhd.clustering.neighbours import Neighbours, Products, nearest_neighbours

PRODUCTS: tuple[Products, ...] = get_args(Products)


def slow_neighbours(features: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """All pairs in float64; ties by index; then each sample is moved to the front of its own row."""
    wide = features.astype(np.float64)
    squared = ((wide[:, None, :] - wide[None, :, :]) ** 2).sum(axis=2)
    rows = []
    for i in range(len(features)):
        others = sorted((j for j in range(len(features)) if j != i), key=lambda j: (squared[i, j], j))
        rows.append([i, *others][:k])
    index = np.array(rows, dtype=np.int64).reshape(len(features), -1)
    return index, np.take_along_axis(squared, index, axis=1)


def slow_search(
    features: NDArray[np.float32], base: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """All pairs of two sets in float64; ties by index."""
    squared = ((features.astype(np.float64)[:, None, :] - base.astype(np.float64)[None, :, :]) ** 2).sum(axis=2)
    index = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return index, np.take_along_axis(squared, index, axis=1)


def assert_like_twin(found: Neighbours, features: NDArray[np.float32], k: int) -> None:
    index, squared = slow_neighbours(features, k)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_allclose(found.squared_distance, squared, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    number=st.integers(1, 40),
    width=st.integers(1, 9),
    k=st.integers(1, 45),
    distinct=st.integers(1, 40),
    offset=st.sampled_from([0.0, 3.0, 1000.0]),
    seed=st.integers(0, 10_000),
    products=st.sampled_from(PRODUCTS),
)
def test_like_all_pairs_with_duplicates_and_any_length(
    number: int, width: int, k: int, distinct: int, offset: float, seed: int, products: Products
) -> None:
    generator = np.random.default_rng(seed)
    originals = generator.standard_normal((distinct, width)).astype(np.float32) + np.float32(offset)
    features = originals[generator.integers(0, distinct, number)]
    found = nearest_neighbours(features, k, block_size=7, products=products)
    assert found.index.shape == (number, min(k, number))
    assert_like_twin(found, features, k)


@settings(max_examples=30, deadline=None)
@given(
    number=st.integers(0, 20),
    among=st.integers(0, 40),
    k=st.integers(1, 45),
    distinct=st.integers(1, 40),
    offset=st.sampled_from([0.0, 3.0, 1000.0]),
    seed=st.integers(0, 10_000),
    products=st.sampled_from(PRODUCTS),
)
def test_in_another_set_no_sample_is_the_sample_itself(
    number: int, among: int, k: int, distinct: int, offset: float, seed: int, products: Products
) -> None:
    generator = np.random.default_rng(seed)
    originals = generator.standard_normal((distinct, 5)).astype(np.float32) + np.float32(offset)
    features = originals[generator.integers(0, distinct, number)]
    base = originals[generator.integers(0, distinct, among)]
    found = nearest_neighbours(features, k, base=base, block_size=6, products=products)
    index, squared = slow_search(features, base, k)
    assert found.index.shape == (number, min(k, among))
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_allclose(found.squared_distance, squared, rtol=1e-12)


@pytest.mark.parametrize("width", [1, 64, 777])
@pytest.mark.parametrize("spread", [1.0, 0.01])
def test_all_precisions_of_the_products_find_the_same(width: int, spread: float) -> None:
    generator = np.random.default_rng(width)
    people = generator.standard_normal((20, width))
    features = (people[generator.integers(0, 20, 600)] + spread * generator.standard_normal((600, width))) * 3 + 1
    expected = nearest_neighbours(features, 10, products="float32")
    for products in PRODUCTS:
        found = nearest_neighbours(features, 10, products=products, block_size=100)
        np.testing.assert_array_equal(found.index, expected.index)
        np.testing.assert_array_equal(found.squared_distance, expected.squared_distance)


@pytest.mark.parametrize(("spread", "returns"), [(1.0, False), (1e-4, True)])
def test_auto_returns_to_float32_where_bfloat16_leaves_too_many_candidates(
    monkeypatch: pytest.MonkeyPatch, spread: float, returns: bool
) -> None:
    monkeypatch.setattr(neighbours, "cpu_computes_bfloat16", lambda: True)
    used = []

    class Watched(neighbours._Products):
        def __init__(self, *arguments: Any) -> None:
            used.append(arguments[-1])
            super().__init__(*arguments)

    monkeypatch.setattr(neighbours, "_Products", Watched)
    generator = np.random.default_rng(0)
    features = (generator.standard_normal((30, 64))[generator.integers(0, 30, 900)]) + spread * (
        generator.standard_normal((900, 64))
    )
    nearest_neighbours(features, 3, block_size=300)
    assert used == ([torch.bfloat16, torch.float32] if returns else [torch.bfloat16])


@given(seed=st.integers(0, 10_000), width=st.integers(1, 80), reduced=st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_bounds_hold(seed: int, width: int, reduced: bool) -> None:
    generator = np.random.default_rng(seed)
    samples = (generator.standard_normal((25, width)) * generator.uniform(0, 3, (25, 1))).astype(np.float32)
    samples[3] = samples[4]
    mean, scale = neighbours.centre_and_scale(samples, samples)
    dtype = torch.bfloat16 if reduced else torch.float32
    search = neighbours._Products(samples, mean, scale, "cpu", dtype)
    bounded, upper, lower, own_slack = search.bounds(samples[:7])
    products = bounded.float().numpy()
    moved = (samples.astype(np.float64) - mean) * float(scale)
    squared = ((moved[:7, None] - moved[None]) ** 2).sum(axis=2)
    own = (moved[:7] ** 2).sum(axis=1, keepdims=True)
    # The row's own term is left out of both bounds; its slack covers both sides, half each.
    slack = own_slack[:, None] / 2 + 1e-6
    assert np.all(squared - own <= upper - 2 * products.astype(np.float64) + slack)
    assert np.all(squared - own >= lower - 2 * products.astype(np.float64) - slack)


def test_many_duplicates_are_ordered_by_index_after_the_sample_itself() -> None:
    features = np.repeat(np.eye(3, dtype=np.float32), 50, axis=0)
    found = nearest_neighbours(features, 6)
    np.testing.assert_array_equal(found.index[0], [0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(found.index[99], [99, 50, 51, 52, 53, 54])
    assert not found.squared_distance.any()


def test_equal_distances_are_ordered_by_index() -> None:
    corners = np.array([[1, 0], [0, 1], [-1, 0], [0, -1], [0, 0]], dtype=np.float32)
    np.testing.assert_array_equal(nearest_neighbours(corners, 5).index[4], [4, 0, 1, 2, 3])


def test_distances_that_float32_products_cannot_distinguish() -> None:
    generator = np.random.default_rng(0)
    features = (100 + 1e-3 * generator.standard_normal((60, 16))).astype(np.float32)
    features[0] = 0.0  # keeps the others, which are close together, far from the mean
    assert_like_twin(nearest_neighbours(features, 8), features, 8)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_lengths(scale: float) -> None:
    features = np.random.default_rng(1).standard_normal((30, 4))
    expected = nearest_neighbours(features, 5).index
    np.testing.assert_array_equal(nearest_neighbours(features * scale, 5).index, expected)


@given(st.integers(0, 30), st.integers(0, 30), st.booleans(), st.integers(1, 8))
@settings(deadline=None)
def test_some_rows_are_rows_of_the_whole_table(start: int, stop: int, within: bool, block_size: int) -> None:
    features = np.random.default_rng(0).integers(0, 3, (25, 4)).astype(np.float32)
    base = None if within else features[5:]
    whole = nearest_neighbours(features, 6, base=base)
    part = nearest_neighbours(features, 6, base=base, rows=slice(start, stop), block_size=block_size)
    np.testing.assert_array_equal(part.index, whole.index[start:stop])
    np.testing.assert_array_equal(part.squared_distance, whole.squared_distance[start:stop])


def test_block_size_threads_and_reduced_precision_do_not_matter() -> None:
    features = np.random.default_rng(2).standard_normal((150, 33)).astype(np.float32)
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    expected = nearest_neighbours(features, 12)
    numba.set_num_threads(1)
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = nearest_neighbours(torch.from_numpy(features), 12, block_size=11)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(precision)
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal(found.squared_distance, expected.squared_distance)


@pytest.mark.parametrize(("number", "width"), [(0, 4), (1, 4), (3, 0)])
def test_hardly_any_data(number: int, width: int) -> None:
    found = nearest_neighbours(np.zeros((number, width), dtype=np.float32), 5)
    assert found.index.shape == found.squared_distance.shape == (number, number)
    np.testing.assert_array_equal(found.index[:, 0], np.arange(number)) if number else None
    assert len(found) == number


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused_with_their_row(bad: float) -> None:
    features = np.zeros((5, 3), dtype=np.float32)
    features[3, 1] = bad
    with pytest.raises(ValueError, match="row 3"):
        nearest_neighbours(features, 2)


def test_wrong_arguments_are_refused() -> None:
    features = np.zeros((5, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        nearest_neighbours(features, 0)
    with pytest.raises(ValueError, match="got 0"):
        nearest_neighbours(features, 2, block_size=0)
    with pytest.raises(ValueError, match="rows must be consecutive"):
        nearest_neighbours(features, 2, rows=slice(0, 4, 2))
    with pytest.raises(ValueError, match="base has width 2, features have 3"):
        nearest_neighbours(features, 2, base=np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"got shape \(15,\)"):
        nearest_neighbours(features.reshape(-1), 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_on_a_gpu() -> None:
    features = np.random.default_rng(3).standard_normal((500, 64)).astype(np.float32)
    expected, found = nearest_neighbours(features, 20), nearest_neighbours(features, 20, device="cuda")
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal(found.squared_distance, expected.squared_distance)
