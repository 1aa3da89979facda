"""A gallery on object storage with the S3 interface: who may write, and what errors of the storage mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pclhd.errors import ArgumentError, UserError
from pclhd.files import Unreachable
from pclhd.gallery.lease import Lease, Turn, renewed

# A server that does not answer is named within about a minute, not after LanceDB's usual three.
_CONNECT_SECONDS, _REQUEST_SECONDS = 5, 30
_RETRIES, _RETRY_SECONDS = 2, 15


class Bucket:
    """A gallery in a bucket; credentials and endpoint are those of the environment (``AWS_ACCESS_KEY_ID`` and others).

    Args:
        path: ``BUCKET/NAME``.

    Raises:
        UserError: The name is missing, or obstore is not installed.
    """

    fenced = True
    #: A writer that has not answered for this long may be replaced.
    lease_seconds = 60.0

    def __init__(self, path: str) -> None:
        bucket, _, name = path.strip("/").partition("/")
        self.address = f"s3://{bucket}/{name}"
        if not bucket or not name:
            raise UserError(f"s3://{path}: a gallery has a name within its bucket; write s3://BUCKET/NAME")
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError as error:
            raise UserError(
                f"{self.address}: object storage needs obstore; install it with: pip install obstore"
            ) from error
        self._obstore: Any = obstore
        self.options = {
            "connect_timeout": f"{_CONNECT_SECONDS}s",
            "timeout": f"{_REQUEST_SECONDS}s",
            "client_max_retries": str(_RETRIES),
            "client_retry_timeout": str(_RETRY_SECONDS),
        }
        with self._explaining():
            self._objects = S3Store.from_url(
                self.address,
                client_options={
                    "connect_timeout": f"{_CONNECT_SECONDS}s",
                    "timeout": f"{_REQUEST_SECONDS}s",
                    "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true"),
                },
                retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
            )
        self._tables: set[str] = set()

    def check_kind(self) -> None:
        """See `Place`."""
        with self._explaining():
            found = self._obstore.list_with_delimiter(self._objects)
        folders = {Path(one).name for one in found["common_prefixes"]}
        others = [one["path"] for one in found["objects"] if not Path(one["path"]).name.startswith("writer.")]
        if "facts.lance" not in folders and (folders or others):
            raise UserError(f"{self.address}: holds something else; name a gallery, or a new name in the bucket")

    def has_table(self, name: str) -> bool:
        """See `Place`. A table that was there once stays."""
        if name not in self._tables:
            with self._explaining():
                if any(self._obstore.list(self._objects, prefix=f"{name}.lance/_versions", chunk_size=1)):
                    self._tables.add(name)
        return name in self._tables

    def size(self) -> int:
        """See `Place`."""
        with self._explaining():
            return sum(one["size"] for page in self._obstore.list(self._objects) for one in page)

    def files(self, table: str) -> list[str]:
        """See `Place`."""
        folder = f"{table}.lance/"
        with self._explaining():
            pages = self._obstore.list(self._objects, prefix=folder)
            return [one["path"].rpartition(folder)[2] for page in pages for one in page]

    def discard_unfinished_files(self) -> None:
        """See `Place`. An object is there as a whole or not at all."""

    @contextmanager
    def writing(self) -> Iterator[Turn]:
        """See `Place`."""
        with self._explaining():
            lease = Lease(self._objects, self.address, seconds=self.lease_seconds)
        with renewed(lease) as renew:

            def check() -> None:
                with self._explaining():
                    renew()

            yield Turn(check, lease.after_a_failure)

    def parts(self) -> Path:
        """See `Place`.

        Raises:
            UserError: Always.
        """
        raise ArgumentError(
            "parts", f"is missing: Ray workers write files, for which {self.address} has no folder; name one that all "
            "machines see"
        )  # fmt: skip

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except UserError:
            raise
        except (BaseError, OSError, ValueError) as error:
            raise self.trouble(error) or Unreachable(f"{self.address}: {_said(error)}") from error

    def check_files(self) -> None:
        """See `Place`."""

    def trouble(self, error: BaseException, *, writes: bool = False) -> UserError | None:
        """See `Place`."""
        text = str(error)
        for signs, reason in _TROUBLES:
            if any(sign in text for sign in signs):
                if reason == _NOT_ALLOWED and not os.environ.get("AWS_ACCESS_KEY_ID"):
                    reason = _NO_CREDENTIALS
                return Unreachable(f"{self.address}: {reason}")
        # Not if a file is shorter than it should be, which is damage.
        if "Generic S3 error" in text and "InvalidRange" not in text:
            return Unreachable(f"{self.address}: {_said(error)}")
        return None


def _said(error: BaseException) -> str:
    """What the storage answered, or else the first line of an error, without secrets."""
    text = str(error).strip() or type(error).__name__
    code = _CODE.search(text)
    if code is not None:
        said = f"the storage answered {code[1]}, which its documentation explains"
    elif "list request: Error performing GET" in text:
        said = "what answers is no storage with the S3 interface; correct AWS_ENDPOINT_URL"
    else:
        said = text.splitlines()[0]
    for name in _SECRETS:
        secret = os.environ.get(name)
        said = said.replace(secret, "…") if secret else said
    return said if len(said) <= _LONGEST_SAID else f"{said[:_LONGEST_SAID]}…"


_CODE = re.compile(r"<Code>(\w+)</Code>")
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_LONGEST_SAID = 300
_NOT_ALLOWED = (
    "the credentials do not allow this; they must allow to list the bucket, and to read, write and delete objects"
)
_NO_CREDENTIALS = "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
# What the storage, or the library that asks it, says; the first that fits.
_TROUBLES = (
    (("NoSuchBucket", "InvalidBucketName"), "there is no such bucket; create it, or correct the name"),
    (
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "InvalidClientTokenId"),
        "the storage does not accept the credentials; correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and "
        "AWS_SESSION_TOKEN if they are temporary",
    ),
    (
        ("RequestTimeTooSkewed", "RequestExpired"),
        "the clock of this machine is not that of the storage, which refuses requests of other times; set the clock",
    ),
    (("AccessDenied", "403 Forbidden", "401 Unauthorized"), _NOT_ALLOWED),
    (("169.254.169.254", "169.254.170.2", "no credentials", "CredentialsNotLoaded"), _NO_CREDENTIALS),
    (
        ("builder error", "scheme is not allowed"),
        "AWS_ENDPOINT_URL is no address that may be used; one that begins with http:// is not encrypted, and needs "
        "AWS_ALLOW_HTTP=true",
    ),
    (
        (
            "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint",
            "redirect without LOCATION",
        ),
        "the bucket is in another region; set AWS_REGION, and AWS_ENDPOINT_URL if it names a region",
    ),
    (
        ("error sending request", "timed out", "dns error", "onnection refused", "error trying to connect"),
        "the storage does not answer; check AWS_ENDPOINT_URL, AWS_REGION and the network",
    ),
    (
        ("Incompatible transaction", "already exists"),
        "another process has taken over while this one did not answer; the same command continues",
    ),
    (
        ("500 Internal", "502 Bad", "503 S", "504 G", "429 Too", "SlowDown"),
        "the storage fails, or is overloaded; try again later",
    ),
    (
        ("NotImplemented", "501 Not"),
        "the storage cannot do something that a gallery needs, such as conditional writes; use another one",
    ),
)  # fmt: skip
