"""Where a gallery lies: a folder, or a bucket of object storage (`bucket.py`)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from pclhd.errors import UserError
from pclhd.files import expanded, owning_folder
from pclhd.gallery.lease import Turn
from pclhd.gallery.trouble import damaged, disk_trouble

# An address, such as s3://bucket/people, of which `Path` makes s3:/bucket/people. A drive of Windows has one letter.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)")

# What LanceDB calls a file until it is whole. It never deletes those that a killed process left.
_UNFINISHED = re.compile(r"\.tmp.*|.+#\d+")


class Place(Protocol):
    """Where a gallery lies."""

    @property
    def address(self) -> str:
        """For LanceDB, and for messages."""

    @property
    def options(self) -> dict[str, str]:
        """For LanceDB's access to it."""

    @property
    def fenced(self) -> bool:
        """Whether a writer that lost its turn may wake and commit, so that its commits have to be made to fail."""

    def check_kind(self) -> None:
        """Raise an error if there is something else than a gallery."""

    def has_table(self, name: str) -> bool:
        """Whether a table exists."""

    def size(self) -> int:
        """Bytes of everything in it."""

    def files(self, table: str) -> list[str]:
        """The names of all files of a table, relative to the table's folder."""

    def discard_unfinished_files(self) -> None:
        """Delete what a killed writer had not finished writing; only the present writer may do so."""

    def writing(self) -> AbstractContextManager[Turn]:
        """Be the only writer in the block."""

    def parts(self) -> Path:
        """The folder for rows that are embedded but not added."""

    def check_files(self) -> None:
        """Raise an error if LanceDB would wait for ever for one of the files."""

    def trouble(self, error: BaseException, *, writes: bool) -> UserError | None:
        """What an error of LanceDB says about the place, in one line; None if it has another reason."""


def place_of(path: Path | str) -> Place:
    """The place with a path or an address.

    Raises:
        UserError: An address is of a kind that is not supported, or obstore is not installed.
    """
    found = _ADDRESS.fullmatch(path if isinstance(path, str) else path.as_posix())
    if found is None:
        return Folder(expanded(Path(path)))
    if found[1] != "s3":
        raise UserError(f"{path}: is an address; a gallery is a folder, or s3://BUCKET/NAME on object storage")
    from pclhd.gallery.bucket import Bucket

    return Bucket(found[2])


class Folder:
    """A gallery in a folder.

    Args:
        path: The folder; it may be missing.
    """

    fenced = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = str(path)
        self.options: dict[str, str] = {}

    def check_kind(self) -> None:
        """See `Place`."""
        if self.path.is_file():
            raise UserError(f"{self.path}: is a file; a gallery is a folder")
        if not self.path.is_dir() or self.has_table("facts"):
            return
        if any(entry.name != ".lock" for entry in self.path.iterdir()):
            raise UserError(f"{self.path}: is a folder of something else; name a gallery, or a new folder")

    def has_table(self, name: str) -> bool:
        """See `Place`."""
        # The folder is there before the first version is, which another thread may be committing.
        try:
            return any(one.suffix == ".manifest" for one in (self.path / f"{name}.lance" / "_versions").iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return False

    def size(self) -> int:
        """See `Place`."""
        total = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                try:
                    total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118
                except FileNotFoundError:  # a writer has just removed it
                    continue
        return total

    def files(self, table: str) -> list[str]:
        """See `Place`."""
        folder = self.path / f"{table}.lance"
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]

    def discard_unfinished_files(self) -> None:
        """See `Place`."""
        for path in self.path.glob("*.lance/**/*"):
            if _UNFINISHED.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)

    @contextmanager
    def writing(self) -> Iterator[Turn]:
        """See `Place`."""
        with owning_folder(self.path):
            yield Turn(lambda: None)  # the lock ends with the process, never before

    def parts(self) -> Path:
        """See `Place`."""
        return self.path / ".parts"

    def check_files(self) -> None:
        """See `Place`."""
        for folder, _, names in os.walk(self.path):
            for name in names:
                with suppress(OSError):  # a link to nothing, and what a writer has just removed
                    if not stat.S_ISREG(os.stat(os.path.join(folder, name)).st_mode):  # noqa: PTH116, PTH118
                        raise damaged(self.address, f"{name} is no regular file")

    def trouble(self, error: BaseException, *, writes: bool) -> UserError | None:
        """See `Place`."""
        return disk_trouble(self.address, error, writes=writes)
