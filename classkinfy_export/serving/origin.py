"""Pages of other origins may not ask: CORS alone would only keep the answer from them."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from classkinfy_export.serving.answer import Failure


class SameOrigin:
    """Refuses what a page of another origin posts.

    Args:
        app: what responds.
        allowed: origins that may ask all the same.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str] = ()) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            own = (f"http://{headers.get('host')}", f"https://{headers.get('host')}")
            if origin is not None and origin not in (*own, *self._allowed):
                failure = Failure(
                    error=f"a page of {origin[:200]} may not ask", hint="name it with --origin"
                )
                await JSONResponse(failure.model_dump(), 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)
