"""Aligned columns of plain text, for terminals and logs."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

# Marks that turn the direction of writing, so that a name can look like another one.
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")

# Wider than any table: nothing is wrapped or cut.
_WIDTH = 1_000_000


def printable(text: str, keep: str = "") -> str:
    """Text without characters that command a terminal; each is written as JSON writes it, such as ``\\u001b``.

    File names, settings and records of others may hold any character. Those that are escaped are control characters,
    marks of writing direction, and bytes of a file name that are not UTF-8.

    Args:
        text: Any text.
        keep: Control characters that stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        one
        if one in keep or not (unicodedata.category(one) in ("Cc", "Cs") or one in _DIRECTIONS)
        else f"\\u{ord(one):04x}"
        for one in text
    )


def escaped_bytes(name: str) -> str:
    """A file name that any file can hold: bytes that are not UTF-8 are written as ``\\xff``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def duration(seconds: float) -> str:
    """A duration in words, in its two largest units: ``1 h 40 min``."""
    whole = max(1, round(seconds))
    for unit, smaller, length, part in (("d", "h", 86_400, 3_600), ("h", "min", 3_600, 60), ("min", "s", 60, 1)):
        if whole >= length:
            rest = whole % length // part
            # Beyond ten minutes, seconds are no longer known.
            return f"{whole // length} {unit}" + (f" {rest} {smaller}" if rest and whole < 10 * length else "")
    return f"{whole} s"


def text_table(rows: Iterable[Sequence[str]], *, headings: Sequence[str] = (), right: Collection[int] = ()) -> str:
    """Rows of cells as lines of text, with two spaces between the columns.

    The text has no colours or control sequences, no line is wrapped or shortened, and none ends in spaces. It is the
    same in a terminal and in a file.

    Args:
        rows: Cells of text, the same number in each row.
        headings: One per column, printed above a dashed line; none by default.
        right: Numbers of the right-aligned columns, counted from 0.

    Returns:
        Lines joined by line feeds, without one at the end.
    """
    rows = list(rows)
    table = Table(box=None, show_header=False, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in range(len(headings or rows[0]) if headings or rows else 0):
        table.add_column(justify="right" if column in right else "left", no_wrap=True)
    if headings:
        table.add_row(*map(Text, headings))
        table.add_row(*(Rule(characters="-", style="") for _ in headings))
    for row in rows:
        # As `Text`, so that square brackets and colons in names are not taken for markup and emoji.
        table.add_row(*(Text(printable(cell)) for cell in row))
    target = io.StringIO()
    console = Console(file=target, width=_WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in target.getvalue().removesuffix("\n").split("\n"))
