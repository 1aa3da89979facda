"""Galleries on object storage, with a local server."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pclhd import Gallery, GalleryFilter, UserError
from pclhd.files import InUse, Unreachable
from pclhd.gallery.filters import ids_among
from pclhd.gallery.lease import Lease
from pclhd.gallery.rows import embeddings_of
from pclhd.gallery.store import Store
from pclhd.service.run import open_service
from tests.commands import call, complaint
from tests.gallery.holding_a_lease import SECONDS
from tests.gallery.photos import Photos

pytest.importorskip("obstore", reason="the extra `s3` is not installed")

from tests.gallery.s3_server import S3, s3_server

ROOT = Path(__file__).parents[2]
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: S3) -> str:
    """A new, empty bucket."""
    name = f"bucket-{next(_NUMBERS)}"
    s3.client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def gallery(photos: Photos, bucket: str) -> Gallery:
    """Five day images of the camera `gate`, and four night images of the camera `yard`."""
    made = Gallery(f"s3://{bucket}/people", encoder=photos.encoder)
    made.add(photos.day, modality="visible", camera="gate", time="modified")
    made.add(photos.night, modality="infrared", camera="yard")
    return made


def _traces(s3: S3, bucket: str, *needles: bytes) -> list[str]:
    """Objects that hold one of some byte strings, in content or name."""
    return [
        name
        for name, content in s3.objects(bucket).items()
        if any(needle in content or needle in name.encode() for needle in needles)
    ]


@contextmanager
def _expired() -> Iterator[None]:
    """By the storage's clock, every lease has ended."""
    with mock.patch.object(Lease, "_now", return_value=datetime.now(UTC) + timedelta(hours=1)):
        yield


@pytest.mark.slow
def test_every_verb(photos: Photos, s3: S3, bucket: str, tmp_path: Path) -> None:
    place = f"s3://{bucket}/of/people"

    def done(*words: object) -> str:
        outcome = call("gallery", *words)
        assert outcome.code == 0, outcome
        return outcome.out + outcome.err

    day = ("--modality", "visible", "--camera", "gate", "--time", "2021-05-01")
    assert f"{place}: 5 images added, 1 were there" in done("add", place, photos.day, "--model", photos.model, *day)
    assert "4 images added" in done("add", place, photos.night, "--modality", "infrared", "--camera", "yard")
    assert "0 images added, 4 were there" in done("add", place, photos.night, "--modality", "infrared")
    assert "n1.png" in done("search", place, photos.night / "n1.png", "--modality", "infrared", "--device", "cpu")
    assert done("list", place, "--camera", "yard").count("yard") == 4
    size = sum(len(content) for name, content in s3.objects(bucket).items() if name.startswith("of/people/"))
    assert Gallery(place).stats().bytes == size
    assert "9" in done("stats", place)
    assert "9 images" in done("export", place, "--out", tmp_path / "people.parquet", "--map", "none")
    assert "9 images; a search is exact" in done("compact", place)
    assert "4 images removed, 5 left" in done("remove", place, "--camera", "yard", "--yes")
    assert "5 images removed, 0 left" in done("expire", place, "--older-than", "52w")
    assert not list(Gallery(Path(place)).rows()), "a Path makes one slash of two"


@pytest.mark.slow
def test_the_same_answers_as_from_a_folder(photos: Photos, gallery: Gallery, tmp_path: Path) -> None:
    local = Gallery(tmp_path / "people", encoder=photos.encoder)
    local.add(photos.day, modality="visible", camera="gate", time="modified")
    local.add(photos.night, modality="infrared", camera="yard")
    for where in (None, GalleryFilter(camera="gate")):
        found, expected = (
            one.search(photos.night / "n1.png", modality="infrared", where=where, group=False)
            for one in (gallery, local)
        )
        assert [(hit.row.id, hit.similarity) for hit in found] == [(hit.row.id, hit.similarity) for hit in expected]
    with pytest.raises(UserError, match="is not a folder"):
        _ = gallery.path


@pytest.mark.slow
def test_removed_means_removed(photos: Photos, s3: S3, bucket: str, gallery: Gallery) -> None:
    row = next(iter(gallery.rows(GalleryFilter(camera="yard"))))
    vector = embeddings_of(gallery._store.select(["embedding"], ids_among([row.id])))[0]
    traces = [b"n0.png", (gallery.thumbnail(row.id) or b"")[-60:], vector[:8].tobytes(), row.id.encode()]
    traces.append(row.digest.encode())
    assert [bool(_traces(s3, bucket, one)) for one in traces] == [True] * 5, "all would be found"
    reader = Gallery(gallery.address, encoder=photos.encoder)
    assert len(reader) == 9
    assert gallery.remove(GalleryFilter(camera="yard")).removed == 4
    assert not _traces(s3, bucket, *traces)
    assert len(reader) == 5, "another process sees it at once"
    assert not reader.stats().unfinished


@pytest.mark.slow
def test_a_bucket_that_keeps_versions(photos: Photos, s3: S3, bucket: str) -> None:
    s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    outcome = call("gallery", "add", f"s3://{bucket}/people", photos.day, "--modality", "visible", "--model",
                   photos.model)  # fmt: skip
    assert "keeps versions, so nothing could be removed for good" in complaint(outcome)
    assert {name.split()[0] for name in s3.objects(bucket)} == {"people/writer.json"}


@pytest.mark.slow
def test_two_writers_at_once(photos: Photos, gallery: Gallery) -> None:
    with Store(gallery.address).writing():
        for write in (
            lambda: gallery.add(photos.day, modality="visible"),
            lambda: gallery.remove(GalleryFilter(camera="yard")),
            gallery.compact,
        ):
            with pytest.raises(InUse, match="is being written by another pclhd"):
                write()
        outcome = call("gallery", "expire", gallery.address, "--older-than", "1d")
        assert "is being written by another pclhd" in complaint(outcome)
        assert len(gallery.search(photos.night / "n1.png", modality="infrared", group=False)) == 9
    assert gallery.remove(GalleryFilter(camera="yard")).removed == 4


@contextmanager
def _another_writer(photos: Photos, address: str) -> Iterator[Any]:
    """A process that has added one of two images, and waits."""
    images = [photos.day / "20260301_120000.png", photos.day / "20260302_120000.png"]
    words = [sys.executable, "-m", "tests.gallery.holding_a_lease", address, *map(str, [photos.model, *images])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    with subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "added\n"
            yield writer
        finally:
            writer.kill()


def _once_expired(write: Callable[[], Any]) -> Any:
    """Write as soon as the other's lease has ended."""
    refused, until = 0, time.monotonic() + 60
    while time.monotonic() < until:
        try:
            return refused, write()
        except InUse:
            refused += 1
            time.sleep(SECONDS / 4)
    raise AssertionError("the lease did not end")


@pytest.mark.slow
def test_a_killed_writer_is_replaced(photos: Photos, bucket: str) -> None:
    gallery = Gallery(f"s3://{bucket}/people", encoder=photos.encoder)
    with _another_writer(photos, gallery.address) as writer:
        time.sleep(2 * SECONDS)  # it is alive, and renews
        with pytest.raises(InUse):
            gallery.add(photos.day, modality="visible")
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        refused, added = _once_expired(lambda: gallery.add(photos.day, modality="visible"))
    assert refused > 0
    assert (added.added, added.present) == (4, 2)
    assert [row.number for row in gallery.rows()] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_writer_that_slept_too_long_does_not_commit(photos: Photos, bucket: str) -> None:
    gallery = Gallery(f"s3://{bucket}/people", encoder=photos.encoder)
    with _another_writer(photos, gallery.address) as writer:
        writer.send_signal(signal.SIGSTOP)
        _once_expired(lambda: gallery.add(photos.night, modality="infrared"))
        before = list(gallery.rows())
        writer.send_signal(signal.SIGCONT)
        said, _ = writer.communicate("go on\n", timeout=120)
    assert "another process has taken over, since this one did not answer for 2 s" in said
    assert list(Gallery(gallery.address).rows()) == before
    assert len(before) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stale", "change"), [("add", "add"), ("add", "compact"), ("remove", "remove"), ("purge", "add")]
)
def test_a_commit_after_the_check_fails(photos: Photos, s3: S3, bucket: str, gallery: Gallery, change: str, stale: str
) -> None:  # fmt: skip
    """A writer sleeps between its check and its commit, and another one writes meanwhile."""
    sleeper, after = Gallery(gallery.address, encoder=photos.encoder), Gallery(gallery.address, encoder=photos.encoder)
    night = sorted(photos.night.glob("*.png"))
    gallery.remove(GalleryFilter(source="*/n[12].png"))
    known: list[Any] = []

    def sleep(check: Callable[[], None]) -> None:
        check()
        if known:
            return
        known.append(None)
        with _expired():
            if change == "add":
                after.add(night[1], modality="infrared", camera="yard")
            elif change == "remove":
                after.remove(GalleryFilter(source="*/n0.png"))
            else:
                after.compact()
        known[:] = [list(after.rows())]

    def commit() -> None:
        store = sleeper._store
        with store.writing():
            check = store._turn.check
            store._turn = replace(store._turn, check=partial(sleep, check))
            if stale == "add":
                assert store.count() == 7  # the table is open, at its version
                store.append(_rows(photos, night[2], number=20))
            elif stale == "remove":
                store.remove("camera = 'gate'", last_number=20)
            else:
                store.purge()

    with pytest.raises(UserError, match="has taken over"):
        commit()
    assert list(Gallery(gallery.address).rows()) == known[0]
    jpegs = [after.thumbnail(row.id) for row in known[0]]
    assert all(jpegs), "no file of a row was lost"
    # What the sleeper wrote and could not commit belongs to nothing; the next removal deletes it.
    assert after.remove(GalleryFilter(camera="gate")).removed == 5
    assert not _traces(s3, bucket, b"n2.png", b"2026030")
    assert list(after.rows()) == [row for row in known[0] if row.camera != "gate"]
    assert not after.stats().unfinished


def _rows(photos: Photos, image: Path, *, number: int) -> Any:
    from pclhd.data.records import Modality, digest_file
    from pclhd.gallery.rows import NewRow, to_arrow

    row = NewRow(digest_file(image), Modality.INFRARED, "yard", source=image.as_posix(), thumbnail=image.read_bytes())
    vectors = photos.encoder.embed(image, modality="infrared").features
    return to_arrow([row], vectors, first_number=number, model_id=photos.encoder.model_id)


@pytest.mark.slow
def test_what_a_user_may_have_got_wrong(photos: Photos, s3: S3, bucket: str, gallery: Gallery) -> None:
    def refused(place: str, match: str, **environment: str) -> None:
        begin = time.monotonic()
        with mock.patch.dict("os.environ", environment):
            assert match in complaint(call("gallery", "stats", place))
        assert time.monotonic() - begin < 60

    refused("s3://no-such-bucket/people", "s3://no-such-bucket/people: there is no such bucket")
    refused(f"s3://{bucket}/other", "no gallery there; make one with: pclhd gallery add s3://")
    refused(f"s3://{bucket}", "a gallery has a name within its bucket")
    refused(gallery.address, "the storage does not answer", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    refused(gallery.address, "the storage does not answer", AWS_ENDPOINT_URL="http://nowhere.invalid")
    refused(gallery.address, "needs AWS_ALLOW_HTTP=true", AWS_ALLOW_HTTP="")
    s3.client.put_object(Bucket=bucket, Key="holiday/beach.jpg", Body=b"")
    refused(f"s3://{bucket}/holiday", "holds something else")
    with mock.patch.dict(sys.modules, {"obstore.store": None}):
        refused(gallery.address, "object storage needs obstore; install it with")
    # Later calls of a gallery that was open already, too.
    with mock.patch.dict("os.environ", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}), pytest.raises(Unreachable):
        Gallery(gallery.address)
    assert len(gallery) == 9


@pytest.mark.slow
def test_where_a_file_is_needed(photos: Photos, gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="audit: is missing: the audit log is a file"):
        open_service(gallery.address, model=photos.model, device="cpu")
    service = open_service(gallery.address, model=photos.model, device="cpu", audit=tmp_path / "audit.jsonl")
    service.audit.close()
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    words = ("gallery", "add", gallery.address, photos.day, "--modality", "visible", "--ray-workers", 2)
    assert "--parts is missing: Ray workers write files" in complaint(call(*words)).replace(": is", " is")
