from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pclhd.config import load_preset
from pclhd.errors import UserError
from pclhd.files import UNFINISHED, InUse, is_owned, owning_folder
from pclhd.runs.folder import RunFolder
from pclhd.runs.listing import ListedRun, list_runs
from tests.report.fixtures import make_results

EPOCH = '{{"kind": "epoch", "epoch": {0}, "stage": 1, "loss": {{}}, "criteria": {{"cycle": 0.{0}}}}}\n'


def make_run(path: Path, *, epochs: int = 0, model: bool = False, seed: int = 0) -> Path:
    """A run folder as a training leaves it after some epochs."""
    (path / "checkpoints").mkdir(parents=True)
    run = RunFolder(path)
    run.write_settings(load_preset("tiny", [f"seed={seed}"], root=path.parent / "data"))
    run.log_file.write_text("".join(EPOCH.format(epoch) for epoch in range(epochs)))
    if model:
        run.model_file.write_bytes(b"weights")
    return path


def states(listed: list[ListedRun]) -> dict[str, str]:
    return {Path(run.path).name: run.state for run in listed}


def test_the_state_of_each_run(tmp_path: Path) -> None:
    make_run(tmp_path / "finished", epochs=3, model=True)
    make_run(tmp_path / "interrupted", epochs=2)
    make_run(tmp_path / "training", epochs=1)
    make_run(tmp_path / "evaluating", epochs=3, model=True)
    make_run(tmp_path / "unfinished")
    (tmp_path / "unfinished" / UNFINISHED).touch()
    before = sorted(tmp_path.rglob("*"))
    with owning_folder(tmp_path / "training"), owning_folder(tmp_path / "evaluating"):
        listed = list_runs([tmp_path])
    assert states(listed) == {
        "evaluating": "in use",
        "finished": "finished",
        "interrupted": "interrupted",
        "training": "training",
        "unfinished": "unfinished",
    }
    assert states(list_runs([tmp_path]))["training"] == "interrupted"
    assert sorted(tmp_path.rglob("*")) == before
    run = next(run for run in listed if run.state == "interrupted")
    assert (run.epochs, run.of, run.seed, run.recipe, run.preset) == (2, 3, 0, "pclhd", "tiny")
    assert run.criteria == {"cycle": 0.1}
    assert run.data == str(tmp_path / "data")
    assert run.rank1 is None


def test_a_training_that_an_error_ended_is_no_interrupted_one(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", epochs=1)
    line = '{"kind": "failure", "epoch": 1, "reason": "the loss is no longer finite"}\n'
    with (path / "metrics.jsonl").open("a") as log:
        log.write(line)
    (run,) = list_runs([tmp_path])
    assert (run.state, run.problem, run.epochs) == ("failed", "the loss is no longer finite", 1)
    with owning_folder(path):
        assert list_runs([tmp_path])[0].state == "training"
    # It went on: later lines follow, or the model is there.
    with (path / "metrics.jsonl").open("a") as log:
        log.write(EPOCH.format(1))
    assert states(list_runs([tmp_path])) == {"run": "interrupted"}
    (path / "metrics.jsonl").write_text(line)
    (path / "model.safetensors").write_bytes(b"weights")
    (run,) = list_runs([tmp_path])
    assert (run.state, run.problem) == ("finished", None)


def test_figures_are_those_of_the_first_search(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", model=True)
    results = make_results()
    (path / "results.json").write_text(json.dumps(results))
    (run,) = list_runs([tmp_path])
    assert (run.search, run.best_weights) == ("all/single-shot", "final")
    assert (run.rank1, run.best) == (0.47, 0.47)
    assert run.mAP == pytest.approx(0.44)
    for row in results["rows"]:
        if row["weights"] == "start":
            row["rank1"]["mean"] = 0.9
    (path / "results.json").write_text(json.dumps(results))
    (run,) = list_runs([tmp_path])
    assert (run.rank1, run.best, run.best_weights) == (0.47, 0.9, "start")
    (path / "results.json").write_text(json.dumps({**results, "rows": []}))
    assert list_runs([tmp_path])[0].search is None


def test_damaged_folders_are_named_and_the_others_listed(tmp_path: Path) -> None:
    make_run(tmp_path / "good", model=True)
    damaged = {name: make_run(tmp_path / name) for name in ("settings", "log", "results", "nothing")}
    (damaged["settings"] / "config.yaml").write_text("[")
    (damaged["log"] / "metrics.jsonl").write_text("broken\n")
    (damaged["results"] / "results.json").write_text("{}")
    (damaged["nothing"] / "config.yaml").unlink()
    listed = list_runs([tmp_path])
    assert states(listed) == {**dict.fromkeys(damaged, "damaged"), "good": "finished"}
    for run in listed:
        if run.state == "damaged":
            assert run.problem is not None
            assert run.path in run.problem
            assert "\n" not in run.problem


def test_where_runs_are_looked_for(tmp_path: Path) -> None:
    for name in ("runs/run-2", "runs/run-10", "runs/deep/er/run", "runs/.hidden/run"):
        make_run(tmp_path / name)
    make_run(tmp_path / "runs" / "run-2" / "inner")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "runs" / "run-2", target_is_directory=True)
    names = [run.path for run in list_runs([tmp_path / "runs"])]
    root = str(tmp_path / "runs")
    assert names == [f"{root}/deep/er/run", f"{root}/run-2", f"{root}/run-10"]
    # A folder named twice, or within another one, is listed once; a run folder itself may be named.
    assert [run.path for run in list_runs([tmp_path / "runs", tmp_path / "runs" / "run-2"])] == names
    assert [run.path for run in list_runs([tmp_path / "runs" / "run-2"])] == [f"{root}/run-2"]
    (tmp_path / "empty").mkdir()
    assert list_runs([tmp_path / "empty"]) == []
    with pytest.raises(UserError, match="is not a folder"):
        list_runs([tmp_path / "nowhere"])


def test_disk_used(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    before = list_runs([tmp_path])[0].bytes
    (path / "checkpoints" / "weights").write_bytes(bytes(5000))
    (path / "link").symlink_to(path / "checkpoints" / "weights")
    assert list_runs([tmp_path])[0].bytes == before + 5000


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_looking_at_a_lock_does_not_take_it(tmp_path: Path) -> None:
    assert not is_owned(tmp_path)
    (tmp_path / ".lock").touch()  # left by a killed process
    assert not is_owned(tmp_path)
    with owning_folder(tmp_path):
        assert is_owned(tmp_path)
        assert is_owned(tmp_path)
        code = (
            "import sys; from pathlib import Path; from pclhd.files import is_owned; print(is_owned(Path(sys.argv[1])))"
        )
        ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
        assert ran.stdout == "True\n"
        with pytest.raises(InUse), owning_folder(tmp_path):
            pass
    assert not is_owned(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_short_look_does_not_keep_a_training_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    (tmp_path / ".lock").touch()
    looking = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr("pclhd.files.time.sleep", lambda _: os.close(looking))
    with owning_folder(tmp_path):
        assert is_owned(tmp_path)
