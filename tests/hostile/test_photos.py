"""Photos made to hurt who decodes them."""

from __future__ import annotations

import io
import struct
import time
import zipfile
import zlib

import numpy as np
import pytest
from oracles import frame as oracle
from PIL import Image

from classkinfy_export import frame
from classkinfy_export.errors import ImageError

SCAN = b"\xff\xda"


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("index.html", "<script>alert(1)</script>")
    return file.getvalue()


def with_scans(count: int) -> bytes:
    """A progressive JPEG whose last pass over the pixels is there again and again."""
    data = oracle.encoded(Image.new("RGB", (512, 512)), "JPEG", progressive=True)
    last = data[data.rindex(SCAN) : -2]
    return data[:-2] + last * (count - data.count(SCAN)) + data[-2:]


def test_a_jpeg_of_endless_passes_is_refused_before_it_is_decoded() -> None:
    data = with_scans(200_000)
    start = time.process_time()
    with pytest.raises(ImageError, match=r"200000 scans, more than 100: save the photo again"):
        frame.decode(data)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("count", [10, frame.MAX_SCANS])
def test_a_jpeg_of_many_passes_is_decoded_as_pillow_does(count: int) -> None:
    data = with_scans(count)
    np.testing.assert_array_equal(frame.decode(data), oracle.by_pillow(data))


def test_a_phones_photo_with_a_video_behind_it_is_its_photo() -> None:
    data = oracle.encoded(picture(), "JPEG", progressive=True)
    video = np.random.default_rng(0).bytes(2**23)
    assert video.count(SCAN) > frame.MAX_SCANS
    np.testing.assert_array_equal(frame.decode(data + video), oracle.by_pillow(data))


def test_pictures_in_a_photos_metadata_and_behind_it_are_not_counted() -> None:
    small = oracle.encoded(picture().resize((16, 12)), "JPEG", progressive=True)
    told = b"\xff\xee" + struct.pack(">H", 2 + 12 * len(small)) + 12 * small
    data = oracle.encoded(picture(), "JPEG", progressive=True)
    data = data[:2] + told + data[2:] + 12 * data
    assert data.count(SCAN) > frame.MAX_SCANS
    np.testing.assert_array_equal(frame.decode(data), oracle.by_pillow(data))


def test_scans_are_counted_behind_what_only_looks_like_an_end() -> None:
    data = with_scans(200)
    comment = b"\xff\xfe" + struct.pack(">H", 4) + b"\xff\xd9"
    for fill in (b"", b"\xff\xff", b"\xff\x00\x00"):
        with pytest.raises(ImageError, match="200 scans"):
            frame.decode(data[:2] + comment + fill + data[2:])


def test_scans_are_not_hidden_in_the_length_of_a_marker_that_has_none() -> None:
    data = with_scans(1000)
    second = data.index(SCAN, data.index(SCAN) + 2)
    with pytest.raises(ImageError, match="1000 scans"):
        frame.decode(data[:second] + b"\xff\x02\xff\xff" + data[second:])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("after", [zipped(), b"<script>alert(1)</script>", b"%PDF-1.4\n"])
def test_a_photo_that_is_something_else_as_well_is_its_photo_alone(form: str, after: bytes) -> None:
    data = oracle.encoded(picture(), form)
    np.testing.assert_array_equal(frame.decode(data + after), oracle.by_pillow(data))


@pytest.mark.parametrize("before", [zipped(), b"<html>", b"%PDF-1.4\n", b"GIF"])
def test_a_photo_behind_something_else_is_none(before: bytes) -> None:
    with pytest.raises(ImageError, match=r"is not an image|truncated or damaged") as raised:
        frame.decode(before + oracle.encoded(picture(), "JPEG"))
    assert raised.value.hint


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(id) run\nshowpage\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    ],
    ids=["EPS", "SVG"],
)
def test_what_would_be_run_is_no_photo(data: bytes) -> None:
    with pytest.raises(ImageError, match="is not an image"):
        frame.decode(data)


def test_a_bomb_in_a_photos_text_is_not_unpacked() -> None:
    data = oracle.encoded(picture(), "PNG")
    body = b"Comment\0\0" + zlib.compress(bytes(2**24), 9)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + body))
    with pytest.raises(ImageError, match="truncated or damaged"):
        frame.decode(data[:33] + chunk + data[33:])
