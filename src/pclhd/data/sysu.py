"""SYSU-MM01 as published: ``cam1..6/IIII/NNNN.jpg`` and lists of identities below ``exp``."""

from __future__ import annotations

from pathlib import Path

from pclhd.data.image_folders import (
    CameraFolder,
    folders_beside,
    folders_without_image,
    images_directly_in,
    images_of_others,
    images_of_people,
    require_both_modalities,
)
from pclhd.data.layouts import SYSU_CAMERAS, require_layout
from pclhd.data.lists import read_identity_list
from pclhd.data.passed_over import Passed, PassedOver
from pclhd.data.records import Dataset, ImageRecord, LabelledImages, Modality, TrainingSet, make_training_set
from pclhd.errors import UserError

INFRARED_CAMERAS = (3, 6)
TRAINING_LISTS = ("train_id.txt", "val_id.txt")


def sysu_cameras(root: Path) -> list[CameraFolder]:
    """The six camera folders: 1, 2, 4, 5 visible, 3 and 6 infrared."""
    return [
        CameraFolder(
            root / f"cam{camera}", camera, Modality.INFRARED if camera in INFRARED_CAMERAS else Modality.VISIBLE
        )
        for camera in SYSU_CAMERAS
    ]


def read_sysu(root: Path) -> Dataset:
    """Read SYSU-MM01 where it lies.

    Training images are all images of the identities in ``exp/train_id.txt`` and ``exp/val_id.txt`` (released code).
    If people's names have been taken away from them, they lie directly below ``camC``: then these are the training
    images, no identity is known, and the two lists may be missing (ours). Test images: see `sysu_test_images`.

    Args:
        root: The folder with ``cam1`` to ``cam6`` and ``exp``.

    Raises:
        UserError: The folder is not SYSU-MM01, a list is missing or broken or shares people with another, training
            images lie in both ways, or a modality has no image.
    """
    require_layout(root, "sysu")
    test, passed = _read_test_part(root)
    train, identities, passed_in_training = _read_training_part(root)
    passed += passed_in_training + _images_of_others(root)
    return Dataset("sysu", root, train, identities, test, PassedOver.of(passed))


def sysu_test_images(root: Path) -> LabelledImages:
    """All images of the people in ``exp/test_id.txt``, of all six cameras (released code).

    The order is identity, camera, file name; the protocol chooses queries and gallery from them. A listed person may
    lack any of the cameras, or all.

    Raises:
        UserError: The list is missing or broken, or there is no visible or no infrared image of all these people.
    """
    return _read_test_part(root)[0]


def sysu_training_identities(root: Path) -> tuple[int, ...]:
    """The identities of ``exp/train_id.txt`` and ``exp/val_id.txt`` together, ascending.

    Raises:
        UserError: A list is missing or broken, or holds a person who is in ``exp/test_id.txt`` too.
    """
    tested = set(read_identity_list(root / "exp" / "test_id.txt"))
    identities: set[int] = set()
    for name in TRAINING_LISTS:
        listed = read_identity_list(root / "exp" / name)
        shared = sorted(tested.intersection(listed))
        if shared:
            raise UserError(
                f"{root / 'exp' / name}: identity {shared[0]} is in test_id.txt too; "
                "no person may be in both; remove it from one list"
            )
        identities.update(listed)
    return tuple(sorted(identities))


def sysu_folders_without_image(root: Path) -> list[Path]:
    """Folders of listed people that exist but hold no image: readers pass over them, the released code stops."""
    identities = list(read_identity_list(root / "exp" / "test_id.txt"))
    if not _images_without_names(root):
        identities += sysu_training_identities(root)
    return folders_without_image(sorted(identities), sysu_cameras(root))


def _read_test_part(root: Path) -> tuple[LabelledImages, list[Passed]]:
    list_file = root / "exp" / "test_id.txt"
    pairs, passed = images_of_people(read_identity_list(list_file), sysu_cameras(root))
    if not pairs:
        raise UserError(
            f"{list_file}: no person in this list has an image; expected files like {root}/cam1/0006/0001.jpg"
        )
    images = tuple(image for image, _ in pairs)
    require_both_modalities(images, "test", root)
    return LabelledImages(images, tuple(identity for _, identity in pairs)), passed


def _read_training_part(root: Path) -> tuple[TrainingSet, tuple[int, ...] | None, list[Passed]]:
    nameless = _images_without_names(root)
    lists_there = all((root / "exp" / name).is_file() for name in TRAINING_LISTS)
    if nameless and not lists_there:
        return *_training_set_without_names(nameless, root), []
    listed = sysu_training_identities(root)
    pairs, passed = images_of_people(listed, sysu_cameras(root))
    if nameless and pairs:
        raise UserError(
            f"{root}: training images both in people's folders ({pairs[0][0].path}) and directly below a camera "
            f"({nameless[0].path}); keep one kind"
        )
    if nameless:
        return *_training_set_without_names(nameless, root), []
    if not pairs:
        raise UserError(
            f"{root / 'exp' / TRAINING_LISTS[0]}: no person in the training lists has an image; expected files like "
            f"{root}/cam1/{listed[0]:04d}/0001.jpg"
        )
    require_both_modalities((image for image, _ in pairs), "training", root)
    return *make_training_set((image for image, _ in pairs), (identity for _, identity in pairs)), passed


def _images_of_others(root: Path) -> list[Passed]:
    """Files that are in no list, of further cameras, or directly below a camera and no image."""
    listed = set(read_identity_list(root / "exp" / "test_id.txt"))
    if all((root / "exp" / name).is_file() for name in TRAINING_LISTS):
        listed.update(sysu_training_identities(root))
    cameras = sysu_cameras(root)
    beside = folders_beside((camera.path for camera in cameras), root, "cam")
    loose = [one for camera in cameras for one in images_directly_in(camera.path, below=False).passed]
    return images_of_others(listed, cameras, beside) + loose


def _images_without_names(root: Path) -> list[ImageRecord]:
    return [
        ImageRecord(path, camera.modality, camera.camera)
        for camera in sysu_cameras(root)
        for path in images_directly_in(camera.path, below=False).paths
    ]


def _training_set_without_names(images: list[ImageRecord], root: Path) -> tuple[TrainingSet, tuple[int, ...] | None]:
    require_both_modalities(images, "training", root)
    return make_training_set(images)
