"""Images in folders: which files count, and the camera/identity/file tree that SYSU-MM01 and LLCM share."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pclhd.data.image_formats import FORMAT_NAMES, begins_like_an_image, has_image_extension
from pclhd.data.passed_over import Passed, PassedOver, Reason
from pclhd.data.records import ImageRecord, Modality
from pclhd.errors import UserError

# Folders of thumbnails, trash and metadata whose names do not begin with a dot, in lower case: Synology, QNAP, macOS
# archives, Windows.
_HIDDEN_NAMES = frozenset(
    {
        "@eadir",
        "@__thumb",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "__macosx",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    }
)


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


@dataclass(frozen=True)
class FoundImages:
    """The images of a folder, and what else lies there.

    Attributes:
        paths: The image files, sorted.
        passed: What was passed over.
    """

    paths: tuple[Path, ...] = ()
    passed: tuple[Passed, ...] = ()

    @property
    def passed_over(self) -> PassedOver:
        """What was passed over, counted."""
        return PassedOver.of(self.passed)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data: it begins with a dot, or a system keeps thumbnails there."""
    return name.startswith(".") or name.lower() in _HIDDEN_NAMES


def images_directly_in(folder: Path, *, below: bool = True) -> FoundImages:
    """Image files of a folder, sorted by name. A missing folder has none.

    Args:
        folder: The folder.
        below: Count the images in subfolders as passed over; otherwise subfolders are not looked into.

    Raises:
        UserError: The folder cannot be listed.
    """
    try:
        entries = _entries(folder)
    except (FileNotFoundError, NotADirectoryError):
        return FoundImages()
    except OSError as error:
        raise _cannot_be_listed(folder, error) from error
    paths: list[Path] = []
    passed: list[Passed] = []
    for entry in entries:
        if is_hidden(entry.name):
            passed += _all_below(Path(entry.path), Reason.HIDDEN)
        elif _leads_back(entry):
            passed.append(Passed(Reason.LINKED_AGAIN, Path(entry.path)))
        elif entry.is_dir():
            passed += images_passed_over(Path(entry.path), Reason.SUBFOLDER) if below else []
        else:
            _sort_in(entry, paths, passed)
    return FoundImages(tuple(paths), tuple(passed))


def images_anywhere_in(folder: Path) -> FoundImages:
    """Image files of a folder and of all its subfolders, sorted by path.

    Links to folders are followed, each folder once: a path without links goes before one with links, and a link to a
    folder that was read already, or that the link lies in, is passed over. Hidden folders are passed over.

    Raises:
        UserError: A folder cannot be listed.
    """
    paths: list[Path] = []
    passed: list[Passed] = []
    seen: set[tuple[int, int]] = set()
    waiting, linked = deque([folder]), deque[Path]()
    while waiting or linked:
        here = waiting.popleft() if waiting else linked.popleft()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                passed.append(Passed(Reason.LINKED_AGAIN, here))
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in _entries(here):
                if is_hidden(entry.name):
                    passed += _all_below(Path(entry.path), Reason.HIDDEN)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif _leads_back(entry):
                    passed.append(Passed(Reason.LINKED_AGAIN, Path(entry.path)))
                elif entry.is_dir():
                    linked.append(Path(entry.path))
                else:
                    _sort_in(entry, paths, passed)
        except OSError as error:
            raise _cannot_be_listed(here, error) from error
    return FoundImages(tuple(sorted(paths)), tuple(passed))


def images_passed_over(folder: Path, reason: Reason, without: frozenset[Path] = frozenset()) -> list[Passed]:
    """The images below a folder that is no part of the data; one that cannot be listed counts once.

    Args:
        folder: The folder; links in it are not followed.
        reason: Why it is no part of the data.
        without: Files that are taken all the same.
    """
    passed: list[Passed] = []

    def unreadable(error: OSError) -> None:
        passed.append(Passed(Reason.UNREADABLE, Path(error.filename or folder)))

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(names):
            path = Path(parent, name)
            if has_image_extension(name) and not is_hidden(name) and path not in without:
                passed.append(Passed(reason, path))
    return passed


def images_of_people(
    identities: Sequence[int], cameras: Sequence[CameraFolder]
) -> tuple[list[tuple[ImageRecord, int]], list[Passed]]:
    """All images of some people with their identities, and what else lies in their folders.

    Missing folders are skipped, as in the released code; so are folders without an image, on which the released code
    stops (`folders_without_image` names them).

    Returns:
        Images by identity, then camera as given, then file name; and what was passed over.

    Raises:
        UserError: A folder cannot be listed.
    """
    pairs: list[tuple[ImageRecord, int]] = []
    passed: list[Passed] = []
    for identity in identities:
        for camera in cameras:
            found = images_directly_in(camera.person(identity))
            pairs += [(ImageRecord(path, camera.modality, camera.camera), identity) for path in found.paths]
            passed += found.passed
    return pairs, passed


def images_of_others(
    listed: Iterable[int], cameras: Sequence[CameraFolder], besides: Sequence[Path] = ()
) -> list[Passed]:
    """Images that no list leads to: of people in no list, and of cameras that are no part of the layout.

    Args:
        listed: The people of all lists.
        cameras: The camera folders of the layout.
        besides: Folders of further cameras.
    """
    names = {f"{identity:04d}" for identity in listed}
    passed: list[Passed] = []
    for camera in cameras:
        for folder in _folders_in(camera.path):
            if folder.name not in names:
                passed += images_passed_over(folder, Reason.JUNK if is_junk_name(folder.name) else Reason.IN_NO_LIST)
    for folder in besides:
        passed += images_passed_over(folder, Reason.OTHER_CAMERA)
    return passed


def images_in_no_list(root: Path, listed: frozenset[Path]) -> list[Passed]:
    """Images in the same folders as listed ones that are not listed themselves.

    Args:
        root: The folder of the data; of those below it, the topmost that hold listed images are searched to any depth.
        listed: The images that are taken.
    """
    passed: list[Passed] = []
    tops = {path.relative_to(root).parts for path in listed if path.is_relative_to(root)}
    for name in sorted({parts[0] for parts in tops if len(parts) > 1}):
        passed += images_passed_over(root / name, Reason.IN_NO_LIST, listed)
    lone = {path.parent for path in listed if not path.is_relative_to(root)}
    for folder in sorted(lone | ({root} if any(len(parts) == 1 for parts in tops) else set())):
        found = images_directly_in(folder, below=False).paths
        passed += [Passed(Reason.IN_NO_LIST, path) for path in found if path not in listed]
    return passed


def is_junk_name(name: str) -> bool:
    """Whether a person's folder holds no person: −1 and 0000 are junk and distractors in Market-1501 and its kin."""
    return name in ("-1", "0000")


def folders_beside(known: Iterable[Path], parent: Path, prefix: str = "") -> list[Path]:
    """Folders of a parent whose name begins with a prefix, without those that are known."""
    taken = set(known)
    return [path for path in _folders_in(parent) if path.name.lower().startswith(prefix) and path not in taken]


def folders_without_image(identities: Sequence[int], cameras: Sequence[CameraFolder]) -> list[Path]:
    """The people's folders that exist and hold no image, in the order in which they would be read."""
    folders = (camera.person(identity) for identity in identities for camera in cameras)
    return [folder for folder in folders if folder.is_dir() and not images_directly_in(folder).paths]


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
                f"{where}: no {modality} {what} image; both visible and infrared ones are needed ({FORMAT_NAMES})"
            )


def _sort_in(entry: os.DirEntry[str], paths: list[Path], passed: list[Passed]) -> None:
    """Put a file, visible by its name, among the images or the passed over."""
    path = Path(entry.path)
    try:
        if not entry.is_file():
            passed.append(Passed(Reason.NOT_A_FILE if path.exists() else Reason.BROKEN_LINK, path))
        elif has_image_extension(entry.name) or begins_like_an_image(path):
            paths.append(path)
        else:
            passed.append(Passed(Reason.NOT_AN_IMAGE, path))
    except OSError:
        passed.append(Passed(Reason.UNREADABLE, path))


def _leads_back(entry: os.DirEntry[str]) -> bool:
    """Whether a link leads to a folder that it lies in, or nowhere because links go round in a circle."""
    if not entry.is_symlink():
        return False
    path = Path(entry.path)
    try:
        return path.parent.resolve(strict=True).is_relative_to(path.resolve(strict=True))
    except FileNotFoundError:
        return False
    except (OSError, RuntimeError):  # Python below 3.13 raises RuntimeError for a circle of links
        return True


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _folders_in(folder: Path) -> list[Path]:
    """Subfolders that are not hidden, sorted; none if the folder is missing or cannot be listed."""
    try:
        return [Path(entry.path) for entry in _entries(folder) if not is_hidden(entry.name) and entry.is_dir()]
    except OSError:
        return []


def _all_below(path: Path, reason: Reason) -> list[Passed]:
    """A file, or a folder with the number of files in it; links are not followed. An empty folder is left out."""
    if path.is_symlink() or not path.is_dir():
        return [Passed(reason, path)]
    files = sum(len(names) for _, _, names in os.walk(path))
    return [Passed(reason, path, files)] if files else []


def _cannot_be_listed(folder: Path, error: OSError) -> UserError:
    place = Path(error.filename) if error.filename else folder
    if isinstance(error, FileNotFoundError):
        return UserError(f"{place}: no such file or folder; give an image or a folder of images")
    return UserError(
        f"{place}: cannot be read ({error.strerror}); make the folder readable, or take it out of the data"
    )
