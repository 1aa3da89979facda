"""The only place that turns a caller's values into the filter of a query.

LanceDB takes filters as SQL text. Its own expressions write the literals, so no value can end one; patterns become
regular expressions in which every other sign is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from pclhd.data.records import Modality
from pclhd.errors import ArgumentError
from pclhd.gallery.records import GalleryFilter

_WILD = "*?["


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
        parts.append(_one_of("id", list(wanted.ids)))
    if wanted.since is not None:
        parts.append(f"time >= {_time(wanted.since)}")
    if wanted.until is not None:
        parts.append(f"time <= {_time(wanted.until)}")
    return " AND ".join(f"({part})" for part in parts) or None


def older_than(moment: datetime) -> str:
    """Rows taken before a moment; rows whose time is not known, if they were added before it."""
    return f"coalesce(time, added) < {_time(moment)}"


def ids_among(ids: Iterable[str]) -> str:
    """Rows with one of these ids."""
    return _one_of("id", list(ids))


def digests_among(digests: Iterable[str]) -> str:
    """Rows with one of these digests."""
    return _one_of("digest", list(digests))


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
    return f"^{''.join(parts)}$"


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


def _builders() -> tuple[Any, Any]:
    from lancedb.expr import col, lit

    return col, lit


def _equal(column: str, value: str) -> str:
    col, lit = _builders()
    return str((col(column) == lit(_text(column, value))).to_sql())


def _one_of(column: str, values: list[str]) -> str:
    col, _ = _builders()
    if not values:
        raise ArgumentError(column, "is an empty list; name at least one, or leave it out")
    return str(col(column).isin([_text(column, value) for value in values]).to_sql())


def _matches(column: str, pattern: str) -> str:
    if not any(sign in pattern for sign in _WILD):
        return _equal(column, pattern)
    _, lit = _builders()
    expression = lit(pattern_expression(_text(column, pattern))).to_sql()
    # A file may have such signs in its name, and is then meant by its name, too.
    return f"{_equal(column, pattern)} OR regexp_like({column}, {expression})"


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
