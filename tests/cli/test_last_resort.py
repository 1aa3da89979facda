"""Unforeseen ends of a call: a full disk behind stdout, a closed pipe, a bug, control characters."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pclhd.text_tables import printable, text_table
from tests.commands import Call, complaint

RECIPES = [sys.executable, "-m", "pclhd", "recipes"]


def test_a_bug_ends_in_one_line_with_a_saved_traceback(
    pclhd: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("pclhd.workflows.recipes.recipe_list", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = pclhd("recipes")
    (saved,) = tmp_path.iterdir()
    assert ended.code == 70
    assert (
        ended.err == f"pclhd: internal error (RuntimeError: first second); report it with {saved}, which shows where\n"
    )
    assert "Traceback" in saved.read_text()
    assert saved.stat().st_mode & 0o077 == 0
    with pytest.raises(RuntimeError, match="first"):
        pclhd("recipes", "--debug")


def test_a_bug_where_no_traceback_can_be_saved(pclhd: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("first")

    monkeypatch.setattr("pclhd.workflows.recipes.recipe_list", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    ended = pclhd("recipes")
    assert (ended.code, ended.err) == (70, "pclhd: internal error (RuntimeError: first); --debug shows where\n")


def test_ctrl_c_anywhere(pclhd: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pclhd.workflows.recipes.recipe_list", stop)
    ended = pclhd("recipes")
    assert (ended.code, ended.err.strip()) == (130, "")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        RuntimeError("could not create a primitive"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), "a file"),
    ],
)
def test_memory_that_runs_out_anywhere(pclhd: Call, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("pclhd.workflows.recipes.recipe_list", fail)
    assert "ran out of memory" in complaint(pclhd("recipes"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("words", [[], ["--json"], ["--help"], ["pclhd"]])
def test_output_to_a_full_disk(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([*RECIPES, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == (
        "pclhd: the output cannot be written (No space left on device); make room, or send it elsewhere\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_complaints_to_a_full_disk() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([*RECIPES, "nothing"], stdout=subprocess.PIPE, stderr=full, check=False)
    assert (ended.returncode, ended.stdout) == (2, b"")


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_a_reader_that_goes_away(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([*RECIPES, *words], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_output_that_is_closed() -> None:
    ended = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *RECIPES], stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_an_encoding_that_lacks_characters(tmp_path: Path) -> None:
    missing = tmp_path / "−\udcff\x1b]0;title\x07"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    command = [*map(os.fsencode, RECIPES[:-1]), b"check", os.fsencode(missing)]
    ended = subprocess.run(command, capture_output=True, env=environment, check=False)
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2
    assert rb"\u2212\udcff\u001b]0;title\u0007" in line


def test_control_characters_of_names_do_not_reach_the_terminal(pclhd: Call, tmp_path: Path) -> None:
    line = complaint(pclhd("evaluate", tmp_path / "\x1b[31m\x9b\u202e"))
    assert r"\u001b[31m\u009b\u202e" in line


def test_printable_keeps_what_people_write() -> None:
    text = "Zoë 行人 αβγ − 🙂 a\tb"
    assert printable(text) == "Zoë 行人 αβγ − 🙂 a\\u0009b"
    assert printable(text, keep="\t") == text


def test_tables_stay_aligned_around_escaped_names() -> None:
    assert text_table([("\x1b", "x"), ("abc", "y")]) == "\\u001b  x\nabc     y"
