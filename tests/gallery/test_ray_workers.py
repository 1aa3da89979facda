"""Embedding with the workers of a Ray cluster."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from pclhd import Gallery, UserError
from pclhd.gallery import ray_workers
from pclhd.gallery.ray_workers import EmbedParts
from pclhd.models.encoder import Encoder
from tests.commands import call, complaint
from tests.gallery.photos import Photos, picture
from tests.gallery.test_parts import assert_same

pytest.importorskip("ray", reason="the extra `ray` is not installed")

PART = 4


class KilledOnce(EmbedParts):
    """A worker that notes what it does beside the gallery, and is killed the first time that it has embedded part 1."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        notes, number = Path(self._gallery).with_name("notes.txt"), int(batch["part"][0])
        first = not notes.exists() or str(number) not in notes.read_text().split()
        with notes.open("a") as file:
            file.write(f"{number}\n")
        if number == 1 and first:
            with mock.patch(
                "pclhd.gallery.parts.to_arrow", side_effect=lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
            ):
                return super().__call__(batch)
        return super().__call__(batch)


@pytest.mark.slow
def test_two_workers_one_of_them_killed(photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pclhd.gallery.adding._PART", PART)
    monkeypatch.setattr(ray_workers, "EmbedParts", KilledOnce)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    folder = tmp_path / "photos"
    for number in range(21):
        picture(folder / f"{number:02}.png", number)
    (folder / "copy.png").write_bytes((folder / "00.png").read_bytes())
    plain, other = (Gallery(tmp_path / name, encoder=photos.model, device="cpu") for name in ("plain", "gallery"))
    expected = plain.add(folder, modality="visible", camera="gate", time="modified")
    done: list[int] = []
    found = other.add(
        folder, modality="visible", camera="gate", time="modified", ray_workers=2,
        on_progress=lambda one, _: done.append(one),
    )  # fmt: skip
    assert found == expected
    assert done[-1] == 22
    assert done == sorted(done)
    assert_same(plain, other)
    assert other._store.version() == 1, "one commit"
    notes = (tmp_path / "notes.txt").read_text().split()
    assert sorted(notes) == ["0", "1", "1", "2", "3", "4", "5"], "the killed part was done again, once"


def test_a_worker_says_what_is_wrong_in_one_line(photos: Photos, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    worker = EmbedParts(str(tmp_path / "gallery"), tmp_path / "parts", photos.model, "0" * 64, "both", "cpu")
    said = worker({"part": np.array([0]), "images": np.array([[]])})
    assert said["images"] == [0]
    assert "is another model on a worker's machine" in said["error"][0]
    missing = EmbedParts(str(tmp_path / "gallery"), tmp_path / "parts", tmp_path / "gone", "0" * 64, "both", "cpu")
    assert "gone" in missing({"part": np.array([0]), "images": np.array([[]])})["error"][0]


def test_images_and_models_in_memory_are_refused(photos: Photos, tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "gallery", encoder=photos.model, device="cpu")
    with pytest.raises(UserError, match="images: are in memory, which Ray workers do not see"):
        gallery.add((photos.day / "copy.png").read_bytes(), modality="visible", ray_workers=2)
    encoder = Encoder(photos.encoder.network, photos.encoder.preprocessing, device="cpu")
    with pytest.raises(UserError, match="encoder: was not loaded from a file"):
        Gallery(tmp_path / "other", encoder=encoder).add(photos.day, modality="visible", ray_workers=2)


def test_a_cluster_that_is_too_small_or_missing(photos: Photos, tmp_path: Path) -> None:
    ray = mock.Mock()
    ray.cluster_resources.return_value = {"CPU": 4.0, "GPU": 1.0}
    with pytest.raises(UserError, match="ray_workers=5: the cluster has 4 CPUs, and each worker needs one"):
        list(ray_workers._embedded(ray, [], (), 5, "auto"))
    with pytest.raises(UserError, match="ray_workers=2: the cluster has 1 GPUs"):
        list(ray_workers._embedded(ray, [], (), 2, "cuda"))
    ray.is_initialized.return_value = False
    ray.init.side_effect = ConnectionError("no answer")
    refused = pytest.raises(UserError, match=r"no Ray cluster at RAY_ADDRESS=10\.0\.0\.1:6379 \(no answer\)")
    with mock.patch.dict(os.environ, RAY_ADDRESS="10.0.0.1:6379"), refused, ray_workers._connected(ray, 2):
        pass
    assert ray.init.call_args.kwargs["address"] == "10.0.0.1:6379"


def test_without_ray_and_with_a_video(photos: Photos, tmp_path: Path) -> None:
    with mock.patch.dict("sys.modules", ray=None), pytest.raises(UserError, match=r"pip install 'ray\[data\]'"):
        Gallery(tmp_path / "gallery", encoder=photos.model).add(photos.day, modality="visible", ray_workers=2)
    said = call("gallery", "add", tmp_path / "gallery", photos.day, "--modality", "visible", "--boxes", "boxes.txt",
                 "--ray-workers", 2)  # fmt: skip
    assert "--ray-workers 2: does not go with --boxes" in complaint(said)
