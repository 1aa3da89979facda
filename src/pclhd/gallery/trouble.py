"""What an error of LanceDB means, in one line: trouble with the disk, or damaged files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pclhd.errors import UserError, ran_out_of_memory

_ADVICE = "restore the folder from a copy, or make a new gallery from the images"
_LONGEST_REASON = 160
# Its Rust code ends so where it takes something for impossible; the class is not public, and no Exception.
_PANIC = "PanicException"

_DISK_TROUBLES = {
    28: "No space left on device",
    122: "Disk quota exceeded",
    30: "Read-only file system",
    27: "File too large",
    5: "Input/output error",
    13: "Permission denied",
}


def damaged(path: Path, reason: str) -> UserError:
    """The error that says that a gallery's files are damaged.

    Args:
        path: The gallery's folder.
        reason: What is wrong.
    """
    shown = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"
    return UserError(f"{path}: is damaged ({shown}); {_ADVICE}")


@contextmanager
def explaining(path: Path, *, writes: bool) -> Iterator[None]:
    """Turn LanceDB's errors in the block into one line.

    Args:
        path: The gallery's folder.
        writes: Whether the block writes.

    Raises:
        UserError: The disk is full or may not be read or written, or the files are damaged.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        if isinstance(error, Exception) and ran_out_of_memory(error):
            raise
        trouble = _disk_trouble(error)
        if trouble is None:
            raise damaged(path, " ".join(f"{error}".split())) from error
        if writes:
            raise _unwritten(path, trouble) from error
        raise UserError(f"{path}: cannot be read ({trouble}); check the folder's permissions and the disk") from error


@contextmanager
def explaining_disk(path: Path) -> Iterator[None]:
    """Turn errors of the disk in a block that writes a gallery into one line, and let all others pass.

    Raises:
        UserError: The disk is full or may not be written.
    """
    try:
        yield
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        trouble = _disk_trouble(error)
        if trouble is None:
            raise
        raise _unwritten(path, trouble) from error


def _unwritten(path: Path, trouble: str) -> UserError:
    return UserError(
        f"{path}: cannot be written ({trouble}); choose a writable folder with free space. What had been added is kept"
    )


def vanished(error: Exception) -> bool:
    """Whether a file was not there."""
    text = str(error)
    return "Not found" in text or "NotFound" in text or "os error 2)" in text


def _disk_trouble(error: BaseException) -> str | None:
    """What the system said about the disk; None if the error has another reason."""
    text = str(error)
    return next(
        (reason for number, reason in _DISK_TROUBLES.items() if f"os error {number})" in text or reason in text), None
    )
