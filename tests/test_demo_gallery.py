"""The list of images of the demo's gallery, and what the demo does with it."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pclhd.models.preprocessing import Preprocessing
from pclhd.models.two_stream import NARROW
from pclhd.models.weights import save_model
from tests.commands import Call
from tests.models.small import stirred

ROOT = Path(__file__).parent.parent


def test_the_list_holds_the_test_people_only_and_a_gallery_takes_it(
    pclhd: Call, tiny_sysu: Path, tmp_path: Path
) -> None:
    pytest.importorskip("lancedb", reason="the extra `gallery` is not installed")
    target = tmp_path / "gallery.csv"
    words = [sys.executable, "scripts/demo_gallery.py", str(tiny_sysu), str(target)]
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == 0
    rows = list(csv.DictReader(target.read_text().splitlines()))
    people = {f"{int(person):04d}" for person in (tiny_sysu / "exp" / "test_id.txt").read_text().split(",")}
    assert {Path(row["path"]).parts[-2] for row in rows} == people
    assert {(Path(row["path"]).parts[-3], row["modality"]) for row in rows} == {
        ("cam1", "visible"), ("cam2", "visible"), ("cam3", "infrared"),
    }  # fmt: skip
    save_model(tmp_path / "model.safetensors", stirred(NARROW), preprocessing=Preprocessing(48, 24))
    added = pclhd("gallery", "add", tmp_path / "gallery", target, "--model", tmp_path / "model.safetensors")
    assert f"{len(rows)} images added, 0 were there, 0 left out" in added.out


def test_words_that_are_missing_are_named() -> None:
    ran = subprocess.run([sys.executable, "scripts/demo_gallery.py"], cwd=ROOT, capture_output=True, check=False)
    assert ran.returncode == 2
    assert b"Usage:" in ran.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_demo_ends_with_the_command_that_opens_the_page() -> None:
    command = ["make", "--no-print-directory", "--dry-run", "demo"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    gallery = re.search(r"gallery add (\S+) ", lines[-3])
    assert gallery is not None
    assert lines[-1].endswith(f'pclhd serve {gallery[1]}"')


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_demo_draws_the_default_benchmark_with_validation_people() -> None:
    command = ["make", "--no-print-directory", "--dry-run", "demo"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    (drawn,) = [line.split() for line in lines if " synth " in f" {line} "]
    assert drawn[1:] == ["synth", "--out", "build/demo/data", "--scale", "small"]
