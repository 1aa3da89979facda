"""The wheel holds everything that runs, and works where there is no source tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "pclhd"

pytestmark = pytest.mark.slow

#: Fast tests of every kind that use what the wheel must bring: presets, templates, weights, pages, the command line.
TESTS = (
    "tests/test_config.py",
    "tests/test_recipes.py",
    "tests/test_losses.py",
    "tests/evaluation",
    "tests/report/test_page.py",
    "tests/service/test_app.py",
    "tests/cli/test_settings.py",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the source tree, so that nothing is left in it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    built = subprocess.run([*map(str, command), "--quiet"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def outside(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel in `site` and the tests, and nothing else of the project."""
    folder = tmp_path_factory.mktemp("outside")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target"]
    subprocess.run([*command, str(folder / "site"), str(wheel)], check=True, capture_output=True)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers =\n    slow:\n    gpu:\n")
    return folder


def run(outside: Path, *words: object, code: int = 0) -> str:
    """Run Python with the installed wheel in front."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(outside / "site")
    ran = subprocess.run(
        [sys.executable, *map(str, words)], cwd=outside, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    expected = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
        (points,) = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {"pclhd/py.typed", "pclhd/weights/starter.safetensors", "pclhd/presets/own.yaml"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert f"Requires-Python: {project['requires-python']}" in metadata
    assert "pclhd = pclhd.cli:main" in points


def test_it_trains_evaluates_and_reports(outside: Path) -> None:
    assert str(outside / "site") in run(outside, "-c", "import pclhd; print(pclhd.__file__)")
    assert "Train without labels" in run(outside, "-m", "pclhd", "--help")
    run(outside, "-m", "pclhd", "synth", "--out", "data", "--scale", "tiny")
    run(outside, "-m", "pclhd", "train", "tiny", "--data", "data", "--out", "run", "schedule.iterations=1")
    assert "Rank-1" in run(outside, "-m", "pclhd", "evaluate", "run")
    run(outside, "-m", "pclhd", "report", "run")
    assert "<html" in (outside / "run" / "report" / "index.html").read_text("utf-8")


def test_fast_tests_pass_from_outside_the_source_tree(outside: Path) -> None:
    words = (
        "-m",
        "pytest",
        "-q",
        "-x",
        "-m",
        "not slow",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        outside / "temporary",
    )
    assert " passed" in run(outside, *words, *TESTS)
