from __future__ import annotations

import pytest

from pclhd.data.data_name import shown_data_name


@pytest.mark.parametrize(
    ("name", "drawn", "shown"),
    [
        ("sysu", True, "drawn people in SYSU-MM01's layout"),
        ("sysu", False, "SYSU-MM01"),
        ("sysu", None, "SYSU-MM01 or drawn people in its layout"),
        ("regdb-3", False, "RegDB, trial 3"),
        ("regdb-3", True, "drawn people in RegDB's layout, trial 3"),
        ("regdb-1, regdb-2", True, "drawn people in RegDB's layout, trials 1, 2"),
        ("regdb-1, sysu", True, "drawn people in RegDB's layout, trial 1; drawn people in SYSU-MM01's layout"),
        ("own", False, "own images"),
        ("own", None, "own images"),
        ("synthetic-small", True, "drawn people"),
        ("synthetic-small", False, "synthetic-small"),
    ],
)
def test_drawn_people_are_not_called_by_a_benchmark(name: str, drawn: bool | None, shown: str) -> None:
    assert shown_data_name(name, drawn=drawn) == shown
