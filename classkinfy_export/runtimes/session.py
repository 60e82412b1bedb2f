"""A photo to an answer: stages run in order, only the routed grader, in either form."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from classkinfy_export.bundle.manifest import PIPELINE
from classkinfy_export.contract import QUALITY_MEASURES, Form, grade_stage
from classkinfy_export.decision import decide
from classkinfy_export.errors import BundleError
from classkinfy_export.frame import Pixels, Source, frame
from classkinfy_export.runtimes.base import Array, Engine
from classkinfy_export.taxonomy import DISCLAIMER, PROXY_NOTICE

Told = Callable[[str, Mapping[str, Array]], None]
"""Called with ``preliminary``, then ``diagnosis``, as each is known, and the tensors until then."""


@dataclass(frozen=True)
class Prediction:
    """What a bundle says about one image."""

    accepted: bool
    reasons: tuple[str, ...]
    """Quality rules that the image breaks; some refuse it, some only advise."""
    quality: dict[str, float]
    diagnosis: str | None
    """None when the image was refused."""
    confidence: float
    probabilities: dict[str, float]
    preliminary: dict[str, float] | None
    """What shape and colour alone suggest; None of a bundle without a ``screen`` stage."""
    severity: str | None
    """A proxy grade; None when the diagnosis is not graded."""
    severity_probabilities: dict[str, float] | None
    bundle: str
    """SHA-256 of the manifest."""
    runtime: str
    timings_ms: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, the disclaimers with them."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["reasons"] = list(self.reasons)
        return {**values, "severity_notice": PROXY_NOTICE, "disclaimer": DISCLAIMER}


class Session:
    """An opened bundle that answers.

    Args:
        engine: a bundle in a runtime.
        form: ``staged`` runs stage after stage and opens a grader when it is first routed to;
            ``fused`` runs the one graph.

    Raises:
        BundleError: the bundle does not hold this form in the engine's format.
    """

    def __init__(self, engine: Engine, form: Form = "staged") -> None:
        needed = PIPELINE if form == "fused" else "prepare"
        if not engine.has(needed):
            raise BundleError(
                f"the bundle has no {form} form in {engine.format}",
                hint=f"add {form!r} to the recipe's forms, or run the other form",
            )
        self.engine = engine
        self.form: Form = form
        self.manifest = engine.bundle.manifest

    def run(
        self,
        image: Pixels,
        also_grade: Iterable[str] = (),
        timings_ms: dict[str, float] | None = None,
        told: Told = lambda what, tensors: None,
    ) -> dict[str, Array]:
        """Run the pipeline on one framed image.

        Args:
            image: uint8 [1, H, W, 3] RGB.
            also_grade: diagnoses whose graders run beside the routed one (staged form); their
                outputs are under ``severity_<dx>``.
            timings_ms: filled with the time of each stage, when given.
            told: in the staged form, called before the answer is whole.

        Returns:
            every tensor of ``contract.pipeline_spec``, in the staged form also ``clean``,
            ``lesion_mask``, ``features`` and ``embedding`` where there are any, and
            ``severity_<dx>`` of each grader that ran.
        """
        clock = timings_ms if timings_ms is not None else {}
        if self.form == "fused":
            fused = self._timed(PIPELINE, {"image": image}, clock)
            self._check_finite(fused)
            return fused
        tensors: dict[str, Array] = {"image": image}
        for stage in self.manifest.unrouted:
            outputs = self._timed(stage, tensors, clock)
            tensors |= outputs
            if "preliminary" in outputs:
                told("preliminary", tensors)
        self._check_finite(tensors)
        decision = decide(tensors["quality"], tensors["probabilities"], self.manifest.quality_rules)
        severities = len(self.manifest.taxonomy.severities)
        tensors |= {
            "accepted": np.array([decision.accepted], np.int32),
            "reasons": np.array([decision.reasons], np.int32),
            "diagnosis": np.array([decision.diagnosis], np.int32),
            "confidence": np.array([decision.confidence], np.float32),
        }
        told("diagnosis", tensors)
        tensors["severity"] = np.full((1, severities), np.nan, np.float32)
        graded = self.manifest.graded
        routed = self.manifest.taxonomy.classes[decision.diagnosis] if decision.accepted else None
        for dx in dict.fromkeys((routed, *also_grade)):
            if dx is None or dx not in graded:
                continue
            given = self._timed(grade_stage(dx), tensors, clock)["severity"]
            tensors[f"severity_{dx}"] = given
            if dx == routed:
                tensors["severity"] = given
        del tensors["image"]
        return tensors

    def predict(self, source: Source, told: Told = lambda what, tensors: None) -> Prediction:
        """Frame a photo and answer.

        Args:
            source: a path, encoded bytes, or decoded uint8 [h, w, 3] RGB.
            told: as of ``run``.

        Raises:
            ImageError: the source is not a complete image.
        """
        clock: dict[str, float] = {}
        start = time.perf_counter()
        image = frame(source, self.manifest.capture, self.manifest.fit)
        clock["frame"] = (time.perf_counter() - start) * 1e3
        return self.interpret(self.run(image, timings_ms=clock, told=told), clock)

    def interpret(
        self, tensors: Mapping[str, Array], timings_ms: dict[str, float] | None = None
    ) -> Prediction:
        """Give names to what ``run`` returned.

        Args:
            tensors: of ``run``, or as told with the diagnosis, before a grader gave a severity.
            timings_ms: of each stage, where they were taken.

        Raises:
            BundleError: the diagnosis is graded, and its grader gave no number.
        """
        taxonomy = self.manifest.taxonomy
        index = int(tensors["diagnosis"][0])
        reasons = int(tensors["reasons"][0])
        diagnosis = taxonomy.classes[index] if index >= 0 else None
        names = taxonomy.severities
        severity = tensors.get("severity") if diagnosis in self.manifest.graded else None
        if severity is not None and not np.isfinite(severity).all():
            raise self._not_finite(grade_stage(str(diagnosis)), "severity", severity)
        return Prediction(
            accepted=bool(tensors["accepted"][0]),
            reasons=tuple(
                rule.reason
                for bit, rule in enumerate(self.manifest.quality_rules)
                if reasons >> bit & 1
            ),
            quality=named(QUALITY_MEASURES, tensors["quality"]),
            diagnosis=diagnosis,
            confidence=float(tensors["confidence"][0]),
            probabilities=named(taxonomy.classes, tensors["probabilities"]),
            preliminary=(
                named(taxonomy.classes, tensors["preliminary"])
                if "preliminary" in tensors
                else None
            ),
            severity=names[int(np.argmax(severity))] if severity is not None else None,
            severity_probabilities=named(names, severity) if severity is not None else None,
            bundle=self.engine.bundle.sha256,
            runtime=f"{self.engine.format} {self.engine.precision} {self.form}",
            timings_ms=timings_ms or {},
        )

    def _check_finite(self, tensors: dict[str, Array]) -> None:
        """Raise BundleError where what is decided by is no number, with the first one to blame."""
        if all(np.isfinite(tensors[name]).all() for name in ("probabilities", "quality")):
            return
        stage, tensor = next(
            (spec.name, output.name)
            for spec in self.manifest.stages
            for output in spec.outputs
            if not np.isfinite(tensors.get(output.name, 0)).all()
        )
        raise self._not_finite(PIPELINE if self.form == "fused" else stage, tensor, tensors[tensor])

    def _not_finite(self, stage: str, tensor: str, values: Array) -> BundleError:
        lost = int(values.size - np.isfinite(values).sum())
        engine = f"{self.engine.format} {self.engine.precision}"
        return BundleError(
            f"stage {stage} gives {lost} of {values.size} values of {tensor} as NaN or infinity "
            f"in {engine}, so there is no answer",
            hint="answer the same photo with --runtime pytorch: if it fails too, the checkpoint is "
            "broken; if it does not, the conversion is, so export again or in another precision",
        )

    def _timed(
        self, stage: str, tensors: dict[str, Array], clock: dict[str, float]
    ) -> dict[str, Array]:
        start = time.perf_counter()
        outputs = self.engine.run(stage, tensors)
        clock[stage] = (time.perf_counter() - start) * 1e3
        return outputs


def named(names: Iterable[str], values: Array) -> dict[str, float]:
    """Return the values of one image, [1, n], by name."""
    return {name: float(value) for name, value in zip(names, values[0], strict=True)}
