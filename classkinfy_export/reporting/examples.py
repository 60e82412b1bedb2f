"""The golden images of a bundle, answered by a runtime that is installed here."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, ClasskinfyError
from classkinfy_export.frame import Pixels
from classkinfy_export.parity import golden
from classkinfy_export.runtimes.session import Prediction, Session

Progress = Callable[[int, int], None]

MAX_SHOWN = 24
_PREFERRED = ("onnxruntime", "litert")
_THUMBNAIL_WIDTH = 200


@dataclass(frozen=True)
class Example:
    """One image, what was left of it without hair, and the answer. Images are data URIs."""

    name: str
    image: str
    clean: str | None
    """None when the form that ran does not give it."""
    prediction: Prediction


@dataclass(frozen=True)
class Gallery:
    """The examples, and what answered them."""

    runtime: str
    examples: tuple[Example, ...]
    total: int
    """How many golden images the bundle holds; at most ``MAX_SHOWN`` are shown."""


def run(bundle: Bundle, progress: Progress = lambda done, total: None) -> Gallery:
    """Answer the golden images of a bundle.

    Args:
        bundle: an opened bundle.
        progress: called with (done, total) images.

    Raises:
        BundleError: the bundle holds no golden images, they are damaged, or no runtime that is
            installed here can run it.
    """
    if golden.INDEX not in bundle.manifest.files:
        raise BundleError("the bundle holds no golden images", hint="export with golden: true")
    session, runtime = _open(bundle)
    with session.engine:
        cases = golden.read(bundle)
        shown = cases[:MAX_SHOWN]
        examples = []
        for done, case in enumerate(shown):
            clean = session.run(case.image).get("clean")
            examples.append(
                Example(
                    name=case.name,
                    image=thumbnail(case.picture),
                    clean=None if clean is None else thumbnail(clean.astype("uint8")),
                    prediction=session.predict(case.picture[0]),
                )
            )
            progress(done + 1, len(shown))
    return Gallery(f"{runtime} {session.form}", tuple(examples), len(cases))


def thumbnail(image: Pixels) -> str:
    """Return a JPEG data URI, at most 200 pixels wide.

    Args:
        image: uint8 [1, H, W, 3] RGB.
    """
    picture = Image.fromarray(image[0])
    width = min(_THUMBNAIL_WIDTH, picture.width)
    height = max(1, round(picture.height * width / picture.width))
    return data_uri(picture.resize((width, height), Image.Resampling.LANCZOS))


def data_uri(picture: Image.Image) -> str:
    """Return a picture as JPEG, in a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _open(bundle: Bundle) -> tuple[Session, str]:
    refused = []
    for name in _PREFERRED:
        try:
            engine = runtimes.get(name).open(bundle)
            return Session(engine, "staged" if engine.has("prepare") else "fused"), name
        except ClasskinfyError as error:
            refused.append(str(error))
    raise BundleError(f"no runtime here can run the golden images ({'; '.join(refused)})")
