"""Any photo becomes the contract's image, or one clear error."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from classkinfy_export.contract import Capture
from classkinfy_export.errors import ImageError
from classkinfy_export.frame import decode, frame, list_images

CAPTURE = Capture(height=45, width=60)


def photo(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_photo_of_the_captures_size_is_left_as_it_is() -> None:
    image = photo(45, 60)
    assert (frame(image, CAPTURE)[0] == image).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright_as_pillow_turns_them(orientation: int) -> None:
    image = Image.fromarray(photo(30, 50))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, "JPEG", exif=exif, quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (decode(data) == np.asarray(upright)).all()


@pytest.mark.parametrize(("height", "width"), [(90, 400), (400, 90), (123, 457), (45, 61), (3, 4)])
def test_crop_takes_the_centre_and_pad_adds_black_around_it(height: int, width: int) -> None:
    image = photo(height, width)
    cropped = frame(image, CAPTURE, "crop")
    padded = frame(image, CAPTURE, "pad")
    assert cropped.shape == padded.shape == (1, 45, 60, 3)
    wide = width * 45 > height * 60
    kept = (height, height * 60 // 45) if wide else (width * 45 // 60, width)
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    centre = image[top : top + kept[0], left : left + kept[1]]
    pillow = Image.fromarray(centre).resize((60, 45), Image.Resampling.BILINEAR)
    assert np.abs(cropped[0].astype(int) - np.asarray(pillow).astype(int)).max() <= 1
    bars = padded[0, [0, -1], :] if wide else padded[0, :, [0, -1]]
    if max(height * 60, width * 45) > 1.3 * min(height * 60, width * 45):
        assert (bars == 0).all()


def test_every_kind_of_source_gives_the_same(tmp_path: Path) -> None:
    image = photo(50, 70)
    data = encoded(Image.fromarray(image))
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    given = [frame(source, CAPTURE) for source in (image, data, path, str(path))]
    assert all((other == given[0]).all() for other in given[1:])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_every_pixel_format_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(photo(45, 60)).convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    given = decode(encoded(image, kind))
    assert given.dtype == np.uint8
    assert (given == np.asarray(image.convert("RGB"))).all()


def test_sixteen_bits_are_scaled_to_eight() -> None:
    ramp = np.linspace(0, 65535, 60 * 45).reshape(45, 60).astype(np.uint16)
    given = decode(encoded(Image.fromarray(ramp)))
    assert np.abs(given[..., 0].astype(float) - ramp / 257).max() <= 1


def test_the_first_picture_of_an_animation_is_taken() -> None:
    frames = [Image.fromarray(np.full((45, 60, 3), level, np.uint8)) for level in (50, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.abs(decode(data).astype(int) - 50).max() <= 8


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 121 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 11000, 11000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an image"),
        (b"just text", "not an image"),
        (encoded(Image.fromarray(photo(90, 90)), "JPEG")[:-900], "truncated or damaged"),
        (encoded(Image.fromarray(photo(90, 90)))[:-900], "truncated or damaged"),
        (bomb(), "more than 100 million"),
    ],
    ids=["empty", "text", "jpeg", "png", "bomb"],
)
def test_what_is_no_whole_image_is_one_clear_error(
    data: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(ImageError, match=message) as raised:
            frame(source, CAPTURE)
        assert "\n" not in str(raised.value)
        assert raised.value.hint


def test_missing_files_folders_and_wrong_arrays_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        frame(tmp_path / "missing.jpg", CAPTURE)
    with pytest.raises(ImageError, match="directory"):
        frame(tmp_path, CAPTURE)
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ImageError, match="expected uint8"):
            frame(wrong, CAPTURE)


def test_images_are_listed_in_order_without_masks_and_hidden_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no image"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="does not exist"):
        list_images(tmp_path / "missing")
    for name in ("b/2.jpg", "a/1.PNG", ".hidden/3.jpg", "a/1_segmentation.png", "a/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert [p.name for p in list_images(tmp_path)] == ["1.PNG", "2.jpg"]
