from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pclhd
from pclhd.config import load_preset
from pclhd.errors import UserError
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import save_model
from pclhd.runs.folder import RunFolder, checkpoint_files, checkpoint_name, trained_labels

PACKAGE = Path(pclhd.__file__).parent
# Names that only a run folder uses, as they would appear in a path.
NAMES = {
    "config.yaml",
    "provenance.json",
    "metrics.jsonl",
    "results.json",
    "model.safetensors",
    "index.html",
    "start.safetensors",
    "stage1.safetensors",
    "selected.safetensors",
    '"checkpoints"',
}
# transformers uses this name for its weights, too; the settings name them, and the backbones read them.
OF_TRANSFORMERS = {"config.py", "models/backbones.py", "models/weights.py"}


def test_the_names() -> None:
    run = RunFolder("r")
    files = [
        run.settings_file,
        run.provenance_file,
        run.training_images_file,
        run.log_file,
        run.results_file,
        run.model_file,
        run.report_file,
        run.selected_weights_file,
        run.weights_file("start"),
        run.weights_file("stage1"),
        run.weights_file("final"),
        run.kept_weights_file(12),
    ]
    assert [path.as_posix() for path in files] == [
        "r/config.yaml",
        "r/provenance.json",
        "r/training_images.txt",
        "r/metrics.jsonl",
        "r/results.json",
        "r/model.safetensors",
        "r/report/index.html",
        "r/checkpoints/selected.safetensors",
        "r/checkpoints/start.safetensors",
        "r/checkpoints/stage1.safetensors",
        "r/model.safetensors",
        "r/checkpoints/weights-0012.safetensors",
    ]
    assert str(run.tensorboard_folder) == str(Path("r") / "tensorboard")


def test_no_other_module_spells_them() -> None:
    pattern = re.compile("|".join(map(re.escape, NAMES)))
    found = [
        (path.relative_to(PACKAGE).as_posix(), number, match)
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        for match in pattern.findall(line)
    ]
    ours = [place for place in found if not (place[2] == "model.safetensors" and place[0] in OF_TRANSFORMERS)]
    assert {name for name, _, _ in ours} == {"runs/folder.py"}, ours


def test_reading_runs_needs_no_torch() -> None:
    program = (
        "import sys; from pclhd.runs import folder, metrics_log, provenance, records;"
        "print([name for name in ('torch', 'numba', 'sklearn', 'matplotlib') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_it_is_made_of_a_path_a_text_or_itself(tmp_path: Path) -> None:
    assert RunFolder(tmp_path) == RunFolder(str(tmp_path)) == RunFolder(RunFolder(tmp_path))
    assert Path(RunFolder(tmp_path)) == tmp_path
    assert str(RunFolder(tmp_path)) == str(tmp_path)


def test_checkpoints_sort_in_the_order_of_training(tmp_path: Path) -> None:
    places = [(2, 0), (0, 0), (10, 3), (0, 15), (2, 100)]
    for epoch, step in places:
        (tmp_path / checkpoint_name(epoch, step)).touch()
    (tmp_path / "start.safetensors").touch()
    expected = [checkpoint_name(epoch, step) for epoch, step in sorted(places)]
    assert [path.name for path in checkpoint_files(tmp_path)] == expected
    assert checkpoint_files(tmp_path / "gone") == []


def test_an_empty_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert not run.is_run()
    assert not run.is_begun()
    assert (run.saved_settings(), run.facts(), run.log(), run.epochs(), run.results()) == (None, {}, [], [], None)
    assert (run.weights(), run.data_root(), run.model_metadata()) == ({}, None, {})
    for call in (run.require_run, run.require_model):
        with pytest.raises(UserError, match="is not a run folder"):
            call()
    with pytest.raises(UserError, match="make it with: pclhd evaluate"):
        run.require_results()


def test_a_run_without_a_model(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_settings(load_preset("tiny", [], root=tmp_path / "data"))
    run.require_run()
    assert run.settings().preset == "tiny"
    assert run.data_root() == tmp_path / "data"
    with pytest.raises(UserError, match="not finished; continue with: pclhd train --resume"):
        run.require_model()


def test_the_weights_that_are_there(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.checkpoints_folder.mkdir()
    assert run.is_begun()
    for name in ("final", "start"):
        save_model(run.weights_file(name), TwoStreamNetwork(NARROW), {"weights": name})
    assert list(run.weights()) == ["start", "final"]
    assert run.require_model() == run.model_file
    assert run.model_metadata() == {"weights": "final"}


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_damaged_model_file_has_no_metadata(tmp_path: Path, content: bytes) -> None:
    run = RunFolder(tmp_path)
    run.model_file.write_bytes(content)
    assert run.model_metadata() == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    "name", ["config.yaml", "metrics.jsonl", "results.json", "training_images.txt", "calibration.json"]
)
def test_a_named_pipe_in_a_run_folder_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    run = RunFolder(tmp_path)
    readers: dict[str, Callable[[], object]] = {
        "config.yaml": run.settings,
        "metrics.jsonl": run.epochs,
        "results.json": run.results,
        "training_images.txt": run.training_images,
        "calibration.json": run.calibration,
    }
    with pytest.raises(UserError, match=f"{name}: cannot be read \\(it is a named pipe"):
        readers[name]()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_in_place_of_weights_is_not_waited_for(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    os.mkfifo(run.model_file)
    run.checkpoints_folder.mkdir()
    os.mkfifo(run.checkpoints_folder / checkpoint_name(1, 0))
    assert checkpoint_files(run.checkpoints_folder)
    assert run.model_metadata() == {}
    assert trained_labels(run) is None
