"""What quantising changes of a bundle's decisions, measured on the files themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classkinfy_export import runtimes
from classkinfy_export.bundle.manifest import Decided, Decisions
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.frame import frame
from classkinfy_export.precision import Precision
from classkinfy_export.recipes import FormatName
from classkinfy_export.runtimes.session import Session

Floats = npt.NDArray[np.float32]
_Key = tuple[FormatName, Precision]


def measure(
    bundle: Bundle,
    photos: Sequence[Path],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Decisions | None:
    """Run each quantised model, and fp32 of its format, in the format's own runtime.

    Args:
        bundle: an opened bundle.
        photos: none of a lesion that was calibrated on.
        report: called with (done, total) photos.

    Returns:
        None where a runtime that could run something quantised beside fp32 is not installed.

    Raises:
        ImageError: a photo cannot be decoded.
    """
    manifest = bundle.manifest
    sessions = _sessions(bundle)
    if not sessions:
        return None
    digest = hashlib.sha256()
    probabilities: dict[_Key, list[Floats]] = {key: [] for key in sessions}
    severities: dict[_Key, list[Floats]] = {key: [] for key in sessions}
    for done, photo in enumerate(photos):
        report(done, len(photos))
        digest.update(hashlib.sha256(photo.read_bytes()).digest())
        image = frame(photo, manifest.capture, manifest.fit)
        for key, session in sessions.items():
            found = session.run(image)
            probabilities[key].append(found["probabilities"][0].astype(np.float32))
            severities[key].append(found["severity"][0].astype(np.float32))
    report(len(photos), len(photos))
    for session in sessions.values():
        session.engine.close()
    return Decisions(
        images=len(photos),
        sha256=digest.hexdigest(),
        models=tuple(
            _decided(key, _stacked(probabilities, key), _stacked(severities, key))
            for key in sessions
            if key[1] != "fp32"
        ),
    )


def _sessions(bundle: Bundle) -> dict[_Key, Session]:
    """Open every precision of each format that has quantised ones beside fp32."""
    sessions: dict[_Key, Session] = {}
    models = bundle.manifest.models
    for form in dict.fromkeys(model.format for model in models):
        runtime = runtimes.get(runtimes.first(form))
        held = list(dict.fromkeys(model.precision for model in models if model.format == form))
        if len(held) > 1 and "fp32" in held and runtime.version() is not None:
            for precision in held:
                engine = runtime.open(bundle, precision=precision)
                sessions[form, precision] = Session(
                    engine, "staged" if engine.has("prepare") else "fused"
                )
    return sessions


def _stacked(answers: dict[_Key, list[Floats]], key: _Key) -> tuple[Floats, Floats]:
    """Return fp32's answers and a precision's, a row for each photo."""
    return np.stack(answers[key[0], "fp32"]), np.stack(answers[key])


def _decided(
    key: _Key, probabilities: tuple[Floats, Floats], severities: tuple[Floats, Floats]
) -> Decided:
    diagnoses, others = (rows.argmax(axis=1) for rows in probabilities)
    same = diagnoses == others
    graded = same & ~np.isnan(severities[0]).any(axis=1)
    grades, again = (rows[graded].argmax(axis=1) for rows in severities)
    before, after = probabilities
    return Decided(
        format=key[0],
        precision=key[1],
        agreement=float(same.mean()),
        mean_change=float(np.abs(before.astype(np.float64) - after).mean()),
        severities=float((grades == again).mean()) if graded.any() else None,
    )
