"""The next batch is fetched while the one before trains (ours)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Ahead(Generic[Item]):
    """Items 0, 1, … of a sequence, each fetched in a thread as soon as the one before it was asked for.

    Args:
        fetch: Gives an item by its number. It is called in another thread, and may be called for one more item than is
            ever asked for, so it must not change anything.
        number: How many items there are.
    """

    def __init__(self, fetch: Callable[[int], Item], number: int) -> None:
        self._fetch, self._number = fetch, number
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._coming: tuple[int, Future[Item]] | None = None

    def __getitem__(self, wanted: int) -> Item:
        """The item; whatever fetching it raised is raised here."""
        if self._coming is None or self._coming[0] != wanted:
            self._coming = wanted, self._pool.submit(self._fetch, wanted)
        item = self._coming[1].result()
        following = wanted + 1
        self._coming = (following, self._pool.submit(self._fetch, following)) if following < self._number else None
        return item

    def close(self) -> None:
        """End the thread; no more items come."""
        self._pool.shutdown(cancel_futures=True)
