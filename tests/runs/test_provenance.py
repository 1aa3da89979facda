from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numba
import pytest
import torch

import pclhd
from pclhd.config import load_preset
from pclhd.data.records import ImageRecord, Modality, digest_file, make_training_set
from pclhd.runs import provenance
from pclhd.runs.provenance import checkout_state, processor_model, provenance_json, provenance_resumed
from pclhd.weights import starter_path
from tests.data.fake_layouts import write_image

UNKNOWN = {"commit": None, "dirty": None}


def facts(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    """The provenance of a run with three images."""
    records = []
    for number, (modality, camera) in enumerate(
        ((Modality.VISIBLE, 2), (Modality.INFRARED, 3), (Modality.INFRARED, None))
    ):
        write_image(tmp_path / f"{number}.png", str(number))
        records.append(ImageRecord(tmp_path / f"{number}.png", modality, camera))
    training_set, _ = make_training_set(records)
    settings = load_preset("tiny", ["seed=3", *overrides])
    loaded: dict[str, Any] = json.loads(provenance_json(settings, training_set, torch.device("cpu")))
    assert loaded["data"]["training_checksum"] == training_set.checksum
    return loaded


def test_where_the_numbers_come_from(tmp_path: Path) -> None:
    found = facts(tmp_path, "engine.precision=bf16-mixed")
    assert found["seed"] == 3
    assert found["pclhd"] == pclhd.__version__
    assert found["device"] == "cpu"
    assert found["precision"] == "bf16-mixed"
    assert found["processes"] == 1
    assert found["threads"] == torch.get_num_threads()
    assert found["numba_threads"] == numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    assert found["data"]["training_images"] == {"visible": 1, "infrared": 2}
    assert found["cameras"] == {"visible": {"2": 1}, "infrared": {"unknown": 1, "3": 1}}
    machine = found["machine"]
    assert machine["cores"] == os.cpu_count()
    assert len(machine["gpus"]) == torch.cuda.device_count()
    assert {"system", "platform", "processor", "model", "instructions", "memory_bytes"} < machine.keys()


def test_sessions_that_resume_record_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "checkout_state", lambda package: {"commit": "one", "dirty": False})
    first = facts(tmp_path)
    assert first["resumed"] == []
    settings, cpu = load_preset("tiny", ["seed=3"]), torch.device("cpu")
    once = provenance_resumed(json.dumps(first), settings, cpu, epoch=2)
    assert json.loads(once) == {**first, "resumed": [{"epoch": 2}]}
    monkeypatch.setattr(provenance, "checkout_state", lambda package: {"commit": None, "dirty": None})
    monkeypatch.setattr(provenance, "_library_versions", lambda: {"torch": "9", "new": "1"})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    twice = json.loads(provenance_resumed(once, settings, cpu, epoch=5))
    gone = dict.fromkeys(first["libraries"])
    changed = {"commit": None, "dirty": None, "libraries": {**gone, "torch": "9", "new": "1"}, "threads": 99}
    assert twice == {**first, "resumed": [{"epoch": 2}, {"epoch": 5, **changed}]}


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[]", "not provenance"),
        ('{"resumed": 3}', "not provenance"),
        ('{"memory_bytes": NaN}', "NaN is not a number"),
    ],
)
def test_an_invalid_provenance_is_refused(damaged: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        provenance_resumed(damaged, load_preset("tiny", []), torch.device("cpu"), epoch=0)


def test_processes_that_train_together_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    assert facts(tmp_path)["processes"] == 3


def test_every_library_that_can_touch_a_number_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def some(name: str) -> str:
        if name.startswith(("faiss", "scikit-network", "transformers")):
            raise PackageNotFoundError(name)
        return f"1.0 of {name}"

    found = facts(tmp_path)["libraries"]
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    wanted = {
        "torch",
        "lightning-fabric",
        "numpy",
        "scipy",
        "scikit-learn",
        "numba",
        "pillow",
        "safetensors",
    }
    assert wanted <= found.keys()
    monkeypatch.setattr(provenance, "version", some)
    assert facts(tmp_path)["libraries"] == {name: f"1.0 of {name}" for name in wanted}


def test_provenance_holds_no_path(tmp_path: Path) -> None:
    start = tmp_path / "mine" / "start.safetensors"
    start.parent.mkdir()
    start.write_bytes(b"weights")
    said = json.dumps(facts(tmp_path, f"model.weights={start}"))
    assert str(Path.home()) not in said
    assert str(tmp_path) not in said


def test_start_weights_are_recorded_by_their_digest(tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    path.write_bytes(b"weights")
    expected = {"file": "start.safetensors", "sha256": digest_file(path)}
    assert facts(tmp_path, f"model.weights={path}")["start_weights"] == expected
    assert facts(tmp_path, f"model.weights=imagenet:{path}")["start_weights"] == expected
    starter = {"file": "starter.safetensors", "sha256": digest_file(starter_path())}
    assert facts(tmp_path, "model.weights=starter")["start_weights"] == starter
    assert facts(tmp_path, "model.weights=none")["start_weights"] is None
    assert facts(tmp_path, f"model.weights={tmp_path / 'gone'}")["start_weights"] is None


def test_the_processor_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text(
        "processor\t: 0\nmodel name\t: First: 3 GHz\nflags\t: a b\n\nprocessor\t: 1\nmodel name\t: Second\n"
    )
    assert processor_model(listed) == "First: 3 GHz"
    monkeypatch.setattr("platform.processor", lambda: "by Python")
    assert processor_model(tmp_path / "none") == "by Python"
    listed.write_text("nothing here\n")
    monkeypatch.setattr("platform.processor", lambda: "")
    assert processor_model(listed) is None


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git"), subprocess.TimeoutExpired("git", 5)],
)
def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    found = facts(tmp_path)
    assert (found["commit"], found["dirty"]) == (None, None)


def test_without_a_processor_list_or_a_page_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert facts(tmp_path)["machine"]["memory_bytes"] is None


# Which repository's commit it is.

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    # These tests may themselves run in a hook.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", *identity, "-C", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=outside).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository that looks like ours, with one commit."""
    root = tmp_path / "checkout"
    (root / "src" / "pclhd").mkdir(parents=True)
    (root / "src" / "pclhd" / "__init__.py").write_text("")
    (root / "pyproject.toml").write_text('[project]\nname = "pclhd"\n')
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


@needs_git
def test_the_own_checkout_has_a_commit(checkout: Path) -> None:
    package = checkout / "src" / "pclhd"
    commit = git(checkout, "rev-parse", "HEAD")
    assert checkout_state(package) == {"commit": commit, "dirty": False}
    # Changes that cannot affect a number do not count.
    (checkout / "notes.txt").write_text("note")
    assert checkout_state(package) == {"commit": commit, "dirty": False}


@needs_git
@pytest.mark.parametrize("change", ["edited", "new", "gone"])
def test_uncommitted_changes_are_recorded(checkout: Path, change: str) -> None:
    package = checkout / "src" / "pclhd"
    commit = git(checkout, "rev-parse", "HEAD")
    if change == "gone":
        (package / "__init__.py").unlink()
    else:
        (package / ("__init__.py" if change == "edited" else "more.py")).write_text("x = 1\n")
    assert checkout_state(package) == {"commit": commit, "dirty": True}


@needs_git
@pytest.mark.parametrize("place", ["lib/pclhd", ".venv/lib/python3.11/site-packages/pclhd", "src/pclhd"])
@pytest.mark.parametrize("project", ['[project]\nname = "theirs"\n', None, "not TOML [", "project = 3\n"])
def test_the_repository_around_an_installed_package_is_not_its_own(
    checkout: Path, place: str, project: str | None
) -> None:
    package = checkout / place
    package.mkdir(parents=True, exist_ok=True)
    if project is None:
        (checkout / "pyproject.toml").unlink()
    else:
        (checkout / "pyproject.toml").write_text(project)
    assert checkout_state(package) == UNKNOWN


@needs_git
def test_an_installed_copy_inside_the_own_checkout_has_no_commit(checkout: Path) -> None:
    installed = checkout / ".venv" / "lib" / "python3.11" / "site-packages" / "pclhd"
    shutil.copytree(checkout / "src" / "pclhd", installed)
    assert checkout_state(installed) == UNKNOWN


@needs_git
def test_the_whole_project_copied_into_another_repository_has_no_commit(checkout: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(checkout, theirs / "copied", ignore=shutil.ignore_patterns(".git"))
    git(theirs, "init", "-q")
    git(theirs, "add", "-A")
    git(theirs, "commit", "-q", "-m", "theirs")
    assert checkout_state(theirs / "copied" / "src" / "pclhd") == UNKNOWN


@needs_git
def test_in_a_hook_of_another_repository_the_commit_is_still_ours(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "other")
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert checkout_state(checkout / "src" / "pclhd")["commit"] == commit
