"""What this machine is."""

from __future__ import annotations

import platform
from pathlib import Path


def cpu() -> str:
    """Return the processor's name, as Linux tells it, or what Python knows."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
