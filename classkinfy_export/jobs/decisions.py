"""What quantising changes of a bundle's decisions, measured on the files themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from classkinfy_export import runtimes
from classkinfy_export.bundle.manifest import Decided, Decisions
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import FormatName
from classkinfy_export.frame import frame
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.session import Session

_Key = tuple[FormatName, Precision]
_FLATTEST = 4.0
"""Temperatures are sought up to it, and down to its inverse."""
_LEAST = 1e-12
"""Of a probability whose logarithm is taken."""


class _Answers(NamedTuple):
    """A row for each photo."""

    probabilities: npt.NDArray[Any]
    severity: npt.NDArray[Any]


def measure(
    bundle: Bundle,
    photos: Sequence[Path],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Decisions | None:
    """Run each quantised model, and fp32 of its format, in the format's own runtime.

    Args:
        bundle: an opened bundle.
        photos: none that was calibrated on.
        report: called with (done, total) runs.

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
    for photo in photos:
        digest.update(hashlib.sha256(photo.read_bytes()).digest())
    answers: dict[_Key, _Answers] = {}
    for place, (key, session) in enumerate(sessions.items()):
        rows = []
        for done, photo in enumerate(photos):
            report(place * len(photos) + done, len(sessions) * len(photos))
            rows.append(session.run(frame(photo, manifest.capture, manifest.fit)))
        session.engine.close()
        answers[key] = _Answers(
            *(np.concatenate([row[name] for row in rows]) for name in _Answers._fields)
        )
    return Decisions(
        images=len(photos),
        sha256=digest.hexdigest(),
        models=tuple(
            _decided(key, answers[key[0], "fp32"], found)
            for key, found in answers.items()
            if key[1] != "fp32"
        ),
    )


def _sessions(bundle: Bundle) -> dict[_Key, Session]:
    """Open what is to be compared; a model file itself is opened when it first runs."""
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


def _decided(key: _Key, before: _Answers, after: _Answers) -> Decided:
    same = before.probabilities.argmax(axis=1) == after.probabilities.argmax(axis=1)
    graded = same & ~np.isnan(before.severity).any(axis=1)
    grades, again = (rows.severity[graded].argmax(axis=1) for rows in (before, after))
    change = np.abs(before.probabilities.astype(np.float64) - after.probabilities)
    return Decided(
        format=key[0],
        precision=key[1],
        agreement=float(same.mean()),
        mean_change=float(change.mean()),
        temperature=_temperature(before.probabilities, after.probabilities),
        severities=float((grades == again).mean()) if graded.any() else None,
        caveat=runtimes.get(runtimes.first(key[0])).caveat(key[1]),
    )


def _temperature(wanted: npt.NDArray[Any], given: npt.NDArray[Any]) -> float | None:
    """Return the temperature of the least cross-entropy; it has one minimum, over its inverse."""
    logits = np.log(np.maximum(given.astype(np.float64), _LEAST))

    def loss(inverse: float) -> float:
        return -float((wanted * log_softmax(inverse * logits, axis=1)).sum(axis=1).mean())

    found = minimize_scalar(loss, bounds=(1.0 / _FLATTEST, _FLATTEST), method="bounded")
    inside = 1.01 / _FLATTEST < found.x < 0.99 * _FLATTEST
    return float(1.0 / found.x) if inside else None
