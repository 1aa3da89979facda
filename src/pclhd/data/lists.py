"""The text files of the public layouts: lists of identities, and lists of images with their labels."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pclhd.data.listed_paths import ListedPaths, is_file, is_windows_path
from pclhd.data.passed_over import Passed, Reason
from pclhd.data.records import JUNK, NOBODY, ImageRecord, LabelledImages
from pclhd.errors import UserError

MAX_DIGITS = 18
"""Longest identity or camera that is kept as a number: with more digits it may not fit into 64 bits."""

# A point and zeros: pandas writes whole numbers so as soon as one of a column is missing.
_WHOLE_NUMBER = re.compile(r"(\d+)(?:\.0+)?", re.ASCII)
_OTHER_SEPARATOR = re.compile(r".+?\s*([,;|])\s*-?\d+(?:\.0+)?", re.ASCII)
_QUOTED = 60
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LINE_END = re.compile(r"\r\n|\n|\r")
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One line of an image list.

    Attributes:
        line: Line number, from 1.
        relative: The path relative to the data's root, with forward slashes.
        path: The image file; it may be missing.
        label: The identity, `NOBODY` for junk (−1), or None where the line has none.
        hint: Where the file is missing, the likely reason; may be empty.
    """

    line: int
    relative: str
    path: Path
    label: int | None
    hint: str = ""


def read_identity_list(path: Path) -> tuple[int, ...]:
    """Identities of a list file: whole numbers separated by commas, on one line or several, in any order.

    The released code reads the first line only; the published lists have no other. An identity given twice counts
    once.

    Returns:
        The identities, ascending.

    Raises:
        UserError: The file is missing or empty, or an entry is not a whole number.
    """
    text = read_text(path, "the list of identities, whole numbers separated by commas")
    identities = set()
    for number, line in enumerate(_LINE_END.split(text), start=1):
        entries = line.strip().removesuffix(",").split(",") if line.strip() else []
        for entry in entries:
            try:
                identities.add(whole_number(entry.strip()))
            except ValueError as error:
                raise UserError(
                    f"{path}, line {number}: {quoted(entry.strip())} {error}; "
                    "write identities separated by commas, like 1,2,7"
                ) from None
    if not identities:
        raise UserError(f"{path}: the list is empty; write identities separated by commas, like 1,2,7")
    return tuple(sorted(identities))


def read_image_list(root: Path, path: Path) -> tuple[ListedImage, ...]:
    """Lines ``relative/path label`` of a list file; the label may be left out. Empty lines are passed over.

    A path may have backslashes for separators, and may be absolute if it is below the root. It may hold spaces if that
    is a file. A missing image is no error here: see `require_files`.

    Args:
        root: The data's root, to which the paths are relative.
        path: The list file.

    Raises:
        UserError: The file is missing or empty, or a line is not of this form, or its path leads out of the root.
    """
    files = ListedPaths(root)
    images = []
    for number, line in enumerate(_LINE_END.split(read_text(path, "lines `relative/path label`")), start=1):
        if line.strip():
            images.append(_listed_image(line.strip(), root, files, f"{path}, line {number}", number))
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
        advice = missing[0].hint or "restore the images or take the lines out of the list"
        raise UserError(f"{list_file}, line {missing[0].line}: no file {missing[0].path}{others}; {advice}")


def missing_files(images: Sequence[ListedImage]) -> list[ListedImage]:
    """The listed images whose file is not there."""
    return [image for image in images if not is_file(image.path)]


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


def known_labels(labels: Sequence[int] | None) -> Sequence[int] | None:
    """The labels of training images, or None if they are missing or one of them is `NOBODY`."""
    return None if labels is None or NOBODY in labels else labels


def labelled_images(images: Sequence[ImageRecord], labels: Sequence[int]) -> LabelledImages:
    """A test part from labels, of which `NOBODY` marks junk."""
    roles = tuple(JUNK if label == NOBODY else "test" for label in labels)
    return LabelledImages(tuple(images), tuple(labels), roles if JUNK in roles else None)


def junk_images(test: LabelledImages) -> list[Passed]:
    """The junk of a test part, which no measure counts."""
    return [Passed(Reason.JUNK, test.images[row].path) for row in range(len(test)) if test.role(row) == JUNK]


def whole_number(text: str) -> int:
    """A whole number from 0, also where it is written like 5.0.

    Raises:
        ValueError: It is none, or has more than `MAX_DIGITS` digits; the message says so in words that go on from it.
    """
    found = _WHOLE_NUMBER.fullmatch(text)
    if found is None:
        separator = next((name for sign, name in _SEPARATOR_NAMES.items() if sign in text), None)
        raise ValueError("is not a whole number" + (f", and has a {separator} in it" if separator else ""))
    digits = found[1].lstrip("0") or "0"
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"has more than {MAX_DIGITS} digits")
    return int(digits)


_SEPARATOR_NAMES = {";": "semicolon", "\t": "tab", "|": "bar", " ": "space"}


def read_text(path: Path, expected: str) -> str:
    """The content of a text file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.
        expected: What should be in it, for messages.

    Raises:
        UserError: It is missing or no regular file, cannot be read, has another encoding, which the message names, or
            holds control characters.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not a regular file; expected {expected}")
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected {expected}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read as text ({error.strerror}); expected {expected}") from error
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    if encoding is None and b"\0" in content:
        encoding = "UTF-16 or no text at all"
    if encoding is not None:
        raise UserError(f"{path}: cannot be read as text (it is {encoding}); save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(_LINE_END.split(content[: error.start].decode("utf-8", "replace")))
        raise UserError(
            f"{path}, line {line}: cannot be read as text (byte {content[error.start]:#04x} is not UTF-8; probably it "
            "is Latin-1 or Windows-1252); save it as UTF-8"
        ) from None
    control = _CONTROL.search(text)
    if control:
        line = len(_LINE_END.split(text[: control.start()]))
        raise UserError(f"{path}, line {line}: holds the control character {control[0]!r}; save it as plain text")
    return text


def quoted(text: str) -> str:
    """A text for messages: in quotes, and cut if it is long."""
    return repr(text if len(text) <= _QUOTED else text[: _QUOTED - 1] + "…")


def _listed_image(line: str, root: Path, files: ListedPaths, where: str, number: int) -> ListedImage:
    written, label = _split(line, files, where)
    relative = written
    if PurePosixPath(written).is_absolute() or is_windows_path(written):
        relative = _below(root, written, where)
    if ".." in re.split(r"[/\\]", relative):
        raise UserError(f"{where}: {quoted(written)} leads out of the data; write a path below {root}")
    found = files.find(relative)
    if found.path.is_relative_to(root):
        relative = found.path.relative_to(root).as_posix()
    return ListedImage(number, relative, found.path, label, found.hint)


def _split(line: str, files: ListedPaths, where: str) -> tuple[str, int | None]:
    """The path and the label of a line; the label comes after the last space or tab."""
    parts = re.fullmatch(r"(.*\S)\s+(\S+)", line)
    if parts is None:
        separated = _OTHER_SEPARATOR.fullmatch(line)
        if separated and not is_file(files.find(line).path):
            raise UserError(f"{where}: path and label are separated by {separated[1]!r}; write one space between them")
        return line, None
    path, text = parts[1], parts[2]
    try:
        label = NOBODY if re.fullmatch(r"-1(?:\.0+)?", text) else whole_number(text)
    except ValueError as error:
        if is_file(files.find(line).path):
            return line, None
        raise UserError(f"{where}: label {quoted(text)} {error}; expected `relative/path label`") from None
    if len(path.split()) > 1 and not is_file(files.find(path).path):
        raise UserError(f"{where}: {len(line.split())} fields; expected `relative/path label`, one space")
    return path, label


def _below(root: Path, written: str, where: str) -> str:
    """An absolute path relative to the root.

    Raises:
        UserError: It is not below the root.
    """
    for folder in (root.absolute(), root.resolve()):
        for path in (Path(written), Path(written).resolve()):
            if path.is_relative_to(folder) and path != folder:
                return path.relative_to(folder).as_posix()
    cause = "is a Windows path from another machine" if is_windows_path(written) else "leads out of the data"
    raise UserError(f"{where}: {quoted(written)} {cause}; write a path below {root}, relative to it")
