"""Write what Kotlin's tests compare with: the toolkit's own answers on the same bytes.

Usage: python android_demo/jvm/vectors.py FOLDER
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import bundle_vectors
import numpy as np
import numpy.typing as npt
import tiny_model
import torch
from PIL import Image

from classkinfy_export import frame, layouts, resampling
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Capture, Layout
from classkinfy_export.data import synthetic
from classkinfy_export.decision import decide
from classkinfy_export.imaging import layout
from classkinfy_export.runtimes.session import Session

Pixels = npt.NDArray[np.uint8]
_ORIENTATION = 0x0112
_RNG = np.random.default_rng(0)


def write(folder: Path) -> None:
    """Write every vector into a folder that is not there yet: a JSON list for each kind."""
    folder.mkdir(parents=True)
    for kind in ("frames", "frames_yuv", "orientations", "bundles"):
        (folder / kind).mkdir()
    _dump(folder / "taps.json", _taps())
    _dump(folder / "frames.json", _frames(folder / "frames"))
    _dump(folder / "frames_yuv.json", _frames_yuv(folder / "frames_yuv"))
    _dump(folder / "orientations.json", _orientations(folder / "orientations"))
    _dump(folder / "statistics.json", _statistics())
    _dump(folder / "decisions.json", _decisions())
    with tempfile.TemporaryDirectory() as keys:
        vectors = bundle_vectors.BundleVectors(folder / "bundles", Path(keys))
        _dump(folder / "bundles.json", vectors.write())
    _dump(folder / "answers.json", _answers(Bundle.open(folder / "bundles" / "whole")))


def _taps() -> Iterator[dict[str, Any]]:
    sizes = [(1, 1), (1, 9), (9, 1), (2, 3), (3, 2), (600, 224), (450, 300), (224, 600), (5, 5)]
    sizes += [(8192, 7), (7, 8192), (4032, 600)]
    sizes += [(int(a), int(b)) for a, b in _RNG.integers(1, 200, (60, 2))]
    for inside, outside in sizes:
        first, weights = resampling.taps(inside, outside)
        yield {
            "in": inside,
            "out": outside,
            "first": first.tolist(),
            "weights": weights.tolist(),
        }


def _frames(folder: Path) -> Iterator[dict[str, Any]]:
    small, fits = Capture(height=48, width=64), ("crop", "pad")
    sizes = [(48, 64), (90, 120), (33, 44), (47, 64), (48, 63), (200, 40), (40, 200), (1, 1)]
    sizes += [(3, 4), (2, 500), (500, 2), (450, 600), (451, 601)]
    images = {f"noise_{h}x{w}": _noise(h, w) for h, w in sizes}
    for seed, dx in enumerate(("mel", "nv", "bcc")):
        images[f"lesion_{dx}"] = synthetic.lesion(dx, seed, height=225, width=300).image
    captures: list[Capture] = [small, Capture(height=50, width=50)]
    lay: tuple[Layout, ...] = ("rgba", "nv21")
    captures += [Capture(height=48, width=64, layout=name) for name in lay]
    for name, image in images.items():
        (folder / f"{name}.rgb").write_bytes(image.tobytes())
        for capture in captures:
            for fit in fits:
                yield _frame(folder, name, image, capture, fit)
    whole = Capture(height=450, width=600)
    for layout_name in ("rgb", "nv21"):
        capture = whole.model_copy(update={"layout": layout_name})
        yield _frame(folder, "noise_451x601", images["noise_451x601"], capture, "crop")
    # Each level of each channel beside extremes of the others, so that colour clips both ways; in
    # blocks as large as NV21's, whose mean would else be paler.
    levels = np.array([0, 1, 127, 128, 254, 255], np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, np.arange(256), indexing="ij"), axis=-1)
    colours = grid.reshape(96, 96, 3).astype(np.uint8)
    colours = np.concatenate([colours, colours[..., ::-1], np.roll(colours, 1, -1)], axis=1)
    colours = colours.repeat(2, axis=0).repeat(2, axis=1)
    (folder / "colours.rgb").write_bytes(colours.tobytes())
    capture = Capture(height=192, width=576, layout="nv21")
    yield _frame(folder, "colours", colours, capture, "crop")


def _frame(folder: Path, name: str, image: Pixels, capture: Capture, fit: str) -> dict[str, Any]:
    chosen: Literal["crop", "pad"] = "pad" if fit == "pad" else "crop"
    framed = f"{name}_{capture.height}x{capture.width}_{capture.layout}_{fit}.framed"
    (folder / framed).write_bytes(frame.frame(image, capture, chosen).tobytes())
    return {
        "pixels": f"frames/{name}.rgb",
        "height": image.shape[0],
        "width": image.shape[1],
        "capture": capture.model_dump(),
        "fit": fit,
        "framed": f"frames/{framed}",
    }


def _frames_yuv(folder: Path) -> Iterator[dict[str, Any]]:
    """Camera frames: planes with strides, what pads them being noise."""
    number = 0
    for height, width, padding in ((6, 8, 0), (6, 8, 8), (48, 64, 16), (120, 160, 5)):
        rgb = _noise(height, width)
        if height == 120:
            rgb = synthetic.lesion("mel", 7, height=height, width=width).image
        nv21 = layouts.encode(rgb[None], "nv21")[0]
        if height == 48:
            nv21 = _RNG.integers(0, 256, nv21.shape, np.uint8)  # colours that clip
        luma, pairs = nv21[:height], nv21[height:].reshape(height // 2, width // 2, 2)
        red, blue = pairs[..., 0], pairs[..., 1]
        for apart in (1, 2):
            y_stride = width + padding
            stride = width // 2 * apart + padding
            lines = {"y": _strided(luma, y_stride, 1)}
            if apart == 2:  # one buffer, in which V and U take turns, as most cameras give it
                woven = _strided(pairs.reshape(height // 2, width), stride, 1)
                lines |= {"v": woven[:-1], "u": woven[1:]}
            else:
                lines |= {"v": _strided(red, stride, 1), "u": _strided(blue, stride, 1)}
            for plane, data in lines.items():
                (folder / f"{number}.{plane}").write_bytes(data)
            for turns in range(4):
                upright = _upright(luma, red, blue, turns)
                encoded = np.concatenate([part.reshape(-1) for part in upright])
                name = f"{number}_{90 * turns}"
                (folder / f"{name}.nv21").write_bytes(encoded.tobytes())
                (folder / f"{name}.rgb").write_bytes(_rgb(*upright).tobytes())
                yield {
                    "name": f"frames_yuv/{number}",
                    "height": height,
                    "width": width,
                    "y_stride": y_stride,
                    "stride": stride,
                    "apart": apart,
                    "rotation": 90 * turns,
                    "nv21": f"frames_yuv/{name}.nv21",
                    "rgb": f"frames_yuv/{name}.rgb",
                }
            number += 1


def _upright(luma: Pixels, red: Pixels, blue: Pixels, turns: int) -> tuple[Pixels, Pixels]:
    """Turn planes clockwise by quarters, and weave the colour's."""
    pairs = np.stack([np.rot90(red, -turns), np.rot90(blue, -turns)], axis=-1)
    return np.rot90(luma, -turns), pairs


def _rgb(luma: Pixels, pairs: Pixels) -> Pixels:
    """What the graph makes of NV21."""
    height, width = luma.shape
    packed = np.concatenate([luma, pairs.reshape(height // 2, width)])[None]
    planes = layout.from_nv21(torch.from_numpy(np.ascontiguousarray(packed)), torch.uint8)
    return planes[:, 0].permute(1, 2, 0).numpy().astype(np.uint8)


def _strided(plane: Pixels, row_stride: int, pixel_stride: int) -> bytes:
    """Lay rows out with noise after each but the last, which ends with its last pixel."""
    rows, columns = plane.shape
    lines = _RNG.integers(0, 256, (rows, row_stride), np.uint8)
    lines[:, : columns * pixel_stride : pixel_stride] = plane
    return lines.tobytes()[: (rows - 1) * row_stride + (columns - 1) * pixel_stride + 1]


def _orientations(folder: Path) -> Iterator[dict[str, Any]]:
    """Encoded photos with each tag, what Pillow says of it, and the upright pixels."""
    image = Image.fromarray(_noise(11, 17))
    for kind in ("JPEG", "PNG"):
        for tag in range(10):  # 0 and 9 are none that EXIF has
            exif = Image.Exif()
            exif[_ORIENTATION] = tag
            exif[0x010F] = "a maker before it"
            yield _orientation(folder, image, kind, f"{kind}_{tag}", exif=exif.tobytes())
        yield _orientation(folder, image, kind, f"{kind}_none")
    little = Image.Exif()
    little.endian = "<"
    little[_ORIENTATION] = 6
    yield _orientation(folder, image, "JPEG", "JPEG_little", exif=little.tobytes())
    big = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0\0\0\0\0"
    yield _orientation(folder, image, "JPEG", "JPEG_big", exif=big)
    yield _orientation(folder, image, "JPEG", "JPEG_comment", exif=big, comment=b"x" * 999)


def _orientation(
    folder: Path, image: Image.Image, kind: str, name: str, **options: object
) -> dict[str, Any]:
    file = io.BytesIO()
    image.save(file, kind, **options)
    data = file.getvalue()
    with Image.open(io.BytesIO(data)) as stored:
        noted = int(stored.getexif().get(_ORIENTATION, 1))
        sideways = np.asarray(stored.convert("RGB"))
    upright = frame.decode(data)
    for suffix, content in (("photo", data), ("stored", sideways), ("upright", upright)):
        raw = content if isinstance(content, bytes) else content.tobytes()
        (folder / f"{name}.{suffix}").write_bytes(raw)
    return {
        "name": f"orientations/{name}",
        "orientation": noted if 1 <= noted <= 8 else 1,
        "stored": [sideways.shape[1], sideways.shape[0]],
        "upright": [upright.shape[1], upright.shape[0]],
    }


def _statistics() -> Iterator[dict[str, Any]]:
    samples = [[5.0], [1.0, 2.0], [3.0, 1.0, 2.0], [1.0] * 9, list(range(101))]
    samples += [_RNG.lognormal(1, 2, n).tolist() for n in (4, 20, 50, 333)]
    percents = [0, 1, 10, 33.3, 50, 66.7, 90, 99, 100]
    for values in samples:
        given = np.percentile(np.array(values, np.float64), percents).tolist()
        yield {"values": values, "percents": percents, "percentiles": given}


def _decisions() -> Iterator[dict[str, Any]]:
    """Quality at and beside each limit, and probabilities with ties."""
    rules, names = tiny_model.RULES, ("hair_coverage", "sharpness", "dark_share", "bright_share")
    good = np.array([0.0, 100.0, 0.0, 0.0], np.float32)
    qualities = [good, np.array([1, 0, 1, 1], np.float32)]
    for rule in rules:
        limit = np.float32(rule.above if rule.above is not None else rule.below)
        for value in (
            np.nextafter(limit, np.float32(-9)),
            limit,
            np.nextafter(limit, np.float32(9)),
        ):
            quality = good.copy()
            quality[names.index(rule.measure)] = value
            qualities.append(quality)
    tie = np.array([0.1, 0.3, 0.1, 0.3, 0.1, 0.05, 0.05], np.float32)
    drawn = [_RNG.dirichlet(np.ones(7)).astype(np.float32) for _ in range(3)]
    for quality in qualities:
        for probabilities in (tie, np.full(7, 1 / 7, np.float32), *drawn):
            decision = decide(quality[None], probabilities[None], rules)
            yield {
                "quality": [float(value) for value in quality],
                "probabilities": [float(value) for value in probabilities],
                "accepted": decision.accepted,
                "reasons": decision.reasons,
                "diagnosis": decision.diagnosis,
                "confidence": decision.confidence,
            }


def _answers(bundle: Bundle) -> Iterator[dict[str, Any]]:
    """The whole answer on each golden colour, without its times."""
    session = Session(tiny_model.TinyModel(bundle))
    for name, pixel in tiny_model.PIXELS.items():
        image = np.broadcast_to(np.array(pixel, np.uint8), (48, 64, 3)).copy()
        answer = session.predict(image).to_json()
        stages = list(answer.pop("timings_ms"))
        yield {"name": name, "pixel": list(pixel), "answer": answer, "stages": stages}


def _noise(height: int, width: int) -> Pixels:
    return _RNG.integers(0, 256, (height, width, 3), np.uint8)


def _dump(path: Path, entries: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(list(entries)), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
