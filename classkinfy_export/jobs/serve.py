"""Opens what a server needs, and runs it until it is told to end."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Form
from classkinfy_export.jobs import web_page
from classkinfy_export.precision import Precision
from classkinfy_export.serving.app import create_app
from classkinfy_export.serving.pool import Pool, sessions
from classkinfy_export.serving.records import Records


@dataclass(frozen=True)
class Service:
    """How a bundle is served.

    Raises:
        ClasskinfyError: of ``run``, where the bundle, its runtime or the database does not open.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    runtime: str = "onnxruntime"
    form: Form = "staged"
    precision: Precision = "fp32"
    workers: int = 1
    """Answers at once, each on one thread."""
    waiting: int = 16
    """Requests that may wait for a worker; the next one gets 503."""
    timeout_s: float = 30.0
    record: str | None = None
    """The URL of a database."""
    record_images: bool = False
    origins: tuple[str, ...] = ()
    """Of pages elsewhere that may ask."""
    page: bool = False
    """Whether ``/`` is the page that runs the bundle in the browser."""

    def run(self, bundle: Bundle) -> None:
        """Serve until SIGINT or SIGTERM; then what was begun is answered.

        Args:
            bundle: what answers.
        """
        with tempfile.TemporaryDirectory(prefix="classkinfy.") as temporary:
            page = web_page.write(bundle, Path(temporary) / "page") if self.page else None
            self._run(bundle, page)

    def _run(self, bundle: Bundle, page: Path | None) -> None:
        opened = sessions(
            bundle, runtimes.get(self.runtime), self.form, self.precision, self.workers
        )
        records = None if self.record is None else Records(self.record, images=self.record_images)
        app = create_app(
            Pool(opened, self.waiting, self.timeout_s),
            opened[0],
            records=records,
            origins=self.origins,
            page=page,
            headers=web_page.HEADERS,
        )
        uvicorn.run(
            app,
            host=self.host,
            port=self.port,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=int(self.timeout_s) + 1,
        )
