"""Images in folders: which files count, and the camera/identity/file tree that SYSU-MM01 and LLCM share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pclhd.data.records import ImageRecord, Modality
from pclhd.errors import UserError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp")


@dataclass(frozen=True, slots=True)
class CameraFolder:
    """A folder that holds one folder per person, all seen by one camera.

    Attributes:
        path: The folder, such as ``cam3``.
        camera: Its camera number.
        modality: What kind of camera it is.
    """

    path: Path
    camera: int
    modality: Modality

    def person(self, identity: int) -> Path:
        """The folder of one person: the identity in four digits."""
        return self.path / f"{identity:04d}"


def is_image_name(name: str) -> bool:
    """Whether a file name counts as an image: .jpg, .jpeg, .png, .bmp in either case; hidden files never do."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_EXTENSIONS)


def images_directly_in(folder: Path) -> list[Path]:
    """Image files of a folder, not of its subfolders, sorted by name. A missing folder has none."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if is_image_name(entry.name) and entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}); make the folder readable") from error
    return [folder / name for name in sorted(names)]


def images_anywhere_in(folder: Path) -> list[Path]:
    """Image files of a folder and of all its subfolders, sorted by path. Links to folders are not followed."""
    return sorted(Path(parent) / name for parent, _, names in os.walk(folder) for name in names if is_image_name(name))


def images_of_people(identities: Sequence[int], cameras: Sequence[CameraFolder]) -> Iterator[tuple[ImageRecord, int]]:
    """All images of some people with their identities: by identity, then camera as given, then file name.

    Missing folders are skipped, as in the released code; so are folders without an image, on which the released code
    stops (`folders_without_image` names them).
    """
    for identity in identities:
        for camera in cameras:
            for path in images_directly_in(camera.person(identity)):
                yield ImageRecord(path, camera.modality, camera.camera), identity


def folders_without_image(identities: Sequence[int], cameras: Sequence[CameraFolder]) -> list[Path]:
    """The people's folders that exist and hold no image, in the order in which they would be read."""
    folders = (camera.person(identity) for identity in identities for camera in cameras)
    return [folder for folder in folders if folder.is_dir() and not images_directly_in(folder)]


def require_both_modalities(images: Iterable[ImageRecord], what: str, where: Path) -> None:
    """Check that there is a visible and an infrared image.

    Args:
        images: The records.
        what: What they are to the user, such as ``training``.
        where: The folder or file to name.

    Raises:
        UserError: One of the modalities has no image.
    """
    found = {image.modality for image in images}
    for modality in Modality:
        if modality not in found:
            raise UserError(
                f"{where}: no {modality} {what} image; both visible and infrared ones are needed "
                f"(files {', '.join(IMAGE_EXTENSIONS)})"
            )
