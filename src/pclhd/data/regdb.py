"""RegDB as published: image lists ``idx/{train,test}_{visible,thermal}_{trial}.txt``, ten trials."""

from __future__ import annotations

from pathlib import Path

from pclhd.data.image_folders import images_in_no_list
from pclhd.data.layouts import require_layout
from pclhd.data.lists import (
    ListedImage,
    all_labels,
    junk_images,
    known_labels,
    labelled_images,
    read_image_list,
    require_files,
)
from pclhd.data.passed_over import PassedOver
from pclhd.data.records import Dataset, ImageRecord, Modality, make_training_set
from pclhd.errors import UserError

KIND = {Modality.VISIBLE: "visible", Modality.INFRARED: "thermal"}
# One camera of each kind took all the images.
CAMERA = {Modality.VISIBLE: 1, Modality.INFRARED: 2}


def regdb_list(root: Path, split: str, modality: Modality, trial: int) -> Path:
    """The list file of a split (``train`` or ``test``), modality and trial."""
    return root / "idx" / f"{split}_{KIND[modality]}_{trial}.txt"


def read_regdb(root: Path, trial: int = 1) -> Dataset:
    """Read one trial of RegDB where it lies.

    Training images are those of the trial's training lists; the label column may be missing there, then no
    identity is known (ours). Test images are those of the test lists in list order, visible first (released code).
    Visible images have camera 1, infrared ones camera 2. A test image with the label −1 is junk. Images that no
    list of this trial names are passed over.

    Args:
        root: The folder with ``idx`` and the images that the lists name.
        trial: 1 to 10; each trial has its own people for training and for the test.

    Raises:
        UserError: The folder is not RegDB, a list is missing or broken, or a listed image is missing (with its line).
    """
    require_layout(root, "regdb")
    _require_trial(root, trial)
    images, labels = _read_split(root, "train", trial)
    train, identities = make_training_set(images, known_labels(labels))
    tested, tested_labels = _read_split(root, "test", trial)
    if tested_labels is None:
        raise UserError(f"{regdb_list(root, 'test', Modality.VISIBLE, trial)}: no labels; a test needs `path label`")
    test = labelled_images(tested, tested_labels)
    listed = frozenset(image.path for image in (*images, *tested))
    passed = (*images_in_no_list(root, listed), *junk_images(test))
    return Dataset(f"regdb-{trial}", root, train, identities, test, PassedOver.of(passed))


def _read_split(root: Path, split: str, trial: int) -> tuple[list[ImageRecord], list[int] | None]:
    """The images of both lists of a split, visible first, with their labels if the lists have them."""
    images: list[ImageRecord] = []
    labels: dict[Modality, list[int] | None] = {}
    for modality in Modality:
        path = regdb_list(root, split, modality, trial)
        listed: tuple[ListedImage, ...] = read_image_list(root, path)
        require_files(listed, path)
        images += [ImageRecord(image.path, modality, CAMERA[modality]) for image in listed]
        labels[modality] = all_labels(listed, path)
    visible, infrared = labels[Modality.VISIBLE], labels[Modality.INFRARED]
    if (visible is None) != (infrared is None):
        unlabelled = regdb_list(root, split, Modality.VISIBLE if visible is None else Modality.INFRARED, trial)
        raise UserError(f"{unlabelled}: no labels, but the other modality's list has them; label both lists or none")
    return images, None if visible is None or infrared is None else visible + infrared


def _require_trial(root: Path, trial: int) -> None:
    path = regdb_list(root, "train", Modality.VISIBLE, trial)
    if path.is_file():
        return
    numbers = [found.stem.rpartition("_")[2] for found in root.glob("idx/train_visible_*.txt")]
    there = ", ".join(map(str, sorted(int(number) for number in numbers if number.isdecimal()))) or "none"
    raise UserError(f"{path}: no such file; trials with a visible training list: {there}")
