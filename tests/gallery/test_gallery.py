"""A gallery from Python: add, search, list, count, remove."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

import pclhd
from pclhd import Calibration, Gallery, GalleryFilter, UserError
from pclhd.data.records import Modality
from pclhd.gallery.filters import ids_among
from pclhd.gallery.records import GalleryHit
from pclhd.gallery.rows import embeddings_of
from pclhd.gallery.verdict import judge
from pclhd.models.encoder import Encoder
from tests.gallery.photos import Photos, picture
from tests.models.small import SMALL_BASIC, stirred

MARCH = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def gallery(photos: Photos, tmp_path: Path) -> Gallery:
    """Five day images of the camera `gate`, a day apart, and four night images of the camera `yard`."""
    made = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    dated = sorted(photos.day.glob("2026*.png"))
    made.add(dated, modality="visible", camera="gate", time="%Y%m%d_%H%M%S")
    made.add(photos.night, modality="infrared", camera="yard")
    return made


def traces(folder: Path, *needles: bytes) -> list[Path]:
    """Files that hold one of some byte strings, in content or name."""
    return [
        path
        for path in folder.rglob("*")
        if any(needle in os.fsencode(path.name) for needle in needles)
        or (path.is_file() and any(needle in path.read_bytes() for needle in needles))
    ]


# Adding.


def test_a_row_says_what_was_given(photos: Photos, gallery: Gallery) -> None:
    rows = list(gallery.rows())
    assert [row.number for row in rows] == list(range(1, 10))
    assert [row.camera for row in rows] == ["gate"] * 5 + ["yard"] * 4
    assert [row.modality for row in rows] == [Modality.VISIBLE] * 5 + [Modality.INFRARED] * 4
    assert [row.time for row in rows] == [MARCH + timedelta(days=day) for day in range(5)] + [None] * 4
    assert rows[0].source == (photos.day / "20260301_120000.png").as_posix()
    assert len({row.id for row in rows}) == 9
    assert json.loads(json.dumps(rows[0].to_dict()))["time"] == "2026-03-01T12:00:00+00:00"
    jpeg = gallery.thumbnail(rows[0].id)
    assert jpeg is not None
    assert Image.open(io.BytesIO(jpeg)).size == (24, 48)
    assert gallery.thumbnail("0" * 32) is None


def test_embeddings_are_those_of_the_encoder(photos: Photos, gallery: Gallery) -> None:
    embeddings = photos.encoder.embed(photos.night, modality="infrared")
    for vector, path in zip(embeddings.features, embeddings.paths, strict=True):
        (hit,) = gallery.search_embedding(vector, modality="infrared", top=1)
        assert hit.row.source == str(path)
        assert hit.similarity == pytest.approx(1, abs=1e-5)


def test_the_same_image_twice_is_one_row(photos: Photos, tmp_path: Path) -> None:
    made = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    first = made.add(photos.day, modality="visible")
    assert (first.added, first.present, first.broken) == (5, 1, ())
    again = made.add([photos.day / "copy.png", photos.day], modality="visible", camera="other")
    assert (again.added, again.present) == (0, 7)
    assert len(made) == 5
    # The other modality has another embedding.
    assert made.add(photos.day / "copy.png", modality="infrared").added == 1
    content = (photos.day / "copy.png").read_bytes()
    assert made.add(content, modality="visible").present == 1


def test_the_same_image_in_two_parts_that_follow_each_other(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pclhd.gallery.adding._PART", 2)
    made = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    files = sorted(photos.day.glob("2026*.png"))
    done: list[tuple[int, int]] = []
    found = made.add([*files, *files, files[0]], modality="visible", on_progress=lambda *one: done.append(one))
    assert (found.added, found.present) == (5, 6)
    assert done == [(2, 11), (4, 11), (6, 11), (8, 11), (10, 11), (11, 11)]


def test_images_in_memory(photos: Photos, tmp_path: Path) -> None:
    made = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8)
    assert made.add([pixels, Image.fromarray(pixels), pixels[:, ::-1]], modality="visible").added == 2
    assert [row.source for row in made.rows()] == [None, None]


@pytest.mark.parametrize(("keep", "source", "thumbnail"), [("path", True, False), ("thumbnail", False, True)])
def test_what_is_kept(photos: Photos, tmp_path: Path, keep: str, source: bool, thumbnail: bool) -> None:
    made = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    made.add(photos.night / "n0.png", modality="infrared", keep=keep)  # type: ignore[arg-type]
    (row,) = made.rows()
    assert (row.source is not None, made.thumbnail(row.id) is not None) == (source, thumbnail)
    assert bool(traces(made.path, b"n0.png")) == source


def test_broken_images_are_left_out(photos: Photos, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(photos.night, folder)
    (folder / "n1.png").write_bytes((folder / "n1.png").read_bytes()[:100])
    (folder / "n2.png").write_bytes(b"")
    made = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    found = made.add([*sorted(folder.iterdir())], modality="infrared")
    assert found.added == 2
    assert ["n1.png" in found.broken[0], "n2.png" in found.broken[1]] == [True, True]
    none = made.add(folder / "n1.png", modality="infrared")
    assert (none.added, len(none.broken)) == (0, 1)


def test_times(photos: Photos, tmp_path: Path) -> None:
    made = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    exif = Image.Exif()
    exif[306] = "2026:03:01 12:00:00"
    path = picture(tmp_path / "a.jpg", 77)
    Image.open(path).save(path, exif=exif)
    os.utime(path, (0, MARCH.timestamp() + 1))
    for time, number in (("exif", 0), ("modified", 1), ("2026-03-01T14:00:02+02:00", 2), (MARCH, 0), (None, None)):
        made.add(path, modality="visible", time=time)
        (row,) = made.rows()
        assert row.time == (None if number is None else MARCH + timedelta(seconds=number))
        made.remove(GalleryFilter(modality="visible"))
    assert "does not have the pattern" in made.add(path, modality="visible", time="%Y").broken[0]
    made.add(photos.night / "n0.png", modality="infrared", time="exif")
    assert [row.time for row in made.rows()] == [None]
    with pytest.raises(UserError, match="time=yesterday: is not a time"):
        made.add(path, modality="visible", time="yesterday")


def test_mistakes_leave_no_gallery(photos: Photos, tmp_path: Path) -> None:
    path = tmp_path / "gallery"
    made = Gallery(path, encoder=photos.encoder)
    with pytest.raises(UserError, match="no such file"):
        made.add(tmp_path / "nothing", modality="visible")
    with pytest.raises(ValueError, match="red"):
        made.add(photos.day, modality="red")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="keep=all"):
        made.add(photos.day, modality="visible", keep="all")  # type: ignore[arg-type]
    image = photos.day / "copy.png"
    for look in (made.stats, lambda: list(made.rows()), lambda: made.search(image, modality="visible"),
                 lambda: made.remove(GalleryFilter(camera="x")), made.compact):  # fmt: skip
        with pytest.raises(UserError, match="no gallery there"):
            look()
    assert (len(made), made.exists(), made.count(GalleryFilter(camera="x"))) == (0, False, 0)
    assert made.thumbnail("0" * 32) is None
    with pytest.raises(UserError, match="model: is missing"):
        Gallery(path).add(photos.day, modality="visible")
    assert not path.exists()
    with pytest.raises(UserError, match="is a file"):
        Gallery(photos.model)
    with pytest.raises(UserError, match="something else"):
        Gallery(photos.root)
    with pytest.raises(
        UserError, match="gs://bucket/people: is an address; a gallery is a folder, or s3://BUCKET/NAME"
    ):
        Gallery("gs://bucket/people")


def test_another_model_is_refused(photos: Photos, gallery: Gallery, tmp_path: Path) -> None:
    other = Encoder(stirred(SMALL_BASIC, 1), photos.encoder.preprocessing, device="cpu")
    for use in (
        lambda: Gallery(gallery.path, encoder=other).add(photos.day, modality="visible"),
        lambda: Gallery(gallery.path, encoder=other).search(photos.day / "copy.png", modality="visible"),
    ):
        with pytest.raises(UserError, match="was made with another model"):
            use()
    assert len(gallery) == 9
    # Without a model, it is the one that the gallery knows.
    (hit,) = Gallery(gallery.path, device="cpu").search(photos.night / "n1.png", modality="infrared", top=1)
    assert hit.row.source == str(photos.night / "n1.png")


def test_a_model_that_has_moved(photos: Photos, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    shutil.copy(photos.model, model)
    Gallery(tmp_path / "gallery", encoder=model, device="cpu").add(photos.night, modality="infrared")
    moved = model.rename(tmp_path / "moved.safetensors")
    with pytest.raises(UserError, match=r"no longer at .*model.safetensors; name the run"):
        Gallery(tmp_path / "gallery").search(photos.night / "n1.png", modality="infrared")
    assert Gallery(tmp_path / "gallery", encoder=moved).search(photos.night / "n1.png", modality="infrared")
    Gallery(tmp_path / "gallery", encoder=moved).add(photos.day, modality="visible")
    assert Gallery(tmp_path / "gallery").stats().model == str(moved)
    assert Gallery(tmp_path / "gallery").search(photos.night / "n1.png", modality="infrared")


# Searching.


def test_filters_come_before_the_search(photos: Photos, gallery: Gallery) -> None:
    image = photos.day / "20260301_120000.png"
    assert {hit.row.camera for hit in gallery.search(image, modality="visible", group=False)} == {"gate", "yard"}
    for where, expected in (
        (GalleryFilter(camera="yard"), 4),
        (GalleryFilter(modality="visible"), 5),
        (GalleryFilter(source="*/n[01].png"), 2),
        (GalleryFilter(since=MARCH + timedelta(days=1), until=MARCH + timedelta(days=2)), 2),
        (GalleryFilter(camera="nowhere"), 0),
    ):
        assert len(gallery.search(image, modality="visible", where=where, group=False, top=4)) == min(4, expected)
        assert gallery.count(where) == len(list(gallery.rows(where))) == expected


def test_ranks_and_order_are_those_of_a_plain_search(photos: Photos, gallery: Gallery) -> None:
    together = [
        photos.encoder.embed(sorted(photos.day.glob("2026*.png")), modality="visible"),
        photos.encoder.embed(photos.night, modality="infrared"),
    ]
    features = np.concatenate([one.features for one in together])
    paths = [str(path) for one in together for path in one.paths]
    for path in (photos.day / "copy.png", photos.night / "n3.png"):
        light: Modality = Modality.VISIBLE if "day" in str(path) else Modality.INFRARED
        query = photos.encoder.embed(path, modality=light)
        expected = pclhd.search(query, features, top=9)[0]
        hits = gallery.search(path, modality=light, group=False, top=20)
        assert [hit.row.source for hit in hits] == [paths[one.row] for one in expected]
        assert [hit.rank for hit in hits] == list(range(1, 10))
        assert [hit.similarity for hit in hits] == pytest.approx([one.similarity for one in expected], abs=1e-5)


def test_searching_with_mistakes(photos: Photos, gallery: Gallery) -> None:
    with pytest.raises(UserError, match="stands for 4 images"):
        gallery.search(photos.night, modality="infrared")
    with pytest.raises(UserError, match="top=0"):
        gallery.search(photos.night / "n0.png", modality="infrared", top=0)
    with pytest.raises(UserError, match="gap"):
        gallery.search(photos.night / "n0.png", modality="infrared", gap=timedelta(seconds=-1))
    with pytest.raises(ValueError, match="one vector"):
        gallery.search_embedding(np.zeros(16), modality="infrared")


def calibrated(gallery: Gallery, *, rates: tuple[float, float] = (0.001, 0.5)) -> Calibration:
    """A calibration of infrared queries among visible images only."""
    direction = {
        "query": "infrared", "gallery": "visible", "method": "logistic", "log_loss": {}, "queries": 10,
        "same_pairs": 10, "different_pairs": 10, "same_per_query": 2.0, "similarity": [-1.0, 1.0],
        "log_likelihood_ratio": [-2.0, 2.0], "sizes": [1], "rates": list(rates), "thresholds": [[0.9, 0.9]],
    }  # fmt: skip
    return Calibration.model_validate(
        {"model_id": gallery.encoder.model_id, "source": "labelled images", "directions": [direction]}
    )


def test_a_calibration_gives_probabilities_by_the_size_of_the_gallery(photos: Photos, gallery: Gallery) -> None:
    image = photos.night / "n0.png"
    assert {hit.probability for hit in gallery.search(image, modality="infrared")} == {None}
    gallery.calibration = calibrated(gallery)
    for hit in gallery.search(image, modality="infrared"):
        if hit.row.modality is Modality.INFRARED:
            assert hit.probability is None  # a direction that was not measured
        else:
            odds = np.exp(2 * hit.similarity) * 2 / 3  # two of five images, by Bayes' rule
            assert hit.probability == pytest.approx(odds / (1 + odds))
        assert hit.to_dict()["probability"] == hit.probability


def test_the_verdict(photos: Photos, gallery: Gallery) -> None:
    image, where = photos.night / "n0.png", GalleryFilter(modality="visible")
    hits = gallery.search(image, modality="infrared", where=where)
    unknown = gallery.judge(hits, modality="infrared", where=where)
    assert (unknown.no_one_here, unknown.threshold, set(unknown.above)) == (None, None, {None})
    assert "pclhd calibrate" in unknown.unknown
    gallery.calibration = calibrated(gallery)
    similar = [replace(hits[0], similarity=0.95), replace(hits[1], similarity=0.89)]
    found = gallery.judge(similar, modality="infrared")
    assert (found.no_one_here, found.above) == (False, (True, False))
    assert found.threshold == pytest.approx(0.9)
    assert gallery.judge(similar[1:], modality="infrared").no_one_here is True
    assert gallery.judge([], modality="infrared").no_one_here is True
    # A rate that cannot be measured, and a hit of a direction that was not measured: "no one" is not claimed.
    assert gallery.judge(similar, modality="infrared", false_match_rate=1e-5).no_one_here is None
    mixed = [replace(gallery.search(image, modality="infrared")[0], similarity=0.5), similar[1]]
    assert mixed[0].row.modality is Modality.INFRARED
    assert gallery.judge(mixed, modality="infrared").no_one_here is None


def test_the_calibration_is_that_of_the_run_of_the_model(photos: Photos, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(photos.model, run / "model.safetensors")
    (run / "config.yaml").write_text("preset: tiny\n")
    made = Gallery(tmp_path / "gallery", encoder=run)
    assert made.calibration is None  # there is no gallery yet
    made.add(photos.night, modality="infrared")
    assert Gallery(tmp_path / "gallery").calibration is None
    file = run / "calibration.json"
    file.write_text(calibrated(made).model_dump_json())
    assert Gallery(tmp_path / "gallery").calibration == calibrated(made)
    assert Gallery(tmp_path / "gallery", encoder=run / "model.safetensors").calibration == calibrated(made)
    file.write_text(calibrated(made).model_copy(update={"model_id": "0" * 64}).model_dump_json())
    assert Gallery(tmp_path / "gallery").calibration is None
    file.write_text("{")
    with pytest.raises(UserError, match="calibrate"):
        _ = Gallery(tmp_path / "gallery").calibration


def test_stats(photos: Photos, gallery: Gallery) -> None:
    found = gallery.stats()
    assert (found.rows, found.modalities, found.cameras) == (9, {"infrared": 4, "visible": 5}, {"gate": 5, "yard": 4})
    assert (found.first, found.last) == (MARCH, MARCH + timedelta(days=4))
    assert (found.model_id, found.model) == (photos.encoder.model_id, str(photos.model))
    assert found.bytes == sum(path.stat().st_size for path in gallery.path.rglob("*") if path.is_file())
    assert (found.index, found.unfinished) == (None, False)
    assert json.loads(json.dumps(found.to_dict()))["cameras"][0] == {"camera": "gate", "rows": 5}


# Removing.


def test_removing_leaves_no_byte(gallery: Gallery) -> None:
    row = next(iter(gallery.rows()))
    jpeg = gallery.thumbnail(row.id)
    assert jpeg is not None
    vector = embeddings_of(gallery._store.select(["embedding"], ids_among([row.id])))[0]
    needles = (
        b"20260301_120000.png",
        jpeg[-60:],
        struct.pack("<8f", *vector[:8]),
        row.id.encode(),
        row.digest.encode(),
    )
    assert [bool(traces(gallery.path, needle)) for needle in needles] == [True] * 5, "all would be found"
    removed = gallery.remove(GalleryFilter(source="*/20260301_120000.png"))
    assert (removed.removed, removed.left) == (1, 8)
    assert not traces(gallery.path, *needles)
    assert row.id not in {one.id for one in gallery.rows()}
    assert [one.number for one in gallery.rows()] == list(range(2, 10)), "the others keep their order"


@pytest.mark.parametrize(
    ("where", "left"),
    [
        (GalleryFilter(camera="gate"), 4),
        (GalleryFilter(camera="gate", until=MARCH + timedelta(days=1)), 7),
        (GalleryFilter(since=MARCH), 4),
        (GalleryFilter(modality="infrared"), 5),
        (GalleryFilter(camera=["gate", "yard"]), 0),
        (GalleryFilter(camera="elsewhere"), 9),
    ],
)
def test_removing_by_filter(gallery: Gallery, where: GalleryFilter, left: int) -> None:
    removed = gallery.remove(where)
    assert (removed.removed, removed.left) == (9 - left, left)
    assert len(gallery) == left == gallery.stats().rows


def test_removing_by_track(photos: Photos, gallery: Gallery) -> None:
    gallery.add(photos.day / "copy.png", modality="infrared", track="7")
    assert gallery.remove(GalleryFilter(track="7")).removed == 1


def test_removing_what_looks_like_an_image(photos: Photos, gallery: Gallery) -> None:
    image = photos.night / "n2.png"
    hits = gallery.search(image, modality="infrared", group=False, top=9)
    least = (hits[2].similarity + hits[3].similarity) / 2
    alike = gallery.like(image, modality="infrared", similarity=least)
    assert [hit.row.id for hit in alike] == [hit.row.id for hit in hits[:3]]
    assert gallery.remove_like(image, modality="infrared", similarity=least).removed == 3
    assert {row.id for row in gallery.rows()} == {hit.row.id for hit in hits[3:]}
    assert gallery.remove_like(image, modality="infrared", similarity=1).removed == 0
    with pytest.raises(UserError, match="similarity=2"):
        gallery.remove_like(image, modality="infrared", similarity=2)


def test_removing_everything_by_accident(gallery: Gallery) -> None:
    with pytest.raises(UserError, match="is empty"):
        gallery.remove(GalleryFilter())
    assert len(gallery) == 9


def test_numbers_are_not_used_again(photos: Photos, gallery: Gallery) -> None:
    gallery.remove(GalleryFilter(camera=["gate", "yard"]))
    gallery.add(photos.night, modality="infrared")
    assert [row.number for row in gallery.rows()] == [10, 11, 12, 13]
    assert [row.number for row in gallery.rows(after=11)] == [12, 13]


def test_expiring(gallery: Gallery) -> None:
    age = datetime.now(UTC) - (MARCH + timedelta(days=2, hours=1))
    assert gallery.expire(age).removed == 3
    # Images without a time have just been added.
    assert gallery.expire(timedelta(hours=1)).removed == 2
    assert gallery.expire(timedelta()).removed == 4
    assert (len(gallery), gallery.search_embedding(np.ones(16), modality="visible")) == (0, [])


def test_files_that_a_killed_writer_had_not_finished_are_removed(gallery: Gallery) -> None:
    table = gallery.path / "images.lance"
    unfinished = [table / "data" / ".tmpedALD3", table / "_versions" / "18446744073709551507.manifest#1"]
    for file in unfinished:
        file.write_bytes(b"of a row")
    rows = list(gallery.rows())
    gallery.compact()
    assert not any(file.exists() for file in unfinished)
    assert list(gallery.rows()) == rows


def test_compacting_changes_nothing_but_files(gallery: Gallery) -> None:
    before = list(gallery.rows())
    assert gallery.compact() is None
    assert list(gallery.rows()) == before
    assert len(list((gallery.path / "images.lance" / "data").iterdir())) == 1


def test_a_second_writer_is_refused_and_readers_are_not(photos: Photos, gallery: Gallery) -> None:
    with gallery._store.writing():
        for write in (
            lambda: Gallery(gallery.path, encoder=photos.encoder).add(photos.day, modality="infrared"),
            lambda: gallery.remove(GalleryFilter(camera="gate")),
            gallery.compact,
        ):
            with pytest.raises(UserError, match="is being written by another pclhd"):
                write()
        assert len(Gallery(gallery.path)) == 9
        assert gallery.search(photos.day / "copy.png", modality="visible")
    assert gallery.remove(GalleryFilter(camera="gate")).removed == 5


def test_readers_see_each_change(photos: Photos, gallery: Gallery) -> None:
    reader = Gallery(gallery.path, encoder=photos.encoder)
    assert len(reader) == 9
    gallery.remove(GalleryFilter(camera="gate"))
    assert {hit.row.camera for hit in reader.search(photos.day / "copy.png", modality="visible")} == {"yard"}
    gallery.add(photos.day, modality="visible", camera="gate")
    assert reader.count(GalleryFilter(camera="gate")) == 5


def test_searching_while_another_process_would_write(photos: Photos, gallery: Gallery) -> None:
    """Readers hold no lock: files may vanish under them, and then they read again."""
    stop, failures, searches = threading.Event(), [], 0
    query = photos.encoder.embed(photos.night / "n0.png", modality="infrared").features[0]

    def read() -> None:
        nonlocal searches
        reader = Gallery(gallery.path, encoder=photos.encoder)
        while not stop.is_set():
            try:
                hits = reader.search_embedding(query, modality="infrared", group=False)
                assert {"n0.png"} <= {Path(hit.row.source or "").name for hit in hits}
                searches += 1
            except Exception as error:
                failures.append(error)
                return

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(4):
            gallery.remove(GalleryFilter(camera="gate"))
            gallery.add(photos.day, modality="visible", camera="gate")
    finally:
        stop.set()
        thread.join()
    assert not failures
    assert searches > 0


def test_a_calibration_of_few_images_gives_a_verdict_at_the_rate_that_it_can_measure() -> None:
    # Of twenty queries, a share of 5 % is one query: 1 % cannot be measured.
    direction = {
        "query": "infrared", "gallery": "visible", "method": "logistic", "log_loss": {}, "queries": 20,
        "same_pairs": 10, "different_pairs": 10, "same_per_query": 1.0, "similarity": [0.0, 1.0],
        "log_likelihood_ratio": [-5.0, 5.0], "sizes": [1], "rates": [0.05, 0.5], "thresholds": [[0.9, 0.5]],
    }  # fmt: skip
    calibration = Calibration.model_validate({"model_id": "m", "source": "pseudo labels", "directions": [direction]})
    row = mock.Mock(modality=Modality.VISIBLE)
    hits = [GalleryHit(1, 0.8, row)]
    found = judge(hits, calibration, Modality.INFRARED, false_match_rate=None, size_of=lambda _: 1)
    assert (found.no_one_here, found.false_match_rate) == (True, 0.05)
    assert found.threshold == pytest.approx(0.9)
    asked = judge(hits, calibration, Modality.INFRARED, false_match_rate=0.01, size_of=lambda _: 1)
    assert asked.no_one_here is None


@pytest.mark.slow
def test_what_lancedb_remembers_does_not_grow_with_changes(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each version LanceDB keeps about 50 KiB in memory, also once the version is gone."""
    lancedb = pytest.importorskip("lancedb")
    sessions: list[Any] = []
    make = lancedb.Session

    def remember(**settings: int) -> Any:
        sessions.append(make(**settings))
        return sessions[-1]

    monkeypatch.setattr(lancedb, "Session", remember)
    gallery = Gallery(tmp_path / "people", encoder=photos.encoder)
    sizes = []
    for number in range(75):
        gallery.add(np.full((20, 10, 3), number, np.uint8), modality="visible", keep="thumbnail")
        sizes.append(sum(session.size_bytes for session in sessions[-2:]))  # of images and of facts
    assert len(gallery) == 75
    assert max(sizes[40:]) < 1.4 * max(sizes[:40]), "a merge of small files, every 33 additions, ends it"
