"""Run every runtime beside the reference on the same images, and gate on the differences.

The reference is PyTorch, from the weights in the bundle; without images it is the golden vectors
that PyTorch wrote, which need no torch. Stages are chained as an app chains them, so a difference
in an early stage shows in the later ones too.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from classkinfy_export import __version__, runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, MissingDependencyError
from classkinfy_export.frame import Pixels, frame
from classkinfy_export.parity import golden
from classkinfy_export.parity.compare import Accumulator, TensorParity
from classkinfy_export.recipes import Form
from classkinfy_export.runtimes.session import Session

Array = npt.NDArray[np.generic]
Progress = Callable[[int, int], None]

REFERENCE = "pytorch"
_MAX_NAMED = 20


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DecisionParity(_Frozen):
    """Decisions of one runtime and form against the reference's."""

    runtime: str
    form: str
    images: int
    label_agreement: float
    """Share of images whose most probable class is the reference's."""
    label_flips: int
    malignancy_flips: int
    """Flips onto or off the malignant side."""
    decision_flips: int
    """Images with another diagnosis, acceptance or reasons; a refused image has no diagnosis."""
    flipped: tuple[str, ...]
    """The first of them."""
    passed: bool


class NotRun(_Frozen):
    """A runtime that was asked for and did not run. It did not pass."""

    runtime: str
    reason: str


class ParityReport(_Frozen):
    """What ``verify`` found."""

    bundle: str
    manifest_sha256: str
    reference: str
    images: int
    tensors: tuple[TensorParity, ...]
    decisions: tuple[DecisionParity, ...]
    not_run: tuple[NotRun, ...]
    conditions: dict[str, str]
    passed: bool

    def failures(self) -> list[str]:
        """Return one line for each gate that did not hold."""
        lines = [
            f"{t.runtime} {t.form}: {t.tensor} {_distance(t)}, worst on {t.worst_image}"
            for t in self.tensors
            if not t.passed
        ]
        lines += [
            f"{d.runtime} {d.form}: {max(d.label_flips, d.decision_flips)} of {d.images} "
            f"decisions differ, first {', '.join(d.flipped[:3])}"
            for d in self.decisions
            if not d.passed
        ]
        lines += [f"{missing.runtime} did not run: {missing.reason}" for missing in self.not_run]
        return lines


def verify(
    bundle: Bundle,
    images: Sequence[Path] = (),
    *,
    names: Sequence[str] | None = None,
    threads: int | None = None,
    progress: Progress = lambda done, total: None,
) -> ParityReport:
    """Compare runtimes with PyTorch.

    Args:
        bundle: an opened bundle.
        images: photos; none means the bundle's golden vectors.
        names: runtimes; None means all that the bundle holds a format for.
        threads: for every runtime; None means one a core.
        progress: called with (done, total) images.

    Returns:
        the report; ``passed`` is False when a gate failed, when nothing ran, or when a runtime
        that was asked for by name did not run.

    Raises:
        BundleError: no reference, or no golden vectors, in the bundle.
        ImageError: an image cannot be decoded.
        MissingDependencyError: torch is needed for the reference and not installed.
    """
    threads = threads or os.cpu_count() or 1
    wanted = [n for n in (names or runtimes.NAMES) if n != REFERENCE or not images]
    sessions, not_run = _open(bundle, wanted, threads, explicit=names is not None)
    cases, total = _cases(bundle, images, threads)
    comparison = _Comparison(bundle, sessions)
    for done, (name, image, expected) in enumerate(cases):
        comparison.add(name, image, expected)
        progress(done + 1, total)
    tensors, decisions = comparison.results()
    return ParityReport(
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.sha256,
        reference="pytorch" if images else "golden vectors",
        images=total,
        tensors=tensors,
        decisions=decisions,
        not_run=tuple(not_run),
        conditions=_conditions(threads),
        passed=bool(tensors)
        and not (names is not None and not_run)
        and all(t.passed for t in tensors)
        and all(d.passed for d in decisions),
    )


def _open(
    bundle: Bundle, names: Sequence[str], threads: int, explicit: bool
) -> tuple[dict[tuple[str, Form], Session], list[NotRun]]:
    sessions: dict[tuple[str, Form], Session] = {}
    not_run = []
    for name in names:
        runtime = runtimes.get(name)
        held = any(model.format == runtime.format for model in bundle.manifest.models)
        if not held and not explicit:
            continue
        try:
            engine = runtime.open(bundle, threads=threads)
        except (MissingDependencyError, BundleError) as error:
            not_run.append(NotRun(runtime=name, reason=str(error)))
            continue
        for form in ("staged", "fused"):
            if engine.has("pipeline" if form == "fused" else "prepare"):
                sessions[name, form] = Session(engine, form)
    return sessions, not_run


def _cases(
    bundle: Bundle, images: Sequence[Path], threads: int
) -> tuple[Iterator[tuple[str, Pixels, Mapping[str, Array | str]]], int]:
    if not images:
        cases = golden.read(bundle)
        return ((case.name, case.image, case.expected) for case in cases), len(cases)
    reference = Session(runtimes.get(REFERENCE).open(bundle, threads=threads))
    manifest = bundle.manifest
    graded = [spec.diagnosis for spec in manifest.stages if spec.diagnosis is not None]

    def run() -> Iterator[tuple[str, Pixels, Mapping[str, Array | str]]]:
        for number, path in enumerate(images):
            image = frame(path, manifest.capture, manifest.fit)
            # Every grader gets its turn, also one that is seldom routed to.
            turn = graded[number % len(graded) : number % len(graded) + 1] if graded else []
            yield path.stem, image, reference.run(image, also_grade=turn)

    return run(), len(images)


class _Comparison:
    def __init__(self, bundle: Bundle, sessions: dict[tuple[str, Form], Session]) -> None:
        self.manifest = bundle.manifest
        self.sessions = sessions
        self.tensors: dict[tuple[str, str, str], Accumulator] = {}
        self.flips: dict[tuple[str, Form], list[tuple[str, bool, bool, bool]]] = {
            key: [] for key in sessions
        }
        self.images = 0

    def add(self, name: str, image: Pixels, expected: Mapping[str, Array | str]) -> None:
        self.images += 1
        graders = [k.removeprefix("severity_") for k in expected if k.startswith("severity_")]
        for (runtime, form), session in self.sessions.items():
            actual = session.run(image, also_grade=graders)
            for tensor in sorted(expected.keys() & actual.keys()):
                accumulator = self._accumulator(runtime, form, tensor)
                wanted = expected[tensor]
                if isinstance(wanted, str):
                    accumulator.add_equality(name, golden.digest(actual[tensor]) == wanted)
                else:
                    accumulator.add(name, wanted, actual[tensor])
            self._decide(name, (runtime, form), expected, actual)

    def results(self) -> tuple[tuple[TensorParity, ...], tuple[DecisionParity, ...]]:
        tensors = tuple(accumulator.result() for accumulator in self.tensors.values())
        decisions = []
        for (runtime, form), flips in self.flips.items():
            labels = sum(label for _, label, _, _ in flips)
            decisions.append(
                DecisionParity(
                    runtime=runtime,
                    form=form,
                    images=self.images,
                    label_agreement=1.0 - labels / self.images if self.images else math.nan,
                    label_flips=labels,
                    malignancy_flips=sum(side for _, _, side, _ in flips),
                    decision_flips=sum(decision for _, _, _, decision in flips),
                    flipped=tuple(name for name, *_ in flips[:_MAX_NAMED]),
                    passed=not flips,
                )
            )
        return tensors, tuple(decisions)

    def _accumulator(self, runtime: str, form: str, tensor: str) -> Accumulator:
        key = (runtime, form, tensor)
        if key not in self.tensors:
            self.tensors[key] = Accumulator(
                runtime,
                form,
                tensor,
                self._tolerance(tensor),
                nan_is_equal=tensor.startswith("severity"),
            )
        return self.tensors[key]

    def _tolerance(self, tensor: str) -> float:
        name = "severity" if tensor.startswith("severity_") else tensor
        allowed: float = getattr(self.manifest.parity, name, 0.0)
        return allowed

    def _decide(
        self,
        name: str,
        key: tuple[str, Form],
        expected: Mapping[str, Array | str],
        actual: Mapping[str, Array],
    ) -> None:
        wanted = {k: v for k, v in expected.items() if not isinstance(v, str)}
        before = int(wanted["probabilities"].argmax())
        after = int(actual["probabilities"].argmax())
        taxonomy = self.manifest.taxonomy
        sides = [taxonomy.classes[label] in taxonomy.malignant for label in (before, after)]
        decision = any(
            int(wanted[tensor][0]) != int(actual[tensor][0])
            for tensor in ("diagnosis", "accepted", "reasons")
        )
        if before != after or decision:
            self.flips[key].append((name, before != after, sides[0] != sides[1], decision))


def _distance(row: TensorParity) -> str:
    if math.isinf(row.minimum_tolerance):
        return "is not the reference's"
    return f"differs by {row.minimum_tolerance:.3g} (allowed {row.tolerance:.3g})"


def _conditions(threads: int) -> dict[str, str]:
    found: dict[str, Any] = {
        "toolkit": __version__,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "threads": threads,
    }
    for name in runtimes.NAMES:
        version = runtimes.get(name).version()
        if version is not None:
            found[name] = version
    return {key: str(value) for key, value in found.items()}
