"""Crop the people of an aligned visible/thermal pedestrian set, and list the crops as own data of pclhd.

    python scripts/pedestrian_pairs.py SET --out mine \
        --annotations 'Annotations/{frame}.xml' \
        --visible 'visible/train/{frame}.jpg' --infrared 'infrared/train/{frame}.jpg'

The three patterns are relative to SET. ``{frame}`` is part of a file's name, and ``{folder}`` one or more folders, for
sets with sequences (`docs/real-photographs.md` has the patterns of some sets). Annotations are VOC XML, or the text of
KAIST's set ("% bbGt version=3", then a line per person: name, left, top, width, height, occlusion).

Each box gives two crops, which are one identity: what the two cameras saw at this place at the same time. The crops are
written to OUT/visible and OUT/infrared, and OUT/images.csv lists them. The last frames, by name, are the test.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

from pclhd.data.images import open_rgb
from pclhd.errors import UserError
from pclhd.files import is_unused, making_folder, owning_folder

_LARGEST_ANNOTATION = 2**20
_HEAVY = 2  # KAIST's occlusion: 0 none, 1 partial, 2 heavy


class Box(NamedTuple):
    """A person's box in pixels; right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Frame:
    """Two images of one moment, and the people in them."""

    name: str
    visible: Path
    infrared: Path
    boxes: tuple[Box, ...]


class _HasDoctype(Exception):
    pass


def read_voc(path: Path, names: Sequence[str]) -> tuple[Box, ...]:
    """The boxes of the objects with these names in a VOC annotation.

    A document type is refused, so no entity is ever expanded and no other file is read.

    Raises:
        UserError: The file is no such annotation.
    """
    content = _read(path)

    def refuse(*_: object) -> None:
        raise _HasDoctype

    first = expat.ParserCreate()
    first.StartDoctypeDeclHandler = refuse
    try:
        first.Parse(content, True)
        root = ElementTree.fromstring(content)
    except _HasDoctype as error:
        raise UserError(
            f"{path}: has a document type (<!DOCTYPE …>), which no VOC annotation needs; remove it"
        ) from error
    except (expat.ExpatError, ElementTree.ParseError, LookupError, ValueError) as error:
        raise UserError(f"{path}: is not XML ({error}); expected a VOC annotation") from error
    boxes = []
    for element in root.iter("object"):
        if (element.findtext("name") or "").strip() not in names:
            continue
        sides = [element.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        boxes.append(_box(sides, path))
    return tuple(boxes)


def read_kaist(path: Path, names: Sequence[str]) -> tuple[Box, ...]:
    """The boxes of people with these names in a KAIST annotation; heavily occluded people are left out.

    Raises:
        UserError: The file is no such annotation.
    """
    try:
        lines = _read(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text; expected KAIST's annotation") from error
    if not lines or not lines[0].startswith("% bbGt"):
        raise UserError(f"{path}, line 1: expected '% bbGt version=3', the head of KAIST's annotations")
    boxes = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split()
        if not cells or cells[0] not in names:
            continue
        where = f"{path}, line {number}"
        if len(cells) < 6:
            raise UserError(f"{where}: expected name, left, top, width, height and occlusion, found {len(cells)} cells")
        left, top, width, height, occlusion = (_number(cell, where) for cell in cells[1:6])
        if occlusion < _HEAVY:
            boxes.append(Box(left, top, left + width, top + height))
    return tuple(boxes)


def frames_of(
    root: Path, annotations: str, visible: str, infrared: str, *, names: Sequence[str], every: int = 1
) -> Iterator[Frame]:
    """The frames of a set, by name.

    Args:
        root: The set's folder.
        annotations: Pattern of the annotations, as in the head of this file.
        visible: Pattern of the visible images.
        infrared: Pattern of the infrared images.
        names: Names of people in the annotations.
        every: Take one frame of this many: neighbours in a sequence are nearly the same picture.

    Raises:
        UserError: No annotation matches, or an annotation or an image is missing or damaged.
    """
    for name, pattern in (("annotations", annotations), ("visible", visible), ("infrared", infrared)):
        if "{frame}" not in pattern:
            raise UserError(
                f"--{name} {pattern}: has no {{frame}}; expected a pattern such as Annotations/{{frame}}.xml"
            )
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise UserError(f"--{name} {pattern}: leaves the set's folder; expected a pattern relative to it")
    parts = {"{frame}": r"(?P<frame>[^/]+?)", "{folder}": r"(?P<folder>.+?)"}
    expression = "".join(
        parts.get(piece, re.escape(piece)) for piece in re.split(r"(\{frame\}|\{folder\})", annotations)
    )
    found = []
    for path in root.rglob(f"*{Path(annotations).suffix}"):
        matched = re.fullmatch(expression, path.relative_to(root).as_posix())
        if matched is not None and path.is_file():
            found.append((path, matched.groupdict()))
    if not found:
        raise UserError(f"{root}: no file fits --annotations {annotations}")
    for path, values in sorted(found)[::every]:
        read = read_voc if path.suffix.lower() == ".xml" else read_kaist
        pair = [root / pattern.format(**values) for pattern in (visible, infrared)]
        for image in pair:
            if not image.is_file():
                raise UserError(f"{image}: no such image, though {path} describes it; check the patterns")
        name = "-".join([*values.get("folder", "").split("/"), values["frame"]]).strip("-")
        yield Frame(name, pair[0], pair[1], read(path, names))


def write_pairs(frames: Sequence[Frame], out: Path, *, least_height: int = 64, test: float = 0.3) -> int:
    """Write the crops and the list.

    Args:
        frames: In their order; people do not move between training and test if the order is that of the sequences.
        out: A new folder, or an empty one.
        least_height: Smaller boxes, in pixels, are left out.
        test: Share of the frames, from the end, whose crops are the test.

    Returns:
        The number of pairs.

    Raises:
        UserError: The images of a frame differ in size, an image cannot be read, no box is large enough, or `out`
            exists. Nothing is left behind then.
    """
    if not is_unused(out):
        raise UserError(f"{out}: already exists; choose another folder for --out")
    rows = []
    first_of_test = round(len(frames) * (1 - test))
    with owning_folder(out), making_folder(out):
        for modality in ("visible", "infrared"):
            (out / modality).mkdir()
        for number, frame in enumerate(frames):
            images = {"visible": open_rgb(frame.visible), "infrared": open_rgb(frame.infrared)}
            sizes = [image.size for image in images.values()]
            if sizes[0] != sizes[1]:
                raise UserError(
                    f"{frame.infrared}: has {sizes[1][0]} × {sizes[1][1]} pixels and {frame.visible} has "
                    f"{sizes[0][0]} × {sizes[0][1]}; expected aligned images of one size"
                )
            for place, box in enumerate(frame.boxes):
                inside = Box(
                    max(box.left, 0), max(box.top, 0), min(box.right, sizes[0][0]), min(box.bottom, sizes[0][1])
                )
                if inside.bottom - inside.top < least_height or inside.right - inside.left < least_height // 4:
                    continue
                identity = f"{frame.name}-{place}"
                for camera, (modality, image) in enumerate(images.items(), start=1):
                    path = f"{modality}/{identity}.png"
                    image.crop(inside).save(out / path)
                    rows.append((path, modality, camera, identity, "test" if number >= first_of_test else "train"))
        if not rows:
            raise UserError(f"{out}: no box is {least_height} pixels high; lower --least-height, or check --names")
        with (out / "images.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "modality", "camera", "identity", "split"), *rows])
    return len(rows) // 2


def main() -> int:
    """Read the command line, and write the crops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path, help="the set's folder")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    for name in ("annotations", "visible", "infrared"):
        parser.add_argument(f"--{name}", required=True, metavar="PATTERN", help="relative to the set's folder")
    parser.add_argument("--names", nargs="+", default=["person"], help="names of people in the annotations")
    parser.add_argument("--every", type=int, default=1, help="take one frame of this many")
    parser.add_argument("--least-height", type=int, default=64, help="of a box, in pixels")
    parser.add_argument("--test", type=float, default=0.3, help="share of the frames, from the end, for the test")
    given = parser.parse_args()
    if given.every < 1 or given.least_height < 1 or not 0 <= given.test < 1:
        parser.error("--every and --least-height must be at least 1, and --test from 0 and below 1")
    try:
        patterns = (given.annotations, given.visible, given.infrared)
        frames = list(frames_of(given.set, *patterns, names=given.names, every=given.every))
        pairs = write_pairs(frames, given.out, least_height=given.least_height, test=given.test)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{pairs:,} pairs from {len(frames):,} frames in {given.out}; next: pclhd check {given.out}")
    return 0


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST_ANNOTATION:
            raise UserError(f"{path}: is larger than 1 MiB; expected the annotation of one frame")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file's permissions") from error


def _box(sides: Sequence[str | None], path: Path) -> Box:
    box = Box(*(_number(side or "", str(path)) for side in sides))
    if box.left >= box.right or box.top >= box.bottom:
        raise UserError(f"{path}: the box {tuple(box)} is empty; expected xmin below xmax and ymin below ymax")
    return box


def _number(text: str, where: str) -> int:
    try:
        number = float(text)
        if abs(number) > 2**31:
            raise ValueError("too large")
        return round(number)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{where}: {text[:40]!r} is not a number of pixels") from error


if __name__ == "__main__":
    sys.exit(main())
