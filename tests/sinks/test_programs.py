"""What TensorBoard, MLflow and Weights & Biases are given, read back with their own readers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pclhd.engine.interruption import Interrupted
from pclhd.runs.folder import RunFolder
from pclhd.runs.tracking import read_tracking, write_tracking
from pclhd.sinks.tensorboard import cluster_sheet, squared
from pclhd.workflows.train import train_run
from tests.engine.runs import SmallData, Watcher, digest, records

SHORT = ("schedule.stage2_epochs=0", "engine.accelerator=cpu")


@pytest.fixture(autouse=True)
def _variables() -> Any:
    """The programs' variables are those of this test only."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def plain(small: SmallData, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the weights without any sink."""
    run = RunFolder(tmp_path_factory.mktemp("plain") / "run")
    train_run(small.settings(*SHORT), small.dataset(), run)
    return digest(run.model_file)


def train(small: SmallData, run: Path, *words: str, watcher: Watcher | None = None, resume: bool = False) -> list[str]:
    """Train, or go on; the warnings about sinks."""
    watcher = watcher or Watcher()
    train_run(small.settings(*SHORT, *words), small.dataset(), RunFolder(run), observer=watcher, resume=resume)
    return [warning for warning in watcher.warnings if "records no more" in warning]


class _Interrupted(Watcher):
    def stepped(self, position: Any, step: int, losses: Any) -> None:
        raise Interrupted(15)


def test_tensorboard(small: SmallData, plain: str, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "run"
    assert train(small, run, "engine.tensorboard=true") == []
    assert digest(run / "model.safetensors") == plain
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    (epoch,) = events.Scalars("epoch/loss/total")
    assert epoch.value == pytest.approx(records(run)[0]["loss"]["total"], rel=1e-6)
    assert [step.step for step in events.Scalars("step/loss/total")] == [0, 1]
    assert "epoch/epoch" not in events.Tags()["scalars"]
    for name in ("visible", "infrared"):
        (sheet,) = events.Images(f"clusters/{name}")
        assert sheet.encoded_image_string.startswith(b"\x89PNG")
        assert (sheet.width, sheet.height % 48) == (8 * 24, 0)
    (projected,) = (run / "tensorboard").glob("*/final")
    vectors = np.loadtxt(projected / "tensors.tsv")
    assert len(vectors) == 72
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    heading, *notes = (projected / "metadata.tsv").read_text().splitlines()
    assert heading == "modality\tpseudo label"
    assert [note.split("\t")[0] for note in notes] == ["visible"] * 36 + ["infrared"] * 36


@pytest.mark.slow
def test_mlflow(small: SmallData, plain: str, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    run, words = tmp_path / "run", (f"engine.mlflow={tmp_path / 'records'}", "engine.log_every=1")
    # Interrupted and resumed, it is one record.
    with pytest.raises(Interrupted):
        train(small, run, *words, watcher=_Interrupted())
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "records").as_uri())
    number = read_tracking(run / "tracking.json")["mlflow"]
    assert client.get_run(number).info.status == "KILLED"
    assert train(small, run, *words, resume=True) == []
    assert digest(run / "model.safetensors") == plain
    (found,) = client.search_runs([client.get_experiment_by_name("pclhd").experiment_id])
    assert (found.info.run_id, found.info.status, found.info.run_name) == (number, "FINISHED", "run")
    assert found.data.params["clustering.k1"] == "6"
    assert found.data.metrics["epoch/loss/total"] == records(run)[0]["loss"]["total"]
    assert [one.step for one in client.get_metric_history(number, "step/loss/total")] == [0, 1]


@pytest.mark.slow
def test_weights_and_biases_stays_offline(small: SmallData, plain: str, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    os.environ.pop("WANDB_MODE", None)
    run = tmp_path / "run"
    assert train(small, run, "engine.wandb=demo") == []
    assert digest(run / "model.safetensors") == plain
    number = read_tracking(run / "tracking.json")["wandb"]
    (saved,) = (run / "wandb").glob(f"offline-run-*/run-{number}.wandb")
    content = saved.read_bytes()
    assert b"epoch/loss/total" in content
    # Nothing about the machine or its source code.
    assert os.uname().nodename.encode() not in content or len(os.uname().nodename) < 4
    assert not list((run / "wandb").rglob("*.patch"))


def test_a_folder_that_cannot_be_written_is_a_warning(small: SmallData, plain: str, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "file").write_text("no folder")
    warnings = train(small, tmp_path / "run", f"engine.mlflow={tmp_path / 'file' / 'records'}")
    assert [warning.partition(" (")[0] for warning in warnings] == ["MLflow records no more"]
    assert digest(tmp_path / "run" / "model.safetensors") == plain


def test_the_sheet_of_clusters() -> None:
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 4, 2) * 10
    labels = np.array([1, 0, -1, 1, 1, 0])
    sheet = cluster_sheet(images, labels)
    assert sheet is not None
    assert sheet.shape == (3, 2 * 4, 8 * 2)
    # The larger cluster first, its images in their order, then white.
    assert sheet[0, 0, ::2].tolist() == [0, 30, 40, 255, 255, 255, 255, 255]
    assert sheet[0, 4, ::2].tolist() == [10, 50, 255, 255, 255, 255, 255, 255]
    assert cluster_sheet(images, np.full(6, -1)) is None
    assert cluster_sheet(images[:0], labels[:0]) is None


def test_thumbnails_are_square() -> None:
    images = torch.zeros((2, 3, 128, 64), dtype=torch.uint8)
    found = squared(images)
    assert found.shape == (2, 3, 64, 64)
    assert found[0, 0, 10].tolist() == [1.0] * 16 + [0.0] * 32 + [1.0] * 16
    wide = squared(torch.zeros((1, 3, 8, 16), dtype=torch.uint8))
    assert wide.shape == (1, 3, 64, 64)


def test_numbers_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "tracking.json"
    assert read_tracking(path) == {}
    write_tracking(path, {"mlflow": "1"})
    write_tracking(path, {"wandb": "2"})
    assert read_tracking(path) == {"mlflow": "1", "wandb": "2"} == json.loads(path.read_text())
    for damaged in ("[", "[1]", "3"):
        path.write_text(damaged)
        with pytest.raises(Exception, match="is damaged"):
            read_tracking(path)
