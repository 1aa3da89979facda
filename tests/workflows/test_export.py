"""`pclhd export --format onnx`: the same ranking as torch, with onnxruntime alone; refused where it would differ."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pclhd.config import load_preset
from pclhd.data.records import Modality
from pclhd.models import onnx_export
from pclhd.models.architecture import LITE0
from pclhd.models.efficientnet_lite import LiteNetwork
from pclhd.models.encoder import Encoder
from pclhd.models.onnx_encoder import OnnxEncoder
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.two_stream import ARCHITECTURES, TwoStreamNetwork
from pclhd.models.weights import save_model
from pclhd.workflows import export
from tests.commands import Call, complaint
from tests.models.small import SMALL_BOTTLENECK, pictures, stirred

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

DOCUMENT = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.fixture
def run(tmp_path: Path, tiny_sysu: Path) -> Path:
    """A finished run with a small network that was never trained."""
    folder = tmp_path / "run"
    folder.mkdir()
    settings = load_preset("tiny", ["data.height=32", "data.width=16", "data.workers=1"], root=tiny_sysu)
    (folder / "config.yaml").write_text(settings.to_yaml())
    save_model(folder / "model.safetensors", stirred(SMALL_BOTTLENECK), preprocessing=Preprocessing(32, 16))
    return folder


def _export(pclhd: Call, run: Path, *words: object) -> str:
    outcome = pclhd("export", run, "--format", "onnx", "--out", run / "model.onnx", *words)
    assert outcome.code == 0, outcome.err
    return outcome.out


@pytest.mark.slow
def test_onnxruntime_alone_gives_the_ranking_of_torch(
    pclhd: Call, run: Path, tiny_sysu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _export(pclhd, run)
    assert "cosine with torch at least" in said
    # The program of the page, with the files of this test.
    gallery = tmp_path / "day"
    gallery.mkdir()
    for number, path in enumerate(sorted((tiny_sysu / "cam1").rglob("*.jpg"))):
        shutil.copy(path, gallery / f"{number:03d}.jpg")
    shutil.copy(sorted((tiny_sysu / "cam3").rglob("*.jpg"))[0], tmp_path / "night.jpg")
    shutil.copy(run / "model.onnx", tmp_path / "model.onnx")
    (code,) = [part.split("```")[0] for part in DOCUMENT.read_text("utf-8").split("```python\n")[1:2]]
    assert "import onnxruntime" in code
    assert "pclhd" not in code
    assert "torch" not in code
    monkeypatch.chdir(tmp_path)
    program: dict[str, object] = {}
    exec(compile(code, "export.md", "exec"), program)
    encoder = Encoder.load(run, device="cpu")
    day = encoder.embed(gallery, modality="visible")
    night = encoder.embed("night.jpg", modality="infrared")
    order = np.argsort(-(night.features @ day.features.T)[0])
    assert [str(path) for path in program["found"]] == [f"day/{row:03d}.jpg" for row in order[:10]]  # type: ignore[attr-defined]

    # The same from pclhd, and either file of embeddings can be searched with the other.
    words = ("search", "night.jpg", "--images", "day", "--modality", "visible", "--json", "--device", "cpu")
    by_torch = pclhd("search", run, *words[1:])
    by_onnx = pclhd("search", run, *words[1:], "--runtime", "onnx")
    paths = [[line for line in one.out.splitlines() if '"path"' in line] for one in (by_torch, by_onnx)]
    assert paths[0] == paths[1] != []
    embed = ("--images", "day", "--modality", "visible", "--out")
    assert pclhd("embed", "model.onnx", *embed, "f.safetensors").code == 0
    assert pclhd("search", run, "night.jpg", "--features", "f.safetensors", "--modality", "visible").code == 0
    card = (run / "model.md").read_text("utf-8")
    assert encoder.model_id in card
    assert "(N, 32, 16, 3) uint8" in card


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "height", "width"),
    [("narrow", 96, 48), ("resnet50", 64, 32), ("efficientnet_lite0", 75, 45)],
)
def test_every_architecture_in_batches_of_any_size(name: str, height: int, width: int) -> None:
    encoder = Encoder(_network(name), Preprocessing(height, width), device="cpu")
    model = onnx_export.onnx_bytes(encoder)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, height, width), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pclhd.models.onnx_encoder._BATCH", 3)
        for modality in Modality:
            from_file = _opened(model).embed_pixels(pixels, modality)
            assert (from_file * encoder.embed_pixels(pixels, modality)).sum(axis=1).min() > 0.9999


def _network(name: str) -> TwoStreamNetwork:
    if name == "narrow":
        return stirred(ARCHITECTURES[name])
    if name != "efficientnet_lite0":
        # Stirred, a network as deep as ResNet-50 gives numbers beyond single precision.
        return TwoStreamNetwork(ARCHITECTURES[name])
    # Statistics as after some training, so that activations lie on both sides of the limits of ReLU6.
    network = LiteNetwork(LITE0)
    with torch.no_grad():
        for seed in range(10):
            network(pictures(8, 2 * seed), pictures(8, 2 * seed + 1))
    return network


def _opened(model: bytes) -> OnnxEncoder:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        return OnnxEncoder(path)


@pytest.mark.slow
def test_eight_bits_with_their_loss(pclhd: Call, run: Path) -> None:
    said = _export(pclhd, run, "--int8")
    assert "(torch → int8)" in said
    assert "all/single-shot: rank-1 " in said
    card = (run / "model.md").read_text("utf-8")
    assert "rank-1" in card
    encoder, exported = Encoder.load(run, device="cpu"), OnnxEncoder(run / "model.onnx")
    assert exported.model_id != encoder.model_id
    assert exported.facts.source_id == encoder.model_id
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 16), dtype=np.uint8)
    cosines = (exported.embed_pixels(pixels, Modality.VISIBLE) * encoder.embed_pixels(pixels, Modality.VISIBLE)).sum(1)
    assert cosines.min() > 0.95
    assert cosines.max() < 0.9999999


@pytest.mark.slow
def test_a_file_that_differs_is_refused_and_nothing_is_left(
    pclhd: Call, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Encoder(stirred(SMALL_BOTTLENECK, 9), Preprocessing(32, 16), device="cpu")
    model = onnx_export.onnx_bytes(other)
    monkeypatch.setattr(export, "onnx_bytes", lambda encoder: model)
    before = sorted(path.name for path in run.iterdir())
    said = complaint(pclhd("export", run, "--format", "onnx", "--out", run / "model.onnx"))
    assert "would give other embeddings than torch" in said
    assert sorted(path.name for path in run.iterdir()) == before


def test_mistakes(pclhd: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("export", run, "--format", "onnx", "--out")
    assert "expected .onnx" in complaint(pclhd(*words, tmp_path / "model.pth"))
    (tmp_path / "model.md").write_text("mine")
    assert "already exists" in complaint(pclhd(*words, tmp_path / "model.onnx"))
    assert (tmp_path / "model.md").read_text() == "mine"
    assert "no such file or folder" in complaint(pclhd(*words, tmp_path / "new.onnx", "--data", tmp_path / "nowhere"))
    assert "--int8: applies only to --format onnx" in complaint(
        pclhd("export", run, "--out", tmp_path / "a.pth", "--int8")
    )
    missing = ("search", run, tmp_path / "q.png", "--images", tmp_path, "--modality", "visible", "--runtime", "onnx")
    assert "pclhd export RUN --format onnx" in complaint(pclhd(*missing))
    assert not list(tmp_path.glob("*.onnx"))


def test_pictures_are_spread_over_the_training_set(tiny_sysu: Path) -> None:
    from pclhd.data.open import open_dataset

    images = open_dataset("sysu", tiny_sysu).train.images
    chosen = export._spread(images, 4)
    assert [one.modality for one in chosen] == [Modality.VISIBLE] * 4 + [Modality.INFRARED] * 4
    assert chosen[0] == images[0]
    assert chosen[-1] == images[-1]
    assert export._spread((), 4) == []
    with Image.open(chosen[0].path) as picture:
        assert picture.width
