"""Every error this package raises on purpose.

::

    ClasskinfyError            exit code 2: usage or bad input
    ├── RecipeError            a recipe that cannot be read or does not make sense
    ├── DataError              a data set, its metadata, its split
    ├── ImageError             one image that cannot be decoded or framed
    ├── CheckpointError        weights that cannot be trusted or do not fit
    ├── BundleError            a bundle that cannot be opened or lacks something
    │   └── IntegrityError     a file whose hash is not the manifest's
    ├── ExportError            a conversion that failed or is not offered
    ├── MissingDependencyError      an optional package that a verb needs
    └── GateFailedError             exit code 1: the work ran and a gate did not hold
"""

from __future__ import annotations

import importlib.util
from typing import ClassVar


class ClasskinfyError(Exception):
    """What went wrong, with which value, and what to do about it: one line.

    Args:
        message: what and which value.
        hint: what to do; joined to the message.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = " ".join(message.split())
        self.hint = " ".join(hint.split())
        super().__init__(f"{self.message}: {self.hint}" if self.hint else self.message)


class RecipeError(ClasskinfyError):
    """A recipe that cannot be read or does not make sense."""


class DataError(ClasskinfyError):
    """A data set, its metadata or its split is wrong."""


class ImageError(ClasskinfyError):
    """One image cannot be decoded or framed."""


class CheckpointError(ClasskinfyError):
    """Weights cannot be read safely, or do not fit the network."""


class BundleError(ClasskinfyError):
    """A bundle cannot be opened, or lacks what was asked of it."""


class IntegrityError(BundleError):
    """A file's hash is not the one that the manifest pins."""


class ExportError(ClasskinfyError):
    """A conversion failed, or is not offered."""


class MissingDependencyError(ClasskinfyError):
    """An optional package that a verb needs is not installed."""


class GateFailedError(ClasskinfyError):
    """The work ran to its end and a gate did not hold."""

    exit_code = 1


def require(module: str, *, extra: str, purpose: str) -> None:
    """Check that an optional dependency is installed, without importing it.

    Args:
        module: the top-level import name.
        extra: the extra of this package that installs it.
        purpose: what needs it, for the message.

    Raises:
        MissingDependencyError: the module is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingDependencyError(
            f"{purpose} needs {module}, which is not installed",
            hint=f"pip install 'classkinfy-export[{extra}]'",
        )
