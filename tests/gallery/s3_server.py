"""An S3 server in a thread of the test, for galleries on object storage."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest


class Guard:
    """A WSGI application before another one, which refuses some requests as S3 does.

    Args:
        app: The other one.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._methods: tuple[str, ...] = ()
        self.refused = 0

    @contextmanager
    def refusing(self, *methods: str) -> Iterator[None]:
        """In the block, requests of some methods are refused; those that delete are ``DELETE``."""
        self._methods = methods
        try:
            yield
        finally:
            self._methods = ()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """See WSGI."""
        many = environ["REQUEST_METHOD"] == "POST" and "delete" in environ["QUERY_STRING"]
        if (environ["REQUEST_METHOD"] if not many else "DELETE") not in self._methods:
            return self._app(environ, start_response)
        self.refused += 1
        sent = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, body = "403 Forbidden", "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        if many:  # for these S3 says of each object what became of it
            refused = "".join(
                f"<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
                for key in re.findall("<Key>(.*?)</Key>", sent.decode())
            )
            status, body = "200 OK", f"<DeleteResult>{refused}</DeleteResult>"
        start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body.encode()]


@dataclass(frozen=True)
class S3:
    """A server that runs.

    Attributes:
        endpoint: Its address.
        client: For what only an administrator does: make buckets, look at all objects.
        stop: Ends the server.
        guard: Decides what is refused.
    """

    endpoint: str
    client: Any
    stop: Callable[[], None]
    guard: Guard

    def environment(self, **others: str) -> dict[str, str]:
        """The variables that name it."""
        return {
            "AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_ALLOW_HTTP": "true", **others,
        }  # fmt: skip

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Everything in a bucket, all versions of each object included."""
        found = {}
        listed = self.client.get_paginator("list_object_versions").paginate(Bucket=bucket)
        for one in (one for page in listed for one in page.get("Versions", [])):
            body = self.client.get_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])["Body"]
            found[f"{one['Key']} {one['VersionId']}"] = body.read()
        return found


@contextmanager
def s3_server() -> Iterator[S3]:
    """Run a server until the block ends; the environment of this process names it.

    It answers one request at a time. That makes its conditional writes atomic, which moto alone does not promise.
    """
    pytest.importorskip("flask_cors", reason="the S3 server of the tests (moto, flask and flask-cors) is not installed")
    boto3 = pytest.importorskip("boto3", reason="the S3 server of the tests, moto, is not installed")
    moto = pytest.importorskip("moto.moto_server.werkzeug_app", reason="the S3 server of the tests is not installed")
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    guard = Guard(moto.DomainDispatcherApplication(moto.create_backend_app))
    server = make_server("127.0.0.1", 0, guard, threaded=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )

    def stop() -> None:
        if thread.is_alive():
            server.shutdown()
            server.server_close()
            thread.join()

    made = S3(endpoint, client, stop, guard)
    try:
        with mock.patch.dict("os.environ", made.environment()):
            yield made
    finally:
        stop()
