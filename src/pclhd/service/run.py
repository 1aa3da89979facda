"""Start the service: check where it may listen, load the model, and serve until it is ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pclhd.errors import ArgumentError, UserError

if TYPE_CHECKING:
    from pclhd.service.access import Service
    from pclhd.service.limits import Limits


def open_service(
    gallery: Path | str,
    *,
    model: Path | None = None,
    tokens: Path | None = None,
    audit: Path | None = None,
    limits: Limits | None = None,
    device: str = "auto",
    false_match_rate: float | None = None,
) -> Service:
    """Open everything that the service needs; what is missing is said now, not at the first request.

    Args:
        gallery: The gallery's folder or address; it may be new if `model` is given.
        model: A run folder or model file; None takes the gallery's own.
        tokens: The file of the tokens; None asks for none.
        audit: The audit log; None puts it beside the gallery's folder.
        limits: What is accepted; None for the defaults.
        device: Where images are embedded.
        false_match_rate: Of "no one here".

    Raises:
        UserError: A part is missing or damaged, or something to install is.
    """
    try:
        from pclhd.service.access import Service
    except ModuleNotFoundError as error:
        raise UserError(
            f"the service needs {error.name}, which is not installed: pip install fastapi uvicorn prometheus-client"
        ) from error
    from pclhd.gallery.gallery import Gallery
    from pclhd.service.audit import AuditLog
    from pclhd.service.limits import Limits
    from pclhd.service.tokens import Tokens

    opened = Gallery(gallery, encoder=model, device=device)
    if audit is None and not opened.in_folder:
        raise ArgumentError(
            "audit",
            f"is missing: the audit log is a file, which {opened.address} cannot hold; name one on this machine",
        )
    if model is None and not opened.exists():
        raise ArgumentError("model", f"is missing, and there is no gallery at {opened.address}; name a gallery, or the model of a new one")
    stored = None if tokens is None else Tokens(tokens)
    if stored is not None and not stored.all():
        raise ArgumentError("tokens", "has no token; make one with: pclhd token create NAME --role admin", value=tokens)
    # Loaded now: what is missing or damaged is said before the service starts.
    _ = opened.encoder, opened.calibration, len(opened)
    log = AuditLog(audit or opened.path.with_name(f"{opened.path.name}.audit.jsonl"))
    return Service(opened, log, stored, limits or Limits(), false_match_rate)


def serve(service: Service, host: str, port: int) -> None:
    """Serve until the process is ended.

    Raises:
        UserError: The address is taken, or others than this machine could reach it without a token.
    """
    import socket

    from pclhd.service.access import is_loopback
    from pclhd.service.server import make_server

    if service.tokens is None and not is_loopback(host):
        raise ArgumentError(
            "host",
            "can be reached from other machines, and no token is asked for; make one with `pclhd token create`, and "
            "name their file with `tokens`",
            value=host,
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ArgumentError(
                "port", f"cannot be listened on at {host} ({error.strerror}); choose another", value=port
            ) from error
        make_server(service).run(sockets=[listener])
