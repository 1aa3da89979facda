from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from pclhd.data.records import Modality
from pclhd.evaluation.retrieval import unit_length
from pclhd.gallery.records import GalleryRow
from pclhd.gallery.sightings import GAP, group_sightings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
# One person's direction, another's, and the query: nearer to the first.
ONE, TWO = np.array([1.0, 0, 0, 0]), np.array([0, 1.0, 0, 0])
QUERY = np.array([0.5, 0.3, 0.8, 0])


def row(number: int, seconds: float | None = 0, **changes: Any) -> GalleryRow:
    time = None if seconds is None else NOON + timedelta(seconds=seconds)
    known: dict[str, Any] = {
        "camera": "gate", "modality": Modality.VISIBLE, "track": None, "source": f"/a/{number}.jpg", "frame": None,
        "digest": f"d{number}", "added": NOON,
    }  # fmt: skip
    return GalleryRow(id=f"{number:032x}", number=number, time=time, **{**known, **changes})


def grouped(rows: list[GalleryRow], vectors: list[Any], gap: timedelta = GAP) -> list[list[int]]:
    embeddings = unit_length(np.array(vectors))
    similarity = embeddings @ unit_length(QUERY[None])[0]
    groups = group_sightings(rows, embeddings, similarity.astype(np.float32), gap=gap)
    assert [one.best for one in groups] == sorted(one.best for one in groups)
    assert all(one.members[0] == one.best for one in groups)
    return [one.members for one in groups]


def test_nothing_and_one() -> None:
    assert group_sightings([], np.empty((0, 4), np.float32), np.empty(0, np.float32)) == []
    assert grouped([row(1)], [ONE]) == [[0]]


def test_a_passage_is_one_answer() -> None:
    rows = [row(number, 30.0 * number) for number in range(10)]
    assert grouped(rows, [ONE] * 10) == [list(range(10))]
    assert grouped(rows, [ONE] * 10, timedelta(seconds=29)) == [[number] for number in range(10)]


def test_a_long_gap_begins_another() -> None:
    rows = [row(0, 0), row(1, 60), row(2, 120.001), row(3, 3600), row(4, 3601)]
    assert grouped(rows, [ONE] * 5) == [[0, 1], [2], [3, 4]]


def test_cameras_and_modalities_stay_apart() -> None:
    rows = [row(0), row(1, camera="yard"), row(2, modality=Modality.INFRARED), row(3)]
    assert grouped(rows, [ONE] * 4) == [[0, 3], [1], [2]]


def test_two_people_who_pass_together_stay_apart() -> None:
    rows = [row(number, number) for number in range(4)]
    assert grouped(rows, [ONE, ONE, TWO, TWO]) == [[0, 1], [2, 3]]


def test_people_who_are_unlike_stay_apart_although_the_query_is_the_best_row() -> None:
    # Each row is then as similar to the best row as to the query, so the share of that says nothing.
    stranger = 0.4 * ONE + 0.84**0.5 * TWO
    rows = [row(number, number) for number in range(2)]
    embeddings = np.array([ONE, stranger], dtype=np.float32)
    assert [group.members for group in group_sightings(rows, embeddings, embeddings @ embeddings[0])] == [[0], [1]]


def test_without_times_near_duplicates_are_grouped() -> None:
    near = ONE + np.array([0, 0, 0, 0.1])  # cosine 0.995
    further = ONE + np.array([0, 0, 0, 0.5])  # cosine 0.89
    assert grouped([row(0, None), row(1, None), row(2, None)], [ONE, near, further]) == [[0, 1], [2]]
    assert grouped([row(0, 0), row(1, None), row(2, 1)], [ONE, near, further]) == [[0, 1, 2]]
    unknown = [row(number, number, camera=None) for number in range(3)]
    assert grouped(unknown, [ONE, near, further]) == [[0, 1], [2]]


def test_frames_of_one_track_belong_together() -> None:
    video = {"track": "3", "source": "/v.mp4", "frame": 5, "digest": "t"}
    assert grouped([row(0, None, **video), row(1, None, **video)], [ONE, TWO]) == [[0, 1]]
    other = {**video, "source": "/w.mp4", "digest": "u"}
    assert grouped([row(0, None, **video), row(1, None, **other)], [ONE, TWO]) == [[0], [1]]
    unkept = [row(number, None, track="3", source=None, digest=f"{number}") for number in range(2)]
    assert grouped(unkept, [ONE, TWO]) == [[0], [1]]
    passing = [
        row(number, number, **{**video, "track": str(number % 2), "digest": str(number % 2)}) for number in range(4)
    ]
    assert grouped(passing, [ONE] * 4) == [[0, 2], [1, 3]], "the tracker has kept two people apart"
    folder = [row(0, 0, track="3"), row(1, 7200, track="3"), row(2, 0, track="3", source="/b/2.jpg")]
    assert grouped(folder, [ONE, TWO, TWO]) == [[0, 1], [2]]
