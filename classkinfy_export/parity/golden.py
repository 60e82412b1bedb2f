"""Golden vectors: images with the PyTorch outputs of every stage, replayed on any device.

``golden/golden.json`` lists the cases. An image is there twice: as PNG to look at, and as
``<case>.gz``, gzip of its bytes as the stages take them, which every platform reads without an
image library. Exact tensors of more than 64 values are stored as the SHA-256 of their little-endian
bytes, everything else as numbers (float32 values written out exactly); NaN is null.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field, ValidationError

from classkinfy_export import layouts, resampling
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Capture, Dtype, Layout, image_spec
from classkinfy_export.data import synthetic
from classkinfy_export.document import Document, brief, explain
from classkinfy_export.errors import BundleError, ImageError
from classkinfy_export.frame import Pixels, decode, frame, list_images

FOLDER = "golden"
INDEX = f"{FOLDER}/golden.json"
_INLINE = 64
_LESIONS = (
    ("lesion_bare", "mel", 1, 0.0),
    ("lesion_hair", "nv", 2, 1.0),
    ("lesion_dense_hair", "bcc", 4, 1.0),
)
"""Name, diagnosis drawn, seed, probability of hair."""
_OWN = "own_"
"""Begins the names of the user's own."""

Array = npt.NDArray[np.generic]
_Shape = tuple[Annotated[int, Field(ge=0, le=2**31)], ...]


class _Tensor(Document):
    dtype: Dtype
    shape: _Shape
    sha256: str | None = None
    values: tuple[int | float | None, ...] | None = None


class _Written(Document):
    name: str
    image: str
    picture: str
    shape: _Shape
    sha256: str
    tensors: dict[str, _Tensor]


class _Index(Document):
    """``golden.json``."""

    schema_version: Literal[1]
    cases: tuple[_Written, ...]


class Digest(NamedTuple):
    """What is kept of a large tensor: equal bytes of another shape or dtype are another tensor."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str
    """Of its little-endian bytes."""

    @classmethod
    def of(cls, value: Array) -> Self:
        """Digest a tensor."""
        little = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"))
        return cls(str(value.dtype), value.shape, hashlib.sha256(little.tobytes()).hexdigest())


@dataclass(frozen=True)
class Case:
    """One golden case, read back. ``expected`` holds numbers, or a digest of large tensors."""

    name: str
    image: Pixels
    """As the stages take it."""
    picture: Pixels
    """The same as uint8 [1, H, W, 3] RGB."""
    expected: dict[str, Array | Digest]


def images(
    capture: Capture, fit: Literal["crop", "pad"] = "crop", own: Path | Bundle | None = None
) -> Iterator[tuple[str, Pixels]]:
    """Give the golden images: lesions with hair, hard patterns, and the user's own.

    Args:
        capture: their size; the layout is another's concern.
        fit: how the user's own are framed.
        own: a folder of photos, framed like any other; or a bundle of this capture, whose own are
            taken again.

    Yields:
        a name and uint8 [1, H, W, 3] RGB.
    """
    capture = capture.model_copy(update={"layout": "rgb"})
    height, width = capture.height, capture.width
    for name, dx, seed, hair in _LESIONS:
        drawn = synthetic.lesion(dx, seed, height=450, width=600, hair=hair)
        yield name, resampling.resize(drawn.image, height, width)[None]
    for name, level in (("black", 0), ("white", 255)):
        yield name, np.full((1, height, width, 3), level, np.uint8)
    across = np.linspace(0, 255, width).astype(np.uint8)
    down = np.linspace(255, 0, height).astype(np.uint8)
    ramp = np.stack(
        np.broadcast_arrays(across[None, :], down[:, None], across[None, ::-1]), axis=-1
    )
    yield "ramp", np.ascontiguousarray(ramp)[None]
    coarse = np.random.default_rng(0).integers(0, 256, (height // 15 + 1, width // 15 + 1, 3))
    noise = coarse.astype(np.uint8).repeat(15, axis=0).repeat(15, axis=1)
    yield "noise", np.ascontiguousarray(noise[:height, :width])[None]
    if isinstance(own, Bundle):
        again = read(own) if INDEX in own.manifest.files else []
        yield from ((c.name, c.picture) for c in again if c.name.startswith(_OWN))
    elif own is not None:
        for number, path in enumerate(list_images(own), start=1):
            stem = re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem)
            yield f"{_OWN}{number:03d}_{stem}", frame(path, capture, fit)


def write(
    folder: Path,
    cases: Iterator[tuple[str, Pixels]],
    layout: Layout,
    reference: Callable[[Pixels], Mapping[str, Array]],
) -> None:
    """Write ``golden/`` below a bundle's folder.

    Args:
        folder: the bundle's folder.
        cases: names and RGB images.
        layout: in which the stages take them.
        reference: from an image to every tensor, by PyTorch.
    """
    target = folder / FOLDER
    target.mkdir(parents=True)
    written = []
    for name, rgb in cases:
        image = layouts.encode(rgb, layout)
        encoded = io.BytesIO()
        Image.fromarray(rgb[0]).save(encoded, "PNG", optimize=True)
        (target / f"{name}.png").write_bytes(encoded.getvalue())
        (target / f"{name}.gz").write_bytes(gzip.compress(image.tobytes(), 9, mtime=0))
        written.append(
            {
                "name": name,
                "image": f"{name}.gz",
                "picture": f"{name}.png",
                "shape": list(image.shape),
                "sha256": hashlib.sha256(image.tobytes()).hexdigest(),
                "tensors": {k: _encode(v) for k, v in sorted(reference(image).items())},
            }
        )
    content = {"schema_version": 1, "cases": written}
    (folder / INDEX).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(bundle: Bundle) -> list[Case]:
    """Read a bundle's golden cases. Raises BundleError when it has none, or they are damaged."""
    if INDEX not in bundle.manifest.files:
        raise BundleError(
            f"{bundle.path.name} holds no golden vectors",
            hint="give --images, or export with golden: true",
        )
    try:
        index = _Index.model_validate_json(bundle.read(INDEX))
        return [_decode(bundle, case) for case in index.cases]
    except ValidationError as error:
        reason = explain(error, _Index)
    except (ValueError, OverflowError, OSError, EOFError, zlib.error, ImageError) as error:
        reason = str(error)
    raise BundleError(
        f"{bundle.path.name}: golden vectors are damaged: {brief(reason)}", hint="export it again"
    )


def _encode(value: Array) -> dict[str, Any]:
    entry: dict[str, Any] = {"dtype": str(value.dtype), "shape": list(value.shape)}
    if value.size > _INLINE and value.dtype == np.uint8:
        return {**entry, "sha256": Digest.of(value).sha256}
    flat = [None if isinstance(v, float) and math.isnan(v) else v for v in value.ravel().tolist()]
    return {**entry, "values": flat}


def _decode(bundle: Bundle, case: _Written) -> Case:
    if case.shape != image_spec(bundle.manifest.capture).shape:
        raise ValueError(f"the image of case {case.name} is not of the capture's shape")
    with gzip.open(io.BytesIO(bundle.read(f"{FOLDER}/{case.image}"))) as packed:
        raw = packed.read(math.prod(case.shape) + 1)  # a small file could hold any amount
    if hashlib.sha256(raw).hexdigest() != case.sha256:
        raise ValueError(f"the image of case {case.name} is not the one that was recorded")
    image = np.frombuffer(raw, np.uint8).reshape(case.shape)
    expected: dict[str, Array | Digest] = {}
    for name, entry in case.tensors.items():
        if entry.sha256 is not None:
            expected[name] = Digest(entry.dtype, entry.shape, entry.sha256)
        else:
            values = [math.nan if v is None else v for v in entry.values or ()]
            expected[name] = np.array(values, entry.dtype).reshape(entry.shape)
    picture = decode(bundle.read(f"{FOLDER}/{case.picture}"))[None]
    return Case(case.name, image, picture, expected)
