"""The demo app's benchmark activity: how it is started, and what it hands back.

One start measures one configuration in one fresh process, as the host's worker does, so that rounds
can be interleaved. The app gets its orders as extras of the intent, writes one JSON document
(``AppResult``) into its external files folder, under another name first, and ends. It does not run
pinned: only its own user may set an app's affinity.
"""

from __future__ import annotations

import shlex
import time
from contextlib import suppress
from typing import NamedTuple

from pydantic import ValidationError, model_validator

from classkinfy_export.contract import Form
from classkinfy_export.document import Document, explain
from classkinfy_export.errors import ClasskinfyError
from classkinfy_export.latency.device.adb import Adb, last_line
from classkinfy_export.precision import Precision

PACKAGE = "org.classkinfy.demo"
ACTIVITY = f"{PACKAGE}/.BenchmarkActivity"
_EXTERNAL = f"/sdcard/Android/data/{PACKAGE}/files"
_POLL_S = 1.0
_START_S = 60.0
_ANSWER_S = 3.0
"""A slow phone's answer, and a graders' file to be opened."""


class AppMeasurement(Document):
    """One process of the app: the keys of the host's worker, and its proportional memory."""

    diagnosis: int
    """Index of the class, -1 when the image was refused."""
    open_ms: float
    """The bundle, with every file's hash."""
    load_ms: float
    """Then, the models of the stages that run on every image."""
    first_ms: float
    """Then, the first answer."""
    cold_start_ms: float
    """From the process's start (``Process.getStartElapsedRealtime``) to the first answer."""
    latency_ms: tuple[float, ...]
    """Of every answer after the warm-up, from the photo's bytes to the last answer."""
    stages_ms: dict[str, tuple[float, ...]]
    """Of the same answers, by stage: ``frame``, which decodes, then those of the bundle."""
    told_ms: dict[str, tuple[float, ...]]
    """Of the same answers, from the bytes until ``preliminary``, ``diagnosis`` and ``severity`` are
    known; of the fused form under ``diagnosis`` alone."""
    baseline_bytes: int
    """Resident memory before the bundle is opened (VmRSS)."""
    steady_bytes: int
    """VmRSS after the last answer."""
    peak_bytes: int
    """VmHWM then."""
    pss_bytes: int
    """Proportional set size then (``Debug.getPss``)."""

    @model_validator(mode="after")
    def _whole(self) -> AppMeasurement:
        clocks = (*self.stages_ms.values(), *self.told_ms.values())
        if not self.latency_ms or {len(clock) for clock in clocks} != {len(self.latency_ms)}:
            raise ValueError("latency_ms, stages_ms and told_ms need a time of every answer")
        return self


class AppResult(Document):
    """What the app writes: a measurement, or why there is none."""

    request: str
    """The extra of this name, so that an older file is not taken for an answer."""
    manifest_sha256: str
    """Of the bundle that it opened."""
    app: str
    """Its version."""
    runtime: str
    """The runtime's version."""
    error: str | None = None
    measurement: AppMeasurement | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> AppResult:
        if (self.error is None) == (self.measurement is None):
            raise ValueError("give either 'error' or 'measurement'")
        return self


class Order(NamedTuple):
    """What the app is asked to measure: each field is an extra of its name, a string or an int."""

    bundle: str
    """The bundle's folder on the phone."""
    photo: str
    """A file with an encoded photo."""
    manifest_sha256: str
    """Of the bundle; the app refuses another."""
    runtime: str
    form: Form
    precision: Precision
    threads: int
    n: int
    warmup: int
    request: str
    """The result is ``benchmark-<request>.json``."""


def installed(adb: Adb) -> bool:
    """Whether the phone has the demo app."""
    return adb.run(f"pm path {PACKAGE}").text.startswith("package:")


def measure(adb: Adb, order: Order) -> tuple[AppResult, AppMeasurement]:
    """Start the activity, wait for its result, and remove it.

    Args:
        adb: the phone.
        order: what to measure.

    Raises:
        ClasskinfyError: the screen is off, the activity does not start, the app ends without a
            result or takes too long, its result cannot be read, or it tells an error.
    """
    if "mWakefulness=Awake" not in adb.run("dumpsys power | grep mWakefulness=").text:
        raise ClasskinfyError(
            "the phone's screen is off, and an app behind it runs on the slow cores",
            hint="unlock it, and keep it awake: 'Stay awake' in the developer options",
        )
    name = f"benchmark-{order.request}.json"
    places = f"files/{name}", f"{_EXTERNAL}/{name}"
    adb.run(f"am force-stop {PACKAGE}")
    try:
        started = adb.shell(f"am start -W -n {ACTIVITY} {_extras(order)}", _START_S)
        if "Status: ok" not in started:
            raise ClasskinfyError(
                f"{ACTIVITY} did not start: {last_line(started)}",
                hint="install the demo app of this version again",
            )
        text = _result(adb, places, _START_S + _ANSWER_S * (order.warmup + order.n))
    finally:
        with suppress(ClasskinfyError):  # a phone that is gone has been told of
            adb.run(
                f"am force-stop {PACKAGE}; run-as {PACKAGE} rm -f {places[0]}; rm -f {places[1]}"
            )
    try:
        result = AppResult.model_validate_json(text)
    except ValidationError as error:
        raise ClasskinfyError(
            f"the demo app's result cannot be read: {explain(error, AppResult)}",
            hint="install the demo app of this version again",
        ) from error
    if result.measurement is None:
        raise ClasskinfyError(f"the demo app: {order.runtime} {order.form}: {result.error}")
    if (result.request, result.manifest_sha256) != (order.request, order.manifest_sha256):
        raise ClasskinfyError(
            f"the demo app measured bundle {result.manifest_sha256[:12]} for {result.request!r}, "
            f"and was asked for {order.manifest_sha256[:12]} and {order.request!r}",
            hint="install the demo app of this version again",
        )
    return result, result.measurement


def _extras(order: Order) -> str:
    return " ".join(
        f"--ei {name} {value}" if isinstance(value, int) else f"--es {name} {shlex.quote(value)}"
        for name, value in order._asdict().items()
    )


def _result(adb: Adb, places: tuple[str, str], patience_s: float) -> str:
    """Wait for the file: where ``run-as`` reads it of a debuggable app, or in its folder."""
    until = time.monotonic() + patience_s
    read = f"run-as {PACKAGE} cat {places[0]} 2>/dev/null || cat {places[1]} 2>/dev/null"
    while True:
        running = not adb.run(f"pidof {PACKAGE}").code
        code, text = adb.run(read)
        if not code:
            return text
        if not running:
            raise ClasskinfyError(
                "the demo app ended without a result",
                hint=f"see why: adb -s {adb.serial} logcat -d -b crash",
            )
        if time.monotonic() >= until:
            raise ClasskinfyError(
                f"the demo app gave no result within {patience_s:.0f} s",
                hint="measure fewer answers, or look at the phone",
            )
        time.sleep(_POLL_S)
