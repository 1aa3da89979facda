"""Files that are either the old one or the whole new one, never a part; and folders that are never overwritten."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pclhd.errors import ArgumentError, UserError

UNFINISHED = ".unfinished"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` once the block ends well; otherwise nothing has changed.

    It is flushed to the disk before it is renamed, so that this holds after a power cut too.

    Args:
        path: The file to write. Its folder must exist.

    Yields:
        A binary file beside `path`.

    Raises:
        UserError: The file cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); choose a writable folder with free space"
        ) from error
    finally:
        # What keeps it from being made may keep it from being removed, and is what the user has to hear of.
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def write_durably(path: Path, content: bytes | str) -> None:
    """Write a whole file by way of `replacing`; text is written as UTF-8.

    A name that is not UTF-8, as the system hands it over, is escaped as JSON does (``\\udcff``).
    """
    with replacing(path) as file:
        file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


def expanded(path: Path) -> Path:
    """The path with ``~`` and ``~user`` replaced by the home folder.

    Raises:
        UserError: There is no such user.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: has no home folder ({error}); write the whole path") from error


def check_output(path: Path, suffixes: Sequence[str], content: str, *, force: bool = False) -> None:
    """Refuse a file that could not be written later, after all the work.

    Args:
        path: The file to write; the argument ``out`` of the caller.
        suffixes: Ends of the names that it may have, in any case.
        content: What will be in it, for the message.
        force: Whether it may replace a file. A folder is never replaced.

    Raises:
        ArgumentError: Another kind of file, one that exists, or no such folder.
    """
    if not path.name.lower().endswith(tuple(suffixes)):
        raise ArgumentError("out", f"not a kind of file for {content}; expected {', '.join(suffixes)}", value=path)
    if path.is_dir():
        raise ArgumentError("out", "is a folder; name a file", value=path)
    if path.exists() and not force:
        raise ArgumentError("out", "already exists; choose another `out`, or replace the file with `force`", value=path)
    if not path.parent.is_dir():
        raise ArgumentError("out", f"there is no folder {path.parent}; create it first", value=path)


def check_replaceable(path: Path, mark: str) -> None:
    """Refuse to replace a folder that is of another kind.

    Args:
        path: A folder, which may be missing or empty.
        mark: A file that each folder of the kind has.

    Raises:
        ArgumentError: It is a file or a link, or holds files but not the mark.
    """
    if path.is_symlink():
        raise ArgumentError("out", "is a link, and `force` replaces only folders; name the folder itself", value=path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not ((path / mark).is_file() or (path / UNFINISHED).is_file()):
        raise ArgumentError(
            "out", f"is no run folder (it has no {mark}), and `force` replaces only those; choose another", value=path
        )


@contextmanager
def putting_aside(path: Path, mark: str) -> Iterator[None]:
    """Move a folder out of the way, and remove it when the block has ended well; otherwise move it back.

    Args:
        path: A folder; one that is missing or empty needs no such care.
        mark: See `check_replaceable`.

    Raises:
        ArgumentError: The folder is of another kind.
    """
    check_replaceable(path, mark)
    if not path.is_dir() or not any(path.iterdir()):
        yield
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.replaced")
    path.rename(aside)
    try:
        yield
    except BaseException:
        if path.is_dir():
            path.rmdir()  # what the block made it has removed
        aside.rename(path)
        raise
    shutil.rmtree(aside)


def make_new_folder(path: Path) -> None:
    """Create a folder, with its parents; one that exists must be empty.

    Raises:
        UserError: It holds files, or cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        used = any(path.iterdir())
    except OSError as error:
        raise ArgumentError("out", f"cannot be created ({error.strerror}); choose another", value=path) from error
    if used:
        raise ArgumentError(
            "out",
            f"already holds files; choose another, replace a run with `force`, or continue it: "
            f"pclhd train --resume {path}",
            value=path,
        )


@contextmanager
def making_folder(path: Path) -> Iterator[None]:
    """Make a folder and fill it in the block; if that fails, nothing stays of it.

    A process that is killed meanwhile leaves a mark in the folder: its content is then useless, and the next call
    removes it.

    Args:
        path: The folder. One that exists must be empty, or have the mark.

    Raises:
        UserError: It holds files, or cannot be created.
    """
    mark, existed = path / UNFINISHED, path.exists()
    if mark.exists():
        _clear(path)
    make_new_folder(path)
    try:
        mark.touch()
        yield
    except BaseException:
        _clear(path)
        if not existed:
            path.rmdir()
        raise
    mark.unlink()


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != UNFINISHED:
            entry.unlink()
    (folder / UNFINISHED).unlink(missing_ok=True)
