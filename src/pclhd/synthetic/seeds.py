"""Where every random number of the synthetic benchmark comes from.

Each person, camera and image owns a generator named by numbers alone, so an image is the same whichever process draws
it and whatever was drawn before it.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import numpy as np

from pclhd.data.records import Modality

GENERATOR_VERSION = 1
"""Raised whenever the same seed would give other bytes. It is mixed into every seed."""


class Population(StrEnum):
    """Disjoint sets of invented people and cameras: starter weights never see the benchmark's."""

    BENCHMARK = "benchmark"
    STARTER = "starter"


class Stream(IntEnum):
    """What a generator is for; keeps, say, person 3 and camera 3 apart."""

    PERSON = 1
    CAMERA = 2
    IMAGE = 3
    PLAN = 4


_POPULATION_CODE = {Population.BENCHMARK: 11, Population.STARTER: 29}
_MODALITY_CODE = {Modality.VISIBLE: 0, Modality.INFRARED: 1}


def modality_code(modality: Modality) -> int:
    """The number that stands for a modality in a seed."""
    return _MODALITY_CODE[modality]


def generator(seed: int, population: Population, stream: Stream, *key: int) -> np.random.Generator:
    """The generator of one person, camera, image or plan.

    Args:
        seed: The data set's seed, not negative.
        population: Which people and cameras.
        stream: What the numbers are for.
        key: Further non-negative numbers, such as identity, modality code, camera and index.

    Returns:
        A generator that depends on the arguments and the generator's version only.
    """
    entropy = [GENERATOR_VERSION, seed, _POPULATION_CODE[population], int(stream), *key]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
