"""A server over a small bundle, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.serving.app import create_app
from classkinfy_export.serving.pool import Pool, sessions

Serve = Callable[..., TestClient]


@pytest.fixture
def serve(trunk_bundle: Path) -> Iterator[Serve]:
    """Serve the trunk bundle, as ``serve(workers=2, records=...)``, and get a client."""
    clients: list[TestClient] = []

    def started(
        workers: int = 1,
        waiting: int = 8,
        timeout_s: float = 30.0,
        runtime: str = "onnxruntime",
        **options: Any,
    ) -> TestClient:
        bundle = Bundle.open(trunk_bundle)
        opened = sessions(bundle, runtimes.get(runtime), "staged", "fp32", workers)
        app = create_app(Pool(opened, waiting, timeout_s), opened[0], **options)
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        return client

    yield started
    for client in clients:
        client.__exit__(None, None, None)
