"""The random generators of the synthetic benchmark.

Each person, camera and image has a separate generator with a seed made of numbers, so an image does not depend on the
process that draws it or on previous draws.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Literal

import numpy as np

from pclhd.data.records import Modality

Version = Literal[1, 2]
"""A version of the generator, part of every seed. A new one is added whenever the same seed is to give different bytes;
the former ones stay as they are."""

VERSIONS: tuple[Version, ...] = (1, 2)
NEWEST: Version = 2


class Population(StrEnum):
    """Disjoint sets of invented people and cameras: starter weights are not trained on those of the benchmark."""

    BENCHMARK = "benchmark"
    STARTER = "starter"


class Stream(IntEnum):
    """Purpose of a generator; it distinguishes, for example, person 3 and camera 3."""

    PERSON = 1
    CAMERA = 2
    IMAGE = 3
    PLAN = 4
    PASSAGE = 5


_POPULATION_CODE = {Population.BENCHMARK: 11, Population.STARTER: 29}
_MODALITY_CODE = {Modality.VISIBLE: 0, Modality.INFRARED: 1}


def modality_code(modality: Modality) -> int:
    """The number of a modality in a seed."""
    return _MODALITY_CODE[modality]


def generator(
    seed: int, population: Population, stream: Stream, *key: int, version: Version = 1
) -> np.random.Generator:
    """The generator of one person, camera, image or plan.

    Args:
        seed: The data set's seed, not negative.
        population: Population of people and cameras.
        stream: Purpose of the numbers.
        key: Further non-negative numbers, such as identity, modality code, camera and index.
        version: Version of the generator.

    Returns:
        A generator that depends only on the arguments.
    """
    entropy = [version, seed, _POPULATION_CODE[population], int(stream), *key]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
