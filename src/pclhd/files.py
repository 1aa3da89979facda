"""Atomic writing of files, and folders that are never overwritten."""

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
    """Open a temporary file that replaces `path` if the block succeeds; otherwise nothing changes.

    The file is flushed to disk before it is renamed, so that this also holds after a power failure.

    Args:
        path: The file to write. Its folder must exist.

    Yields:
        A binary file in the folder of `path`.

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
        # The reason of this error may also prevent its removal; the first error is the one to report.
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def write_durably(path: Path, content: bytes | str) -> None:
    """Write a file with `replacing`; text is written as UTF-8."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def check_output(path: Path, suffixes: Sequence[str], content: str, *, force: bool = False) -> None:
    """Raise an error now for a file that could not be written later.

    Args:
        path: The file to write, which is the argument ``out`` of the caller.
        suffixes: Allowed suffixes, upper or lower case.
        content: Content of the file, for the message.
        force: Whether to replace an existing file. A folder is never replaced.

    Raises:
        ArgumentError: The suffix is wrong, the file exists, or its folder does not.
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
    """Raise an error for a folder that must not be replaced.

    Args:
        path: A folder; may be missing or empty.
        mark: A file that each replaceable folder has.

    Raises:
        ArgumentError: It is a file or a link, or has files but not the mark.
    """
    if path.is_symlink():
        raise ArgumentError("out", "is a link, and `force` replaces only folders; name the folder itself", value=path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not ((path / mark).is_file() or (path / UNFINISHED).is_file()):
        raise ArgumentError(
            "out",
            f"is not a run folder (it has no {mark}), and `force` replaces only those; choose another",
            value=path,
        )


@contextmanager
def putting_aside(path: Path, mark: str) -> Iterator[None]:
    """Move a folder aside, and remove it if the block succeeds; otherwise move it back.

    Args:
        path: A folder; nothing is done if it is missing or empty.
        mark: See `check_replaceable`.

    Raises:
        ArgumentError: The folder must not be replaced.
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
            path.rmdir()  # empty, as the block has removed its files
        aside.rename(path)
        raise
    shutil.rmtree(aside)


def make_new_folder(path: Path) -> None:
    """Create a folder, with its parents; an existing one must be empty.

    Raises:
        UserError: It has files, or cannot be created.
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
    """Create a folder that the block fills; if the block fails, the folder is removed.

    A process that is killed meanwhile leaves a mark in the folder: its contents are then incomplete, and the next call
    removes them.

    Args:
        path: The folder. An existing one must be empty or have the mark.

    Raises:
        UserError: It has files, or cannot be created.
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
