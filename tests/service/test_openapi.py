"""Requests made up from the service's own OpenAPI document never fail on its side."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from pclhd.service.access import Service
from pclhd.service.app import create_app

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

pytestmark = pytest.mark.slow


def test_no_request_of_the_document_fails_on_our_side(service: Service) -> None:
    service.rate = type(service.rate)(10**6, 10**6)
    app = create_app(service)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    tried = 0

    def failed(case: object) -> None:
        nonlocal tried
        answer = case.call(base_url="http://localhost")  # type: ignore[attr-defined]
        tried += 1
        assert answer.status_code < 500, case.as_curl_command()  # type: ignore[attr-defined]

    for operation in schema.get_all_operations():
        strategy = operation.ok().as_strategy()
        quiet = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        quiet(given(case=strategy)(lambda case: failed(case)))()
    assert tried > 400
