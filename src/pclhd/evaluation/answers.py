"""Ranked results as answers: each hit with its probability, and "no one here" where no hit is similar enough."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from pclhd.answers.calibration import USUAL_RATE, Calibration
from pclhd.data.records import ImageInfo
from pclhd.errors import ArgumentError
from pclhd.evaluation.retrieval import Hit, RankedResults


@dataclass(frozen=True)
class AnsweredHit:
    """A hit and what its similarity means.

    Attributes:
        hit: The hit.
        probability: That it shows the query's person.
        threshold: The similarity below which it is no answer.
        expected: Number of gallery images of the person that the probability assumes.
    """

    hit: Hit
    probability: float
    threshold: float
    expected: float

    @property
    def above(self) -> bool:
        """Whether it is similar enough to be an answer."""
        return self.hit.similarity >= self.threshold


@dataclass(frozen=True)
class Answer:
    """The answer to one query.

    Attributes:
        query: Description of the query.
        hits: Its nearest images, the nearest first.
        false_match_rate: Share of searches for people who are not in the gallery that give an answer.
    """

    query: ImageInfo
    hits: tuple[AnsweredHit, ...]
    false_match_rate: float

    @property
    def no_one_here(self) -> bool:
        """Whether no hit is similar enough: the person is probably not in the gallery."""
        return not any(one.above for one in self.hits)

    def sentence(self) -> str:
        """The answer in a few words."""
        if not self.hits:
            return "no one here: the gallery is empty"
        first = self.hits[0]
        rate = f"for a false-match rate of {100 * self.false_match_rate:g} %"
        if self.no_one_here:
            return f"no one here: best {first.hit.similarity:.2f} is below the threshold {first.threshold:.2f} {rate}"
        found = sum(one.above for one in self.hits)
        images = f"{found} image{'' if found == 1 else 's'}"
        return f"{images} of the {len(self.hits)} below at or above the threshold {first.threshold:.2f} {rate}"

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON-compatible values."""
        path = None if self.query.path is None else self.query.path.as_posix()
        return {
            "query": {"path": path, "modality": str(self.query.modality)},
            "no_one_here": self.no_one_here,
            "false_match_rate": self.false_match_rate,
            "hits": [
                {
                    **one.hit.to_dict(),
                    "probability": one.probability,
                    "threshold": one.threshold,
                    "above": one.above,
                }
                for one in self.hits
            ],
        }


def answer(
    results: RankedResults,
    calibration: Calibration,
    *,
    false_match_rate: float | None = None,
    expected: float | None = None,
) -> list[Answer]:
    """Turn ranked results into answers.

    Args:
        results: Ranked lists whose queries and gallery are described, as those of `pclhd.search` for embeddings.
        calibration: That of the encoder that embedded them: ``pclhd.RunFolder(run).calibration()``.
        false_match_rate: The share of searches for people who are not in the gallery that may give an answer; by
            default `pclhd.answers.calibration.Calibration.usual_rate`.
        expected: How many gallery images show a query's person, if they are there at all; it sets the prior of the
            probabilities. By default as many as in the images of the calibration.

    Returns:
        One answer per query.

    Raises:
        UserError: There is no calibration for the modalities, or a value is out of range.
        ValueError: Queries or gallery are not described.
    """
    if results.queries is None or results.gallery is None:
        raise ValueError("the results have no image descriptions, so their modalities are unknown; search Embeddings")
    sizes = Counter(str(image.modality) for image in results.gallery)
    meanings: dict[tuple[str, str], tuple[float, float]] = {}
    rates: dict[str, float] = {}
    for query in {str(image.modality) for image in results.queries}:
        usual = max((calibration.usual_rate(query, gallery) for gallery in sizes), default=USUAL_RATE)
        rates[query] = usual if false_match_rate is None else false_match_rate
        for gallery, size in sizes.items():
            threshold = calibration.threshold(rates[query], query, gallery, gallery_size=size)
            meanings[query, gallery] = (threshold, _prior(calibration, query, gallery, size, expected))
    answers = []
    for image, hits in zip(results.queries, results, strict=True):
        query = str(image.modality)
        known = []
        for hit in hits:
            gallery = str(results.gallery[hit.row].modality)
            threshold, prior = meanings[query, gallery]
            probability = float(calibration.probability(hit.similarity, query, gallery, prior))
            known.append(AnsweredHit(hit, probability, threshold, prior * sizes[gallery]))
        answers.append(Answer(image, tuple(known), rates[query]))
    return answers


def _prior(calibration: Calibration, query: str, gallery: str, size: int, expected: float | None) -> float:
    if expected is None:
        return calibration.prior(query, gallery, size)
    if not 0 < expected < size:
        raise ArgumentError("expected", f"must be above 0 and below the {size:,} {gallery} images", value=expected)
    return expected / size
