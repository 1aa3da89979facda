"""Files that are either the old one or the whole new one, never a part; and folders that are never overwritten.

An output has one writer at a time: `owning_folder` and `claiming` hold a lock of the operating system, which ends with
the process, however it ends. Where there are no such locks (on Windows, and on some network file systems), two writers
are not noticed; a single one works as elsewhere.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pclhd.errors import ArgumentError, UserError

if sys.platform != "win32":
    import fcntl

UNFINISHED = ".unfinished"
LOCK = ".lock"

_RANDOM_BYTES = 8
_LOOK = 0.02
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system without locks


class InUse(UserError):
    """Another process writes there."""


class Unreachable(UserError):
    """A storage does not answer, or refuses."""


def name_aside(path: Path, purpose: str) -> Path:
    """A name beside `path` that cannot be predicted: others may write to the folder, or count processes alike."""
    return path.with_name(f".{path.name}.{secrets.token_hex(_RANDOM_BYTES)}.{purpose}")


@contextmanager
def replacing(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` once the block ends well; otherwise nothing has changed.

    It is flushed to the disk before it is renamed, so that this holds after a power cut too. It has the permissions of
    the file that it replaces.

    Args:
        path: The file to write. Its folder must exist.
        replace: Whether it may replace a file, such as one that appeared during the block.

    Yields:
        A binary file in the folder of `path`.

    Raises:
        UserError: The file cannot be written.
        ArgumentError: It exists and may not be replaced.
    """
    aside = name_aside(path, "part")
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.is_file() else None
        # Never wider than it is going to be, not even before the first byte.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK
        with os.fdopen(os.open(aside, flags, 0o666 if mode is None else mode), "wb") as file:
            if mode is not None and sys.platform != "win32":
                with suppress(OSError):  # a file system without permissions
                    os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            aside.replace(path)
        else:
            _name_new(aside, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); choose a writable folder with free space"
        ) from error
    finally:
        # The reason of this error may also prevent its removal; the first error is the one to report.
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def _name_new(aside: Path, path: Path) -> None:
    """Give a file its name, unless that is taken.

    Raises:
        ArgumentError: It is taken.
    """
    try:
        os.link(aside, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError:  # a file system without hard links; another program has the moment between these lines
        if os.path.lexists(path):
            raise _exists(path) from None
        aside.replace(path)


def _exists(path: Path) -> ArgumentError:
    return ArgumentError("out", "already exists; choose another `out`, or replace the file with `force`", value=path)


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
    if os.path.lexists(path) and not force:
        raise _exists(path)
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
    if not path.exists() or (path.is_dir() and not _entries(path)):
        return
    if not ((path / mark).is_file() or (path / UNFINISHED).is_file()):
        raise ArgumentError(
            "out",
            f"is not a run folder (it has no {mark}), and `force` replaces only those; choose another",
            value=path,
        )


@contextmanager
def putting_aside(path: Path, mark: str) -> Iterator[None]:
    """Put an empty folder in the place of another, and remove that when the block has ended well; else put it back.

    Args:
        path: A folder that the caller owns (`owning_folder`); one that is missing or empty stays as it is.
        mark: See `check_replaceable`.

    Raises:
        ArgumentError: The folder is of another kind.
        UserError: It cannot be moved.
    """
    check_replaceable(path, mark)
    if not path.is_dir() or not _entries(path):
        yield
        return
    aside, made = name_aside(path, "replaced"), False
    try:
        path.rename(aside)
        path.mkdir()
        made = True
        path.chmod(stat.S_IMODE(aside.stat().st_mode))
        _move_lock(aside, path)
        yield
    except BaseException as error:
        with suppress(OSError):
            if made:
                _move_lock(path, aside)
                path.rmdir()  # what the block made it has removed
            aside.rename(path)
        if isinstance(error, OSError):
            raise UserError(f"{path}: cannot be replaced ({error.strerror}); choose another folder") from error
        raise
    shutil.rmtree(aside)


def _move_lock(source: Path, target: Path) -> None:
    """Take the lock along: it belongs to the open file, whatever its name."""
    with suppress(FileNotFoundError):
        (source / LOCK).rename(target / LOCK)


def make_new_folder(path: Path) -> None:
    """Create a folder; one that exists must be empty.

    Raises:
        UserError: It has files, or cannot be created.
    """
    try:
        path.mkdir(exist_ok=True)
        used = bool(_entries(path))
    except OSError as error:
        raise _not_created(path, error) from error
    if used:
        raise ArgumentError(
            "out",
            f"already holds files; choose another, replace a run with `force`, or continue it: "
            f"pclhd train --resume {path}",
            value=path,
        )


def _not_created(path: Path, error: OSError) -> ArgumentError:
    return ArgumentError("out", f"cannot be created ({error.strerror}); choose another", value=path)


@contextmanager
def making_folder(path: Path) -> Iterator[None]:
    """Fill a folder in the block; if that fails, it is empty again.

    A process that is killed meanwhile leaves a mark in the folder: its contents are then incomplete, and the next call
    removes them.

    Args:
        path: A folder that the caller owns (`owning_folder`), so that a mark is not that of a living process. It must
            be empty, or have the mark.

    Raises:
        UserError: It holds files, or cannot be written.
    """
    mark = path / UNFINISHED
    try:
        if mark.exists():
            _clear(path)
        make_new_folder(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be cleared ({error.strerror}); choose another folder") from error
    try:
        mark.touch()
        yield
        mark.unlink()
    except BaseException as error:
        with suppress(OSError):
            _clear(path)
        if isinstance(error, OSError):
            raise UserError(
                f"{path}: cannot be written ({error.strerror or error}); choose a writable folder with free space"
            ) from error
        raise


def is_unused(path: Path) -> bool:
    """Whether a folder is missing, empty, or marked as left behind by a killed process."""
    return not os.path.lexists(path) or (path.is_dir() and (not _entries(path) or (path / UNFINISHED).is_file()))


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, besides the lock."""
    return [entry for entry in folder.iterdir() if entry.name != LOCK]


def _clear(folder: Path) -> None:
    for entry in _entries(folder):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != UNFINISHED:
            entry.unlink()
    (folder / UNFINISHED).unlink(missing_ok=True)


# One writer at a time.


@contextmanager
def owning_folder(path: Path) -> Iterator[None]:
    """Be the only one who writes to a folder in the block: a file in it is locked, and holds the process's number.

    The folder is made if it does not exist, and removed if it is still empty at the end. A killed process leaves the
    file, but no lock; the next owner removes it.

    Args:
        path: The folder.

    Raises:
        UserError: Another process owns it, or it cannot be made or written.
    """
    with _folders_made(path), _locked(path / LOCK, path):
        yield


@contextmanager
def claiming(path: Path, *, replace: bool = True) -> Iterator[None]:
    """Be the only one who makes `path`, a file or a folder, in the block: a file beside it is locked.

    Folders above it are made if they do not exist, and removed if they are still empty at the end. What a killed
    process left of `path` under a name of `name_aside` is removed.

    Args:
        path: The output.
        replace: Whether it may replace one that exists.

    Raises:
        UserError: Another process makes it, or its folder cannot be made or written.
        ArgumentError: It exists and may not be replaced.
    """
    with _folders_made(path.parent), _locked(_lock_beside(path), path):
        if not replace and os.path.lexists(path):
            raise _exists(path)
        digits = "[0-9a-f]" * (2 * _RANDOM_BYTES)
        for part in path.parent.glob(f".{glob.escape(path.name)}.{digits}.part"):
            discard(part)
        yield


def is_owned(path: Path) -> bool:
    """Whether a process owns a folder now (`owning_folder`). Nothing is written; where there are no locks, False."""
    if sys.platform == "win32":
        return False
    try:
        file = os.open(path / LOCK, os.O_RDONLY | _NO_LINK)
    except OSError:
        return False
    try:
        # Shared, so that two processes that look at once do not see each other.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False


def remove_partial_files(folder: Path) -> None:
    """Remove what killed processes left of the files they were writing to a folder that the caller owns.

    Raises:
        UserError: One cannot be removed.
    """
    for part in folder.glob(".*.part"):
        name = part.name[1:].rsplit(".", 2)[0]
        if _lock_beside(part.with_name(name)).exists():
            continue  # claimed by a process that writes just this file
        try:
            part.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{part}: cannot be removed ({error.strerror}); make its folder writable") from error


def discard(path: Path) -> None:
    """Remove a file or a folder, as far as that is possible."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            path.rmdir()  # one whose content may not even be listed; FileNotFoundError for all others
        else:
            path.unlink()


@contextmanager
def _folders_made(path: Path) -> Iterator[None]:
    """Make a folder and those above it; those that are still empty at the end are removed again."""
    made: list[Path] = []
    try:
        try:
            for folder in reversed([path, *path.parents]):
                if not os.path.lexists(folder):
                    folder.mkdir(exist_ok=True)
                    made.append(folder)
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise _not_created(path, error) from error
        yield
    finally:
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()


def _lock_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}{LOCK}")


@contextmanager
def _locked(lock: Path, path: Path) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    file = _take(lock, path)
    try:
        yield
    finally:
        with suppress(OSError):
            if _has_name(file, lock):
                lock.unlink()
        os.close(file)


if sys.platform != "win32":

    def _take(lock: Path, path: Path) -> int:
        """The lock file, open and locked."""
        try:
            while True:
                file = os.open(lock, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
                try:
                    _lock(file, path)
                    if _has_name(file, lock):
                        with suppress(OSError):  # the number is for people only
                            os.ftruncate(file, 0)
                            os.pwrite(file, b"%d\n" % os.getpid(), 0)
                        return file
                except BaseException:
                    os.close(file)
                    raise
                os.close(file)  # its owner was about to remove it; the next try makes another
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written ({error.strerror}); choose a writable folder with free space"
            ) from error

    def _lock(file: int, path: Path) -> None:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_LOOK)  # it may have been a look of `is_owned`
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            number = os.pread(file, 20, 0).strip()
            owner = f" (process {int(number)})" if number.isdigit() else ""
            raise InUse(
                f"{path}: is being written by another pclhd{owner}; wait until that ends, or choose another output"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise

    def _has_name(file: int, lock: Path) -> bool:
        """Whether this is still the file of that name, and not one that was removed or moved with its folder."""
        try:
            return os.path.samestat(os.fstat(file), lock.lstat())
        except FileNotFoundError:
            return False
