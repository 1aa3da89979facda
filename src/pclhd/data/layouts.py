"""Which folder layouts are known, and how each is recognised before anything in it is read."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

from pclhd.errors import UserError
from pclhd.parsing import Unparsable, parse_json, read_text

SYSU_CAMERAS = (1, 2, 3, 4, 5, 6)

EXPECTED_CONTENT = {
    "sysu": "folders cam1 to cam6 and exp/train_id.txt, exp/val_id.txt, exp/test_id.txt (SYSU-MM01 as published)",
    "regdb": "idx/train_visible_1.txt, idx/train_thermal_1.txt, the two test lists and the images (RegDB as published)",
    "llcm": "idx/train_vis.txt, idx/train_nir.txt, idx/test_id.txt and folders vis, nir, test_vis, test_nir",
    "own": "a CSV file, or a folder with an images.csv, or a folder with subfolders visible and infrared",
}
LAYOUTS = tuple(EXPECTED_CONTENT)
TITLES = {"sysu": "SYSU-MM01", "regdb": "RegDB", "llcm": "LLCM"}
"""The names of the data sets that were published in a layout."""

#: Names that people give to the two folders of their own images. They are never read as such, only pointed out.
_MEANT = {
    "visible": ("visible", "vis", "rgb", "color", "colour", "day"),
    "infrared": ("infrared", "ir", "nir", "thermal", "night"),
}

DRAWN_MARK = "synthetic.json"
"""The file that `pclhd synth` leaves in a data set, whose people are then drawn, whatever its layout."""


def is_drawn(root: Path) -> bool:
    """Whether a data set's folder says that its people are drawn."""
    return (root / DRAWN_MARK).is_file()


def held_out_people(root: Path) -> Literal["validation", "test"] | None:
    """Which people a drawn data set holds out: those to choose by, or those for final figures.

    Args:
        root: Its folder.

    Returns:
        None if its people are not drawn, are not divided (generator version 1, RegDB's layout), or the mark is damaged.
    """
    try:
        mark = parse_json(read_text(root / DRAWN_MARK, "draw the data again"))
        group = mark["parameters"]["held_out"]
    except (UserError, Unparsable, LookupError, TypeError):
        return None
    return group if group in ("validation", "test") else None


def has_layout(root: Path, layout: str) -> bool:
    """Whether the marks of a layout are there; the lists and images themselves are not looked at.

    Args:
        root: A folder, or a file.
        layout: One of `LAYOUTS`.

    Raises:
        ValueError: The layout is not one of `LAYOUTS`.
    """
    if layout == "sysu":
        return (root / "exp" / "test_id.txt").is_file() or any((root / f"cam{c}").is_dir() for c in SYSU_CAMERAS)
    if layout == "regdb":
        return any(any(root.glob(f"idx/{kind}_*.txt")) for kind in ("train_visible", "train_thermal", "test_visible"))
    if layout == "llcm":
        return any((root / "idx" / name).is_file() for name in ("train_vis.txt", "train_nir.txt", "test_id.txt"))
    if layout == "own":
        return _is_csv(root) or (root / "images.csv").is_file() or _has_both_folders(root)
    raise ValueError(f"layout must be one of {LAYOUTS}, got {layout!r}")


def guess_layout(root: Path) -> str | None:
    """The first layout whose marks are found at a path, or None."""
    return next((layout for layout in LAYOUTS if has_layout(root, layout)), None)


def renaming_hint(root: Path) -> str:
    """The end of an error message where folders of a person's own images seem to have other names; else empty."""
    names = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    found = {meant: [name for name in names if name.lower() in known] for meant, known in _MEANT.items()}
    if not all(found.values()):
        return ""
    wrong = [f"{ones[0]} to {meant}" for meant, ones in found.items() if meant not in ones]
    return f"; if these are your own images, rename {' and '.join(wrong)}" if wrong else ""


def require_layout(root: Path, layout: str) -> None:
    """Stop early, and with a hint, where a path cannot be of the layout that was asked for.

    Raises:
        UserError: Nothing is there, or not what the layout needs; the message says what is expected, and names the
            layout that it looks like instead.
    """
    if not root.exists():
        raise UserError(f"{root}: no such file or folder; layout {layout} expects there {EXPECTED_CONTENT[layout]}")
    if has_layout(root, layout):
        return
    other = guess_layout(root)
    hint = f"; it looks like {other}: give that as the layout" if other else renaming_hint(root)
    raise UserError(f"{root}: not layout {layout}, which expects {EXPECTED_CONTENT[layout]}{hint}")


def nearest_name(name: str, known: tuple[str, ...]) -> str:
    """The end of an error message on an unknown name: the nearest known one, if any is near, and all of them."""
    near = difflib.get_close_matches(name.lower(), known, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"{meant}known: {', '.join(known)}"


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and path.is_file()


def _has_both_folders(root: Path) -> bool:
    return (root / "visible").is_dir() and (root / "infrared").is_dir()
