"""Requests to the server that hold photos, or something else, put to it as an ASGI server would."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import mutation
import pictures
from fastapi import FastAPI
from fuzzed import Reader

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import ClasskinfyError
from classkinfy_export.serving.answer import Answer, BatchAnswer, Diagnosis, Failure, Preliminary
from classkinfy_export.serving.app import Limits, create_app
from classkinfy_export.serving.pool import Pool, sessions

ROUTES = {
    "/v1/predict": Answer,
    "/v1/predict/batch": BatchAnswer,
    "/v1/predict/stream": None,
}
EVENTS = {
    "preliminary": Preliminary,
    "diagnosis": Diagnosis,
    "answer": Answer,
    "error": Failure,
}
REFUSALS = (400, 403, 404, 405, 413, 415, 422)
_TYPES = (
    b"multipart/form-data",
    b"multipart/form-data; boundary=",
    b"multipart/form-data; boundary=b; charset=idna",
    b"multipart/form-data; boundary=b; charset=a\x00b",
    b"multipart/form-data; boundary=b; charset=" + b"x" * 5000,
    b'multipart/form-data; boundary="b',
    b"multipart/form-data; boundary=\xff\xfe",
    b"multipart/form-data; boundary=" + b"b" * 5000,
    b"multipart/mixed; boundary=b",
    b"application/json",
    b"",
)
_LENGTHS = (b"", b"0", b"-1", b"1e9", b"9" * 20, b"9" * 5000, b"\xb2", b"99999999999")
_NAMES = (b"image", b"image", b"image", b"images", b"", b"im\xffage", b"image\x00", b"x" * 3000)
_PART = (
    b'Content-Disposition: form-data; name="%s"; filename="photo.jpg"\r\n',
    b'Content-Disposition: form-data; name="%s"; filename="x"\r\nContent-Type: image/jpeg\r\n',
    b'Content-Disposition: form-data; name="%s"\r\n',
    b"Content-Disposition: form-data; name=\"%s\"; filename*=UTF-8''%%ff%%00\r\n",
    b"Content-Disposition: %s\r\n",
    b"Content-Type: %s\r\n",
)


class Sent(NamedTuple):
    """A request."""

    path: str
    headers: list[tuple[bytes, bytes]]
    chunks: list[bytes]
    cut: bool
    """Whether the client goes before it has sent all."""


def request(photos: list[bytes], rng: random.Random) -> Sent:
    """Return a request that is wrong in its photo, its form, its headers, or not at all."""
    wrong = rng.choice(("photo", "photo", "form", "form", "part", "headers", "none"))
    body = b""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        photo = pictures.changed(photos, rng) if wrong == "photo" else rng.choice(photos)
        name, part = (
            (rng.choice(_NAMES), rng.choice(_PART)) if wrong == "part" else (_NAMES[0], _PART[0])
        )
        body += b"--b\r\n" + part % name + b"\r\n" + photo + b"\r\n"
    body += b"--b--\r\n"
    if wrong == "form":
        body = mutation.some_bytes(body, rng)
    kind, length = b"multipart/form-data; boundary=b", str(len(body)).encode()
    if wrong == "headers":
        kind = rng.choice((*_TYPES, mutation.some_bytes(kind, rng)))
        length = rng.choice((length, *_LENGTHS))
    size = rng.choice((1000, 70_000))
    return Sent(
        rng.choice(list(ROUTES)),
        [(b"content-type", kind), (b"content-length", length), (b"host", b"testserver")],
        [body[at : at + size] for at in range(0, len(body), size)],
        rng.random() < 0.05,
    )


def server(bundle: Path) -> Reader:
    """Return the server over a bundle, in this process."""
    opened = sessions(Bundle.open(bundle), runtimes.get("onnxruntime"), "staged", "fp32", 1)
    app = create_app(
        Pool(opened, 8, 30.0), opened[0], limits=Limits(photo_bytes=2**20, batch_bytes=2**21)
    )
    photos = pictures.seeds()

    def read(sent: Sent) -> None:
        status, kind, body = asyncio.run(_ask(app, sent))
        if sent.cut and status == 400 and not body:
            raise ClasskinfyError("the client is gone", hint="none")
        _hold(sent.path, status, kind, body)

    return Reader(lambda rng: request(photos, rng), read)


async def _ask(app: FastAPI, sent: Sent) -> tuple[int, str, bytes]:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": i + 1 < len(sent.chunks) or sent.cut}
        for i, chunk in enumerate(sent.chunks or [b""])
    ]
    answered: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        if not sent.cut:
            await asyncio.sleep(60)  # a client that waits for its answer
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": sent.path,
        "raw_path": sent.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": sent.headers,
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
        "state": {},
    }
    await app(scope, receive, send)
    start = answered[0]
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    body = b"".join(message.get("body", b"") for message in answered[1:])
    return start["status"], headers.get("content-type", ""), body


def _hold(path: str, status: int, kind: str, body: bytes) -> None:
    """Hold a response to what is documented of it: an answer, or why there is none."""
    if status in REFUSALS:
        failure = Failure.model_validate_json(body)
        if kind != "application/json" or not failure.error:
            raise AssertionError(f"{status} is {kind}: {body[:200]!r}")
        raise ClasskinfyError(failure.error, hint=failure.hint)
    if status != 200:
        raise AssertionError(f"status {status}: {body[:200]!r}")
    model = ROUTES[path]
    if model is not None:
        model.model_validate(json.loads(body), strict=True)
        return
    for event in body.decode().strip().split("\n\n"):
        name, data = event.split("\n")
        EVENTS[name.removeprefix("event: ")].model_validate_json(data.removeprefix("data: "))
