from __future__ import annotations

import threading
import time

import pytest

from pclhd.service.limits import RateLimit, TooManyRequests, WorkLimit


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    limit = RateLimit(60, 3, clock)
    for _ in range(3):
        limit.take("a")
    with pytest.raises(TooManyRequests) as refused:
        limit.take("a")
    assert refused.value.retry_after == 1
    limit.take("b")  # another caller has its own bucket
    clock.now = 1.0
    limit.take("a")
    with pytest.raises(TooManyRequests):
        limit.take("a")


def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    limit = RateLimit(60, 1, clock)
    limit.take("a")
    for _ in range(50):
        with pytest.raises(TooManyRequests):
            limit.take("a")
    clock.now = 1.0
    limit.take("a")


def test_many_callers_do_not_fill_the_memory() -> None:
    limit = RateLimit(60, 1, Clock())
    for number in range(12_000):
        limit.take(str(number))
    assert len(limit._buckets) <= 10_000


def test_work_is_bounded_and_the_rest_refused() -> None:
    limit = WorkLimit(1, 1)
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with limit.working():
            entered.set()
            leave.wait(10)

    first, second = threading.Thread(target=work), threading.Thread(target=work)
    first.start()
    assert entered.wait(10)
    second.start()
    deadline = time.monotonic() + 10
    while limit.waiting_places() and time.monotonic() < deadline:
        time.sleep(0.001)
    with pytest.raises(TooManyRequests, match="busy"), limit.working():
        pass
    leave.set()
    first.join(10)
    second.join(10)
    with limit.working():
        pass


def test_an_error_gives_the_place_back() -> None:
    limit = WorkLimit(1, 0)
    for _ in range(3):
        with pytest.raises(RuntimeError), limit.working():
            raise RuntimeError
