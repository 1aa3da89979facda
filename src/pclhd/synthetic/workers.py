"""Worker processes that end with the process that started them, whatever ended it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """A pool of fresh processes, or None for a single one.

    Fresh (spawned) processes inherit no threads, locks or random state, and behave the same on all platforms. A killed
    process cannot end its workers, so each watches for that end itself. Ctrl-C reaches all processes of a terminal;
    only this one answers it.
    """
    if workers <= 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)
    try:
        with _keyboard_held():  # a process that is started meanwhile never gets Ctrl-C, not even while it imports
            for _ in range(workers):
                pool.submit(int)
        yield pool
    finally:
        # After an error, tasks that have not started are cancelled.
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Watch, in a thread, for the end of the parent."""
    threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _keyboard_held() -> Iterator[None]:
    """Ctrl-C waits until the end of the block; processes started in it never get it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
