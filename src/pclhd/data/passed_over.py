"""What a reader found and did not take, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

EXAMPLES = 3
"""Paths that are kept for each reason."""


class Reason(StrEnum):
    """Why files were passed over; the values are the words of the summary and the keys of the JSON output."""

    HIDDEN = "hidden"
    NOT_AN_IMAGE = "not an image"
    LINKED_AGAIN = "linked again or in a loop"
    BROKEN_LINK = "broken link"
    NOT_A_FILE = "not a regular file"
    UNREADABLE = "unreadable"
    SUBFOLDER = "in a subfolder"
    IN_NO_LIST = "in no list"
    OUTSIDE = "outside visible and infrared"
    OTHER_CAMERA = "of another camera"
    JUNK = "junk"
    DOUBLE = "double"


@dataclass(frozen=True, slots=True)
class Passed:
    """One path that was passed over.

    Attributes:
        reason: Why.
        path: The file, or the folder of several.
        files: How many files it stands for.
    """

    reason: Reason
    path: Path
    files: int = 1


@dataclass(frozen=True)
class PassedOver:
    """Counts and a few examples of the files that a reader passed over, by reason.

    Attributes:
        counts: Number of files; a reason without a file is left out.
        examples: The first paths of each reason, at most `EXAMPLES`.
    """

    counts: Mapping[Reason, int] = field(default_factory=dict)
    examples: Mapping[Reason, tuple[Path, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, passed: Iterable[Passed]) -> PassedOver:
        """Count what was passed over, in the order of `Reason`."""
        counts: dict[Reason, int] = {}
        examples: dict[Reason, tuple[Path, ...]] = {}
        for one in passed:
            counts[one.reason] = counts.get(one.reason, 0) + one.files
            kept = examples.setdefault(one.reason, ())
            if len(kept) < EXAMPLES and one.path not in kept:
                examples[one.reason] = (*kept, one.path)
        reasons = [reason for reason in Reason if counts.get(reason)]
        return cls({reason: counts[reason] for reason in reasons}, {reason: examples[reason] for reason in reasons})

    def __add__(self, other: PassedOver) -> PassedOver:
        """Both together."""
        reasons = [reason for reason in Reason if reason in self.counts or reason in other.counts]
        return PassedOver(
            {reason: self.counts.get(reason, 0) + other.counts.get(reason, 0) for reason in reasons},
            {reason: (self.examples.get(reason, ()) + other.examples.get(reason, ()))[:EXAMPLES] for reason in reasons},
        )

    def __bool__(self) -> bool:
        return bool(self.counts)

    @property
    def files(self) -> int:
        """How many files were passed over."""
        return sum(self.counts.values())

    def summary(self) -> str:
        """One line, such as ``passed over: 12 files (10 hidden, 2 not an image)``."""
        if not self:
            return "passed over: nothing"
        parts = ", ".join(f"{count:,} {reason}" for reason, count in self.counts.items())
        return f"passed over: {self.files:,} file{'s' if self.files != 1 else ''} ({parts})"

    def lines(self, root: Path) -> list[str]:
        """One line per reason with its examples, relative to a root where they are below it."""
        return [f"{reason}: {_some(paths, self.counts[reason], root)}" for reason, paths in self.examples.items()]

    def to_dict(self) -> dict[str, object]:
        """Counts and examples as plain values, ready for JSON."""
        return {
            "files": self.files,
            "counts": {str(reason): count for reason, count in self.counts.items()},
            "examples": {str(reason): [printable(path) for path in paths] for reason, paths in self.examples.items()},
        }


def printable(text: str | Path) -> str:
    """A path, or text with one in it, that every output can hold: bytes that are not UTF-8 are written as ``\\xff``."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _some(paths: tuple[Path, ...], count: int, root: Path) -> str:
    shown = ", ".join(printable(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths)
    return f"{shown}, …" if count > len(paths) else shown
