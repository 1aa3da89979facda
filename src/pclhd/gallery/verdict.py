"""What the similarities of hits mean in a gallery of this size, and whether the query's person is in it at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pclhd.answers.calibration import USUAL_RATE, Calibration
from pclhd.data.records import Modality
from pclhd.errors import UserError
from pclhd.gallery.records import GalleryHit
from pclhd.runs.folder import RunFolder

SizeOf = Callable[[Modality], int]
"""How many rows of a modality there are."""


@dataclass(frozen=True)
class Verdict:
    """The answer to "is this person here?".

    Attributes:
        no_one_here: No hit reaches the threshold of its direction; None where that is not known.
        threshold: The threshold of the first hit's direction; None without hits, or where it is not known.
        thresholds: The thresholds that are known, by modality of the hits.
        above: For each hit, whether it reaches its threshold; None where that is not known.
        unknown: Why something is not known; empty otherwise.
        false_match_rate: The rate that the thresholds are for; None where none is known.
    """

    no_one_here: bool | None
    threshold: float | None = None
    above: tuple[bool | None, ...] = ()
    unknown: str = ""
    false_match_rate: float | None = None
    thresholds: Mapping[Modality, float] = field(default_factory=dict)


def run_calibration(model: Path, model_id: str) -> Calibration | None:
    """The calibration in the run folder that a model belongs to.

    Args:
        model: A run folder, or a model file, which may lie in one.
        model_id: Id of the model.

    Returns:
        The calibration; None without one, or if it is another model's.

    Raises:
        UserError: It is damaged.
    """
    folder = RunFolder(model if model.is_dir() else model.parent)
    found = folder.calibration() if folder.is_run() else None
    return found if found is not None and found.model_id == model_id else None


def judge(
    hits: Sequence[GalleryHit],
    calibration: Calibration | None,
    query: Modality,
    *,
    false_match_rate: float | None,
    size_of: SizeOf,
) -> Verdict:
    """Compare hits with the thresholds of a calibration.

    Args:
        hits: Best first.
        calibration: That of the gallery's model; None if there is none.
        query: Modality of the query.
        false_match_rate: Share of searches for people who are not in the gallery that may give an answer; None for the
            usual one.
        size_of: How many rows of a modality were searched.

    Returns:
        The verdict. Without hits no one is here, whatever the calibration. With hits of a direction whose threshold is
        not known, someone may be here, so "no one" is not said.
    """
    if not hits:
        return Verdict(True)
    if calibration is None:
        return Verdict(
            None,
            above=(None,) * len(hits),
            unknown="the gallery's model has no calibration; make one with: pclhd calibrate RUN --data DIR",
        )
    thresholds: dict[Modality, float | None] = {}
    unknown = ""
    modalities = list(dict.fromkeys(hit.row.modality for hit in hits))
    rate = _usual_rate(calibration, query, modalities) if false_match_rate is None else false_match_rate
    for modality in modalities:
        try:
            thresholds[modality] = calibration.threshold(rate, query, modality, gallery_size=max(1, size_of(modality)))
        except UserError as error:  # this direction had too few pairs, or the rate is beyond what they can measure
            thresholds[modality], unknown = None, str(error)
    limits = [thresholds[hit.row.modality] for hit in hits]
    above = tuple(None if limit is None else hit.similarity >= limit for hit, limit in zip(hits, limits, strict=True))
    no_one_here = False if any(above) else None if None in above else True
    known = {modality: limit for modality, limit in thresholds.items() if limit is not None}
    return Verdict(no_one_here, limits[0], above, unknown, rate, known)


def _usual_rate(calibration: Calibration, query: Modality, modalities: Sequence[Modality]) -> float:
    """The lowest rate from 1 % on that all directions with a calibration can measure."""
    rates = [USUAL_RATE]
    for modality in modalities:
        with suppress(UserError):  # a direction without a calibration has no threshold either
            rates.append(calibration.usual_rate(query, modality))
    return max(rates)
