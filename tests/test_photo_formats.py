"""What phones, cameras and disks hold, decoded as Pillow and OpenCV decode it, or refused.

``test_frame.py`` tells the story of one photo; here are the many kinds.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from oracles import frame as oracle
from PIL import Image, ImageOps

from classkinfy_export.contract import Capture
from classkinfy_export.errors import ImageError
from classkinfy_export.frame import MAX_PIXELS, decode, frame, list_images

CAPTURE = Capture(height=45, width=60)


def noise(height: int, width: int, channels: int = 3) -> oracle.Pixels:
    rng = np.random.default_rng(height * width)
    return rng.integers(0, 256, (height, width, channels), np.uint8)


def gray16(height: int = 48, width: int = 64) -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
    """Every level from black to white, 16 bits."""
    ramp = np.linspace(0, 65535, height * width).reshape(height, width)
    return ramp.astype(np.uint16)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", sorted(oracle.UPRIGHT))
def test_each_orientation_is_turned_as_exif_defines_it(form: str, orientation: int) -> None:
    stored = noise(30, 50)
    exif = Image.Exif()
    exif[oracle.ORIENTATION] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    data = oracle.encoded(Image.fromarray(stored), form, exif=exif, **options)
    given = decode(data)
    np.testing.assert_array_equal(given, oracle.UPRIGHT[orientation](stored))
    np.testing.assert_array_equal(given, oracle.by_pillow(data))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(orientation: int) -> None:
    stored = noise(30, 50)
    exif = Image.Exif()
    exif[oracle.ORIENTATION] = orientation
    data = oracle.encoded(Image.fromarray(stored), "PNG", exif=exif)
    np.testing.assert_array_equal(decode(data), stored)


def files() -> dict[str, bytes]:
    colour = Image.fromarray(noise(48, 64))
    palette = colour.quantize(64)
    moving = [Image.fromarray(noise(48, 64, 3) // 2), Image.fromarray(noise(48, 64) // 2 + 128)]
    return {
        "gray": oracle.encoded(colour.convert("L"), "PNG"),
        "gray JPEG": oracle.encoded(colour.convert("L"), "JPEG"),
        "gray and alpha": oracle.encoded(colour.convert("LA"), "PNG"),
        "black and white": oracle.encoded(colour.convert("1"), "PNG"),
        "palette": oracle.encoded(palette, "PNG"),
        "palette, one colour clear": oracle.encoded(palette, "PNG", transparency=3),
        "RGBA": oracle.encoded(Image.fromarray(noise(48, 64, 4)), "PNG"),
        "CMYK JPEG": oracle.encoded(colour.convert("CMYK"), "JPEG"),
        "CMYK TIFF": oracle.encoded(colour.convert("CMYK"), "TIFF"),
        "YCbCr TIFF": oracle.encoded(colour.convert("YCbCr"), "TIFF"),
        "animated GIF": oracle.encoded(moving[0], "GIF", save_all=True, append_images=moving[1:]),
        "animated WEBP": oracle.encoded(moving[0], "WEBP", save_all=True, append_images=moving[1:]),
        "pages of a TIFF": oracle.encoded(
            moving[0], "TIFF", save_all=True, append_images=moving[1:]
        ),
        "BMP": oracle.encoded(colour, "BMP"),
        "progressive JPEG": oracle.encoded(colour, "JPEG", progressive=True),
    }


@pytest.mark.parametrize("name", files())
def test_every_kind_of_file_becomes_the_rgb_that_pillow_gives(name: str) -> None:
    given = decode(files()[name])
    assert (given.dtype, given.shape) == (np.uint8, (48, 64, 3))
    np.testing.assert_array_equal(given, oracle.by_pillow(files()[name]))


def test_of_an_animation_the_first_picture_is_taken() -> None:
    for name in ("animated GIF", "animated WEBP", "pages of a TIFF"):
        assert decode(files()[name]).mean() < 100, name


def test_a_palette_with_many_half_clear_colours_gives_its_colours_without_a_warning() -> None:
    picture = Image.fromarray(noise(48, 64)).quantize(64)
    data = oracle.encoded(picture, "PNG", transparency=bytes(range(0, 256, 4)))
    np.testing.assert_array_equal(decode(data), np.asarray(picture.convert("RGB")))


def test_16_bit_gray_png_is_opencvs_8_bits_and_not_clipped_to_white() -> None:
    data = oracle.encoded(Image.fromarray(gray16()), "PNG")
    given = decode(data)
    wanted = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(given, wanted)
    assert (given.min(), given.max()) == (0, 255)
    assert len(np.unique(given)) == 256


def test_16_bit_gray_is_its_high_byte_in_every_container_and_upright() -> None:
    ramp = gray16()
    high = np.repeat((ramp >> 8).astype(np.uint8)[..., None], 3, axis=2)
    turned = Image.Exif()
    turned[oracle.ORIENTATION] = 6
    header = b"P5 64 48 65535\n"
    np.testing.assert_array_equal(decode(header + ramp.astype(">u2").tobytes()), high)
    tiff = oracle.encoded(Image.fromarray(ramp), "TIFF")
    np.testing.assert_array_equal(decode(tiff), high)
    big_endian = Image.frombytes("I;16B", (64, 48), ramp.astype(">u2").tobytes())
    np.testing.assert_array_equal(decode(oracle.encoded(big_endian, "TIFF")), high)
    wide = oracle.encoded(Image.fromarray(ramp.astype(np.int32)), "TIFF")
    np.testing.assert_array_equal(decode(wide), high)
    png = oracle.encoded(Image.fromarray(ramp), "PNG", exif=turned)
    np.testing.assert_array_equal(decode(png), oracle.UPRIGHT[6](high))


def test_16_bit_colour_is_its_high_byte() -> None:
    colour = noise(48, 64).astype(np.uint16) * 256 + noise(48, 64, 3)[::-1]
    data = cv2.imencode(".png", colour[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode(data), (colour >> 8).astype(np.uint8))


def test_floats_are_refused_because_nothing_says_what_is_white() -> None:
    data = oracle.encoded(Image.fromarray(gray16().astype(np.float32) / 65535), "TIFF")
    with pytest.raises(ImageError, match=r"holds floats.*8 bits a channel"):
        decode(data)


def one_line(error: pytest.ExceptionInfo[ImageError], name: str) -> None:
    assert "\n" not in str(error.value)
    assert name in str(error.value)
    assert error.value.hint


def broken() -> dict[str, bytes]:
    whole = Image.fromarray(noise(120, 160))
    forms = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP", "gif": "GIF"}
    halves = {}
    for suffix, form in forms.items():
        data = oracle.encoded(whole, form)
        halves[f"half.{suffix}"] = data[: len(data) // 2]
    tiff = oracle.encoded(whole, "TIFF", compression="tiff_lzw")
    return halves | {
        "half.tiff": tiff[: len(tiff) // 2],
        "head.jpg": oracle.encoded(whole, "JPEG")[:30],
        "nothing.jpg": b"",
        "letter.jpg": b"Dear doctor,\n",
        "zeros.png": bytes(4096),
        "no_pixels.png": oracle.png_of_size(0, 10),
    }


@pytest.mark.parametrize("name", broken())
def test_what_is_damaged_is_an_image_error_of_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(broken()[name])
    with pytest.raises(ImageError) as error:
        decode(path)
    one_line(error, name)


@pytest.mark.parametrize(
    ("width", "height"),
    [(10_100, 10_000), (15_000, 15_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)],
)
def test_more_than_100_megapixels_are_refused_before_they_are_decoded(
    tmp_path: Path, width: int, height: int
) -> None:
    # Within Pillow's limit, between it and its double (a warning), and above (its own error).
    path = tmp_path / "huge.png"
    path.write_bytes(oracle.png_of_size(width, height))
    with pytest.raises(ImageError, match=r"more than 100 million.*scale it down") as error:
        decode(path)
    one_line(error, "huge.png")


def test_a_megapixel_limit_is_a_limit_and_not_less() -> None:
    # 10,000 x 10,000 passes the limit; this file then turns out to hold nothing.
    assert MAX_PIXELS == 10_000 * 10_000
    with pytest.raises(ImageError, match="truncated or damaged"):
        decode(oracle.png_of_size(10_000, 10_000))


def test_a_path_that_is_no_file_is_said_to_be_that(tmp_path: Path) -> None:
    folder = tmp_path / "photos.jpg"
    folder.mkdir()
    (tmp_path / "file").write_bytes(b"")
    cases = {
        folder: r"cannot be opened: .*directory: check the path",
        tmp_path / "file" / "photo.jpg": "cannot be opened: Not a directory",
        tmp_path / "gone.jpg": r"'.*gone\.jpg' does not exist: check the path",
    }
    for path, message in cases.items():
        with pytest.raises(ImageError, match=message) as error:
            decode(path)
        one_line(error, path.name)


def test_a_photo_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # root may read anything: not by chmod

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ImageError, match="cannot be opened: Permission denied"):
        decode(tmp_path / "secret.jpg")


@pytest.mark.parametrize("size", [(45, 100), (101, 60), (46, 60), (45, 60), (90, 60), (45, 61)])
def test_crop_of_the_captures_height_or_width_is_its_centre(size: tuple[int, int]) -> None:
    photo = noise(*size)
    top, left = (size[0] - 45) // 2, (size[1] - 60) // 2
    np.testing.assert_array_equal(frame(photo, CAPTURE)[0], photo[top : top + 45, left : left + 60])


@pytest.mark.parametrize("size", [(45, 20), (15, 60), (45, 58), (1, 60), (45, 2)])
def test_pad_puts_black_on_both_sides_as_pillow_does(size: tuple[int, int]) -> None:
    photo = np.maximum(noise(*size), 1)
    wanted = ImageOps.pad(Image.fromarray(photo), (60, 45), color=(0, 0, 0))
    given = frame(photo, CAPTURE, "pad")[0]
    np.testing.assert_array_equal(given, np.asarray(wanted))
    assert (given == 0).all(axis=-1).sum() == 45 * 60 - size[0] * size[1]


def test_an_odd_bar_is_one_pixel_wider_on_the_right_and_below() -> None:
    light = np.full((45, 57, 3), 255, np.uint8)
    columns = frame(light, CAPTURE, "pad")[0, 0, :, 0]
    assert columns.tolist() == [0] + [255] * 57 + [0] * 2
    light = np.full((42, 60, 3), 255, np.uint8)
    assert frame(light, CAPTURE, "pad")[0, :, 0, 0].tolist() == [0] + [255] * 42 + [0] * 2


def test_a_strip_too_narrow_to_pad_is_refused_and_can_be_cropped() -> None:
    strip = np.full((1, 40_000, 3), 9, np.uint8)
    with pytest.raises(ImageError, match="40000 x 1 pixels is too narrow to pad: crop it instead"):
        frame(strip, CAPTURE, "pad")
    np.testing.assert_array_equal(frame(strip, CAPTURE), np.full((1, 45, 60, 3), 9, np.uint8))


def test_the_photo_given_is_not_written_to() -> None:
    photo = noise(45, 60)
    photo.setflags(write=False)
    for fit in ("crop", "pad"):
        np.testing.assert_array_equal(frame(photo, CAPTURE, fit)[0], photo)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((45, 60), np.uint8),
        np.zeros((45, 60, 4), np.uint8),
        np.zeros((45, 60, 3), np.float32),
        np.zeros((0, 60, 3), np.uint8),
        np.zeros((1, 45, 60, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_an_array_that_is_no_rgb_picture_is_refused_with_its_shape(wrong: oracle.Pixels) -> None:
    with pytest.raises(ImageError) as error:
        frame(wrong, CAPTURE)
    assert f"{wrong.dtype} {list(wrong.shape)}, expected uint8 [h, w, 3]" in str(error.value)


def test_only_files_are_listed_whatever_the_case_of_their_ending(tmp_path: Path) -> None:
    kept = ["A.JPG", "a/b.jpeg", "a/c.Png", "z.webp", "z/1.tif", "z/2.TIFF", "z/3.bmp"]
    left = [".a.jpg", "a/.b/c.jpg", "a/c_segmentation.png", "notes.txt", "jpg", "z/4.gif"]
    for name in kept + left:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "album.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    given = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert given == sorted(kept, key=lambda name: name.split("/"))
    assert list_images(os.fspath(tmp_path)) == list_images(tmp_path)


def test_a_hidden_folder_above_the_one_asked_for_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / ".cache" / "set").mkdir(parents=True)
    (tmp_path / ".cache" / "set" / "1.jpg").write_bytes(b"")
    assert [path.name for path in list_images(tmp_path / ".cache" / "set")] == ["1.jpg"]


def test_a_folder_of_masks_only_holds_no_image(tmp_path: Path) -> None:
    (tmp_path / "1_segmentation.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"holds no image: expected \.jpg, \.jpeg, \.png"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="does not exist"):
        list_images(tmp_path / "1_segmentation.png")
