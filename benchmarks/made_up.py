"""Made-up features of made-up people, for the benchmarks that need many of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_ROWS = 1024  # rows are made in blocks of this size


@dataclass(frozen=True)
class Crowd:
    """How a set of features is drawn.

    A person is a point in a latent space of few dimensions. Each camera adds an offset of its own to each person, and
    each image a smaller random one. A random projection maps the result to the full width. All spreads are in units of
    the spread between people, per latent dimension.

    Attributes:
        number: Images.
        width: Numbers per feature.
        people: People who are seen more than once.
        latent: Dimensions of the latent space.
        cameras: Number of cameras; each image is from one of them.
        camera_spread: How far a camera moves a person.
        image_spread: How far an image is from its person as its camera sees it.
        uneven: Standard deviation of the logarithm of a person's share of the images; 0 draws people evenly.
        outliers: Fraction of images of people who are seen only once.
        full_spread: Spread of noise in all directions of the full width, as a fraction of the feature's length.
        gap: How far the infrared cameras, the last third, move all people in one direction; 0: all are visible.
    """

    number: int
    width: int
    people: int
    latent: int = 32
    cameras: int = 6
    camera_spread: float = 0.5
    image_spread: float = 0.5
    uneven: float = 0.6
    outliers: float = 0.02
    full_spread: float = 0.2
    gap: float = 0.0


class MadeUp(NamedTuple):
    """Features and what they were made from.

    Attributes:
        features: (N, width) float32, each row of unit length.
        person: (N,) int64, who it is.
        modality: (N,) int64, 0 visible and 1 infrared.
    """

    features: NDArray[np.float32]
    person: NDArray[np.int64]
    modality: NDArray[np.int64]


def crowd_of(number: int, width: int, **changes: Any) -> Crowd:
    """The crowd of the benchmarks: about 40 images a person, unevenly drawn, with outliers and overlapping people."""
    return replace(Crowd(number, width, people=max(2, number // 40)), **changes)


def even_crowd(number: int, width: int) -> Crowd:
    """The crowd of this project's first measurements, with exactly the same numbers: 56 images a person."""
    people = max(1, number // 56)
    return Crowd(number, width, people, cameras=4, uneven=0.0, outliers=0.0, full_spread=0.0)


def made_up_features(crowd: Crowd, generator: np.random.Generator) -> MadeUp:
    """Draw a crowd. Beyond the features this takes memory for a few arrays of latent width: (N, latent)."""
    number, latent = crowd.number, crowd.latent
    person = _people(crowd, generator)
    camera = generator.integers(0, crowd.cameras, number)
    alone = generator.random(number) < crowd.outliers if crowd.outliers else np.zeros(number, dtype=bool)
    number_of_people = crowd.people + int(alone.sum())
    person[alone] = np.arange(crowd.people, number_of_people)
    low = generator.standard_normal((number_of_people, latent))[person]
    # An outlier reuses another person's camera offset; with a single image this makes no difference.
    moved = generator.standard_normal((crowd.people, crowd.cameras, latent))
    low += crowd.camera_spread * moved[person % crowd.people, camera]
    low += crowd.image_spread * generator.standard_normal((number, latent))
    modality = (camera >= crowd.cameras - crowd.cameras // 3).astype(np.int64) if crowd.gap else np.zeros_like(camera)
    if crowd.gap:
        low += crowd.gap * modality[:, None] * generator.standard_normal(latent)
    projection = generator.standard_normal((latent, crowd.width)).astype(np.float32)
    features = np.empty((number, crowd.width), dtype=np.float32)
    for start in range(0, number, _ROWS):
        block = low[start : start + _ROWS].astype(np.float32) @ projection
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        if crowd.full_spread:
            block += _noise(block.shape, crowd.full_spread, generator)
            block /= np.linalg.norm(block, axis=1, keepdims=True)
        features[start : start + _ROWS] = block
    return MadeUp(features, person, modality)


def _people(crowd: Crowd, generator: np.random.Generator) -> NDArray[np.int64]:
    if not crowd.uneven:
        return generator.integers(0, crowd.people, crowd.number)
    share = generator.lognormal(0.0, crowd.uneven, crowd.people)
    return generator.choice(crowd.people, crowd.number, p=share / share.sum()).astype(np.int64)


def _noise(shape: tuple[int, ...], spread: float, generator: np.random.Generator) -> NDArray[np.float32]:
    noise = generator.standard_normal(shape, dtype=np.float32)
    noise *= np.float32(spread / np.sqrt(shape[1]))
    return noise
