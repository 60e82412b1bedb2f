"""The operator at which a runtime first departs from PyTorch, and what shows it by itself."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field

from classkinfy_export import runtimes
from classkinfy_export.bundle.manifest import PIPELINE
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import StageSpec
from classkinfy_export.document import MeasuredDocument
from classkinfy_export.errors import BundleError
from classkinfy_export.frame import Pixels, frame
from classkinfy_export.parity import compare, golden, graphs
from classkinfy_export.parity.graphs.base import Array
from classkinfy_export.parity.probe import Probe
from classkinfy_export.parity.reproducer import Reproducer
from classkinfy_export.parity.search import Found, Search, Suspect, between, layout_name
from classkinfy_export.runtimes.base import Engine, Runtime
from classkinfy_export.runtimes.pytorch import PytorchEngine, PytorchRuntime

Progress = Callable[[str, int, int], None]

LEAST_DB = (80.0, 100.0, 120.0)
"""SQNR below which a tensor differs. The shipped network's have 99 dB and more in four runtimes;
where nothing below 80 dB is wrong by itself, it is looked for more narrowly."""


class TensorRow(MeasuredDocument):
    """One tensor of the file beside its counterpart in PyTorch, on the whole stage."""

    operator: str
    """Which gives it, as ``Conv 53``: its kind, and its place in the file."""
    tensor: str
    reference: str
    """Its counterpart, as ``torch.export`` names it."""
    reference_operator: str
    layout: str
    """In which order the file has PyTorch's axes; empty where in the same."""
    shape: tuple[int, ...]
    sqnr_db: float | None
    """None where they are equal."""
    largest: float
    """Largest absolute difference."""
    cosine: float | None
    same: bool


class Fault(MeasuredDocument):
    """The operator that is wrong, and how far it is when it is given PyTorch's values."""

    operator: str
    tensor: str
    reference: str
    reference_operators: tuple[str, ...]
    """What PyTorch computes between the part's inputs and this tensor."""
    weights: tuple[str, ...]
    """The weights of the module that it does so with."""
    inputs: tuple[str, ...]
    """What the part is given."""
    operators: int
    """How many the part has."""
    whole_stage: bool
    """Whether no smaller part shows it."""
    sqnr_db: float | None
    largest: float
    index: tuple[int, ...]
    """Of the largest difference."""
    expected: float | None
    actual: float | None
    alone: bool
    """Whether PyTorch's value in its place makes every output of the stage hold."""


class Localisation(MeasuredDocument):
    """What ``localise`` found."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    bundle: str
    manifest_sha256: str
    runtime: str
    images: int
    """That were run."""
    image: str | None = None
    """The first on which a stage differs; of none, the last."""
    stage: str | None = None
    """The first stage in order that differs, or the one that was asked for."""
    outputs: dict[str, float] = Field(default_factory=dict)
    """Largest absolute difference of each output of that stage."""
    least_db: float | None = None
    """The SQNR below which a tensor was taken to differ."""
    rows: tuple[TensorRow, ...] = ()
    fault: Fault | None = None
    reproducer: Reproducer | None = Field(None, exclude=True)

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return self.fault is None


def localise(
    bundle: Bundle,
    *,
    runtime: str,
    image: Path | None = None,
    stage: str | None = None,
    tolerance: float | None = None,
    least_db: float | None = None,
    threads: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Localisation:
    """Find where a runtime first departs from PyTorch, in fp32.

    Every stage is given what PyTorch gave, so a fault in one does not show in another.

    Args:
        bundle: an opened bundle, with its PyTorch weights.
        runtime: one that runs models, by name.
        image: a photo; the golden vectors in turn by default, until one shows a difference.
        stage: the stage to look into; the first whose outputs differ by default.
        tolerance: largest absolute difference of a stage's outputs; the bundle's own recipe's by
            default.
        least_db: SQNR below which a tensor differs; see ``LEAST_DB``.
        threads: within an operator; None means one a core.
        progress: called with what is being done.

    Raises:
        BundleError: no such runtime or stage, nothing for it in the bundle, no golden vectors, or
            a file that cannot be taken apart.
        ImageError: the photo cannot be decoded.
        MissingDependencyError: the runtime, torch, or what reads the format is not installed.
    """
    chosen = runtimes.get(runtime)
    if chosen.format == PytorchRuntime.format:
        raise BundleError(
            f"runtime {runtime} is the reference",
            hint="name the one that differs from it, such as onnxruntime or litert",
        )
    if not chosen.scripted:
        raise BundleError(
            f"no script by itself can show a fault of runtime {runtime}",
            hint=f"localise in {runtimes.first(chosen.format)}: where that holds, the kernels of "
            f"{runtime} are at fault, and not the file",
        )
    threads = threads or os.cpu_count() or 1
    with (
        chosen.open(bundle, threads=threads) as engine,
        PytorchRuntime().open(bundle, threads=threads) as reference,
    ):
        assert isinstance(reference, PytorchEngine)
        looked_at = _stages(bundle, engine, stage)
        images = _images(bundle, image)
        for done, name in enumerate(images, start=1):
            progress("comparing stages", done - 1, len(images))
            compared = _compare(
                bundle, looked_at, engine, reference, images[name], tolerance, chosen
            )
            if compared.wrong:
                break
        about: dict[str, Any] = {
            "bundle": bundle.manifest.name,
            "manifest_sha256": bundle.sha256,
            "runtime": runtime,
            "images": done,
            "image": name,
        }
        if compared.wrong or stage is not None:
            about |= {"stage": compared.spec.name, "outputs": compared.largest}
        if not compared.wrong:
            return Localisation(**about)
        progress(f"looking into {compared.spec.name}", done, done)
        search = _search(bundle, engine, chosen, reference, compared)
    levels: tuple[float, ...] = LEAST_DB if least_db is None else (least_db,)
    if least_db is None and any(compared.allowed[name] == 0.0 for name in compared.wrong):
        levels = (*levels, math.inf)  # of what is to be exact
    located = search.run(levels)
    if located.suspect is None:
        raise BundleError(
            f"stage {compared.spec.name} differs in {runtime}, and no operator in it is wrong by "
            f"itself below {levels[-1]:g} dB",
            hint="look more narrowly, with a larger --sqnr",
        )
    fault, reproducer = _fault(search, located, located.suspect, compared)
    return Localisation(
        **about,
        least_db=located.least_db,
        rows=tuple(_rows(search, located)),
        fault=fault,
        reproducer=reproducer,
    )


@dataclass(frozen=True)
class _Stage:
    """A stage beside the reference, on the reference's inputs."""

    spec: StageSpec
    tensors: dict[str, Array]
    """The reference's: inputs and outputs."""
    largest: dict[str, float]
    """Absolute difference of each output."""
    allowed: dict[str, float]

    @property
    def wrong(self) -> list[str]:
        """The outputs that differ by more than is allowed."""
        return [name for name, found in self.largest.items() if found > self.allowed[name]]


def _stages(bundle: Bundle, engine: Engine, stage: str | None) -> list[StageSpec]:
    """Return the stages to look at: all that the engine has, or the one that was asked for."""
    manifest = bundle.manifest
    if stage is not None:
        spec = manifest.stage(stage)
        engine.load(stage)  # or says that it has none
        return [spec]
    staged = [spec for spec in manifest.stages if engine.has(spec.name)]
    return staged or [manifest.stage(PIPELINE)]


def _images(bundle: Bundle, image: Path | None) -> dict[str, Pixels]:
    if image is not None:
        return {image.stem: frame(image, bundle.manifest.capture, bundle.manifest.fit)}
    return {case.name: case.image for case in golden.read(bundle)}


def _compare(
    bundle: Bundle,
    looked_at: Sequence[StageSpec],
    engine: Engine,
    reference: Engine,
    pixels: Pixels,
    tolerance: float | None,
    runtime: Runtime,
) -> _Stage:
    """Return the first stage that differs on an image, the last one where none does."""
    recipe, fused = bundle.manifest.parity, bundle.manifest.pipeline
    tensors: dict[str, Array] = {"image": pixels}
    stage = None
    for spec in (*bundle.manifest.stages, *([fused] if fused in looked_at and fused else [])):
        expected = reference.run(spec.name, tensors)
        if spec in looked_at:
            actual = engine.run(spec.name, tensors)
            stage = _Stage(
                spec=spec,
                tensors=tensors | expected,
                largest={
                    name: compare.difference(
                        expected[name], actual[name], nan_is_equal=name == "severity"
                    ).largest
                    for name in expected
                },
                allowed={
                    name: recipe.tolerance(runtime.name, name) if tolerance is None else tolerance
                    for name in expected
                },
            )
            if stage.wrong:
                return stage
        tensors = tensors | expected
    assert stage is not None
    return stage


def _search(
    bundle: Bundle, engine: Engine, runtime: Runtime, reference: PytorchEngine, stage: _Stage
) -> Search:
    name = stage.spec.name
    model = bundle.manifest.find_model(name, engine.format, engine.precision)
    assert model is not None
    graph = graphs.read(bundle, model, name)
    return Search(
        Probe(graph, runtime, engine.precision, engine.threads),
        reference.trace(name, stage.tensors),
        stage.tensors,
        stage.tensors,
        stage.allowed,
    )


def _rows(search: Search, located: Found) -> Iterator[TensorRow]:
    for tensor in search.graph.compared:
        match = located.matches.get(tensor)
        if match is None:
            continue
        actual = located.values[tensor]
        found = _difference(search.value(tensor, match), actual)
        counterpart = search.trace[match.reference]
        limit = search.limit(tensor, located.least_db)
        yield TensorRow(
            operator=_called(search, tensor),
            tensor=tensor,
            reference=counterpart.name,
            reference_operator=counterpart.operator,
            layout=layout_name(match.layout),
            shape=actual.shape,
            sqnr_db=compare.sqnr_db(found.signal, found.noise),
            largest=found.largest,
            cosine=compare.cosine(found.product, found.signal, found.power),
            same=limit.holds(found),
        )


def _fault(
    search: Search, located: Found, suspect: Suspect, stage: _Stage
) -> tuple[Fault, Reproducer]:
    """Run the part on the reference's values, and keep what shows the fault."""
    probe, name = search.probe, stage.spec.name
    inputs = {n: search.given(n, located.matches) for n in suspect.given}
    expected = {
        n: stage.tensors[n] if n in search.expected else search.value(n, suspect.match)
        for n in suspect.wanted
    }
    actual = probe.run(inputs, suspect.wanted)
    shown = next(n for n in (suspect.tensor, *stage.wrong) if n in actual)
    found = _difference(expected[shown], actual[shown])
    part = probe.graph.needed(inputs, suspect.wanted)
    before = [located.matches[n].reference for n in suspect.given if n in located.matches]
    computed = between(search.trace, before, suspect.match.reference)
    fault = Fault(
        operator=_called(search, suspect.tensor),
        tensor=suspect.tensor,
        reference=search.trace[suspect.match.reference].name,
        reference_operators=tuple(tensor.operator for tensor in computed),
        weights=tuple(dict.fromkeys(w for tensor in computed for w in tensor.weights)),
        inputs=suspect.given,
        operators=len(part),
        whole_stage=suspect.whole_stage,
        sqnr_db=compare.sqnr_db(found.signal, found.noise),
        largest=found.largest,
        index=found.index,
        expected=found.expected,
        actual=found.actual,
        alone=suspect.alone,
    )
    reproducer = Reproducer(
        title=f"Stage {name} differs from PyTorch in {probe.runtime.name}: {fault.operator}.",
        runtime=probe.runtime,
        threads=probe.threads,
        model=probe.graph.cut(suspect.given, suspect.wanted),
        inputs=inputs,
        expected=expected,
        allowed={n: search.limit(n, located.least_db) for n in suspect.wanted},
    )
    return fault, reproducer


def _difference(expected: Array, actual: Array) -> compare.Difference:
    """Compare two tensors of any dtype; an infinity, as padding has it, is equal to itself."""
    wanted, given = expected.astype(np.float64), actual.astype(np.float64)
    infinite = np.isinf(wanted) & (wanted == given)
    return compare.difference(
        np.where(infinite, 0.0, wanted), np.where(infinite, 0.0, given), nan_is_equal=True
    )


def _called(search: Search, tensor: str) -> str:
    operator = search.graph.producer[tensor]
    return f"{operator.kind} {operator.index}"
