"""What half precision cannot hold: found in LiteRT files, and gone in sums of fewer terms."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_bundle import CAPTURE, SIZE, TAXONOMY, make_bundle
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from classkinfy_export import contract
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.manifest import ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.app import app
from classkinfy_export.errors import BundleError
from classkinfy_export.formats.litert import conversion
from classkinfy_export.parity import half_range
from classkinfy_export.stages.pooling import plane_mean

Pool = Callable[[Tensor], Tensor]
HEIGHT, WIDTH = CAPTURE.height, CAPTURE.width


class Prepare(nn.Module):
    """Inverts, so that ``clean`` is not ``image``; and gives what half precision cannot hold."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        clean = 255.0 - image.float()
        return {"clean": clean.to(torch.uint8), "quality": clean[:, :2, :2, 0].reshape(1, 4) * 1e3}


class Classify(nn.Module):
    """Adds in every way that is looked for: a window, a window at the border, a plane."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, clean: Tensor) -> dict[str, Tensor]:
        planes = clean.float().permute(0, 3, 1, 2) - 32.0
        windows = nn.functional.avg_pool2d(planes, (3, 4), stride=(2, 3))
        border = nn.functional.avg_pool2d(planes, 3, 1, padding=1, count_include_pad=False)
        row = torch.sum(planes[:, :1, 0], 2) * 1e-3
        found = (self.pool(planes)[:, :, 0, 0], windows[:, :, 0, 0], border[:, 0, 0, :1] + row)
        return {"probabilities": torch.softmax(torch.cat(found, 1), 1)}


def made(folder: Path, pool: Pool) -> Bundle:
    """A bundle of two stages in LiteRT."""
    specs = (
        contract.prepare_spec(CAPTURE, SIZE),
        contract.classify_spec(SIZE, TAXONOMY, None),
    )
    manifest = make_bundle(folder).manifest
    models = []
    for module, spec in zip((Prepare(), Classify(pool)), specs, strict=True):
        path, entries = f"models/{spec.name}.tflite", {spec.name: spec.name}
        (folder / path).write_bytes(conversion.convert(module, spec))
        models.append(ModelFile(path=path, format="litert", precision="fp32", entries=entries))
    update: dict[str, Any] = {"stages": specs, "models": tuple(models), "pipeline": None}
    writer.seal(folder, manifest.model_copy(update={**update, "files": writer.pin(folder)}))
    return Bundle.open(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos of noise, each with a spot that no window's place is at."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    for name in ("a", "b"):
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        pixels[1:4, 1:5] = 0
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def in_one_step(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("half") / "one"
    return made(folder, lambda planes: planes.mean((2, 3), keepdim=True))


@pytest.fixture(scope="module")
def in_two_steps(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return made(tmp_path_factory.mktemp("half") / "two", plane_mean)


@pytest.fixture
def inspect() -> Iterator[Callable[..., Result]]:
    """Run ``classkinfy inspect``, and close the console that showed its progress."""
    yield lambda *arguments: CliRunner().invoke(app, ["inspect", *map(str, arguments)])
    terminal._stderr().file.close()
    terminal._stderr.cache_clear()


def planes(photos: Path) -> np.ndarray:
    """What the classifier adds up, float64 [photos, h, w, 3]."""
    images = [np.asarray(Image.open(path), np.float64) for path in sorted(photos.iterdir())]
    return 255.0 - np.stack(images) - 32.0


def reached(terms: np.ndarray) -> float:
    """The largest partial sum in any order: all that is positive first, or all that is negative."""
    axes = tuple(range(1, terms.ndim))
    positive = np.where(terms > 0, terms, 0.0).sum(axis=axes)
    negative = np.where(terms < 0, terms, 0.0).sum(axis=axes)
    return float(max(positive.max(), -negative.min()))


def windows(values: np.ndarray, size: tuple[int, int], step: tuple[int, int]) -> np.ndarray:
    """Every window of [n, h, w, 3], as a row of its terms."""
    n, height, width, channels = values.shape
    return np.stack(
        [
            values[i, y : y + size[0], x : x + size[1], c].ravel()
            for i in range(n)
            for y in range(0, height - size[0] + 1, step[0])
            for x in range(0, width - size[1] + 1, step[1])
            for c in range(channels)
        ]
    )


def test_the_largest_partial_sum_is_numpys_of_every_operator_that_adds(
    in_one_step: Bundle, photos: Path
) -> None:
    found = half_range.check(in_one_step, sorted(photos.iterdir()))
    assert (found.images, found.networks) == (2, ("classify",))
    sums = {(r.operator, r.terms): r.largest for r in found.rows if r.terms > 1}
    values = planes(photos)
    whole = values.transpose(0, 3, 1, 2).reshape(-1, HEIGHT * WIDTH)
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    assert sums == {
        ("MEAN", HEIGHT * WIDTH): reached(whole),
        ("AVERAGE_POOL_2D", 12): reached(windows(values, (3, 4), (2, 3))),
        ("AVERAGE_POOL_2D", 9): reached(windows(padded, (3, 3), (1, 1))),
        ("SUM", WIDTH): reached(values[:, 0, :, 0]),
    }
    signed = np.abs(whole.sum(axis=1)).max()
    assert reached(whole) > signed, "what cancels in the sum counts"
    assert reached(whole) < np.abs(whole).sum(axis=1).max(), "what no order reaches does not"
    value = next(r for r in found.rows if r.stage == "classify" and r.terms == 1)
    assert value.largest == np.abs(values[:, 0, :, 0].sum(axis=1)).max()
    assert value.headroom == 65504.0 / value.largest


def test_a_plane_in_one_step_is_unsafe_and_in_two_is_safe(
    in_one_step: Bundle, in_two_steps: Bundle, photos: Path
) -> None:
    paths = sorted(photos.iterdir())
    unsafe = half_range.check(in_one_step, paths).unsafe()
    assert [(r.operator, r.terms) for r in unsafe] == [("MEAN", HEIGHT * WIDTH)]
    assert unsafe[0].headroom < 1.0, "overflows on these very photos"
    found = half_range.check(in_two_steps, paths)
    assert found.unsafe() == []
    steps = [r for r in found.rows if r.operator == "MEAN"]
    assert [r.terms for r in steps] == [HEIGHT, WIDTH]
    columns = planes(photos).transpose(0, 2, 3, 1).reshape(-1, HEIGHT)
    assert steps[0].largest == reached(columns)
    averages = planes(photos).mean(axis=1).transpose(0, 2, 1).reshape(-1, WIDTH)
    assert steps[1].largest == pytest.approx(reached(averages), rel=1e-6)


def test_inspect_tells_and_fails_where_a_network_comes_too_near(
    in_one_step: Bundle, in_two_steps: Bundle, photos: Path, inspect: Callable[..., Result]
) -> None:
    ran = inspect(in_one_step.path, "--half-range", photos, "--json")
    assert ran.exit_code == 1
    document = json.loads(ran.stdout)
    assert document["passed"] is False
    assert document["manifest_sha256"] == in_one_step.sha256
    ran = inspect(in_one_step.path, "--half-range", photos)
    assert ran.exit_code == 1
    assert "TOO NEAR" in ran.stdout
    ran = inspect(in_two_steps.path, "--half-range", photos, "--limit", 1)
    assert ran.exit_code == 0
    assert "TOO NEAR" not in ran.stdout
    assert "on 1 photos" in ran.stdout
    assert "for the CPU" in ran.stdout, "prepare is no network"


def test_a_bundle_without_litert_says_what_to_export(tmp_path: Path, photos: Path) -> None:
    bundle = make_bundle(tmp_path / "onnx")
    with pytest.raises(BundleError, match="no stage prepare in LiteRT, fp32: export with 'litert'"):
        half_range.check(bundle, sorted(photos.iterdir()))
