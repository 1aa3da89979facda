from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import fractional_matrix_power
from scipy.stats import ortho_group

from pclhd.clustering.centring import PRIOR_IMAGES, centred

Features = NDArray[np.float32]


def unit(rows: NDArray[np.floating]) -> Features:
    found: Features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def obvious(features: Features, cameras: NDArray[np.int64], whitening: float = 0.0) -> Features:
    """The slow twin: images are put to each camera's own, at the mean of all, and then with the moment of all."""
    rows = []
    for feature, camera in zip(features, cameras, strict=True):
        of_camera = [other for other, number in zip(features, cameras, strict=True) if number == camera]
        imagined = [features.mean(axis=0)] * PRIOR_IMAGES
        rows.append(feature - np.mean([*of_camera, *imagined], axis=0))
    if whitening:
        width = features.shape[1]
        alike = np.eye(width) * np.mean([row @ row for row in rows]) / width
        modality = np.mean([*(np.outer(row, row) for row in rows), *[alike] * width], axis=0)
        moments = {}
        for camera in cameras:
            of_one = [np.outer(row, row) for row, number in zip(rows, cameras, strict=True) if number == camera]
            moments[camera] = np.mean([*of_one, *[modality] * width], axis=0)
        rows = [
            fractional_matrix_power(moments[camera], -whitening / 2) @ row
            for row, camera in zip(rows, cameras, strict=True)
        ]
    return unit(np.array(rows))


@pytest.mark.parametrize("whitening", [0, 0.5])
def test_nothing_is_left_of_an_empty_modality(whitening: float) -> None:
    nothing = np.zeros((0, 4), dtype=np.float32)
    assert centred(nothing, None, whitening=whitening).shape == (0, 4)
    assert centred(nothing, np.zeros(0, dtype=np.int64), whitening=whitening).shape == (0, 4)


@pytest.mark.parametrize("whitening", [0, 0.5])
def test_one_image_has_no_direction_left(whitening: float) -> None:
    one = unit(np.ones((1, 4)))
    assert not centred(one, None, whitening=whitening).any()
    assert not centred(one, np.array([3]), whitening=whitening).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 60), st.integers(1, 5), st.sampled_from([0, 0.3, 1]))
def test_as_the_slow_twin(seed: int, images: int, cameras: int, whitening: float) -> None:
    random = np.random.default_rng(seed)
    features = unit(random.normal(size=(images, 6)))
    numbers = random.integers(10, 10 + cameras, size=images)
    found = centred(features, numbers, whitening=whitening)
    assert found == pytest.approx(obvious(features, numbers, whitening), abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0, 0.3, 1]))
def test_turned_features_give_turned_ones(seed: int, whitening: float) -> None:
    random = np.random.default_rng(seed)
    features, turn = unit(random.normal(size=(40, 6))), ortho_group.rvs(6, random_state=seed)
    cameras = random.integers(0, 3, size=40)
    turned = centred((features @ turn).astype(np.float32), cameras, whitening=whitening)
    assert turned == pytest.approx(centred(features, cameras, whitening=whitening) @ turn, abs=1e-4)


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


def test_what_a_camera_stretches_is_drawn_back() -> None:
    """Each camera sees some directions well and others hardly; whitened, a person looks alike to both."""
    random = np.random.default_rng(4)
    people = random.normal(size=(2000, 8))
    stretch = np.array([[4, 4, 4, 4, 1, 1, 1, 1], [1, 1, 1, 1, 4, 4, 4, 4]], dtype=np.float64)
    seen = unit(np.concatenate([people * stretch[0], people * stretch[1]]))
    cameras = np.repeat([0, 1], 2000)

    def found_again(whitening: float) -> float:
        one, other = np.split(centred(seen, cameras, whitening=whitening), 2)
        return float(np.mean((one @ other.T).argmax(axis=1) == np.arange(2000)))

    assert found_again(0) < 0.2
    assert found_again(0) < found_again(0.5) < found_again(1)
    assert found_again(1) > 0.5


def test_whitened_features_vary_alike_in_all_directions() -> None:
    random = np.random.default_rng(5)
    features = unit(random.normal(size=(5000, 8)) * np.arange(1, 9))
    values = np.linalg.eigvalsh(np.cov(centred(features, None).T))
    whitened = np.linalg.eigvalsh(np.cov(centred(features, None, whitening=1).T))
    assert values[-1] > 20 * values[0]
    assert whitened[-1] < 2 * whitened[0]


def test_few_images_are_hardly_whitened() -> None:
    features = unit(np.random.default_rng(6).normal(size=(6, 64)) * np.linspace(1, 8, 64))
    plain, whitened = centred(features, None), centred(features, None, whitening=1)
    assert (plain * whitened).sum(axis=1).min() > 0.95


@pytest.mark.parametrize("whitening", [0, 0.5])
def test_equal_images_have_no_direction_left(whitening: float) -> None:
    features = np.tile(np.eye(1, 8, dtype=np.float32), (10, 1))
    assert not centred(features, np.arange(10) % 2, whitening=whitening).any()


def test_what_is_not_finite_is_left_for_the_clustering_to_refuse() -> None:
    features = unit(np.random.default_rng(7).normal(size=(10, 4)))
    features[3, 1] = np.nan
    assert not np.isfinite(centred(features, None, whitening=0.5)).all()
