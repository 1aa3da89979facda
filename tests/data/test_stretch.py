from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclhd.data.stretch import FULL_RANGE, Stretch
from pclhd.errors import UserError


def test_the_full_range_is_rounded_as_before() -> None:
    values = np.arange(65536)
    assert np.array_equal(FULL_RANGE.to_bytes(values), (values * 255 + 32767) // 65535)


@given(st.integers(-1000, 65535), st.integers(1, 65535), st.lists(st.integers(-70000, 140000), min_size=1))
def test_values_are_scaled_and_clipped(low: int, width: int, values: list[int]) -> None:
    found = Stretch(low, low + width).to_bytes(np.array(values))
    for value, byte in zip(values, found.tolist(), strict=True):
        exact = min(max((value - low) * 255 / width, 0), 255)
        assert abs(byte - exact) <= 0.5 + 1e-9


def test_what_is_no_number_becomes_black() -> None:
    values = np.array([np.nan, -np.inf, np.inf, 1.0], dtype=np.float32)
    assert Stretch(0, 2).to_bytes(values).tolist() == [0, 0, 255, 128]


def test_as_json_and_back() -> None:
    stretch = Stretch(1184.0, 3344.5)
    assert Stretch.from_dict(json.loads(json.dumps(stretch.to_dict()))) == stretch


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"low": 0},
        {"low": 0, "high": 1, "more": 2},
        {"low": "0", "high": 1},
        {"low": True, "high": 2},
        {"low": 0, "high": 0},
        {"low": 2, "high": 1},
        {"low": 0, "high": float("nan")},
        {"low": float("-inf"), "high": 0},
        {"low": 0, "high": 10**400},
    ],
)
def test_what_is_no_stretch(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="stretch"):
        Stretch.from_dict(values)
