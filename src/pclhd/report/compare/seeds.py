"""How far two settings are apart, seed by seed, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeVar

CONFIDENCE = 0.95
"""How often an interval made like those here holds the true difference, each interval by itself."""

Seed = TypeVar("Seed")


@dataclass(frozen=True)
class SeedDifference:
    """How far a group is from the first one, seed by seed.

    Attributes:
        mean: Mean of the differences over the seeds that both have.
        low: Lower end of the 95 % confidence interval; None with a single seed.
        high: Upper end.
        seeds: How many seeds both have.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def distinguishable(self) -> bool | None:
        """Whether the interval leaves out 0; None without an interval."""
        return None if self.low is None or self.high is None else not self.low <= 0 <= self.high


def compare_seeds(first: Mapping[Seed, float], other: Mapping[Seed, float]) -> SeedDifference | None:
    """The paired difference of two groups with a 95 % confidence interval (Student's t on the differences; ours).

    Pairing takes out what a seed does to both groups alike. The interval supposes that the differences scatter
    normally, which a few seeds can neither show nor refute.

    Args:
        first: A number per seed.
        other: The same of the other group.

    Returns:
        Other minus first, over the seeds that both have; None if there is none.
    """
    differences = [other[seed] - first[seed] for seed in first if seed in other]
    if not differences:
        return None
    mean, count = fmean(differences), len(differences)
    if count == 1:
        return SeedDifference(mean, None, None, 1)
    # SciPy is slow to load, and a single run per setting needs none of it.
    from scipy.special import stdtrit

    reach = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * stdev(differences) / math.sqrt(count)
    return SeedDifference(mean, mean - reach, mean + reach, count)
