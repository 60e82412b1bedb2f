"""Every runtime beside the reference on the same images; what was seen is kept.

The reference is PyTorch, from the weights in the bundle; without images it is the golden vectors
that PyTorch wrote, which need no torch. Stages are chained as an app chains them, so a difference
in an early stage shows in the later ones too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

import classkinfy_export
from classkinfy_export import machine, runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, MissingDependencyError
from classkinfy_export.frame import Pixels, choose, frame
from classkinfy_export.parity import compare, golden
from classkinfy_export.parity.decide import Answer
from classkinfy_export.recipes import Form, ParityRecipe
from classkinfy_export.runtimes.session import Session

Array = npt.NDArray[np.generic]
Progress = Callable[[int, int], None]

REFERENCE = "pytorch"
PRECISION = "fp32"


class Key(NamedTuple):
    """Which way of running a bundle."""

    runtime: str
    precision: str
    form: Form


class Observation(BaseModel):
    """One image in one runtime and form, beside the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    image: str
    """The SHA-256 of its file; of a golden vector, its name."""
    differences: dict[str, compare.Difference]
    """By tensor."""
    expected: Answer
    actual: Answer


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
    conditions: dict[str, str] = field(default_factory=dict)


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
        else:
            if against is None:
                references: Callable[[Key], Session] = _Reference(bundle, threads)
            else:
                others = _open(against, wanted, threads, found, stack, explicit=names is not None)
                for key in sessions.keys() ^ others.keys():
                    which = "this bundle" if key in others else "the other bundle"
                    found.not_run[_name(key)] = f"{which} does not hold it"
                sessions = {key: own for key, own in sessions.items() if key in others}
                references = others.__getitem__
            about = {**found.conditions, "reference": found.reference}
            kept = {key: _Kept(cache, bundle, key, about) for key in sessions}
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
        held = any(model.format == runtime.format for model in bundle.manifest.models)
        if not held and not explicit:
            continue
        try:
            engine = stack.enter_context(runtime.open(bundle, threads=threads))
        except (MissingDependencyError, BundleError) as error:
            found.not_run[name] = str(error)
            continue
        for form in ("staged", "fused"):
            if engine.has("pipeline" if form == "fused" else "prepare"):
                key = Key(name, PRECISION, form)
                sessions[key] = Session(engine, form)
                found.seen[key] = []
    return sessions


def _on_golden(
    bundle: Bundle, sessions: dict[Key, Session], found: Observations, progress: Progress
) -> None:
    cases = golden.read(bundle)
    for done, case in enumerate(cases, start=1):
        found.images += 1
        graders = _graders(case.expected)
        for key in [key for key in sessions if _name(key) not in found.failed]:
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
    kept: dict[Key, _Kept],
    found: Observations,
    progress: Progress,
) -> None:
    manifest = bundle.manifest
    graded = [spec.diagnosis for spec in manifest.stages if spec.diagnosis is not None]
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
        ours = [key for key in sessions if path in chosen[key] and _name(key) not in found.failed]
        missing = [key for key in ours if not kept[key].has(digest, turn)]
        image = frame(path, manifest.capture, manifest.fit) if missing else None
        expected: dict[int, dict[str, Array]] = {}
        for key in missing:
            assert image is not None
            reference = references(key)  # of all keys the same, or each key's own
            if id(reference) not in expected:
                expected[id(reference)] = reference.run(image, also_grade=turn)
            wanted = expected[id(reference)]
            actual = _run(sessions, key, name, image, _graders(wanted), found)
            if actual is not None:
                whole = key.form == "staged" or reference.form == key.form
                kept[key].add(_observation(digest, wanted, actual, whole))
        for key in ours:
            if kept[key].has(digest, turn):
                found.seen[key].append((name, kept[key].seen[digest]))
    found.images = len(known)
    progress(len(used), len(used))


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
        found.failed[_name(key)] = f"it failed on {name}: {error.message}"
        found.seen[key].clear()
        return None


def _name(key: Key) -> str:
    return f"{key.runtime} {key.form}"


def _printable(name: str) -> str:
    """Replace what neither a terminal nor XML takes: control characters and lone surrogates."""
    return "".join(c if c.isprintable() else "\ufffd" for c in name)


class _Reference:
    """PyTorch, opened when it is first asked for."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self.bundle, self.threads = bundle, threads
        self.session: Session | None = None

    def __call__(self, key: Key) -> Session:
        if self.session is None:
            engine = runtimes.get(REFERENCE).open(self.bundle, threads=self.threads)
            self.session = Session(engine)
        return self.session


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


def _observation(
    image: str,
    expected: Mapping[str, Array | golden.Digest],
    actual: Mapping[str, Array],
    whole: bool,
) -> Observation:
    """Compare one image's tensors.

    Args:
        image: what it is kept as.
        expected: the reference's, numbers or digests.
        actual: the runtime's.
        whole: whether it is to give all that the reference gives; a fused graph gives less.
    """
    differences = {}
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


class _Kept:
    """Observations of one key in a file, a line each, added to as they are made.

    Args:
        folder: where the file is; None keeps them in memory alone.
        bundle: whose.
        key: which way of running it.
        conditions: of these the file is: others have others.
    """

    def __init__(
        self, folder: Path | None, bundle: Bundle, key: Key, conditions: dict[str, str]
    ) -> None:
        self.key = key
        self.seen: dict[str, Observation] = {}
        self._file: TextIO | None = None
        if folder is None:
            return
        given = json.dumps([bundle.sha256, *key, _toolkit(), conditions], sort_keys=True)
        name = hashlib.sha256(given.encode()).hexdigest()[:32]
        path = folder / f"{key.runtime}-{key.form}-{name}.jsonl"
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    observation = Observation.model_validate_json(line)
                except ValidationError:
                    continue  # the last line of a run that was killed
                self.seen[observation.image] = observation
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        if path.stat().st_size:
            self._file.write("\n")

    def has(self, image: str, graders: Sequence[str]) -> bool:
        """Whether an image was seen, and these graders on it; a fused graph runs what it routes."""
        seen = self.seen.get(image)
        wanted = [f"severity_{dx}" for dx in graders if self.key.form == "staged"]
        return seen is not None and all(tensor in seen.differences for tensor in wanted)

    def add(self, observation: Observation) -> None:
        self.seen[observation.image] = observation
        if self._file is not None:
            self._file.write(observation.model_dump_json() + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _toolkit() -> str:
    """Return the hash of this package's code: of another nothing is believed that was kept."""
    digest = hashlib.sha256()
    for path in sorted(Path(classkinfy_export.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _conditions(threads: int) -> dict[str, str]:
    return {
        "toolkit": classkinfy_export.__version__,
        "machine": platform.machine(),
        "cpu": machine.cpu(),
        "python": platform.python_version(),
        "threads": str(threads),
        **runtimes.versions(),
    }
