"""Write whole or not at all: build under a temporary name, rename at the end."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classkinfy_export.errors import ClasskinfyError


def write(path: Path, data: bytes) -> None:
    """Write a file in one step: readers see the old bytes or the new ones, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with named(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Have an error of the system say what could not be written, where it does not: a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def to_json(document: object) -> str:
    """Serialise for any reader: JSON knows no NaN and no infinity, they become null."""
    return json.dumps(_finite(document), indent=2, allow_nan=False) + "\n"


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary sibling to fill; on success it becomes ``path``, on any error it goes.

    Args:
        path: the folder wanted.
        overwrite: replace a folder that is there already; it stays as it was on failure.

    Raises:
        ClasskinfyError: ``path`` exists, is not an empty folder, and ``overwrite`` is off; at the
            start, or because another process made it meanwhile.
    """
    if not overwrite:
        _refuse_occupied(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with named(path):
            yield temporary
        temporary.chmod(0o755)
        if not overwrite:
            _refuse_occupied(path)
        _swap(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_occupied(path: Path) -> None:
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ClasskinfyError(
            f"{path} already exists", hint="choose another --out, or pass --overwrite"
        )


def _swap(new: Path, path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        new.rename(path)
        return
    old = new.with_name(new.name + ".old")
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    try:
        _remove(old)
    except KeyboardInterrupt:
        _remove(old)  # the new one is in place: finish, then stop
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
