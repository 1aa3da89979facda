"""The HTTP server under the application, with a limit that uvicorn lacks: how long a request's head may take."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pclhd.service.access import Service
from pclhd.service.app import create_app

_SECONDS_TO_END = 10


class PromptProtocol(H11Protocol):
    """HTTP that closes a connection on which no head of a request is complete in time.

    Without it, clients that open connections and send nothing, or a byte now and then, take all places. The body has a
    limit of its own: `pclhd.service.limits.BodyLimit`.
    """

    seconds = 30.0
    _too_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._watch(begun=True)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        self._watch(begun=True)

    def on_response_complete(self) -> None:
        """A response was sent; the beginning of the next request may be here."""
        super().on_response_complete()
        self._watch(begun=bool(self.conn.trailing_data[0]))  # without, the limit of idle connections counts

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._watch(begun=False)
        super().connection_lost(exc)

    def _watch(self, *, begun: bool) -> None:
        if begun and self.conn.their_state is h11.IDLE:
            self._too_late = self._too_late or self.loop.call_later(self.seconds, self.transport.close)
        elif self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None


def make_server(service: Service, **settings: Any) -> uvicorn.Server:
    """The server of a service, which listens on the sockets that its `run` is given.

    Args:
        service: The service.
        settings: Further settings of `uvicorn.Config`.
    """

    class Protocol(PromptProtocol):
        seconds = service.limits.seconds

    config = uvicorn.Config(
        create_app(service), http=Protocol, ws="none", log_level="warning", access_log=False, server_header=False,
        date_header=True, proxy_headers=False, timeout_keep_alive=15, timeout_graceful_shutdown=_SECONDS_TO_END,
        limit_concurrency=256, h11_max_incomplete_event_size=32 * 2**10, lifespan="off", **settings,
    )  # fmt: skip
    return uvicorn.Server(config)
