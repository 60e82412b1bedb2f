"""What stands between a lesion and its picture: the pose, hair, a ruler, dark corners, exposure."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

from classkinfy_export.data.lesion import Bytes, Plane, Stroke, as_bytes, stroke_layer

_HAIR = ((34, 24, 20), (22, 18, 18), (52, 36, 26), (28, 20, 16))
_DENSE_SHARE = 1 / 7
"""Of the images with hair, the share where it is a thicket."""


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def reframe(
    rng: np.random.Generator, picture: Image.Image, mask: Image.Image
) -> tuple[Image.Image, Image.Image]:
    """Take the picture again: turned by up to 6 degrees, 12 to 25 % nearer, a little off.

    Args:
        rng: the shot's random numbers.
        picture: RGB.
        mask: of the same size; stays two-valued.
    """
    sine = _between(rng, -0.1, 0.1)
    zoom = _between(rng, 0.8, 0.88)
    width, height = picture.size
    a, b = zoom * math.sqrt(1 - sine * sine), zoom * sine
    # The corners of the turned frame stay within the picture for any zoom and angle drawn here.
    free_x = width / 2 - (a * width + abs(b) * height) / 2
    free_y = height / 2 - (a * height + abs(b) * width) / 2
    middle_x = width / 2 + _between(rng, -1, 1) * max(free_x, 0)
    middle_y = height / 2 + _between(rng, -1, 1) * max(free_y, 0)
    affine = (
        *(a, -b, middle_x - a * width / 2 + b * height / 2),
        *(b, a, middle_y - b * width / 2 - a * height / 2),
    )
    method = Image.Transform.AFFINE
    return (
        picture.transform(picture.size, method, affine, Image.Resampling.BILINEAR),
        mask.transform(mask.size, method, affine, Image.Resampling.NEAREST),
    )


def hair(rng: np.random.Generator, rgb: Plane, probability: float) -> Bytes:
    """Lay hair over the picture, in place, or none.

    Args:
        rng: the hair's random numbers.
        rgb: float32 [3, H, W], 0..255.
        probability: that there is any, 0..1.

    Returns:
        uint8 [H, W], 255 where hair covers a quarter of the pixel or more.
    """
    _, height, width = rgb.shape
    unit = min(height, width) / 450
    present, dense = float(rng.random()) < probability, float(rng.random()) < _DENSE_SHARE
    if not present:
        return np.zeros((height, width), np.uint8)
    combed = _between(rng, -1, 1), _between(rng, -1, 1)
    # Strokes overlap and leave the frame, so they are drawn until their area is well over the aim.
    aim = (_between(rng, 0.32, 0.5) if dense else _between(rng, 0.006, 0.09)) * height * width
    thin, thick = (2.5, 5.0) if dense else (1.0, 3.2)
    strokes: list[Stroke] = []
    while aim > 0:
        thickness = max(_between(rng, thin, thick) * unit, 1.0)
        length = _between(rng, 90, 420) * unit
        x, y = _between(rng, -0.05, 1.05) * width, _between(rng, -0.05, 1.05) * height
        dx, dy = combed[0] + _between(rng, -0.7, 0.7), combed[1] + _between(rng, -0.7, 0.7)
        scale = length / max(math.sqrt(dx * dx + dy * dy), 0.05)
        dx, dy, bend = dx * scale, dy * scale, _between(rng, -0.3, 0.3)
        # A quadratic Bezier curve from -1/2 to 1/2 of the chord; its bulge is bend / 2 chords.
        points = [
            (x + dx * (t - 0.5) - dy * bulge, y + dy * (t - 0.5) + dx * bulge)
            for t, bulge in ((i / 12, 2 * bend * (i / 12) * (1 - i / 12)) for i in range(13))
        ]
        strokes.append((points, thickness))
        aim -= min(length, math.sqrt(dx * dx + dy * dy)) * thickness
    cover = stroke_layer((width, height), strokes)
    colour = np.array(_HAIR[int(rng.integers(len(_HAIR)))], np.float32)[:, None, None]
    opacity = _between(rng, 0.75, 0.95)
    # Darker than what lies beneath, on any skin.
    rgb += (np.minimum(colour, rgb * 0.45) - rgb) * (cover * opacity)
    return np.where(cover >= 0.25, 255, 0).astype(np.uint8)


def ruler(rng: np.random.Generator, rgb: Plane, wanted: bool | None) -> None:
    """Lay the tick marks of a ruler along the bottom or the top, in place; by chance if None."""
    _, height, width = rgb.shape
    unit = min(height, width) / 450
    present = float(rng.random()) < 0.15
    step, offset = _between(rng, 11, 26) * unit, _between(rng, 0, 20) * unit
    tick, at_top = _between(rng, 9, 16) * unit, float(rng.random()) < 0.5
    if not (present if wanted is None else wanted):
        return
    strokes: list[Stroke] = []
    for i in range(int((width - offset) / step) + 1):
        x, reach = offset + i * step, tick * (2 if i % 10 == 0 else 1.5 if i % 5 == 0 else 1)
        y0, y1 = (-2.0, reach) if at_top else (height + 2.0, height - reach)
        strokes.append(([(x, y0), (x, y1)], max(1.6 * unit, 1.0)))
    rgb += (26 - rgb) * (stroke_layer((width, height), strokes) * 0.85)


def corners(rng: np.random.Generator, rgb: Plane, wanted: bool | None) -> None:
    """Let the light fall off, and darken the corners outside a round field, in place.

    Args:
        rng: the field's random numbers.
        rgb: float32 [3, H, W], 0..255.
        wanted: whether the field is round; None leaves it to chance.
    """
    _, height, width = rgb.shape
    present = float(rng.random()) < 0.25
    side = max(height, width)
    x = (np.arange(width, dtype=np.float32) - width * _between(rng, 0.47, 0.53)) / side
    y = (np.arange(height, dtype=np.float32) - height * _between(rng, 0.47, 0.53)) / side
    square = x[None, :] * x[None, :] + y[:, None] * y[:, None]
    radius, blur = _between(rng, 0.46, 0.54), _between(rng, 0.01, 0.05)
    light: Plane = 1 - square * _between(rng, 0, 0.6)
    if present if wanted is None else wanted:
        edge = np.clip((radius - np.sqrt(square)) / blur + 0.5, 0, 1)
        light *= edge * edge * (3 - 2 * edge) * 0.94 + 0.06
    rgb *= light


def expose(rng: np.random.Generator, rgb: Plane) -> Bytes:
    """Take the picture: exposure, white balance, focus, noise.

    Args:
        rng: the camera's random numbers.
        rgb: float32 [3, H, W], 0..255.

    Returns:
        uint8 [H, W, 3].
    """
    _, height, width = rgb.shape
    gain = _between(rng, 0.86, 1.1)
    for plane in rgb:
        plane *= gain * _between(rng, 0.95, 1.05)
    softness = max(_between(rng, -1, 1.1), 0) * min(height, width) / 450
    picture = as_bytes(rgb)
    if softness > 0.2:
        blurred = Image.fromarray(picture).filter(ImageFilter.BoxBlur(softness))
        picture = np.asarray(blurred)
    # Two bytes of each 16-bit draw add up to triangular noise.
    pairs = rng.integers(0, 256, (2, height, width), np.uint8).astype(np.int16)
    noise = (pairs[0] + pairs[1] - 255) * int(_between(rng, 1, 10)) // 256
    noisy = picture.astype(np.int16) + noise[:, :, None]
    exposed: Bytes = np.clip(noisy, 0, 255).astype(np.uint8)
    return exposed
