"""Measures of answers: calibration error, and open-set search, where some people are not in the gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pclhd.answers.calibration import Calibration
from pclhd.answers.fit import Labelled
from pclhd.pair import ModalityName, Pair

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


@dataclass(frozen=True)
class DirectionMeasures:
    """How well the answers in one direction hold.

    Attributes:
        query: Modality of the queries.
        gallery: Modality of the gallery.
        queries: Number of queries.
        images: Number of gallery images.
        first_error: Expected calibration error of the first image of each list.
        list_error: The same of the first ten images.
        bins: Stated against true shares of the first ten images.
        thresholds: Thresholds by false match rate, for the gallery without half of the people.
        open_sets: What they give, by false match rate.
    """

    query: ModalityName
    gallery: ModalityName
    queries: int
    images: int
    first_error: float
    list_error: float
    bins: list[ReliabilityBin]
    thresholds: Mapping[float, float]
    open_sets: Mapping[float, OpenSet]


def measure_answers(
    calibration: Calibration, images: Pair[Labelled], *, rates: Sequence[float] = (0.01, 0.05, 0.1), top: int = 10
) -> list[DirectionMeasures]:
    """Measure a calibration on images of other people, in all directions that it has.

    Probabilities are measured on a gallery in which every person is. "Nobody here" is measured on a gallery without
    every second person, so that their queries should find nobody. Within a modality, images from the query's camera are
    left out where cameras are known, as in the calibration.

    Args:
        calibration: To measure.
        images: Visible and infrared images of people that it was not made from.
        rates: False match rates; those that the calibration cannot give are left out.
        top: Length of the lists.

    Returns:
        One entry per direction that has a query with a correct image.
    """
    known = images.map(Labelled.known)
    measured = []
    for one in calibration.directions:
        query, gallery = known.of(one.query), known.of(one.gallery)
        table = query.features @ gallery.features.T
        if one.query == one.gallery:
            np.fill_diagonal(table, -np.inf)
            if query.cameras is not None:
                cameras = query.cameras[:, None]
                table[(cameras >= 0) & (cameras == query.cameras[None, :])] = -np.inf
        same = query.labels[:, None] == gallery.labels[None, :]
        rows = np.flatnonzero((same & np.isfinite(table)).any(axis=1))
        if not len(rows):
            continue
        table, same, people = table[rows], same[rows], query.labels[rows]
        best = np.argsort(-table, axis=1, kind="stable")[:, :top]
        similarity, correct = np.take_along_axis(table, best, axis=1), np.take_along_axis(same, best, axis=1)
        prior = calibration.prior(one.query, one.gallery, table.shape[1])
        stated = calibration.probability(similarity, one.query, one.gallery, prior)
        listed = np.isfinite(similarity)
        absent = np.searchsorted(np.unique(known.of(one.gallery).labels), people) % 2 == 1
        gone = np.isin(gallery.labels, people[absent])
        left = np.where(gone[None, :], -np.inf, table)
        first = np.argmax(left, axis=1)[:, None]
        top_similarity = np.take_along_axis(left, first, axis=1)[:, 0]
        top_correct = np.take_along_axis(same, first, axis=1)[:, 0]
        size = max(1, int((~gone).sum()))
        usable = [rate for rate in rates if one.rates[0] <= rate <= one.rates[-1]]
        thresholds = {rate: calibration.threshold(rate, one.query, one.gallery, gallery_size=size) for rate in usable}
        measured.append(
            DirectionMeasures(
                one.query,
                one.gallery,
                len(rows),
                table.shape[1],
                expected_calibration_error(stated[:, 0], correct[:, 0]),
                expected_calibration_error(stated[listed], correct[listed]),
                reliability(stated[listed], correct[listed]),
                thresholds,
                {
                    rate: open_set(top_similarity[absent], top_similarity[~absent], top_correct[~absent], threshold)
                    for rate, threshold in thresholds.items()
                },
            )
        )
    return measured
