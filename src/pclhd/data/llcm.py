"""LLCM as published: training lists below ``idx``, test folders ``test_vis/camC/IIII`` and ``test_nir/camC/IIII``."""

from __future__ import annotations

import re
from pathlib import Path

from pclhd.data.image_folders import (
    CameraFolder,
    folders_beside,
    folders_without_image,
    images_in_no_list,
    images_of_others,
    images_of_people,
    require_both_modalities,
)
from pclhd.data.layouts import require_layout
from pclhd.data.lists import ListedImage, all_labels, known_labels, read_identity_list, read_image_list, require_files
from pclhd.data.passed_over import Passed, PassedOver
from pclhd.data.records import Dataset, ImageRecord, LabelledImages, Modality, TrainingSet, make_training_set
from pclhd.errors import UserError

KIND = {Modality.VISIBLE: "vis", Modality.INFRARED: "nir"}
# The released protocol has no infrared camera 3; a folder of that name is ignored.
TEST_CAMERAS = {Modality.VISIBLE: (1, 2, 3, 4, 5, 6, 7, 8, 9), Modality.INFRARED: (1, 2, 4, 5, 6, 7, 8, 9)}

# Names look like 0351_c06_s200656_f4830_nir.jpg; test folders like test_nir/cam6/0351.
_CAMERA_IN_NAME = re.compile(r"_c(\d+)(?=[_.])")
_CAMERA_IN_FOLDER = re.compile(r"(?:^|/)cam(\d+)/")


def llcm_list(root: Path, modality: Modality) -> Path:
    """The training list of a modality: ``idx/train_vis.txt`` or ``idx/train_nir.txt``."""
    return root / "idx" / f"train_{KIND[modality]}.txt"


def llcm_test_cameras(root: Path, modality: Modality) -> list[CameraFolder]:
    """The test folders of a modality, by camera."""
    return [
        CameraFolder(root / f"test_{KIND[modality]}" / f"cam{camera}", camera, modality)
        for camera in TEST_CAMERAS[modality]
    ]


def read_llcm(root: Path) -> Dataset:
    """Read LLCM where it lies.

    Training images are those of the two training lists (released code); the label column may be missing, then no
    identity is known, and a camera may be missing in the names, then no camera is known (ours). Test images: see
    `llcm_test_images`.

    Args:
        root: The folder with ``idx``, ``vis``, ``nir``, ``test_vis`` and ``test_nir``.

    Raises:
        UserError: The folder is not LLCM, a list is missing or broken, a listed image is missing (with its line), or
            only some of the training images tell their camera.
    """
    require_layout(root, "llcm")
    test, passed = _read_test_part(root)
    train, identities = _read_training_part(root)
    passed += images_in_no_list(root, frozenset(image.path for image in train.images))
    return Dataset("llcm", root, train, identities, test, PassedOver.of(passed))


def llcm_test_images(root: Path) -> LabelledImages:
    """All test images of the people in ``idx/test_id.txt``: visible ones first, each by identity, camera, file name.

    Raises:
        UserError: The list is missing or broken, or there is no visible or no infrared image of all these people.
    """
    return _read_test_part(root)[0]


def llcm_folders_without_image(root: Path) -> list[Path]:
    """Test folders of listed people that exist but hold no image: skipped here, an error in the released code."""
    identities = read_identity_list(root / "idx" / "test_id.txt")
    return [
        folder
        for modality in Modality
        for folder in folders_without_image(identities, llcm_test_cameras(root, modality))
    ]


def camera_from_path(relative: str) -> int | None:
    """The camera in a path: the number after ``_c`` in the file name, else after ``cam`` in a folder name.

    Args:
        relative: Path relative to the data's root, with forward slashes.
    """
    name = relative.rpartition("/")[2]
    found = _CAMERA_IN_NAME.search(name) or _CAMERA_IN_FOLDER.search(relative)
    return int(found.group(1)) if found else None


def _read_test_part(root: Path) -> tuple[LabelledImages, list[Passed]]:
    identities = read_identity_list(root / "idx" / "test_id.txt")
    pairs: list[tuple[ImageRecord, int]] = []
    passed: list[Passed] = []
    for modality in Modality:
        cameras = llcm_test_cameras(root, modality)
        found, other = images_of_people(identities, cameras)
        pairs += found
        passed += other
        beside = folders_beside((camera.path for camera in cameras), root / f"test_{KIND[modality]}", "cam")
        passed += images_of_others(identities, cameras, beside)
    images = tuple(image for image, _ in pairs)
    require_both_modalities(images, "test", root)
    return LabelledImages(images, tuple(identity for _, identity in pairs)), passed


def _read_training_part(root: Path) -> tuple[TrainingSet, tuple[int, ...] | None]:
    lists = {modality: read_image_list(root, llcm_list(root, modality)) for modality in Modality}
    images: list[ImageRecord] = []
    labels: list[int] = []
    for modality, listed in lists.items():
        path = llcm_list(root, modality)
        require_files(listed, path)
        images += [ImageRecord(image.path, modality, camera_from_path(image.relative)) for image in listed]
        labels += all_labels(listed, path) or []
    if labels and len(labels) != len(images):
        raise UserError(f"{root / 'idx'}: only one of the two training lists has labels; label both lists or none")
    _require_cameras_for_all_or_none(lists, root)
    return make_training_set(images, known_labels(labels or None))


def _require_cameras_for_all_or_none(lists: dict[Modality, tuple[ListedImage, ...]], root: Path) -> None:
    known = [camera_from_path(image.relative) is not None for listed in lists.values() for image in listed]
    if all(known) or not any(known):
        return
    for modality, listed in lists.items():
        for image in listed:
            if camera_from_path(image.relative) is None:
                raise UserError(
                    f"{llcm_list(root, modality)}, line {image.line}: {image.relative} does not encode a camera, "
                    "unlike other file names; "
                    "expected names like 0351_c06_s200656_f4830_nir.jpg"
                )
