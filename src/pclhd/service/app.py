"""The application: routes and page, with the headers, limits and refusals that all of them have."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pclhd import __version__
from pclhd.errors import UserError
from pclhd.files import InUse, Unreachable
from pclhd.service.access import Refused, Service
from pclhd.service.limits import BodyLimit, TooManyRequests
from pclhd.service.metrics import Metrics
from pclhd.service.routes import router

_POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob:", "connect-src 'self'",
        "form-action 'none'", "base-uri 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_PAGE = {
    "/": ("search.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def create_app(service: Service) -> FastAPI:
    """The application of a service."""
    app = FastAPI(
        title="pclhd search",
        version=__version__,
        description="Search a gallery of people across the visible and the infrared spectrum.",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(router)
    for path, (name, kind) in _PAGE.items():
        app.add_api_route(path, _page(name, kind), include_in_schema=False)
    app.add_exception_handler(Exception, _unforeseen)
    for error, answer in (
        (UserError, _user_error), (Refused, _refused), (TooManyRequests, _too_many),
        (RequestValidationError, _invalid), (HTTPException, _http),
    ):  # fmt: skip
        app.add_exception_handler(error, answer)
    app.add_middleware(BodyLimit, most=service.limits.bytes, seconds=service.limits.seconds)
    app.add_middleware(Observer, metrics=service.metrics)
    return app


class Observer:
    """Counts and times every answer, and gives it the headers that all have.

    Args:
        app: The application.
        metrics: Where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            # A path that no route has may be anything; it must not become a label.
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)


def _page(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    content = files("pclhd.service").joinpath("page", name).read_bytes()

    async def page() -> Response:
        return Response(content, media_type=kind)

    return page


def problem(status: int, reason: str, **headers: str) -> JSONResponse:
    """A refusal: one sentence."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": " ".join(reason.split())}, status, headers=named)


async def _user_error(request: Request, error: Any) -> Response:
    if isinstance(error, InUse):
        return problem(409, "the gallery is being changed; try again in a moment")
    if isinstance(error, Unreachable):
        return problem(503, "the storage of the gallery does not answer, or refuses; try again in a moment")
    return problem(422, str(error))


async def _refused(request: Request, error: Any) -> Response:
    headers = {"www_authenticate": "Bearer"} if error.status == 401 else {}
    return problem(error.status, str(error), **headers)


async def _too_many(request: Request, error: Any) -> Response:
    return problem(429, str(error), retry_after=str(error.retry_after))


async def _invalid(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    return problem(422, f"{place}: {first['msg']}")


async def _http(request: Request, error: Any) -> Response:
    return problem(error.status_code, str(error.detail), **dict(error.headers or {}))


async def _unforeseen(request: Request, error: Exception) -> Response:
    response = problem(500, "the service failed; its log has the reason")
    response.headers.update(HEADERS)  # this answer is made outside of the middleware
    return response
