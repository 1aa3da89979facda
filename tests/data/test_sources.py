from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pclhd.data.images import decode_image
from pclhd.data.records import ImageRecord, Modality
from pclhd.data.sources import decode_sources, gather_images
from pclhd.data.stretch import Stretch
from pclhd.errors import UserError
from tests.data.fake_layouts import write_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.png", "b/1.png", "a.png", "b/c/3.jpg"):
        write_image(tmp_path / "in" / name, name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    return tmp_path / "in"


def test_a_folder_stands_for_all_images_below_it(folder: Path) -> None:
    names = [source.path.relative_to(folder).as_posix() for source in gather_images(folder) if source.path]
    assert names == ["a.png", "b/1.png", "b/2.png", "b/c/3.jpg"]


def test_patterns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [source.path for source in gather_images(str(folder / "**" / "*.png"))]
    assert paths == [folder / "a.png", folder / "b" / "1.png", folder / "b" / "2.png"]
    monkeypatch.chdir(folder)
    assert [source.path for source in gather_images("b/?.png")] == [Path("b/1.png"), Path("b/2.png")]
    with pytest.raises(UserError, match="no file matches"):
        gather_images("*.tiff")


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    write_image(tmp_path / "a[1].png", "x")
    assert [source.path for source in gather_images(tmp_path / "a[1].png")] == [tmp_path / "a[1].png"]


def test_what_is_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        gather_images(folder / "gone.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image in it"):
        gather_images(tmp_path / "empty")
    with pytest.raises(TypeError, match="found int"):
        gather_images(7)  # type: ignore[arg-type]


def test_records_keep_their_camera_and_files_their_name(folder: Path) -> None:
    record = ImageRecord(folder / "a.png", Modality.VISIBLE, 4)
    with (folder / "b" / "1.png").open("rb") as file:
        sources = gather_images([record, file, Image.open(folder / "b" / "2.png"), (folder / "a.png").read_bytes()])
    assert [source.camera for source in sources] == [4, None, None, None]
    paths = [None if source.path is None else os.fspath(source.path) for source in sources]
    assert paths == [str(folder / "a.png"), str(folder / "b" / "1.png"), str(folder / "b" / "2.png"), None]


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((9, 5, 3), dtype=np.uint8),
        np.zeros((9, 5), dtype=np.uint8),
        np.zeros((9, 5, 1), dtype=np.uint8),
        np.zeros((9, 5, 4), dtype=np.uint8),
        np.zeros((9, 5), dtype=np.uint16),
    ],
)
def test_arrays(pixels: np.ndarray) -> None:
    assert decode_sources(gather_images(pixels), 9, 5, resample="lanczos").shape == (1, 3, 9, 5)


def test_an_array_of_many_images() -> None:
    random = np.random.default_rng(0).integers(0, 256, (3, 9, 5, 3), dtype=np.uint8)
    decoded = decode_sources(gather_images(random), 9, 5, resample="lanczos", workers=2)
    assert np.array_equal(decoded, random.transpose(0, 3, 1, 2))


def test_sixteen_bit_grey_is_scaled_as_in_a_file(tmp_path: Path) -> None:
    wide = np.linspace(0, 65535, 45).reshape(9, 5).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    (decoded,) = decode_sources(gather_images(wide), 9, 5, resample="lanczos")
    assert np.array_equal(decoded, decode_image(tmp_path / "wide.png", 9, 5, resample="lanczos"))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((9, 5, 3)),
        np.zeros((9, 5, 3), dtype=np.uint16),
        np.zeros((9, 5, 2), dtype=np.uint8),
        np.zeros(9, dtype=np.uint8),
        np.zeros((0, 5), dtype=np.uint8),
        np.zeros((9, 5), dtype=bool),
    ],
)
def test_arrays_that_are_no_images(pixels: np.ndarray) -> None:
    with pytest.raises(UserError, match="array of shape"):
        gather_images(pixels)


def test_broken_content_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with (tmp_path / "broken.png").open("rb") as file, pytest.raises(UserError, match=r"broken\.png"):
        decode_sources(gather_images(file), 9, 5, resample="lanczos")
    with pytest.raises(UserError, match="image in memory"):
        decode_sources(gather_images(b"no image"), 9, 5, resample="lanczos")


def test_a_picture_that_was_cut_short(tmp_path: Path) -> None:
    random = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    memory = io.BytesIO()
    Image.fromarray(random).save(memory, "PNG")
    picture = Image.open(io.BytesIO(memory.getvalue()[:4000]))
    with pytest.raises(UserError, match="cannot be decoded"):
        decode_sources(gather_images(picture), 9, 5, resample="lanczos")


def test_text_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("x")
    with (tmp_path / "x.png").open() as file, pytest.raises(TypeError, match="binary mode"):
        gather_images(file)


def test_orientation_is_followed_unless_a_record_says_otherwise(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    pixels = np.random.default_rng(0).integers(0, 256, (9, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    path = tmp_path / "a.png"
    upright = ImageRecord(path, Modality.VISIBLE, upright=True)
    sources = gather_images([path, path.read_bytes(), Image.open(path), upright, ImageRecord(path, Modality.VISIBLE)])
    *turned, plain = decode_sources(sources, 9, 5, resample="lanczos", workers=1)
    assert np.array_equal(plain, pixels.transpose(2, 0, 1))
    for image in turned:
        assert np.array_equal(image, pixels[::-1, ::-1].transpose(2, 0, 1))


def test_a_stretch_reaches_files_and_arrays(tmp_path: Path) -> None:
    wide = np.full((9, 5), 1500, dtype=np.uint16)
    Image.fromarray(wide).save(tmp_path / "a.png")
    decoded = decode_sources(
        gather_images([tmp_path / "a.png", wide]), 9, 5, resample="lanczos", stretch=Stretch(1000, 2000)
    )
    assert set(decoded.flatten().tolist()) == {128}


def test_what_a_folder_does_not_give_is_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    gather_images(folder)
    assert caplog.messages == [f"{folder}: passed over: 1 file (1 not an image)"]


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UserError, match="not a regular file"):
        gather_images(tmp_path / "a.png")
