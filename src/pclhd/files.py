"""Files that are either the old one or the whole new one, never a part; and folders that are never overwritten."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pclhd.errors import UserError

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
    """Write a whole file by way of `replacing`; text is written as UTF-8."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def make_new_folder(path: Path) -> None:
    """Create a folder, with its parents; one that exists must be empty.

    Raises:
        UserError: It holds files, or cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        used = any(path.iterdir())
    except OSError as error:
        raise UserError(f"{path}: cannot be created ({error.strerror}); choose another --out") from error
    if used:
        raise UserError(
            f"{path}: already holds files; choose another --out, or go on with a run: pclhd train --resume {path}"
        )


@contextmanager
def making_folder(path: Path) -> Iterator[None]:
    """Make a folder and fill it in the block; if that fails, nothing stays of it.

    A process that is killed meanwhile leaves a mark in the folder: then nothing in it is of worth, and whoever makes it
    anew clears it first.

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
