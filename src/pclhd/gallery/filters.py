"""The only place that turns a caller's values into the filter of a query.

LanceDB takes filters as SQL text. A value becomes a literal only if it holds no quotation mark, no backslash and no
control character, so that none can end it. All others, and patterns, become regular expressions in which every sign but
letters and digits is written as its number. (Doubled quotation marks would be usual, but LanceDB 0.40 takes two of them
for one.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from pclhd.data.records import Modality
from pclhd.errors import ArgumentError
from pclhd.gallery.records import GalleryFilter

_WILD = "*?["
_QUOTES = frozenset("'\"`\\")
_ID_LENGTH = 32
_ID = re.compile(r"[0-9a-f]{8,32}")


def sql_filter(wanted: GalleryFilter) -> str | None:
    """The SQL condition of a filter; None if every row is meant.

    Args:
        wanted: The filter.

    Raises:
        ArgumentError: A value is empty or of a kind that cannot match.
    """
    parts: list[str] = []
    if wanted.camera is not None:
        names = [wanted.camera] if isinstance(wanted.camera, str) else list(wanted.camera)
        parts.append(_one_of("camera", names))
    if wanted.modality is not None:
        parts.append(_equal("modality", str(Modality(wanted.modality))))
    if wanted.source is not None:
        parts.append(_matches("source", wanted.source))
    if wanted.track is not None:
        parts.append(_equal("track", wanted.track))
    if wanted.ids is not None:
        parts.append(_ids(list(wanted.ids)))
    if wanted.since is not None:
        parts.append(f"time >= {_time(wanted.since)}")
    if wanted.until is not None:
        parts.append(f"time <= {_time(wanted.until)}")
    return " AND ".join(f"({part})" for part in parts) or None


def older_than(moment: datetime) -> str:
    """Rows taken before a moment; rows whose time is not known, if they were added before it."""
    return f"coalesce(time, added) < {_time(moment)}"


def ids_among(ids: Iterable[str]) -> str:
    """Rows with one of these whole ids."""
    return _one_of("id", list(ids))


def numbers_among(numbers: Iterable[int]) -> str:
    """Rows with one of these numbers."""
    return f"number IN ({', '.join(str(int(one)) for one in numbers)})"


def numbers_between(first: int, last: int) -> str:
    """Rows with numbers from `first` to `last`, both included."""
    return f"number >= {int(first)} AND number <= {int(last)}"


def pattern_expression(pattern: str) -> str:
    r"""A shell pattern as a regular expression of LanceDB (Rust's dialect).

    ``*`` matches any signs, ``?`` one sign, ``[ab]``, ``[a-z]`` and ``[!a]`` one of some signs. An opening bracket that
    is not closed stands for itself.
    """
    parts, place = [], 0
    while place < len(pattern):
        sign = pattern[place]
        place += 1
        if sign == "*":
            parts.append("(?s:.*)")
        elif sign == "?":
            parts.append("(?s:.)")
        elif sign == "[":
            negated = pattern[place : place + 1] in ("!", "^")
            start = place + negated
            end = pattern.find("]", start + 1)
            if end < 0:
                parts.append(_literal(sign))
            else:
                parts.append(_one_sign(pattern[start:end], negated))
                place = end + 1
        else:
            parts.append(_literal(sign))
    return "".join(parts)


def _one_sign(signs: str, negated: bool) -> str:
    """A set of signs and ranges; a range whose ends are in the wrong order matches nothing."""
    pieces, place = [], 0
    while place < len(signs):
        if place + 2 < len(signs) and signs[place + 1] == "-":
            low, high = signs[place], signs[place + 2]
            if low <= high:
                pieces.append(f"{_literal(low)}-{_literal(high)}")
            place += 3
        else:
            pieces.append(_literal(signs[place]))
            place += 1
    if not pieces:
        return "(?s:.)" if negated else "[a&&b]"
    return f"[{'^' if negated else ''}{''.join(pieces)}]"


def _literal(sign: str) -> str:
    """One sign that stands for itself: by its number, unless it is a letter or a digit."""
    return sign if sign.isascii() and sign.isalnum() else rf"\x{{{ord(sign):x}}}"


def _ids(ids: list[str]) -> str:
    """Rows of whole ids, or of ids that begin so."""
    for one in ids:
        if not _ID.fullmatch(_text("ids", one)):
            raise ArgumentError("id", f"is not 8 to {_ID_LENGTH} digits from 0-9 and a-f", value=one)
    whole = [one for one in ids if len(one) == _ID_LENGTH]
    parts = [_one_of("id", whole)] if whole or not ids else []
    parts += [f"starts_with(id, '{one}')" for one in ids if len(one) < _ID_LENGTH]
    return " OR ".join(parts)


def _equal(column: str, value: str) -> str:
    return _one_of(column, [value])


def _one_of(column: str, values: list[str]) -> str:
    if not values:
        raise ArgumentError(column, "is an empty list; name at least one, or leave it out")
    plain = [value for value in values if _is_plain(_text(column, value))]
    parts = [f"{column} IN ({', '.join(map(_quoted, plain))})"] if plain else []
    others = ["".join(map(_literal, value)) for value in values if not _is_plain(value)]
    return " OR ".join([*parts, *(_like(column, other) for other in others)])


def _matches(column: str, pattern: str) -> str:
    if not any(sign in pattern for sign in _WILD):
        return _equal(column, pattern)
    # A file may have such signs in its name, and is then meant by its name, too.
    return f"{_equal(column, pattern)} OR {_like(column, pattern_expression(_text(column, pattern)))}"


def _like(column: str, expression: str) -> str:
    return f"regexp_like({column}, {_quoted(f'^{expression}$')})"


def _is_plain(value: str) -> bool:
    return value.isprintable() and not _QUOTES & set(value)


def _quoted(plain: str) -> str:
    """A text as an SQL literal; there is no sign in it that could end one."""
    assert "'" not in plain
    return f"'{plain}'"


def _text(column: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ArgumentError(column, "must be text that is not empty", value=repr(value))
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        # Such a name cannot be stored either; see `escaped_bytes`.
        raise ArgumentError(column, "is not Unicode text; write such bytes as \\xff", value=ascii(value)) from None
    return value


def _time(moment: datetime) -> str:
    """A literal in UTC with microseconds; a time without a zone is taken for UTC."""
    utc = as_utc(moment).replace(tzinfo=None)
    return f"arrow_cast('{utc.isoformat(timespec='microseconds')}Z', 'Timestamp(Microsecond, Some(\"UTC\"))')"


def as_utc(moment: datetime) -> datetime:
    """The moment in UTC; a time without a zone is taken for UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def age_ago(age: timedelta, now: datetime | None = None) -> datetime:
    """The moment that was `age` ago.

    Raises:
        ArgumentError: The age is negative, or longer than the calendar.
    """
    if age < timedelta(0):
        raise ArgumentError("older_than", "is negative; give an age such as 30d", value=age)
    try:
        return (now or datetime.now(UTC)) - age
    except OverflowError:
        raise ArgumentError("older_than", "is longer than the calendar; give an age such as 30d", value=age) from None
