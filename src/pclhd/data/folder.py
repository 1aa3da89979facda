"""One's own images: two folders, or a CSV file that says of each image what is known."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pclhd.data.image_folders import images_anywhere_in, require_both_modalities
from pclhd.data.layouts import nearest_name, require_layout
from pclhd.data.records import Dataset, ImageRecord, LabelledImages, Modality, make_training_set
from pclhd.errors import UserError

COLUMNS = ("path", "modality", "camera", "identity", "time", "split")
REQUIRED_COLUMNS = ("path", "modality")
SPLITS = ("train", "query", "gallery", "test")
CSV_NAME = "images.csv"


def read_own(root: Path) -> Dataset:
    """Read one's own images: a CSV file, a folder with ``images.csv``, or one with ``visible`` and ``infrared``.

    A folder's ``images.csv`` goes before its subfolders.

    Raises:
        UserError: Nothing of the three is there, or as `read_csv` and `read_folders`.
    """
    require_layout(root, "own")
    if root.is_file():
        return read_csv(root)
    if (root / CSV_NAME).is_file():
        return replace(read_csv(root / CSV_NAME), root=root)
    return read_folders(root / "visible", root / "infrared")


def read_folders(visible: Path, infrared: Path) -> Dataset:
    """Read all images of two folders and their subfolders: no cameras, no identities, no test part.

    Raises:
        UserError: A folder is missing or holds no image, or one lies in the other.
    """
    images: list[ImageRecord] = []
    for folder, modality in ((visible, Modality.VISIBLE), (infrared, Modality.INFRARED)):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; expected the {modality} images there")
        images += [ImageRecord(path, modality) for path in images_anywhere_in(folder)]
    inside = visible.resolve(), infrared.resolve()
    if inside[0].is_relative_to(inside[1]) or inside[1].is_relative_to(inside[0]):
        raise UserError(f"{visible} and {infrared}: one lies in the other; give two separate folders")
    root = visible.parent if visible.parent == infrared.parent else Path(os.path.commonpath(inside))
    require_both_modalities(images, "training", root)
    train, _ = make_training_set(images)
    return Dataset("own", root, train, None, None)


def read_csv(path: Path) -> Dataset:
    """Read a CSV file of images.

    Columns: ``path`` (relative to the CSV file, or absolute) and ``modality`` (visible or infrared); optional
    ``camera`` and ``identity`` (whole numbers), ``time`` (ISO 8601; checked, not used yet) and ``split`` (train, query,
    gallery, test; empty means train). Optional cells may be empty.

    Rows of the other splits are the test part, and need an identity; with query or gallery among them, the test part
    has roles. Without such rows, all labelled images are the test part, provided both modalities have some: the
    training still sees no label. Training identities are known only if every training row has one.

    Returns:
        The data set; its root is the CSV file.

    Raises:
        UserError: The file cannot be read, a column or a cell is wrong (with its row, the header being row 1), an image
            is missing, or a modality has no image.
    """
    rows = _read_rows(path)
    train_rows = [row for row in rows if row.split == "train"]
    test_rows = [row for row in rows if row.split != "train"]
    require_both_modalities((row.image for row in train_rows), "training", path)
    labels = [row.identity for row in train_rows if row.identity is not None]
    train, identities = make_training_set(
        (row.image for row in train_rows), labels if len(labels) == len(train_rows) else None
    )
    test = _test_part(test_rows, path) if test_rows else _labelled_images(train_rows)
    return Dataset("own", path, train, identities, test)


@dataclass(frozen=True, slots=True)
class _Row:
    """One checked row; `number` counts the header as 1."""

    number: int
    image: ImageRecord
    identity: int | None
    split: str


def _test_part(rows: list[_Row], path: Path) -> LabelledImages:
    for row in rows:
        if row.identity is None:
            raise UserError(f"{path}, row {row.number}: split is {row.split} but identity is empty; a test needs it")
    require_both_modalities((row.image for row in rows), "test", path)
    roles = tuple(row.split for row in rows)
    if set(roles) != {"test"} and (missing := {"query", "gallery"} - set(roles)) and "test" not in roles:
        raise UserError(f"{path}: no row with split {missing.pop()}; give both query and gallery, or only test")
    return LabelledImages(
        tuple(row.image for row in rows),
        tuple(row.identity for row in rows if row.identity is not None),
        roles=None if set(roles) == {"test"} else roles,
    )


def _labelled_images(rows: list[_Row]) -> LabelledImages | None:
    labelled = [(row.image, row.identity) for row in rows if row.identity is not None]
    if {image.modality for image, _ in labelled} != set(Modality):
        return None
    return LabelledImages(tuple(image for image, _ in labelled), tuple(identity for _, identity in labelled))


def _read_rows(path: Path) -> list[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
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
                values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
                rows.append(_check_row(values, path, number))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a CSV file with columns {', '.join(COLUMNS)}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path}: cannot be read as CSV ({error}); expected UTF-8 text, cells split by commas"
        ) from error
    if not rows:
        raise UserError(f"{path}: no rows below the header; write one row per image")
    return rows


def _check_header(header: list[str], path: Path) -> None:
    if not header:
        raise UserError(f"{path}: the file is empty; the first row names columns: {', '.join(COLUMNS)}")
    if any(";" in name or "\t" in name for name in header):
        raise UserError(f"{path}, row 1: columns are not split by commas; save the file with commas between cells")
    for name in header:
        if name not in COLUMNS:
            raise UserError(f"{path}, row 1: unknown column {name!r}; {nearest_name(name, COLUMNS)}")
        if header.count(name) > 1:
            raise UserError(f"{path}, row 1: column {name!r} stands there twice; keep one")
    for name in REQUIRED_COLUMNS:
        if name not in header:
            raise UserError(f"{path}, row 1: no column {name!r}; needed are {' and '.join(REQUIRED_COLUMNS)}")


def _check_row(values: Mapping[str, str], path: Path, number: int) -> _Row:
    where = f"{path}, row {number}"
    if values["modality"] not in tuple(Modality):
        raise UserError(f"{where}: modality {values['modality']!r}; expected {' or '.join(Modality)}")
    if not values["path"]:
        raise UserError(f"{where}: path is empty; write the image file, relative to {path.parent}")
    image_path = path.parent / values["path"]
    if not image_path.is_file():
        raise UserError(f"{where}: no file {image_path}; paths are relative to the CSV file")
    split = values.get("split") or "train"
    if split not in SPLITS:
        raise UserError(f"{where}: split {split!r}; {nearest_name(split, SPLITS)}")
    _check_time(values.get("time", ""), where)
    camera = _whole_number(values, "camera", where)
    image = ImageRecord(image_path, Modality(values["modality"]), camera)
    return _Row(number, image, _whole_number(values, "identity", where), split)


def _whole_number(values: Mapping[str, str], column: str, where: str) -> int | None:
    text = values.get(column, "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"{where}: {column} {text!r}; expected a whole number from 0, or nothing")
    return int(text)


def _check_time(text: str, where: str) -> None:
    if not text:
        return
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{where}: time {text!r}; expected ISO 8601 like 2024-05-17T14:03:00, or nothing") from None
