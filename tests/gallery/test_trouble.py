"""A disk that is full, or read-only: one line, and nothing is lost."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pclhd import Gallery, GalleryFilter, UserError
from pclhd.gallery.store import Store
from tests.gallery.photos import Photos


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond a size: the system refuses to write, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def gallery(photos: Photos, tmp_path: Path) -> Gallery:
    made = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    made.add(photos.night, modality="infrared", camera="yard")
    return made


def test_no_room(photos: Photos, gallery: Gallery) -> None:
    before = list(gallery.rows())
    for write in (
        lambda: gallery.add(photos.day, modality="visible"),
        lambda: gallery.remove(GalleryFilter(camera="yard")),
        gallery.compact,
    ):
        with largest_file(100), pytest.raises(UserError, match=r"cannot be written \(File too large\)"):
            write()
        again = Gallery(gallery.path, encoder=photos.encoder)
        assert list(again.rows()) == before
    assert gallery.add(photos.day, modality="visible").added == 5
    assert gallery.remove(GalleryFilter(camera="yard")).removed == 4
    assert not gallery.stats().unfinished


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(photos: Photos, gallery: Gallery) -> None:
    folders = [gallery.path, *(path for path in gallery.path.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        with pytest.raises(UserError, match="cannot be written"):
            gallery.add(photos.day, modality="visible")
        assert len(gallery.search(photos.night / "n0.png", modality="infrared")) == 4
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_removal_that_was_interrupted_is_completed(
    photos: Photos, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(store: Store, fragments: object) -> None:
        raise KeyboardInterrupt

    jpeg = gallery.thumbnail(next(iter(gallery.rows())).id)
    assert jpeg is not None
    with monkeypatch.context() as patched:
        patched.setattr(Store, "_purge", stop)
        with pytest.raises(KeyboardInterrupt):
            gallery.remove(GalleryFilter(source="*/n0.png"))
    assert len(gallery) == 3
    assert gallery.stats().unfinished
    files = [path for path in gallery.path.rglob("*") if path.is_file()]
    assert any(jpeg[-40:] in path.read_bytes() for path in files), "the bytes are still there"
    gallery.add(photos.day, modality="visible")
    files = [path for path in gallery.path.rglob("*") if path.is_file()]
    assert not any(jpeg[-40:] in path.read_bytes() for path in files)
    assert (len(gallery), gallery.stats().unfinished) == (8, False)
