from __future__ import annotations

from pathlib import Path

import pytest

from pclhd.errors import ArgumentError, UserError
from pclhd.files import UNFINISHED, check_output, making_folder, putting_aside, replacing


def test_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"the old content")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"the old content"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def write_half(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"the old content")
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert path.read_bytes() == b"the old content"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("length", [250, 300])
def test_a_name_that_is_too_long(tmp_path: Path, length: int) -> None:
    """With 250 letters the name itself would do; that of the file beside it would not."""
    with pytest.raises(UserError, match="cannot be written"), replacing(tmp_path / ("n" * length)):
        pass


def test_what_cannot_be_written_is_told_where_nothing_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder that is mounted for reading only."""

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "open", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(UserError, match=r"file: cannot be written \(Read-only"), replacing(tmp_path / "file"):
        pass


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"), replacing(tmp_path / "no" / "file"):
        pass


def fill(folder: Path, *, fail: bool = False) -> None:
    with making_folder(folder):
        (folder / "below").mkdir()
        (folder / "below" / "file").write_text("new")
        (folder / "file").write_text("new")
        if fail:
            raise KeyboardInterrupt


def contents(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("existed", [True, False])
def test_a_folder_is_made_whole_or_not_at_all(tmp_path: Path, existed: bool) -> None:
    folder = tmp_path / "run"
    if existed:
        folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        fill(folder, fail=True)
    assert list(tmp_path.rglob("*")) == ([folder] if existed else [])
    fill(folder)
    assert contents(folder) == ["below/file", "file"]


def test_what_a_killed_process_left_of_a_folder_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in (UNFINISHED, "old", "below/old"):
        (tmp_path / name).write_text("old")
    fill(tmp_path)
    assert contents(tmp_path) == ["below/file", "file"]


def test_a_folder_with_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    with pytest.raises(UserError, match="already holds files"):
        fill(tmp_path)
    assert contents(tmp_path) == ["old"]


# Replacing.


def old_run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("old")
    return folder


def test_a_folder_put_aside_comes_back(tmp_path: Path) -> None:
    folder = old_run(tmp_path)
    with pytest.raises(KeyboardInterrupt), putting_aside(folder, "config.yaml"):
        fill(folder, fail=True)
    assert contents(tmp_path) == ["run/config.yaml"]
    with putting_aside(folder, "config.yaml"):
        fill(folder)
    assert contents(tmp_path) == ["run/below/file", "run/file"]


def test_a_link_is_not_replaced(tmp_path: Path) -> None:
    folder = old_run(tmp_path)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ArgumentError, match="is a link"), putting_aside(tmp_path / "link", "config.yaml"):
        raise AssertionError
    assert contents(folder) == ["config.yaml"]


@pytest.mark.parametrize("make", ["nothing", "empty", "unfinished"])
def test_what_holds_nothing_is_replaced(tmp_path: Path, make: str) -> None:
    folder = tmp_path / "run"
    if make != "nothing":
        folder.mkdir()
    if make == "unfinished":
        (folder / UNFINISHED).touch()
    with putting_aside(folder, "config.yaml"):
        fill(folder)
    assert contents(tmp_path) == ["run/below/file", "run/file"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_run_is_never_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mine"
    if kind == "folder":
        path.mkdir()
        (path / "file").write_text("mine")
    else:
        path.write_text("mine")
    with pytest.raises(ArgumentError, match="is not a run folder"), putting_aside(path, "config.yaml"):
        raise AssertionError
    assert (path if kind == "file" else path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("new.txt", "out=.*new.txt: not a kind of file for labels; expected .csv, .npy"),
        ("old.csv", "already exists; choose another `out`, or replace the file with `force`"),
        ("folder.npy", "is a folder"),
        ("none/new.csv", "there is no folder"),
    ],
)
def test_an_output_that_cannot_be_written(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "old.csv").touch()
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(ArgumentError, match=said):
        check_output(tmp_path / name, (".csv", ".npy"), "labels")
    if name == "old.csv":
        check_output(tmp_path / name, (".csv", ".npy"), "labels", force=True)
    else:
        with pytest.raises(ArgumentError, match=said):
            check_output(tmp_path / name, (".csv", ".npy"), "labels", force=True)
