"""Parity as one self-contained page: what failed, where, by how much, and on which photos."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classkinfy_export.bundle.manifest import PIPELINE
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError
from classkinfy_export.frame import Pixels, frame
from classkinfy_export.parity import golden
from classkinfy_export.parity.compare import TensorParity
from classkinfy_export.parity.error_map import ErrorMap, MappedImage
from classkinfy_export.parity.report import ParityReport
from classkinfy_export.reporting import html
from classkinfy_export.reporting.drawing import Plot
from classkinfy_export.reporting.examples import thumbnail
from classkinfy_export.reporting.heatmap import columns, heatmap
from classkinfy_export.taxonomy import DISCLAIMER, PROXY_NOTICE

_PICTURES = 5
_LISTED = 50
"""Images that do not hold, under a heat-map."""


@dataclass(frozen=True)
class _Gate:
    """One cell of the matrix: a gate of a stage, in one runtime, precision and form."""

    passed: bool
    failed: int
    """Tensors that do not hold."""
    of: int


@dataclass(frozen=True)
class _Broken:
    """One image that breaks a tolerance."""

    name: str
    tensors: tuple[tuple[TensorParity, float], ...]
    """Those it breaks, with the largest difference of each on this image."""


@dataclass(frozen=True)
class _Run:
    """One runtime, precision and form."""

    runtime: str
    precision: str
    form: str
    tensors: tuple[TensorParity, ...]
    plot: Plot
    broken: tuple[int, ...]
    """Images beyond the tolerance, of each tensor."""
    images: tuple[_Broken, ...]
    """The worst that do not hold, as they stand in the heat-map."""
    images_broken: int

    @property
    def name(self) -> str:
        """As in the report's lines."""
        return f"{self.runtime} {self.precision} {self.form}"


@dataclass(frozen=True)
class _Picture:
    """An image that is among the worst."""

    name: str
    source: str | None
    """A data URI; None of a photo that is not at hand any more."""
    worst: tuple[str, ...]


def render(report: ParityReport, bundle: Bundle, images: Sequence[Path] = ()) -> str:
    """Draw the page.

    Args:
        report: of ``verify``, as it returned it: one that was read from JSON has no heat-maps.
        bundle: which was verified.
        images: the photos that it was verified on, to show the worst; none of golden vectors.

    Returns:
        HTML. The same report and photos give the same text.
    """
    # In the order of the pipeline, where that is known.
    mapped = [row for errors in report.maps for row in errors.tensors]
    gated = [row for row in report.tensors if row.tolerance is not None]
    rows = mapped + [row for row in gated if row not in mapped]
    matrix, stages = _matrix(rows)
    return html.template("parity.html").render(
        report=report,
        disclaimer=DISCLAIMER,
        proxy_notice=PROXY_NOTICE,
        stages=stages,
        matrix=matrix,
        decisions={(d.runtime, d.precision, d.form): d for d in report.decisions},
        independent=bool(report.held),
        failed=[row for row in rows if not row.passed],
        told=[row for row in report.tensors if row.tolerance is None],
        broken=_broken(report),
        runs=[_run(errors) for errors in report.maps],
        pictures=list(_pictures(report, bundle, images)),
    )


def _matrix(
    rows: Sequence[TensorParity],
) -> tuple[dict[tuple[str, str, str], dict[tuple[str, str], _Gate]], dict[str, list[str]]]:
    """Return gates by run, then by gate and stage; and the stages of each gate, in order."""
    matrix: dict[tuple[str, str, str], dict[tuple[str, str], _Gate]] = {}
    stages: dict[str, list[str]] = {"preprocessing": [], "tensors": []}
    for row in rows:
        run = matrix.setdefault((row.runtime, row.precision, row.form), {})
        before = run.get((row.gate, row.stage), _Gate(passed=True, failed=0, of=0))
        failed = before.failed + (not row.passed)
        run[row.gate, row.stage] = _Gate(failed == 0, failed, before.of + 1)
        if row.stage not in stages[row.gate]:
            stages[row.gate].append(row.stage)
    for named in stages.values():
        named.sort(key=lambda stage: stage == PIPELINE)
    return matrix, stages


def _broken(report: ParityReport) -> dict[tuple[str, str, str, str], int]:
    """Return how many images break a tensor's tolerance, by run and tensor."""
    return {
        (errors.runtime, errors.precision, errors.form, row.tensor): int(cells.sum())
        for errors in report.maps
        for row, cells in zip(errors.tensors, errors.broken, strict=True)
    }


def _run(errors: ErrorMap) -> _Run:
    broken, differences = errors.broken, errors.differences
    worst = [image for image in columns(errors)[0] if broken[:, image].any()]
    return _Run(
        runtime=errors.runtime,
        precision=errors.precision,
        form=errors.form,
        tensors=errors.tensors,
        plot=heatmap(errors),
        broken=tuple(int(n) for n in broken.sum(axis=1)),
        images=tuple(
            _Broken(
                errors.images[image].name,
                tuple(
                    (errors.tensors[row], float(differences[row, image]))
                    for row in np.flatnonzero(broken[:, image])
                ),
            )
            for image in worst[:_LISTED]
        ),
        images_broken=int(broken.any(axis=0).sum()),
    )


def _pictures(report: ParityReport, bundle: Bundle, images: Sequence[Path]) -> Iterator[_Picture]:
    """Give the images that differ most, of what is allowed, over all runs."""
    worst: dict[MappedImage, tuple[int, float]] = {}
    told: dict[MappedImage, dict[str, float]] = {}
    for errors in report.maps:
        ratios = np.nan_to_num(errors.ratios, nan=0.0, posinf=math.inf)
        for column, image in enumerate(errors.images):
            row = int(ratios[:, column].argmax())
            broken, ratio = worst.get(image, (0, 0.0))
            own = float(ratios[row, column])
            worst[image] = (broken + int(errors.broken[:, column].sum()), max(ratio, own))
            if own > 0.0:
                run = f"{errors.runtime} {errors.precision} {errors.form}"
                name = f"{run}: {errors.tensors[row].tensor}"
                told.setdefault(image, {})[name] = own
    ranked = sorted((image for image in worst if image in told), key=lambda i: worst[i])[::-1]
    pictures = _golden(bundle) if not images else {}
    for image in ranked[:_PICTURES]:
        pixels = pictures.get(image.id) if not images else _photo(image, bundle, images)
        lines = sorted(told[image].items(), key=lambda item: -item[1])[:2]
        yield _Picture(
            name=image.name,
            source=None if pixels is None else thumbnail(pixels),
            worst=tuple(f"{name} {_times(ratio)}" for name, ratio in lines),
        )


def _times(ratio: float) -> str:
    if math.isinf(ratio):
        return "is not equal"
    return f"differs by {ratio:.2g} of what is allowed"


def _golden(bundle: Bundle) -> Mapping[str, Pixels]:
    try:
        return {case.name: case.picture for case in golden.read(bundle)}
    except BundleError:  # a page about a bundle without any
        return {}


def _photo(image: MappedImage, bundle: Bundle, images: Sequence[Path]) -> Pixels | None:
    """Return the photo that was seen, uint8 [1, H, W, 3], by its name and then its bytes."""
    capture = bundle.manifest.capture.model_copy(update={"layout": "rgb"})
    for path in images:
        if path.stem == image.name and path.is_file():
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == image.id:
                return frame(data, capture, bundle.manifest.fit)
    return None
