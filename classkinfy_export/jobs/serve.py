"""Opens what a server needs, and runs it until it is told to end."""

from __future__ import annotations

import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Form
from classkinfy_export.errors import ClasskinfyError
from classkinfy_export.jobs import web_page
from classkinfy_export.precision import Precision
from classkinfy_export.serving.app import create_app
from classkinfy_export.serving.pool import Pool, sessions
from classkinfy_export.serving.records import Records

_CONNECTIONS = 256
_KEPT_S = 75
"""How long a connection may be idle: longer than clients and proxies keep theirs (5 to 60), or else
one is ended just as its next request comes, which then has no answer."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _Server(uvicorn.Server):
    """Says that it is ending from when it is told to."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End, on a signal."""
        self._app.state.ending = True
        super().handle_exit(sig, frame)


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
    trusted: tuple[str, ...] = ()
    """Public keys of which the page, too, asks one's signature."""
    page: bool = False
    """Whether ``/`` is the page that runs the bundle in the browser."""

    def run(self, bundle: Bundle) -> None:
        """Serve until SIGINT or SIGTERM; then what was begun is answered.

        Args:
            bundle: what answers.
        """
        with tempfile.TemporaryDirectory(prefix="classkinfy.") as temporary:
            page = self._page(bundle, Path(temporary) / "page") if self.page else None
            self._run(bundle, page)

    def _page(self, bundle: Bundle, folder: Path) -> Path:
        return web_page.write(bundle, folder, trusted=self.trusted)

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            listening = socket.create_server((self.host, self.port), family=family, backlog=1024)
        except OSError as error:
            raise ClasskinfyError(
                f"{self.host}:{self.port} cannot be listened on: {error.strerror}",
                hint="choose another --port or --host",
            ) from error
        # What is accepted inherits it; asyncio leaves out sockets made without a protocol,
        # and a client that delays its acknowledgement would be answered 40 ms later.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening

    def _run(self, bundle: Bundle, page: Path | None) -> None:
        listening = self._listen()
        opened = sessions(
            bundle, runtimes.get(self.runtime), self.form, self.precision, self.workers
        )
        records = None if self.record is None else Records(self.record, images=self.record_images)
        app = create_app(
            Pool(opened, self.waiting, self.timeout_s),
            opened[0],
            records=records,
            origins=self.origins,
            # A page that gives this machine's address another name is not answered.
            hosts=_LOOPBACK if self.host in _LOOPBACK else ("*",),
            page=page,
            headers=web_page.HEADERS,
        )
        config = uvicorn.Config(
            app,
            log_level="warning",
            server_header=False,
            # Those that only send, or ask how the server does, beside those that have a place.
            limit_concurrency=_CONNECTIONS + self.workers + self.waiting,
            timeout_keep_alive=_KEPT_S,
            timeout_graceful_shutdown=int(self.timeout_s) + 1,
        )
        with suppress(KeyboardInterrupt):  # the server ended by it, and then passes it on
            _Server(config, app).run(sockets=[listening])
