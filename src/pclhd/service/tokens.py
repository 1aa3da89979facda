"""Tokens: who may search, add or remove. Only their digests are stored, so a copy of the file opens nothing."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from pclhd.errors import ArgumentError, UserError
from pclhd.files import claiming, write_durably
from pclhd.parsing import read_text

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_BYTES = 32
_PREFIX = "pclhd_"


class Role(StrEnum):
    """What a token allows; each role includes the ones before it."""

    SEARCH = "search"
    INGEST = "ingest"
    ADMIN = "admin"

    def allows(self, needed: Role) -> bool:
        """Whether this role is `needed` or a higher one."""
        roles = list(Role)
        return roles.index(self) >= roles.index(needed)


class Token(BaseModel):
    """A token as it is stored.

    Attributes:
        name: Whose it is; the audit log names it.
        role: What it allows.
        digest: SHA-256 of the token, hexadecimal. Tokens hold 256 random bits, so no salt and no slow hash is needed.
        created: When it was made.
        expires: When it ends; None for never.
        revoked: When it was revoked; None if it was not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
    role: Role
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether the token works at a moment."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class _TokenFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_version: Annotated[int, Field(ge=1, le=1)] = 1
    tokens: list[Token] = []


class Tokens:
    """The tokens in a file. The file is read again when it changes, so revoking needs no restart.

    Args:
        path: The file.

    Raises:
        UserError: It cannot be read, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state: tuple[int, int, int] | None = None
        self._tokens: Sequence[Token] = ()
        self.all()

    def all(self) -> Sequence[Token]:
        """All tokens, in the order they were made."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._state, self._tokens = None, ()
            return self._tokens
        state = (found.st_mtime_ns, found.st_size, found.st_ino)
        if state != self._state:
            self._tokens, self._state = _read(self.path).tokens, state
        return self._tokens

    def find(self, secret: str, now: datetime | None = None) -> Token | None:
        """The valid token with this secret; None if there is none.

        Every stored digest is compared in constant time, so the time it takes says nothing about them.
        """
        wanted = _digest(secret)
        matching = [token for token in self.all() if hmac.compare_digest(token.digest, wanted)]
        moment = now or datetime.now(UTC)
        return next((token for token in matching if token.is_valid(moment)), None)


def create_token(path: Path, name: str, role: Role, *, lifetime: timedelta | None = None) -> str:
    """Make a token and store its digest.

    Args:
        path: The file of the tokens; made, readable by its owner only, if it does not exist.
        name: Whose it is.
        role: What it allows.
        lifetime: How long it works; None for ever.

    Returns:
        The secret, which is shown once and stored nowhere.

    Raises:
        UserError: A valid token of this name exists, the name or the lifetime is unusable, or the file cannot be
            written.
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError(
            "name", "is 1 to 64 letters, digits and . _ @ -, and begins with a letter or digit", value=name
        )
    now = datetime.now(UTC)
    try:
        expires = None if lifetime is None else now + lifetime
    except OverflowError:
        raise ArgumentError("days", "is beyond the calendar; leave it out for a token that does not expire") from None
    if lifetime is not None and lifetime <= timedelta(0):
        raise ArgumentError("days", "must be positive")
    secret = _PREFIX + secrets.token_urlsafe(_BYTES)
    token = Token(name=name, role=role, digest=_digest(secret), created=now, expires=expires)
    with claiming(path):
        stored = _read(path) if path.exists() else _TokenFile()
        if any(one.name == name and one.is_valid(now) for one in stored.tokens):
            raise ArgumentError("name", "has a valid token; revoke that one first, or choose another name", value=name)
        stored.tokens.append(token)
        _write(path, stored)
    return secret


def revoke_token(path: Path, name: str) -> int:
    """Revoke the valid tokens of a name; a running service refuses them from now on.

    Returns:
        How many were revoked.

    Raises:
        UserError: There is none, or the file cannot be written.
    """
    now = datetime.now(UTC)
    with claiming(path):
        stored = _read(path)
        revoked = [one.name == name and one.is_valid(now) for one in stored.tokens]
        if not any(revoked):
            raise ArgumentError("name", "has no valid token here; pclhd token list shows the names", value=name)
        stored.tokens = [
            one.model_copy(update={"revoked": now}) if ends else one
            for one, ends in zip(stored.tokens, revoked, strict=True)
        ]
        _write(path, stored)
    return sum(revoked)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> _TokenFile:
    advice = "restore it from a copy, or make new tokens with: pclhd token create"
    text = read_text(path, advice)
    try:
        return _TokenFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "content"
        raise UserError(f"{path}: `{place}`: {first['msg']}; {advice}") from None


def _write(path: Path, stored: _TokenFile) -> None:
    if not path.exists():
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); choose a writable folder") from error
    write_durably(path, stored.model_dump_json(indent=1) + "\n")
