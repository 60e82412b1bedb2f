"""Every runtime beside the reference on the same images; what was seen is kept.

The reference is PyTorch, from the weights in the bundle; without images it is the golden vectors
that PyTorch wrote, which need no torch. Of a precision other than fp32 only the format's first
runtime is seen beside PyTorch, to tell what it changes; the others are seen beside that one, which
runs the same file, unless their int8 kernels round otherwise. Stages are chained as an app chains
them, so a difference in an early stage shows in the later ones too.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict

import classkinfy_export
from classkinfy_export import machine, runtimes
from classkinfy_export.bundle.manifest import PIPELINE
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Form
from classkinfy_export.errors import BundleError, MissingDependencyError
from classkinfy_export.frame import Pixels, choose, frame
from classkinfy_export.parity import compare, golden
from classkinfy_export.parity.decide import Answer
from classkinfy_export.parity.kept import Kept, Seen
from classkinfy_export.parity.report import REFERENCE
from classkinfy_export.precision import Precision, calibrated
from classkinfy_export.runtimes.pytorch import PytorchEngine
from classkinfy_export.runtimes.session import Session
from classkinfy_export.tolerances import ParityRecipe

Array = npt.NDArray[np.generic]
Progress = Callable[[int, int], None]

OWN = " of its embedding"
"""Ends the name of what PyTorch makes of an int8 network's own embedding: heads are float there."""


class Key(NamedTuple):
    """Which way of running a bundle."""

    runtime: str
    precision: Precision
    form: Form

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision} {self.form}"


class Observation(Seen):
    """One image in one runtime and form, beside the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    differences: dict[str, compare.Difference]
    """By tensor."""
    expected: Answer
    actual: Answer

    @property
    def flipped(self) -> bool:
        """Whether the diagnosis is another one."""
        return self.expected.diagnosis != self.actual.diagnosis


@dataclass
class Observations:
    """All that was seen."""

    images: int = 0
    """Different ones: a copy of one proves nothing more."""
    seen: dict[Key, list[tuple[str, Observation]]] = field(default_factory=dict)
    """Each image's name, and what was seen of it."""
    not_run: dict[str, str] = field(default_factory=dict)
    """Runtimes, or forms of them, that did not run, and why."""
    failed: dict[str, str] = field(default_factory=dict)
    """Likewise, those that could not go on."""
    reference: str = ""
    beside: dict[Key, str] = field(default_factory=dict)
    """Of each, what it was seen beside."""
    same_file: set[Key] = field(default_factory=set)
    """Those of a precision other than fp32 that were seen beside another runtime on its file."""
    caveats: tuple[str, ...] = ()
    """What is to be known of runtimes on this machine."""
    conditions: dict[str, str] = field(default_factory=dict)

    def note(self, runtime: str, precision: str, caveat: str | None) -> None:
        """Add what is to be known of a runtime and precision, once."""
        line = f"{runtime} {precision}: {caveat}"
        if caveat is not None and line not in self.caveats:
            self.caveats = (*self.caveats, line)


def observe(
    bundle: Bundle,
    images: Sequence[Path] = (),
    *,
    recipe: ParityRecipe,
    against: Bundle | None = None,
    names: Sequence[str] | None = None,
    threads: int | None = None,
    cache: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Observations:
    """Run runtimes beside the reference.

    Args:
        bundle: an opened bundle.
        images: photos; none means the bundle's golden vectors.
        recipe: how many images each runtime gets.
        against: another bundle, to be the reference instead: each runtime's own answers with it.
        names: runtimes; None means all that the bundle holds a format for, but slow ones.
        threads: for every runtime; None means one a core.
        cache: a folder for what was seen: an image is not run again while bundle, toolkit, runtime
            and machine stay as they are.
        progress: called with (done, total) images.

    Raises:
        BundleError: no reference, or no golden vectors, in the bundle; the other bundle takes other
            images, or there are none.
        ImageError: an image cannot be decoded.
        MissingDependencyError: torch is needed for the reference and not installed.
    """
    if against is not None:
        _check(bundle, against, images)
    threads = threads or os.cpu_count() or 1
    usual = [name for name in runtimes.NAMES if not runtimes.get(name).on_request]
    itself = REFERENCE if images and against is None else None
    wanted = [name for name in (names or usual) if name != itself]
    reference = REFERENCE if images else "golden vectors"
    if against is not None:
        reference = f"{against.manifest.name} {against.sha256[:12]}"
    found = Observations(reference=reference, conditions=_conditions(threads))
    if names is not None and itself in names:
        found.not_run[REFERENCE] = "it is the reference"
    with ExitStack() as stack:
        sessions = _open(bundle, wanted, threads, found, stack, explicit=names is not None)
        if not images:
            _on_golden(bundle, sessions, found, progress)
            return found
        if against is None:
            own = _References(bundle, recipe, threads, sessions, stack)
            references: Callable[[Key], Session] = own
            sessions = own.usable(found)
        else:
            others = _open(against, wanted, threads, found, stack, explicit=names is not None)
            for key in sessions.keys() ^ others.keys():
                which = "this bundle" if key in others else "the other bundle"
                found.not_run[str(key)] = f"{which} does not hold it"
            sessions = {key: session for key, session in sessions.items() if key in others}
            references = others.__getitem__
            found.beside = dict.fromkeys(sessions, found.reference)
        kept = {
            key: Kept(
                cache,
                "-".join(key),
                [bundle.sha256, key, found.conditions, found.beside[key]],
                Observation,
            )
            for key in sessions
        }
        for file in kept.values():
            stack.callback(file.close)
        _on_photos(bundle, images, recipe, sessions, references, kept, found, progress)
    return found


def _open(
    bundle: Bundle,
    names: Sequence[str],
    threads: int,
    found: Observations,
    stack: ExitStack,
    explicit: bool,
) -> dict[Key, Session]:
    sessions: dict[Key, Session] = {}
    for name in names:
        runtime = runtimes.get(name)
        models = [model for model in bundle.manifest.models if model.format == runtime.format]
        if not models and not explicit:
            continue
        held: list[Precision] = [model.precision for model in models] or ["fp32"]
        for precision in dict.fromkeys(held):
            try:
                engine = runtime.open(bundle, precision=precision, threads=threads)
            except (MissingDependencyError, BundleError) as error:
                found.not_run[name] = str(error)
                break
            stack.enter_context(engine)
            found.note(name, precision, runtime.caveat(precision))
            forms: list[Form] = ["staged"] if engine.has("prepare") else []
            forms += ["fused"] if engine.has(PIPELINE) else []
            if not forms:
                found.not_run[f"{name} {precision}"] = "the bundle has neither form of it"
            for form in forms:
                key = Key(name, precision, form)
                sessions[key] = Session(engine, form)
                found.seen[key] = []
    return sessions


def _on_golden(
    bundle: Bundle, sessions: dict[Key, Session], found: Observations, progress: Progress
) -> None:
    cases = golden.read(bundle)
    for key in [key for key in sessions if key.precision != "fp32"]:
        found.note(key.runtime, key.precision, "golden vectors are of fp32 alone; give --images")
        del found.seen[key]
    found.beside = dict.fromkeys(found.seen, found.reference)
    for done, case in enumerate(cases, start=1):
        found.images += 1
        graders = _graders(case.expected)
        for key in [key for key in found.seen if str(key) not in found.failed]:
            actual = _run(sessions, key, case.name, case.image, graders, found)
            if actual is not None:
                observation = _observation(case.name, case.expected, actual, key.form == "staged")
                found.seen[key].append((case.name, observation))
        progress(done, len(cases))


def _on_photos(
    bundle: Bundle,
    images: Sequence[Path],
    recipe: ParityRecipe,
    sessions: dict[Key, Session],
    references: Callable[[Key], Session],
    kept: dict[Key, Kept[Observation]],
    found: Observations,
    progress: Progress,
) -> None:
    manifest = bundle.manifest
    graded = manifest.graded
    chosen = {key: set(choose(images, recipe.of(key.runtime).images)) for key in sessions}
    used = [path for path in images if any(path in ours for ours in chosen.values())]
    known: set[str] = set()
    for done, path in enumerate(used, start=1):
        progress(done - 1, len(used))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest in known:
            continue
        # Every grader gets its turn, also one that is seldom routed to.
        turn = [graded[len(known) % len(graded)]] if graded else []
        known.add(digest)
        name = _printable(path.stem)
        ours = [key for key in sessions if path in chosen[key] and str(key) not in found.failed]
        missing = [key for key in ours if not _has(kept[key], key, digest, turn)]
        image = frame(path, manifest.capture, manifest.fit) if missing else None
        expected: dict[int, dict[str, Array]] = {}
        for key in missing:
            assert image is not None
            reference = references(key)
            if id(reference) not in expected:
                try:
                    expected[id(reference)] = reference.run(image, also_grade=turn)
                except BundleError as error:
                    if found.beside[key] == REFERENCE:
                        raise
                    why = f"its reference failed on {name}: {error.message}"
                    found.failed[str(key)] = why
                    found.seen[key].clear()
                    continue
            wanted = expected[id(reference)]
            actual = _run(sessions, key, name, image, _graders(wanted), found)
            if actual is not None:
                whole = key.form == "staged" or reference.form == key.form
                own = _own(reference, key, actual, _graders(wanted))
                kept[key].add(_observation(digest, wanted, actual, whole, own))
                expected[id(sessions[key])] = actual  # it may be another one's reference
        for key in ours:
            if str(key) not in found.failed and _has(kept[key], key, digest, turn):
                found.seen[key].append((name, kept[key].seen[digest]))
    found.images = len(known)
    progress(len(used), len(used))


def _has(kept: Kept[Observation], key: Key, image: str, graders: Sequence[str]) -> bool:
    """Whether an image was seen, and these graders on it; a fused graph runs what it routes."""
    seen = kept.seen.get(image)
    wanted = [f"severity_{dx}" for dx in graders if key.form == "staged"]
    return seen is not None and all(tensor in seen.differences for tensor in wanted)


def _run(
    sessions: dict[Key, Session],
    key: Key,
    name: str,
    image: Pixels,
    graders: Sequence[str],
    found: Observations,
) -> dict[str, Array] | None:
    """Run one image; a runtime that cannot is told of, and does not keep the others from it."""
    try:
        return sessions[key].run(image, also_grade=graders)
    except BundleError as error:
        found.failed[str(key)] = f"it failed on {name}: {error.message}"
        found.seen[key].clear()
        return None


def _printable(name: str) -> str:
    """Replace what neither a terminal nor XML takes: control characters and lone surrogates."""
    return "".join(c if c.isprintable() else "\ufffd" for c in name)


class _References:
    """What each is seen beside: PyTorch, or the format's first runtime on the same file."""

    def __init__(
        self,
        bundle: Bundle,
        recipe: ParityRecipe,
        threads: int,
        sessions: dict[Key, Session],
        stack: ExitStack,
    ) -> None:
        self.bundle, self.recipe, self.threads = bundle, recipe, threads
        self.sessions, self.stack = sessions, stack
        self._opened: dict[Key | None, Session] = {}

    def usable(self, found: Observations) -> dict[Key, Session]:
        """Return the sessions that have something to be seen beside; say of the others why not."""
        usable = {}
        for key, session in self.sessions.items():
            other = self._other(key)
            if other is not None and runtimes.get(other.runtime).version() is None:
                hint = runtimes.get(other.runtime).hint()
                found.not_run[str(key)] = f"{other.runtime} is its reference; {hint}"
                del found.seen[key]
                continue
            found.beside[key] = found.reference if other is None else other.runtime
            if other is not None and other.runtime == key.runtime:
                found.beside[key] = f"{other.runtime} {other.form}"
            usable[key] = session
            if other is None:
                continue
            found.same_file.add(key)
            if other not in self.sessions:
                runtime = runtimes.get(other.runtime)
                found.note(*other[:2], runtime.caveat(other.precision))
                unseen = f"{other.runtime} beside {REFERENCE}"
                found.note(
                    unseen, other.precision, "not asked for: what quantising changes is not seen"
                )
        return usable

    def __call__(self, key: Key) -> Session:
        other = self._other(key)
        if other in self.sessions:
            return self.sessions[other]
        if other not in self._opened:
            name, precision, form = other or (REFERENCE, "fp32", "staged")
            runtime = runtimes.get(name)
            engine = runtime.open(self.bundle, precision=precision, threads=self.threads)
            self._opened[other] = Session(self.stack.enter_context(engine), form)
        return self._opened[other]

    def _other(self, key: Key) -> Key | None:
        """Return which other runtime a key is seen beside; None when it is PyTorch."""
        first = runtimes.first(runtimes.get(key.runtime).format)
        rounds = calibrated(key.precision) and self.recipe.of(key.runtime).own_rounding
        if key.precision == "fp32":
            return None
        if key.runtime != first and not rounds:
            return key._replace(runtime=first)
        # Fused or not, it is one network, rounded alike.
        staged = key._replace(form="staged")
        return staged if key.form == "fused" and staged in self.sessions else None


def _check(bundle: Bundle, against: Bundle, images: Sequence[Path]) -> None:
    """Raise BundleError where two bundles cannot be compared on photos."""
    if not images:
        raise BundleError("two bundles are compared on photos", hint="give --images")
    for name in ("capture", "fit", "taxonomy", "quality_rules"):
        ours, other = (getattr(b.manifest, name) for b in (bundle, against))
        if ours != other:
            raise BundleError(f"the two bundles differ in their {name}: {ours}; {other}")


def _graders(expected: Mapping[str, object]) -> list[str]:
    return [k.removeprefix("severity_") for k in expected if k.startswith("severity_")]


def _own(
    reference: Session, key: Key, actual: Mapping[str, Array], graders: Sequence[str]
) -> dict[str, compare.Difference]:
    """Compare what an int8 network's heads make of its embedding with what PyTorch's do."""
    engine = reference.engine
    if not calibrated(key.precision) or not isinstance(engine, PytorchEngine):
        return {}
    if "embedding" not in actual:
        return {}
    wanted = engine.of_embedding(actual, graders)
    return {
        f"{name}{OWN}": compare.difference(
            value, actual[name], distribution=name == "probabilities"
        )
        for name, value in wanted.items()
    }


def _observation(
    image: str,
    expected: Mapping[str, Array | golden.Digest],
    actual: Mapping[str, Array],
    whole: bool,
    own: Mapping[str, compare.Difference] | None = None,
) -> Observation:
    """Compare one image's tensors.

    Args:
        image: what it is kept as.
        expected: the reference's, numbers or digests.
        actual: the runtime's.
        whole: whether it is to give all that the reference gives; a fused graph gives less.
        own: of ``_own``.
    """
    differences = dict(own or {})
    for tensor in sorted(expected if whole else expected.keys() & actual.keys()):
        if tensor not in actual:
            differences[tensor] = compare.Difference(largest=math.inf)
            continue
        wanted, given = expected[tensor], actual[tensor]
        differences[tensor] = (
            compare.equality(golden.Digest.of(given) == wanted)
            if isinstance(wanted, golden.Digest)
            else compare.difference(
                wanted,
                given,
                nan_is_equal=tensor == "severity",  # of what is not graded
                distribution=tensor in ("probabilities", "preliminary"),
            )
        )
    numbers = {
        name: value for name, value in expected.items() if not isinstance(value, golden.Digest)
    }
    return Observation(
        image=image,
        differences=differences,
        expected=Answer.of(numbers),
        actual=Answer.of(actual),
    )


def _conditions(threads: int) -> dict[str, str]:
    return {
        "toolkit": classkinfy_export.__version__,
        "machine": platform.machine(),
        "cpu": machine.cpu(),
        "python": platform.python_version(),
        "threads": str(threads),
        **runtimes.versions(),
    }
