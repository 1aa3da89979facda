"""One door to all layouts."""

from __future__ import annotations

from pathlib import Path

from pclhd.data.folder import read_own
from pclhd.data.layouts import EXPECTED_CONTENT, LAYOUTS, guess_layout, nearest_name, renaming_hint
from pclhd.data.llcm import read_llcm
from pclhd.data.records import Dataset
from pclhd.data.regdb import read_regdb
from pclhd.data.sysu import read_sysu
from pclhd.errors import UserError

__all__ = ["LAYOUTS", "guess_layout", "open_dataset", "resolve_layout"]

AUTO = "auto"


def open_dataset(layout: str, root: Path, *, trial: int = 1) -> Dataset:
    """Read a data set of a named layout, or of the layout that it looks like.

    Args:
        layout: ``sysu``, ``regdb``, ``llcm``, ``own``, or ``auto``.
        root: The folder, or for ``own`` also a CSV file.
        trial: Which of RegDB's ten trials; the other layouts have none.

    Raises:
        UserError: The layout is unknown, a trial is asked of a layout without trials, or as the layout's reader.
    """
    resolved = resolve_layout(layout, root)
    if resolved == "regdb":
        return read_regdb(root, trial)
    if trial != 1:
        raise UserError(f"trial {trial}: layout {resolved} has no trials; only regdb has, leave it at 1")
    readers = {"sysu": read_sysu, "llcm": read_llcm, "own": read_own}
    return readers[resolved](root)


def resolve_layout(layout: str, root: Path) -> str:
    """A known layout as it is; ``auto`` as the layout that the path looks like.

    Raises:
        UserError: The layout is unknown, or ``auto`` recognises nothing.
    """
    if layout == AUTO:
        if not root.exists():
            raise UserError(f"{root}: no such file or folder; give the root of a data set, or a CSV file")
        guess = guess_layout(root)
        if guess is None:
            known = "; ".join(f"{name}: {content}" for name, content in EXPECTED_CONTENT.items())
            hint = renaming_hint(root)
            raise UserError(f"{root}: the layout is none of those known{hint or f'; expected one of: {known}'}")
        return guess
    if layout not in LAYOUTS:
        raise UserError(f"layout {layout!r} is unknown; {nearest_name(layout, (*LAYOUTS, AUTO))}")
    return layout
