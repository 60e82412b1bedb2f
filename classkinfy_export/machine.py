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


def x86() -> bool:
    """Whether it is a 64-bit x86."""
    return platform.machine().lower() in ("x86_64", "amd64")


def vnni() -> bool | None:
    """Whether an x86 multiplies int8 without saturating; None where it cannot be told."""
    info = Path("/proc/cpuinfo")
    if not x86() or not info.is_file():
        return None
    features = info.read_text(encoding="utf-8").split()
    return "avx512_vnni" in features or "avx_vnni" in features
