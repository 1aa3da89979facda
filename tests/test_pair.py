from __future__ import annotations

from pclhd.pair import Pair


def test_parts_by_place_and_by_name() -> None:
    pair = Pair(visible=1, infrared=2)
    visible, infrared = pair
    assert (visible, infrared) == (1, 2)
    assert dict(pair.items()) == {"visible": 1, "infrared": 2}
    assert [pair.of(name) for name in ("visible", "infrared")] == [1, 2]


def test_a_function_gets_the_visible_part_first() -> None:
    numbers = iter("ab")
    assert Pair(3, 4).map(lambda part: (next(numbers), part)) == Pair(("a", 3), ("b", 4))
