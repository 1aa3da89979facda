"""Calibrate the similarities of a run on labelled images, or measure the calibration that it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.answers.calibration import Calibration
from pclhd.answers.fit import Labelled, fit_calibration
from pclhd.answers.measures import DirectionMeasures, measure_answers
from pclhd.data.records import Dataset, ImageRecord, Modality, digest_files
from pclhd.errors import ArgumentError, UserError
from pclhd.models.encoder import Encoder, embed_records
from pclhd.pair import Pair
from pclhd.runs.folder import RunFolder, owning_run
from pclhd.text_tables import text_table
from pclhd.workflows.train import open_data


@dataclass(frozen=True)
class Calibrated:
    """A calibration and how well its answers hold on people that it was not made from.

    Attributes:
        calibration: The calibration.
        measures: One entry per direction.
        people: Number of people that were measured.
    """

    calibration: Calibration
    measures: list[DirectionMeasures]
    people: int

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-compatible values."""
        return {
            "source": self.calibration.source,
            "people_measured": self.people,
            "directions": [
                {
                    "query": one.query,
                    "gallery": one.gallery,
                    "method": self.calibration.direction(one.query, one.gallery).method,
                    "queries": one.queries,
                    "images": one.images,
                    "calibration_error_of_first": one.first_error,
                    "calibration_error_of_first_ten": one.list_error,
                    "reliability": [vars(part) for part in one.bins],
                    "nobody_here": [
                        {"false_match_rate": rate, "threshold": one.thresholds[rate], **vars(found)}
                        for rate, found in one.open_sets.items()
                    ],
                }
                for one in self.measures
            ],
        }


def calibrate_run(
    run: RunFolder,
    *,
    data: Path | None = None,
    measure_only: bool = False,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> Calibrated:
    """Calibrate a run on labelled images, and save the result in the run; or measure what it has.

    The calibration is made from every second person, and measured on the others. Identities are used for nothing else:
    no weight changes.

    Args:
        run: The run folder.
        data: Labelled images: the test part of a data set, or its training part where there is no test part. By default
            the run's data set.
        measure_only: Measure the run's calibration on all people instead, and write nothing.
        device: Where to embed.
        on_progress: Called with the number of embedded images and the total.

    Returns:
        The calibration with its measures.

    Raises:
        UserError: There is no model, no labelled image, too few people, or images that the run was trained on.
    """
    run.require_model()
    saved = run.calibration()
    if measure_only and saved is None:
        raise UserError(f"{run.calibration_file}: is missing; make it with: pclhd calibrate {run} --data DIR")
    dataset = open_data(run.settings(), data)
    records, people = _labelled_images(dataset)
    _refuse_training_images(run, records)
    encoder = Encoder.load(run, device=device)
    if measure_only and saved is not None:
        saved.require_model(encoder.model_id)
    (features,) = embed_records([encoder], records, workers=run.settings().data.workers, on_progress=on_progress)
    images = _by_modality(records, people, features)
    if measure_only and saved is not None:
        return Calibrated(saved, measure_answers(saved, images), len(np.unique(people)))
    fitted, measured = split_people(images)
    calibration = fit_calibration(fitted, model_id=encoder.model_id, source="labelled images")
    if not calibration.directions:
        raise ArgumentError(
            "data", f"{len(np.unique(people))} people are too few; 20 with images in each half are needed"
        )
    with owning_run(run):
        run.write_calibration(calibration)
    return Calibrated(calibration, measure_answers(calibration, measured), len(np.unique(people)) // 2)


def split_people(images: Pair[Labelled]) -> tuple[Pair[Labelled], Pair[Labelled]]:
    """Two halves without a common person: every second one in the order of their numbers."""
    people = np.unique(np.concatenate([one.labels[one.labels >= 0] for one in images]))

    def half(chosen: NDArray[np.int64]) -> Pair[Labelled]:
        def of(one: Labelled) -> Labelled:
            rows = np.isin(one.labels, chosen)
            cameras = None if one.cameras is None else one.cameras[rows]
            return Labelled(one.features[rows], one.labels[rows], cameras)

        return images.map(of)

    return half(people[::2]), half(people[1::2])


def _labelled_images(dataset: Dataset) -> tuple[list[ImageRecord], NDArray[np.int64]]:
    if dataset.test is not None:
        rows = dataset.test.known()
        return [dataset.test.images[row] for row in rows], np.array([dataset.test.identities[row] for row in rows])
    if dataset.train_identities is None:
        raise UserError(f"{dataset.root}: has no identities; a calibration from labels needs them")
    return list(dataset.train.images), np.array(dataset.train_identities)


def _refuse_training_images(run: RunFolder, records: list[ImageRecord]) -> None:
    trained = run.training_images() or {}
    digests = digest_files([record.path for record in records]) if trained else []
    found = sum(digest in trained for digest in digests)
    if found:
        raise ArgumentError(
            "data",
            f"{found:,} of {len(records):,} labelled images were training images of this run, whose similarities are "
            "too good; name labelled images of other people",
        )


def _by_modality(
    records: list[ImageRecord], people: NDArray[np.int64], features: NDArray[np.float32]
) -> Pair[Labelled]:
    parts = []
    for modality in Modality:
        rows = [row for row, record in enumerate(records) if record.modality is modality]
        numbers = [-1 if records[row].camera is None else records[row].camera for row in rows]
        parts.append(Labelled(features[rows], people[rows], np.array(numbers, dtype=np.int64)))
    return Pair(*parts)


def calibrated_text(found: Calibrated) -> str:
    """The figures as text."""
    rows = []
    for one in found.measures:
        for rate, answers in one.open_sets.items():
            rows.append(
                (
                    f"{one.query}→{one.gallery}",
                    found.calibration.direction(one.query, one.gallery).method,
                    f"{100 * one.first_error:.1f}",
                    f"{100 * one.list_error:.1f}",
                    f"{100 * rate:g}",
                    f"{one.thresholds[rate]:.2f}",
                    f"{100 * answers.false_alarm_rate:.1f}",
                    f"{100 * answers.identification_rate:.1f}",
                    f"{100 * answers.closed_set_rate:.1f}",
                )
            )
    headings = (
        "direction",
        "curve",
        "error of first",
        "of first ten",
        "wanted rate",
        "threshold",
        "false matches",
        "identified",
        "rank-1",
    )
    heading = (
        f"calibrated with {found.calibration.source}, measured on {found.people} other people, in percent; half of "
        "them are absent from the gallery"
    )
    return f"{heading}\n{text_table(rows, headings=headings, right=set(range(2, len(headings))))}"
