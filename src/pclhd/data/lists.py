"""The text files of the public layouts: lists of identities, and lists of images with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pclhd.errors import UserError


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One line of an image list.

    Attributes:
        line: Line number, from 1.
        relative: The path as written, relative to the data's root.
        path: The image file; it may be missing.
        label: The identity, or None where the line has none.
    """

    line: int
    relative: str
    path: Path
    label: int | None


def read_identity_list(path: Path) -> tuple[int, ...]:
    """Identities of a list file: its first line, integers separated by commas, in any order.

    Only the first line counts, as in the released code. An identity given twice counts once.

    Returns:
        The identities, ascending.

    Raises:
        UserError: The file is missing or empty, or an entry is not a whole number.
    """
    lines = _read_lines(path, "the list of identities, whole numbers separated by commas on its first line")
    first = lines[0].strip() if lines else ""
    if not first:
        raise UserError(f"{path}: the first line is empty; write the identities there, separated by commas, like 1,2,7")
    identities = set()
    for entry in first.split(","):
        try:
            identity = int(entry)
        except ValueError:
            identity = -1
        if identity < 0:
            raise UserError(f"{path}, line 1: {entry.strip()!r} is not an identity; write whole numbers like 1,2,7")
        identities.add(identity)
    return tuple(sorted(identities))


def read_image_list(root: Path, path: Path) -> tuple[ListedImage, ...]:
    """Lines ``relative/path label`` of a list file; the label may be left out. Empty lines are passed over.

    Whether the images exist is not looked at: see `require_files`.

    Args:
        root: The data's root, to which the paths are relative.
        path: The list file.

    Raises:
        UserError: The file is missing or empty, or a line is not of this form, or its path leads out of the root.
    """
    images = []
    for number, text in enumerate(_read_lines(path, "lines `relative/path label`"), start=1):
        fields = text.split()
        if not fields:
            continue
        if len(fields) > 2:
            raise UserError(f"{path}, line {number}: {len(fields)} fields; expected `relative/path label`, one space")
        relative = PurePosixPath(fields[0])
        if relative.is_absolute() or ".." in relative.parts:
            raise UserError(f"{path}, line {number}: {fields[0]!r} leads out of the data; write a path below {root}")
        label = _label(fields[1], path, number) if len(fields) == 2 else None
        images.append(ListedImage(number, fields[0], root / relative, label))
    if not images:
        raise UserError(f"{path}: the list is empty; expected lines `relative/path label`")
    return tuple(images)


def require_files(images: Sequence[ListedImage], list_file: Path) -> None:
    """Check that every listed image is there.

    Raises:
        UserError: Names the first line whose file is missing, and how many more there are.
    """
    missing = missing_files(images)
    if missing:
        others = f" (and {len(missing) - 1} more lines)" if len(missing) > 1 else ""
        raise UserError(
            f"{list_file}, line {missing[0].line}: no file {missing[0].path}{others}; "
            "restore the images or take the lines out of the list"
        )


def missing_files(images: Sequence[ListedImage]) -> list[ListedImage]:
    """The listed images whose file is not there."""
    return [image for image in images if not image.path.is_file()]


def all_labels(images: Sequence[ListedImage], list_file: Path) -> list[int] | None:
    """The labels of a list, or None if no line has one.

    Raises:
        UserError: Some lines have a label and some have none.
    """
    labels = [image.label for image in images if image.label is not None]
    if not labels:
        return None
    if len(labels) != len(images):
        line = next(image.line for image in images if image.label is None)
        raise UserError(f"{list_file}, line {line}: no label, but other lines have one; label all lines or none")
    return labels


def _label(text: str, path: Path, number: int) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(
            f"{path}, line {number}: label {text!r} is not a whole number; expected `relative/path label`"
        ) from None


def _read_lines(path: Path, expected: str) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected {expected}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); expected {expected}") from error
