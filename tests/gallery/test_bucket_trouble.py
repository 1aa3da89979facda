"""What the storage of a gallery may refuse: each verb ends in one line, in bounded time, and names no secret."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

import pytest

from pclhd import Gallery, GalleryFilter, UserError
from pclhd.files import Unreachable
from pclhd.gallery import bucket as bucket_module
from pclhd.gallery.bucket import Bucket
from tests.commands import call, complaint
from tests.gallery.photos import Photos

pytest.importorskip("obstore", reason="the extra `s3` is not installed")

from tests.gallery.s3_server import S3, s3_server

PLACE = "s3://bucket/of/people"
SECRET = "a-secret-that-is-never-shown"
_SECONDS = 30.0  # on a busy machine; an idle one needs one or two
_NUMBERS = itertools.count()
# Answers of S3, from its list of error codes, and those of servers that are no S3.
REFUSALS = {
    (403, "InvalidAccessKeyId"): "does not accept the credentials; correct AWS_ACCESS_KEY_ID",
    (403, "SignatureDoesNotMatch"): "does not accept the credentials; correct AWS_ACCESS_KEY_ID",
    (400, "ExpiredToken"): "does not accept the credentials; correct AWS_ACCESS_KEY_ID",
    (403, "AccessDenied"): "the credentials do not allow this; they must allow to list the bucket",
    (403, ""): "the credentials do not allow this; they must allow to list the bucket",
    (404, "NoSuchBucket"): "there is no such bucket; create it, or correct the name",
    (400, "InvalidBucketName"): "there is no such bucket; create it, or correct the name",
    (301, "PermanentRedirect"): "the bucket is in another region; set AWS_REGION",
    (307, "TemporaryRedirect"): "the bucket is in another region; set AWS_REGION",
    (400, "AuthorizationHeaderMalformed"): "the bucket is in another region; set AWS_REGION",
    (403, "RequestTimeTooSkewed"): "the clock of this machine is not that of the storage",
    (500, "InternalError"): "the storage fails, or is overloaded; try again later",
    (503, "SlowDown"): "the storage fails, or is overloaded; try again later",
    (429, ""): "the storage fails, or is overloaded; try again later",
    (501, "NotImplemented"): "the storage cannot do something that a gallery needs",
    (404, ""): "what answers is no storage with the S3 interface; correct AWS_ENDPOINT_URL",
    (400, "SomethingNew"): "the storage answered SomethingNew",
}


@contextmanager
def environment(endpoint: str) -> Iterator[None]:
    """The variables of an endpoint."""
    named = {
        "AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": f"{SECRET}-2",
        "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true",
    }  # fmt: skip
    with mock.patch.dict("os.environ", named):
        yield


@contextmanager
def answering(status: int, code: str) -> Iterator[None]:
    """A storage that gives every request the same answer, which repeats what a careless one may repeat."""
    message = f"<Message>No: {SECRET}</Message>"
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code>{message}</Error>'.encode() if code else b""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

        def log_message(self, format: str, *given: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with environment(f"http://127.0.0.1:{server.server_port}"):
            yield
        server.shutdown()
        thread.join()


@contextmanager
def silent(port: int = 0) -> Iterator[None]:
    """A server that takes connections and never answers."""
    with (
        socket.create_server(("127.0.0.1", port), backlog=100) as server,
        environment(f"http://127.0.0.1:{server.getsockname()[1]}"),
    ):
        yield


def refused(match: str, *words: object) -> None:
    """A call ends in one line, in bounded time, which names the place and no secret."""
    begin = time.monotonic()
    said = complaint(call(*words))
    assert time.monotonic() - begin < _SECONDS
    assert f"{PLACE}: " in said
    assert match in said, words
    assert SECRET not in said


def every_verb(photos: Photos, folder: Path) -> list[tuple[object, ...]]:
    """A call of each verb that opens a gallery."""
    return [
        ("gallery", "add", PLACE, photos.day, "--model", photos.model, "--modality", "visible"),
        ("gallery", "search", PLACE, photos.night / "n1.png", "--modality", "infrared"),
        ("gallery", "list", PLACE),
        ("gallery", "stats", PLACE),
        ("gallery", "remove", PLACE, "--camera", "yard", "--yes"),
        ("gallery", "compact", PLACE),
        ("gallery", "expire", PLACE, "--older-than", "52w"),
        ("gallery", "export", PLACE, "--out", folder / "people.parquet"),
        ("serve", PLACE, "--model", photos.model, "--audit", folder / "audit.jsonl"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("answer", REFUSALS, ids=lambda answer: f"{answer[0]}-{answer[1]}")
def test_each_answer_is_one_line(answer: tuple[int, str]) -> None:
    with answering(*answer):
        refused(REFUSALS[answer], "gallery", "stats", PLACE)


@pytest.mark.slow
@pytest.mark.parametrize("answer", [(403, "InvalidAccessKeyId"), (404, "NoSuchBucket"), (301, "PermanentRedirect"),
                                    (503, "SlowDown")])  # fmt: skip
def test_every_verb_says_it(photos: Photos, tmp_path: Path, answer: tuple[int, str]) -> None:
    with answering(*answer):
        for words in every_verb(photos, tmp_path):
            refused(REFUSALS[answer], *words)
    assert not list(tmp_path.iterdir()), "nothing was begun"


@pytest.mark.slow
def test_a_storage_that_never_answers(photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "_REQUEST_SECONDS", 1)
    monkeypatch.setattr(bucket_module, "_RETRY_SECONDS", 1)
    with silent():
        for words in every_verb(photos, tmp_path):
            refused("the storage does not answer; check AWS_ENDPOINT_URL", *words)


@pytest.fixture
def s3() -> Iterator[S3]:
    with s3_server() as server:
        server.client.create_bucket(Bucket="bucket")
        yield server
    with s3_server() as server:
        # Its objects are those of the process, not of this server.
        for name in server.objects("bucket"):
            server.client.delete_object(Bucket="bucket", Key=name.split()[0])


@pytest.fixture
def gallery(photos: Photos, s3: S3) -> Gallery:
    """Four night images of the camera `yard`."""
    made = Gallery(PLACE, encoder=photos.encoder)
    made.add(photos.night, modality="infrared", camera="yard")
    return made


@pytest.mark.slow
def test_credentials_that_may_only_read(photos: Photos, s3: S3, gallery: Gallery, tmp_path: Path) -> None:
    before = s3.objects("bucket")
    reading = {"search", "list", "stats", "export", "serve"}
    with s3.guard.refusing("PUT", "POST", "DELETE"):
        for words in every_verb(photos, tmp_path):
            if not reading & set(words):
                refused("the credentials do not allow this", *words)
        assert len(gallery.search(photos.night / "n1.png", modality="infrared", group=False)) == 4
        assert call("gallery", "list", PLACE).code == 0
    assert s3.objects("bucket") == before


@pytest.mark.slow
def test_credentials_that_may_not_delete(photos: Photos, s3: S3, gallery: Gallery) -> None:
    row = next(gallery.rows())
    jpeg = gallery.thumbnail(row.id) or b""
    with s3.guard.refusing("DELETE"):
        # LanceDB says nothing if it may not delete.
        with pytest.raises(Unreachable, match="files of removed rows could not be deleted; allow this user to delete"):
            gallery.remove(GalleryFilter(ids=[row.id]))
        assert s3.guard.refused > 0
        assert Gallery(PLACE).stats().unfinished
        assert any(jpeg[-40:] in content for content in s3.objects("bucket").values()), "the bytes are still there"
    with mock.patch.object(Bucket, "lease_seconds", 1.0):
        assert gallery.add(photos.day, modality="visible").added == 5  # completes what was interrupted
    assert not any(jpeg[-40:] in content for content in s3.objects("bucket").values())
    assert (len(gallery), gallery.stats().unfinished) == (8, False)


@pytest.mark.slow
def test_an_open_gallery_whose_storage_falls_silent(photos: Photos, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "_REQUEST_SECONDS", 1)
    monkeypatch.setattr(bucket_module, "_RETRY_SECONDS", 1)
    gallery = Gallery(PLACE, encoder=photos.encoder)
    gallery.add(photos.night, modality="infrared", camera="yard")
    assert len(gallery) == 4
    s3.stop()
    with silent(int(s3.endpoint.rpartition(":")[2])):
        for ask in (
            lambda: len(gallery),
            lambda: gallery.search(photos.night / "n1.png", modality="infrared"),
            lambda: gallery.add(photos.day, modality="visible"),
            lambda: gallery.remove(GalleryFilter(camera="yard")),
        ):
            begin = time.monotonic()
            with pytest.raises(UserError, match="the storage does not answer"):
                ask()
            assert time.monotonic() - begin < _SECONDS
