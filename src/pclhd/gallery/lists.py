"""CSV lists of images to add."""

from __future__ import annotations

import csv
from pathlib import Path

from pclhd.data.records import Modality
from pclhd.data.sources import ImageSource
from pclhd.errors import UserError
from pclhd.gallery.adding import NewImage, TimeOf, check_moment
from pclhd.parsing import read_text

COLUMNS = ("path", "modality", "camera", "time", "track")
_ADVICE = f"give CSV with the column path, and where wanted {', '.join(COLUMNS[1:])}"


def read_list(path: Path, *, modality: Modality | None, camera: str | None, time: TimeOf) -> list[NewImage]:
    """The images of a list, in its order. Files are not looked at.

    Args:
        path: CSV whose first line names the columns; unknown ones are ignored. Paths are relative to its folder.
        modality: Modality of images whose line says none.
        camera: Camera of images whose line says none.
        time: Time of images whose line says none.

    Raises:
        UserError: The list cannot be read, has no column ``path`` or no image, or a line has no path or no modality, or
            a time that is none.
    """
    lines = csv.reader(read_text(path, _ADVICE).lstrip("\ufeff").splitlines())
    headings = [heading.strip().lower() for heading in next(lines, [])]
    if "path" not in headings:
        raise UserError(f"{path}: has no column path; {_ADVICE}")
    images = []
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        row = {name: cell.strip() for name, cell in zip(headings, cells, strict=False) if cell.strip()}
        images.append(_image(path, f"{path}, line {lines.line_num}", row, modality, camera, time))
    if not images:
        raise UserError(f"{path}: lists no image; {_ADVICE}")
    return images


def _image(
    path: Path, place: str, row: dict[str, str], modality: Modality | None, camera: str | None, time: TimeOf
) -> NewImage:
    if "path" not in row:
        raise UserError(f"{place}: has no path; {_ADVICE}")
    named = row.get("modality", modality)
    if named is None:
        raise UserError(f"{place}: has no modality; add a column modality, or state it for all images")
    if named not in set(Modality):
        raise UserError(f"{place}: modality {named!r} is neither visible nor infrared")
    try:
        when = check_moment("time", row["time"]) if "time" in row else time
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    source = ImageSource(path.parent / row["path"])
    return NewImage(source, Modality(named), row.get("camera", camera), when, row.get("track"))
