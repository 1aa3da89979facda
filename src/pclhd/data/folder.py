"""Your own images: two folders, or a CSV file that says of each image what is known."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pclhd.data.image_folders import (
    folders_beside,
    images_anywhere_in,
    images_directly_in,
    images_in_no_list,
    images_passed_over,
    require_both_modalities,
)
from pclhd.data.layouts import nearest_name, require_layout
from pclhd.data.listed_paths import ListedPaths, is_file
from pclhd.data.lists import junk_images, quoted, read_text
from pclhd.data.names import known, number_names
from pclhd.data.passed_over import Passed, PassedOver, Reason
from pclhd.data.records import (
    JUNK,
    NOBODY,
    UNKNOWN,
    Dataset,
    ImageRecord,
    LabelledImages,
    Modality,
    Names,
    TrainingSet,
    make_training_set,
)
from pclhd.errors import UserError

COLUMNS = ("path", "modality", "camera", "identity", "time", "split")
REQUIRED_COLUMNS = ("path", "modality")
SPLITS = ("train", "query", "gallery", "test")
CSV_NAME = "images.csv"
_JUNK_IDENTITIES = (JUNK, "-1", "-1.0")


def read_own(root: Path) -> Dataset:
    """Read your own images: a CSV file, a folder with ``images.csv``, or one with ``visible`` and ``infrared``.

    A folder's ``images.csv`` goes before its subfolders.

    Raises:
        UserError: Nothing of the three is there, or as `read_csv` and `read_folders`.
    """
    require_layout(root, "own")
    if root.is_file():
        return read_csv(root)
    if (root / CSV_NAME).is_file():
        return replace(read_csv(root / CSV_NAME), root=root)
    dataset = read_folders(root / "visible", root / "infrared")
    beside = PassedOver.of(_images_beside(root, ("visible", "infrared")))
    return replace(dataset, passed_over=dataset.passed_over + beside)


def read_folders(visible: Path, infrared: Path) -> Dataset:
    """Read all images of two folders and their subfolders: no cameras, no identities, no test part.

    Of images of one modality with the same bytes, the first by path is taken.

    Raises:
        UserError: A folder is missing, holds no image or cannot be read, or an image would be in both modalities.
    """
    images: list[ImageRecord] = []
    passed: list[Passed] = []
    folders: dict[Modality, set[Path]] = {}
    for folder, modality in ((visible, Modality.VISIBLE), (infrared, Modality.INFRARED)):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; expected the {modality} images there")
        found = images_anywhere_in(folder)
        images += [ImageRecord(path, modality, upright=True) for path in found.paths]
        passed += found.passed
        folders[modality] = {parent.resolve() for parent in {path.parent for path in found.paths}}
    inside = visible.resolve(), infrared.resolve()
    if inside[0].is_relative_to(inside[1]) or inside[1].is_relative_to(inside[0]):
        raise UserError(f"{visible} and {infrared}: one lies in the other; give two separate folders")
    shared = sorted(folders[Modality.VISIBLE] & folders[Modality.INFRARED])
    if shared:
        raise UserError(f"{shared[0]}: links lead to it from both {visible} and {infrared}; keep one of them")
    root = visible.parent if visible.parent == infrared.parent else Path(os.path.commonpath(inside))
    require_both_modalities(images, "training", root)
    train, doubles = _without_doubles(make_training_set(images)[0])
    return Dataset("own", root, train, None, None, PassedOver.of(passed + doubles))


def read_csv(path: Path) -> Dataset:
    """Read a CSV file of images.

    Columns: ``path`` (relative to the CSV file, or absolute) and ``modality`` (visible or infrared); optional
    ``camera`` and ``identity`` (names or whole numbers), ``time`` (ISO 8601; checked, not used yet) and ``split``
    (train, query, gallery, test; empty means train). Optional cells may be empty.

    Rows of the other splits are the test part. Without an identity a gallery row shows an unknown person and is correct
    for no query; query and test rows need one. The identity −1 marks junk, which no measure counts. With any role but
    test among the rows, the test part has roles. Without rows of these splits, all labelled images are the
    test part, provided both modalities have some: the training still sees no label. Training identities are known only
    if every training row has one.

    A row that is there twice counts once.

    Returns:
        The data set; its root is the CSV file.

    Raises:
        UserError: The file cannot be read, a column or a cell is wrong (with its row, the header being row 1), an image
            is missing or is described in two ways, or a modality has no image.
    """
    rows, names, passed = _read_rows(path)
    train_rows = [row for row in rows if row.split == "train"]
    test_rows = [row for row in rows if row.split != "train"]
    require_both_modalities((row.image for row in train_rows), "training", path)
    labels = [row.identity for row in train_rows if row.identity is not None]
    train, identities = make_training_set(
        (row.image for row in train_rows), labels if len(labels) == len(train_rows) else None
    )
    test = _test_part(test_rows, names, path) if test_rows else _labelled_images(train_rows, names)
    passed += images_in_no_list(path.parent, frozenset(row.image.path for row in rows))
    if test is not None:
        passed += junk_images(test)
    return Dataset("own", path, train, identities, test, PassedOver.of(passed), names)


def _images_beside(root: Path, taken: tuple[str, ...]) -> list[Passed]:
    """Images in the root itself, and in its folders that are not taken."""
    passed = [Passed(Reason.OUTSIDE, path) for path in images_directly_in(root, below=False).paths]
    known = [root / name for name in taken]
    return passed + [
        one for folder in folders_beside(known, root) for one in images_passed_over(folder, Reason.OUTSIDE)
    ]


def _without_doubles(train: TrainingSet) -> tuple[TrainingSet, list[Passed]]:
    """A training set without images that have the same bytes, modality and camera as the one before."""
    kept: list[int] = []
    passed: list[Passed] = []
    for row, image in enumerate(train.images):
        same = bool(kept) and train.digests[kept[-1]] == train.digests[row]
        if same and train.images[kept[-1]].modality is image.modality:
            passed.append(Passed(Reason.DOUBLE, image.path))
        else:
            kept.append(row)
    return TrainingSet(tuple(train.images[row] for row in kept), tuple(train.digests[row] for row in kept)), passed


@dataclass(frozen=True, slots=True)
class _Row:
    """One checked row; `number` counts the header as 1."""

    number: int
    image: ImageRecord
    identity: int | None
    split: str
    junk: bool

    @property
    def role(self) -> str:
        """The role of a row of the test part."""
        return JUNK if self.junk else UNKNOWN if self.identity is None else self.split


def _test_part(rows: list[_Row], names: Names, path: Path) -> LabelledImages:
    for row in rows:
        if row.role == UNKNOWN and row.split != "gallery":
            raise UserError(f"{path}, row {row.number}: split is {row.split} but identity is empty; a test needs it")
    require_both_modalities((row.image for row in rows), "test", path)
    splits = {row.split for row in rows}
    if "test" not in splits and (missing := {"query", "gallery"} - splits):
        raise UserError(f"{path}: no row with split {missing.pop()}; give both query and gallery, or only test")
    roles = tuple(row.role for row in rows)
    return LabelledImages(
        tuple(row.image for row in rows),
        tuple(NOBODY if row.identity is None else row.identity for row in rows),
        None if set(roles) == {"test"} else roles,
        names,
    )


def _labelled_images(rows: list[_Row], names: Names) -> LabelledImages | None:
    labelled = [(row.image, row.identity) for row in rows if row.identity is not None]
    if {image.modality for image, _ in labelled} != set(Modality):
        return None
    return LabelledImages(
        tuple(image for image, _ in labelled), tuple(identity for _, identity in labelled), names=names
    )


def _read_rows(path: Path) -> tuple[list[_Row], Names, list[Passed]]:
    """The checked rows, the names of their identities and cameras, and the rows that are there twice."""
    cells = _read_cells(path)
    files = ListedPaths(path.parent)
    images = [_check_row(values, path, number, files) for number, values in cells]
    # In Market-1501 and its kin 0000 in the gallery stands for people who are no query's.
    people = {values.get("identity", "") for _, values in cells if values.get("split") != "gallery"}
    identities = [_identity(values, people) for _, values in cells]
    where = [f"{path}, row {number}" for number, _ in cells]
    people_names, identity_names = number_names(
        [(place, None if text == JUNK else text) for place, text in zip(where, identities, strict=True)], "identity"
    )
    cameras, camera_names = number_names(
        [(place, known(values.get("camera", ""))) for place, (_, values) in zip(where, cells, strict=True)], "camera"
    )
    rows = [
        _Row(number, replace(image, camera=camera), person, values.get("split") or "train", text == JUNK)
        for (number, values), image, camera, person, text in zip(
            cells, images, cameras, people_names, identities, strict=True
        )
    ]
    once, passed = _without_repeated_rows(rows, path)
    return once, Names(identity_names, camera_names), passed


def _read_cells(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The cells of each row by column, with the row's number."""
    text = read_text(path, f"a CSV file with columns {', '.join(COLUMNS)}")
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [name.strip() for name in next(reader, [])]
        _check_header(header, path)
        rows = []
        for number, cells in enumerate(reader, start=2):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"{path}, row {number}: {len(cells)} cells, but the header has {len(header)}; "
                    "put quotes around a cell with a comma in it"
                )
            rows.append((number, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}))
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as CSV ({error}); expected cells split by commas") from error
    if not rows:
        raise UserError(f"{path}: no rows below the header; write one row per image")
    return rows


def _without_repeated_rows(rows: list[_Row], path: Path) -> tuple[list[_Row], list[Passed]]:
    """Rows that say the same of the same image count once.

    Raises:
        UserError: Two rows of one split say different things of an image.
    """
    first: dict[tuple[Path, str], _Row] = {}
    passed: list[Passed] = []
    for row in rows:
        other = first.setdefault((row.image.path, row.split), row)
        if other is row:
            continue
        if replace(row, number=other.number) != other:
            raise UserError(
                f"{path}, row {row.number}: {row.image.path} is in row {other.number} too, with another modality, "
                "camera or identity; keep one of the rows"
            )
        passed.append(Passed(Reason.DOUBLE, row.image.path))
    return list(first.values()), passed


def _check_header(header: list[str], path: Path) -> None:
    if not header:
        raise UserError(f"{path}: the file is empty; the first row names columns: {', '.join(COLUMNS)}")
    if any(";" in name or "\t" in name for name in header):
        raise UserError(f"{path}, row 1: columns are not split by commas; save the file with commas between cells")
    for name in header:
        if name not in COLUMNS:
            raise UserError(f"{path}, row 1: unknown column {quoted(name)}; {nearest_name(name, COLUMNS)}")
        if header.count(name) > 1:
            raise UserError(f"{path}, row 1: column {name!r} is there twice; keep one")
    for name in REQUIRED_COLUMNS:
        if name not in header:
            raise UserError(f"{path}, row 1: no column {name!r}; needed are {' and '.join(REQUIRED_COLUMNS)}")


def _check_row(values: Mapping[str, str], path: Path, number: int, files: ListedPaths) -> ImageRecord:
    """The image of a row, whose cells have been checked, without its camera."""
    where = f"{path}, row {number}"
    if values["modality"] not in tuple(Modality):
        raise UserError(f"{where}: modality {quoted(values['modality'])}; expected {' or '.join(Modality)}")
    if not values["path"]:
        raise UserError(f"{where}: path is empty; write the image file, relative to {path.parent}")
    found = files.find(values["path"])
    if not is_file(found.path):
        raise UserError(f"{where}: no file {found.path}; {found.hint or 'paths are relative to the CSV file'}")
    split = values.get("split") or "train"
    if split not in SPLITS:
        raise UserError(f"{where}: split {quoted(split)}; {nearest_name(split, SPLITS)}")
    _check_time(values.get("time", ""), where)
    return ImageRecord(found.path, Modality(values["modality"]), upright=True)


def _identity(values: Mapping[str, str], people: set[str]) -> str | None:
    """The text of an identity, `JUNK`, or None for people who are not known.

    Args:
        values: The cells of the row.
        people: The identities of all rows but those of the gallery.
    """
    text = values.get("identity", "")
    if text in _JUNK_IDENTITIES:
        return JUNK
    if text == "0000" and "0000" not in people:
        return None
    return None if text.lower() == UNKNOWN else known(text)


def _check_time(text: str, where: str) -> None:
    if not text:
        return
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{where}: time {quoted(text)}; expected ISO 8601 like 2024-05-17T14:03:00, or nothing"
        ) from None
