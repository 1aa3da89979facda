"""Boxes of any tracker: MOTChallenge text, or CSV with named columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pclhd.errors import UserError
from pclhd.parsing import read_text

#: Names of columns, lower case, for a box as left, top, width and height or as two corners.
_NAMES: dict[str, tuple[str, ...]] = {
    "frame": ("frame", "frame_id", "frame_number", "frame_idx"),
    "track": ("track", "track_id", "id", "object_id", "person", "person_id"),
    "left": ("left", "x", "bb_left", "x1", "xmin", "bbox_left"),
    "top": ("top", "y", "bb_top", "y1", "ymin", "bbox_top"),
    "width": ("width", "w", "bb_width", "bbox_width"),
    "height": ("height", "h", "bb_height", "bbox_height"),
    "right": ("right", "x2", "xmax"),
    "bottom": ("bottom", "y2", "ymax"),
}
_MOT = ("frame", "track", "left", "top", "width", "height")
_ADVICE = "give MOTChallenge text (frame, track, left, top, width, height) or CSV with such headings"


@dataclass(frozen=True, slots=True)
class Box:
    """Where a tracker saw a person in one frame, in pixels.

    Attributes:
        frame: Number of the frame, from 0.
        track: The tracker's name of the passage.
        left: Left edge.
        top: Upper edge.
        right: Right edge.
        bottom: Lower edge.
    """

    frame: int
    track: str
    left: float
    top: float
    right: float
    bottom: float


def read_boxes(path: Path, *, first_frame: int = 1) -> list[Box]:
    """The boxes of a tracker's file, by frame, then by line.

    Args:
        path: MOTChallenge text, with commas or blanks, or CSV whose first line names the columns.
        first_frame: The number of the video's first frame in the file; 1 in MOTChallenge.

    Raises:
        UserError: The file cannot be read, a line is no box, or there is none.
    """
    lines = read_text(path, _ADVICE).splitlines()
    rows = [(number, _cells(line)) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise UserError(f"{path}: has no boxes; {_ADVICE}")
    columns = {name: place for place, name in enumerate(_MOT)}
    if not _is_number(rows[0][1][0]):
        columns = _columns(path, rows[0][1])
        rows = rows[1:]
    boxes = [_box(path, number, cells, columns, first_frame) for number, cells in rows]
    if not boxes:
        raise UserError(f"{path}: has no boxes; {_ADVICE}")
    return sorted(boxes, key=lambda box: box.frame)


def _cells(line: str) -> list[str]:
    for separator in (",", ";", "\t"):
        if separator in line:
            return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    return line.split()


def _columns(path: Path, headings: Sequence[str]) -> dict[str, int]:
    known = {heading.lower(): place for place, heading in reversed(list(enumerate(headings)))}
    found = {
        name: known[spelling]
        for name, spellings in _NAMES.items()
        for spelling in reversed(spellings)
        if spelling in known
    }
    needed = {"frame", "track", "left", "top"}
    missing = sorted(needed - found.keys())
    if missing or not ({"width", "height"} <= found.keys() or {"right", "bottom"} <= found.keys()):
        names = ", ".join(missing) or "width and height, or right and bottom"
        raise UserError(f"{path}: has no column {names}; {_ADVICE}")
    return found


def _box(path: Path, number: int, cells: list[str], columns: dict[str, int], first_frame: int) -> Box:
    def value(name: str) -> float:
        result = float(cells[columns[name]])
        if not math.isfinite(result):
            raise ValueError(name)
        return result

    try:
        frame, left, top = value("frame"), value("left"), value("top")
        right = left + value("width") if "width" in columns else value("right")
        bottom = top + value("height") if "height" in columns else value("bottom")
        track = cells[columns["track"]]
    except (IndexError, ValueError):
        raise UserError(f"{path}, line {number}: is not a box; {_ADVICE}") from None
    if frame != int(frame) or frame < first_frame:
        raise UserError(
            f"{path}, line {number}: frame {cells[columns['frame']]} is not a number from {first_frame} on; "
            "state with `first_frame` which number the first frame has"
        )
    if not track or not (right > left and bottom > top):
        raise UserError(f"{path}, line {number}: has no track or no size; {_ADVICE}")
    return Box(int(frame) - first_frame, _track_name(track), left, top, right, bottom)


def _track_name(text: str) -> str:
    """MOTChallenge files may write the number 3 as 3.0."""
    return str(int(float(text))) if _is_number(text) and float(text).is_integer() else text


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
