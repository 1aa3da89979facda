from __future__ import annotations

import pytest

from pclhd.runs.data_name import shown_data_name


@pytest.mark.parametrize(
    ("name", "drawn", "shown"),
    [
        ("sysu", True, "drawn people in SYSU-MM01's layout"),
        ("sysu", False, "sysu"),
        ("regdb-3", True, "drawn people in RegDB's layout, trial 3"),
        ("regdb-1, regdb-2", True, "drawn people in RegDB's layout, trials 1, 2"),
        ("regdb-1, sysu", True, "regdb-1, sysu"),
        ("own", True, "own"),
        ("synthetic-small", True, "synthetic-small"),
    ],
)
def test_drawn_people_are_not_called_by_a_benchmark(name: str, drawn: bool, shown: str) -> None:
    assert shown_data_name(name, drawn=drawn) == shown
