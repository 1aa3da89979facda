"""An S3 server in a thread of the test, for galleries on object storage."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest


@dataclass(frozen=True)
class S3:
    """A server that runs.

    Attributes:
        endpoint: Its address.
        client: For what only an administrator does: make buckets, look at all objects.
        stop: Ends the server.
    """

    endpoint: str
    client: Any
    stop: Callable[[], None]

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
    server = make_server("127.0.0.1", 0, moto.DomainDispatcherApplication(moto.create_backend_app), threaded=False)
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

    made = S3(endpoint, client, stop)
    try:
        with mock.patch.dict("os.environ", made.environment()):
            yield made
    finally:
        stop()
