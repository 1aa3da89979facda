"""`pclhd import`, `export` and `embed`: weights of others in, embeddings and checkpoints out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pclhd.config import load_preset, load_settings
from pclhd.data.images import load_images
from pclhd.data.open import open_dataset
from pclhd.data.records import Modality
from pclhd.features.read import read_features, read_identities, read_modality
from pclhd.models.embed import embed_images
from pclhd.models.encoder import Encoder, embed_records
from pclhd.models.released import released_state
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import load_model, save_model
from pclhd.workflows import exchange
from tests.commands import Call, complaint
from tests.data.fake_layouts import write_image
from tests.models.small import SMALL_BOTTLENECK, stirred

State = dict[str, Tensor]


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> State:
    """A state of a family whose network is small."""
    monkeypatch.setattr(exchange, "RELEASED_ARCHITECTURE", SMALL_BOTTLENECK)
    return released_state(stirred(SMALL_BOTTLENECK, 1))


@pytest.fixture
def refused(pclhd: Call, tmp_path: Path) -> Callable[[Path], str]:
    """The complaint about a checkpoint, after which nothing is left behind."""

    def run_import(path: Path) -> str:
        before = set(tmp_path.rglob("*"))
        said = complaint(pclhd("import", path, "--layout", "sysu", "--out", tmp_path / "run"))
        assert set(tmp_path.rglob("*")) == before
        assert str(path) in said
        return said

    return run_import


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_sysu: Path) -> Path:
    """A finished run on the synthetic benchmark; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    settings = load_preset("tiny", ["data.height=48", "data.width=24", "data.workers=1"], root=tiny_sysu)
    (folder / "config.yaml").write_text(settings.to_yaml())
    save_model(folder / "model.safetensors", stirred(NARROW))
    return folder


# Import and export.


def test_a_checkpoint_becomes_a_run_that_is_evaluated(
    pclhd: Call, state: State, tiny_sysu: Path, tmp_path: Path
) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": wrapped, "epoch": 50, "best_mAP": np.float64(0.5)}, tmp_path / "best.pth.tar")
    outcome = pclhd("import", tmp_path / "best.pth.tar", "--layout", "sysu", "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert "state_dict.module" in outcome.out
    assert "best_mAP" in outcome.out
    assert len(outcome.out.splitlines()) < 15
    _shrink(tmp_path / "run")
    evaluated = pclhd("evaluate", tmp_path / "run", "--data", tiny_sysu)
    assert evaluated.code == 0, evaluated.err
    results = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))
    assert {row["weights"] for row in results["rows"]} == {"final"}
    assert pclhd("report", tmp_path / "run", "--data", tiny_sysu).code == 0
    assert "imported" in (tmp_path / "run" / "report" / "index.html").read_text("utf-8")
    assert pclhd("export", tmp_path / "run", "--format", "released", "--out", tmp_path / "back.pth").code == 0
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    used = load_model(tmp_path / "run" / "model.safetensors").state_dict()
    assert back.keys() == state.keys()
    assert sum(torch.equal(back[name], state[name]) for name in state) >= len(used)


def _shrink(run: Path) -> None:
    """The images of a run to a size that is quickly computed."""
    settings = load_settings(run / "config.yaml")
    data = settings.data.model_copy(update={"height": 48, "width": 24, "workers": 1})
    (run / "config.yaml").write_text(settings.model_copy(update={"data": data}).to_yaml())


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_wrong_shapes_and_missing_entries(
    refused: Callable[[Path], str], state: State, tmp_path: Path, suffix: str
) -> None:
    def save(changed: State) -> Path:
        path = tmp_path / f"x.{suffix}"
        if suffix == "pth":
            torch.save(changed, path)
        else:
            save_file({name: tensor.clone() for name, tensor in changed.items()}, path)
        return path

    said = refused(save({**state, "bottleneck.weight": torch.zeros(3)}))
    assert "'bottleneck.weight' has shape 3; expected shape 32" in said
    missing = {name: tensor for name, tensor in state.items() if name != "NL_1.0.theta.bias"}
    assert "'NL_1.0.theta.bias' is missing" in refused(save(missing))
    assert "no network of the released family" in refused(save({"conv1.weight": torch.zeros(1)}))
    path = save(state)
    path.write_bytes(path.read_bytes()[:-5000])
    assert "cut short" in refused(path)


def test_pickled_objects_and_other_files(refused: Callable[[Path], str], state: State, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": state, "call": os.getpid}, path)
    assert "getpid" in refused(path)
    path.write_text("<html>")
    assert "not a checkpoint" in refused(path)
    assert "no such file" in refused(tmp_path / "none.pth")


def test_two_networks_in_a_file(refused: Callable[[Path], str], state: State, tmp_path: Path) -> None:
    copies = {f"{place}.{name}": tensor for place in ("model", "model_ema") for name, tensor in state.items()}
    torch.save(copies, tmp_path / "x.pth")
    assert "holds several networks: model, model_ema; choose one" in refused(tmp_path / "x.pth")


def test_an_existing_run_folder_and_data_that_is_not_there(
    pclhd: Call, run: Path, state: State, tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "x.pth")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    said = complaint(pclhd("import", tmp_path / "x.pth", "--layout", "sysu", "--out", run))
    assert "replace a run with --force" in said
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    forced = ("import", tmp_path / "x.pth", "--layout", "sysu", "--out", run, "--force")
    assert "nowhere" in complaint(pclhd(*forced, "--data", tmp_path / "nowhere"))
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    words = ("import", tmp_path / "x.pth", "--layout", "sysu", "--out", tmp_path / "new")
    assert "nowhere" in complaint(pclhd(*words, "--data", tmp_path / "nowhere"))
    assert not (tmp_path / "new").exists()


def test_force_replaces_a_run_and_a_checkpoint(pclhd: Call, state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "x.pth")
    words = ("import", tmp_path / "x.pth", "--layout", "own", "--out", tmp_path / "run")
    assert pclhd(*words).code == 0
    (tmp_path / "run" / "note.txt").write_text("mine")
    assert pclhd(*words, "--force", "-q").code == 0
    assert not (tmp_path / "run" / "note.txt").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "note.txt").write_text("mine")
    said = complaint(pclhd(*words[:-1], tmp_path / "other", "--force"))
    assert "is no run folder" in said
    assert (tmp_path / "other" / "note.txt").read_text() == "mine"
    out = tmp_path / "back.pth"
    out.write_text("old")
    assert "replace the file with --force" in complaint(pclhd("export", tmp_path / "run", "--out", out))
    exported = pclhd("export", tmp_path / "run", "--out", out, "--force", "--quiet")
    assert (exported.code, exported.out, exported.err) == (0, "", "")
    assert torch.load(out, weights_only=True).keys()


def test_exports_that_cannot_be(pclhd: Call, run: Path, tmp_path: Path) -> None:
    assert "narrow" in complaint(pclhd("export", run, "--out", tmp_path / "x.pth"))
    assert "not a run folder" in complaint(pclhd("export", tmp_path, "--out", tmp_path / "x.pth"))
    assert list(tmp_path.iterdir()) == []


# Embeddings.


def test_test_images_are_embedded_as_in_the_evaluation(pclhd: Call, run: Path, tiny_sysu: Path, tmp_path: Path) -> None:
    outcome = pclhd("embed", run, "--split", "test", "--device", "cpu", "--out", tmp_path / "x.npy")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    test = open_dataset("sysu", tiny_sysu).test
    assert test is not None
    (expected,) = embed_records([Encoder.load(run, device="cpu")], test.images)
    assert np.array_equal(np.load(tmp_path / "x.npy"), expected)
    assert f"{len(test):,} embeddings" in outcome.out


def test_all_formats_say_the_same(pclhd: Call, run: Path, tiny_sysu: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for suffix in ("npy", "safetensors", "parquet"):
        outcome = pclhd("embed", run, "--data", tiny_sysu, "--out", tmp_path / f"x.{suffix}")
        assert outcome.code == 0, outcome.err
    dataset = open_dataset("sysu", tiny_sysu)
    assert dataset.test is not None
    assert dataset.train_identities is not None
    records = [*dataset.train.images, *dataset.test.images]
    identities = [*dataset.train_identities, *dataset.test.identities]
    columns = parquet.read_table(tmp_path / "x.parquet").to_pydict()
    assert list(columns) == ["path", "modality", "camera", "identity", "split", "embedding"]
    assert [tiny_sysu / path for path in columns["path"]] == [record.path for record in records]
    assert columns["modality"] == [str(record.modality) for record in records]
    assert columns["camera"] == [record.camera for record in records]
    assert columns["identity"] == identities
    assert columns["split"] == ["train"] * len(dataset.train) + ["test"] * len(dataset.test)
    array = np.load(tmp_path / "x.npy")
    np.testing.assert_allclose(np.linalg.norm(array, axis=1), 1, rtol=1e-5)
    for suffix in ("safetensors", "parquet"):
        path = tmp_path / f"x.{suffix}"
        table = read_features(path)
        assert np.array_equal(table.features, array)
        codes = read_modality("modality", table, path)
        assert codes.tolist() == [int(record.modality is Modality.INFRARED) for record in records]
        known = read_identities("identity", table, path)
        assert np.array_equal(known, np.unique(np.array(identities).astype(str), return_inverse=True)[1])
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["paths"]) == columns["path"]
        assert file.get_tensor("camera").tolist() == columns["camera"]


def test_embeddings_go_straight_into_clustering(pclhd: Call, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for suffix in ("parquet", "safetensors"):
        features = tmp_path / f"x.{suffix}"
        assert pclhd("embed", run, "--split", "train", "--out", features).code == 0
        out = tmp_path / f"{suffix}.csv"
        words = ("--modality", "modality", "--identities", "identity", "--out", out)
        clustered = pclhd("cluster", features, *words, "--per-modality", "--k1", 8, "--k2", 3)
        assert clustered.code == 0, clustered.err
        rows = out.read_text("utf-8").splitlines()
        assert len(rows) == 1 + len(read_features(features))
        assert "camera" in rows[0]


def test_loose_images(pclhd: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    for name in ("night/b.png", "night/deep/a.png", "more/c.png"):
        write_image(tmp_path / name, name)
    words = ("--images", "night", "--images", "more/c.png", "--images", "night/b.png", "--modality", "infrared")
    assert pclhd("embed", run, *words, "--device", "cpu", "--out", "x.parquet").code == 0
    columns = parquet.read_table("x.parquet").to_pydict()
    # What is unknown of all images is no column; an image named twice is embedded once.
    assert list(columns) == ["path", "modality", "embedding"]
    assert columns["path"] == ["night/b.png", "night/deep/a.png", "more/c.png"]
    assert set(columns["modality"]) == {"infrared"}
    pixels = load_images([Path(path) for path in columns["path"]], 48, 24, resample="lanczos", workers=1)
    expected = embed_images(load_model(run / "model.safetensors"), pixels, Modality.INFRARED)
    assert np.array_equal(np.array(columns["embedding"], dtype=np.float32), expected.numpy())


def test_ones_own_images_with_some_identities(pclhd: Call, run: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    lines = ["path,modality,camera,identity,split"]
    people = {"train": ("", ""), "test": ("7", "8")}
    for split, (first, second) in people.items():
        for modality in Modality:
            for number, person in enumerate((first, second)):
                name = f"{split}-{modality}-{number}.png"
                write_image(tmp_path / name, name)
                lines.append(f"{name},{modality},{number if split == 'test' else ''},{person},{split}")
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    words = ("embed", run, "--data", tmp_path / "mine.csv")
    for suffix in ("parquet", "safetensors"):
        assert pclhd(*words, "--layout", "own", "--out", tmp_path / f"x.{suffix}").code == 0
    columns = parquet.read_table(tmp_path / "x.parquet").to_pydict()
    assert columns["identity"] == [None] * 4 + [7, 8, 7, 8]
    assert columns["path"][4] == "test-visible-0.png"
    tensors = read_features(tmp_path / "x.safetensors").columns
    assert tensors["identity"].tolist() == [-1] * 4 + [7, 8, 7, 8]
    assert tensors["camera"].tolist() == [-1] * 4 + [0, 1, 0, 1]


def test_labelled_images_that_serve_both_parts_come_once(pclhd: Call, run: Path, tmp_path: Path) -> None:
    lines = ["path,modality,identity"]
    for modality in Modality:
        write_image(tmp_path / f"{modality}.png", modality)
        lines.append(f"{modality}.png,{modality},3")
    (tmp_path / "images.csv").write_text("\n".join(lines))
    for split, count in (("all", 2), ("train", 2), ("test", 2)):
        words = ("--data", tmp_path, "--layout", "auto", "--split", split, "--out", tmp_path / f"{split}.npy")
        (tmp_path / f"{split}.npy").write_text("old")
        assert pclhd("embed", run, *words, "--force").code == 0
        assert len(np.load(tmp_path / f"{split}.npy")) == count


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "x.txt"), "not a kind of file for features"),
        (("--out", "old.npy"), "already exists"),
        (("--out", "no/x.npy"), "no folder"),
        (("--out", "x.npy", "--data", "nowhere"), "nowhere"),
        (("--out", "x.npy", "--device", "tpu9"), "--device tpu9"),
        (("--out", "x.npy", "--images", "empty"), "say whether --images are visible or infrared"),
        (("--out", "x.npy", "--images", "empty", "--modality", "visible"), "no image there"),
        (("--out", "x.npy", "--images", "empty", "--modality", "visible", "--data", "empty"), "leave out --data"),
        (("--out", "x.npy", "--images", "bad", "--modality", "visible"), "bad/x.png"),
        (("--out", "x.npy", "--modality", "visible"), "goes with --images"),
        (("--out", "x.npy", "--layout", "regdb"), "it looks like sysu"),
    ],
)
def test_mistakes(
    pclhd: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_text("no image")
    (tmp_path / "old.npy").write_text("mine")
    before = set(tmp_path.rglob("*"))
    assert said in complaint(pclhd("embed", run, *words))
    assert set(tmp_path.rglob("*")) == before
    assert (tmp_path / "old.npy").read_text() == "mine"


def test_no_data_and_no_test_part(pclhd: Call, run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "run"
    bare.mkdir()
    (bare / "config.yaml").write_text(load_preset("tiny", ["data.layout=own"]).to_yaml())
    assert "not finished" in complaint(pclhd("embed", bare, "--out", tmp_path / "x.npy"))
    save_model(bare / "model.safetensors", TwoStreamNetwork(NARROW))
    assert "name folders with --images" in complaint(pclhd("embed", bare, "--out", tmp_path / "x.npy"))
    for modality in Modality:
        write_image(tmp_path / "own" / modality / "1.png", modality)
    words = ("embed", bare, "--data", tmp_path / "own", "--split", "test", "--out", tmp_path / "x.npy")
    assert "no labelled test images" in complaint(pclhd(*words))


def test_a_header_that_nobody_could_read(
    pclhd: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pclhd.features.write._LONGEST_HEADER", 10)
    assert "write .parquet instead" in complaint(pclhd("embed", run, "--out", tmp_path / "x.safetensors"))
    assert list(tmp_path.iterdir()) == []
