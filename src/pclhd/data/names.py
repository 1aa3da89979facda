"""Numbers for identities and cameras that may be any text, so that no two of them become one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from pclhd.data.lists import MAX_DIGITS, quoted
from pclhd.errors import UserError

# What tables hold where nothing is known, beside the empty cell: pandas, R, Excel and databases.
MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "#n/a", "none", "null"})

_WHOLE = re.compile(r"(\d+)(\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
# Above this many digits a number that has passed through floating point may have become another one.
_EXACT_DIGITS = 15


def number_names(
    cells: Sequence[tuple[str, str | None]], column: str
) -> tuple[list[int | None], tuple[str, ...] | None]:
    """Number the names in a column.

    Args:
        cells: For each row where it is, for messages, and its text, or None where nothing is known.
        column: The column's name.

    Returns:
        A number for each row, None where nothing is known; and the names by number, or None if all names are whole
        numbers of at most `MAX_DIGITS` digits, which are then their own numbers.

    Raises:
        UserError: A cell is a number but not a whole one from 0, has lost digits, cannot be printed, or writes a number
            in two ways (7 and 007).
    """
    names = [None if text is None else _clean(text, column, where) for where, text in cells]
    spelled: dict[str, str] = {}
    for (where, _), name in zip(cells, names, strict=True):
        if name is not None and _is_whole(name):
            other = spelled.setdefault(_digits(name), name)
            if other != name:
                raise UserError(
                    f"{where}: {column} {quoted(name)} is written {quoted(other)} elsewhere; write it in one way"
                )
    present = {name for name in names if name is not None}
    if all(_is_whole(name) and len(_digits(name)) <= MAX_DIGITS for name in present):
        return [None if name is None else int(name) for name in names], None
    # Whole numbers first, by their value: Python refuses to convert very long ones.
    ordered = sorted(present, key=lambda name: (0, len(_digits(name)), name) if _is_whole(name) else (1, 0, name))
    numbers = {name: number for number, name in enumerate(ordered)}
    return [None if name is None else numbers[name] for name in names], tuple(ordered)


def known(text: str) -> str | None:
    """The text of a cell, or None where it says that nothing is known."""
    return None if text.lower() in MISSING else text


def _clean(text: str, column: str, where: str) -> str:
    """The name in a cell: a whole number without the .0 that pandas adds, or any other text."""
    whole = _WHOLE.fullmatch(text)
    if whole:
        if whole[2] and len(_digits(whole[1])) > _EXACT_DIGITS:
            raise UserError(
                f"{where}: {column} {quoted(text)} went through floating point and may have lost digits; save the "
                "column as text"
            )
        return whole[1]
    if _NUMBER.fullmatch(text):
        raise UserError(f"{where}: {column} {quoted(text)}; expected a name or a whole number from 0, or nothing")
    name = unicodedata.normalize("NFC", text)
    if not name.isprintable():
        raise UserError(f"{where}: {column} {quoted(text)} holds characters that cannot be printed; write another name")
    return name


def _is_whole(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _digits(number: str) -> str:
    return number.lstrip("0") or "0"
