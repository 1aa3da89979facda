from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pclhd.models.architecture import ARCHITECTURES, NARROW, RESNET50_AGW, Architecture


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_json_and_back(name: str) -> None:
    assert Architecture.from_json(ARCHITECTURES[name].to_json()) == ARCHITECTURES[name]


def test_embedding_sizes() -> None:
    assert (RESNET50_AGW.embedding_size, NARROW.embedding_size) == (2048, 256)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": "dense"}, "dense"),
        ({"depths": (1, 1, 1)}, "depths"),
        ({"depths": (1, 0, 1, 1)}, "depths"),
        ({"widths": (1, 1, 1, 2.5)}, "widths"),
        ({"non_local": (0, -1, 0, 0)}, "non_local"),
        ({"non_local": (2, 0, 0, 0)}, "more blocks than"),
        ({"non_local": (0, 0, 0, 1)}, "fourth stage"),
        ({"stem_kernel": 4}, "odd"),
        ({"stem_stride": 0}, "stem_stride"),
        ({"stem_pool": 1}, "stem_pool"),
        ({"gem_power": 0}, "gem_power"),
        ({"gem_power": float("nan")}, "gem_power"),
        ({"gem_power": "3"}, "gem_power"),
    ],
)
def test_refuses_numbers_that_describe_no_network(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(NARROW, **change)


@pytest.mark.parametrize("text", ["", "[]", "{}", '"basic"', NARROW.to_json().replace("depths", "depth")])
def test_refuses_json_of_something_else(text: str) -> None:
    with pytest.raises(ValueError):
        Architecture.from_json(text)


def test_json_holds_every_field() -> None:
    assert set(json.loads(NARROW.to_json())) == set(Architecture.__dataclass_fields__)
