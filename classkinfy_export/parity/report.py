"""What ``verify`` found: a row for each tensor and for the decisions of each way of running."""

from __future__ import annotations

import math

from pydantic import Field

from classkinfy_export.document import Document
from classkinfy_export.evaluation.report import Paired
from classkinfy_export.parity.compare import TensorParity
from classkinfy_export.parity.decide import DecisionParity
from classkinfy_export.parity.error_map import ErrorMap

REFERENCE = "pytorch"


class NotRun(Document):
    """A runtime, or a form of it, that did not run, or not to its end. It did not pass."""

    runtime: str
    reason: str
    broke: bool = False
    """Whether it ran, and could not go on."""
    failed: bool = False
    """Whether the gate fails for it: it broke, or was asked for by name."""


class LabelledParity(Document):
    """What a runtime and form changes in the figures on labelled images; told, not gated."""

    runtime: str
    precision: str
    form: str
    reference: str
    paired: Paired


class ParityReport(Document):
    """What ``verify`` found."""

    bundle: str
    manifest_sha256: str
    reference: str
    images: int
    tensors: tuple[TensorParity, ...]
    decisions: tuple[DecisionParity, ...]
    labelled: tuple[LabelledParity, ...] = ()
    not_run: tuple[NotRun, ...]
    not_covered: tuple[str, ...] = ()
    """Graders that no image was given to, as ``onnxruntime staged: grade_mel``."""
    caveats: tuple[str, ...] = ()
    """What is to be known of runtimes on this machine."""
    conditions: dict[str, str]
    passed: bool
    maps: tuple[ErrorMap, ...] = Field((), exclude=True, repr=False)
    """Image by image. Not written to JSON: it is many times the rest, and for the eye."""

    def failures(self) -> list[str]:
        """Return one line for each gate that did not hold."""
        lines = [
            f"{t.gate}: {t.runtime} {t.precision} {t.form}, stage {t.stage}: {t.tensor} "
            f"{_distance(t)}, worst on {t.worst_image}"
            for t in self.tensors
            if not t.passed
        ]
        lines += [
            f"decisions: {d.runtime} {d.precision} {d.form}: {d.flips} of {d.images} differ from "
            f"{d.reference}, {d.label_flips} in the label"
            + (f", first {', '.join(d.flipped[:3])}" if d.flips else "")
            + (f", widest margin {d.widest_flip:.3f}" if d.widest_flip is not None else "")
            + f"; at most {d.flip_bound:.2%} in truth, {d.flip_rate:.2%} asked; mean Δp "
            f"{d.mean_shift:.2g}"
            for d in self.decisions
            if not d.passed
        ]
        lines += [f"{m.runtime} did not run: {m.reason}" for m in self.not_run if m.failed]
        failed: list[TensorParity | DecisionParity] = [t for t in self.tensors if not t.passed]
        failed += [d for d in self.decisions if not d.passed]
        blamed = {f"{n} {row.precision}" for row in failed for n in (row.runtime, row.reference)}
        return lines + [told for told in self.caveats if told.split(":")[0] in blamed]

    @property
    def held(self) -> tuple[TensorParity, ...]:
        """The reference's own steps beside other libraries: nothing is decided from them."""
        return tuple(row for row in self.tensors if row.runtime == REFERENCE)

    @property
    def nothing_ran(self) -> str | None:
        """Why no runtime could be compared; None when one was."""
        if self.decisions or any(missing.broke for missing in self.not_run):
            return None
        reasons = "; ".join([*(f"{m.runtime}: {m.reason}" for m in self.not_run), *self.caveats])
        return f"no runtime could run: {reasons or 'the bundle holds nothing to compare'}"


def _distance(row: TensorParity) -> str:
    if math.isinf(row.minimum_tolerance):
        return "is not the reference's"
    steps = "" if row.step is None else f", {row.minimum_tolerance / row.step:.3g} int8 steps"
    return f"differs by {row.minimum_tolerance:.3g}{steps} (allowed {row.tolerance or 0.0:.3g})"
