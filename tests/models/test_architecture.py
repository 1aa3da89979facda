from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from pclhd.models.architecture import (
    ARCHITECTURES,
    LITE0,
    NARROW,
    RESNET50_AGW,
    AnyArchitecture,
    Architecture,
    LiteArchitecture,
    first_difference,
    read_architecture,
)

KNOWN: dict[str, AnyArchitecture] = {**ARCHITECTURES, "efficientnet_lite0": LITE0}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_json_and_back(name: str) -> None:
    saved = json.loads(json.dumps(asdict(KNOWN[name])))
    assert read_architecture(saved) == KNOWN[name]


def test_json_of_a_resnet_and_back() -> None:
    assert Architecture.from_json(NARROW.to_json()) == NARROW


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "efficientnet_lite1"},
        {"kind": None},
        {"last_stride": 3},
        {"last_stride": True},
        {"last_stride": [2]},
        {"gem_power": "3"},
        {"gem_power": float("inf")},
        {"more": 1},
    ],
)
def test_refuses_what_describes_no_efficientnet(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        read_architecture({**asdict(LITE0), **change})


def test_architectures_of_other_kinds_differ() -> None:
    assert first_difference(LITE0, NARROW) == ("kind", "efficientnet_lite0", "ResNet")
    assert first_difference(LITE0, LiteArchitecture(last_stride=1)) == ("last_stride", 2, 1)


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
