"""From the start of a process to its first decision: this toolkit beside a bare script.

    python benchmarks/cold_start.py --bundle bundle --photo photo.jpg

The bare script imports NumPy and ONNX Runtime, opens the files of the same stages and runs each
once on zeros: it checks no hash, decodes no photo and decides nothing. Processes take turns.
Imports are compared likewise: of what answers a photo, and of NumPy and ONNX Runtime. Writes
``cold_start.md`` and ``cold_start.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from table import to_markdown

from classkinfy_export import machine
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.runtimes import get
from classkinfy_export.runtimes.session import Session

BARE = """
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
for path in {paths!r}:
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    types = {{"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int32)": "int32"}}
    session.run(None, {{i.name: numpy.zeros(i.shape, types[i.type]) for i in session.get_inputs()}})
"""
OURS = """
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.runtimes import get
from classkinfy_export.runtimes.session import Session
engine = get("onnxruntime").open(Bundle.open({bundle!r}), precision={precision!r})
Session(engine).predict({photo!r})
"""
IMPORTS = {
    "nothing": "",
    "classkinfy_export": "import classkinfy_export",
    "what answers a photo": (
        "import classkinfy_export.runtimes.session, classkinfy_export.bundle.reader"
    ),
    "numpy, onnxruntime": "import numpy, onnxruntime",
}


def seconds(script: str) -> float:
    """Run a script in a fresh process and return how long that took."""
    start = time.perf_counter()
    settings = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    subprocess.run([sys.executable, "-c", script], check=True, env=settings)
    return time.perf_counter() - start


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--precision", default="static_wi8_ai8")
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=11)
    given = parser.parse_args()
    bundle = Bundle.open(given.bundle)
    with get("onnxruntime").open(bundle, precision=given.precision) as engine:
        answer = Session(engine).predict(given.photo)
        paths = [str(given.bundle / path) for path in engine.opened()]
    scripts = {
        "bare": BARE.format(paths=paths),
        "this toolkit": OURS.format(
            bundle=str(given.bundle), precision=given.precision, photo=str(given.photo)
        ),
        **{f"import {name}": script for name, script in IMPORTS.items()},
    }
    rows = [{k: seconds(s) for k, s in scripts.items()} for _ in range(given.rounds + 1)]
    took = pd.DataFrame(rows[1:])  # the first fills the disk's cache
    imports = took.filter(like="import ").sub(took["import nothing"], axis=0)
    reference = imports["import numpy, onnxruntime"]
    ratios = {"first decision, beside the bare script": took["this toolkit"] / took["bare"]}
    for name in ("classkinfy_export", "what answers a photo"):
        ratios[f"import of {name}, beside numpy, onnxruntime"] = (
            imports[f"import {name}"] / reference
        )
    table = pd.DataFrame(
        [
            {
                "what": name,
                "ratio": float(of.median()),
                "of the rounds": f"{of.min():.3f} to {of.max():.3f}",
            }
            for name, of in ratios.items()
        ]
    )
    found = {
        "CPU": machine.cpu(),
        "rounds": given.rounds,
        "graded": answer.severity is not None,
        "files": [Path(path).name for path in paths],
        "median, ms": {k: float(np.round(1e3 * v, 1)) for k, v in took.median().items()},
        "ratios": table.to_dict("records"),
    }
    path = Path(__file__).with_name("cold_start.json")
    path.write_text(json.dumps(found, indent=1) + "\n")
    lines = [
        "# From the start of a process to its first decision",
        "",
        f"Files opened by both: {', '.join(found['files'])}.",
        f"{given.rounds} rounds, {machine.cpu()}.",
        "",
        *to_markdown(table),
        "",
        f"`python benchmarks/cold_start.py --precision {given.precision}`.",
    ]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
