"""Who asks, and whether they may: checked before anything else, and logged if they may not."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from fastapi import Request

from pclhd.gallery.gallery import Gallery
from pclhd.service.audit import AuditLog
from pclhd.service.limits import Limits, RateLimit, WorkLimit
from pclhd.service.metrics import Metrics
from pclhd.service.tokens import Role, Tokens

#: Whom the audit log names where no token is asked for.
LOCAL = "local"


@dataclass
class Service:
    """Everything that a request needs.

    Attributes:
        gallery: What is searched.
        audit: Where it is logged.
        tokens: Who may ask; None if everyone may, on this machine only.
        limits: What is accepted.
        false_match_rate: Of "no one here", unless a request names another.
    """

    gallery: Gallery
    audit: AuditLog
    tokens: Tokens | None = None
    limits: Limits = field(default_factory=Limits)
    false_match_rate: float | None = None

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        self.rate = RateLimit(self.limits.requests_per_minute, self.limits.burst)
        self.work = WorkLimit(self.limits.at_once, self.limits.waiting)
        self.changes = WorkLimit(1, self.limits.waiting)  # a gallery has one writer at a time; the others wait


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
