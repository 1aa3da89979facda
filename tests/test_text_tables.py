from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclhd.text_tables import escaped_bytes, text_table

# Printable ASCII: each takes one cell of the terminal, so the slow twin can count characters.
_CELLS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)


def _slow_twin(rows: list[list[str]], headings: list[str], right: set[int]) -> str:
    widths = [max(len(row[k]) for row in [headings, *rows]) for k in range(len(headings))]
    lines = []
    for row in [headings, ["-" * width for width in widths], *rows]:
        cells = [
            cell.rjust(width) if k in right else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


@given(st.data(), st.integers(1, 4), st.sets(st.integers(0, 3)))
def test_columns_are_aligned(data: st.DataObject, columns: int, right: set[int]) -> None:
    cells = st.lists(_CELLS, min_size=columns, max_size=columns)
    # A rule is at least one dash wide.
    headings = data.draw(st.lists(_CELLS.filter(bool), min_size=columns, max_size=columns))
    rows = data.draw(st.lists(cells, max_size=4))
    assert text_table(rows, headings=headings, right=right) == _slow_twin(rows, headings, right)


def test_without_headings_there_is_no_rule() -> None:
    assert text_table([("a", "1"), ("bcd", "22")], right={1}) == "a     1\nbcd  22"


@pytest.mark.parametrize("headings", [(), ("a", "b")])
def test_no_rows(headings: tuple[str, ...]) -> None:
    assert text_table([], headings=headings) == ("a  b\n-  -" if headings else "")


def test_nothing_is_wrapped_shortened_coloured_or_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    cells = ("long " * 200 + "end", "[red]no markup[/red] :smile: https://x/y", "1,234")
    assert text_table([cells], right={2}) == "  ".join(cells)
    assert text_table([], headings=["[b]", "n"]) == "[b]  n\n---  -"


def test_wide_letters_take_two_places() -> None:
    assert text_table([("人", "1"), ("ab", "2"), ("→", "3")]) == "人  1\nab  2\n→   3"


def test_bytes_of_names_that_are_not_utf8() -> None:
    assert escaped_bytes("0001\udcff.jpg") == r"0001\xff.jpg"
    assert escaped_bytes("行人.jpg") == "行人.jpg"
