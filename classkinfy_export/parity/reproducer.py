"""A part of a model that is wrong, with what shows it: a folder that needs nothing of this package.

It holds the part (``model.onnx`` or ``model.tflite``), ``inputs.npz``, ``expected.npz`` and
``reproduce.py``, which needs numpy and the runtime.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, cast

import numpy as np

from classkinfy_export import files
from classkinfy_export.parity.compare import Difference
from classkinfy_export.parity.graphs.base import PART, Array
from classkinfy_export.runtimes.base import Runtime

SCRIPT = "reproduce.py"
_SUFFIX = {"onnx": ".onnx", "litert": ".tflite"}


@dataclass(frozen=True)
class Allowed:
    """How far a tensor may be from the reference's: one of the two is asked."""

    largest: float | None = None
    """Largest absolute difference."""
    least_db: float | None = None
    """SQNR; infinite where not a bit may differ."""

    def holds(self, found: Difference) -> bool:
        """Whether a difference is within it."""
        if self.largest is not None:
            return found.largest <= self.largest
        assert self.least_db is not None
        return math.isfinite(found.largest) and found.noise <= found.signal * math.pow(
            10.0, -self.least_db / 10.0
        )


@dataclass(frozen=True)
class Reproducer:
    """What shows a fault by itself."""

    title: str
    """What is wrong, one line."""
    runtime: Runtime
    threads: int
    model: bytes
    inputs: dict[str, Array]
    """The reference's, by name."""
    expected: dict[str, Array]
    """The reference's, by name."""
    allowed: dict[str, Allowed]

    def write(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write the folder.

        Raises:
            ClasskinfyError: it exists, and is neither empty nor to be overwritten.
        """
        with files.new_folder(folder, overwrite=overwrite) as made:
            (made / self.model_name).write_bytes(self.model)
            _save(made / "inputs.npz", self.inputs)
            _save(made / "expected.npz", self.expected)
            (made / SCRIPT).write_text(self.script(), encoding="utf-8")

    @property
    def model_name(self) -> str:
        """The file's name."""
        return f"model{_SUFFIX[self.runtime.format]}"

    def script(self) -> str:
        """Return ``reproduce.py``."""
        version = self.runtime.version()
        machine = ", on ARM64" if self.runtime.name.startswith("arm64") else ""
        allowed = {
            name: ("largest", asked.largest)
            if asked.largest is not None
            else ("sqnr", str(asked.least_db))
            for name, asked in self.allowed.items()
        }
        return Template(_SCRIPT).substitute(
            title=self.title.replace("\\", "/").replace('"', "'"),
            needs=f"{self.runtime.package} ({version} when this was written){machine}",
            runtime=self.runtime.name,
            allowed=repr(allowed),
            run=Template(self._run()).substitute(
                model=self.model_name, threads=self.threads, entry=PART
            ),
        )

    def _run(self) -> str:
        if self.runtime.format == "onnx":
            return _ONNXRUNTIME
        if self.runtime.name == "tensorflow":
            return _TENSORFLOW + _SIGNATURE
        plain = self.runtime.name == "litert-reference"
        return (_LITERT_REFERENCE if plain else _LITERT) + _SIGNATURE


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    with path.open("wb") as file:
        np.savez(file, **cast(dict[str, Any], arrays))


_SCRIPT = '''\
"""$title

model.* is the smallest part of the model that shows it, inputs.npz what PyTorch computed before it,
expected.npz what PyTorch computed after it. Needs numpy and $needs:

    python reproduce.py

Exit code 1 while it differs, 0 once it does not.
"""

import os
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
RUNTIME = "$runtime"
# Of each tensor, the largest difference or the least signal to noise ratio (dB) that is allowed.
ALLOWED = $allowed


$run

def main():
    inputs, expected = (dict(np.load(HERE / name)) for name in ("inputs.npz", "expected.npz"))
    differs = False
    for name, actual in run(inputs, list(expected)).items():
        wanted, given = expected[name].astype(np.float64), actual.astype(np.float64)
        equal = (wanted == given) | (np.isnan(wanted) & np.isnan(given))
        error = np.where(equal, 0, given - wanted)
        error = np.where(np.isfinite(error), error, np.inf)
        signal = float(np.square(wanted[np.isfinite(wanted)]).sum())
        noise, largest = float(np.square(error).sum()), float(np.abs(error).max())
        sqnr = np.inf if noise == 0 else 10 * np.log10(signal / noise) if signal else -np.inf
        kind, limit = ALLOWED[name]
        wrong = largest > limit if kind == "largest" else sqnr < float(limit)
        differs |= wrong
        print(f"{RUNTIME} {name}: SQNR {sqnr:.1f} dB, max |d| {largest:.6g}", end=", ")
        print(f"allowed {kind} {limit}:", "differs" if wrong else "holds")
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
'''

_ONNXRUNTIME = """\
def run(inputs, names):
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = $threads
    options.inter_op_num_threads = 1
    model = (HERE / "$model").read_bytes()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, inputs)))
"""

_LITERT = """\
def interpreter(model):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_content=model, num_threads=$threads)
"""

_LITERT_REFERENCE = """\
def interpreter(model):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(
        model_content=model, num_threads=$threads, experimental_op_resolver_type=kernels
    )
"""

_TENSORFLOW = """\
def interpreter(model):
    import tensorflow

    return tensorflow.lite.Interpreter(model_content=model, num_threads=$threads)
"""

_SIGNATURE = """\


def run(inputs, names):
    opened = interpreter((HERE / "$model").read_bytes())
    outputs = opened.get_signature_runner("$entry")(**inputs)
    return {name: outputs[name] for name in names}
"""
