"""What a server counts, for Prometheus, and where it counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """Counters of one server.

    Args:
        inside: tells how many requests are answered or wait.
    """

    def __init__(self, inside: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "classkinfy_requests", "Requests.", ("route", "status"), registry=self._registry
        )
        self.answers = Counter(
            "classkinfy_answers", "Answers.", ("diagnosis",), registry=self._registry
        )
        self.stages = Histogram(
            "classkinfy_stage_seconds",
            "Time of a stage.",
            ("stage",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        gauge = Gauge("classkinfy_inside", "Requests answered or waiting.", registry=self._registry)
        gauge.set_function(inside)

    def text(self) -> bytes:
        """Return what ``/metrics`` shows."""
        return generate_latest(self._registry)


class Counted:
    """Counts responses by route, and puts the headers on them that all have.

    Args:
        app: what responds.
        metrics: the counters.
        headers: put on every response.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, headers: Mapping[str, str]) -> None:
        self._app = app
        self._metrics = metrics
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
                # The router names the route in the scope; of a file or nothing there is none.
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(route, message["status"]).inc()
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)
