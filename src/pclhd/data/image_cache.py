"""Decoded training images in a folder, so that the next training maps them into memory instead of decoding them again.

A file holds the images of one modality, resized, as bytes; its name is made of all that they depend on: the checksum of
the training set, size, filter, and the decoder's version. So other images have another file, and a file never changes.
Beside it stand its shape and the SHA-256 of its content, as JSON.

Files are written aside and renamed; what has no JSON, or another size than it gives, is made again. One process at a
time writes or removes files, others wait; a reader holds a shared lock on the file, and such a file is never
removed. Windows has no such locks; there, processes may do the same work twice, and files in use cannot
be removed anyway.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import __version__ as pillow_version
from PIL import features
from torch import Tensor

from pclhd.data.images import DecodingOptions, Resample, load_images
from pclhd.errors import UserError
from pclhd.files import replacing, write_durably
from pclhd.parsing import parse_json

if sys.platform != "win32":
    import fcntl

_GIB = 2**30
_ROWS = 256  # images decoded at once
_CHUNK = 1 << 24  # bytes read at once
_NAME = "images-{}.npy"
_OURS = "images-" + "[0-9a-f]" * 32 + ".npy"


@dataclass(frozen=True)
class ImageCache:
    """Where decoded images are kept, and how much of them.

    Attributes:
        folder: Made if it does not exist. It may be shared by trainings, and by processes of one training.
        gib: Largest size of all its image files together. Those not used for longest are removed first.
    """

    folder: Path
    gib: float

    @classmethod
    def of(cls, folder: Path | None, gib: float) -> ImageCache | None:
        """The cache that settings ask for: none without a folder."""
        return None if folder is None else cls(folder, gib)

    def load(
        self,
        paths: Sequence[Path],
        checksum: str,
        height: int,
        width: int,
        *,
        resample: Resample,
        workers: int = 0,
        check: bool = True,
        **options: Unpack[DecodingOptions],
    ) -> Tensor:
        """The images that `load_images` would decode, to the last bit; decoded only if no file holds them yet.

        Args:
            paths: Image files; their order is the order of the rows.
            checksum: Changes with the content and the order of the image files.
            height: Pixels.
            width: Pixels.
            resample: The filter.
            workers: Decoding threads; 0 takes one per usable processor.
            check: Whether to compare a file that exists with its SHA-256, which reads all of it. Its header and its
                size are always checked.
            options: ``upright`` and ``stretch``, see `pclhd.data.images.open_rgb`.

        Returns:
            (N, 3, height, width) uint8, mapped from the file: only what is used takes memory. Read only: a write to it
            ends the process.

        Raises:
            UserError: The folder cannot be written, is full, or may not hold this much; or an image cannot be read.
        """
        shape = (len(paths), 3, height, width)
        decoder = f"Pillow {pillow_version}, jpg {features.version('jpg')}"
        facts: dict[str, Any] = {
            "checksum": checksum,
            "shape": list(shape),
            "resample": resample,
            "decoder": decoder,
            **_noted(options),
        }
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
        path = self.folder / _NAME.format(key)
        found = _open(path, shape, check=check)
        if found is None:
            self._make_folder()
            with _locked(self.folder / ".lock"):
                # Meanwhile another process may have written it.
                found = _open(path, shape, check=check)
                if found is None:
                    _remove(path)
                    self._make_room(len(paths) * 3 * height * width)
                    load = partial(load_images, resample=resample, workers=workers, **options)
                    _write(path, paths, shape, facts, load)
                    found = _open(path, shape, check=False)
        if found is None:
            raise UserError(f"{path}: was written and cannot be read again; check the disk, or say data.cache=none")
        return found

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be created ({error.strerror}); choose another data.cache or none"
            ) from error

    def _make_room(self, size: int) -> None:
        """Remove files until one more of this size is within the limit; called by one process at a time."""
        for part in self.folder.glob(f".{_OURS}*.part"):
            part.unlink(missing_ok=True)  # left behind by a process that was killed
        allowed = self.gib * _GIB
        sizes = {file: file.stat() for file in self.folder.glob(_OURS)}
        held = sum(status.st_size for status in sizes.values())
        for file, status in sorted(sizes.items(), key=lambda item: item[1].st_mtime):
            if held + size <= allowed:
                return
            if _remove_unless_used(file):
                held -= status.st_size
        if held + size > allowed:
            used = f" beside {held / _GIB:.3g} GiB in use" if held else ""
            raise UserError(
                f"{self.folder}: {size / _GIB:.3g} GiB of decoded images{used} are more than data.cache_gib="
                f"{self.gib:g} allows; raise it, or say data.cache=none"
            )


def _write(
    path: Path,
    paths: Sequence[Path],
    shape: tuple[int, ...],
    facts: dict[str, Any],
    load: Callable[[Sequence[Path], int, int], NDArray[np.uint8]],
) -> None:
    """Decode in pieces, so that memory does not grow with the number of images."""
    digest = hashlib.sha256()
    with replacing(path) as file:
        file.write(_header(shape))
        for start in range(0, shape[0], _ROWS):
            rows = load(paths[start : start + _ROWS], shape[2], shape[3])
            digest.update(rows.data)
            file.write(rows.data)
    write_durably(_facts_of(path), json.dumps({**facts, "sha256": digest.hexdigest()}, indent=1) + "\n")


def _open(path: Path, shape: tuple[int, ...], *, check: bool) -> Tensor | None:
    """Map a file, and hold it for as long as the tensor lives; None if it is missing or not what was written."""
    try:
        if not (path.is_file() and _facts_of(path).is_file()):
            return None
        facts = parse_json(_facts_of(path).read_text("utf-8"))
        with path.open("rb") as file:
            _hold(file)
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return None  # removed between opening and holding it
            begin = _check_header(file, path, shape)
            if check:
                _check_content(file, begin, facts["sha256"])
            os.utime(path)  # used now
            if shape[0] == 0:
                return torch.empty(shape, dtype=torch.uint8)
            # The map has a duplicate of the file's descriptor, which keeps the lock when the file is closed here.
            pixels: NDArray[np.uint8] = np.memmap(file, dtype=np.uint8, mode="r", offset=begin, shape=shape)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        warnings.warn(f"{path}: {error}; the images are decoded again", stacklevel=2)
        return None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); correct its permissions, or set data.cache=none"
        ) from error
    with warnings.catch_warnings():
        # torch warns of arrays that must not be written to; training images are only read.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(pixels)


def _check_header(file: IO[bytes], path: Path, shape: tuple[int, ...]) -> int:
    """Where the pixels begin; ValueError if the header or the size is another than expected."""
    expected = _header(shape)
    if file.read(len(expected)) != expected:
        raise ValueError(f"does not hold bytes of shape {shape}")
    if path.stat().st_size != len(expected) + int(np.prod(shape)):
        raise ValueError("is not as long as its header says")
    return len(expected)


def _header(shape: tuple[int, ...]) -> bytes:
    """How a ``.npy`` file of bytes begins."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _check_content(file: IO[bytes], begin: int, expected: str) -> None:
    digest = hashlib.sha256()
    file.seek(begin)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    if digest.hexdigest() != expected:
        raise ValueError("its content does not have the SHA-256 stored next to it")


def _noted(options: DecodingOptions) -> dict[str, Any]:
    """The options that change pixels, as JSON can hold them."""
    stretch = options.get("stretch")
    return {
        **({"upright": True} if options.get("upright") else {}),
        **({} if stretch is None else {"stretch": stretch.to_dict()}),
    }


def _facts_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _remove(path: Path) -> None:
    # Pixels without facts are not used, so facts go first.
    _facts_of(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _hold(file: IO[bytes]) -> None:
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_SH)


def _remove_unless_used(path: Path) -> bool:
    """Whether it is gone."""
    try:
        with path.open("rb") as file:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who opens it now waits for the lock, and then sees that it is gone.
            _remove(path)
    except FileNotFoundError:
        return True
    except OSError:  # another process holds it
        return False
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time in the block; the others wait."""
    try:
        file = path.open("ab")
    except OSError as error:
        raise UserError(
            f"{path.parent}: cannot be written ({error.strerror}); choose another data.cache, or say data.cache=none"
        ) from error
    with file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
