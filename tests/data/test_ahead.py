from __future__ import annotations

import threading

import pytest

from pclhd.data.ahead import Ahead


def test_items_come_in_any_order_asked_for() -> None:
    ahead = Ahead(lambda number: number * number, 5)
    assert [ahead[number] for number in (0, 1, 2, 4, 4, 3)] == [0, 1, 4, 16, 16, 9]
    ahead.close()


def test_the_next_is_fetched_before_it_is_asked_for_and_none_beyond_the_last() -> None:
    begun = [threading.Event() for _ in range(3)]

    def fetch(number: int) -> int:
        begun[number].set()  # an item too many would be an IndexError
        return number

    ahead = Ahead(fetch, 3)
    assert not begun[0].is_set()
    assert ahead[0] == 0
    assert begun[1].wait(timeout=60)
    assert not begun[2].is_set()
    assert [ahead[1], ahead[2]] == [1, 2]
    ahead.close()


def test_a_fault_is_raised_when_its_item_is_asked_for() -> None:
    def fetch(number: int) -> int:
        if number == 1:
            raise OSError("gone")
        return number

    ahead = Ahead(fetch, 3)
    assert ahead[0] == 0
    with pytest.raises(OSError, match="gone"):
        ahead[1]
    assert ahead[2] == 2
    ahead.close()


def test_closing_ends_the_thread() -> None:
    ahead = Ahead(int, 10)
    assert ahead[3] == 3
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
