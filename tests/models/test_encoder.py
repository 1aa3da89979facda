from __future__ import annotations

import hashlib
import io
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pclhd.config import load_preset
from pclhd.data.images import load_images
from pclhd.data.records import ImageRecord, Modality
from pclhd.data.sources import ImageSource, decode_sources
from pclhd.errors import UserError
from pclhd.models import encoder as module
from pclhd.models.embed import embed_images
from pclhd.models.encoder import Encoder, embed_records
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.weights import save_model
from pclhd.runs.folder import RunFolder
from tests.data.fake_layouts import write_image
from tests.models.small import SMALL_BASIC, stirred

WANTED = Preprocessing(32, 16)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(7)]
    for path in paths:
        write_image(path, path.name)
    return paths


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(stirred(SMALL_BASIC), WANTED, device="cpu")


def save(path: Path, preprocessing: Preprocessing | None = WANTED, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(path, stirred(SMALL_BASIC, seed), preprocessing=preprocessing)
    return path


def test_embeddings_are_those_of_each_image_alone(encoder: Encoder, photos: list[Path]) -> None:
    found = encoder.embed(photos, modality="infrared")
    for path, embedding in zip(photos, found.features, strict=True):
        pixels = load_images([path], 32, 16, resample="lanczos", workers=1)
        alone = embed_images(stirred(SMALL_BASIC), pixels, Modality.INFRARED)[0].numpy()
        np.testing.assert_allclose(embedding, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), 1, rtol=1e-5)
    assert found.paths == photos
    assert {image.modality for image in found.images} == {Modality.INFRARED}
    assert np.array_equal(np.asarray(found), found.features)
    assert found[2:4].paths == photos[2:4]
    assert np.array_equal(found[2:4].features, found.features[2:4])


def test_every_form_of_an_image_gives_the_same_embedding(encoder: Encoder, photos: list[Path]) -> None:
    expected = encoder.embed(photos, modality="visible").features
    opened = [Image.open(path) for path in photos]
    forms = {
        "folder": photos[0].parent,
        "folder as text": str(photos[0].parent),
        "pattern": str(photos[0].parent / "*.png"),
        "PIL": opened,
        "arrays": [np.asarray(Image.open(path).convert("RGB")) for path in photos],
        "open files": [path.open("rb") for path in photos],
        "bytes": [path.read_bytes() for path in photos],
        "files in memory": [io.BytesIO(path.read_bytes()) for path in photos],
        "records": [ImageRecord(path, Modality.VISIBLE) for path in photos],
        "generator": (path for path in photos),
        "mixture": [photos[0], Image.open(photos[1]), *map(str, photos[2:])],
    }
    for name, form in forms.items():
        assert np.array_equal(encoder.embed(form, modality="visible").features, expected), name  # type: ignore[arg-type]


def test_preprocessing_is_applied(photos: list[Path]) -> None:
    plain = Encoder(stirred(SMALL_BASIC), WANTED, device="cpu").embed(photos, modality="visible").features
    changes = {"height": 48, "resample": "bicubic", "mean": (0.3, 0.3, 0.3), "std": (0.5, 0.5, 0.5), "mirror": False}
    for name, value in changes.items():
        other = Encoder(stirred(SMALL_BASIC), replace(WANTED, **{name: value}), device="cpu")  # type: ignore[arg-type]
        assert not np.allclose(other.embed(photos, modality="visible").features, plain, atol=1e-4), name


def test_chunks_and_progress(encoder: Encoder, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    records = [ImageRecord(path, modality) for path in photos for modality in Modality]
    (whole,) = embed_records([encoder], records)
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "_CHUNK", 3)
    (parts,) = embed_records([encoder], records, on_progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert [done for done, _ in seen] == [3, 6, 7, 10, 13, 14]
    assert {total for _, total in seen} == {14}


def test_few_images_are_decoded_at_a_time(
    encoder: Encoder, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = decode_sources

    def counting(sources: list[ImageSource], *sizes_wanted: int, **options: object) -> object:
        sizes.append(len(sources))
        return real(sources, *sizes_wanted, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_CHUNK", 2)
    monkeypatch.setattr(module, "decode_sources", counting)
    encoder.embed(photos, modality="visible")
    assert sizes == [2, 2, 2, 1]


def test_several_encoders_decode_once(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    encoders = [Encoder(stirred(SMALL_BASIC, seed), WANTED, device="cpu") for seed in range(2)]
    records = [ImageRecord(path, Modality.VISIBLE) for path in photos]
    both = embed_records(encoders, records)
    for encoder, features in zip(encoders, both, strict=True):
        assert np.array_equal(embed_records([encoder], records)[0], features)
    assert not np.array_equal(both[0], both[1])
    with pytest.raises(ValueError, match="differ in their preprocessing"):
        embed_records([encoders[0], Encoder(stirred(SMALL_BASIC), replace(WANTED, height=40))], records)


def test_a_model_file_alone_embeds_to_the_same_bits(photos: list[Path], tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    save(run.model_file)
    run.write_settings(load_preset("tiny", ["data.height=32", "data.width=16"]))
    before = Encoder.load(run, device="cpu")
    alone = tmp_path / "elsewhere" / "person.safetensors"
    alone.parent.mkdir()
    shutil.copy(run.model_file, alone)
    shutil.rmtree(run.path)
    after = Encoder.load(alone, device="cpu")
    assert after.model_id == before.model_id
    for modality in Modality:
        first, second = (one.embed(photos, modality=modality).features for one in (before, after))
        assert np.array_equal(first, second)


@pytest.mark.parametrize("weights", ["final", "start"])
def test_an_older_file_is_prepared_by_its_runs_settings(photos: list[Path], tmp_path: Path, weights: str) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_settings(load_preset("tiny", ["data.height=32", "data.width=16"]))
    old = save(run.weights_file(weights), None)  # type: ignore[arg-type]
    assert Encoder.load(old).preprocessing == WANTED
    alone = tmp_path / "alone.safetensors"
    shutil.copy(old, alone)
    with pytest.raises(UserError, match=r"alone\.safetensors: was written by an older version"):
        Encoder.load(alone)


def test_the_id_is_of_weights_architecture_and_preprocessing(tmp_path: Path) -> None:
    one = Encoder.load(save(tmp_path / "one.safetensors"))
    save_model(tmp_path / "two.safetensors", stirred(SMALL_BASIC), {"weights": "start"}, preprocessing=WANTED)
    assert Encoder.load(tmp_path / "two.safetensors").model_id == one.model_id, "metadata do not count"
    assert Encoder.load(save(tmp_path / "one.safetensors", seed=1)).model_id != one.model_id
    assert Encoder.load(save(tmp_path / "one.safetensors", replace(WANTED, width=20))).model_id != one.model_id
    # The slow twin: what is hashed, written out.
    facts = {"architecture": asdict(SMALL_BASIC), "preprocessing": asdict(WANTED)}
    text = json.dumps(facts, sort_keys=True).encode()
    for name, tensor in sorted(stirred(SMALL_BASIC).state_dict().items()):
        text += f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode() + tensor.numpy().tobytes()
    assert hashlib.sha256(text).hexdigest() == one.model_id


def test_precision(photos: list[Path]) -> None:
    exact = Encoder(stirred(SMALL_BASIC), WANTED, device="cpu").embed(photos, modality="visible").features
    half = Encoder(stirred(SMALL_BASIC), WANTED, device="cpu", precision="bf16-mixed")
    rough = half.embed(photos, modality="visible").features
    assert rough.dtype == np.float32
    assert not np.array_equal(rough, exact)
    np.testing.assert_allclose(rough, exact, atol=0.05)
    with pytest.raises(ValueError, match="precision"):
        Encoder(stirred(SMALL_BASIC), WANTED, precision="8-bit")  # type: ignore[arg-type]


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        Encoder.load(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        Encoder.load(tmp_path / "gone.safetensors")
    with pytest.raises(UserError, match="nonsense"):
        Encoder.load(save(tmp_path / "x.safetensors"), device="nonsense")


def test_embeddings_that_are_not_finite(photos: list[Path], tmp_path: Path) -> None:
    network = stirred(SMALL_BASIC)
    with torch.no_grad():
        next(network.neck.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match=r"x\.safetensors: 7 of 7 images"):
        Encoder(network, WANTED, origin=tmp_path / "x.safetensors").embed(photos, modality="visible")


def test_an_unknown_modality(encoder: Encoder, photos: list[Path]) -> None:
    with pytest.raises(ValueError, match="ultraviolet"):
        encoder.embed(photos, modality="ultraviolet")  # type: ignore[arg-type]


def test_no_images(encoder: Encoder) -> None:
    assert encoder.embed([], modality="visible").features.shape == (0, encoder.embedding_size)
