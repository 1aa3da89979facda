"""The application: who asks is checked first, then the gallery is asked, and every answer and refusal is logged."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pclhd import __version__
from pclhd.answers.calibration import Calibration
from pclhd.errors import UserError
from pclhd.gallery.gallery import Gallery
from pclhd.service.audit import AuditLog
from pclhd.service.limits import BodyLimit, Limits, RateLimit, TooManyRequests, WorkLimit
from pclhd.service.metrics import Metrics
from pclhd.service.tokens import Role, Tokens

#: Whom the audit log names where no token is asked for.
LOCAL = "local"

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
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


@dataclass
class Service:
    """Everything that a request needs.

    Attributes:
        gallery: What is searched.
        audit: Where it is logged.
        tokens: Who may ask; None if everyone may, on this machine only.
        calibration: What similarities mean; None where it is not known.
        limits: What is accepted.
        false_match_rate: Of "nobody here", unless a request names another.
    """

    gallery: Gallery
    audit: AuditLog
    tokens: Tokens | None = None
    calibration: Calibration | None = None
    limits: Limits = field(default_factory=Limits)
    false_match_rate: float = 0.01

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        self.rate = RateLimit(self.limits.requests_per_minute, self.limits.burst)
        self.work = WorkLimit(self.limits.at_once, self.limits.waiting)


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        name: Of the token.
        role: What it allows.
    """

    name: str
    role: Role


class Refused(Exception):
    """A request that is refused.

    Args:
        status: HTTP status.
        reason: One sentence.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def create_app(service: Service) -> FastAPI:
    """The application of a service."""
    from pclhd.service.routes import router

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


def authorise(request: Request, needed: Role) -> Caller:
    """Who asks, if they may.

    Raises:
        Refused: There is no valid token, or its role is too low.
        TooManyRequests: The caller asks too often.
    """
    service: Service = request.app.state.service
    address = request.client.host if request.client else "unknown"
    if service.tokens is None:
        _require_this_machine(request)
        caller = Caller(LOCAL, Role.ADMIN)
        service.rate.take(f"address {address}")
    else:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        token = service.tokens.find(secret.strip()) if scheme.lower() == "bearer" and secret else None
        if token is None:
            service.rate.take(f"address {address}")  # so that guessing is slow
            service.audit.append("unknown", "denied", path=request.url.path, address=address)
            raise Refused(401, "a valid token is needed: send it as `Authorization: Bearer TOKEN`")
        service.rate.take(f"token {token.name}")
        caller = Caller(token.name, token.role)
    if not caller.role.allows(needed):
        service.audit.append(caller.name, "denied", path=request.url.path, address=address, needed=needed.value)
        raise Refused(403, f"this needs a token with the role {needed.value}; this one has {caller.role.value}")
    return caller


def _require_this_machine(request: Request) -> None:
    """Without tokens, refuse what a page from elsewhere may send here by way of the user's browser.

    Its name for this machine may be its own (DNS rebinding), and its origin is.
    """
    host = request.headers.get("host", "").rsplit(":", 1)[0].strip("[]")
    if not is_loopback(host):
        raise Refused(403, "without tokens the service answers only to localhost and 127.0.0.1")
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise Refused(403, "requests from other sites are refused")
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise Refused(403, "requests from other sites are refused")


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
    message = str(error)
    busy = "is being written by another pclhd" in message
    return problem(409 if busy else 422, message if not busy else "the gallery is being changed; try again in a moment")


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
