"""Rows that several processes embed: files of parts, and one commit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from pclhd import Gallery, GalleryFilter, UserError
from pclhd.data.records import Modality
from pclhd.data.sources import gather_images
from pclhd.gallery.adding import NewImage, parts_of
from pclhd.gallery.parts import add_parts, part_file, plan_of, write_part
from pclhd.gallery.records import Added
from pclhd.gallery.rows import embeddings_of
from pclhd.gallery.store import NARROW_COLUMNS
from tests.gallery.photos import Photos, picture


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pclhd.gallery.adding._PART", 2)


def images_of(folder: Path, modality: Modality = Modality.VISIBLE) -> list[NewImage]:
    return [NewImage(source, modality, "gate") for source in gather_images(folder)]


def add_in_parts(gallery: Gallery, photos: Photos, images: list[NewImage], *, order: int = 1) -> Added:
    """As `Gallery.add` with Ray workers, by this process; parts are embedded in the order that is asked for."""

    def add(_: object) -> Added:
        parts = list(parts_of(images))
        plan = plan_of(parts, model_id=photos.encoder.model_id, keep="both")
        with gallery._store.collecting(plan) as folder:
            files = [part_file(folder, number) for number in range(len(parts))]
            for file, part in list(zip(files, parts, strict=True))[::order]:
                write_part(file, gallery._store, photos.encoder, part, keep="both")
            return add_parts(gallery._store, files)

    return gallery._add(add)


def assert_same(one: Gallery, other: Gallery) -> None:
    """The same rows in the same order, with the same embeddings and thumbnails; only the time of adding differs."""
    rows = [[replace(row, added=None) for row in gallery.rows()] for gallery in (one, other)]  # type: ignore[arg-type]
    assert rows[0] == rows[1]
    columns = [*NARROW_COLUMNS, "thumbnail", "embedding"]
    tables = [gallery._store.select(columns).sort_by("number") for gallery in (one, other)]
    np.testing.assert_allclose(embeddings_of(tables[0]), embeddings_of(tables[1]), atol=1e-6)
    assert tables[0]["thumbnail"].to_pylist() == tables[1]["thumbnail"].to_pylist()


@pytest.mark.parametrize("order", [1, -1])
def test_the_rows_are_those_of_a_plain_add(photos: Photos, tmp_path: Path, order: int) -> None:
    plain, parts = (Gallery(tmp_path / name, encoder=photos.encoder) for name in ("plain", "parts"))
    torn = tmp_path / "photos" / "torn.png"
    torn.parent.mkdir()
    torn.write_bytes((photos.day / "copy.png").read_bytes()[:200])
    images = [*images_of(photos.night, Modality.INFRARED), *images_of(photos.day), *images_of(torn.parent)]
    expected = [plain.add(photos.day, modality="visible", camera="gate"),
                plain.add(torn, modality="visible", camera="gate"),
                plain.add(photos.night, modality="infrared", camera="gate")]  # fmt: skip
    found = add_in_parts(parts, photos, images, order=order)
    # `copy.png` is in another part than the image that it is a copy of.
    assert (found.added, found.present, len(found.broken)) == (9, 1, 1)
    assert found.added == sum(one.added for one in expected)
    assert found.broken == expected[1].broken
    assert_same(plain, parts)
    assert not (parts.path / ".parts").exists()


def test_it_is_one_commit(photos: Photos, tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    gallery.add(photos.night, modality="infrared")
    before = gallery._store.version()
    assert add_in_parts(gallery, photos, images_of(photos.day)).added == 5
    assert gallery._store.version() == before + 1
    # Everything is there: there is nothing to commit.
    again = add_in_parts(gallery, photos, images_of(photos.day))
    assert (again.added, again.present) == (0, 6)
    assert gallery._store.version() == before + 1


def test_a_failed_commit_adds_nothing_and_the_parts_are_used_again(photos: Photos, tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    gallery.add(photos.night, modality="infrared")
    images = images_of(photos.day)
    take, left = "pclhd.gallery.parts._read", []

    def break_off(file: Path) -> None:
        left.append(file)
        raise KeyboardInterrupt

    with mock.patch(take, break_off), pytest.raises(KeyboardInterrupt):
        add_in_parts(gallery, photos, images)
    assert len(gallery) == 4
    assert left[0].exists()
    # Meanwhile one of the images is added in another way, so it is not new any more.
    gallery.add(images[0].source.path or "", modality="visible")
    with mock.patch.object(type(photos.encoder), "embed_pixels", side_effect=AssertionError("embedded again")):
        found = add_in_parts(gallery, photos, images)
    assert (found.added, found.present, len(gallery)) == (4, 2, 9)


def test_another_plan_begins_again(photos: Photos, tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    parts = list(parts_of(images_of(photos.day)))
    name = plan_of(parts, model_id="one", keep="both")
    assert name == plan_of(list(parts_of(images_of(photos.day))), model_id="one", keep="both")
    others = [
        plan_of(parts[:-1], model_id="one", keep="both"),
        plan_of([parts[0] + parts[1], *parts[2:]], model_id="one", keep="both"),
        plan_of(parts, model_id="two", keep="both"),
        plan_of(parts, model_id="one", keep="path"),
        plan_of([[replace(one, camera="yard") for one in part] for part in parts], model_id="one", keep="both"),
    ]
    assert len({name, *others}) == 6
    with gallery._store.writing():
        for plan in (name, others[0]):
            collecting = gallery._store.collecting(plan)
            (collecting.__enter__() / "file").touch()
            assert not collecting.__exit__(OSError, OSError(), None)
    assert [path.name for path in (gallery.path / ".parts").iterdir()] == [others[0]]


@pytest.mark.parametrize("change", ["remove", "remove none", "compact"])
def test_a_removal_leaves_no_embedded_part(photos: Photos, tmp_path: Path, change: str) -> None:
    gallery = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    gallery.add(photos.night, modality="infrared", camera="yard")
    with mock.patch("pclhd.gallery.parts._read", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        add_in_parts(gallery, photos, images_of(photos.day))
    assert list((gallery.path / ".parts").rglob("*.arrow"))
    if change == "compact":
        gallery.compact()
    else:
        gallery.remove(GalleryFilter(camera="yard" if change == "remove" else "nowhere"))
    assert not (gallery.path / ".parts").exists()


def test_nothing_new_and_only_broken(photos: Photos, tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    torn = tmp_path / "photos" / "torn.png"
    picture(torn, 1)
    torn.write_bytes(torn.read_bytes()[:100])
    found = add_in_parts(gallery, photos, images_of(torn.parent))
    assert (found.added, found.present, len(found.broken)) == (0, 0, 1)
    assert len(gallery) == 0
    assert gallery.add(photos.day, modality="visible").added == 5


def test_files_of_parts_in_another_folder(photos: Photos, tmp_path: Path) -> None:
    gallery, elsewhere = Gallery(tmp_path / "gallery", encoder=photos.encoder), tmp_path / "elsewhere"
    with gallery._store.collecting("plan", elsewhere) as folder:
        assert folder == elsewhere / ".parts" / "plan"
        assert folder.is_dir()
    assert list(elsewhere.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"), gallery._store.collecting("plan", tmp_path / "file"):
        pass
    seen: list[object] = []

    def embed(*_: object, parts_in: Path, **__: object) -> Added:
        seen.append(parts_in)
        return Added(0, 0, ())

    with mock.patch("pclhd.gallery.gallery.add_with_ray", embed), mock.patch("pclhd.gallery.gallery.load_ray"):
        gallery.add(photos.day, modality="visible", ray_workers=2, parts=elsewhere)
    assert seen == [elsewhere]
