"""Damaged files of a gallery: one line that names it, whatever LanceDB says, and nothing is changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pclhd import Gallery, GalleryFilter, UserError
from pclhd.gallery.facts import GalleryFacts, SavedIndex, checked_fact
from pclhd.gallery.places import Folder
from pclhd.gallery.store import Store
from pclhd.gallery.trouble import explaining, explaining_place
from tests.fuzz.further import ROW_CHANGES, change_rows, write_facts
from tests.gallery.photos import Photos

Work = Callable[[Gallery, Path], object]
INDEX = {"rows": 9, "partitions": 3, "probes": 1, "recall": 1.0, "queries": 9}


@pytest.fixture
def gallery(photos: Photos, tmp_path: Path) -> Gallery:
    made = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    made.add(photos.night, modality="infrared", camera="yard")
    return made


def again(gallery: Gallery, photos: Photos) -> Gallery:
    """The gallery as another process would open it."""
    return Gallery(gallery.path, encoder=photos.encoder)


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.rglob("*") if file.is_file()}


#: Damages of `change_rows` that are seen in values, when rows are listed, searched or compared. Those in `SEARCHED` are
#: seen in embeddings alone, and those in `SOUND` look like data; all others are columns that no gallery has.
VALUES = {"id nulls", "modality nulls", "modality text", "time times", "added nulls", "added times"}
SEARCHED = {"embedding inf"}
SOUND = {
    *("time nulls", "id text", "camera text", "source text", "frame numbers", "number numbers", "thumbnail bytes"),
    *("embedding zero", "embedding huge"),
}
LISTS: Work = lambda one, _: list(one.rows())  # noqa: E731
COMPARES: Work = lambda one, image: one.like(image, modality="infrared", similarity=0.5)  # noqa: E731
SEARCHES: Work = lambda one, image: one.search(image, modality="infrared")  # noqa: E731
REMOVES: Work = lambda one, _: one.remove(GalleryFilter(camera="yard"))  # noqa: E731
COMPACTS: Work = lambda one, _: one.compact()  # noqa: E731


@pytest.mark.parametrize("change", sorted(set(ROW_CHANGES) - SOUND))
def test_rows_that_no_gallery_holds(photos: Photos, gallery: Gallery, change: str) -> None:
    change_rows(gallery.path, change)
    before = content(gallery.path)
    works = [COMPARES] if change in SEARCHED else [LISTS, SEARCHES]
    works += [] if change in SEARCHED | VALUES else [REMOVES, COMPACTS]
    for work in works:
        with pytest.raises(UserError, match=r"gallery: is damaged \(.*\); restore the folder from a copy"):
            work(again(gallery, photos), photos.night / "n0.png")
        assert content(gallery.path) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gallery", "{"),
        ("gallery", "[" * 3000),
        ("gallery", "[]"),
        (
            "gallery",
            json.dumps({"schema_version": 1, "model_id": 3, "embedding_size": 8, "model": None, "created": ""}),
        ),
        ("gallery", json.dumps({"schema_version": 1})),
        ("last_number", '"x"'),
        ("last_number", "-1"),
        ("last_number", str(10**30)),
        ("purging", "NaN"),
    ],
)
def test_facts_that_no_gallery_writes(photos: Photos, gallery: Gallery, name: str, text: str) -> None:
    facts = {"gallery": json.dumps(Store(gallery.path).fact("gallery")), name: text}
    write_facts(gallery.path, facts)
    with pytest.raises(UserError, match=r"gallery: is damaged \(.*\); restore the folder"):
        again(gallery, photos).add(photos.day, modality="visible")


@pytest.mark.parametrize(
    "changes",
    [
        {"probes": 0},
        {"filtered_recall": -1.0},
        {"rows": 2**40},
        {"recall": 2.0},
        {"queries": "9"},
        {"partitions": None},
    ],
)
def test_facts_of_an_index(changes: dict[str, Any]) -> None:
    later = {"filtered_probes": None, "filtered_recall": None}
    assert checked_fact(SavedIndex, INDEX, "people").model_dump() == INDEX | later
    with pytest.raises(UserError, match="is damaged"):
        checked_fact(SavedIndex, {**INDEX, **changes}, "people")
    with pytest.raises(UserError, match="is damaged"):
        checked_fact(GalleryFacts, None, "people")


@pytest.mark.parametrize("damage", ["cut", "emptied", "gone", "pipe", "device"])
def test_files_of_lancedb(photos: Photos, gallery: Gallery, damage: str) -> None:
    (file,) = (gallery.path / "images.lance" / "data").iterdir()
    whole = file.read_bytes()
    file.unlink()
    if damage in ("cut", "emptied"):
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    elif damage == "pipe":
        os.mkfifo(file)
    elif damage == "device":
        file.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"gallery: is damaged \(.*\); restore the folder"):
        again(gallery, photos).search(photos.night / "n0.png", modality="infrared")


class PanicException(BaseException):
    """What pyo3 raises where Rust panics."""


def test_panics_are_damage_and_an_interruption_is_none(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    with pytest.raises(UserError, match=r"is damaged \(index out of bounds"), explaining(place, writes=False):
        raise PanicException("index out\nof bounds: the len is 3")
    with pytest.raises(KeyboardInterrupt), explaining(place, writes=True):
        raise KeyboardInterrupt
    with pytest.raises(MemoryError), explaining(place, writes=True):
        raise MemoryError
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied"), explaining(place, writes=False):
        raise RuntimeError("lance error: Permission denied (os error 13)")
    with pytest.raises(ValueError, match="ours"), explaining_place(place):
        raise ValueError("ours")


def test_a_gallery_that_could_not_be_begun_leaves_nothing(photos: Photos, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"")
    (tmp_path / "boxes.txt").write_text("1,1,0,0,8,8\n")
    new = Gallery(tmp_path / "new" / "people", encoder=photos.encoder)
    with pytest.raises(UserError, match=r"film\.mp4"):
        new.add_video(tmp_path / "film.mp4", tmp_path / "boxes.txt", modality="visible")
    assert not (tmp_path / "new").exists()
