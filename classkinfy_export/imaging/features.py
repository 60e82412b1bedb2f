"""What a lesion looks like: shape, colours and their variation, in numbers with units.

The mask and the colours are exact; sums of their squares are not, so features agree between
runtimes to a few parts in a million.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from classkinfy_export.imaging import colour
from classkinfy_export.imaging.clusters import three_means
from classkinfy_export.imaging.lesion import STEPS, Lesion, rim
from classkinfy_export.imaging.region import eroded

_TINY = 1e-6
_LEAST = 1e-12
_SPLIT = 128.0


def describe(rgb: Tensor, lab: Tensor, lesion: Lesion) -> Tensor:
    """Measure ``contract.SCREEN_FEATURES``.

    Args:
        rgb: float32 [3, n, h, w], integers 0..255.
        lab: the same in Lab, integers, ``STEPS`` a unit.
        lesion: where it is.

    Returns:
        float32 [n, features].
    """
    n = lab.shape[1]
    groups = (*_shape(lab, lesion), *_colours(rgb, lab, lesion), *_clusters(lab, lesion))
    return torch.cat([group.reshape(-1, n) for group in groups]).t()


def _sum(values: Tensor) -> Tensor:
    """Shape [..., n, h, w] to [..., n, 1, 1]."""
    return values.sum(dim=(-2, -1), keepdim=True)


def _mean(values: Tensor, over: Tensor) -> Tensor:
    return _sum(values * over) / torch.clamp(_sum(over), min=1.0)


def _root(values: Tensor) -> Tensor:
    return torch.sqrt(torch.clamp(values, min=0.0) + _TINY)


def _shape(lab: Tensor, lesion: Lesion) -> list[Tensor]:
    mask, distance = lesion.mask, lesion.distance
    height, width = mask.shape[1:]
    pixels = _sum(mask)
    area = torch.clamp(pixels, min=1.0)
    border = _sum(mask - eroded(mask, 1))
    # Offsets from the centroid, in half heights.
    half = 2.0 / height
    down, across, moments = _moments(mask)
    dy, dx = down * half, across * half
    yy, xx, xy = (moment * (half * half) for moment in moments)
    # The moments along the principal axes are (xx + yy ± root) / 2.
    root = torch.sqrt(torch.clamp((xx - yy) * (xx - yy) + 4.0 * xy * xy, min=_LEAST))
    eccentricity = torch.sqrt(torch.clamp(2.0 * root / (xx + yy + root), max=1.0))
    # The longer axis has half the angle of (xx - yy, 2 xy). Of its cosine and sine the larger is
    # taken first: of a number near 1 the other would keep few digits.
    double = torch.clamp((xx - yy) / root, -1.0, 1.0)
    larger = torch.sqrt((1.0 + torch.abs(double)) * 0.5)
    smaller = torch.abs(xy) / (root * larger)
    cosine = torch.where(double < 0.0, smaller, larger)
    sine = torch.where(double < 0.0, larger, smaller)
    sine = torch.where(xy < 0.0, -sine, sine)
    major, minor = dx * cosine + dy * sine, dy * cosine - dx * sine
    contrast = _mean(distance, mask)
    weight = torch.clamp(contrast, min=1.0)
    oy, ox = _mean(dy * distance, mask) / weight, _mean(dx * distance, mask) / weight
    steps = torch.abs(lab[0][:, :, 1:] - lab[0][:, :, :-1]) * mask[:, :, 1:]
    edge = rim(height, width)
    return [
        pixels * (1.0 / (height * width)),
        border * border / (area * (4.0 * math.pi)),
        torch.abs(_skewness(major, mask)),
        torch.abs(_skewness(minor, mask)),
        _root(oy * oy + ox * ox) / _root(area) * (height / 2.0),
        eccentricity,
        _root(xx),
        _root(yy),
        _sum(mask * edge) / edge.sum(),
        _sum(steps) / area * (1.0 / STEPS),
        lesion.threshold * (1.0 / STEPS),
        contrast * (1.0 / STEPS),
    ]


def _moments(mask: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Return offsets from the centroid and second central moments, in pixels.

    Their sums are exact up to some 2**16 pixels, and rounded once: a nearly round lesion's axes
    hang on small differences between them.

    Args:
        mask: float32 [n, h, w], 0 or 1.

    Returns:
        offsets downwards, float32 [n, h, 1], and across, float32 [n, 1, w]; and the means of their
        squares and of their product, float32 [n, 1, 1]: yy, xx, xy.
    """
    height, width = mask.shape[1:]
    rows = torch.arange(height, dtype=torch.float32)[:, None]
    columns = torch.arange(width, dtype=torch.float32)[None, :]
    by_row, by_column = mask.sum(dim=2, keepdim=True), mask.sum(dim=1, keepdim=True)
    area = torch.clamp(_sum(by_row), min=1.0)
    # From whole numbers near the centroid, so that what is summed is whole.
    middle = torch.floor(_dot(by_row, rows) / area + 0.5)
    centre = torch.floor(_dot(by_column, columns) / area + 0.5)
    y, x = rows - middle, columns - centre
    dy, dx = _dot(by_row, y) / area, _dot(by_column, x) / area
    yy = _dot(by_row, y * y) / area - dy * dy
    xx = _dot(by_column, x * x) / area - dx * dx
    # A row's sum of offsets is whole as well.
    xy = _dot((mask * x).sum(dim=2, keepdim=True), y) / area - dy * dx
    return y - dy, x - dx, (yy, xx, xy)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Sum products of whole numbers, rounded once: the same in any order.

    Args:
        left: float32 [n, h, w], whole.
        right: float32, of a shape that broadcasts to it, whole.
    """
    high = torch.floor(right * (1.0 / _SPLIT))
    low = right - high * _SPLIT
    return _sum(left * high) * _SPLIT + _sum(left * low)


def _skewness(values: Tensor, mask: Tensor) -> Tensor:
    square = values * values
    variance = _mean(square, mask) + _TINY
    return _mean(square * values, mask) / (variance * torch.sqrt(variance))


def _colours(rgb: Tensor, lab: Tensor, lesion: Lesion) -> list[Tensor]:
    mask = lesion.mask
    inner = eroded(mask, 2)
    units, skin = lab * (1.0 / STEPS), lesion.skin * (1.0 / STEPS)
    relative = units - skin
    hue, saturation, value = colour.hsv(rgb)
    # Red, where hue begins and ends, is what skin and lesions are.
    levels = torch.cat((units, torch.stack((torch.minimum(hue, 1.0 - hue), saturation, value))))
    means = _mean(levels, mask)
    offsets = levels - means
    deviations = _root(_mean(offsets * offsets, mask))
    light, yellow = units[0], units[2]
    telling = torch.stack(
        (
            light < 25.0,  # black
            (light >= 25.0) & (light < 42.0) & (yellow > 6.0),  # dark brown
            (light >= 42.0) & (relative[0] < -8.0) & (yellow > 10.0),  # light brown
            (relative[1] > 8.0) & (light > 30.0),  # red
            (yellow < 4.0) & (light >= 20.0) & (light < 65.0),  # blue-gray
            relative[0] > 5.0,  # white
            (relative[1] > 4.0) & (relative[2] < -8.0),  # purple
        )
    ).to(torch.float32)
    return [
        means[:3],
        skin,
        deviations[:3],
        _mean(relative, inner),
        _mean(relative, mask - inner),
        means[3:],
        deviations[3:],
        _mean(telling, mask),
    ]


def _clusters(lab: Tensor, lesion: Lesion) -> list[Tensor]:
    n = lab.shape[1]
    centres, shares = three_means(lab.reshape(3, n, -1), lesion.mask.reshape(n, -1))
    from_skin = (centres - lesion.skin[None, :, :, 0, 0]) * (1.0 / STEPS)
    return [from_skin, shares]
