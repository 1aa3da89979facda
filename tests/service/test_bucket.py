"""Two services on two ports, one gallery on object storage."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("obstore", reason="the extra `s3` is not installed")

from pclhd import Gallery
from tests.commands import call
from tests.gallery.photos import Photos, make_photos
from tests.gallery.s3_server import s3_server
from tests.service.test_run import _free_port


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    return make_photos(tmp_path)


@contextmanager
def _served(address: str, audit: Path) -> Iterator[httpx.Client]:
    """A process that serves a gallery."""
    port = _free_port()
    words = ("serve", address, "--port", str(port), "--audit", audit, "--device", "cpu")
    with subprocess.Popen([sys.executable, "-m", "pclhd", *words]) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
                until = time.monotonic() + 120
                while time.monotonic() < until:
                    assert process.poll() is None, "it has ended"
                    try:
                        client.get("/readyz").raise_for_status()
                        break
                    except httpx.HTTPError:
                        time.sleep(0.2)
                yield client
        finally:
            process.terminate()


@pytest.mark.slow
def test_what_one_changes_the_other_finds(photos: Photos, tmp_path: Path) -> None:
    night, day = (photos.night / "n1.png").read_bytes(), (photos.day / "copy.png").read_bytes()
    with s3_server() as s3, ExitStack() as stack:
        s3.client.create_bucket(Bucket="people")
        address = "s3://people/gallery"
        Gallery(address, encoder=photos.model, device="cpu").add(photos.day, modality="visible", camera="gate")
        environment = pytest.MonkeyPatch()
        stack.callback(environment.undo)
        environment.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        one, other = (stack.enter_context(_served(address, tmp_path / f"{name}.jsonl")) for name in ("one", "other"))

        def cameras(client: httpx.Client, content: bytes, light: str) -> list[str]:
            answer = client.post("/api/v1/search", params={"modality": light}, content=content)
            assert answer.status_code == 200, answer.text
            return [hit["row"]["camera"] for hit in answer.json()["hits"]]

        assert set(cameras(one, day, "visible")) == set(cameras(other, day, "visible")) == {"gate"}
        added = one.post("/api/v1/rows", params={"modality": "infrared", "camera": "yard"}, content=night)
        assert added.json()["added"] == 1, added.text
        for client in (one, other):
            assert cameras(client, night, "infrared")[0] == "yard"
        assert call("gallery", "remove", address, "--camera", "yard", "--yes").code == 0
        for client in (one, other):
            assert "yard" not in cameras(client, night, "infrared")
        removed = other.post("/api/v1/remove", json={"cameras": ["gate"]})
        assert removed.json()["removed"] == 5, removed.text
        assert cameras(one, day, "visible") == []
        # The storage does not answer any more, and the service says so in bounded time.
        s3.stop()
        began = time.monotonic()
        answer = one.post("/api/v1/search", params={"modality": "visible"}, content=day)
        assert time.monotonic() - began < 60
        assert (answer.status_code, answer.json()["error"]) == (
            503, "the storage of the gallery does not answer, or refuses; try again in a moment",
        )  # fmt: skip
