"""What is in a folder."""

from __future__ import annotations

from pathlib import Path


def listing(folder: Path) -> list[str]:
    """Return what is in a folder, the hidden included."""
    return sorted(path.name for path in folder.iterdir())
