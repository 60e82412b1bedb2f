"""Whatever is asked of the server, by its own OpenAPI document, it answers as that says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

schemathesis = pytest.importorskip("schemathesis")
hypothesis = pytest.importorskip("hypothesis")

CASES = 15
"""Of each operation; more by hand, as docs/serving.md says."""


@pytest.mark.filterwarnings("default")
def test_every_operation_answers_as_its_document_says(serve: Callable[..., TestClient]) -> None:
    client = serve()
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    checks = [
        schemathesis.checks.not_a_server_error,
        schemathesis.specs.openapi.checks.status_code_conformance,
        schemathesis.specs.openapi.checks.content_type_conformance,
        schemathesis.specs.openapi.checks.response_schema_conformance,
    ]
    asked = []
    for found in schema.get_all_operations():
        operation = found.ok()
        asked.append(operation.path)

        @hypothesis.settings(
            max_examples=CASES,
            database=None,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def answered(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=checks)

        answered()
    assert {"/v1/predict", "/v1/predict/batch", "/v1/predict/stream", "/v1/bundle"} <= {*asked}
