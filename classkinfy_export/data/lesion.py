"""Paint skin and one lesion of each of the seven HAM10000 classes, by their dermoscopic look.

Random numbers are raw ``random()`` and ``integers()`` draws (``normal`` and ``uniform`` go through
libm, or may be fused by a compiler); pixels see only operations that IEEE 754 rounds in one way (no
exp, no sin, no sum over pixels); resampling is Pillow's, on bytes. So a seed gives the same bytes
wherever the generator runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

# Always float32; NumPy's stubs lose that when a Python float joins in.
Plane: TypeAlias = npt.NDArray[np.floating[Any]]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]
Point: TypeAlias = tuple[float, float]
Stroke: TypeAlias = tuple[list[Point], float]

# Fitzpatrick I to VI under a dermoscope, and how often each is drawn.
_SKIN: tuple[Colour, ...] = (
    (236, 202, 196),
    (226, 184, 172),
    (212, 164, 144),
    (184, 134, 108),
    (140, 96, 76),
    (94, 64, 52),
)
_SKIN_SHARE = (0.22, 0.28, 0.22, 0.13, 0.09, 0.06)

_DIRECTIONS = 4096
"""Entries of the table of radii around a lesion."""


@dataclass(frozen=True, slots=True)
class Style:
    """What varies within a class: ranges are (low, high), lengths are shares of the short side."""

    paint: Callable[[Canvas], None]
    radius: tuple[float, float]
    irregularity: tuple[float, float]
    softness: tuple[float, float]
    roundness: tuple[float, float] = (0.65, 1.0)


class Canvas:
    """Skin with one lesion's outline, to be painted by a class.

    Painting happens in the box around the lesion, h by w, not on the whole picture.

    Attributes:
        picture: float32 [3, H, W], 0..255, the whole of it.
        mask: uint8 [H, W], 255 on the lesion, 0 elsewhere.
        unit: pixels per pixel of a 450-row image.
        radius: mean distance from the lesion's middle to its border, pixels.
        distance: float32 [h, w], 0 in the lesion's middle, about 1 on its border.
        depth: float32 [h, w], 1 in the middle, 0 on the border with its fraying, then negative.
        inside: float32 [h, w], 0..1, how much of the lesion's colour shows.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int, style: Style) -> None:
        self._rng = rng
        self.unit = min(height, width) / 450
        self._size = (width, height)
        shares = np.cumsum(_SKIN_SHARE)
        base = _SKIN[min(int(np.searchsorted(shares, rng.random())), len(_SKIN) - 1)]
        skin = np.array(base, np.float32) + (rng.random(3, np.float32) - 0.5) * 16
        self._tone = np.sqrt(skin / np.array(_SKIN[1], np.float32))[:, None, None]
        light = self.noise(90) * self.between(2, 9) + self.noise(4) * self.between(2, 6)
        light += self.noise(26) * self.between(2, 6)
        blush = self.noise(120) * self.between(2, 10) + self.noise(18) * self.between(1, 6)
        self.picture: Plane = np.stack((light, light - blush, light - blush))
        self.picture += skin[:, None, None]
        self._outline(style)

    def _outline(self, style: Style) -> None:
        width, height = self._size
        self._irregularity = self.between(*style.irregularity)
        self.radius = self.between(*style.radius) * min(width, height)
        self._aspect = self.between(*style.roundness)
        self._axis = self.direction()
        self._middle = (width * self.between(0.42, 0.58), height * self.between(0.42, 0.58))
        self._harmonics = [
            (self.between(-1, 1) * a, self.between(-1, 1) * a)
            for a in (0.0, 0.46, 0.34, 0.24, 0.16, 0.11, 0.08, 0.06)
        ]
        self._radii = self._radius_table()
        x = np.arange(width, dtype=np.float32)[None, :] - self._middle[0]
        y = np.arange(height, dtype=np.float32)[:, None] - self._middle[1]
        u = x * self._axis[0] + y * self._axis[1]
        v = (y * self._axis[0] - x * self._axis[1]) / self._aspect
        distance = np.sqrt(u * u + v * v) / self._radius_along(u, v)
        frayed = self.noise(24) * 0.16 + self.noise(8) * 0.1
        depth: Plane = 1 - distance + frayed * (self._irregularity + 0.1)
        self.mask: Bytes = np.where(depth > 0, 255, 0).astype(np.uint8)
        near = distance < 1.5
        ys, xs = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
        box = slice(int(ys[0]), int(ys[-1]) + 1), slice(int(xs[0]), int(xs[-1]) + 1)
        self.distance: Plane = distance[box]
        self.depth: Plane = depth[box]
        self.inside = _smooth(self.depth / self.between(*style.softness) + 0.5)
        self._rgb = self.picture[:, *box]
        self._size = (len(xs), len(ys))
        self._middle = (self._middle[0] - int(xs[0]), self._middle[1] - int(ys[0]))

    def _radius_along(self, u: Plane, v: Plane) -> Plane:
        """Look the radius up, pixels, by direction: u and v need not be a unit vector.

        The key is the angle on a diamond, 0..4, which unlike atan2 is arithmetic alone.
        """
        on_diamond = u / (np.abs(u) + np.abs(v) + 1e-6)
        key = np.where(v >= 0, 1 - on_diamond, 3 + on_diamond) * (_DIRECTIONS / 4)
        radius: Plane = self._radii[key.astype(np.int32) % _DIRECTIONS]
        return radius

    def _radius_table(self) -> Plane:
        key = (np.arange(_DIRECTIONS, dtype=np.float32) + 0.5) * (4 / _DIRECTIONS)
        x = np.where(key < 2, 1 - key, key - 3)
        y = np.where(key < 2, 1 - np.abs(x), np.abs(x) - 1)
        length = np.sqrt(x * x + y * y)
        cosine, sine = x / length, y / length
        total, c, s = np.ones_like(cosine), cosine, sine
        for a, b in self._harmonics:
            total += (c * a + s * b) * self._irregularity
            c, s = c * cosine - s * sine, s * cosine + c * sine
        radii: Plane = np.minimum(np.maximum(total, 0.55), 1.7) * self.radius
        return radii

    def between(self, low: float, high: float) -> float:
        """Draw a number, low..high."""
        return low + (high - low) * float(self._rng.random())

    def chance(self, probability: float) -> bool:
        """Draw a yes with this probability."""
        return float(self._rng.random()) < probability

    def pick(self, *colours: Colour) -> Colour:
        """Draw one of the colours."""
        return colours[int(self._rng.integers(len(colours)))]

    def direction(self) -> Point:
        """Draw a unit vector."""
        while True:
            x, y = self.between(-1, 1), self.between(-1, 1)
            if 0.05 < (length := math.sqrt(x * x + y * y)) <= 1:
                return x / length, y / length

    def place(self, low: float, high: float) -> Point:
        """Draw a point, pixels, at a share low..high of the way from the middle to the border."""
        c, s = self.direction()
        toward = np.array([c], np.float32), np.array([s], np.float32)
        reach = float(self._radius_along(*toward)[0])
        reach *= math.sqrt(self.between(low * low, high * high))
        u, v = c * reach, s * reach * self._aspect
        ax, ay = self._axis
        return self._middle[0] + u * ax - v * ay, self._middle[1] + u * ay + v * ax

    def noise(self, cell: float) -> Plane:
        """Draw a smooth field, float32 [h, w] in -1..1, with features of ``cell`` units."""
        width, height = self._size
        cell *= self.unit
        grid = self._rng.integers(0, 256, (int(height / cell) + 4, int(width / cell) + 4), np.uint8)
        box = (1.0, 1.0, 1.0 + width / cell, 1.0 + height / cell)
        field = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC, box)
        return np.asarray(field).astype(np.float32) * np.float32(2 / 255) - 1

    def network(self, cell: float) -> Plane:
        """Draw a honeycomb of lines, float32 [h, w]: 1 on a line, 0 in a hole, ``cell`` apart."""
        width, height = self._size
        x = np.arange(width, dtype=np.float32)[None, :] / np.float32(cell * self.unit)
        y = np.arange(height, dtype=np.float32)[:, None] / np.float32(cell * self.unit)
        ax, ay = self.direction()
        total = self.noise(3 * cell) * 0.1
        for _ in range(3):
            phase = x * ax + y * ay + self.noise(2.4 * cell) * 0.8
            phase -= np.floor(phase)
            total += np.abs(phase - 0.5)
            ax, ay = -0.5 * ax - 0.8660254 * ay, 0.8660254 * ax - 0.5 * ay
        return _smooth((total - 0.55) * 1.9)

    def dots(self, count: int, low: float, high: float, reach: float, start: float = 0) -> Plane:
        """Draw soft round spots of radius low..high units: float32 [h, w], 0..1."""
        layer = Image.new("L", self._size)
        draw = ImageDraw.Draw(layer)
        for _ in range(count):
            (x, y), r = self.place(start, reach), self.between(low, high) * self.unit
            rx, ry = r * self.between(0.75, 1.15), r * self.between(0.75, 1.15)
            draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=255)
        return _as_share(layer.filter(ImageFilter.BoxBlur(1.2 * self.unit)))

    def strokes(self, strokes: list[Stroke]) -> Plane:
        """Draw curves given in pixels: float32 [h, w], 0..1."""
        return stroke_layer(self._size, strokes)

    def outward(self, point: Point, share: float) -> Point:
        """Move a point away from the middle by a share of its distance; -1 is the middle."""
        (x, y), (mx, my) = point, self._middle
        return x + (x - mx) * share, y + (y - my) * share

    def paint(self, colour: Colour, share: Plane) -> None:
        """Lay a colour, as it looks on light skin, over the canvas: share float32 [h, w], 0..1."""
        target = np.array(colour, np.float32)[:, None, None] * self._tone
        self._rgb += (target - self._rgb) * share


def _paint_nv(c: Canvas) -> None:
    tan, brown, dark, rosy = (178, 118, 84), (138, 84, 58), (80, 50, 42), (186, 112, 94)
    base = c.pick(tan, brown, brown, dark, rosy)
    c.paint(base, c.inside * (c.noise(50) * 0.1 + c.between(0.6, 0.88)))
    middle = _smooth(c.depth * c.between(0.8, 1.5) + c.noise(40) * 0.15)
    c.paint(_darker(base, 0.66), middle * c.inside * c.between(0.2, 0.8))
    lines = c.network(c.between(8, 13)) * c.inside * (c.noise(60) * 0.25 + 0.75)
    c.paint(_darker(base, 0.58), lines * c.between(0.2, 0.6))
    if c.chance(0.4):
        c.paint(_darker(base, 0.5), c.dots(40, 1.5, 3.5, 0.9) * 0.6)


def _paint_mel(c: Canvas) -> None:
    dark, black = (62, 38, 34), (26, 19, 23)
    fine = c.noise(13) * 0.25 + c.noise(5) * 0.2
    c.paint(c.pick((122, 70, 48), (132, 76, 54), (96, 54, 42), (150, 92, 66)), c.inside * 0.95)
    c.paint(dark, c.network(c.between(11, 17)) * c.inside * c.between(0.2, 0.7))
    c.paint(dark, _patch(c.noise(70) + fine, c.between(-0.5, 0)) * c.inside * 0.9)
    c.paint(black, _patch(c.noise(80) + fine, c.between(-0.1, 0.3)) * c.inside)
    veil = _patch(c.noise(90) + fine * 0.6, c.between(-0.1, 0.3)) * _smooth(c.depth * 3)
    c.paint(c.pick((96, 104, 130), (112, 112, 128)), veil * c.between(0.4, 0.9))
    if c.chance(0.5):
        c.paint((168, 76, 72), _patch(c.noise(80) + fine, 0.1) * c.inside * 0.7)
    if c.chance(0.4):
        c.paint((206, 172, 172), _patch(c.noise(70) + fine, 0.25) * _smooth(c.depth * 3) * 0.8)
    sector, streaks = c.place(0.9, 1), list[Stroke]()
    for _ in range(int(c.between(0, 60))):
        (x0, y0), far = c.place(0.82, 0.96), c.between(0.06, 0.2)
        if abs(x0 - sector[0]) + abs(y0 - sector[1]) < 1.4 * c.radius:
            streaks.append(([(x0, y0), c.outward((x0, y0), far)], c.between(2, 4) * c.unit))
    c.paint(dark, c.strokes(streaks) * 0.7)
    c.paint(black, c.dots(int(c.between(0, 30)), 1.5, 5, 1.02, 0.4) * 0.85)


def _paint_bkl(c: Canvas) -> None:
    base = c.pick((156, 104, 62), (180, 126, 74), (114, 74, 50), (176, 114, 86), (198, 152, 96))
    c.paint(base, c.inside * c.between(0.72, 0.95))
    ridges = np.maximum(1 - np.abs(c.noise(15)) * 2.2, 0) * (c.noise(45) * 0.4 + 0.6)
    c.paint(_darker(base, 0.66), ridges * c.inside * c.between(0.2, 0.8))
    c.paint(_darker(base, 0.7), _patch(c.noise(50) + c.noise(10) * 0.3, 0) * c.inside * 0.6)
    c.paint((236, 218, 180), c.dots(int(c.between(6, 36)), 2, 5.5, 0.88) * 0.8)
    c.paint((62, 42, 30), c.dots(int(c.between(0, 16)), 2, 6, 0.85) * 0.85)
    rim = np.maximum(1 - np.abs(c.depth - 0.04) * 14, 0) * c.between(0, 0.5)
    c.paint(_darker(base, 0.7), rim)


def _paint_df(c: Canvas) -> None:
    base = c.pick((184, 130, 100), (170, 112, 84), (192, 124, 108), (160, 108, 92))
    c.paint(base, c.inside * (c.noise(40) * 0.1 + c.between(0.5, 0.85)))
    lines = c.network(c.between(8, 12)) * c.inside
    c.paint(_darker(base, 0.66), lines * c.between(0.15, 0.5))
    edge = c.noise(30) * 0.18 + c.noise(11) * 0.1
    scar = _smooth((c.between(0.34, 0.62) - c.distance + edge) * 3)
    c.paint(c.pick((238, 212, 202), (232, 196, 192), (240, 220, 214)), scar * c.between(0.55, 0.9))
    c.paint((250, 238, 232), _patch(c.noise(9), 0.2) * scar * 0.6)
    if c.chance(0.4):
        c.paint((196, 96, 96), _patch(c.noise(45), 0.1) * c.inside * 0.4)


def _paint_akiec(c: Canvas) -> None:
    red = c.pick((206, 108, 104), (196, 92, 88), (210, 126, 112), (186, 96, 84))
    c.paint(red, c.inside * (c.noise(45) * 0.2 + c.between(0.5, 0.75)))
    c.paint(_darker(red, 0.78), _patch(c.noise(16) + c.noise(7) * 0.5, 0) * c.inside * 0.6)
    c.paint((232, 180, 160), c.dots(int(c.between(0, 60)), 3, 6, 1) * c.inside * 0.6)
    if c.chance(0.45):
        brown = c.pick((142, 88, 64), (160, 104, 70))
        c.paint(brown, _patch(c.noise(55) + c.noise(12) * 0.5, 0) * c.inside * 0.75)
    flakes = c.noise(45) * 0.6 + c.noise(11) * 0.5 + c.noise(5) * 0.6
    scale = _smooth((flakes - c.between(0.25, 0.6)) * 3) * _smooth(c.depth * 4)
    c.paint(c.pick((244, 232, 220), (240, 222, 186)), scale * 0.9)
    if c.chance(0.3):
        c.paint((128, 34, 32), c.dots(int(c.between(2, 8)), 3, 9, 0.7) * 0.8)


def _paint_bcc(c: Canvas) -> None:
    base = c.pick((212, 132, 128), (220, 146, 138), (202, 120, 112), (206, 146, 150))
    c.paint(base, c.inside * c.between(0.65, 0.95))
    pearl = _patch(c.noise(50) + c.noise(14) * 0.3, -0.1) * _smooth(c.depth * 3)
    c.paint((240, 208, 210), pearl * c.between(0.3, 0.8))
    ragged = np.clip(c.noise(9) * 0.5 + c.noise(20) * 0.4 + 0.7, 0, 1)
    nests = c.dots(int(c.between(0, 18)), 5, 17, 0.95, 0.3) * ragged
    c.paint(c.pick((88, 84, 104), (104, 100, 116), (96, 74, 74)), nests * 0.9)
    c.paint((96, 84, 100), c.dots(int(c.between(0, 40)), 1.2, 2.8, 0.9) * 0.8)
    vessels = list[Stroke]()
    for _ in range(int(c.between(1, 5))):
        root = c.place(0.9, 1.05)
        _grow_vessel(c, root, c.outward(root, -1), c.between(3, 5), vessels)
    near = _smooth(c.depth * 3 + 1)
    c.paint((178, 52, 62), c.strokes(vessels) * near * c.between(0.4, 0.8))
    if c.chance(0.3):
        crust = _patch(c.noise(40) + c.noise(9) * 0.5, 0.2) * _smooth(c.depth * 2)
        c.paint((106, 38, 30), crust * 0.85)


def _paint_vasc(c: Canvas) -> None:
    base = c.pick((178, 44, 70), (196, 60, 76), (126, 52, 84), (158, 86, 116), (150, 30, 56))
    c.paint(base, c.inside * c.between(0.75, 1))
    dark = c.pick((116, 14, 44), (84, 16, 46), (58, 30, 62), (46, 14, 26))
    lacunae = c.dots(int(c.between(12, 60)), 5, 16, 0.92) * (c.noise(12) * 0.2 + 0.8)
    c.paint(dark, lacunae * c.inside * c.between(0.3, 0.9))
    septa = np.maximum(1 - np.abs(c.noise(22)) * 3, 0) * c.inside
    c.paint((214, 168, 190), septa * c.between(0, 0.6))
    if c.chance(0.3):
        c.paint((30, 14, 26), _patch(c.noise(45) + c.noise(10) * 0.3, 0.2) * c.inside * 0.85)


def _grow_vessel(
    c: Canvas, start: Point, toward: Point, thickness: float, out: list[Stroke]
) -> None:
    """Append a branching vessel: each fork is thinner, until a branch is under a unit wide."""
    step = 0.16 * c.radius
    dx, dy = toward[0] - start[0], toward[1] - start[1]
    scale = step / max(math.sqrt(dx * dx + dy * dy), 1e-6)
    dx, dy = dx * scale, dy * scale
    points = [start]
    for _ in range(int(c.between(3, 6))):
        bend = c.between(-0.7, 0.7)
        dx, dy = dx - bend * dy, dy + bend * dx
        scale = step / math.sqrt(dx * dx + dy * dy)
        dx, dy = dx * scale, dy * scale
        points.append((points[-1][0] + dx, points[-1][1] + dy))
    out.append((points, thickness * c.unit))
    if thickness > 1.6:
        x, y = points[-1]
        for side in (-0.8, 0.8):
            tip = (x + dx - side * dy, y + dy + side * dx)
            _grow_vessel(c, points[-1], tip, thickness * c.between(0.5, 0.7), out)


STYLES = {
    "akiec": Style(_paint_akiec, (0.16, 0.4), (0.2, 0.7), (0.35, 0.8)),
    "bcc": Style(_paint_bcc, (0.13, 0.36), (0.1, 0.6), (0.15, 0.4)),
    "bkl": Style(_paint_bkl, (0.14, 0.4), (0.1, 0.6), (0.05, 0.12)),
    "df": Style(_paint_df, (0.13, 0.3), (0.03, 0.2), (0.35, 0.7), (0.8, 1.0)),
    "mel": Style(_paint_mel, (0.16, 0.42), (0.3, 0.9), (0.08, 0.3), (0.6, 1.0)),
    "nv": Style(_paint_nv, (0.1, 0.38), (0.03, 0.3), (0.12, 0.5), (0.75, 1.0)),
    "vasc": Style(_paint_vasc, (0.07, 0.28), (0.03, 0.25), (0.04, 0.12), (0.75, 1.0)),
}


def _smooth(t: Plane) -> Plane:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _patch(field: Plane, level: float) -> Plane:
    return _smooth((field - level) * 1.8)


def _darker(colour: Colour, by: float) -> Colour:
    r, g, b = (int(v * by) for v in colour)
    return r, g, b


def _as_share(layer: Image.Image) -> Plane:
    """Turn bytes, mode L, into float32 [height, width], 0..1."""
    return np.asarray(layer).astype(np.float32) * np.float32(1 / 255)


def as_bytes(rgb: Plane) -> Bytes:
    """Round float32 [3, H, W], 0..255, to uint8 [H, W, 3], clipped."""
    clipped = np.clip(rgb + 0.5, 0, 255)
    return np.ascontiguousarray(clipped.astype(np.uint8).transpose(1, 2, 0))


def stroke_layer(size: tuple[int, int], strokes: list[Stroke]) -> Plane:
    """Draw antialiased curves.

    Args:
        size: width and height, pixels.
        strokes: for each curve its points, (x, y) pixels, and its thickness, pixels.

    Returns:
        float32 [height, width], 0..1: how much of each pixel is covered.
    """
    layer = Image.new("L", (size[0] * 2, size[1] * 2))
    draw = ImageDraw.Draw(layer)
    for points, thickness in strokes:
        doubled = [(2 * x, 2 * y) for x, y in points]
        draw.line(doubled, fill=255, width=max(round(2 * thickness), 1), joint="curve")
    return _as_share(layer.reduce(2))
