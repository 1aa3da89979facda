"""The difference of two settings, paired by seed, with a confidence interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeVar

CONFIDENCE = 0.95
"""The share of such intervals that contain the true difference, for each interval separately."""

Seed = TypeVar("Seed")


@dataclass(frozen=True)
class SeedDifference:
    """The difference of a group from the first one, paired by seed.

    Attributes:
        mean: Mean of the differences over the common seeds.
        low: Lower end of the 95 % confidence interval; None with a single seed.
        high: Upper end.
        seeds: Number of common seeds.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def distinguishable(self) -> bool | None:
        """Whether the interval excludes 0; None without an interval."""
        return None if self.low is None or self.high is None else not self.low <= 0 <= self.high


def compare_seeds(first: Mapping[Seed, float], other: Mapping[Seed, float]) -> SeedDifference | None:
    """The paired difference of two groups with a 95 % confidence interval (Student's t on the differences; ours).

    Pairing removes the effect that a seed has on both groups. The interval assumes normally distributed differences,
    which a few seeds can neither confirm nor refute.

    Args:
        first: One number per seed.
        other: The same for the other group.

    Returns:
        Other minus first, over the common seeds; None if there are none.
    """
    differences = [other[seed] - first[seed] for seed in first if seed in other]
    if not differences:
        return None
    mean, count = fmean(differences), len(differences)
    if count == 1:
        return SeedDifference(mean, None, None, 1)
    # SciPy is slow to import, and a single run per setting does not need it.
    from scipy.special import stdtrit

    reach = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * stdev(differences) / math.sqrt(count)
    return SeedDifference(mean, mean - reach, mean + reach, count)
