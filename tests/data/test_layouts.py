from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from pclhd.data.layouts import DRAWN_MARK, held_out_people, is_drawn
from pclhd.synthetic import write_synthetic


@pytest.mark.parametrize("group", ["validation", "test"])
def test_which_people_a_drawing_holds_out(group: Literal["validation", "test"], tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", scale="tiny", held_out=group)
    assert is_drawn(tmp_path / "data")
    assert held_out_people(tmp_path / "data") == group


def test_version_1_does_not_divide_people(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", scale="tiny", generator=1)
    assert is_drawn(tmp_path / "data")
    assert held_out_people(tmp_path / "data") is None


def test_real_people_are_in_no_group(tmp_path: Path) -> None:
    assert not is_drawn(tmp_path)
    assert held_out_people(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"parameters": 3}', '{"parameters": {"held_out": ["test"]}}', "\0"])
def test_a_damaged_mark(text: str, tmp_path: Path) -> None:
    (tmp_path / DRAWN_MARK).write_text(text)
    assert held_out_people(tmp_path) is None


def test_a_group_of_a_later_version(tmp_path: Path) -> None:
    (tmp_path / DRAWN_MARK).write_text(json.dumps({"parameters": {"held_out": "third"}}))
    assert held_out_people(tmp_path) is None
