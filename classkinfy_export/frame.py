"""Any photo to the contract's image: orientation, 4:3 crop or pad, exact resize. Torch-free.

This is host code with a twin in every app. Each step is integer arithmetic, so the twins agree
byte for byte on the same decoded pixels.
"""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from classkinfy_export import layouts, resampling
from classkinfy_export.contract import Capture
from classkinfy_export.errors import ImageError

Pixels = npt.NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes | Pixels

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 100_000_000
MAX_SCANS = 100
"""Of a JPEG; a progressive one has ten."""
_SCAN = b"\xff\xda"
"""Begins one; in a scan's data there is a zero after 0xff."""
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")
"""Of a JPEG, that the length of what belongs to it follows; reserved ones are skipped in a scan."""
_END = b"\xd9"
_DAMAGED = (ValueError, TypeError, LookupError, ArithmeticError, struct.error)
"""What Pillow's parsers raise of metadata that is none."""
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000")
"""What is decoded in memory, MPO too, which opens as JPEG: of others Pillow may start programs."""


def frame(source: Source, capture: Capture, fit: Literal["crop", "pad"] = "crop") -> Pixels:
    """Turn a photo into the contract's image.

    Args:
        source: a path, encoded bytes, or decoded uint8 [h, w, 3] RGB.
        capture: the size and layout wanted.
        fit: ``crop`` cuts the centre to the capture's shape; ``pad`` adds black bars.

    Returns:
        uint8, shaped as ``contract.image_spec(capture)``: [1, h, w, 3] for RGB.

    Raises:
        ImageError: the source is not a complete image, is too large, or so narrow that padding
            it would make it so.
    """
    pixels = source if isinstance(source, np.ndarray) else decode(source)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ImageError(
            f"decoded image is {pixels.dtype} {list(pixels.shape)}, expected uint8 [h, w, 3]"
        )
    shaped = _crop(pixels, capture) if fit == "crop" else _pad(pixels, capture)
    rgb = resampling.resize(shaped, capture.height, capture.width)[np.newaxis]
    return layouts.encode(rgb, capture.layout)


def decode(source: str | os.PathLike[str] | bytes) -> Pixels:
    """Decode a photo to upright RGB.

    Args:
        source: a path or encoded bytes, in any format that Pillow reads.

    Returns:
        uint8 [h, w, 3], EXIF orientation applied, transparency dropped.

    Raises:
        ImageError: missing, not an image, truncated, above 100 megapixels or 100 scans, or of
            floats.
    """
    name = "image" if isinstance(source, bytes) else Path(source).name
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, which is not read, and of many pixels, checked below.
            warnings.simplefilter("ignore")
            opened = io.BytesIO(source) if isinstance(source, bytes) else source
            with Image.open(opened, formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ImageError(
                        f"{name} has {image.width} x {image.height} pixels, "
                        f"more than {MAX_PIXELS // 10**6} million",
                        hint="scale it down first",
                    )
                _check_scans(image, name)
                ImageOps.exif_transpose(image, in_place=True)
                return _to_rgb(image, name)
    except FileNotFoundError:
        raise ImageError(f"image {str(source)!r} does not exist", hint="check the path") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is not an image that can be read", hint="give a JPEG or PNG photo"
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name} has more than {MAX_PIXELS // 10**6} million pixels",
            hint="scale it down first",
        ) from None
    except (OSError, SyntaxError, RuntimeError, EOFError, *_DAMAGED) as error:
        if not isinstance(source, bytes) and isinstance(error, OSError) and error.errno:
            raise ImageError(
                f"image {str(source)[:200]!r} cannot be opened: {error.strerror}",
                hint="check the path",
            ) from error
        raise ImageError(
            f"{name} is truncated or damaged: {error}", hint="copy or take the photo again"
        ) from error


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the images below a folder, sorted by path; masks and hidden files are left out.

    Raises:
        ImageError: no such folder, or no image in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"folder {str(root)!r} does not exist", hint="check the path")
    found = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and not path.stem.endswith("_segmentation")
    )
    if not found:
        raise ImageError(
            f"folder {str(root)!r} holds no image", hint=f"expected {', '.join(SUFFIXES)}"
        )
    return found


def choose(images: Sequence[Path], most: int | None) -> list[Path]:
    """Return at most so many images, evenly spaced; all without a limit.

    Raises:
        ImageError: the limit leaves none.
    """
    if most is not None and most < 1:
        raise ImageError(f"a limit of {most} leaves no image", hint="give 1 or more")
    if most is None or most >= len(images):
        return list(images)
    return [images[i * len(images) // most] for i in range(most)]


def _check_scans(image: ImageFile.ImageFile, name: str) -> None:
    """Refuse a JPEG of so many passes over its pixels that decoding would not end."""
    if image.format not in ("JPEG", "MPO") or not isinstance(image, ImageFile.ImageFile):
        return
    if image.fp is None:
        return
    position = image.fp.tell()
    image.fp.seek(0)
    data = image.fp.read()
    image.fp.seek(position)
    # All that may begin one is soon counted, and of most photos is few enough.
    scans = data.count(_SCAN) if data.count(_SCAN) <= MAX_SCANS else _scans(data)
    if scans > MAX_SCANS:
        raise ImageError(
            f"{name} has {scans} scans, more than {MAX_SCANS}", hint="save the photo again"
        )


def _scans(data: bytes) -> int:
    """Count a JPEG's scans as its decoder meets them: not of thumbnails, nor of what is behind it.

    Phones put a video there, or more pictures.
    """
    count, at = 0, 0
    while (found := _MARKER.search(data, at)) and found[1] != _END:
        count += found[0] == _SCAN
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return count


def _to_rgb(image: Image.Image, name: str) -> Pixels:
    if image.mode == "F":
        raise ImageError(
            f"{name} holds floats, and no scale that says what is white",
            hint="save it with 8 bits a channel",
        )
    if image.mode.startswith("I"):
        # Pillow's convert clips 16-bit gray at 255. The high byte is what it keeps of 16-bit RGB.
        levels = np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(levels[..., np.newaxis], 3, axis=2)
    # Pillow's convert copies what is RGB already.
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _crop(pixels: Pixels, capture: Capture) -> Pixels:
    height, width = pixels.shape[:2]
    wanted_width = min(width, max(1, height * capture.width // capture.height))
    wanted_height = min(height, max(1, width * capture.height // capture.width))
    top, left = (height - wanted_height) // 2, (width - wanted_width) // 2
    return pixels[top : top + wanted_height, left : left + wanted_width]


def _pad(pixels: Pixels, capture: Capture) -> Pixels:
    height, width = pixels.shape[:2]
    wanted_width = max(width, -(-height * capture.width // capture.height))
    wanted_height = max(height, -(-width * capture.height // capture.width))
    if wanted_width * wanted_height > 4 * MAX_PIXELS:
        raise ImageError(
            f"an image of {width} x {height} pixels is too narrow to pad", hint="crop it instead"
        )
    padded = np.zeros((wanted_height, wanted_width, 3), np.uint8)
    top, left = (wanted_height - height) // 2, (wanted_width - width) // 2
    padded[top : top + height, left : left + width] = pixels
    return padded
