"""Photos out of a request: bounded, and in memory alone.

What is uploaded is written nowhere: the parser's default is to put what is larger than a megabyte
into a temporary file.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

FIELD = "image"
_OVERHEAD = 64 * 1024
"""Of boundaries and headers."""


_DIGITS = 20
"""Of a length that is worth reading."""


class Refused(Exception):  # noqa: N818  (it is turned into a status)
    """A request that holds no photos that can be taken."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.status = status
        self.hint = hint


class _TooLarge(MultiPartException):
    """A body beyond its bound: the parser closes what it opened when it meets one of its own."""


def body_schema(*, many: bool) -> dict[str, Any]:
    """Return what OpenAPI says of the request's body."""
    photo: dict[str, Any] = {"type": "string", "format": "binary", "description": "JPEG or PNG"}
    field = {"type": "array", "items": photo} if many else photo
    form = {"type": "object", "required": [FIELD], "properties": {FIELD: field}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


async def photos(
    request: Request, most: int, most_bytes: int, together: int | None = None
) -> list[bytes]:
    """Read the photos of a request.

    Args:
        request: multipart/form-data with a file ``image``, or several.
        most: how many it may have.
        most_bytes: of each, its encoded size.
        together: of all; as much as so many may have, by default.

    Raises:
        Refused: another content type, too large, damaged, none or too many.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise Refused(415, f"content type {kind or 'none'}", f"post a form with a file {FIELD!r}")
    limit = (most * most_bytes if together is None else together) + _OVERHEAD
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > _DIGITS or int(length) > limit):
        raise _large(limit)

    parser = MultiPartParser(
        request.headers, _bounded(request, limit), max_files=most, max_fields=8
    )
    parser.spool_max_size = limit
    try:
        form = await parser.parse()
    except _TooLarge:
        raise _large(limit) from None
    except (MultiPartException, ValueError) as error:  # ValueError: of a charset that is none
        raise Refused(400, f"the form cannot be read: {error}", "post it again") from None
    try:
        files = form.getlist(FIELD)
        if not files or not all(isinstance(file, UploadFile) for file in files):
            raise Refused(422, f"the form has no file {FIELD!r}", f"name the file {FIELD!r}")
        found = [await file.read() for file in files if isinstance(file, UploadFile)]
    finally:
        await form.close()
    if any(len(photo) > most_bytes for photo in found):
        raise _large(most_bytes)
    return found


async def _bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    read = 0
    async for chunk in request.stream():
        read += len(chunk)
        if read > limit:
            raise _TooLarge("too large")
        yield chunk


def _large(limit: int) -> Refused:
    return Refused(413, f"more than {limit} bytes", "scale the photo down first")
