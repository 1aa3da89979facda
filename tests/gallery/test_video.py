"""A drawn video of two cameras: three people walk past the first, one of them again past the second, in infrared."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pclhd import Gallery, GalleryFilter, UserError
from pclhd.models.encoder import Encoder
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.weights import load_model
from pclhd.weights import starter_path
from tests.commands import Call, complaint
from tests.gallery.photos import Photos

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RATE, SIZE, PERSON = 10, (64, 160), (48, 20)
COLOURS = {
    "1": ((230, 30, 30), (30, 30, 220)),
    "2": ((30, 200, 40), (240, 220, 40)),
    "3": ((20, 20, 20), (250, 250, 250)),
}


@dataclass(frozen=True)
class Film:
    """A video and the boxes of its people."""

    video: Path
    boxes: Path


def draw(path: Path, walks: dict[str, tuple[int, int]], frames: int, *, grey: bool = False) -> Film:
    """People walk through the picture from the left, each between two frames."""
    lines = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        stream.bit_rate = 4_000_000
        for frame in range(frames):
            picture = np.full((*SIZE, 3), 128, dtype=np.uint8)
            for name, (begin, end) in walks.items():
                if not begin <= frame < end:
                    continue
                left = 4 + (frame - begin) * (SIZE[1] - PERSON[1] - 8) // (end - begin)
                picture[8 : 8 + PERSON[0], left : left + PERSON[1]] = person(name)
                lines.append(f"{frame + 1},{name},{left},8,{PERSON[1]},{PERSON[0]},1,-1,-1,-1")
            if grey:
                picture[:] = picture.mean(axis=2, keepdims=True)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    boxes = path.with_suffix(".txt")
    boxes.write_text("\n".join(lines) + "\n")
    return Film(path, boxes)


def person(name: str) -> NDArray[np.uint8]:
    above, below = COLOURS[name]
    crop = np.empty((*PERSON, 3), dtype=np.uint8)
    crop[: PERSON[0] // 2], crop[PERSON[0] // 2 :] = above, below
    return crop


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Film, Film]:
    folder = tmp_path_factory.mktemp("films")
    return (
        draw(folder / "day.mp4", {"1": (0, 20), "2": (5, 30), "3": (28, 40)}, 40),
        draw(folder / "night.mp4", {"1": (3, 23)}, 25, grey=True),
    )


def test_two_cameras(films: tuple[Film, Film], tmp_path: Path) -> None:
    # A network that can tell colours apart.
    trained = Encoder(load_model(starter_path()), Preprocessing(96, 48), device="cpu")
    gallery = Gallery(tmp_path / "gallery", encoder=trained)
    day, night = films
    done: list[tuple[int, int]] = []
    found = gallery.add_video(day.video, day.boxes, modality="visible", camera="gate", start=NOON,
                              on_progress=lambda *one: done.append(one))  # fmt: skip
    assert done[-1] == (40, 40)
    assert found.broken == ()
    assert found.added == len(gallery) >= 3
    gallery.add_video(night.video, night.boxes, modality="infrared", camera="yard", start="2026-03-01T22:00:00")
    rows = list(gallery.rows())
    assert {row.track for row in rows if row.camera == "gate"} == {"1", "2", "3"}
    for row in rows:
        begin = {"gate": NOON, "yard": NOON + timedelta(hours=10)}[row.camera or ""]
        assert row.frame is not None
        assert row.time == begin + timedelta(seconds=row.frame / RATE)
        assert row.source == str((day if row.camera == "gate" else night).video)
    # The thumbnail is the crop itself, up to what the video's compression changed.
    three = next(row for row in rows if row.track == "3")
    jpeg = gallery.thumbnail(three.id)
    assert jpeg is not None
    shown = np.asarray(Image.open(io.BytesIO(jpeg)), dtype=np.int64)
    assert shown.shape == (*PERSON, 3)
    assert np.abs(shown - person("3")).mean() < 12
    # Who is looked for is found, once, with the frames of the track.
    query = Image.fromarray(person("2"))
    best = gallery.search(query, modality="visible", where=GalleryFilter(camera="gate"))
    assert best[0].row.track == "2"
    assert len(best) == 3
    assert gallery.remove(GalleryFilter(source=str(day.video))).removed == found.added


def test_adding_twice_and_after_an_interruption(
    photos: Photos, films: tuple[Film, Film], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pclhd.gallery.video._BATCH", 2)
    gallery = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    day = films[0]

    def stop(done: int, total: int) -> None:
        if done == 34:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gallery.add_video(day.video, day.boxes, modality="visible", on_progress=stop)
    kept = {row.track for row in gallery.rows()}
    assert kept == {"1", "2"}
    again = gallery.add_video(day.video, day.boxes, modality="visible")
    assert again.present == 2
    assert {row.track for row in gallery.rows()} == {"1", "2", "3"}
    assert gallery.add_video(day.video, day.boxes, modality="visible").added == 0
    whole = Gallery(tmp_path / "whole", encoder=photos.encoder)
    whole.add_video(day.video, day.boxes, modality="visible")
    assert {row.id for row in whole.rows()} == {row.id for row in gallery.rows()}


def test_how_many_rows_and_crops(photos: Photos, films: tuple[Film, Film], tmp_path: Path) -> None:
    day = films[0]
    for per_track in (1, 4):
        gallery = Gallery(tmp_path / f"gallery{per_track}", encoder=photos.encoder)
        gallery.add_video(day.video, day.boxes, modality="visible", per_track=per_track, per_second=2, keep="path")
        rows = list(gallery.rows())
        assert 3 <= len(rows) <= 3 * per_track
        assert {row.frame for row in rows if row.track == "1"} <= {0, 5, 10, 15}
        assert gallery.thumbnail(rows[0].id) is None
        assert rows[0].time is None


def test_boxes_outside(photos: Photos, films: tuple[Film, Film], tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("1,1,-10,8,30,48\n1,2,500,8,20,48\n99,3,4,8,20,48\n")
    gallery = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    found = gallery.add_video(films[0].video, boxes, modality="visible")
    assert found.added == 1
    assert "1 boxes are in frames after the last one, number 39" in found.broken[0]
    assert "1 boxes are outside the picture" in found.broken[1]


def test_mistakes(pclhd: Call, photos: Photos, films: tuple[Film, Film], tmp_path: Path) -> None:
    words = (
        "gallery",
        "add",
        tmp_path / "gallery",
        "--model",
        photos.model,
        "--modality",
        "visible",
        "--device",
        "cpu",
    )
    day = films[0]
    text = tmp_path / "no.mp4"
    text.write_text("not a video")
    for more, said in (
        ((text, "--boxes", day.boxes), "no.mp4: cannot be decoded as a video"),
        ((tmp_path / "missing.mp4", "--boxes", day.boxes), "missing.mp4: cannot be read"),
        ((day.video, "--boxes", text), "no.mp4: has no column"),
        ((day.video, day.video, "--boxes", day.boxes), "goes with one video"),
        ((day.video, "--boxes", day.boxes, "--start", "noon"), "--start noon: is not a time"),
        ((day.video, "--boxes", day.boxes, "--time", "exif"), "--time: does not go with --boxes"),
        ((day.video, "--boxes", day.boxes, "--per-second", "0"), "--per-second 0.0: must be above 0"),
        ((photos.day, "--start", "2026-03-01"), "--start 2026-03-01: goes with --boxes"),
    ):
        assert said in complaint(pclhd(*words, *more))
    assert not (tmp_path / "gallery" / "images.lance").exists()
    made = pclhd(*words, day.video, "--boxes", day.boxes, "--start", "2026-03-01T12:00", "--per-track", 1)
    assert made.out == f"{tmp_path / 'gallery'}: 3 rows added, 0 tracks were there\n"
    with pytest.raises(UserError, match="per_track=0"):
        Gallery(tmp_path / "gallery").add_video(day.video, day.boxes, modality="visible", per_track=0)
