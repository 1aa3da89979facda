"""Embeddings of invented people: a centre per person, and noise."""

from __future__ import annotations

import numpy as np

from pclhd.answers.fit import Labelled
from pclhd.pair import Pair


def draw(people: int, images: int, *, noise: float, seed: int, cameras: bool = False) -> Labelled:
    """`images` of each person, in the order of the people; the people are the same for every seed."""
    centres = np.random.default_rng(99).normal(size=(people, 32))
    features = np.repeat(centres, images, axis=0)
    features = features + noise * np.random.default_rng(seed).normal(size=features.shape)
    unit = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    numbers = np.tile(np.arange(images) % 2, people)
    return Labelled(unit, np.repeat(np.arange(people), images), numbers if cameras else None)


def draw_both(people: int = 60, *, noise: float = 1.0, seed: int = 0) -> Pair[Labelled]:
    """Visible and infrared images of the same people."""
    return Pair(
        draw(people, 4, noise=noise, seed=2 * seed + 1, cameras=True),
        draw(people, 3, noise=noise, seed=2 * seed + 2),
    )
