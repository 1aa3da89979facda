"""Measures of answers: calibration error, and open-set search, where some people are not in the gallery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityBin:
    """The answers whose stated probability lies in one bin.

    Attributes:
        probability: Mean stated probability.
        correct: Share that is right.
        count: Number of answers.
    """

    probability: float
    correct: float
    count: int


def reliability(probability: Probabilities, correct: NDArray[np.bool_], *, bins: int = 10) -> list[ReliabilityBin]:
    """Stated against true shares, in bins of equal width; empty bins are left out.

    Args:
        probability: (N,) stated probabilities.
        correct: (N,) whether each answer is right.
        bins: Number of bins.

    Raises:
        ValueError: Shapes differ, or a value is no probability.
    """
    if probability.shape != correct.shape or probability.ndim != 1:
        raise ValueError(f"{probability.shape} probabilities for {correct.shape} answers")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("a probability is not between 0 and 1")
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    return [
        ReliabilityBin(float(probability[rows].mean()), float(correct[rows].mean()), len(rows))
        for rows in (np.flatnonzero(place == one) for one in range(bins))
        if len(rows)
    ]


def expected_calibration_error(probability: Probabilities, correct: NDArray[np.bool_], *, bins: int = 10) -> float:
    """Mean distance between stated and true shares over the bins, weighted by answers (Naeini et al., 2015).

    Arguments and errors are those of `reliability`.

    Returns:
        0 to 1; NaN if there is no answer.
    """
    found = reliability(probability, correct, bins=bins)
    return (
        float(sum(one.count * abs(one.probability - one.correct) for one in found) / len(probability))
        if found
        else np.nan
    )


@dataclass(frozen=True)
class OpenSet:
    """How often a search with "nobody here" is right.

    Attributes:
        false_alarm_rate: Share of searches for people who are not in the gallery that gave an answer.
        identification_rate: Share of searches for people who are in it whose first image is theirs and was answered.
        closed_set_rate: The same if every search is answered, which is rank-1.
        absent: Number of searches for people who are not in the gallery.
        present: Number of searches for people who are.
    """

    false_alarm_rate: float
    identification_rate: float
    closed_set_rate: float
    absent: int
    present: int


def open_set(
    best_absent: NDArray[np.floating], best_present: NDArray[np.floating], correct: NDArray[np.bool_], threshold: float
) -> OpenSet:
    """Detection and identification rate at a threshold (as in ISO/IEC 19795-1; rank 1).

    Args:
        best_absent: (A,) similarity of the first image, of searches for people who are not in the gallery.
        best_present: (P,) the same for people who are in it.
        correct: (P,) whether that first image is theirs.
        threshold: Searches are answered from this similarity on.

    Returns:
        Rates as shares; NaN where there is no such search.
    """
    answered = best_present >= threshold
    return OpenSet(
        _share(best_absent >= threshold), _share(answered & correct), _share(correct), len(best_absent), len(correct)
    )


def _share(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")
