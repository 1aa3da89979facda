"""The current folder and the environment variables that libraries read are looked at before these are loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import Call, complaint

SENSELESS = [
    ("RANK", "x"),
    ("RANK", "-1"),
    ("LOCAL_RANK", ""),
    ("WORLD_SIZE", "0"),
    ("WORLD_SIZE", "-2"),
    ("MASTER_PORT", "x"),
    ("MASTER_PORT", "99999"),
    ("SLURM_PROCID", "first"),
    ("NUMBA_NUM_THREADS", "0"),
    ("NUMBA_NUM_THREADS", "100000"),
    ("NUMBA_THREADING_LAYER", "x"),
    ("OMP_NUM_THREADS", "0"),
    ("OMP_NUM_THREADS", "many"),
    ("MKL_NUM_THREADS", "-1"),
]


@pytest.mark.parametrize(("variable", "text"), SENSELESS)
def test_a_senseless_variable(pclhd: Call, monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    if variable == "NUMBA_THREADING_LAYER":  # numba starts its threads once in a process

        def fail() -> None:
            raise ValueError("unknown")

        monkeypatch.setattr("numba.np.ufunc.parallel._launch_threads", fail)
    monkeypatch.setenv(variable, text)
    assert f"environment variable {variable} is '{text}'; expected" in complaint(pclhd("recipes"))


@pytest.mark.parametrize(
    ("variable", "text"),
    [("RANK", "0"), ("WORLD_SIZE", "1"), ("OMP_NUM_THREADS", "4,2"), ("OMP_NUM_THREADS", ""), ("MASTER_PORT", "29500")],
)
def test_usual_variables(pclhd: Call, monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    assert pclhd("recipes").code == 0


def test_a_folder_that_was_deleted(pclhd: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert (
        complaint(pclhd("synth", "--out", "x")) == "pclhd: the current folder no longer exists; change to another one"
    )


@pytest.mark.parametrize("columns", ["0", "00", ""])
def test_a_terminal_without_width(columns: str) -> None:
    environment = {**os.environ, "COLUMNS": columns}
    command = [sys.executable, "-m", "pclhd"]
    ended = subprocess.run(
        [*command, "check", "/nonexistent"], capture_output=True, env=environment, text=True, check=False
    )
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "/nonexistent: no such file or folder" in ended.stderr


def test_ctrl_c_while_libraries_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-m", "pclhd", "recipes"]
    ended = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_a_home_without_place_for_a_cache(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path / "none" / "home"), "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""}
    (tmp_path / "none").touch()  # a file: not even root can make a folder in it
    environment.pop("MPLCONFIGDIR", None)
    code = "import pclhd.report.figures"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
