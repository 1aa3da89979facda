from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.clustering.centring import PRIOR_IMAGES, centred

Features = NDArray[np.float32]


def unit(rows: NDArray[np.floating]) -> Features:
    found: Features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def obvious(features: Features, cameras: NDArray[np.int64]) -> Features:
    """The slow twin: `PRIOR_IMAGES` images at the mean of all are put to each camera's own."""
    rows = []
    for feature, camera in zip(features, cameras, strict=True):
        of_camera = [other for other, number in zip(features, cameras, strict=True) if number == camera]
        imagined = [features.mean(axis=0)] * PRIOR_IMAGES
        rest = feature - np.mean([*of_camera, *imagined], axis=0)
        rows.append(rest / np.linalg.norm(rest))
    return np.array(rows, dtype=np.float32)


def test_nothing_is_left_of_an_empty_modality() -> None:
    nothing = np.zeros((0, 4), dtype=np.float32)
    assert centred(nothing, None).shape == (0, 4)
    assert centred(nothing, np.zeros(0, dtype=np.int64)).shape == (0, 4)


def test_one_image_has_no_direction_left() -> None:
    one = unit(np.ones((1, 4)))
    assert not centred(one, None).any()
    assert not centred(one, np.array([3])).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 60), st.integers(1, 5))
def test_as_the_slow_twin(seed: int, images: int, cameras: int) -> None:
    random = np.random.default_rng(seed)
    features = unit(random.normal(size=(images, 6)))
    numbers = random.integers(10, 10 + cameras, size=images)
    assert centred(features, numbers) == pytest.approx(obvious(features, numbers), abs=1e-5)


def test_without_cameras_the_mean_of_all_goes() -> None:
    features = unit(np.random.default_rng(0).normal(size=(20, 6)))
    assert centred(features, None) == pytest.approx(unit(features - features.mean(axis=0)), abs=1e-6)
    assert centred(features, np.full(20, 4)) == pytest.approx(centred(features, None), abs=1e-6)


def test_what_a_camera_adds_goes() -> None:
    random = np.random.default_rng(1)
    people = unit(random.normal(size=(500, 16)))
    cameras = np.arange(500) % 2
    shift = random.normal(size=16)
    shift /= np.linalg.norm(shift)
    seen = unit(people + cameras[:, None] * shift)
    apart = np.subtract(*(seen[cameras == number].mean(axis=0) for number in (0, 1)))
    left = np.subtract(*(centred(seen, cameras)[cameras == number].mean(axis=0) for number in (0, 1)))
    assert np.linalg.norm(apart) > 0.5
    assert np.linalg.norm(left) < 0.1 * np.linalg.norm(apart)


@pytest.mark.parametrize("images", [1, 2, 5])
def test_a_camera_with_few_images_keeps_what_is_on_them(images: int) -> None:
    random = np.random.default_rng(2)
    features = unit(random.normal(size=(200, 16)))
    cameras = np.zeros(200, dtype=np.int64)
    features[:images] = features[0]
    cameras[:images] = 1
    found = centred(features, cameras)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(200), abs=1e-5)
    assert found[0] @ features[0] > 0.9


def test_the_features_stay_as_they_are() -> None:
    features = unit(np.random.default_rng(3).normal(size=(10, 4)))
    before = features.copy()
    centred(features, np.arange(10) % 3)
    assert np.array_equal(features, before)
