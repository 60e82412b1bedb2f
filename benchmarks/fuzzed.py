"""What is fuzzed, and how."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Reader(NamedTuple):
    """Something that reads."""

    case: Callable[[random.Random], Any]
    """Makes what it is given, from a seed."""
    read: Callable[[Any], object]
    """Reads it: a ``ClasskinfyError`` is a refusal, whatever else is raised is a crash."""


Made = Callable[[Path, Path], Reader]
"""Makes a reader, from a bundle of fp32 models and an empty folder to work in."""
