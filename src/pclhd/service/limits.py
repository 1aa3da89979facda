"""Limits: how often a caller may ask, how many images are embedded at once, how large and how slow a request may be."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CALLERS = 10_000


@dataclass(frozen=True)
class Limits:
    """What the service accepts.

    Attributes:
        bytes: Largest image file.
        pixels: Most pixels of an image.
        requests_per_minute: For each token, or for each address where no token is asked for.
        burst: Requests that may come at once.
        at_once: Images that are decoded and embedded at the same time.
        waiting: Requests that may wait for that.
        seconds: Time for a request to arrive.
    """

    bytes: int = 20 * 2**20
    pixels: int = 25_000_000
    requests_per_minute: int = 600
    burst: int = 120
    at_once: int = 2
    waiting: int = 32
    seconds: float = 30.0


class TooManyRequests(Exception):
    """A caller, or all of them together, ask for more than the limits allow.

    Args:
        reason: One sentence.
        retry_after: Seconds.
    """

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class RateLimit:
    """A bucket of tokens for each caller: `burst` requests at once, then `per_minute` on average.

    Args:
        per_minute: Requests a minute.
        burst: Requests at once.
        clock: Seconds; for tests.
    """

    def __init__(self, per_minute: int, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = per_minute / 60, float(burst), clock
        # The callers that were here last. Forgetting one gives it a full bucket.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, caller: str) -> None:
        """Count a request.

        Raises:
            TooManyRequests: The caller's bucket is empty.
        """
        with self._lock:
            now = self._clock()
            left, since = self._buckets.pop(caller, (self._burst, now))
            left = min(self._burst, left + (now - since) * self._rate)
            allowed = left >= 1
            self._buckets[caller] = (left - 1 if allowed else left, now)
            if len(self._buckets) > _CALLERS:
                self._buckets.popitem(last=False)
        if not allowed:
            raise TooManyRequests(
                "too many requests from this caller; wait a little", max(1, round((1 - left) / self._rate))
            )


class WorkLimit:
    """Lets a number of threads work at once, some more wait, and refuses the rest.

    Args:
        at_once: Threads that work.
        waiting: Threads that wait.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._work = threading.Semaphore(at_once)
        self._lock, self._left = threading.Lock(), at_once + waiting

    @contextmanager
    def working(self) -> Iterator[None]:
        """Wait for a place, and hold it during the block.

        Raises:
            TooManyRequests: Too many are waiting already.
        """
        with self._lock:
            if self._left == 0:
                raise TooManyRequests("the service is busy; try again in a moment", 1)
            self._left -= 1
        try:
            with self._work:
                yield
        finally:
            with self._lock:
                self._left += 1

    def waiting_places(self) -> int:
        """How many more callers would be let in."""
        return self._left


class BodyLimit:
    """Refuses bodies that are too large or arrive too slowly, before they are in memory.

    Args:
        app: The application.
        most: Bytes.
        seconds: Time for the whole body.
    """

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self._app, self._most, self._seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced[:20]) > self._most:
            await refuse(send, 413, f"the body is larger than the {self._most:,} bytes allowed")
            return
        deadline = time.monotonic() + self._seconds
        received, started = 0, False

        async def limited_receive() -> Message:
            nonlocal received
            message = (
                await asyncio.wait_for(receive(), max(0.001, deadline - time.monotonic()))
                if not started
                else await receive()
            )
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._most:
                    raise _TooLarge
            return message

        async def watching_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, limited_receive, watching_send)
        except _TooLarge:
            if not started:
                await refuse(send, 413, f"the body is larger than the {self._most:,} bytes allowed")
        except TimeoutError:
            if not started:
                await refuse(send, 408, f"the request did not arrive within {self._seconds:g} seconds")


class _TooLarge(Exception):
    pass


async def refuse(send: Send, status: int, reason: str) -> None:
    """Answer with one sentence, and close the connection: the rest of the body is not read."""
    from pclhd.service.answers import error_body

    body = error_body(reason)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
