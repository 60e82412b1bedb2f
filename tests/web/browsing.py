"""A page on this machine, and a browser to look at it with."""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from classkinfy_export.runtimes.web import runtime as pages

HERE = Path(__file__).parent


class Browser:
    """Chromium with a phone's screen."""

    def __init__(self, scratch: Path) -> None:
        found = pages.node(), pages.chromium()
        assert found[0] is not None
        assert found[1] is not None
        folder = str(pages.INSTALLATION.folder())
        self._process = subprocess.Popen(
            [found[0][0], str(HERE / "driver.mjs"), folder, found[1][0]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(scratch)},
        )

    def begin(self, **options: Any) -> None:
        """Forget everything, and open an empty page."""
        self._ask({"context": {"_": 0, **options}})

    def run(self, body: str, **given: Any) -> Any:
        """Run the body of an async function that has Playwright's ``page`` at hand."""
        return self._ask({"run": body, "given": given})

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the driver ended"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["given"]


class _Handler(http.server.SimpleHTTPRequestHandler):
    headers_too: Mapping[str, str] = {}

    def end_headers(self) -> None:
        for name, value in self.headers_too.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path, headers: Mapping[str, str] | None = None) -> Iterator[str]:
    """Serve a folder as any static host does, or with more headers; give its address."""
    kind = type("Handler", (_Handler,), {"headers_too": headers or {}})
    handler = functools.partial(kind, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
