"""What an error of LanceDB means, in one line: trouble with the disk, or damaged files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

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


class Troubled(Protocol):
    """Where a gallery lies, as far as errors need it; see `pclhd.gallery.places.Place`."""

    @property
    def address(self) -> str:
        """For messages."""

    def trouble(self, error: BaseException, *, writes: bool) -> UserError | None:
        """What an error says about the place, in one line; None if it has another reason."""


def damaged(address: str, reason: str) -> UserError:
    """The error that says that a gallery's files are damaged.

    Args:
        address: The gallery's folder or address.
        reason: What is wrong.
    """
    shown = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"
    return UserError(f"{address}: is damaged ({shown}); {_ADVICE}")


@contextmanager
def explaining(place: Troubled, *, writes: bool) -> Iterator[None]:
    """Turn LanceDB's errors in the block into one line.

    Args:
        place: Where the gallery lies.
        writes: Whether the block writes.

    Raises:
        UserError: The disk is full or may not be read or written, the storage does not answer, or files are damaged.
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
        trouble = place.trouble(error, writes=writes)
        raise trouble or damaged(place.address, " ".join(f"{error}".split())) from error


@contextmanager
def explaining_place(place: Troubled) -> Iterator[None]:
    """Turn errors of the disk or the storage in a block that writes a gallery into one line, and let all others pass.

    Raises:
        UserError: The disk is full or may not be written, or the storage does not answer.
    """
    try:
        yield
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        trouble = place.trouble(error, writes=True)
        if trouble is None:
            raise
        raise trouble from error


def disk_trouble(path: str, error: BaseException, *, writes: bool) -> UserError | None:
    """What the system said about the disk, in one line; None if the error has another reason.

    Args:
        path: The gallery's folder.
        error: As LanceDB raised it.
        writes: Whether it was writing.
    """
    text = str(error)
    reason = next(
        (reason for number, reason in _DISK_TROUBLES.items() if f"os error {number})" in text or reason in text), None
    )
    if reason is None:
        return None
    if writes:
        return UserError(
            f"{path}: cannot be written ({reason}); choose a writable folder with free space. What had been added is "
            "kept"
        )
    return UserError(f"{path}: cannot be read ({reason}); check the folder's permissions and the disk")


def vanished(error: Exception) -> bool:
    """Whether a file was not there."""
    text = str(error).lower()
    return "not found" in text or "notfound" in text or "os error 2)" in text
