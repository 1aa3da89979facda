from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pclhd.config import load_preset
from pclhd.data import image_cache
from pclhd.data.datasets import load_training_images
from pclhd.data.image_cache import ImageCache
from pclhd.data.images import DecodingOptions, load_images
from pclhd.data.stretch import Stretch
from pclhd.errors import UserError
from tests.data.fake_layouts import write_image
from tests.data.test_datasets import make_set
from tests.engine.runs import SmallData

HEIGHT, WIDTH = 16, 8
BYTES = 3 * HEIGHT * WIDTH


def make_files(root: Path, number: int) -> list[Path]:
    root.mkdir(exist_ok=True)
    paths = [root / f"{i}.png" for i in range(number)]
    for path in paths:
        write_image(path, path.name)
    return paths


def load(cache: ImageCache, paths: list[Path], checksum: str = "a", *, height: int = HEIGHT) -> torch.Tensor:
    return cache.load(paths, checksum, height, WIDTH, resample="bicubic", workers=1)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("images-*.npy"))


def no_decoding(*_: object, **__: object) -> np.ndarray:
    raise AssertionError("images are decoded though a file holds them")


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.mark.parametrize("number", [0, 1, 5])
def test_images_are_those_that_decoding_gives(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(image_cache, "_ROWS", 2)
    paths = make_files(tmp_path / "data", number)
    expected = torch.from_numpy(load_images(paths, HEIGHT, WIDTH, resample="bicubic"))
    cache = ImageCache(tmp_path / "deep" / "cache", 1)
    assert torch.equal(load(cache, paths), expected)
    monkeypatch.setattr(image_cache, "load_images", no_decoding)
    again = load(cache, paths)
    assert again.dtype == torch.uint8
    assert torch.equal(again, expected)
    assert not recwarn.list


def test_training_images_are_the_same_with_and_without(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    training_set = make_set(tmp_path / "data")
    plain = load_training_images(training_set, HEIGHT, WIDTH)
    cache = ImageCache(tmp_path / "cache", 1)
    for _ in range(2):
        kept = load_training_images(training_set, HEIGHT, WIDTH, cache=cache)
        for one, other in ((plain.visible, kept.visible), (plain.infrared, kept.infrared)):
            assert torch.equal(one.images, other.images)
            assert one.cameras is not None
            assert other.cameras is not None
            assert one.cameras.tolist() == other.cameras.tolist()
    assert len(files(cache.folder)) == 2


def test_images_are_mapped_and_not_read(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 1)
    images = load(cache, make_files(tmp_path / "data", 3))
    [path] = files(tmp_path)
    if not Path("/proc/self/maps").exists():
        pytest.skip("this system does not tell what is mapped")
    assert str(path) in Path("/proc/self/maps").read_text()
    assert len(images) == 3


def test_other_images_sizes_and_filters_have_other_files(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "data", 2)
    cache = ImageCache(tmp_path / "cache", 1)
    load(cache, paths, "a")
    load(cache, paths, "b")
    load(cache, paths, "a", height=HEIGHT + 2)
    cache.load(paths, "a", HEIGHT, WIDTH, resample="lanczos", workers=1)
    load(cache, paths, "a")
    assert len(files(cache.folder)) == 4


@pytest.mark.parametrize("damage", ["shorter", "longer", "header", "content", "no facts", "facts", "nested", "empty"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    paths = make_files(tmp_path / "data", 3)
    cache = ImageCache(tmp_path / "cache", 1)
    expected = load(cache, paths).clone()
    [path] = files(cache.folder)
    facts = path.with_suffix(".json")
    content = path.read_bytes()
    damaged = {
        "shorter": content[:-1],
        "longer": content + b"x",
        "header": content.replace(b"(3, 3,", b"(4, 3,", 1),
        "content": content[:-1] + bytes([content[-1] ^ 1]),
        "empty": b"",
    }
    if damage == "no facts":
        facts.unlink()
    elif damage == "facts":
        facts.write_text("{")
    elif damage == "nested":
        facts.write_text("[" * 100_000)
    else:
        path.write_bytes(damaged[damage])
    with nullcontext() if damage == "no facts" else pytest.warns(UserWarning, match="decoded again"):
        assert torch.equal(load(cache, paths), expected)
    assert path.read_bytes() == content
    assert json.loads(facts.read_text())["shape"] == [3, 3, HEIGHT, WIDTH]


def test_content_is_compared_only_if_asked(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "data", 2)
    cache = ImageCache(tmp_path / "cache", 1)
    expected = load(cache, paths).clone()
    [path] = files(cache.folder)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    unchecked = cache.load(paths, "a", HEIGHT, WIDTH, resample="bicubic", workers=1, check=False)
    assert not torch.equal(unchecked, expected)


def test_half_written_files_are_neither_used_nor_left(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "data", 3)
    cache = ImageCache(tmp_path / "cache", 1)
    paths[2].write_bytes(b"")
    with pytest.raises(UserError, match=paths[2].name):
        load(cache, paths)
    assert [path.name for path in cache.folder.iterdir()] == [".lock"]
    killed = cache.folder / f".images-{'0' * 32}.npy.1.part"
    killed.write_bytes(b"half")
    write_image(paths[2], "repaired")
    load(cache, paths)
    assert not killed.exists()


def gib_of(*counts: int) -> float:
    return sum(128 + count * BYTES for count in counts) / 2**30


def test_the_file_that_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "data", 4)
    cache = ImageCache(tmp_path / "cache", gib_of(4, 4))
    load(cache, paths, "old")
    [old] = files(cache.folder)
    load(cache, paths, "new")
    [new] = set(files(cache.folder)) - {old}
    age(old, 200)
    age(new, 100)
    load(cache, paths, "old")  # now it is used again, and `new` is the older one
    load(cache, paths, "third")
    assert old.exists()
    assert not new.exists()
    assert not new.with_suffix(".json").exists()
    assert len(files(cache.folder)) == 2
    stranger = cache.folder / "images-of-mine.npy"
    stranger.write_bytes(b"x" * 9000)
    load(cache, paths, "fourth")
    assert stranger.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no shared locks")
def test_files_in_use_are_not_removed(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "data", 4)
    cache = ImageCache(tmp_path / "cache", gib_of(4))
    held = load(cache, paths, "held")
    [path] = files(cache.folder)
    with pytest.raises(UserError, match=r"in use are more than data\.cache_gib"):
        load(cache, paths, "other")
    assert path.exists()
    assert len(held) == 4
    del held
    load(cache, paths, "other")
    assert not path.exists()


def test_what_is_larger_than_the_limit_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_files(tmp_path / "data", 4)
    monkeypatch.setattr(image_cache, "load_images", no_decoding)
    with pytest.raises(UserError, match=r"data\.cache_gib=1e-06 allows") as caught:
        load(ImageCache(tmp_path / "cache", 1e-6), paths)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "data", 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*cannot be created.*data\.cache") as caught:
        load(ImageCache(tmp_path / "file" / "cache", 1), paths)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_files(tmp_path / "data", 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        load(ImageCache(tmp_path / "cache", 1), paths)
    assert "\n" not in str(caught.value)
    assert not files(tmp_path / "cache")


@pytest.mark.slow
def test_processes_that_come_at_once_make_one_file(tmp_path: Path) -> None:
    make_files(tmp_path / "data", 40)
    program = f"""
import sys
from pathlib import Path
from pclhd.data import image_cache
decode = image_cache.load_images
def counted(*arguments, **named):
    print("decoded", flush=True)
    return decode(*arguments, **named)
image_cache.load_images = counted
paths = [Path({str(tmp_path / "data")!r}) / f"{{i}}.png" for i in range(40)]
cache = image_cache.ImageCache(Path({str(tmp_path / "cache")!r}), 1)
images = cache.load(paths, "a", {HEIGHT}, {WIDTH}, resample="bicubic", workers=1)
print(int(images.long().sum()), flush=True)
"""
    running = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    words = [process.communicate()[0].split() for process in running]
    assert all(process.returncode == 0 for process in running)
    assert len({said[-1] for said in words}) == 1
    if sys.platform != "win32":
        assert sum(said.count("decoded") for said in words) == 1
    assert len(files(tmp_path / "cache")) == 1


@pytest.mark.parametrize(("value", "folder"), [("none", None), ("null", None), ("some/where", Path("some/where"))])
def test_the_setting_names_a_folder_or_none(value: str, folder: Path | None) -> None:
    settings = load_preset("tiny", [f"data.cache={value}"])
    assert settings.data.cache == folder
    assert ImageCache.of(settings.data.cache, settings.data.cache_gib) == (
        None if folder is None else ImageCache(folder, 64)
    )
    assert load_preset("tiny", []).data.cache is None


def test_weights_are_the_same_with_and_without(small: SmallData, tmp_path: Path) -> None:
    cached = f"data.cache={tmp_path / 'cache'}"
    once = "schedule.stage2_epochs=0"
    without = small.train(tmp_path / "without", once)
    assert small.train(tmp_path / "first", once, cached) == without
    assert small.train(tmp_path / "second", once, cached) == without
    assert len(files(tmp_path / "cache")) == 2


def test_options_that_change_pixels_have_files_of_their_own(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = np.random.default_rng(0).integers(1000, 2000, (8, 20)).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / "a.png", exif=exif)
    cache = ImageCache(tmp_path / "cache", 1)
    options: list[DecodingOptions] = [{}, {"upright": True}, {"stretch": Stretch(1000, 2000)}]
    options += [{"upright": True, "stretch": Stretch(1000, 2000)}, {"stretch": Stretch(1000, 2001)}]
    for chosen in options:
        expected = load_images([tmp_path / "a.png"], HEIGHT, WIDTH, resample="bicubic", **chosen)
        found = cache.load([tmp_path / "a.png"], "a", HEIGHT, WIDTH, resample="bicubic", workers=1, **chosen)
        assert torch.equal(found, torch.from_numpy(expected))
    assert len(files(tmp_path / "cache")) == len(options)
    cache.load([tmp_path / "a.png"], "a", HEIGHT, WIDTH, resample="bicubic", upright=False, stretch=None)
    assert len(files(tmp_path / "cache")) == len(options)
