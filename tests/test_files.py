from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from pclhd.errors import ArgumentError, UserError
from pclhd.files import (
    LOCK,
    UNFINISHED,
    check_output,
    claiming,
    expanded,
    making_folder,
    owning_folder,
    putting_aside,
    remove_partial_files,
    replacing,
    write_durably,
)


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
    """A name of 250 letters is allowed, but that of the temporary file, which is longer, is not."""
    with pytest.raises(UserError, match="cannot be written"), replacing(tmp_path / ("n" * length)):
        pass


def test_a_file_in_a_read_only_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder that is mounted read-only."""

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("os.open", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(UserError, match=r"file: cannot be written \(Read-only"), replacing(tmp_path / "file"):
        pass


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"), replacing(tmp_path / "no" / "file"):
        pass


def fill(folder: Path, *, fail: bool = False) -> None:
    with owning_folder(folder), making_folder(folder):
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


def test_a_folder_that_a_killed_process_left_unfinished_is_replaced(tmp_path: Path) -> None:
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


def replace_run(folder: Path, *, fail: bool = False) -> None:
    with owning_folder(folder), putting_aside(folder, "config.yaml"), making_folder(folder):
        (folder / "file").write_text("new")
        if fail:
            raise KeyboardInterrupt


def test_a_folder_put_aside_comes_back(tmp_path: Path) -> None:
    folder = old_run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        replace_run(folder, fail=True)
    assert contents(tmp_path) == ["run/config.yaml"]
    replace_run(folder)
    assert contents(tmp_path) == ["run/file"]


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
    replace_run(folder)
    assert contents(tmp_path) == ["run/file"]


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


# One writer at a time.


Context = Callable[[Path], AbstractContextManager[None]]

OTHER = """
import sys
from pathlib import Path
from pclhd.files import {context}
with {context}(Path(sys.argv[1])):
    print("has it", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def another_process(context: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that owns or claims a path until it is killed, or reads a line."""
    program = OTHER.format(context=context)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "has it\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("context", [owning_folder, claiming])
def test_a_living_owner_is_named_and_a_dead_one_forgotten(tmp_path: Path, context: Context) -> None:
    path = tmp_path / "new" / "output"
    with another_process(context.__name__, path) as process:
        said = rf"new/output: is being written by another pclhd \(process {process.pid}\); wait until that ends"
        with pytest.raises(UserError, match=said), context(path):
            raise AssertionError
        process.kill()
        process.wait()
        lock = path / LOCK if context is owning_folder else tmp_path / "new" / ".output.lock"
        assert lock.read_text() == f"{process.pid}\n"
        with context(path):
            assert lock.read_text() == f"{os.getpid()}\n"
        assert not lock.exists()


@pytest.mark.parametrize("context", [owning_folder, claiming])
def test_an_owner_that_ends_leaves_nothing(tmp_path: Path, context: Context) -> None:
    with another_process(context.__name__, tmp_path / "new" / "output") as process:
        process.communicate("\n")
        assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("context", [owning_folder, claiming])
def test_a_lock_whose_file_is_removed_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: Context
) -> None:
    """The owner ends after the next one has opened the file: a lock on a file without a name excludes no one."""
    path = tmp_path / "output"
    path.mkdir()
    owner = ExitStack()
    owner.enter_context(context(path))
    real = fcntl.flock

    def late(file: int, operation: int) -> None:
        owner.close()
        real(file, operation)

    monkeypatch.setattr("fcntl.flock", late)
    with context(path):
        with pytest.raises(UserError, match="is being written by another"), context(path):
            raise AssertionError
        assert len(list(tmp_path.rglob("*.lock"))) == 1


@pytest.mark.parametrize("context", [owning_folder, claiming])
def test_of_many_threads_one_owns_at_a_time(tmp_path: Path, context: Context) -> None:
    """They come and go at once, so that a lock is often removed while another thread has it open."""
    path, inside, most = tmp_path / "output", [0], [0]
    count = threading.Lock()

    def own(_: int) -> bool:
        try:
            with context(path):
                with count:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                with count:
                    inside[0] -= 1
        except UserError:
            return False
        return True

    path.mkdir()
    with ThreadPoolExecutor(8) as pool:
        owned = list(pool.map(own, range(1000)))
    assert sum(owned) > 50
    assert most == [1]
    assert list(tmp_path.rglob("*")) == [path]


def _make(arguments: tuple[Path, int]) -> str:
    """Make a run folder of many files, or say why not."""
    folder, number = arguments
    try:
        with owning_folder(folder), making_folder(folder):
            for name in range(20):
                write_durably(folder / str(name), str(number))
            (folder / UNFINISHED).stat()
    except UserError as error:
        return "refused" if re.search("is being written by|already holds", str(error)) else str(error)
    return str(number)


def test_of_processes_that_make_one_folder_one_does(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        for attempt in range(20):
            folder = tmp_path / str(attempt)
            made = pool.map(_make, [(folder, number) for number in range(3)], chunksize=1)
            winners = {number for number in made if number != "refused"}
            assert len(winners) == 1
            assert {path.read_text() for path in folder.iterdir()} == winners
            assert len(list(folder.iterdir())) == 20


def test_a_mark_of_a_killed_process_and_its_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (UNFINISHED, LOCK, "old"):
        (folder / name).write_text("1")
    fill(folder)
    assert contents(folder) == ["below/file", "file"]


def test_a_planted_lock_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".labels.csv.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match=r"labels\.csv: cannot be written"), claiming(tmp_path / "labels.csv"):
        raise AssertionError
    assert (tmp_path / "victim").read_text() == "precious"


def test_without_locks_in_the_file_system_a_single_writer_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    fill(tmp_path / "run")
    assert contents(tmp_path) == ["run/below/file", "run/file"]


@contextmanager
def claimed(path: Path, *, replace: bool) -> Iterator[None]:
    """Claim an output, and write it at the end."""
    with claiming(path, replace=replace):
        yield
        with replacing(path, replace=replace) as file:
            file.write(b"ours")


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("replace", [True, False])
def test_a_file_that_appears_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool, links: bool
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr("os.link", no_links)
    path = tmp_path / "e.npy"
    if replace:
        with claimed(path, replace=True):
            path.write_text("precious")
        assert path.read_text() == "ours"
    else:
        with pytest.raises(ArgumentError, match="already exists"), claimed(path, replace=False):
            path.write_text("precious")
        assert path.read_text() == "precious"
        path.unlink()
        with claimed(path, replace=False):
            pass
        assert path.read_text() == "ours"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_came_before_the_claim(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("precious")
    with pytest.raises(ArgumentError, match="already exists"), claiming(tmp_path / "old", replace=False):
        raise AssertionError
    assert contents(tmp_path) == ["old"]


# Temporary files.


def test_a_planted_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if its name was guessed."""
    (tmp_path / "victim").write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda _: "0" * 16)
    for name in (f".new.{'0' * 16}.part", f".new.{os.getpid()}.part"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match=r"new: cannot be written \(File exists"):
        write_durably(tmp_path / "new", "ours")
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "new").exists()


def test_processes_of_equal_number_do_not_share_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in two containers with one volume."""
    monkeypatch.setattr("os.getpid", lambda: 1)
    path = tmp_path / "file"
    with replacing(path) as one, replacing(path) as two:
        one.write(b"one")
        two.write(b"two")
    assert path.read_bytes() == b"one", "the last to end"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_of_an_output_goes_and_nothing_else(tmp_path: Path) -> None:
    old = "0123456789abcdef"
    (tmp_path / f".a.pth.{old}.part").mkdir()
    (tmp_path / f".a.pth.{old}.part" / "file").touch()
    (tmp_path / f".a.pth.f{old[1:]}.part").touch()
    others = [tmp_path / f".a.pth.tar.{old}.part", tmp_path / ".a.pth.part", tmp_path / f".b.pth.{old}.part"]
    for path in others:
        path.touch()
    with claiming(tmp_path / "a.pth"):
        pass
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_partial_files_of_killed_processes_are_removed_from_a_run(tmp_path: Path) -> None:
    for name in ("file", ".file.123.part", ".file.0123456789abcdef.part", "mine.part"):
        (tmp_path / name).touch()
    with claiming(tmp_path / "labels.csv"):
        living = tmp_path / ".labels.csv.0123456789abcdef.part"
        living.touch()
        remove_partial_files(tmp_path)
        assert living.exists(), "its owner is at work"
        living.unlink()
    remove_partial_files(tmp_path / "gone")
    assert contents(tmp_path) == ["file", "mine.part"]


# Permissions.


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("given", [0o600, 0o640, 0o444, 0o666])
def test_a_file_keeps_its_permissions(tmp_path: Path, given: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(given)
    with replacing(path) as file:
        (aside,) = set(tmp_path.iterdir()) - {path}
        assert mode(aside) == given, "nor is it wider meanwhile"
        file.write(b"new")
    assert path.read_text() == "new"
    assert mode(path) == given


def test_a_new_file_gets_those_of_the_user(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_durably(tmp_path / "file", "new")
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == 0o640


@pytest.mark.parametrize("replaced", [True, False])
def test_a_folder_keeps_its_permissions(tmp_path: Path, replaced: bool) -> None:
    folder = old_run(tmp_path)
    if not replaced:
        (folder / "config.yaml").unlink()
    folder.chmod(0o700)
    replace_run(folder)
    assert mode(folder) == 0o700
    assert contents(tmp_path) == ["run/file"]


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from pclhd.errors import UserError
from pclhd.files import claiming, making_folder, owning_folder, write_durably
if os.geteuid() == 0:  # who may do everything
    os.chown(".", 65534, 65534)
    os.setgid(65534)
    os.setuid(65534)
os.umask(int(sys.argv[1], 8))
path = Path(sys.argv[2])
for attempt in ("owning", "claiming", "writing"):
    try:
        if attempt == "owning":
            with owning_folder(path), making_folder(path):
                raise AssertionError
        elif attempt == "claiming":
            with claiming(path):
                raise AssertionError
        else:
            write_durably(path, "new")
            raise AssertionError
    except UserError as error:
        print(error)
"""


@pytest.mark.parametrize(("umask", "path", "rights"), [("777", "above/output", 0o700), ("022", "output", 0o500)])
def test_where_nothing_can_be_made_nothing_is_left(tmp_path: Path, umask: str, path: str, rights: int) -> None:
    """A umask that takes all rights from what is made, and a folder that may only be read."""
    tmp_path.chmod(rights)
    program = [sys.executable, "-c", UNPRIVILEGED, umask, path]
    ran = subprocess.run(program, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert len(lines) == 3
    assert all(re.search(r"(above|output): cannot be (created|written) \(", one) for one in lines)
    assert list(tmp_path.iterdir()) == []


def test_homes_that_do_not_exist() -> None:
    assert expanded(Path("~")) == Path.home()
    with pytest.raises(UserError, match="has no home folder"):
        expanded(Path("~nosuchuser/x"))


def test_names_that_are_not_utf8_are_written_escaped(tmp_path: Path) -> None:
    write_durably(tmp_path / "page", "a\udcff")
    assert (tmp_path / "page").read_bytes() == rb"a\udcff"
