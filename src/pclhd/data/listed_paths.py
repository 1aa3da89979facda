"""From a path as a list names it to the file, with the spellings that other systems leave behind."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


@dataclass(frozen=True, slots=True)
class FoundPath:
    """Where a listed image is.

    Attributes:
        path: The file; where there is none, the path at which it was expected.
        hint: Where there is no file, the likely reason and what to write instead; empty if none is known.
    """

    path: Path
    hint: str = ""


class ListedPaths:
    """Finds the files that a list names.

    A path is taken as it is written, else with backslashes as separators, else with accents stored in another form
    (NFC, NFD) if exactly one file fits. Nothing else is tried; the hint names the usual mistakes.

    Args:
        base: The folder to which paths are relative.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self._listings: dict[Path, list[str]] = {}

    def find(self, text: str) -> FoundPath:
        """Find one file."""
        wanted = self._base / text
        if is_file(wanted):
            return FoundPath(wanted)
        for spelling in dict.fromkeys((text, text.replace("\\", "/"))):
            path = self._base / spelling
            if is_file(path):
                return FoundPath(path)
            fitting = self._fitting(path, _composed)
            if len(fitting) == 1:
                return FoundPath(fitting[0])
            if fitting:
                return FoundPath(
                    wanted, f"{len(fitting)} files differ from it only in how accents are stored; keep one"
                )
        return FoundPath(wanted, self._hint(text))

    def _hint(self, text: str) -> str:
        if is_windows_path(text):
            return f"a Windows path from another machine; write it relative to {self._base}"
        plain = text.replace("\\", "/")
        first, _, rest = plain.partition("/")
        if rest and first == self._base.absolute().name and is_file(self._base / rest):
            return f"it repeats the folder's own name; write {rest}"
        other_case = self._fitting(self._base / plain, lambda name: _composed(name).casefold())
        if other_case:
            return f"there is {other_case[0]}, with other upper and lower case; write it so"
        if "\\" in text:
            return "it has backslashes, and with / instead there is no such file either"
        return ""

    def _fitting(self, path: Path, form: Callable[[str], str]) -> list[Path]:
        """The files whose path below the base (or below the root) is the same in some form."""
        start = self._base if path.is_relative_to(self._base) else Path(path.anchor)
        places = [start]
        for part in path.relative_to(start).parts:
            places = [
                place / name
                for place in places
                for name in ([part] if part == ".." else self._listing(place))
                if form(name) == form(part)
            ]
        return [place for place in places if is_file(place)]

    def _listing(self, folder: Path) -> list[str]:
        if folder not in self._listings:
            try:
                self._listings[folder] = sorted(os.listdir(folder))  # noqa: PTH208 (names, not paths)
            except OSError:
                self._listings[folder] = []
        return self._listings[folder]


def is_file(path: Path) -> bool:
    """Whether there is a regular file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_windows_path(text: str) -> bool:
    """Whether a path begins with a drive or a network share."""
    return _DRIVE.match(text) is not None and os.name != "nt"


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
