"""Gates on what was observed: preprocessing, tensors, decisions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from classkinfy_export import runtimes
from classkinfy_export.bundle.manifest import PIPELINE, Manifest
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import grade_stage
from classkinfy_export.errors import require
from classkinfy_export.parity import independent, ranges
from classkinfy_export.parity.compare import Difference, Gate, TensorParity, summarise
from classkinfy_export.parity.decide import decisions
from classkinfy_export.parity.error_map import MappedImage, error_map
from classkinfy_export.parity.labels import Labels
from classkinfy_export.parity.observe import (
    OWN,
    Key,
    Observation,
    Observations,
    Progress,
    observe,
)
from classkinfy_export.parity.report import LabelledParity, NotRun, ParityReport
from classkinfy_export.precision import calibrated
from classkinfy_export.tolerances import ParityRecipe

_PREPROCESSING = ("prepare", "screen")
_ANSWERED = ("embedding", "probabilities", "confidence", "severity")
"""What is made of a network's answer."""
_DECIDED = ("diagnosis", "severity")
"""What is made of a decision."""
_DECIDE = "decide"
"""Where the staged form decides: on the host, with what ``prepare`` and ``classify`` gave."""


def verify(
    bundle: Bundle,
    images: Sequence[Path] = (),
    *,
    labels: Labels | None = None,
    recipe: ParityRecipe | None = None,
    against: Bundle | None = None,
    names: Sequence[str] | None = None,
    threads: int | None = None,
    cache: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> ParityReport:
    """Compare runtimes with PyTorch, and hold the differences to a recipe.

    Args:
        bundle: an opened bundle.
        images: photos; none means the bundle's golden vectors.
        labels: of all of the photos or some, to tell what a runtime changes in the figures.
        recipe: what is asked; the bundle's own by default.
        against: another bundle, such as the last release, to be the reference instead.
        names: runtimes; None means all that the bundle holds a format for.
        threads: for every runtime; None means one a core.
        cache: a folder for what was seen, see ``observe``.
        progress: called with (done, total) images.

    Returns:
        the report; ``passed`` is False when a gate failed, when nothing ran, or when a runtime
        that was asked for by name did not run, or one could not go on.

    Raises:
        BundleError: no reference, or no golden vectors, in the bundle.
        DataError: a label is of no class of the bundle's, or none is of these photos.
        ImageError: an image cannot be decoded.
        MissingDependencyError: torch is needed for the reference and not installed, or SciPy for
            figures on labelled images.
    """
    recipe = recipe or bundle.manifest.parity
    if labels is not None:
        require("scipy", extra="train", purpose="figures on labelled images")
        labels.check(bundle.manifest.taxonomy, [path.stem for path in images])
    found = observe(
        bundle,
        images,
        recipe=recipe,
        against=against,
        names=names,
        threads=threads,
        cache=cache,
        progress=progress,
    )
    held: independent.Independent | None = None
    if images and against is None:
        seen = {o.image: name for pairs in found.seen.values() for name, o in pairs}
        held = independent.hold(
            bundle, images, seen, threads=threads, cache=cache, progress=progress
        )
    report = gate(bundle, found, recipe, all_must_run=names is not None, held=held)
    if labels is None:
        return report
    return report.model_copy(update={"labelled": _labelled(bundle.manifest, found, labels)})


def gate(
    bundle: Bundle,
    found: Observations,
    recipe: ParityRecipe,
    *,
    all_must_run: bool,
    held: independent.Independent | None = None,
) -> ParityReport:
    """Hold what was observed to a recipe.

    Args:
        bundle: whose.
        found: of ``observe``.
        recipe: what is asked.
        all_must_run: whether a runtime that did not run is a failure.
        held: the reference itself beside other libraries.
    """
    seen = {key: observations for key, observations in found.seen.items() if observations}
    tensors: list[TensorParity] = []
    maps = []
    for key, observations in seen.items():
        rows = _tensors(bundle, found, key, recipe)
        given = [(MappedImage(name=name, id=o.image), o.differences) for name, o in observations]
        tensors += rows
        maps.append(error_map(bundle.manifest, rows, given))
    if held is not None and held.seen:
        rows = held.rows()
        tensors += rows
        maps.append(error_map(bundle.manifest, rows, held.seen))
    ranged, unread = ranges.parity(bundle)
    tensors += ranged
    taken = [
        decisions(
            [(name, o.expected, o.actual) for name, o in observations],
            bundle.manifest.taxonomy,
            recipe,
            runtime=key.runtime,
            precision=key.precision,
            form=key.form,
            reference=found.beside[key],
            same_file=key in found.same_file,
        )
        for key, observations in seen.items()
    ]
    return ParityReport(
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.sha256,
        reference=found.reference,
        images=found.images,
        tensors=tuple(tensors),
        decisions=tuple(taken),
        not_run=(
            *(NotRun(runtime=n, reason=w, failed=all_must_run) for n, w in found.not_run.items()),
            *(
                NotRun(runtime=n, reason=w, broke=True, failed=True)
                for n, w in found.failed.items()
            ),
            *(NotRun(runtime=n, reason=w) for n, w in unread.items()),
            *(NotRun(runtime=n, reason=w) for n, w in (held.not_run.items() if held else ())),
        ),
        not_covered=tuple(_not_covered(bundle.manifest, seen)),
        caveats=found.caveats,
        conditions=found.conditions,
        passed=bool(seen)
        and not (all_must_run and found.not_run)
        and not found.failed
        and all(t.passed for t in tensors)
        and all(d.passed for d in taken),
        maps=tuple(maps),
    )


def _not_covered(
    manifest: Manifest, seen: dict[Key, list[tuple[str, Observation]]]
) -> Iterator[str]:
    for key, observations in seen.items():
        graded = {tensor for _, o in observations for tensor in o.differences}
        for stage in manifest.stages:
            given = stage.diagnosis is None or f"severity_{stage.diagnosis}" in graded
            if key.form == "staged" and not given:
                yield f"{key}: {stage.name}"


def _labelled(
    manifest: Manifest, found: Observations, labels: Labels
) -> tuple[LabelledParity, ...]:
    from classkinfy_export.evaluation.paired import compare

    rows = []
    for key, observations in found.seen.items():
        ours = [(labels.of[name], o) for name, o in observations if name in labels.of]
        if ours:
            paired = compare(
                np.array([manifest.taxonomy.index(label.dx) for label, _ in ours], np.int64),
                [label.lesion for label, _ in ours],
                np.array([o.expected.probabilities for _, o in ours]),
                np.array([o.actual.probabilities for _, o in ours]),
                manifest.taxonomy,
            )
            rows.append(
                LabelledParity(
                    runtime=key.runtime,
                    precision=key.precision,
                    form=key.form,
                    reference=found.beside[key],
                    paired=paired,
                )
            )
    return tuple(rows)


def _tensors(
    bundle: Bundle, found: Observations, key: Key, recipe: ParityRecipe
) -> list[TensorParity]:
    by_name: dict[str, list[tuple[str, Difference]]] = {}
    for name, observation in found.seen[key]:
        for tensor, difference in observation.differences.items():
            if not _as_float(found, key) and tensor in _DECIDED and observation.flipped:
                continue  # it has no distance then; the third gate has it
            by_name.setdefault(tensor, []).append((name, difference))
    rows = []
    for tensor, differences in by_name.items():
        stage, of = _origin(bundle.manifest, key, tensor)
        step = _step(bundle, key) if tensor == "embedding" else None
        rows.append(
            summarise(
                differences,
                runtime=key.runtime,
                precision=key.precision,
                form=key.form,
                reference=found.beside[key],
                stage=stage,
                tensor=tensor,
                gate=of,
                tolerance=_tolerance(found, key, recipe, tensor, step),
                step=step,
            )
        )
    return rows


def _tolerance(
    found: Observations, key: Key, recipe: ParityRecipe, tensor: str, step: float | None
) -> float | None:
    """Return the largest difference that passes; None of one that is told, not gated."""
    if _as_float(found, key) or not tensor.startswith(_ANSWERED) or tensor.endswith(OWN):
        return recipe.tolerance(key.runtime, tensor.removesuffix(OWN))
    if key not in found.same_file:
        return None
    return recipe.quantised.probability if step is None else recipe.quantised.steps * step


def _as_float(found: Observations, key: Key) -> bool:
    """Whether a key and its reference compute one network in float, and are to agree as such."""
    same_file = key in found.same_file and not calibrated(key.precision)
    return key.precision == "fp32" or same_file


def _step(bundle: Bundle, key: Key) -> float | None:
    runtime = runtimes.get(key.runtime)
    model = bundle.manifest.find_model("classify", runtime.format, key.precision)
    if model is None or model.ranges is None:
        return None
    return ranges.step(bundle, model, "classify")


def _origin(manifest: Manifest, key: Key, tensor: str) -> tuple[str, Gate]:
    """Return the stage that gives a tensor, and the gate that it is of."""
    tensor = tensor.removesuffix(OWN)
    if tensor.startswith("severity"):
        own = grade_stage(tensor.removeprefix("severity_"))
        stage = own if tensor != "severity" else "the routed grader"
    else:
        outputs = {t.name: s.name for s in manifest.stages for t in s.outputs}
        stage = outputs.get(tensor, _DECIDE)
    gate: Gate = "preprocessing" if stage in _PREPROCESSING else "tensors"
    return (PIPELINE if key.form == "fused" else stage), gate
