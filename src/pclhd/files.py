"""Files that are either the old one or the whole new one, never a part; and folders that are never overwritten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pclhd.errors import UserError


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
