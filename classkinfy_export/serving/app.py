"""The routes: answers for photos, what answers them, and how the server does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from classkinfy_export import __version__
from classkinfy_export.errors import ClasskinfyError, ImageError
from classkinfy_export.runtimes.base import Array
from classkinfy_export.runtimes.session import Prediction, Session
from classkinfy_export.serving.answer import (
    Answer,
    BatchAnswer,
    Failure,
    failures,
    partial,
)
from classkinfy_export.serving.metrics import Counted, Metrics
from classkinfy_export.serving.origin import SameOrigin
from classkinfy_export.serving.pool import Busy, Pool
from classkinfy_export.serving.records import Records
from classkinfy_export.serving.upload import Refused, body_schema, photos
from classkinfy_export.taxonomy import DISCLAIMER

_LOG = logging.getLogger(__name__)
_REFUSALS = failures(400, 413, 415, 422, 500, 503)


class Limits(NamedTuple):
    """What a request may hold."""

    photo_bytes: int = 32 * 2**20
    batch: int = 16
    """Photos."""
    batch_bytes: int = 64 * 2**20


def create_app(
    pool: Pool,
    session: Session,
    *,
    records: Records | None = None,
    origins: tuple[str, ...] = (),
    hosts: tuple[str, ...] = ("*",),
    page: Path | None = None,
    headers: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        pool: what answers.
        session: one of its sessions, for what the bundle says of itself.
        records: where answers are kept; none by default.
        origins: of pages elsewhere that may ask; none by default.
        hosts: names that the server goes by.
        page: a folder served at ``/``.
        headers: put on every response.
        limits: of requests.
    """
    bounds = limits or Limits()
    metrics = Metrics(lambda: pool.inside)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(pool.close)
        if records is not None:
            records.close()

    app = FastAPI(
        title="Classkinfy Export",
        version=__version__,
        description=DISCLAIMER,
        lifespan=lifespan,
        # The pages that show it bring their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(SameOrigin, allowed=origins)
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["*"])
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(Counted, metrics=metrics, headers=headers or {})

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> JSONResponse:
        failure = Failure(error=str(error), hint="ask again later")
        after = {"Retry-After": str(error.retry_after_s)}
        return JSONResponse(failure.model_dump(), 503, headers=after)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return JSONResponse(Failure(error=str(error), hint=error.hint).model_dump(), error.status)

    @app.exception_handler(ImageError)
    async def no_image(request: Request, error: ImageError) -> JSONResponse:
        return JSONResponse(_failure(error).model_dump(), 400)

    @app.exception_handler(ClasskinfyError)
    async def failed(request: Request, error: ClasskinfyError) -> JSONResponse:
        return JSONResponse(_failure(error).model_dump(), 500)

    @app.exception_handler(SQLAlchemyError)
    async def unrecorded(request: Request, error: SQLAlchemyError) -> JSONResponse:
        return JSONResponse(_unrecorded(error).model_dump(), 503, headers={"Retry-After": "1"})

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> JSONResponse:
        failure = Failure(error=str(error.detail), hint="see /openapi.json")
        return JSONResponse(failure.model_dump(), error.status_code, headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        # Starlette logs it, too.
        metrics.requests.labels("unexpected", 500).inc()
        return JSONResponse(_failure(error).model_dump(), 500, headers=dict(headers or {}))

    def recorded(prediction: Prediction, photo: bytes) -> Answer:
        for stage, ms in prediction.timings_ms.items():
            metrics.stages.labels(stage).observe(ms / 1e3)
        metrics.answers.labels(prediction.diagnosis or "refused").inc()
        return Answer.of(prediction, None if records is None else records.add(prediction, photo))

    @app.post(
        "/v1/predict",
        response_model=Answer,
        responses=_REFUSALS,
        openapi_extra=body_schema(many=False),
    )
    async def predict(request: Request) -> Answer:
        """Answer for one photo."""
        with pool.place() as place:
            (photo,) = await place.read(photos(request, 1, bounds.photo_bytes))
            return await place.run(lambda session: recorded(session.predict(photo), photo))

    @app.post(
        "/v1/predict/batch",
        response_model=BatchAnswer,
        responses=_REFUSALS,
        openapi_extra=body_schema(many=True),
    )
    async def predict_batch(request: Request) -> BatchAnswer:
        """Answer for several photos, one after the other; one that is none spoils no other."""

        def work(session: Session) -> list[Answer | Failure]:
            answers: list[Answer | Failure] = []
            for photo in given:
                try:
                    answers.append(recorded(session.predict(photo), photo))
                except ImageError as error:
                    answers.append(_failure(error))
            return answers

        with pool.place() as place:
            reading = photos(request, bounds.batch, bounds.photo_bytes, bounds.batch_bytes)
            given = await place.read(reading)
            return BatchAnswer(answers=await place.run(work, len(given)))

    @app.post(
        "/v1/predict/stream",
        responses={**_REFUSALS, 200: {"content": {"text/event-stream": {}}}},
        response_class=StreamingResponse,
        openapi_extra=body_schema(many=False),
    )
    async def predict_stream(request: Request) -> StreamingResponse:
        """Answer for one photo as answers come: ``preliminary``, ``diagnosis``, then ``answer``."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[str | None] = asyncio.Queue()
        with pool.place() as place:
            (photo,) = await place.read(photos(request, 1, bounds.photo_bytes))

            def work(session: Session) -> Answer:
                def told(what: str, tensors: Mapping[str, Array]) -> None:
                    event = _event(what, partial(session, what, tensors))
                    loop.call_soon_threadsafe(events.put_nowait, event)

                return recorded(session.predict(photo, told), photo)

            running = asyncio.ensure_future(place.run(work))
            running.add_done_callback(lambda done: events.put_nowait(None))
            first = await events.get()
        if first is None:
            running.result()  # refused before anything was told: with its status

        async def body() -> AsyncIterator[str]:
            event = first
            while event is not None:
                yield event
                event = await events.get()
            try:
                yield _event("answer", running.result())
            except SQLAlchemyError as error:
                yield _event("error", _unrecorded(error))
            except Exception as error:  # whatever it is, the client is told that it ended
                if not isinstance(error, ClasskinfyError | Busy):
                    _LOG.exception("no answer")
                yield _event("error", _failure(error))

        return StreamingResponse(body(), media_type="text/event-stream")

    @app.get("/v1/bundle")
    async def about() -> dict[str, Any]:
        """What the bundle says of itself."""
        manifest = session.manifest
        return {
            "bundle": session.engine.bundle.sha256,
            "name": manifest.name,
            "runtime": f"{session.engine.format} {session.engine.precision} {session.form}",
            "taxonomy": manifest.taxonomy.model_dump(mode="json"),
            "quality_rules": [rule.model_dump(mode="json") for rule in manifest.quality_rules],
            "weights_licence": manifest.weights_licence,
            "severity_notice": manifest.severity_notice,
            "disclaimer": manifest.disclaimer,
        }

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        """The server runs."""
        return {"status": "ok"}

    @app.get("/readyz", responses=failures(503))
    async def able(response: Response) -> dict[str, str]:
        """The server has a place for a request."""
        ending = getattr(app.state, "ending", False)
        if ending or pool.inside >= pool.places:
            response.status_code = 503
            return {"status": "ending" if ending else "busy"}
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response)
    async def counts() -> Response:
        """Counters, for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    if page is not None:
        app.mount("/", StaticFiles(directory=page, html=True), name="page")
    return app


def _failure(error: Exception) -> Failure:
    if isinstance(error, ClasskinfyError):
        return Failure(error=error.message, hint=error.hint)
    return Failure(error="no answer", hint="ask again later")


def _unrecorded(error: SQLAlchemyError) -> Failure:
    _LOG.error("an answer was not recorded: %s", getattr(error, "orig", type(error).__name__))
    return Failure(error="the answer could not be recorded", hint="ask again later")


def _event(name: str, data: BaseModel) -> str:
    return f"event: {name}\ndata: {data.model_dump_json()}\n\n"
