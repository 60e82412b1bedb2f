"""The app's Kotlin, compiled for this machine's JVM."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from classkinfy_export.errors import MissingDependencyError

sys.path.insert(0, str(Path(__file__).parents[2] / "android_demo" / "jvm"))

if TYPE_CHECKING:
    from build import Build


@pytest.fixture(scope="session")
def build() -> Build:
    """The compiled modules. What needs them is skipped where a tool cannot be had."""
    import build as building
    import native_bridge

    try:
        native_bridge.properties()
        return building.Build()
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def vectors(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """What Kotlin's tests compare with."""
    import build as building

    return once("vectors", building.write_vectors)
