from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from pclhd.data import images as decoding
from pclhd.report import images
from pclhd.report.images import data_uri


def _decoded(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK"])
def test_images_of_every_mode_are_shrunk_to_fit(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    Image.new(mode, (400, 300)).save(path)
    uri = data_uri(tmp_path, path.name, width=40, height=40)
    assert uri is not None
    assert _decoded(uri).size == (40, 30)


def test_small_images_are_not_blown_up(tmp_path: Path) -> None:
    Image.new("RGB", (4, 8), "red").save(tmp_path / "image.png")
    uri = data_uri(tmp_path, "image.png", width=40, height=40)
    assert uri is not None
    assert _decoded(uri).size == (4, 8)


def test_files_that_are_not_images_give_none(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    good = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(good, format="JPEG")
    (tmp_path / "cut.jpg").write_bytes(good.getvalue()[:400])
    for name in ("text.jpg", "cut.jpg", "missing.jpg", ".", "n" * 300, "nul\0byte"):
        assert data_uri(tmp_path, name, width=40, height=40) is None


def test_huge_images_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "image.png")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 9_999)
    assert data_uri(tmp_path, "image.png", width=40, height=40) is None


def test_huge_files_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (10, 10)).save(tmp_path / "image.png")
    monkeypatch.setattr(images, "_MOST_BYTES", 20)
    assert data_uri(tmp_path, "image.png", width=40, height=40) is None


@pytest.mark.parametrize("kind", ["eps", "pdf", "dds", "tga", "ico", "sgi"])
def test_formats_of_no_data_set_are_never_opened(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.check_call", fail)
    monkeypatch.setattr("subprocess.run", fail)
    Image.new("RGB", (10, 10)).save(tmp_path / "image.png", format=kind)
    assert data_uri(tmp_path, "image.png", width=40, height=40) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "image.png")
    assert data_uri(tmp_path, "image.png", width=40, height=40) is None


def test_images_outside_of_the_data_are_not_shown(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    secret = tmp_path / "secret.png"
    Image.new("L", (10, 10)).save(secret)
    (data / "link.png").symlink_to(secret)
    for name in (str(secret), "../secret.png", "a/../../secret.png", "link.png"):
        assert data_uri(data, name, width=40, height=40) is None
    secret.rename(data / "image.png")
    (data / "link.png").unlink()
    (data / "link.png").symlink_to("image.png")
    for name in (str(data / "image.png"), "link.png", "image.png"):
        assert data_uri(data, name, width=40, height=40) is not None
