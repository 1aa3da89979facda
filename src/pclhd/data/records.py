"""What the readers hand on: images with a modality and a camera, and, strictly apart from them, identities.

Training takes a `TrainingSet`, which has no field in which an identity could travel. Identities live in a parallel
tuple that only evaluation receives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pclhd.data.passed_over import PassedOver
from pclhd.errors import UserError
from pclhd.threads import usable_cpus


class Modality(StrEnum):
    """The kind of light an image was taken in."""

    VISIBLE = "visible"
    INFRARED = "infrared"


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One person crop on disk.

    Attributes:
        path: The image file.
        modality: Visible or infrared, given by the layout, never guessed from the path.
        camera: Camera number, or None where the data does not say.
        upright: Whether the orientation in the file's EXIF data is followed. The released code ignores it, so the
            benchmarks do not; your own images do.
    """

    path: Path
    modality: Modality
    camera: int | None = None
    upright: bool = False


@dataclass(frozen=True)
class Names:
    """What numbered identities and cameras are called in the data.

    Numbers are given once per data set. Where all are whole numbers of at most 18 digits, they are kept as they are.
    Otherwise position n holds the name of number n, and no two names share a number.

    Attributes:
        identities: Names by number, or None where the numbers are the names.
        cameras: Names by number, or None where the numbers are the names.
    """

    identities: tuple[str, ...] | None = None
    cameras: tuple[str, ...] | None = None

    def identity(self, number: int) -> int | str:
        """What the data calls an identity; a number that is no person's (`NOBODY`) stays as it is."""
        return number if self.identities is None or number < 0 else self.identities[number]

    def camera(self, number: int | None) -> int | str | None:
        """What the data calls a camera."""
        return number if self.cameras is None or number is None else self.cameras[number]


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is known of an image that was embedded.

    Attributes:
        path: Its file, or None for one in memory.
        modality: Visible or infrared.
        camera: Camera number, or None where it is not known.
        identity: The person, or None where that is not known. Nothing is computed from it but measures.
    """

    path: Path | None
    modality: Modality
    camera: int | None = None
    identity: int | None = None


NOBODY = -1
"""The identity of images whose role is `JUNK` or `UNKNOWN`; no person has it."""

JUNK = "junk"
UNKNOWN = "unknown"
ROLES = ("query", "gallery", "test", UNKNOWN, JUNK)


@dataclass(frozen=True)
class LabelledImages:
    """Images with the identity of each: for evaluation only.

    Roles mean the same in all layouts. ``query`` and ``gallery`` images search and are searched, ``test`` images do
    both. ``unknown`` images show people whose identity is not known, and who are no query's person: they are in the
    gallery and are correct for no query. ``junk`` images (identity −1 in lists) are in neither, so that no
    measure counts them, for or against.

    Attributes:
        images: The records, in the order the protocol prescribes.
        identities: One identity per record; `NOBODY` for unknown people and junk.
        roles: One of `ROLES` per record; None: all are ``test``.
        names: What the data calls identities and cameras.
    """

    images: tuple[ImageRecord, ...]
    identities: tuple[int, ...]
    roles: tuple[str, ...] | None = None
    names: Names = field(default=Names())

    def __post_init__(self) -> None:
        if len(self.images) != len(self.identities):
            raise ValueError(f"{len(self.images)} images but {len(self.identities)} identities")
        if self.roles is not None and len(self.roles) != len(self.images):
            raise ValueError(f"{len(self.images)} images but {len(self.roles)} roles")
        for role in set(self.roles or ()) - set(ROLES):
            raise ValueError(f"role {role!r} is unknown; expected one of {', '.join(ROLES)}")

    def __len__(self) -> int:
        return len(self.images)

    def role(self, row: int) -> str:
        """The role of an image."""
        return "test" if self.roles is None else self.roles[row]

    def known(self) -> list[int]:
        """Rows of the images whose person is known: neither unknown people nor junk."""
        return [row for row in range(len(self)) if self.role(row) not in (JUNK, UNKNOWN)]

    def infos(self, rows: Iterable[int]) -> tuple[ImageInfo, ...]:
        """What is known of the images in some rows."""
        return tuple(
            ImageInfo(image.path, image.modality, image.camera, self.identities[row])
            for row, image in ((row, self.images[row]) for row in rows)
        )

    def checksum(self) -> str:
        """SHA-256 over all that an evaluation's figures depend on: files, cameras, identities, roles, and the order.

        Raises:
            UserError: A file cannot be read.
        """
        total = hashlib.sha256()
        digests = digest_files([image.path for image in self.images])
        roles = self.roles or ("test",) * len(self.images)
        for image, digest, identity, role in zip(self.images, digests, self.identities, roles, strict=True):
            who, camera = self.names.identity(identity), self.names.camera(image.camera)
            total.update(f"{image.modality} {camera} {who} {role} {digest}\n".encode())
        return total.hexdigest()


@dataclass(frozen=True)
class TrainingSet:
    """Unlabelled images in an order that no label can influence.

    The order is visible before infrared, then camera, then the SHA-256 of the file's content. File names and folders,
    which carry identities in every public layout, play no part; so renaming people, or dropping their names, leaves
    training unchanged to the last bit.

    Attributes:
        images: The records, sorted as above.
        digests: Hexadecimal SHA-256 of each file.
    """

    images: tuple[ImageRecord, ...]
    digests: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def checksum(self) -> str:
        """SHA-256 over all modalities, cameras and file digests: the same data gives the same checksum."""
        total = hashlib.sha256()
        for image, digest in zip(self.images, self.digests, strict=True):
            total.update(f"{image.modality} {image.camera} {digest}\n".encode())
        return total.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """One benchmark, or your own images, as training and evaluation see it.

    Attributes:
        name: Layout and, where it applies, trial: ``sysu``, ``regdb-3``, ``llcm``, ``own``.
        root: The folder (or CSV file) it was read from; given to the same reader again, it yields the same data.
        train: The unlabelled training images.
        train_identities: One identity per training image, or None where unknown. They measure clusters, and train
            nothing but the bounds that say so (`pclhd.supervised`).
        test: Labelled test images of both modalities, or None where there are none.
        passed_over: Files that were found and are no part of the data.
        names: What the data calls identities and cameras.
    """

    name: str
    root: Path
    train: TrainingSet
    train_identities: tuple[int, ...] | None
    test: LabelledImages | None
    passed_over: PassedOver = field(default=PassedOver())
    names: Names = field(default=Names())

    @property
    def folder(self) -> Path:
        """What paths are given relative to: the root, or the folder of a CSV file."""
        return self.root.parent if self.root.is_file() else self.root


def digest_file(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not a regular file; give an image file")  # a pipe would wait for a writer
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions") from error


def digest_files(paths: Sequence[Path]) -> list[str]:
    """`digest_file` of many files, in their order; reading and hashing run in threads.

    Raises:
        UserError: A file cannot be read; the first such in the order of `paths` is named.
    """
    with ThreadPoolExecutor(usable_cpus()) as pool:
        return list(pool.map(digest_file, paths))


def make_training_set(
    images: Iterable[ImageRecord], identities: Iterable[int] | None = None
) -> tuple[TrainingSet, tuple[int, ...] | None]:
    """Sort images into the label-free order; identities, if given, are carried along in the same order.

    Args:
        images: Records in any order.
        identities: One identity per record, or None.

    Returns:
        The training set, and the identities in its order (None if none were given).
    """
    records = list(images)
    known = None if identities is None else list(identities)
    if known is not None and len(known) != len(records):
        raise ValueError(f"{len(records)} images but {len(known)} identities")
    digests = digest_files([record.path for record in records])
    order = sorted(
        range(len(records)),
        key=lambda i: (
            records[i].modality is Modality.INFRARED,
            -1 if records[i].camera is None else records[i].camera,
            digests[i],
        ),
    )
    training_set = TrainingSet(tuple(records[i] for i in order), tuple(digests[i] for i in order))
    return training_set, None if known is None else tuple(known[i] for i in order)
