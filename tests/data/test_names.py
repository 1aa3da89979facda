from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclhd.data.names import known, number_names
from pclhd.errors import UserError


def _number(*texts: str | None) -> tuple[list[int | None], tuple[str, ...] | None]:
    return number_names([(f"row {row}", text) for row, text in enumerate(texts, start=2)], "identity")


def test_whole_numbers_are_their_own_numbers() -> None:
    assert _number("7", "0", None, "12") == ([7, 0, None, 12], None)
    assert _number("5.0", "5", "6.") == ([5, 5, 6], None)
    assert _number("9" * 18) == ([10**18 - 1], None)


def test_names_are_numbered() -> None:
    assert _number("anna", "Bo", "anna", None) == ([1, 0, 1, None], ("Bo", "anna"))


def test_long_numbers_are_names() -> None:
    stamps = ["17000000000000000001", "17000000000000000002", "9"]
    assert _number(*stamps) == ([1, 2, 0], ("9", "17000000000000000001", "17000000000000000002"))
    assert _number("1" * 5000, "2" * 5000)[0] == [0, 1]


def test_names_with_accents_in_two_forms_are_one() -> None:
    assert _number("Zoe\u0308", "Zo\u00eb")[0] == [0, 0]


@given(st.lists(st.one_of(st.integers(0, 10**30).map(str), st.text("abcäß東 ", min_size=1).map(str.strip)), min_size=1))
def test_no_two_names_become_one(texts: list[str]) -> None:
    texts = [text for text in texts if text] or ["a"]
    numbers, names = _number(*texts)
    assert [numbers[i] == numbers[j] for i in range(len(texts)) for j in range(i)] == [
        texts[i] == texts[j] for i in range(len(texts)) for j in range(i)
    ]
    shown = [str(number) if names is None else names[number or 0] for number in numbers]
    assert shown == texts


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("7", "007"), "row 3: identity '007' is written '7' elsewhere"),
        (("a", "1", "01"), "row 4: identity '01' is written '1' elsewhere"),
        (("1.5",), "row 2: identity '1.5'; expected a name or a whole number"),
        (("-2",), "row 2: identity '-2'"),
        (("1.7e+19",), r"row 2: identity '1\.7e\+19'"),
        (("17000000000000000000.0",), "may have lost digits; save the column as text"),
        (("a\nb",), "characters that cannot be printed"),
        (("a\x1b[31m",), "characters that cannot be printed"),
    ],
)
def test_faults(texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        _number(*texts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "nan", "NaN", "<NA>", "None", "NULL", "n/a"])
def test_what_says_nothing_is_known(text: str) -> None:
    assert known(text) is None
    assert known("Nan Goldin") == "Nan Goldin"
