"""Verbs of the search service: serve a gallery, make tokens, check the audit log."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer

from pclhd.cli.options import Device, Json, verb
from pclhd.cli.terminal import say, show

_LONGEST_DAYS = 36_500

token_app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
audit_app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

TokenFile = Annotated[Path, typer.Option("--tokens", metavar="FILE", help="File of the tokens.")]


@verb(quiet=True)
def serve(
    gallery: Annotated[
        str, typer.Argument(metavar="GALLERY", help="The gallery's folder, or s3://BUCKET/NAME on object storage.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Run folder or model file that embeds.", show_default="the gallery's"),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's need --tokens.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8000,
    tokens: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ask for a token of this file; see pclhd token create.")
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The audit log.",
            show_default="GALLERY.audit.jsonl beside the gallery; must be named for object storage",
        ),
    ] = None,
    false_match_rate: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            max=0.5,
            help="Share of searches for people who are not there that may give an answer.",
            show_default="0.01, or the lowest that the calibration can measure",
        ),
    ] = None,
    largest_image: Annotated[int, typer.Option(min=1, max=1024, metavar="MIB", help="Largest image file.")] = 20,
    requests_per_minute: Annotated[int, typer.Option(min=1, max=10**6, help="For each token or address.")] = 600,
    device: Device = "auto",
) -> None:
    """Serve a gallery over HTTP, with a page to search it in a browser.

    Only this machine can reach it, unless --host says otherwise. Example: pclhd serve people --model RUN
    """
    from pclhd.service.limits import Limits
    from pclhd.service.run import open_service
    from pclhd.service.run import serve as run_service

    limits = Limits(bytes=largest_image * 2**20, requests_per_minute=requests_per_minute)
    service = open_service(
        gallery, model=model, tokens=tokens, audit=audit, limits=limits, device=device,
        false_match_rate=false_match_rate,
    )  # fmt: skip
    shown = f"[{host}]" if ":" in host else host
    with closing(service.audit):
        say(f"{len(service.gallery):,} images; open http://{shown}:{port}/ in a browser; Ctrl-C ends the service")
        run_service(service, host, port)


@token_app.callback()
@verb()
def token() -> None:
    """Make, list and revoke the tokens of the search service.

    pclhd token VERB --help explains a verb.
    """


@token_app.command()
@verb()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is; the audit log shows it.")],
    role: Annotated[
        Literal["search", "ingest", "admin"],
        typer.Option(help="search; ingest also adds images; admin also removes and exports."),
    ] = "search",
    days: Annotated[
        int | None, typer.Option(min=1, max=_LONGEST_DAYS, help="Days until it expires.", show_default="never")
    ] = None,
    tokens: TokenFile = Path("tokens.json"),
) -> None:
    """Make a token and print it. It is shown once: only its digest is stored.

    Example: pclhd token create gate-desk --role search --days 90
    """
    from pclhd.service.tokens import Role, create_token

    secret = create_token(tokens, name, Role(role), lifetime=None if days is None else timedelta(days=days))
    show(secret)


@token_app.command(name="list")
@verb()
def list_tokens(tokens: TokenFile = Path("tokens.json"), as_json: Json = False) -> None:
    """List the tokens: names, roles, and whether they work."""
    from datetime import UTC, datetime

    from pclhd.errors import ArgumentError
    from pclhd.service.tokens import Tokens
    from pclhd.text_tables import text_table

    if not tokens.exists():
        raise ArgumentError("tokens", "does not exist; make a token with: pclhd token create NAME", value=tokens)
    now = datetime.now(UTC)
    stored = Tokens(tokens).all()
    rows = [
        [
            one.name,
            one.role.value,
            "revoked" if one.revoked else "valid" if one.is_valid(now) else "expired",
            one.created.date().isoformat(),
            "never" if one.expires is None else one.expires.date().isoformat(),
        ]
        for one in stored
    ]
    titles = ["name", "role", "state", "created", "expires"]
    if as_json:
        show(json.dumps([dict(zip(titles, row, strict=True)) for row in rows], indent=1))
    else:
        show(text_table(rows, headings=titles))


@token_app.command()
@verb()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose token.")],
    tokens: TokenFile = Path("tokens.json"),
) -> None:
    """Revoke a token; a running service refuses it from now on."""
    from pclhd.service.tokens import revoke_token

    revoke_token(tokens, name)
    say(f"revoked the token of {name}")


@audit_app.callback()
@verb()
def audit() -> None:
    """Check the audit log of the search service.

    pclhd audit VERB --help explains a verb.
    """


@audit_app.command()
@verb()
def verify(
    log: Annotated[Path, typer.Argument(metavar="FILE", help="The audit log.")],
    head: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="A digest that an earlier check printed; it must be there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that no line of an audit log was changed, removed or inserted.

    The end of a log can be cut off without a trace in the file: keep the digest that is printed elsewhere, and give it
    to the next check. Example: pclhd audit verify people.audit.jsonl
    """
    from pclhd.service.audit import verify_log

    found = verify_log(log, head)
    if as_json:
        show(json.dumps({"entries": found.entries, "head": found.head}))
    else:
        show(f"{log}: {found.entries:,} lines, none changed; digest of the last one: {found.head}")
