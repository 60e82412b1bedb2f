"""What a test tells the phone that a fake ``adb`` plays, and what it saw of it.

The fake itself is ``latency/device/fake_adb.py``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tiny_bundle import TAXONOMY

FAKE_ADB = Path(__file__).parent / "latency" / "device" / "fake_adb.py"
TRANSCRIPTS = FAKE_ADB.parent / "transcripts"
ARM64, ARM32 = (2, 183), (1, 40)
"""ELF class and machine."""
MEASURED = {
    "diagnosis": TAXONOMY.classes.index("mel"),
    "open_ms": 40.0,
    "load_ms": 60.0,
    "first_ms": 20.0,
    "cold_start_ms": 120.0,
    "latency_ms": [10.0, 11.0, 30.0],
    "stages_ms": {"frame": [1.0] * 3, "prepare": [2.0, 3.0, 4.0], "classify": [7.0, 7.0, 25.0]},
    "told_ms": {"diagnosis": [10.0, 11.0, 30.0]},
    "steady_bytes": 120 * 2**20,
    "baseline_bytes": 100 * 2**20,
    "peak_bytes": 150 * 2**20,
    "pss_bytes": 90 * 2**20,
}
"""What the app says of answers that it timed."""


class Phone:
    """The fake phone: its script, its log and its files."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.write()

    def write(self, **script: Any) -> None:
        (self.home / "script.json").write_text(json.dumps(script))

    def commands(self) -> list[str]:
        log = self.home / "log"
        return log.read_text().splitlines() if log.exists() else []

    def runs(self) -> list[str]:
        """The timed runs of tools: program and model, in order."""
        found = []
        for line in self.commands():
            program = re.search(r"/(benchmark_model|onnxruntime_perf_test) -", line)
            if program and "smaps_rollup" not in line:
                model = re.search(r"/models/(\S+?)\.(?:tflite|onnx)", line)
                signature = re.search(r"signature_to_run_for=(\w+)", line)
                assert model is not None
                found.append(signature[1] if signature else model[1])
        return found

    def left(self) -> list[Path]:
        root = self.home / "root"
        return [path for path in root.rglob("*") if path.is_file()] if root.exists() else []
