"""ONNX Runtime with its profiler on."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from classkinfy_export.bundle.manifest import ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import StageSpec
from classkinfy_export.errors import BundleError, ClasskinfyError, require
from classkinfy_export.latency.operators import onnx_modules
from classkinfy_export.latency.operators.recording import ProfilingEngine, Recorded, Recording
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.base import Array

if TYPE_CHECKING:
    import onnxruntime

_KERNEL = "_kernel_time"
_NESTING = ("If", "Loop", "Scan")
"""Operators in whose time others run, each with an event of its own."""
_ELEMENTS = {"float": "float32", "double": "float64", "float16": "float16", "bool": "bool"}
"""Element types that ONNX Runtime does not call as numpy does."""


class ProfiledOnnx(ProfilingEngine):
    """A session for each stage, as the runtime's own are but for the profiler.

    Args:
        bundle: an opened bundle.
        precision: of the models.
        threads: within an operator.
        folder: for the profiler's files.
    """

    def __init__(self, bundle: Bundle, precision: Precision, threads: int, folder: Path) -> None:
        require("onnx", extra="export", purpose="finding the modules of an ONNX file's operators")
        super().__init__(bundle, "onnx", precision, threads)
        self._folder = folder
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._walls_ms: dict[str, list[float]] = {}

    def _load(self, model: ModelFile, stage: str) -> None:
        self._session(model, stage)

    def _run(self, model: ModelFile, spec: StageSpec, inputs: dict[str, Array]) -> dict[str, Array]:
        session = self._session(model, spec.name)
        names = [tensor.name for tensor in spec.outputs]
        start = time.perf_counter()
        values = session.run(names, inputs)
        self._walls_ms[spec.name].append((time.perf_counter() - start) * 1e3)
        return dict(zip(names, values, strict=True))

    def _session(self, model: ModelFile, stage: str) -> onnxruntime.InferenceSession:
        if stage not in self._sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.threads
            options.inter_op_num_threads = 1
            options.add_session_config_entry("session.force_spinning_stop", "1")
            options.log_severity_level = 3
            options.enable_profiling = True
            options.profile_file_prefix = str(self._folder / stage)
            options.optimized_model_filepath = str(self._optimised(stage))
            data = self.bundle.read(model.path)
            providers = ["CPUExecutionProvider"]
            try:
                session = onnxruntime.InferenceSession(data, options, providers=providers)
            except Exception as error:  # its exceptions share no base class
                raise BundleError(f"ONNX Runtime cannot load {model.path}: {error}") from error
            self._sessions[stage] = session
            self._walls_ms[stage] = []
        return self._sessions[stage]

    def recorded(self, stage: str, runs: int) -> Recording:
        """Return what the last runs took; see ``ProfilingEngine.recorded``."""
        written = Path(self._sessions[stage].end_profiling())
        found = _runs(json.loads(written.read_text(encoding="utf-8")))
        if (
            len(found) != len(self._walls_ms[stage])
            or len({tuple(map(_name, r)) for r in found}) > 1
        ):
            raise ClasskinfyError(
                f"ONNX Runtime's profiler lost events of stage {stage}",
                hint="it keeps a million: profile fewer runs, with --n",
            )
        placed = onnx_modules.placed(
            self.bundle.read(self._model(stage).path), self._optimised(stage)
        )
        last = found[-runs:]
        return Recording(
            walls_ms=tuple(self._walls_ms[stage][-runs:]),
            operators=tuple(_recorded(of, placed) for of in zip(*last, strict=True)),
            coverage=None,
        )

    def _optimised(self, stage: str) -> Path:
        return self._folder / f"{stage}.optimised.onnx"

    def opened(self) -> list[str]:
        """Return the files of the sessions."""
        return [self._model(stage).path for stage in self._sessions]

    def close(self) -> None:
        """Free the sessions."""
        self._sessions.clear()


class _Event(NamedTuple):
    content: dict[str, Any]
    """As ONNX Runtime writes it."""
    own_us: int


def _name(event: _Event) -> str:
    return str(event.content["name"].removesuffix(_KERNEL))


def _runs(events: Sequence[dict[str, Any]]) -> list[list[_Event]]:
    """Return the operators' events of each run, in running order."""
    whole = sorted(
        (e["ts"], e["ts"] + e["dur"])
        for e in events
        if e["cat"] == "Session" and e["name"] == "model_run"
    )
    kernels = [e for e in events if e["cat"] == "Node" and e["name"].endswith(_KERNEL)]
    # What holds another began no later and took no less.
    kernels.sort(key=lambda e: (e["ts"], e["args"]["op_name"] not in _NESTING, -e["dur"]))
    return [_own([e for e in kernels if start <= e["ts"] <= end]) for start, end in whole]


def _own(events: Sequence[dict[str, Any]]) -> list[_Event]:
    """Take from the time of each operator what others ran in it."""
    own = [int(event["dur"]) for event in events]
    around: list[int] = []
    for index, event in enumerate(events):
        while around and event["ts"] >= events[around[-1]]["ts"] + events[around[-1]]["dur"]:
            around.pop()
        if around:
            own[around[-1]] -= int(event["dur"])
        if event["args"]["op_name"] in _NESTING:
            around.append(index)
    return [_Event(event, max(us, 0)) for event, us in zip(events, own, strict=True)]


def _recorded(events: Sequence[_Event], placed: dict[str, str]) -> Recorded:
    name, arguments = _name(events[0]), events[0].content["args"]
    given = arguments["output_type_shape"]
    element, shape = next(iter(given[0].items())) if given else ("", [])
    return Recorded(
        operator=arguments["op_name"],
        node=name,
        module=placed.get(name),
        kernel=None,
        dtype=_ELEMENTS.get(element, element),
        shape=tuple(shape),
        us=tuple(event.own_us for event in events),
    )
