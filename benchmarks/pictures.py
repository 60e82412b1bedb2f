"""Small photos of every kind that is decoded, and what is made of them that is none."""

from __future__ import annotations

import io
import random
from typing import Any

import mutation
import numpy as np
from PIL import Image


def seeds() -> list[bytes]:
    """Return small photos of every kind that is decoded."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    pixels[:12] = 128
    colour = Image.fromarray(pixels)
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    second = colour.rotate(180)
    moving: dict[str, Any] = {"save_all": True, "append_images": [second]}
    wanted: tuple[tuple[Image.Image, str, dict[str, Any]], ...] = (
        (colour, "JPEG", {"exif": exif}),
        (colour, "JPEG", {"progressive": True}),
        (colour.convert("CMYK"), "JPEG", {}),
        (colour, "MPO", moving),
        (colour, "PNG", {"exif": exif}),
        (colour.quantize(16), "PNG", {"transparency": bytes(range(16))}),
        (colour.convert("1"), "PNG", {}),
        (deep, "PNG", {}),
        (colour, "WEBP", {"exif": exif}),
        (colour, "WEBP", {"lossless": True, **moving}),
        (colour, "GIF", moving),
        (colour, "BMP", {}),
        (colour, "DIB", {}),
        (colour, "TIFF", {"exif": exif, **moving}),
        (colour, "TIFF", {"compression": "tiff_lzw"}),
        (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (colour.convert("CMYK"), "TIFF", {}),
        (colour, "PPM", {}),
        (colour, "JPEG2000", {}),
    )
    made = []
    for image, form, options in wanted:
        file = io.BytesIO()
        image.encoderconfig = (
            second.encoderconfig
        ) = ()  # what one format put there goes to the next
        image.save(file, form, **options)
        made.append(file.getvalue())
    return [*made, b"P3 2 2 255 1 2 3 4 5 6 7 8 9 10 11 12\n", b"P5 2 2 65535\n" + bytes(8)]


def changed(seeds: list[bytes], rng: random.Random) -> bytes:
    """Return a photo that is wrong, or two in one file."""
    data = rng.choice(seeds)
    if data.startswith(b"\x89PNG") and rng.random() < 0.7:
        return mutation.png_bytes(data, rng)
    if rng.random() < 0.1:
        return data + rng.choice(seeds)
    return mutation.some_bytes(data, rng)
