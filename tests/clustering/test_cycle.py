from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.clustering.cycle import cycle_consistency

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


def draw(seed: int, counts: tuple[int, int]) -> tuple[Features, Labels, Features, Labels]:
    random = np.random.default_rng(seed)
    visible, infrared = (random.normal(size=(count, 5)).astype(np.float32) for count in counts)
    return visible, random.integers(-1, 3, counts[0]), infrared, random.integers(-1, 3, counts[1])


def slowly(visible: Features, visible_labels: Labels, infrared: Features, infrared_labels: Labels) -> float:
    def nearest(row: NDArray[np.float32], rows: Features) -> int:
        return min(range(len(rows)), key=lambda number: float(((rows[number] - row).astype(np.float64) ** 2).sum()))

    shares = []
    for own, labels, other in ((visible, visible_labels, infrared), (infrared, infrared_labels, visible)):
        good = 0
        for row, label in zip(own, labels, strict=True):
            back = nearest(other[nearest(row, other)], own)
            good += bool(label >= 0 and labels[back] == label)
        shares.append(good / len(own))
    return (shares[0] + shares[1]) / 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 25), st.integers(1, 25))
def test_like_the_loop_over_images(seed: int, visible: int, infrared: int) -> None:
    parts = draw(seed, (visible, infrared))
    assert cycle_consistency(*parts) == pytest.approx(slowly(*parts))


def test_modalities_that_agree_and_that_do_not() -> None:
    people = np.eye(3, dtype=np.float32).repeat(2, axis=0)
    labels = np.repeat(np.arange(3), 2)
    assert cycle_consistency(people, labels, people, labels) == 1
    # All infrared images lie beside the first person: the way back always ends there.
    beside = np.tile(np.array([0.9, 0.1, 0], dtype=np.float32), (6, 1))
    assert cycle_consistency(people, labels, beside, np.zeros(6, dtype=np.int64)) == pytest.approx((1 / 3 + 1) / 2)


def test_noise_is_never_consistent() -> None:
    people = np.eye(2, dtype=np.float32)
    noise = np.full(2, -1)
    assert cycle_consistency(people, noise, people, noise) == 0


def test_an_empty_modality() -> None:
    parts = draw(0, (3, 2))
    with pytest.raises(ValueError, match="0 infrared"):
        cycle_consistency(parts[0], parts[1], parts[2][:0], parts[3][:0])
    with pytest.raises(ValueError, match="visible"):
        cycle_consistency(parts[0], parts[1][:2], parts[2], parts[3])


def test_not_a_number() -> None:
    parts = draw(0, (3, 2))
    parts[0][1, 2] = np.nan
    with pytest.raises(ValueError, match="finite"):
        cycle_consistency(*parts)
